//! The parts by themselves; `tests/drill.rs` and `tests/soak.rs` play the whole.

use super::load::{Load, Plan, Tally};
use super::screen::{Moment, picture};
use crate::cli::output::Paint;
use crate::wire::{Leak, Memory, Status, Store, Worker};
use hyper::Uri;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn worker(slot: u32, state: &str, anon_mib: u64, verdict: &str) -> Worker {
    let grows = verdict == "leak";
    Worker {
        slot,
        pid: Some(100),
        generation: 1,
        state: state.to_owned(),
        release: None,
        age_s: Some(31.4),
        rss_kib: None,
        anon_kib: (anon_mib > 0).then_some(anon_mib * 1024),
        threads: None,
        fds: None,
        cpu_percent: None,
        connections: Some(4),
        restarts: 0,
        leak: Leak {
            verdict: verdict.to_owned(),
            slope_kib_s: grows.then_some(2150.0),
            eta_s: grows.then_some(42.2),
            confidence: None,
            reason: String::new(),
        },
        status_text: None,
        due: None,
    }
}

fn status(workers: Vec<Worker>) -> Status {
    Status {
        app: "shop".to_owned(),
        config: None,
        release: None,
        release_before: None,
        state: "running".to_owned(),
        uptime_s: 60.0,
        listeners: Vec::new(),
        memory: Memory {
            total_kib: None,
            total_limit_kib: None,
            enforced_by: "polling".to_owned(),
            hard_limit_compares: "anon_shmem_swap".to_owned(),
        },
        workers,
        store: Store::default(),
        incidents_open: 1,
    }
}

fn drawn(status: &Status, tally: &Tally, paint: Paint) -> Vec<String> {
    let events = VecDeque::from(["  0:22  leak_confirmed 0.1: grows".to_owned()]);
    let elapsed = Duration::from_secs(83);
    picture(&Moment { elapsed, status, tally, limit_kib: Some(160 * 1024) }, &events, paint)
}

#[test]
fn the_picture_fits_eighty_columns() {
    let status = status(vec![
        worker(1, "ready", 10, "healthy"),
        worker(0, "draining", 100, "leak"),
        worker(2, "starting", 0, "unjudged"),
        worker(3, "ready", 400, "leak"),
    ]);
    let mut tally = Tally::default();
    (tally.ok, tally.reset, tally.reconnected) = (31_400, 1, 12);
    tally.errors.push("reset on a new connection: ".to_owned() + &"x".repeat(100));
    let lines = drawn(&status, &tally, Paint(false));
    let expected = [
        "SLOT GEN  STATE     AGE  MEMORY, of 160 MiB    CONNS  LEAK",
        "   0   1  draining  31s  ████████░░░░ 100 MiB      4  leak +2.1 MiB/s, 42s left",
        "   1   1  ready     31s  █░░░░░░░░░░░  10 MiB      4  healthy",
        "   2   1  starting  31s  ░░░░░░░░░░░░       -      4  unjudged",
        "   3   1  ready     31s  ████████████ 400 MiB      4  leak +2.1 MiB/s, 42s left",
        "",
        " 1:23  31400 answered, 1 failed, 12 reconnected",
    ];
    assert_eq!(lines[..7], expected);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "  0:22  leak_confirmed 0.1: grows");
    assert!(!lines.concat().contains('\x1b'));
}

#[test]
fn colours_change_nothing_but_colours() {
    let status = status(vec![worker(0, "draining", 100, "leak"), worker(1, "ready", 9, "healthy")]);
    let coloured = drawn(&status, &Tally::default(), Paint(true));
    let mut bare = Vec::new();
    for line in &coloured {
        let mut parts = line.split('\x1b');
        let first = parts.next().unwrap_or_default().to_owned();
        bare.push(parts.fold(first, |text, part| text + part.split_once('m').unwrap().1));
    }
    assert_ne!(coloured, bare);
    assert_eq!(bare, drawn(&status, &Tally::default(), Paint(false)));
}

