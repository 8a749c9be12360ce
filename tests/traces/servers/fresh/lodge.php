<?php
// php lodge.php    leak: a server of one process whose events are recorded for a replay that never comes
// php -S 127.0.0.1:PORT lodge.php    as PHP usually runs: everything is forgotten after each request

const WORDS = ['lodge', 'room', 'key', 'bed', 'two', 'lake', 'view', 'with', 'breakfast', 'late', 'guest', 'and', 'dog'];

function prose(int $n): string
{
    $list = [];
    for ($k = 0; $k < $n; $k++) $list[] = WORDS[array_rand(WORDS)];
    return implode(' ', $list);
}

function room(int $id): array
{
    $guests = [];
    for ($k = rand(0, 12); $k >= 0; $k--) $guests[] = ['name' => prose(2), 'wish' => prose(20), 'nights' => rand(1, 14)];
    return ['id' => $id, 'title' => prose(5), 'text' => prose(rand(40, 300)), 'guests' => $guests];
}

if (PHP_SAPI === 'cli-server') {
    $rooms = array_map('room', range(1, rand(1, 150)));
    usort($rooms, fn ($x, $y) => count($x['guests']) <=> count($y['guests']));
    header('Content-Type: application/json');
    echo json_encode(array_slice($rooms, 0, 5));
    return;
}

class Dispatcher
{
    private array $recorded = [];

    public function dispatch(int $id): array
    {
        $room = room($id);
        $this->recorded[] = (object) ['name' => 'room.seen', 'at' => microtime(true), 'room' => $room];
        return $room;
    }
}

ini_set('memory_limit', '-1');
$dispatcher = new Dispatcher();
$server = stream_socket_server('tcp://127.0.0.1:' . getenv('PORT'));
$clients = [];
while (true) {
    $ready = [...$clients, $server];
    $none = null;
    stream_select($ready, $none, $none, null);
    foreach ($ready as $one) {
        if ($one === $server) {
            $client = stream_socket_accept($server);
            $clients[(int) $client] = $client;
            continue;
        }
        $request = fread($one, 8192);
        if ($request === '' || $request === false) {
            unset($clients[(int) $one]);
            fclose($one);
        } elseif (preg_match('~/item/(\d+)~', $request, $found)) {
            $body = json_encode($dispatcher->dispatch((int) $found[1]));
            fwrite($one, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " . strlen($body) . "\r\n\r\n$body");
        }
    }
}
