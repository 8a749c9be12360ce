//! stanch as PID 1 of a container: a PID namespace of its own, a root that cannot be written, a user that
//! no database knows. No shim is in between: it reaps what the workers leave to it, and takes the signals.

mod common;

use common::*;
use nix::sys::signal::Signal;
use std::fs;

/// The user of [`world::CONTAINER`].
const USER: u32 = 12345;

/// Answers requests; with `/orphans?count=N` it leaves so many dead grandchildren to PID 1, and SIGUSR2 makes
/// it write a file.
const SERVER: &str = r#"
import http.server, os, signal, sys, urllib.parse
def note(*_):
    open(sys.argv[2], "a").write("USR2\n")
signal.signal(signal.SIGUSR2, note)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("count", ["0"])
        for _ in range(int(wanted[0]) // 100):
            child = os.fork()
            if child == 0:
                for _ in range(100):
                    if os.fork() == 0:
                        os._exit(0)
                os._exit(0)
            os.waitpid(child, 0)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// Two workers in a container; the pid of stanch there, as it is outside.
fn container() -> Option<(Stanch, std::net::SocketAddr, i32)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    let (place, address) = (Place::confined(world::CONTAINER, USER), free_address());
    let (script, told) = (place.file("server.py"), place.file("told"));
    fs::write(&script, SERVER).expect("can be written");
    let (script, told) = (script.to_string_lossy(), told.to_string_lossy());
    let app = App::new(["python3", &script, &address.port().to_string(), &told]).toml("pid1", 2);
    let config = format!("{app}\n[listen]\naddress = [\"{address}\"]\n");
    let mut stanch = Stanch::start_in(place, &config, Output::Log);
    stanch.wait_ready(2);
    let shell = stanch.pid();
    let first = children(shell).into_iter().next().expect("it runs");
    Some((stanch, address, first))
}

fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let listed = threads.map(|thread| fs::read_to_string(thread.path().join("children")));
    let listed: Vec<String> = listed.flatten().collect();
    listed.iter().flat_map(|pids| pids.split_whitespace()).flat_map(str::parse).collect()
}

fn zombies(parent: i32) -> usize {
    let is_zombie = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
    };
    children(parent).iter().filter(|pid| is_zombie(pid)).count()
}

#[test]
fn ten_thousand_orphans_are_reaped_and_supervision_goes_on() {
    const ORPHANS: usize = 10_000;
    let Some((mut stanch, address, first)) = container() else { return };
    // Stopped, so that all of them are there at once.
    kill(first, Signal::SIGSTOP);
    let asked = get(address, &format!("/?count={ORPHANS}"), std::time::Duration::from_secs(300));
    asked.expect("a worker serves on its own");
    assert!(zombies(first) >= ORPHANS, "{}", zombies(first));
    kill(first, Signal::SIGCONT);
    stanch.wait_until("all are reaped", |_| (zombies(first) == 0).then_some(()));
    let worker = children(first).into_iter().next().expect("one lives");
    kill(worker, Signal::SIGKILL);
    let again = |stanch: &Stanch| stanch.ready_after(0, 1).or(stanch.ready_after(1, 1));
    stanch.wait_until("the crash is seen", again);
    kill(first, Signal::SIGTERM);
    assert_eq!(stanch.wait_end().code(), Some(0));
}

#[test]
fn a_roll_in_a_container_loses_nothing() {
    let Some((stanch, address, _)) = container() else { return };
    let load = Load::start(address, Style::Connect, 2);
    load.wait_for(50);
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
}

#[test]
fn signals_reach_those_they_are_for() {
    let Some((mut stanch, address, first)) = container() else { return };
    kill(first, Signal::SIGUSR2);
    let told = stanch.place().file("told");
    stanch.wait_until("both workers have it", |_| {
        (fs::read_to_string(&told).unwrap_or_default().lines().count() == 2).then_some(())
    });
    get(address, "/", std::time::Duration::from_secs(10)).expect("they live on");
    // What images of web servers have as their stop signal.
    kill(first, Signal::SIGQUIT);
    let status = stanch.wait_end();
    assert_eq!(status.code(), Some(0), "{status}");
    let asked = stanch.event(&["operator_command"], |event| {
        event["reason"].as_str().is_some_and(|reason| reason.contains("SIGQUIT"))
    });
    assert!(asked.is_some(), "{:?}", stanch.events());
}
