//! Whole configurations: the documented defaults, what is typed is meant, flags, damage.

mod alerts;
mod difference;
mod mistakes;

use super::reader::Document;
use super::*;
use crate::core::hooks::{Hook, HookSettings};
use crate::core::units::Bytes;
use crate::core::{
    EvidenceSettings, HealthSettings, LeakAction, LeakSettings, LeakingRelease, MemorySettings,
    RestartSettings, RollingSettings, Settings,
};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use proptest::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

const REFERENCE: &str = include_str!("../../../config/stanch.toml");

/// A file of its own name that is right but for `rest`.
fn with_command(rest: &str) -> String {
    format!("app.command = [\"./server\"]\n{rest}")
}

fn errors(text: &str) -> String {
    parse(text, Path::new("f")).expect_err(text).to_string()
}

fn accepted(text: &str) -> Config {
    parse(text, Path::new("f")).unwrap_or_else(|e| panic!("{text}\n{e}"))
}

/// The reference with the lines that begin with one of `marks` and a key made live.
fn uncommented(marks: &[&str]) -> String {
    let live = |line: &str| {
        marks.iter().find_map(|mark| {
            let rest = line.strip_prefix(mark)?;
            if rest.starts_with("[[") {
                return Some(rest.to_owned());
            }
            let (key, _) = rest.split_once(" = ")?;
            let bare = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            (bare || key == "NODE_ENV").then(|| rest.to_owned())
        })
    };
    let lines = REFERENCE.lines().skip_while(|line| !line.is_empty());
    lines.map(|line| live(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

#[test]
fn documented_defaults_are_the_defaults() {
    let documented = uncommented(&["#"]);
    assert!(documented.contains("\nworkers = 1\n") && !documented.contains("\nname ="));
    assert_eq!(accepted(&documented), accepted(REFERENCE));
}

#[test]
fn documented_examples_are_accepted() {
    let all = uncommented(&["#", "# "]).replace("when = \"listen\"", "when = \"http\"");
    // Only one of the two can name a release.
    let config = accepted(&all.replace("file = \"current/REVISION\"", ""));
    assert_eq!(config.app.name, "shop");
    assert_eq!(config.limits.len(), 7);
    assert_eq!(config.settings.memory.hard_limit_kib, Some(512 * 1024));
    assert_eq!(config.settings.rolling.max_age, Some(Duration::from_secs(7 * 86_400)));
}

#[test]
fn every_key_is_documented() {
    let all = uncommented(&["#", "# "]);
    let table: toml::Table = all.parse().expect("the reference is TOML");
    let mut document = Document::parse("");
    raw::Raw::read(&mut document);
    let later = |section: &str, key: &str| {
        let text = if section.is_empty() {
            format!("{key} = 0")
        } else {
            format!("[{section}]\n{key} = 0")
        };
        errors(&text).contains(reader::LATER)
    };
    for (section, key) in document.known() {
        let mut at = vec![&table];
        for part in section.split('.').filter(|part| !part.is_empty()) {
            at = at.into_iter().filter_map(|table| table.get(part)).flat_map(tables).collect();
        }
        let documented = at.iter().any(|table| table.contains_key(key));
        assert!(documented != later(section, key), "{section}.{key}");
    }
}

/// A table, or those of an array.
fn tables(value: &toml::Value) -> Vec<&toml::Table> {
    match value {
        toml::Value::Array(items) => items.iter().flat_map(tables).collect(),
        value => value.as_table().into_iter().collect(),
    }
}

#[test]
fn examples_are_accepted() {
    for (name, text) in [
        ("node", include_str!("../../../config/node.toml")),
        ("gunicorn", include_str!("../../../config/gunicorn.toml")),
        ("uvicorn", include_str!("../../../config/uvicorn.toml")),
        ("go", include_str!("../../../config/go.toml")),
        ("alerts", include_str!("../../../config/alerts.toml")),
    ] {
        let config = parse(text, Path::new(name)).unwrap_or_else(|e| panic!("{e}"));
        assert!(config.settings.workers >= 2, "{name}");
    }
}

#[test]
fn a_command_is_enough() {
    let command = ["node", "/srv/shop.js"].map(str::to_owned).to_vec();
    let config = accepted("app.command = [\"node\", \"/srv/shop.js\"]");
    let app = App { name: "shop".to_owned(), command, ..App::default() };
    assert_eq!(config, Config { app, ..Config::default() });
    assert_eq!(config.settings, Settings::default());
}

#[test]
fn auto_is_what_is_meant_without_an_address() {
    for text in ["", "listen.address = \"auto\"", "listen.address = [\"auto\"]"] {
        assert_eq!(accepted(&with_command(text)).listen, Listen::default(), "{text}");
    }
    let ports = |text: &str| accepted(&with_command(text)).listen.ignore_ports;
    assert_eq!(ports("listen.ignore_ports = 5005"), [5005]);
    assert_eq!(ports("listen.ignore_ports = [9229, 9230]"), [9229, 9230]);
    assert!(ports("listen.ignore_ports = []").is_empty());
    let flags = Overrides { listen: Some(vec!["auto".to_owned()]), ..Overrides::default() };
    let file = with_command("listen.address = \"0.0.0.0:80\"");
    let config = build(Some(&file), Path::new("f"), &flags).expect("a flag wins");
    assert_eq!(config.listen, Listen::default());
    let flags = Overrides { listen: Some(vec!["0.0.0.0:80".to_owned()]), ..Overrides::default() };
    let file = with_command("listen.ignore_ports = [9230]");
    build(Some(&file), Path::new("f"), &flags).expect("the flag makes the file's ports pointless");
}

#[test]
fn everything_that_is_typed_is_meant() {
    let text = r#"
        [app]
        name = "shop"
        command = ["./server", ""]
        workers = 3
        directory = "work"
        environment_file = "/etc/shop.env"
        environment = { TOKEN = "s3cret", EMPTY = "" }
        user = "1000"
        group = "www-data"
        release = "7"
        umask = "027"
        stop_signal = "INT"
        [release]
        on_leak = "rollback"
        [listen]
        address = ["0.0.0.0:80", "unix:/run/shop.sock"]
        mode = "inherit"
        backlog = 100
        [ready]
        path = "/ready?x=1"
        timeout = "5s"
        [health]
        path = "/health"
        interval = "500ms"
        timeout = "1s"
        failures = 2
        watchdog = "30s"
        [memory]
        soft_limit = "1.5GiB"
        hard_limit = "2GiB"
        total_limit = "5GB"
        sample_interval = "250ms"
        [leak]
        action = "alert"
        warm_up = "0s"
        lead_time = "1h"
        quiet_window = "22:30-04:00"
        [rolling]
        surge = false
        slow_start = "2.5s"
        max_unavailable = 2
        drain_timeout = "1m30s"
        cooldown = "0s"
        max_age = "1d"
        [restart]
        backoff_initial = "1s"
        backoff_max = "1s"
        intensity = { restarts = 0, within = "10s" }
        [limits]
        nofile = 1024
        core = "0B:unlimited"
        [evidence]
        command = ["py-spy", "dump", "--pid", "{pid}"]
        timeout = "7s"
        max_size = "1MiB"
        keep = "2MiB"
        log_lines = 0
        [hooks]
        on_drain = ["lb", "remove", "{address}"]
        timeout = "2s"
        [log]
        format = "json"
        worker_output = "files"
        path = "shop.log"
        rotate = { size = "1MiB", age = "1h", keep = 3 }
        flood_limit = 0
        [store]
        path = "shop.db"
        retention = "1d"
        [control]
        socket = "/run/shop-control.sock"
        "#;
    let owned = str::to_owned;
    let variables = [("TOKEN", "s3cret"), ("EMPTY", "")].map(|(k, v)| (owned(k), owned(v)));
    let expected = Config {
        app: App {
            name: owned("shop"),
            command: vec![owned("./server"), owned("")],
            directory: Some(PathBuf::from("/etc/stanch/work")),
            environment: Environment(variables.into()),
            environment_file: Some(PathBuf::from("/etc/shop.env")),
            user: Some(owned("1000")),
            group: Some(owned("www-data")),
            umask: Some(0o027),
            stop_signal: Signal::SIGINT,
        },
        release: Release::default(),
        listen: Listen {
            addresses: vec![
                ListenAddress::Tcp("0.0.0.0:80".parse().expect("an address")),
                ListenAddress::Unix(PathBuf::from("/run/shop.sock")),
            ],
            mode: ListenMode::Inherit,
            backlog: 100,
            ..Listen::default()
        },
        ready: Ready { when: ReadyWhen::Http, path: owned("/ready?x=1") },
        health: Health {
            path: Some(owned("/health")),
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
        },
        memory: Memory { sample_interval: Duration::from_millis(250) },
        limits: vec![
            Rlimit { resource: Resource::RLIMIT_NOFILE, soft: Some(1024), hard: Some(1024) },
            Rlimit { resource: Resource::RLIMIT_CORE, soft: Some(0), hard: None },
        ],
        evidence: Evidence {
            command: ["py-spy", "dump", "--pid", "{pid}"].map(owned).to_vec(),
            max_size: Bytes(1 << 20),
            keep: Bytes(2 << 20),
            log_lines: 0,
        },
        hooks: Hooks {
            on_drain: ["lb", "remove", "{address}"].map(owned).to_vec(),
            ..Hooks::default()
        },
        log: Log {
            format: LogFormat::Json,
            worker_output: WorkerOutput::Files,
            path: Some(PathBuf::from("/etc/stanch/shop.log")),
            rotate: Rotate { size: Bytes(1 << 20), age: Duration::from_secs(3600), keep: 3 },
            flood_limit: 0,
        },
        store: Store {
            path: Some(PathBuf::from("/etc/stanch/shop.db")),
            retention: Duration::from_secs(86_400),
        },
        control: Control { socket: Some(PathBuf::from("/run/shop-control.sock")) },
        settings: Settings {
            workers: 3,
            release: Some(owned("7")),
            ready_timeout: Duration::from_secs(5),
            health: HealthSettings { failures: 2, watchdog: Some(Duration::from_secs(30)) },
            memory: MemorySettings {
                soft_limit_kib: Some(1536 * 1024),
                hard_limit_kib: Some(2048 * 1024),
                total_limit_kib: Some(5_000_000_000 / 1024),
                host_kib: None,
            },
            leak: LeakSettings {
                action: LeakAction::Alert,
                warm_up: Duration::ZERO,
                lead_time: Duration::from_secs(3600),
                quiet_window: "22:30-04:00".parse().ok(),
            },
            leaking_release: LeakingRelease::RollBack,
            rolling: RollingSettings {
                surge: false,
                beside: true,
                slow_start: Duration::from_millis(2500),
                max_unavailable: 2,
                drain_timeout: Duration::from_secs(90),
                cooldown: Duration::ZERO,
                max_age: Some(Duration::from_secs(86_400)),
            },
            restart: RestartSettings {
                backoff_initial: Duration::from_secs(1),
                backoff_max: Duration::from_secs(1),
                restarts: 0,
                within: Duration::from_secs(10),
                held_pause: Settings::default().restart.held_pause,
            },
            // They have tests of their own.
            alerts: Vec::new(),
            evidence: EvidenceSettings { command_timeout: Some(Duration::from_secs(7)) },
            hooks: HookSettings { set: vec![Hook::Drain], timeout: Duration::from_secs(2) },
        },
    };
    let config = parse(text, Path::new("/etc/stanch/shop.toml")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config, expected);
}

#[test]
fn secrets_are_never_shown() {
    let text = with_command("app.environment = { TOKEN = \"hunter2\", STANCH_X = \"hunter2\" }");
    assert!(!errors(&text).contains("hunter2"));
    let config = accepted(&with_command("app.environment.TOKEN = \"hunter2\""));
    assert_eq!(config.app.environment.0["TOKEN"], "hunter2");
    let debug = format!("{config:?}");
    assert!(debug.contains("TOKEN") && !debug.contains("hunter2"), "{debug}");
    for value in
        ["hunter2", "'hunter2", "\"hunter2", "[\"hunter2\"]", "\"hunter2\\u0000\"", "31337"]
    {
        let errors = errors(&with_command(&format!("[app.environment]\nTOKEN = {value}\n")));
        assert!(!errors.contains("hunter2") && !errors.contains("31337"), "{errors}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = "[app]\ncommand = [\"./old\"]\nworkers = 2\ndirectory = \"d\"\nname = \"old\"\n\
                user = \"a\"\nrelease = \"1\"\n[listen]\naddress = [\"0.0.0.0:1\"]\n[ready]\n\
                when = \"listen\"\n[health]\npath = \"/old\"\n[memory]\nsoft_limit = \"1MiB\"\n\
                hard_limit = \"2MiB\"\ntotal_limit = \"3MiB\"\n[store]\npath = \"s\"\n[control]\n\
                socket = \"c\"\n";
    let text = |text: &str| Some(text.to_owned());
    let flags = Overrides {
        command: Some(vec!["node".to_owned(), "shop.js".to_owned()]),
        name: text("new"),
        workers: Some(3),
        listen: Some(vec!["0.0.0.0:2".to_owned()]),
        mode: text("inherit"),
        directory: text("e"),
        user: text("b"),
        release: text("2"),
        soft_limit: text("10MiB"),
        hard_limit: text("20MiB"),
        total_limit: text("30MiB"),
        ready_path: text("/ready"),
        health_path: text("/new"),
        store: text("t"),
        socket: text("d"),
    };
    let source = Path::new("/etc/f");
    let config = build(Some(file), source, &flags).unwrap_or_else(|e| panic!("{e}"));
    let alone = build(None, source, &flags).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config, alone);
    assert_eq!(config.app.command, ["node", "shop.js"]);
    assert_eq!(config.app.name, "new");
    assert_eq!(config.listen.mode, ListenMode::Inherit);
    assert_eq!(config.listen.addresses[0].to_string(), "0.0.0.0:2");
    assert_eq!(config.app.directory, Some(PathBuf::from("e")));
    assert_eq!(config.app.user.as_deref(), Some("b"));
    assert_eq!(config.ready, Ready { when: ReadyWhen::Http, path: "/ready".to_owned() });
    assert_eq!(config.health.path.as_deref(), Some("/new"));
    assert_eq!(config.store.path, Some(PathBuf::from("t")));
    assert_eq!(config.control.socket, Some(PathBuf::from("d")));
    let settings = config.settings;
    assert_eq!((settings.workers, settings.release.as_deref()), (3, Some("2")));
    let (mib, memory) = (1024, settings.memory);
    assert_eq!(memory.soft_limit_kib, Some(10 * mib));
    assert_eq!(memory.hard_limit_kib, Some(20 * mib));
    assert_eq!(memory.total_limit_kib, Some(30 * mib));

    let kept = build(Some(file), source, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kept.app.directory, Some(PathBuf::from("/etc/d")));
    assert_eq!(kept.ready.when, ReadyWhen::Listen);
}

#[test]
fn a_worker_that_binds_by_itself_is_replaced_in_place() {
    for listen in [
        "listen = { mode = \"port\", address = \"127.0.0.1:9000\" }",
        "listen = { mode = \"none\", address = \"127.0.0.1:9000\" }",
        "listen.mode = \"none\"",
    ] {
        let rolling = accepted(&with_command(listen)).settings.rolling;
        assert_eq!((rolling.surge, rolling.max_unavailable), (false, 1), "{listen}");
    }
    let wanted = accepted(&with_command("listen.mode = \"none\"\nrolling.surge = true"));
    assert!(wanted.settings.rolling.surge, "a program that binds nothing may overlap");
}

#[test]
fn what_cannot_be_probed_is_not() {
    for (listen, failures) in [
        ("", 3),
        ("listen.mode = \"none\"", 0),
        ("listen = { mode = \"none\", address = \"127.0.0.1:80\" }", 3),
        ("listen = { mode = \"inherit\", address = \"unix:/x\" }", 0),
        ("listen = { mode = \"inherit\", address = [\"unix:/x\", \"127.0.0.1:80\"] }", 3),
    ] {
        assert_eq!(accepted(&with_command(listen)).settings.health.failures, failures, "{listen}");
    }
}

/// A value of every type, some of them right.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| format!("{n:?}")),
        Just("true".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("[]".to_owned()),
        Just("[\"0.0.0.0:65535\", 'unix:/x', 'x', 1]".to_owned()),
        Just("{ restarts = 0, within = '1s' }".to_owned()),
        "['\"](takeover|inherit|port|none|http|listen|notify|/|0s|1ms|36500d|1MiB|0\\.0\\.0\\.0:1)['\"]",
        "'[0-9.a-zA-Zµ:/ -]{0,12}'",
        "\\PC{0,12}",
    ]
}

proptest! {
    /// Keys that exist with values that may not fit: reaches every reader and every judgement.
    #[test]
    fn no_document_panics(lines in proptest::collection::vec((any::<proptest::sample::Index>(), any_value()), 0..12)) {
        let mut document = Document::parse("");
        raw::Raw::read(&mut document);
        let keys: Vec<_> = document.known().iter().filter(|(section, _)| !section.is_empty()).collect();
        let text: String = lines.iter().map(|(index, value)| {
            let (section, key) = index.get(&keys);
            format!("{section}.{key} = {value}\n")
        }).collect();
        if let Err(errors) = parse(&text, Path::new("f")) {
            prop_assert!(!errors.errors.is_empty());
            prop_assert_eq!(errors.to_string().lines().count(), errors.errors.len());
        }
    }

    /// The reference with one piece cut out, doubled or replaced.
    #[test]
    fn no_damage_panics(at in any::<proptest::sample::Index>(), length in 0usize..40, noise in "\\PC{0,6}|[\\[\\]{}='\"\n\\\\#.\u{0}]{0,4}") {
        let text = uncommented(&["#", "# "]);
        let bounds: Vec<_> = text.char_indices().map(|(i, _)| i).collect();
        let start = *at.get(&bounds);
        let end = bounds.iter().copied().find(|i| *i >= start + length).unwrap_or(text.len());
        let _ = parse(&format!("{}{noise}{}", &text[..start], &text[end..]), Path::new("f"));
    }

    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = parse(&text, Path::new("f"));
    }

    #[test]
    fn no_flag_panics(text in ".{0,30}") {
        let flags = Overrides {
            command: Some(vec![text.clone()]),
            name: Some(text.clone()),
            listen: Some(vec![text.clone()]),
            soft_limit: Some(text.clone()),
            ready_path: Some(text.clone()),
            ..Overrides::default()
        };
        let _ = build(None, Path::new(""), &flags);
    }
}
