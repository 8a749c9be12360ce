//! Each mistake and its exact message. The text is below a line with a command, so it begins at
//! line 2.

use super::super::*;
use std::path::Path;

/// `(text, errors)`: the errors without the file's name, a line each.
const MISTAKES: &[(&str, &str)] = &[
    // Sizes and durations need a unit.
    (
        "[memory]\nsoft_limit = 512",
        "3:14: memory.soft_limit: 512 has no unit (did you mean 512MiB?)",
    ),
    (
        "[memory]\nhard_limit = \"1.5\"",
        "3:14: memory.hard_limit: 1.5 has no unit (did you mean 1.5MiB?)",
    ),
    (
        "[memory]\nhard_limit = 1.5",
        "3:14: memory.hard_limit: 1.5 has no unit (did you mean 1.5MiB?)",
    ),
    (
        "memory.total_limit = '512M'",
        "2:22: memory.total_limit: M is not a unit here; the units are B, KiB, MiB, GiB, TiB, KB, MB, GB and TB (did you mean 512MiB?)",
    ),
    (
        "memory.soft_limit = 512MiB\nhealth.interval=2s",
        "2:21: not valid TOML: words, sizes and durations are strings, in quotes, as in \"512MiB\"\n3:17: not valid TOML: words, sizes and durations are strings, in quotes, as in \"512MiB\"",
    ),
    (
        "memory.soft_limit = true",
        "2:21: memory.soft_limit: must be a size like \"512MiB\", not true or false",
    ),
    ("health.interval = 10", "2:19: health.interval: 10 has no unit (did you mean 10s?)"),
    (
        "health.timeout = '5min'",
        "2:18: health.timeout: min is not a unit here; the units are ms, s, m, h and d (did you mean 5m?)",
    ),
    ("leak.lead_time = '36501d'", "2:18: leak.lead_time: 36501d is too large"),
    ("limits.core = 0", "2:15: limits.core: 0 has no unit (did you mean 0B?)"),
    // Unknown keys.
    (
        "[memory]\nsoftlimit = '1GiB'",
        "3:1: memory.softlimit: unknown key (did you mean soft_limit?)",
    ),
    (
        "[limits]\nsoft_limit = '1GiB'",
        "3:1: limits.soft_limit: unknown key (did you mean [memory] soft_limit?)",
    ),
    ("workers = 4", "2:1: workers: unknown key (did you mean [app] workers?)"),
    ("[memry]\nsoft_limit = '1GiB'", "2:2: memry: unknown section (did you mean [memory]?)"),
    ("[colours]", "2:2: colours: unknown section"),
    ("app.env = {}", "2:5: app.env: unknown key (did you mean environment?)"),
    ("app.\"odd\\nkey\" = 1", "2:5: app.\"odd\\nkey\": unknown key"),
    (
        "restart.intensity = { restart = 5 }",
        "2:23: restart.intensity.restart: unknown key (did you mean restarts?)",
    ),
    (
        "evidence.command = []",
        "2:20: evidence.command: names no program; leave the key out to run none",
    ),
    (
        "hooks.on_ready = ['']",
        "2:18: hooks.on_ready: names no program; leave the key out to run none",
    ),
    (
        "evidence.max_size = '2GiB'",
        "2:21: evidence.max_size: is more than evidence.keep (1GiB): nothing would be left of it",
    ),
    // Known, but later.
    (
        "app.release = '1'\nrelease.file = 'REVISION'",
        "3:16: release.file: app.release names the release already; leave out one of them",
    ),
    (
        "release.on_leak = 'rollback'",
        "2:19: release.on_leak: which release leaks is told by its label: set app.release or release.file",
    ),
    ("control.http = 1", "2:9: control.http: known, but not available in this version of stanch"),
    (
        "log.rotate = { size = '1KiB', age = '1s', keep = 5000 }\nlog.worker_output = 'file'",
        "2:23: log.rotate.size: must be between 64KiB and 1TiB, not 1KiB\n2:37: log.rotate.age: must be between 1m and 366d, not 1s\n2:50: log.rotate.keep: must be between 0 and 1000, not 5000\n3:21: log.worker_output: \"file\" is none of \"pass\", \"files\" and \"journal\" (did you mean \"files\"?)",
    ),
    (
        "leak.columns = 1\nmemory.count_children = true",
        "2:6: leak.columns: known, but not available in this version of stanch\n3:8: memory.count_children: known, but not available in this version of stanch",
    ),
    // Types.
    (
        "app.workers = '4'",
        "2:15: app.workers: must be a whole number, without quotes (did you mean 4?)",
    ),
    (
        "app.workers = 1.5",
        "2:15: app.workers: must be a whole number, not a number with a fraction",
    ),
    ("app.workers = -1", "2:15: app.workers: must not be negative"),
    ("app.workers = 99999999999", "2:15: app.workers: is too large"),
    ("app.release = 7", "2:15: app.release: must be a string, in quotes (did you mean \"7\"?)"),
    ("rolling.surge = 'no'", "2:17: rolling.surge: must be true or false, not a string"),
    (
        "rolling.surge = yes",
        "2:17: not valid TOML: words, sizes and durations are strings, in quotes, as in \"512MiB\"",
    ),
    (
        "restart.intensity = 5",
        "2:21: restart.intensity: must be a section, [restart.intensity], not a number",
    ),
    ("listen = '0.0.0.0:80'", "2:1: listen: must be a section, [listen], not a string"),
    ("[[listen]]", "2:3: listen: must be a section, [listen], not an array"),
    (
        "app.environment = ['A=1']",
        "2:19: app.environment: must be a section, [app.environment], not an array",
    ),
    (
        "app.environment = { A = 1, 'B=C' = '', LISTEN_FDS = '3' }",
        "2:21: app.environment.A: must be a string, in quotes, not a number\n2:28: app.environment.\"B=C\": cannot be the name of a variable\n2:40: app.environment.LISTEN_FDS: is set by stanch itself; leave it out",
    ),
    (
        "app.user = \"a\\u0000\"",
        "2:12: app.user: holds a NUL character, which no argument, name or path can",
    ),
    // Words.
    (
        "listen.mode = 'takover'",
        "2:15: listen.mode: \"takover\" is none of \"takeover\", \"inherit\", \"port\" and \"none\" (did you mean \"takeover\"?)",
    ),
    (
        "log.format = 'JSON'",
        "2:14: log.format: \"JSON\" is none of \"human\" and \"json\" (did you mean \"json\"?)",
    ),
    (
        "leak.quiet_window = '2-5'",
        "2:21: leak.quiet_window: \"2-5\" is not a time of day from and to, in UTC, like \"02:00-05:00\"",
    ),
    (
        "leak.action = 'kill'",
        "2:15: leak.action: \"kill\" is none of \"restart\", \"alert\" and \"off\"",
    ),
    (
        "app.stop_signal = 'TREM'",
        "2:19: app.stop_signal: \"SIGTREM\" is none of \"SIGTERM\", \"SIGINT\", \"SIGQUIT\", \"SIGHUP\", \"SIGUSR1\", \"SIGUSR2\" and \"SIGWINCH\" (did you mean \"SIGTERM\"?)",
    ),
    (
        "app.stop_signal = 'SIGKILL'",
        "2:19: app.stop_signal: no server can finish its requests on SIGKILL; after rolling.drain_timeout what is left is killed anyway (did you mean \"SIGTERM\"?)",
    ),
    // Single values.
    (
        "app.name = 'my shop'",
        "2:12: app.name: names files, so it must be letters, digits, \".\", \"_\" and \"-\", not begin with \".\" or \"-\", and have at most 64 characters (did you mean \"my-shop\"?)",
    ),
    ("app.workers = 0", "2:15: app.workers: must be between 1 and 1024, not 0"),
    ("app.workers = 1025", "2:15: app.workers: must be between 1 and 1024, not 1025"),
    ("app.umask = '999'", "2:13: app.umask: must be octal, from \"000\" to \"777\", not \"999\""),
    (
        "app.user = ' '",
        "2:12: app.user: is empty or has control characters; name one, or leave the key out",
    ),
    ("app.directory = ''", "2:17: app.directory: is empty; name a path, or leave the key out"),
    (
        "health.path = 'http://x/y'",
        "2:15: health.path: must be the path of a URL: a / first, no spaces, no fragment, other characters percent-encoded (did you mean \"/y\"?)",
    ),
    ("listen.backlog = 0", "2:18: listen.backlog: must be between 1 and 65535, not 0"),
    (
        "memory.sample_interval = '1h'",
        "2:26: memory.sample_interval: must be between 50ms and 1m, not 1h",
    ),
    ("memory.soft_limit = '0B'", "2:21: memory.soft_limit: must be at least 1MiB"),
    (
        "ready.timeout = '0s'\nstore.retention = '0s'\nrestart.intensity.within = '0s'",
        "2:17: ready.timeout: must be longer than 0s\n3:19: store.retention: must be longer than 0s\n4:28: restart.intensity.within: must be longer than 0s",
    ),
    (
        "rolling.drain_timeout = '0s'",
        "2:25: rolling.drain_timeout: must be longer than 0s: it is the time that a worker has to finish its requests before it is killed",
    ),
    (
        "limits.nofile = 'x'\nlimits.nproc = '5:4'\nlimits.as = 'unlimited:1GiB'",
        "2:17: limits.nofile: \"x\" is not a number, \"SOFT:HARD\" or \"unlimited\"\n3:16: limits.nproc: \"5:4\": the soft limit, before the colon, is above the hard\n4:13: limits.as: \"unlimited:1GiB\": the soft limit, before the colon, is above the hard",
    ),
    // Addresses.
    ("listen.address = 8000", "2:18: listen.address: must be an array of strings, not a number"),
    (
        "listen.address = ['8000', '0.0.0.0:80', '0.0.0.0:80', '0.0.0.0:0']",
        "2:19: listen.address: \"8000\" is not an address: IP:PORT ([IP]:PORT for IPv6), unix:/PATH or auto (did you mean 0.0.0.0:8000?)\n2:41: listen.address: 0.0.0.0:80 was given before\n2:55: listen.address: port 0 means a different port each time; name one",
    ),
    (
        "listen.address = 'unix:/x'",
        "2:18: listen.address: a Unix socket can only be handed over; set mode = \"inherit\", or leave it out and let the application bind it",
    ),
    (
        "listen.address = ['0.0.0.0:80', 'auto']",
        "2:33: listen.address: \"auto\" is whatever ports the workers bind; it stands alone, or leave it out and name every address",
    ),
    (
        "listen.address = 'Auto'",
        "2:18: listen.address: \"Auto\" is not an address: IP:PORT ([IP]:PORT for IPv6), unix:/PATH or auto (did you mean auto?)",
    ),
    (
        "listen = { mode = 'inherit', address = 'auto' }",
        "2:40: listen.address: mode \"inherit\" hands sockets over: name what they listen on, as in address = [\"0.0.0.0:8000\"]",
    ),
    (
        "listen = { mode = 'none', address = ['auto'] }",
        "2:37: listen.address: in mode \"none\" no address is supervised; leave it out",
    ),
    (
        "listen.ignore_ports = ['9229x', 0, 70000, 1.5, 80, 80]",
        "2:24: listen.ignore_ports: 9229x is not a port, a whole number from 1 to 65535\n2:33: listen.ignore_ports: 0 is not a port, a whole number from 1 to 65535\n2:36: listen.ignore_ports: 70000 is not a port, a whole number from 1 to 65535\n2:43: listen.ignore_ports: 1.5 is not a port, a whole number from 1 to 65535\n2:52: listen.ignore_ports: 80 was given before",
    ),
    (
        "listen.ignore_ports = true",
        "2:23: listen.ignore_ports: must be an array of numbers, not true or false",
    ),
    (
        "listen = { address = '0.0.0.0:80', ignore_ports = 9229 }",
        "2:51: listen.ignore_ports: means something only with address = \"auto\" in mode \"takeover\": else no port but those of the addresses is touched; leave it out",
    ),
    (
        "listen = { mode = 'none', ignore_ports = [9229] }",
        "2:42: listen.ignore_ports: means something only with address = \"auto\" in mode \"takeover\": else no port but those of the addresses is touched; leave it out",
    ),
    (
        "listen.mode = 'inherit'",
        "2:15: listen.mode: mode \"inherit\" hands sockets over: name what they listen on, as in address = [\"0.0.0.0:8000\"]",
    ),
    (
        "listen.mode = 'port'",
        "2:15: listen.mode: mode \"port\" needs exactly one address, IP:PORT: slot 0 gets that port, slot 1 the next",
    ),
    (
        "listen = { mode = 'port', address = ['0.0.0.0:80', '0.0.0.0:81'] }",
        "2:37: listen.address: mode \"port\" needs exactly one address, IP:PORT: slot 0 gets that port, slot 1 the next",
    ),
    (
        "app.workers = 4\nlisten = { mode = 'port', address = '0.0.0.0:65533' }",
        "3:37: listen.address: 4 workers need as many ports, and from 65533 to 65535 there are not enough",
    ),
    (
        "listen = { mode = 'port', address = '0.0.0.0:80' }\nrolling.surge = true\napp.environment.PORT = ''",
        "3:17: rolling.surge: in listen.mode \"port\" a replacement cannot start beside the old worker, both need the slot's port; set surge = false\n4:17: app.environment.PORT: is set for each slot by listen.mode \"port\"; leave it out",
    ),
    (
        "listen = { mode = 'port', address = '0.0.0.0:80' }\nrolling.max_unavailable = 0",
        "3:27: rolling.max_unavailable: without surge and with max_unavailable = 0 no worker can ever be replaced; set max_unavailable = 1",
    ),
    (
        "app.workers = 0\nlisten = { mode = 'port', address = '0.0.0.0:80' }",
        "2:15: app.workers: must be between 1 and 1024, not 0",
    ),
    // Values that contradict each other.
    (
        "memory.soft_limit = '512MiB'\nmemory.hard_limit = '512MiB'",
        "2:21: memory.soft_limit: the soft limit, 512MiB, must be below the hard limit, 512MiB: over the soft one a worker is replaced with overlap, over the hard one it is killed",
    ),
    (
        "memory.total_limit = '300MiB'\nmemory.hard_limit = '512MiB'",
        "2:22: memory.total_limit: the limit of all workers together, 300MiB, is below the hard limit of one, 512MiB",
    ),
    (
        "listen.mode = 'none'\nhealth.path = '/'\nready.when = 'http'",
        "3:15: health.path: there is nothing to ask: that takes a TCP address under [listen], and in mode \"none\" also a single worker\n4:14: ready.when: there is nothing to ask: that takes a TCP address under [listen], and in mode \"none\" also a single worker",
    ),
    (
        "app.workers = 2\nlisten = { mode = 'none', address = '127.0.0.1:80' }\nhealth.path = '/'",
        "4:15: health.path: there is nothing to ask: that takes a TCP address under [listen], and in mode \"none\" also a single worker",
    ),
    (
        "listen = { mode = 'inherit', address = 'unix:/x' }\nhealth.path = '/'",
        "3:15: health.path: there is nothing to ask: that takes a TCP address under [listen], and in mode \"none\" also a single worker",
    ),
    (
        "ready.when = 'listen'\nready.path = '/'",
        "3:14: ready.path: is asked for only when = \"http\", and when is \"listen\"",
    ),
    (
        "ready.when = 'notify'\nready.path = '/'",
        "3:14: ready.path: is asked for only when = \"http\", and when is \"notify\"",
    ),
    (
        "health.watchdog = '10ms'",
        "2:19: health.watchdog: must be at least 100ms: a busy host delays a ping",
    ),
    (
        "listen = { mode = 'none', address = '0.0.0.0:80' }\nrolling.surge = true",
        "3:17: rolling.surge: in listen.mode \"none\" a replacement cannot be probed beside the old worker, which answers on the same address; set surge = false, or leave the address out",
    ),
    (
        "rolling.surge = false",
        "2:17: rolling.surge: without surge and with max_unavailable = 0 no worker can ever be replaced; set max_unavailable = 1, or surge = true",
    ),
    (
        "rolling.slow_start = '11m'",
        "2:22: rolling.slow_start: must be at most 10m: a roll takes as long for each worker",
    ),
    (
        "listen.mode = 'none'\nrolling.slow_start = '5s'",
        "3:22: rolling.slow_start: in listen.mode \"none\" stanch does not steer connections; leave it out",
    ),
    ("rolling.max_unavailable = 2", "2:27: rolling.max_unavailable: 2 is more than app.workers, 1"),
    (
        "rolling.max_age = '30s'",
        "2:19: rolling.max_age: workers are replaced at the age of 30s, and before leak.warm_up, 1m, none is judged: no leak would ever be seen",
    ),
    (
        "restart.backoff_initial = '1m'",
        "2:27: restart.backoff_initial: the first delay, 1m, is above the longest, 30s",
    ),
    (
        "restart.backoff_max = '1ms'",
        "2:23: restart.backoff_max: the first delay, 100ms, is above the longest, 1ms",
    ),
    // Not TOML.
    ("[app]", "2:2: not valid TOML: this key or section was given before"),
    ("listen.mode =", "2:14: not valid TOML: a value is missing or has no quotes"),
    ("[listen\nmode = 'none'", "2:8: not valid TOML: unclosed table, expected `]`"),
    ("workers", "2:8: not valid TOML: key with no value, expected `=`"),
    ("app.name = 'x", "2:14: not valid TOML: invalid literal string, expected `'`"),
    // One slip, one error: nothing is concluded from a value that is in doubt.
    (
        "rolling.surge = false\nrolling.max_unavailable = 'one'",
        "3:27: rolling.max_unavailable: must be a whole number, without quotes",
    ),
    (
        "listen.mod = 'inherit'\nlisten.address = 'unix:/x'",
        "2:8: listen.mod: unknown key (did you mean mode?)",
    ),
    (
        "listen.mode = 'none'\nlisten.addres = '0.0.0.0:80'\nhealth.path = '/'",
        "3:8: listen.addres: unknown key (did you mean address?)",
    ),
    // Columns count characters, lines end with or without a carriage return.
    ("app.release = 'ü'\r\napp.'ü' = 1 ", "3:5: app.\"ü\": unknown key"),
];

