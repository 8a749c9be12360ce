//! Another program takes the place of the supervisor's: nobody outside notices, and what it was doing
//! goes on.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const WORKERS: usize = 3;
const CLIENTS: usize = 4;
const REQUEST: Duration = Duration::from_secs(20);

/// Answers with its pid. `/late` has it listen on a second port, `/print/WORDS` print them as they are.
const SERVER: &str = r#"
import http.server, os, sys, threading
from urllib.parse import unquote
host, port, late = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/late":
            server = http.server.ThreadingHTTPServer((host, late), Handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        if self.path.startswith("/print/"):
            sys.stdout.write(unquote(self.path[7:]))
            sys.stdout.flush()
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
"#;

fn config(app: &App, workers: usize, addresses: &[SocketAddr], more: &str) -> String {
    let app = app.toml("upgrade", workers as u32);
    let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        r#"{app}
        [listen]
        address = [{}]
        [ready]
        when = "http"
        path = "/"
        timeout = "20s"
        [health]
        path = "/"
        interval = "300ms"
        timeout = "5s"
        [rolling]
        drain_timeout = "5s"
        cooldown = "200ms"
        slow_start = "100ms"
        [restart]
        backoff_initial = "10ms"
        {more}
        "#,
        addresses.join(", ")
    )
}

fn start(config: &str, workers: usize) -> Stanch {
    let mut stanch = Stanch::start_in(Place::with_own_program(), config, Output::Log);
    stanch.wait_ready(workers);
    stanch
}

/// Workers of node, and their address.
fn node(workers: usize, more: &str) -> (Stanch, SocketAddr) {
    let address = free_address();
    let app = Server::NodeHttp.app(address);
    (start(&config(&app, workers, &[address], more), workers), address)
}

/// One worker that is [`SERVER`], its address and its late one.
fn server(more: &str) -> (Stanch, SocketAddr, SocketAddr) {
    let (address, late) = (free_address(), free_address());
    let ports = [address.port().to_string(), late.port().to_string()];
    let app = App::new(["python3", "-c", SERVER, "127.0.0.1", &ports[0], &ports[1]]);
    (start(&config(&app, 1, &[address, late], more), 1), address, late)
}

