use super::*;
use crate::http::{Places, socket};
use crate::wire::{Leak, Listener, Memory, Store, Worker};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

fn leak(verdict: &str) -> Leak {
    let reason = String::new();
    Leak { verdict: verdict.into(), slope_kib_s: None, eta_s: None, confidence: None, reason }
}

fn worker(slot: u32, generation: u64, state: &str) -> Worker {
    Worker {
        slot,
        pid: Some(4000 + slot as i32),
        generation,
        state: state.into(),
        release: Some("1.4.2".into()),
        age_s: Some(11_520.0),
        rss_kib: Some(129_024),
        anon_kib: Some(98_304),
        threads: Some(9),
        fds: Some(31),
        cpu_percent: Some(12.4),
        connections: Some(17),
        restarts: 2,
        leak: leak("healthy"),
        status_text: None,
        due: None,
    }
}

fn full_status() -> Status {
    let mut leaking = worker(1, 3, "ready");
    leaking.anon_kib = Some(1_468_006);
    leaking.rss_kib = Some(1_572_864);
    leaking.leak = Leak {
        verdict: "leak".into(),
        slope_kib_s: Some(12.5),
        eta_s: Some(7_800.0),
        confidence: Some(0.98),
        reason: "grows 750.0 KiB/min since 09:13Z".into(),
    };
    let mut suspect = worker(0, 12, "draining");
    let reason = "rises by 2.1 MiB, of 9.0 MiB that would do".into();
    suspect.leak = Leak { slope_kib_s: Some(0.4), reason, ..leak("suspect") };
    let held = Worker {
        pid: None,
        release: None,
        age_s: None,
        rss_kib: None,
        anon_kib: None,
        cpu_percent: None,
        connections: None,
        restarts: 6,
        leak: leak("unjudged"),
        ..worker(2, 7, "held")
    };
    Status {
        app: "shop".into(),
        config: None,
        release: Some("1.4.2".into()),
        release_before: None,
        state: "degraded".into(),
        uptime_s: 187_301.5,
        listeners: vec![
            listener("0.0.0.0:8000", Some(3), Some(12)),
            listener("[::]:8000", Some(0), None),
        ],
        memory: Memory {
            total_kib: Some(1_664_614),
            total_limit_kib: Some(4_194_304),
            enforced_by: "cgroup2".into(),
            hard_limit_compares: "charged".into(),
        },
        // Out of order, as an engine may keep them.
        workers: vec![held, worker(0, 13, "ready"), suspect, leaking],
        incidents_open: 1,
        store: Store { state: "well".into(), why: None, waiting: 3 },
    }
}

fn listener(address: &str, queued: Option<u64>, dropped: Option<u64>) -> Listener {
    let (address, mode) = (address.into(), "takeover".into());
    Listener { address, mode, queued, queue_limit: Some(4096), dropped }
}

#[test]
fn the_table_of_a_busy_supervisor() {
    let expected = "\
shop 1.4.2: degraded, up 2d 4h, 1 open incident
memory 1.6 GiB of 4.0 GiB, limits enforced by cgroup2
listening on 0.0.0.0:8000 (takeover), 3 waiting to be accepted, 12 turned away
listening on [::]:8000 (takeover)

SLOT   PID  GEN  STATE     RELEASE     AGE      RSS     ANON  CPU  CONNS  RESTARTS  LEAK
   0  4000   12  draining  1.4.2    3h 12m  126 MiB   96 MiB  12%     17         2  suspect +24 KiB/min
   0  4000   13  ready     1.4.2    3h 12m  126 MiB   96 MiB  12%     17         2  healthy
   1  4001    3  ready     1.4.2    3h 12m  1.5 GiB  1.4 GiB  12%     17         2  leak +750 KiB/min, limit in 2h 10m
   2     -    7  held      -             -        -        -    -      -         6  unjudged

worker 0.12 may leak: rises by 2.1 MiB, of 9.0 MiB that would do
worker 1.3 leaks: grows 750.0 KiB/min since 09:13Z
";
    assert_eq!(table::render(&full_status()), expected);
}