/// Without the line that gives a command.
const COMMANDS: &[(&str, &str)] = &[
    (
        "",
        "f: app.command: no command to run; write command = [\"node\", \"server.js\"] in [app], or give it at the end of the command line, after --",
    ),
    ("app.comand = ['x']", "f:1:5: app.comand: unknown key (did you mean command?)"),
    ("[ap]\ncommand = ['x']", "f:1:2: ap: unknown section (did you mean [app]?)"),
    ("command = ['x']", "f:1:1: command: unknown key (did you mean [app] command?)"),
    (
        "[memory]\ncommand = ['x']",
        "f:2:1: memory.command: unknown key (did you mean [app] command?)",
    ),
    (
        "app.command = 'node server.js'",
        "f:1:15: app.command: must be an array of strings, one an argument; no shell reads it (did you mean [\"node\", \"server.js\"]?)",
    ),
    (
        "app.command = 'a | b'",
        "f:1:15: app.command: must be an array of strings, one an argument; no shell reads it",
    ),
    (
        "app.command = []",
        "f:1:15: app.command: names no program; write command = [\"node\", \"server.js\"] in [app], or give it at the end of the command line, after --",
    ),
    (
        "app.command = ['', 'a']",
        "f:1:15: app.command: names no program; write command = [\"node\", \"server.js\"] in [app], or give it at the end of the command line, after --",
    ),
    (
        "app.command = [3, true]",
        "f:1:16: app.command: must be a string, in quotes (did you mean \"3\"?)\nf:1:19: app.command: must be a string, not true or false",
    ),
    ("app = 3", "f:1:1: app: must be a section, [app], not a number"),
    // The byte order mark that some editors write.
    (
        "\u{feff}app.workers = 0",
        "f:1:16: app.workers: must be between 1 and 1024, not 0\nf: app.command: no command to run; write command = [\"node\", \"server.js\"] in [app], or give it at the end of the command line, after --",
    ),
];

