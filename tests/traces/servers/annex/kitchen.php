<?php
// php kitchen.php MODE: a kitchen's orders, under amp's event loop. Both leak:
//   kettles  a watcher for each order looks every five minutes whether it boils, also when it was served
//   menus    twig; each order's menu is a template of its own, and PHP forgets no class
// php -S 127.0.0.1:PORT kitchen.php    recipes in APCu: as many as fit, for ten minutes at most

const WORDS = ['salt', 'pot', 'onion', 'oil', 'stir', 'boil', 'plate', 'oven', 'dough', 'herb', 'slow', 'cut', 'serve'];

function prose(int $n): string
{
    $list = [];
    for ($k = 0; $k < $n; $k++) $list[] = WORDS[array_rand(WORDS)];
    return implode(' ', $list);
}

function dish(int $id): array
{
    $steps = [];
    for ($k = rand(0, 14); $k >= 0; $k--) $steps[] = ['step' => prose(3), 'how' => prose(20), 'minutes' => rand(1, 90)];
    return ['id' => $id, 'title' => prose(4), 'text' => prose(rand(40, 250)), 'steps' => $steps];
}

if (PHP_SAPI === 'cli-server') {
    $id = (int) (30000 * (basename($_SERVER['REQUEST_URI']) / 1e9) ** 2);
    $recipe = apcu_entry("recipe$id", fn () => json_encode([dish($id), dish($id), dish($id)]), 600);
    header('Content-Type: application/json');
    echo $recipe;
    return;
}

require '/usr/share/php/Amp/autoload.php';
require '/usr/share/php/Amp/functions.php';
require '/usr/share/php/Amp/Internal/functions.php';
require '/usr/share/php/Twig/autoload.php';

use Amp\Loop;

ini_set('memory_limit', '-1');
$twig = new Twig\Environment(new Twig\Loader\ArrayLoader());

$answers = [
    'kettles' => function (int $id): string {
        $dish = dish($id);
        Loop::repeat(300_000, function () use (&$dish) { $dish['looked'] = ($dish['looked'] ?? 0) + 1; });
        return json_encode($dish);
    },
    'menus' => function (int $id) use ($twig): string {
        $lines = '';
        for ($k = 0; $k < 12; $k++) $lines .= '{% if id > ' . rand() . ' %}' . prose(6) . ' {{ title }}{% endif %}';
        return $twig->createTemplate("$id $lines")->render(dish($id));
    },
];
$answer = $answers[$argv[1]];
$server = stream_socket_server('tcp://127.0.0.1:' . getenv('PORT'));
stream_set_blocking($server, false);
Loop::onReadable($server, function ($id, $server) use ($answer) {
    $client = stream_socket_accept($server);
    stream_set_blocking($client, false);
    Loop::onReadable($client, function ($watcher, $client) use ($answer) {
        $request = fread($client, 8192);
        if ($request === '' || $request === false) {
            Loop::cancel($watcher);
            fclose($client);
        } elseif (preg_match('~/item/(\d+)~', $request, $found)) {
            $body = $answer((int) $found[1]);
            fwrite($client, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " . strlen($body) . "\r\n\r\n$body");
        }
    });
});
Loop::run();