#[test]
fn the_table_of_a_supervisor_that_knows_little() {
    let status = Status {
        release: None,
        state: "starting".into(),
        uptime_s: 0.2,
        listeners: Vec::new(),
        memory: Memory {
            total_kib: None,
            total_limit_kib: None,
            enforced_by: "polling".into(),
            hard_limit_compares: String::new(),
        },
        workers: Vec::new(),
        incidents_open: 0,
        store: Store {
            state: "degraded".into(),
            why: Some("cannot write the store /s.db: disk full".into()),
            waiting: 17,
        },
        ..full_status()
    };
    let expected = "\
shop: starting, up 0s, no open incident
memory -, limits enforced by polling
the audit log is not written (17 events wait in memory): cannot write the store /s.db: disk full

SLOT  PID  GEN  STATE  RELEASE  AGE  RSS  ANON  CPU  CONNS  RESTARTS  LEAK
";
    assert_eq!(table::render(&status), expected);
    let told = |waiting| {
        let store = Store { waiting, ..status.store.clone() };
        table::render(&Status { store, ..status.clone() })
    };
    assert!(told(1).contains("(1 event waits in memory)"));
    assert!(told(0).contains("(what comes waits in memory)"));
}

#[test]
fn json_is_one_line_with_the_contract_s_keys() {
    let text = shown(&full_status(), true, true).unwrap();
    assert_eq!(text.matches('\n').count(), 1);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["memory"]["total_limit_kib"], 4_194_304);
    assert_eq!(value["workers"][3]["leak"]["slope_kib_s"], 12.5);
    assert!(value["workers"][0]["pid"].is_null(), "what is not known is null");
}

#[test]
fn the_supervisor_that_is_meant() {
    let root = tempfile::tempdir().unwrap();
    let places = Places::in_folders(vec![root.path().join("run")]);
    let target = Target::default();

    let none = target.one(&places).unwrap_err();
    assert_eq!(none.code(), 3);
    assert!(none.message().unwrap().contains(root.path().to_str().unwrap()), "{none:?}");

    let shop = socket::bind(&places.default_socket("shop").unwrap()).unwrap();
    assert_eq!(target.one(&places).unwrap(), shop.path());

    let blog = socket::bind(&places.default_socket("blog").unwrap()).unwrap();
    let several = target.one(&places).unwrap_err();
    assert_eq!(several.code(), 2);
    for path in [shop.path(), blog.path()] {
        assert!(several.message().unwrap().contains(path.to_str().unwrap()), "{several:?}");
    }
    assert_eq!(target.all(&places).unwrap(), [blog.path(), shop.path()]);

    let given = Target { socket: Some(PathBuf::from("/else/where.sock")), config: None };
    assert_eq!(given.one(&places).unwrap(), PathBuf::from("/else/where.sock"));
}

/// A supervisor that takes one request and goes away without an answer, its socket with it.
fn vanishing(path: PathBuf) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        drop(listener);
        std::fs::remove_file(path).unwrap();
    })
}

#[test]
fn a_supervisor_that_goes_away_has_stopped_but_not_restarted() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("shop.sock");
    let target = || Target { socket: Some(path.clone()), config: None };
    let patience = || Patience { no_wait: false };

    let server = vanishing(path.clone());
    stop(StopArgs { target: target(), patience: patience() }).unwrap();
    server.join().unwrap();

    let server = vanishing(path.clone());
    let restarted = restart(RestartArgs { slot: None, target: target(), patience: patience() });
    server.join().unwrap();
    let failure = restarted.unwrap_err();
    assert_eq!(failure.code(), 3);
    assert!(failure.message().unwrap().contains("went away before it answered"), "{failure:?}");
}

#[test]
fn stop_returns_when_the_socket_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("shop.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let place = path.clone();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let body = r#"{"ok":true,"message":"stopped"}"#;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
        // The client looks whether the socket is still there, and looks again.
        listener.accept().unwrap();
        listener.accept().unwrap();
        std::fs::remove_file(place).unwrap();
    });
    let target = Target { socket: Some(path.clone()), config: None };
    stop(StopArgs { target, patience: Patience { no_wait: false } }).unwrap();
    assert!(!path.exists());
    server.join().unwrap();
}