#[test]
fn mistakes_have_exact_messages() {
    for (text, expected) in MISTAKES {
        let text = format!("app.command = ['./server']\n{text}");
        let errors = parse(&text, Path::new("f")).expect_err(&text).to_string();
        let errors: Vec<_> = errors.lines().map(|line| line.trim_start_matches("f:")).collect();
        assert_eq!(errors.join("\n"), *expected, "in\n{text}");
    }
}

#[test]
fn a_missing_command_is_explained() {
    for (text, expected) in COMMANDS {
        let errors = parse(text, Path::new("f")).expect_err(text).to_string();
        assert_eq!(errors, *expected, "in\n{text}");
    }
}

#[test]
fn all_errors_are_listed_in_the_order_of_the_file() {
    let text = "[memory]\nsoft_limit = 1\n[app]\nworkers = 0\nnme = ''\n[health]\ninterval = 1\n";
    let errors = parse(text, Path::new("f")).expect_err(text).errors;
    let keys: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
    let expected =
        ["memory.soft_limit", "app.workers", "app.nme", "health.interval", "app.command"];
    assert_eq!(keys, expected);
}

fn flags(change: impl FnOnce(&mut Overrides)) -> Overrides {
    let mut flags =
        Overrides { command: Some(vec!["./server".to_owned()]), ..Overrides::default() };
    change(&mut flags);
    flags
}

