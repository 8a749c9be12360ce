//! `stanch soak` on real servers.

mod common;

use common::{App, PATIENCE, Place, Server, free_address, servers, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// A server that leaves a descriptor open at every fourth request, ends at /end and stands still at /hang.
const SIEVE: &str = r#"
import http.server, itertools, os, signal, sys
opened, turn = [], itertools.count()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/end":
            print("the database is gone", flush=True)
            os._exit(3)
        if self.path == "/hang":
            os.kill(os.getpid(), signal.SIGSTOP)
        if next(turn) % 4 == 0:
            opened.append(os.open("/dev/null", os.O_RDONLY))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
host, port = sys.argv[1:]
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
"#;

fn soak(place: &Place, arguments: &[&str], app: &App) -> Command {
    let mut soak = place.stanch(&["soak"]);
    soak.args(arguments).arg("--").args(&app.command).env("TMPDIR", place.path());
    soak.envs(app.environment.iter().cloned());
    soak
}

/// A long one, whose server answers.
fn under_way(place: &Place) -> Child {
    let address = free_address();
    let app = Server::PythonHttp.app(address);
    let mut soak = soak(place, &["--for", "10m"], &app);
    let child = soak.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    wait_until(PATIENCE, "the server answers", || common::get(address, "/", PATIENCE).ok());
    child.expect("the stanch binary starts")
}

fn sieve() -> App {
    let address = free_address();
    App::new(["python3", "-c", SIEVE, &address.ip().to_string(), &address.port().to_string()])
}

/// Runs it to its end; the exit code, what it printed, and what it complained of.
fn soaked(place: &Place, arguments: &[&str], app: &App) -> (i32, String, String) {
    let output = soak(place, arguments, app).output().expect("the stanch binary starts");
    let Output { status, stdout, stderr } = output;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(place.processes(), [0; 0]);
    assert_eq!(place.folders(), [] as [PathBuf; 0]);
    (status.code().expect("it is not killed"), text(&stdout), text(&stderr))
}

fn object(said: &str) -> Value {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The default session store of express-session keeps every session.
#[test]
fn a_server_that_leaks_memory_fails_and_the_trace_says_the_same() {
    let place = Place::new();
    let trace = place.file("trace.csv").to_string_lossy().into_owned();
    let arguments = ["--for", "40s", "--rate", "400", "--json", "--path", "/leak?kib=40"];
    let app = Server::NodeExpress.app(free_address());
    let (code, said, _) = soaked(&place, &[&arguments[..], &["--trace", &trace]].concat(), &app);
    let found = object(&said);
    assert_eq!(code, 1, "{found:#}");
    assert_eq!((&found["verdict"], &found["quantity"]), (&"leak".into(), &"memory".into()));
    assert_eq!((&found["failure"], &found["requests"]["failed"]), (&Value::Null, &0.into()));
    let left = found["kib_per_request"].as_f64().expect("it is known");
    assert!((36.0..60.0).contains(&left), "40 KiB and a session a request: {found:#}");
    assert!(found["grew"].as_str().is_some_and(|grew| grew.contains(" by ")), "{found:#}");
    let replayed = place.stanch(&["replay", "--json", &trace]).output().expect("it starts");
    let replayed = object(&String::from_utf8_lossy(&replayed.stdout));
    assert_eq!(replayed["verdict"], "leak", "{replayed:#}");
    let moments = [&replayed["detected_at_s"], &found["detected_at_s"]];
    assert_eq!(moments[0], moments[1], "{replayed:#}");
}

#[test]
fn a_server_that_leaks_descriptors_fails() {
    let place = Place::new();
    let arguments = ["--for", "170s", "--rate", "40", "--json", "--path", "/a", "--path", "/b"];
    let (code, said, _) = soaked(&place, &arguments, &sieve());
    let found = object(&said);
    assert_eq!((code, &found["verdict"]), (1, &"leak".into()), "{found:#}");
    assert_eq!(found["quantity"], "fds", "{found:#}");
    assert_eq!(found["kib_per_request"], Value::Null);
}

#[test]
fn a_server_that_does_not_leak_passes() {
    let place = Place::new();
    let app = Server::PythonHttp.app(free_address());
    let (code, said, _) = soaked(&place, &["--for", "15s"], &app);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("0 failed") && !said.contains("\nLeak"), "{said}");
}

#[test]
fn a_server_that_ends_or_is_not_reached_is_no_leak() {
    let place = Place::new();
    // Some requests, and then the last.
    let until = |path| {
        let mut arguments = vec!["--json"];
        arguments.extend([["--path", "/"]; 30].as_flattened());
        arguments.extend(["--path", path, "--for"]);
        arguments
    };
    let (code, said, _) = soaked(&place, &[until("/end"), vec!["60s"]].concat(), &sieve());
    let found = object(&said);
    assert_eq!((code, &found["verdict"]), (1, &"unjudged".into()), "{found:#}");
    assert!(found["failure"].as_str().is_some_and(|why| why.contains("code 3")), "{found:#}");
    // Two clients may have come that far.
    assert_eq!(found["last_output"][0], "the database is gone", "{found:#}");
    let (code, said, _) = soaked(&place, &[until("/hang"), vec!["12s"]].concat(), &sieve());
    let found = object(&said);
    assert_eq!((code, &found["verdict"]), (1, &"unjudged".into()), "{found:#}");
    assert!(found["failure"].is_string(), "nothing was answered: {found:#}");

    let app = Server::PythonHttp.app(free_address());
    let (code, _, said) = soaked(&place, &["--for", "60s", "--path", "/nowhere"], &app);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("404") && said.contains("--path"), "{said}");

    let broken = servers().join("faulty/worker.py").to_string_lossy().into_owned();
    let broken = App::new(["python3", &broken, "exit-at-once"]);
    let (code, _, said) = soaked(&place, &["--for", "60s"], &broken);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("faulty: no database"), "the server's own words: {said}");

    let (code, _, said) = soaked(&place, &["--for", "1s"], &app);
    assert_eq!(code, 2, "{said}");

    let (code, said, _) = soaked(&place, &["--for", "10s", "--rate", "0"], &app);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("\nUndecided\n") && said.contains("nobody"), "{said}");
}

/// The trace is on a full disk; what was found is said nevertheless.
#[test]
fn a_finding_is_said_where_the_trace_cannot_be_written() {
    let place = Place::new();
    let app = Server::PythonHttp.app(free_address());
    let arguments = ["--for", "10s", "--json", "--trace", "/dev/full"];
    let (code, said, complaint) = soaked(&place, &arguments, &app);
    assert_eq!((code, &object(&said)["failure"]), (2, &Value::Null), "{said}");
    assert!(complaint.contains("/dev/full"), "{complaint}");
    let (code, _, complaint) = soaked(&place, &["--trace", "/nowhere/trace.csv"], &app);
    assert_eq!(code, 2, "{complaint}");
    assert!(complaint.contains("/nowhere/trace.csv"), "{complaint}");
}

/// A CI that has waited long enough leaves nobody the time to tidy up.
#[test]
fn a_soak_that_is_killed_takes_its_server_along() {
    let place = Place::new();
    let mut child = under_way(&place);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    wait_until(PATIENCE, "all have ended", || place.processes().is_empty().then_some(()));
}

#[test]
fn ctrl_c_ends_a_soak_and_all_that_it_started() {
    let place = Place::new();
    let mut child = under_way(&place);
    common::kill(i32::try_from(child.id()).expect("pids are positive"), Signal::SIGINT);
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert_eq!(place.processes(), [0; 0]);
    assert_eq!(place.folders(), [] as [PathBuf; 0]);
}
