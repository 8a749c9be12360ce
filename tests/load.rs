//! The load generator itself: each way in which a request fails is counted as what it is, and
//! nothing else is a failure.

mod common;

use common::load::tally::Histogram;
use common::load::{self, Pace, Plan};
use common::*;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const REQUESTS: u64 = 6;

/// What a server does with a request that it has read.
#[derive(Clone, Copy)]
enum Step {
    /// Sends this, and reads the next request.
    Say(&'static str),
    /// Sends this in two parts, and reads the next request.
    SayInParts(&'static str, &'static str),
    /// Closes the connection in order.
    Close,
    /// Sends this, and resets the connection.
    Reset(&'static str),
    /// Sends nothing for so long.
    Stall(Duration),
}

/// Treats every connection by the same steps, closes it in order after them, and counts it; ends
/// with the test's process.
fn server(steps: &'static [Step]) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    let connections = Arc::new(AtomicU64::new(0));
    let count = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || serve(stream, steps));
        }
    });
    (address, connections)
}

fn serve(mut stream: TcpStream, steps: &[Step]) {
    stream.set_nodelay(true).expect("an option of a socket");
    for step in steps {
        if !read_request(&mut stream) {
            return;
        }
        // The client may be gone already, which is its affair.
        let mut say = |text: &str| drop(stream.write_all(text.as_bytes()));
        match *step {
            Step::Say(text) => say(text),
            Step::SayInParts(first, second) => {
                say(first);
                std::thread::sleep(20 * MILLISECOND);
                say(second);
            }
            Step::Close => return,
            Step::Reset(text) => {
                say(text);
                let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&stream, sockopt::Linger, &linger).expect("an option of a socket");
                return;
            }
            Step::Stall(duration) => std::thread::sleep(duration),
        }
    }
}

/// To the empty line; false at the end of the connection. Else closing would reset it.
fn read_request(stream: &mut TcpStream) -> bool {
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    while !received.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(read @ 1..) => received.extend_from_slice(&buffer[..read]),
            _ => return false,
        }
    }
    true
}

fn plan(address: SocketAddr, style: Style) -> Plan {
    Plan {
        address,
        path: "/".into(),
        style,
        clients: 2,
        pace: Pace::Closed,
        timeout: 10_000 * MILLISECOND,
        requests: Some(REQUESTS),
        duration: None,
    }
}

fn run(plan: &Plan) -> Tally {
    let tally = Mutex::new(Tally::default());
    load::run(plan, &AtomicBool::new(false), &tally).expect("the generator has its sockets");
    tally.into_inner().expect("no one has panicked with it")
}

/// All requests fail, and all in this way.
#[track_caller]
fn all_fail(plan: &Plan, way: fn(&Tally) -> u64) {
    let tally = run(plan);
    assert_eq!((way(&tally), tally.failed(), tally.ok), (REQUESTS, REQUESTS, 0), "{tally:?}");
    assert_eq!(tally.errors.len(), 6, "{tally:?}");
}

#[test]
fn refused() {
    all_fail(&plan(free_address(), Style::Connect), |tally| tally.refused);
}

#[test]
fn a_new_connection_that_ends_without_an_answer() {
    for steps in [&[Step::Reset("")], &[Step::Close]] {
        for style in [Style::Connect, Style::KeepAlive] {
            all_fail(&plan(server(steps).0, style), |tally| tally.reset);
        }
    }
}

#[test]
fn a_partial_answer() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let (address, _) = server(vec![Step::Say(said)].leak());
        all_fail(&plan(address, Style::Connect), |tally| tally.partial);
    }
    // Only the end of the connection tells where this one ends, and a reset is no such end.
    static RESET: [Step; 1] = [Step::Reset("HTTP/1.0 200 OK\r\n\r\nhello")];
    all_fail(&plan(server(&RESET).0, Style::Connect), |tally| tally.partial);
}