#[test]
fn mistakes_in_flags_name_the_flag() {
    let text = |text: &str| Some(text.to_owned());
    for (flags, file, expected) in [
        (
            flags(|f| f.soft_limit = text("512")),
            None,
            "--soft-limit: 512 has no unit (did you mean 512MiB?)",
        ),
        (flags(|f| f.workers = Some(0)), None, "--workers: must be between 1 and 1024, not 0"),
        (
            flags(|f| f.soft_limit = text("2GiB")),
            Some("memory.hard_limit = '1GiB'"),
            "--soft-limit: the soft limit, 2GiB, must be below the hard limit, 1GiB: over the soft one \
             a worker is replaced with overlap, over the hard one it is killed",
        ),
        (
            flags(|f| f.hard_limit = text("1GiB")),
            Some("memory.soft_limit = '2GiB'"),
            "--hard-limit: the soft limit, 2GiB, must be below the hard limit, 1GiB: over the soft one \
             a worker is replaced with overlap, over the hard one it is killed",
        ),
        (
            flags(|f| f.listen = Some(vec!["80".to_owned(), "x".to_owned()])),
            None,
            "--listen: \"80\" is not an address: IP:PORT ([IP]:PORT for IPv6), unix:/PATH or auto (did \
             you mean 0.0.0.0:80?)\n--listen: \"x\" is not an address: IP:PORT ([IP]:PORT for IPv6), \
             unix:/PATH or auto",
        ),
        (
            flags(|f| f.listen = Some(vec!["auto".to_owned(), "0.0.0.0:80".to_owned()])),
            None,
            "--listen: \"auto\" is whatever ports the workers bind; it stands alone, or leave it out \
             and name every address",
        ),
        (
            flags(|f| f.command = Some(Vec::new())),
            Some("app.nme = ''"),
            "f:1:5: app.nme: unknown key (did you mean name?)\n-- COMMAND: names no program; write \
             command = [\"node\", \"server.js\"] in [app], or give it at the end of the command line, \
             after --",
        ),
        (
            flags(|f| f.mode = text("prot")),
            None,
            "--mode: \"prot\" is none of \"takeover\", \"inherit\", \"port\" and \"none\" (did you mean \"port\"?)",
        ),
        (
            flags(|f| f.name = text("a/b")),
            None,
            "--name: names files, so it must be letters, digits, \".\", \"_\" and \"-\", not begin with \".\" or \"-\", and have at most 64 characters (did you mean \"a-b\"?)",
        ),
        (
            Overrides::default(),
            None,
            "app.command: no command to run; write command = [\"node\", \"server.js\"] in [app], or give it at the end of the command line, after --",
        ),
    ] {
        let errors = build(file, Path::new("f"), &flags).expect_err(expected).to_string();
        assert_eq!(errors, expected);
    }
}
