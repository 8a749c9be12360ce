//! Readiness and signs of life by `sd_notify`: of the workers to stanch, and of stanch to a service
//! manager.

mod common;

use common::*;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// Writes down where it was told to speak to; says that it is ready when the file `ready` comes, by a
/// grandchild whose parent has died; pings, but not in its first life once the file `silent` is there.
const WORKER: &str = r#"
import os, socket, subprocess, sys, time
name = os.environ["NOTIFY_SOCKET"]
first = os.environ["STANCH_GENERATION"] == "1"
speaker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text):
    speaker.sendto(text.encode(), "\0" + name[1:])
with open("address.part", "w") as file:
    file.write(name + " " + os.environ.get("WATCHDOG_USEC", ""))
os.rename("address.part", "address")
say("STATUS=warming up\x1b[31m\nMAINPID=1")
while not os.path.exists("ready"):
    time.sleep(0.01)
if os.fork() == 0:
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.001)
        say("READY=1\nSTATUS=at your service")
        time.sleep(3600)
    os._exit(0)
os.wait()
while True:
    if not (first and os.path.exists("silent")):
        say("WATCHDOG=1")
    time.sleep(0.05)
"#;

fn config(more: &str) -> String {
    format!(
        "[app]\nname = \"told\"\ncommand = [\"python3\", \"-c\", '''{WORKER}''']\n\
         [listen]\nmode = \"none\"\n[ready]\nwhen = \"notify\"\n{more}\n"
    )
}

fn address(stanch: &Stanch) -> Option<(String, String)> {
    let text = fs::read_to_string(stanch.place().file("address")).ok()?;
    let (name, watchdog) = text.split_once(' ')?;
    Some((name.to_owned(), watchdog.to_owned()))
}

fn touch(stanch: &Stanch, name: &str) {
    fs::write(stanch.place().file(name), "").expect("the folder can be written");
}

#[test]
fn a_worker_is_ready_when_it_says_so_and_nobody_can_say_it_for_it() {
    let mut stanch = Stanch::start(&config(""));
    let (name, watchdog) = stanch.wait_until("the worker has an address", address);
    assert_eq!(watchdog, "", "nobody asks it to ping");
    let said = |stanch: &Stanch, text: &str| {
        let workers = stanch.workers();
        (workers.first()?["status_text"] == text).then(|| workers[0]["state"].clone())
    };
    let state = stanch.wait_until("its status", |stanch| said(stanch, "warming up [31m"));
    assert_eq!(state, "starting");
    let log = stanch.place().log();
    assert!(log.contains("MAINPID refused"), "{log}");

    let abstract_name = name.strip_prefix('@').expect("a name that every mount namespace has");
    let to = SocketAddr::from_abstract_name(abstract_name).expect("it is a name");
    let stranger = UnixDatagram::unbound().expect("a descriptor is free");
    stranger.send_to_addr(b"READY=1\nSTATUS=trust me", &to).expect("anybody can send");
    stanch.wait_until("the stranger was seen", |stanch| {
        stanch.place().log().contains("no worker's process").then_some(())
    });
    assert_eq!(said(&stanch, "warming up [31m").expect("not the stranger's"), "starting");

    touch(&stanch, "ready");
    stanch.wait_ready(1);
    stanch.wait_until("what its orphan said", |stanch| said(stanch, "at your service"));
    let table = stanch.command(&["status"]);
    assert!(table.stdout.contains("worker 0.1 says: at your service"), "{}", table.stdout);
    stanch.stop_clean();
}

