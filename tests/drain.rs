//! How a worker leaves: what it has begun it finishes, what nobody waits for is closed, and what is
//! cut at the end of the drain is counted.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(20);

/// One worker, ready, of this command line (`HOST` and `PORT` stand for the address).
fn start(command: &[&str], drain_timeout: &str) -> (Stanch, SocketAddr) {
    let address = free_address();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let script = servers().join("node-http/server.js").display().to_string();
    let words = command
        .iter()
        .map(|word| word.replace("SCRIPT", &script).replace("HOST", &host).replace("PORT", &port));
    let app = App { command: words.collect(), ..App::new([]) }.toml("drain", 1);
    // No address: what is known of it must outlive the listening sockets.
    let mut stanch = Stanch::start(&format!(
        r#"{app}
        [rolling]
        drain_timeout = "{drain_timeout}"
        "#
    ));
    stanch.wait_ready(1);
    (stanch, address)
}

/// A node server that finishes its requests on SIGTERM, and one that dies of it.
const CAREFUL: &[&str] = &["node", "SCRIPT", "HOST", "PORT"];
const CARELESS: &[&str] = &["node", "SCRIPT", "HOST", "PORT", "careless"];
/// The first of them, behind a shell that dies of it.
const BEHIND_A_SHELL: &[&str] = &["sh", "-c", "node SCRIPT HOST PORT; exit 0"];

/// One that dies of it, and never closes a kept connection.
const PATIENT: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()
http.server.ThreadingHTTPServer(('HOST', PORT), Handler).serve_forever()
";

fn connect(address: SocketAddr) -> Connection {
    Connection::open(address, REQUEST).expect("connects")
}

/// A connection on which a request waits for its answer, which comes after this time.
fn waiting(address: SocketAddr, ms: u64) -> Connection {
    let mut connection = connect(address);
    // The first answer shows that the worker has the connection, and not its successor.
    connection.get("/pid").expect("is answered");
    connection.send(&format!("/slow?ms={ms}"), Style::KeepAlive).expect("sends");
    connection
}

/// An endless answer. It shows itself by what it sends unasked.
fn stream(address: SocketAddr) -> Connection {
    let mut stream = connect(address);
    stream.send("/events", Style::KeepAlive).expect("sends");
    for _ in 0..12 {
        stream.receive_until("data: more").expect("goes on");
    }
    stream
}

/// The first event of a kind about generation 1.
fn event(stanch: &mut Stanch, kind: &str) -> Value {
    stanch.wait_until(kind, |stanch| stanch.event(&[kind], |event| event["generation"] == 1))
}

fn roll(stanch: &mut Stanch) {
    let answer = stanch.command(&["restart", "0"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

fn time_of(event: &Value) -> jiff::Timestamp {
    event["at"].as_str().expect("it has a time").parse().expect("RFC 3339")
}

fn cuts(stanch: &Stanch) -> Vec<Value> {
    let events = stanch.events().into_iter();
    events.filter(|event| event["kind"] == "drain_cut_connections").collect()
}

fn a_request_in_flight_is_answered(command: &[&str]) {
    let (mut stanch, address) = start(command, "20s");
    let mut connection = waiting(address, 1500);
    roll(&mut stanch);
    let answer = connection.receive().expect("the old worker answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    event(&mut stanch, "worker_retired");
    assert_eq!(cuts(&stanch), [] as [Value; 0]);
    stanch.stop_clean();
}

#[test]
fn who_handles_the_stop_signal_answers_first() {
    a_request_in_flight_is_answered(CAREFUL);
}

#[test]
fn who_would_die_of_the_stop_signal_gets_it_when_it_has_answered() {
    a_request_in_flight_is_answered(CARELESS);
}

#[test]
fn a_shell_in_front_of_the_server_does_not_take_it_along() {
    a_request_in_flight_is_answered(BEHIND_A_SHELL);
}

fn a_request_in_flight_is_answered_in_a_stop(command: &[&str]) {
    let (mut stanch, address) = start(command, "20s");
    let mut connection = waiting(address, 1500);
    kill(stanch.pid(), Signal::SIGTERM);
    let answer = connection.receive().expect("the worker answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(connection);
    assert!(stanch.wait_end().success());
    let refused = Connection::open(address, REQUEST).err();
    assert_eq!(refused, Some(Fault::Refused));
}

#[test]
fn a_stop_lets_a_careless_worker_answer() {
    a_request_in_flight_is_answered_in_a_stop(CARELESS);
}

#[test]
fn a_stop_lets_a_worker_behind_a_shell_answer() {
    a_request_in_flight_is_answered_in_a_stop(BEHIND_A_SHELL);
}

#[test]
fn what_a_stop_cuts_is_counted() {
    let (mut stanch, address) = start(CAREFUL, "2s");
    let mut stream = stream(address);
    kill(stanch.pid(), Signal::SIGTERM);
    assert!(stanch.wait_end().success());
    assert_eq!(stream.receive_until("the end"), Err(Fault::Reset));
    assert_eq!(cuts(&stanch).len(), 1, "{:?}", stanch.events());
}

#[test]
fn a_kept_connection_on_which_nothing_is_awaited_holds_nobody() {
    let (mut stanch, address) = start(&["python3", "-c", PATIENT], "60s");
    let mut quiet = connect(address);
    quiet.get("/").expect("is answered");
    roll(&mut stanch);
    let retired = event(&mut stanch, "worker_retired");
    let seconds = retired["figures"]["age_s"].as_f64().expect("it has an age");
    assert!(seconds < 30.0, "it waited for half of the drain: {retired}");
    assert_eq!(quiet.receive(), Err(Fault::Reset), "closed");
    assert_eq!(cuts(&stanch), [] as [Value; 0]);
    stanch.stop_clean();
}

fn a_stream_holds_until_the_end_of_the_drain_and_is_counted(command: &[&str]) {
    let (mut stanch, address) = start(command, "2s");
    let mut stream = stream(address);
    roll(&mut stanch);
    let cut = event(&mut stanch, "drain_cut_connections");
    assert_eq!(cut["figures"]["connections_cut"], 1, "{cut}");
    let since = event(&mut stanch, "drain_started");
    let (since, until) = (time_of(&since), time_of(&cut));
    assert!(until.duration_since(since).as_secs() >= 1, "cut after {since} at {until} already");
    assert_eq!(stream.receive_until("the end"), Err(Fault::Reset));
    stanch.stop_clean();
}

#[test]
fn a_stream_holds_a_careful_worker() {
    a_stream_holds_until_the_end_of_the_drain_and_is_counted(CAREFUL);
}

#[test]
fn a_stream_holds_a_careless_worker() {
    a_stream_holds_until_the_end_of_the_drain_and_is_counted(CARELESS);
}
