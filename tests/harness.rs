//! The test harness itself: the servers answer as promised, and the clients count what goes wrong.

mod common;

use common::*;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A server without a supervisor.
struct Bare(Child);

impl Bare {
    fn start(app: &App) -> Self {
        let mut command = Command::new(&app.command[0]);
        command.args(&app.command[1..]).envs(app.environment.iter().cloned());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("the server starts"))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("pids are positive")
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // A hung one too: gunicorn's worker notices that its master is gone unless it is stopped.
        for pid in children(self.pid()) {
            kill(pid, Signal::SIGKILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

fn started(server: Server) -> (Bare, SocketAddr) {
    let address = free_address();
    let bare = Bare::start(&server.app(address));
    wait_until(PATIENCE, "the server answers", || get(address, "/", 5 * SECOND).ok());
    (bare, address)
}

#[test]
fn servers_keep_their_promises() {
    for server in Server::ALL {
        let (bare, address) = started(server);
        let pid = get(address, "/", 5 * SECOND).expect("answers /").pid();
        assert!(pid == bare.pid() || parent(pid) == Some(bare.pid()), "{server:?}: {pid}");

        let mut connection = Connection::open(address, 5 * SECOND).expect("connects");
        for path in ["/pid", "/slow?ms=20", "/leak?kib=1"] {
            assert_eq!(connection.get(path).expect(path).pid(), pid, "{server:?} keeps alive");
        }
        assert_eq!(connection.get("/nowhere").expect("answers").status, 404, "{server:?}");

        let before = resident_peak_kib(pid);
        connection.get("/leak?kib=65536").expect("leaks");
        let grown = resident_peak_kib(pid) - before;
        assert!(grown > 60_000, "{server:?} leaked 64 MiB and grew by {grown} KiB");
    }
}

#[test]
fn servers_hang_when_told() {
    for server in Server::ALL {
        let (_bare, address) = started(server);
        assert_eq!(get(address, "/hang", SECOND / 2), Err(Fault::Timeout), "{server:?}");
        assert_eq!(get(address, "/", SECOND / 2), Err(Fault::Timeout), "{server:?}");
    }
}

#[test]
fn servers_finish_their_requests_on_sigterm() {
    for server in Server::ALL {
        let (mut bare, address) = started(server);
        let mut connection = Connection::open(address, 10 * SECOND).expect("connects");
        connection.send("/slow?ms=1000", Style::Connect).expect("sends");
        // An answer that comes after it shows that the slow request has been taken up.
        get(address, "/slow?ms=300", 5 * SECOND).expect("answers");
        kill(bare.pid(), Signal::SIGTERM);
        assert_eq!(connection.receive().expect("finished").status, 200, "{server:?}");
        wait_until(PATIENCE, "the server has ended", || bare.0.try_wait().expect("our child"));
    }
}

#[test]
fn load_counts_what_goes_well() {
    for style in [Style::Connect, Style::KeepAlive] {
        let (_bare, address) = started(Server::NodeHttp);
        let load = Load::start(address, style, 2);
        load.wait_for(50);
        let tally = load.stop();
        assert!(tally.ok >= 50 && tally.failed() == 0, "{style:?}: {tally:?}");
    }
}

#[test]
fn a_place_takes_its_processes_with_it() {
    let place = Place::new();
    let mark = place.path().to_owned();
    // A child that changes its session and loses its parent.
    let mut shell = Command::new("sh");
    shell.args(["-c", "setsid sleep 3600 & exit"]).env("STANCH_TEST", &mark);
    assert!(shell.status().expect("sh runs").success());
    let found = wait_until(PATIENCE, "the stray is seen", || {
        Some(place.processes()).filter(|found| !found.is_empty())
    });
    drop(place);
    for pid in found {
        assert!(!alive(pid), "{pid} outlived its place");
    }
}