#[test]
fn a_worker_that_stops_pinging_is_replaced() {
    let place = Place::new();
    fs::write(place.file("ready"), "").expect("the folder can be written");
    let health =
        "[health]\nwatchdog = \"2s\"\n[rolling]\ncooldown = \"0s\"\ndrain_timeout = \"1s\"";
    let mut stanch = Stanch::start_in(place, &config(health), Output::Log);
    stanch.wait_ready(1);
    let (_, watchdog) = address(&stanch).expect("it is running");
    assert_eq!(watchdog, "2000000");
    touch(&stanch, "silent");
    let event = stanch.wait_until("hung", |stanch| stanch.event(&["worker_hung"], |_| true));
    assert_eq!(event["reason"], "did not ping (WATCHDOG=1) within 2 s");
    assert!(event["figures"]["silent_s"].as_f64() >= Some(2.0), "{event}");
    stanch.wait_until("replaced", |stanch| stanch.ready_after(0, 1));
    stanch.wait_ready(1);
    let hung = stanch.events().iter().filter(|event| event["kind"] == "worker_hung").count();
    assert_eq!(hung, 1, "its replacement pings");
    stanch.stop_clean();
}

/// A service manager, as far as stanch can tell.
struct Systemd(UnixDatagram);

impl Systemd {
    /// Reads on until something that was said fits.
    #[track_caller]
    fn hears(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(text) = self.next(Duration::from_secs(1)).filter(|text| fits(text)) {
                return text;
            }
        }
        panic!("never said: {what}");
    }

    /// The next thing said within this time.
    fn next(&self, within: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(within)).expect("a timeout that is not 0");
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).expect("UTF-8"))
    }
}

#[track_caller]
fn serves_a_service_manager(socket: UnixDatagram, name: OsString, place: Place) {
    const WATCHDOG: Duration = Duration::from_millis(400);
    let systemd = Systemd(socket);
    let place = place
        .with("NOTIFY_SOCKET", name.to_str().expect("the name is UTF-8"))
        .with("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    let mut stanch =
        Stanch::start_in(place, &config("[rolling]\ndrain_timeout = \"1s\""), Output::Log);
    systemd.hears("pings while it starts", |text| text == "WATCHDOG=1");
    let (own, watchdog) = stanch.wait_until("the worker has an address", address);
    assert_ne!(
        own,
        name.to_str().expect("the name is UTF-8"),
        "the manager's socket is stanch's alone"
    );
    assert_eq!(watchdog, "", "and so is the manager's watchdog");
    touch(&stanch, "ready");
    let first = systemd.hears("ready, or more", |text| {
        text == "READY=1"
            || (text.starts_with("STATUS=") && !text.starts_with("STATUS=starting: 0 of 1"))
    });
    assert_eq!(first, "READY=1", "ready before any other news");
    systemd.hears("a status", |text| text == "STATUS=running: 1 of 1 workers ready");

    systemd.hears("a ping", |text| text == "WATCHDOG=1");
    kill(stanch.pid(), Signal::SIGSTOP);
    // What was said before is read; then there must be nothing.
    while systemd.next(WATCHDOG * 3).is_some() {}
    kill(stanch.pid(), Signal::SIGCONT);
    systemd.hears("a ping after all", |text| text == "WATCHDOG=1");

    let worker = stanch.workers()[0]["pid"].as_i64().expect("it runs");
    kill(i32::try_from(worker).expect("pids are small"), Signal::SIGKILL);
    systemd.hears("an incident", |text| text.ends_with("; 1 open incident"));
    kill(stanch.pid(), Signal::SIGTERM);
    systemd.hears("the end", |text| text == "STOPPING=1");
    assert!(stanch.wait_end().success());
}

#[test]
fn stanch_tells_a_service_manager_at_a_path() {
    let place = Place::new();
    let path = place.file("systemd");
    let socket = UnixDatagram::bind(&path).expect("the folder can be written");
    serves_a_service_manager(socket, path.into(), place);
}

#[test]
fn stanch_tells_a_service_manager_of_an_abstract_name() {
    let name = format!("stanch-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("it is a name");
    let socket = UnixDatagram::bind_addr(&address).expect("nobody else has it");
    serves_a_service_manager(socket, format!("@{name}").into(), Place::new());
}