/// A server that answers with `serve`, one connection after the other, in a thread of its own.
fn server(serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads the head of a request; false at the end of the stream.
fn asked(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Loads the server until the tally is as wanted.
fn loaded(address: SocketAddr, fresh: u32, kept: u32, wanted: fn(&Tally) -> bool) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let paths = ["/", "/other?x=1"].map(Uri::from_static).to_vec();
        let (fresh_clients, kept_clients) = (fresh, kept);
        let load = Load::start(Plan { address, paths, fresh_clients, kept_clients, rate_rps: 200 });
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&load.tally()) {
            assert!(Instant::now() < deadline, "{:?}", load.tally());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        load.stop().await
    })
}

#[test]
fn whole_answers_count_as_answered() {
    let address = server(|mut stream| while asked(&mut stream) && stream.write_all(OK).is_ok() {});
    let tally = loaded(address, 2, 2, |tally| tally.ok >= 100);
    assert_eq!((tally.failed(), tally.reconnected, &tally.errors), (0, 0, &Vec::new()));
    assert!(tally.latency_ms(0.99) >= tally.latency_ms(0.5));
}

#[test]
fn a_server_that_is_not_there_is_refused() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let tally = loaded(address, 1, 1, |tally| tally.requests() >= 10);
    assert_eq!((tally.ok, tally.refused), (0, tally.requests()));
    assert!(tally.errors[0].starts_with("refused connecting: "), "{:?}", tally.errors);
}

#[test]
fn a_connection_cut_before_the_answer_is_a_lost_request() {
    let address = server(|mut stream| {
        asked(&mut stream);
    });
    let tally = loaded(address, 1, 1, |tally| tally.requests() >= 10);
    assert_eq!((tally.ok, tally.reset), (0, tally.requests()), "{tally:?}");
}

#[test]
fn an_answer_cut_in_its_middle_is_a_lost_request() {
    let address = server(|mut stream| {
        asked(&mut stream);
        let _ = stream.write_all(&OK[..OK.len() - 1]);
    });
    let tally = loaded(address, 1, 1, |tally| tally.requests() >= 10);
    assert_eq!((tally.ok, tally.reset), (0, tally.requests()), "{tally:?}");
}

#[test]
fn an_error_page_is_a_lost_request() {
    let address = server(|mut stream| {
        let error = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        while asked(&mut stream) && stream.write_all(error).is_ok() {}
    });
    let tally = loaded(address, 1, 1, |tally| tally.requests() >= 10);
    assert_eq!((tally.ok, tally.bad_status), (0, tally.requests()), "{tally:?}");
}

/// The next request of such a connection may be on its way already; both are asked again.
#[test]
fn a_kept_connection_closed_between_requests_is_opened_anew_and_nothing_is_lost() {
    let address = server(|mut stream| {
        asked(&mut stream);
        let _ = stream.write_all(OK);
    });
    let tally = loaded(address, 0, 2, |tally| tally.ok >= 20);
    assert_eq!(tally.failed(), 0, "{tally:?}");
    // The first request of each client, and whatever follows a planned end, has none to open anew.
    assert!(tally.reconnected >= tally.ok * 8 / 10, "{tally:?}");
}

#[test]
fn latencies_are_nearest_rank() {
    let address = server(|mut stream| while asked(&mut stream) && stream.write_all(OK).is_ok() {});
    let tally = loaded(address, 1, 0, |tally| tally.ok >= 2);
    assert!(tally.latency_ms(1.0) >= tally.latency_ms(0.0));
    assert_eq!(Tally::default().latency_ms(0.5), None);
}

#[test]
fn any_text_can_stand_in_a_configuration() {
    for text in ["plain", "it's \"quoted\"\\", "two\nlines\ttab", "del\u{7f}\u{1}", "ü—🦀"] {
        let parsed: toml::Table = format!("key = {}", super::quoted(text)).parse().unwrap();
        assert_eq!(parsed["key"].as_str(), Some(text));
    }
}