#[test]
fn another_status() {
    static STEPS: [Step; 1] =
        [Step::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")];
    all_fail(&plan(server(&STEPS).0, Style::KeepAlive), |tally| tally.bad_status);
}

#[test]
fn no_answer_in_time() {
    static STEPS: [Step; 1] = [Step::Stall(Duration::from_secs(60))];
    let mut plan = plan(server(&STEPS).0, Style::Connect);
    plan.timeout = 100 * MILLISECOND;
    all_fail(&plan, |tally| tally.timeout);
}

#[test]
fn no_http() {
    for steps in [
        &[Step::Say("SSH-2.0\r\n")],
        &[Step::Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")],
        &[Step::Say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\ntwo")],
    ] {
        all_fail(&plan(server(steps).0, Style::KeepAlive), |tally| tally.other);
    }
}

#[test]
fn a_reused_connection_that_ends_is_tried_again() {
    for steps in [&[Step::Say(WHOLE), Step::Close], &[Step::Say(WHOLE), Step::Reset("")]] {
        let (address, connections) = server(steps);
        let mut plan = plan(address, Style::KeepAlive);
        plan.clients = 1;
        let tally = run(&plan);
        // The first request has a new connection, and each later one finds a closed one.
        assert_eq!(
            (tally.ok, tally.retried, tally.failed()),
            (REQUESTS, REQUESTS - 1, 0),
            "{tally:?}"
        );
        assert_eq!(connections.load(Ordering::Relaxed), REQUESTS);
    }
}

/// A server that answers one connection well, and ends all others without an answer.
#[test]
fn a_request_is_tried_again_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    std::thread::spawn(move || {
        let mut steps: &[Step] = &[Step::Say(WHOLE), Step::Close];
        for stream in listener.incoming().map_while(Result::ok) {
            serve(stream, steps);
            steps = &[Step::Close];
        }
    });
    let mut plan = plan(address, Style::KeepAlive);
    plan.clients = 1;
    let tally = run(&plan);
    let failed = REQUESTS - 1;
    assert_eq!((tally.ok, tally.retried, tally.reset), (1, 1, failed), "{tally:?}");
}

#[test]
fn a_reused_connection_that_ends_within_the_answer_is_a_failure() {
    static STEPS: [Step; 2] = [Step::Say(WHOLE), Step::Say("HTTP/1.1 200 OK\r\n")];
    let mut plan = plan(server(&STEPS).0, Style::KeepAlive);
    plan.clients = 1;
    let tally = run(&plan);
    assert_eq!(
        (tally.ok, tally.partial, tally.retried),
        (REQUESTS / 2, REQUESTS / 2, 0),
        "{tally:?}"
    );
}

#[test]
fn whole_answers() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    const UNTIL_CLOSE: &str = "HTTP/1.0 200 OK\r\n\r\nhello";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n";
    // With the connections that six requests of one client need.
    const WHOLE_ANSWERS: [(&[Step], u64); 6] = [
        (&[Step::Say(WHOLE); 6], 1),
        (&[Step::Say(CHUNKED); 6], 1),
        (&[Step::SayInParts("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", "llo"); 6], 1),
        (&[Step::SayInParts("HTTP/1.1 204 No Co", "ntent\r\n\r\n"); 6], 1),
        (&[Step::Say(LAST); 6], REQUESTS),
        (&[Step::Say(UNTIL_CLOSE)], REQUESTS),
    ];
    for (steps, kept) in WHOLE_ANSWERS {
        for (style, expected) in [(Style::Connect, REQUESTS), (Style::KeepAlive, kept)] {
            let (address, connections) = server(steps);
            let mut plan = plan(address, style);
            plan.clients = 1;
            let tally = run(&plan);
            assert_eq!((tally.ok, tally.failed(), tally.retried), (REQUESTS, 0, 0), "{tally:?}");
            assert_eq!(connections.load(Ordering::Relaxed), expected, "{style:?}");
        }
    }
}

/// The schedule goes on while the server stalls, and the latency of what had to wait shows it.
#[test]
fn an_open_loop_counts_from_the_schedule() {
    static STEPS: [Step; 1] = [Step::Stall(Duration::from_millis(300))];
    let mut plan = plan(server(&STEPS).0, Style::Connect);
    plan.pace = Pace::Open(1000.0);
    plan.requests = None;
    plan.duration = Some(100 * MILLISECOND);
    plan.timeout = 200 * MILLISECOND;
    plan.clients = 100;
    let tally = run(&plan);
    assert_eq!(tally.reset + tally.timeout, 100, "one each millisecond: {tally:?}");

    // Two clients: two requests are sent at once, and the other six wait for them.
    static SLOW: [Step; 1] =
        [Step::SayInParts("HTTP/1.1 200 OK\r\nContent-Le", "ngth: 5\r\n\r\nhello")];
    let mut plan = self::plan(server(&SLOW).0, Style::Connect);
    plan.pace = Pace::Open(10_000.0);
    let tally = run(&plan);
    assert_eq!(tally.ok, REQUESTS, "{tally:?}");
    assert!(tally.latency.quantile(1.0) > Some(50_000), "three in turn of 20 ms: {tally:?}");
}

#[test]
fn quantiles() {
    let mut histogram = Histogram::default();
    assert_eq!(histogram.quantile(0.5), None);
    for micros in 1..=100_000 {
        histogram.record(Duration::from_micros(micros));
    }
    for (fraction, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.999, 99_900.0), (0.00001, 1.0)]
    {
        let found = histogram.quantile(fraction).expect("it has values") as f64;
        assert!(found >= exact && found <= exact * 1.02, "{fraction}: {found}");
    }
    assert_eq!((histogram.quantile(1.0), histogram.max()), (Some(100_000), 100_000));
}
