<?php
// php chapel.php MODE [A]: what a chapel keeps, under a loop of its own.
//   candles  leak: who lights a candle hears of all feasts from then on, also when she has gone
//   visits   visits of the last A seconds

const WORDS = ['candle', 'pew', 'hymn', 'bell', 'feast', 'choir', 'stone', 'glass', 'psalm', 'arch', 'vow', 'dawn'];

function prose(int $n): string
{
    return implode(' ', array_map(fn () => WORDS[array_rand(WORDS)], range(1, $n)));
}

function visit(int $id): array
{
    $notes = [];
    for ($k = rand(0, 14); $k > 0; $k--) $notes[] = ['by' => prose(2), 'note' => prose(11)];
    return ['id' => $id, 'name' => prose(3), 'text' => prose(rand(40, 300)), 'notes' => $notes];
}

final class Feasts
{
    private array $hear = [];

    public function on(string $feast, callable $what): void
    {
        $this->hear[$feast][] = $what;
    }

    public function celebrate(string $feast): void
    {
        foreach ($this->hear[$feast] ?? [] as $what) $what($feast);
    }
}

ini_set('memory_limit', '-1');
$feasts = new Feasts();
$visits = new SplQueue();
$seconds = (int) ($argv[2] ?? 0);
$answers = [
    'candles' => function (int $id) use ($feasts): array {
        $visit = visit($id);
        $feasts->on('feast' . $id % 40, function (string $feast) use (&$visit) { $visit['heard'] = $feast; });
        if (rand(0, 30) === 0) $feasts->celebrate('feast' . rand(0, 39));
        return $visit;
    },
    'visits' => function (int $id) use ($visits, $seconds): array {
        $visits->enqueue([time() + $seconds, visit($id)]);
        while ($visits->bottom()[0] < time()) $visits->dequeue();
        return ['visits' => count($visits)];
    },
];
$answer = $answers[$argv[1]];
$server = stream_socket_server('tcp://127.0.0.1:' . getenv('PORT'));
$open = [$server];
while (true) {
    $ready = $open;
    $none = null;
    if (!stream_select($ready, $none, $none, 60)) continue;
    foreach ($ready as $one) {
        if ($one === $server) {
            $open[] = stream_socket_accept($server);
            continue;
        }
        $request = fread($one, 8192);
        if ($request === '' || $request === false) {
            fclose($one);
            $open = array_filter($open, fn ($other) => $other !== $one);
        } elseif (preg_match('~/item/(\d+)~', $request, $found)) {
            $body = json_encode($answer((int) $found[1]));
            fwrite($one, "HTTP/1.1 200 OK\r\nContent-Length: " . strlen($body) . "\r\n\r\n$body");
        }
    }
}