#[track_caller]
fn upgrade(stanch: &Stanch) {
    let answer = stanch.command(&["upgrade"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("has taken the place of"), "{answer:?}");
}

/// Slot, generation and pid of each worker.
fn identities(stanch: &Stanch) -> Vec<[Value; 3]> {
    let workers = stanch.workers();
    workers.iter().map(|w| ["slot", "generation", "pid"].map(|key| w[key].clone())).collect()
}

fn events_of(stanch: &Stanch, kind: &str) -> Vec<Value> {
    stanch.events().into_iter().filter(|event| event["kind"] == kind).collect()
}

fn verify(stanch: &Stanch) {
    let outcome = stanch.ask_store(&["verify"]);
    assert_eq!(outcome.code, Some(0), "the chain is broken: {outcome:?}");
}

/// Asks for the status again and again, on a connection for each.
struct Asking {
    stop: Arc<AtomicBool>,
    asker: Option<JoinHandle<u64>>,
}

impl Asking {
    fn start(stanch: &Stanch) -> Self {
        let (stop, socket) = (Arc::new(AtomicBool::new(false)), stanch.place().socket());
        let told = Arc::clone(&stop);
        let asker = std::thread::spawn(move || {
            let mut asked = 0;
            while !told.load(Ordering::Relaxed) {
                let mut stream = UnixStream::connect(&socket).expect("nobody is turned away");
                let request = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                stream.write_all(request).expect("it is taken");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("it is answered");
                assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
                asked += 1;
            }
            asked
        });
        Self { stop, asker: Some(asker) }
    }

    /// How many were answered; all were.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.asker.take().expect("it runs").join().expect("each was answered")
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn no_request_is_lost(server: Server, style: Style) {
    const UPGRADES: usize = 4;
    let address = free_address();
    let app = server.app(address);
    let mut stanch = start(&config(&app, WORKERS, &[address], ""), WORKERS);
    let (pid, before) = (stanch.pid(), identities(&stanch));
    let load = Load::start(address, style, CLIENTS);
    let asking = Asking::start(&stanch);
    for _ in 0..UPGRADES {
        load.wait_for(200);
        upgrade(&stanch);
    }
    load.wait_for(200);
    assert!(asking.stop() > 0);
    assert_eq!(identities(&stanch), before, "they are the same workers");
    assert!(stanch.ended().is_none(), "it is the same process, {pid}");
    let told = events_of(&stanch, "supervisor_upgraded");
    assert_eq!(told.len(), UPGRADES);
    for event in told {
        let figures = &event["figures"];
        assert_eq!(figures["workers_kept"], WORKERS);
        assert_eq!(figures["from"], env!("CARGO_PKG_VERSION"));
        assert_eq!(figures["to"], env!("CARGO_PKG_VERSION"));
        assert!(figures["pause_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{event}");
    }
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");

    let load = Load::start(address, style, CLIENTS);
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    stanch.wait_ready(WORKERS);
    for [_, generation, _] in identities(&stanch) {
        assert_eq!(generation, 2);
    }
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "a roll after upgrades: {tally:?}");
    for kind in ["supervisor_recovered", "unrecorded_action", "worker_crashed", "worker_adopted"] {
        assert_eq!(events_of(&stanch, kind), Vec::<Value>::new());
    }
    assert_eq!(events_of(&stanch, "supervisor_started").len(), 1);
    stanch.stop_clean();
    assert!(!stanch.place().socket().exists(), "the last one removes it");
    verify(&stanch);
}

#[test]
fn no_request_is_lost_node() {
    no_request_is_lost(Server::NodeHttp, Style::KeepAlive);
}

#[test]
fn no_request_is_lost_go() {
    no_request_is_lost(Server::Go, Style::Connect);
}

#[test]
fn no_request_is_lost_gunicorn() {
    no_request_is_lost(Server::Gunicorn, Style::Connect);
}

/// It writes a line for each request.
#[test]
fn no_request_is_lost_python_http() {
    no_request_is_lost(Server::PythonHttp, Style::Connect);
}

#[test]
fn a_worker_that_binds_later_is_supervised_there_too() {
    let (mut stanch, address, late) = server("");
    upgrade(&stanch);
    let pid = get(address, "/late", REQUEST).expect("serves").pid();
    assert_eq!(get(late, "/", REQUEST).expect("serves there as well").pid(), pid);
    let queue = |stanch: &Stanch| {
        let status = stanch.status();
        let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
        let of_late = |listener: &&Value| listener["address"] == late.to_string();
        listeners.iter().find(of_late)?["queue_limit"].as_u64()
    };
    assert!(queue(&stanch).is_some(), "stanch holds the socket");
    upgrade(&stanch);
    assert_eq!(get(late, "/", REQUEST).expect("serves on").pid(), pid);
    assert!(queue(&stanch).is_some());
    stanch.stop_clean();
}

#[test]
fn what_a_worker_prints_goes_on_where_it_was() {
    let (mut stanch, address, _) = server("");
    for half in ["/print/one%20half", "/print/%20and%20the%20other%0Athen%20"] {
        get(address, half, REQUEST).expect("serves");
        upgrade(&stanch);
    }
    get(address, "/print/more%0A", REQUEST).expect("serves");
    stanch.wait_until("all is printed", |stanch| {
        let log = stanch.place().log();
        let lines = ["[0] one half and the other\n", "[0] then more\n"];
        lines.iter().all(|line| log.contains(line)).then_some(())
    });
    stanch.stop_clean();
}

/// Sockets that workers inherit: one on a port each, and one on a path that they share.
#[test]
fn sockets_that_are_inherited_stay() {
    const SERVER: &str = r#"
import http.server, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def address_string(self):
        return "somebody"
def serve(fd):
    server = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
    server.socket = socket.socket(fileno=fd)
    server.serve_forever()
threading.Thread(target=serve, args=(4,), daemon=True).start()
serve(3)
"#;
    let address = free_address();
    let place = Place::with_own_program();
    let path = place.file("app.sock");
    let app = App::new(["python3", "-c", SERVER]);
    let text = config(&app, 2, &[address], "").replace(
        &format!("address = [\"{address}\"]"),
        &format!("mode = \"inherit\"\naddress = [\"{address}\", \"unix:{}\"]", path.display()),
    );
    let mut stanch = Stanch::start_in(place, &text, Output::Log);
    stanch.wait_ready(2);
    let ask = || {
        assert_eq!(get(address, "/", REQUEST).expect("serves").body, "ok");
        let mut stream = UnixStream::connect(&path).expect("somebody listens");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is answered");
        assert!(answer.ends_with("ok"), "{answer:?}");
    };
    ask();
    upgrade(&stanch);
    ask();
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    upgrade(&stanch);
    ask();
    stanch.stop_clean();
    assert!(!path.exists(), "the last one removes it");
}

#[test]
fn a_crash_right_after_is_seen_and_how_is_known() {
    let (mut stanch, _) = node(WORKERS, "");
    for generation in 1..=2 {
        upgrade(&stanch);
        let pid = stanch.workers()[1]["pid"].as_i64().expect("it has one") as i32;
        kill(pid, Signal::SIGSEGV);
        stanch.wait_until("the replacement", |stanch| stanch.ready_after(1, generation));
        let crash = stanch.event(&["worker_crashed"], |event| event["pid"] == pid);
        let crash = crash.expect("it is in the log");
        assert_eq!(crash["cause"], "signal", "its parent was told: {crash}");
    }
    stanch.stop_clean();
}

#[test]
fn what_operators_changed_stays() {
    let (mut stanch, _) = node(WORKERS, "");
    for command in [&["scale", "4"][..], &["drain", "1"], &["pause"]] {
        let answer = stanch.command(command);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    let before = identities(&stanch);
    let uptime = stanch.status()["uptime_s"].as_f64().expect("a number");
    upgrade(&stanch);
    assert_eq!(identities(&stanch), before);
    let status = stanch.status();
    assert_eq!(status["state"], "paused");
    assert!(status["uptime_s"].as_f64().is_some_and(|now| now > uptime), "{status}");
    let answer = stanch.command(&["restart", "1"]);
    assert_eq!(answer.code, Some(0), "the empty slot is known: {answer:?}");
    stanch.stop_clean();
}

#[test]
fn killed_after_it_the_workers_are_adopted() {
    let (mut stanch, address) = node(WORKERS, "");
    let load = Load::start(address, Style::Connect, CLIENTS);
    upgrade(&stanch);
    let before = identities(&stanch);
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
    stanch.restart();
    let event = stanch
        .wait_until("the recovery", |stanch| stanch.event(&["supervisor_recovered"], |_| true));
    assert_eq!(event["figures"]["adopted"], WORKERS, "{event}");
    let old = |worker: &Value| before.iter().any(|[_, _, pid]| *pid == worker["pid"]);
    stanch.wait_until("they are replaced", |stanch| {
        let workers = stanch.workers();
        (workers.len() == WORKERS && !workers.iter().any(old)).then_some(())
    });
    // The first of an adopted one is no child, and so a case of its own.
    upgrade(&stanch);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    stanch.stop_clean();
    verify(&stanch);
}

#[test]
fn adopted_workers_are_handed_over_too() {
    let (mut stanch, _) = node(WORKERS, "");
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
    let path = stanch.place().file("stanch.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    // They may stay.
    fs::write(&path, text.replace("cooldown = \"200ms\"", "cooldown = \"1h\"")).expect("it can be");
    stanch.restart();
    stanch.wait_ready(WORKERS);
    let before = identities(&stanch);
    upgrade(&stanch);
    assert_eq!(identities(&stanch), before);
    let pid = before[0][2].as_i64().expect("it has one") as i32;
    kill(pid, Signal::SIGKILL);
    stanch.wait_until("the replacement", |stanch| stanch.ready_after(0, 1));
    stanch.stop_clean();
}

#[test]
fn what_is_under_way_is_finished_first() {
    let (mut stanch, _) = node(WORKERS, "");
    let answer = stanch.command(&["restart", "--no-wait"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    upgrade(&stanch);
    let kinds: Vec<String> = stanch
        .events()
        .iter()
        .filter_map(|event| event["kind"].as_str().map(str::to_owned))
        .filter(|kind| ["roll_started", "roll_finished", "supervisor_upgraded"].contains(&&**kind))
        .collect();
    assert_eq!(kinds, ["roll_started", "roll_finished", "supervisor_upgraded"]);
    stanch.stop_clean();
}

#[test]
fn nobody_need_wait_and_programs_are_answered_in_json() {
    let (mut stanch, _) = node(1, "");
    let answer = stanch.command(&["upgrade", "--json"]);
    let told: Value = serde_json::from_str(&answer.stdout).expect("it is JSON");
    assert_eq!((answer.code, &told["ok"]), (Some(0), &true.into()), "{told}");
    let answer = stanch.command(&["upgrade", "--no-wait"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    stanch.wait_until("it is done all the same", |stanch| {
        (events_of(stanch, "supervisor_upgraded").len() == 2).then_some(())
    });
    fs::remove_file(stanch.place().program()).expect("it is there");
    let answer = stanch.command(&["upgrade", "--json"]);
    let told: Value = serde_json::from_str(&answer.stdout).expect("it is JSON");
    assert_eq!((answer.code, &told["ok"]), (Some(1), &false.into()), "{told}");
    stanch.stop_clean();
}

/// Signals that would end a process that does not catch them.
#[test]
fn a_signal_at_any_moment_does_not_end_it() {
    let (mut stanch, _) = node(1, "");
    let (stop, pid) = (Arc::new(AtomicBool::new(false)), stanch.pid());
    let told = Arc::clone(&stop);
    let storm = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            kill(pid, Signal::SIGALRM);
            std::thread::sleep(Duration::from_micros(300));
        }
    });
    for _ in 0..5 {
        upgrade(&stanch);
    }
    stop.store(true, Ordering::Relaxed);
    storm.join().expect("it was there all the time");
    let children = stanch.workers()[0]["pid"].as_i64().expect("it has one");
    let status = fs::read_to_string(format!("/proc/{children}/status")).expect("it lives");
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    let own = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    assert!(own.contains("SigBlk:\t0000000000000000"), "nothing stays blocked: {own}");
    stanch.stop_clean();
}

/// A program that stands where stanch's was.
fn put(place: &Place, content: &[u8]) {
    let path = place.file("other");
    // The last one may be on its way still: a file that is being executed cannot be written.
    let _ = fs::remove_file(&path);
    fs::write(&path, content).expect("it can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    place.link_program(&path);
}

#[track_caller]
fn refused(stanch: &Stanch, why: &str) {
    let before = (identities(stanch), events_of(stanch, "operator_command").len());
    let answer = stanch.command(&["upgrade"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stderr.contains(why), "{why}: {answer:?}");
    assert_eq!(identities(stanch), before.0);
    // A refusal does not wait for its record.
    let last = wait_until(PATIENCE, "the refusal is written down", || {
        let mut told = events_of(stanch, "operator_command");
        if told.len() > before.1 + 1 { told.pop() } else { None }
    });
    assert_eq!(last["cause"], "refused", "{last}");
    assert!(last["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{why}: {last}");
}

#[test]
fn a_program_that_will_not_do_is_not_switched_to() {
    let (mut stanch, address) = node(WORKERS, "");
    let load = Load::start(address, Style::Connect, CLIENTS);
    let own = Path::new(env!("CARGO_BIN_EXE_stanch"));
    put(stanch.place(), b"#!/bin/sh\necho not today >&2\nexit 1\n");
    refused(&stanch, "not today");
    put(stanch.place(), b"#!/bin/sh\nexit 0\n");
    refused(&stanch, "will not do");
    let elf = fs::read(own).expect("it can be read");
    put(stanch.place(), &elf[..1 << 16]);
    refused(&stanch, "will not do (signal");
    put(stanch.place(), b"not a program at all");
    refused(&stanch, "cannot run");
    put(stanch.place(), b"#!/bin/sh\nexec sleep 600\n");
    refused(&stanch, "did not say within 10 s");
    fs::remove_file(stanch.place().program()).expect("it is there");
    refused(&stanch, "cannot find");
    stanch.place().link_program(own);
    upgrade(&stanch);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    stanch.stop_clean();
    verify(&stanch);
}

/// It passes its trial and cannot be executed afterwards: all was handed over by then.
#[test]
fn when_the_step_fails_the_old_one_goes_on() {
    let (mut stanch, address) = node(WORKERS, "");
    let load = Load::start(address, Style::Connect, CLIENTS);
    let own = env!("CARGO_BIN_EXE_stanch");
    let before = identities(&stanch);
    for (vanish, why) in [("chmod 644 \"$0\"", "denied"), ("echo >> \"$0\"", "replaced once more")]
    {
        let script = format!("#!/bin/sh\n{vanish}\nexec {own} \"$@\"\n");
        put(stanch.place(), script.as_bytes());
        refused(&stanch, why);
        load.wait_for(100);
    }
    assert_eq!(identities(&stanch), before);
    stanch.place().link_program(own.as_ref());
    upgrade(&stanch);
    let pid = before[0][2].as_i64().expect("it has one") as i32;
    kill(pid, Signal::SIGTERM);
    stanch.wait_until("its end is seen", |stanch| stanch.ready_after(0, 1));
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    stanch.stop_clean();
    verify(&stanch);
}

#[test]
fn a_config_file_that_says_something_else_is_reloaded_first() {
    let (mut stanch, _) = node(1, "");
    let path = stanch.place().file("stanch.toml");
    let text = fs::read_to_string(&path).expect("it is there");
    let changed = text.replace("timeout = \"5s\"", "timeout = \"6s\"");
    assert_ne!(changed, text);
    fs::write(&path, &changed).expect("it can be written");
    refused(&stanch, "health.timeout: 5s → 6s");
    fs::write(&path, changed.replace("[restart]", "[restart]\nnonsense = 1")).expect("it can be");
    refused(&stanch, "nonsense");
    fs::write(&path, &changed).expect("it can be written");
    let answer = stanch.command(&["reload"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    upgrade(&stanch);
    stanch.stop_clean();
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket can be made");
    manager.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    let place = Place::with_own_program()
        .with("NOTIFY_SOCKET", path.to_string_lossy())
        .with("WATCHDOG_USEC", "3000000");
    let address = free_address();
    let text = config(&Server::NodeHttp.app(address), 1, &[address], "");
    let mut stanch = Stanch::start_in(place, &text, Output::Log);
    let next = || {
        let mut text = [0; 4096];
        let length = manager.recv(&mut text).expect("it goes on speaking");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    // And what was told just before it.
    let wait_for = |what: &str| {
        let (end, mut before) = (Instant::now() + PATIENCE, String::new());
        while Instant::now() < end {
            let text = next();
            if text.lines().any(|line| line == what) {
                return [before, text];
            }
            before = text;
        }
        panic!("not told: {what}");
    };
    wait_for("READY=1");
    stanch.wait_ready(1);
    upgrade(&stanch);
    let [before, reloading] = wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    // Neither program is taken for stuck, however long it takes.
    assert_eq!([before, next()], ["WATCHDOG=1"; 2]);
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    stanch.stop_clean();
}

/// `cargo test --release --test upgrade -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, two minutes"]
fn a_hundred_upgrades_under_load() {
    const UPGRADES: usize = 100;
    for style in [Style::Connect, Style::KeepAlive] {
        let (mut stanch, address) = node(WORKERS, "");
        let before = identities(&stanch);
        let load = Load::start(address, style, 8);
        for _ in 0..UPGRADES {
            load.wait_for(50);
            upgrade(&stanch);
        }
        load.wait_for(200);
        let tally = load.stop();
        assert_eq!(identities(&stanch), before);
        let pause = |event: Value| event["figures"]["pause_ms"].as_f64().expect("a number");
        let mut pauses: Vec<f64> =
            events_of(&stanch, "supervisor_upgraded").into_iter().map(pause).collect();
        pauses.sort_by(f64::total_cmp);
        let middle = pauses[pauses.len() / 2];
        let most = pauses[pauses.len() - 1];
        println!(
            "{style:?}: {} upgrades, pause median {middle:.1} ms, most {most:.1} ms",
            pauses.len()
        );
        println!("{} requests answered, {} failed", tally.ok, tally.failed());
        assert_eq!((pauses.len(), tally.failed()), (UPGRADES, 0));
        stanch.stop_clean();
        verify(&stanch);
    }
}
