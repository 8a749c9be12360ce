//! A service manager that keeps stanch's sockets: what waits in them outlives stanch and all its workers.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

/// systemd, as far as stanch can tell: starts its arguments for each line that it reads, with what the one
/// before has sent to be kept, and closes what reports a hang-up. `main` has the pid, `store` the names.
const SYSTEMD: &str = r#"
import fcntl, os, select, socket, sys
place = os.environ["STANCH_TEST"] + "/"
inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
inbox.bind(place + "systemd")
os.environ["NOTIFY_SOCKET"] = place + "systemd"
store, child = {}, None
poll = select.poll()
poll.register(inbox, select.POLLIN)
poll.register(0, select.POLLIN)
def write(name, text):
    with open(place + name + ".part", "w") as file:
        file.write(text)
    os.rename(place + name + ".part", place + name)
def told():
    text, passed, _, _ = socket.recv_fds(inbox, 4096, 16)
    words = dict(line.split("=", 1) for line in text.decode().splitlines())
    name = words.get("FDNAME")
    if "FDSTORE" in words and name not in store:
        store[name] = passed.pop()
        poll.register(store[name], 0)
    if "FDSTOREREMOVE" in words:
        forget(name)
    for fd in passed:
        os.close(fd)
def forget(name):
    if name in store:
        poll.unregister(store[name])
        os.close(store.pop(name))
def start():
    write("main", str(os.getpid()))
    # Out of the way of each other first.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for fd in store.values()]
    for number, fd in enumerate(high):
        os.dup2(fd, 3 + number, inheritable=True)
    if store:
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(store))
        os.environ["LISTEN_FDNAMES"] = ":".join(store)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.execvp(sys.argv[1], sys.argv[1:])
while True:
    for fd, events in poll.poll():
        if fd == inbox.fileno():
            told()
        elif fd == 0:
            if not os.read(0, 1):
                sys.exit()
            if child:
                os.waitpid(child, 0)
            child = os.fork()
            if not child:
                start()
        else:
            forget(next(name for name, kept in store.items() if kept == fd))
    write("store", " ".join(sorted(store)))
"#;

const REQUEST: Duration = Duration::from_secs(30);

/// A supervisor whose service manager this is.
struct Managed {
    place: Place,
    systemd: Child,
    starts: ChildStdin,
}

impl Managed {
    /// Starts it, in front of it a command that executes it.
    fn start(config: &str, before: &[&str]) -> Self {
        let place = Place::new();
        let file = place.write_config(config);
        let log = fs::File::create(place.file("log")).expect("the log can be written");
        let mut command = match before {
            [] => place.stanch_in(SYSTEMD, &[]),
            [program, arguments @ ..] => {
                let mut command = world::confined(SYSTEMD, program);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_stanch"));
                command.env("STANCH_TEST", place.path());
                command
            }
        };
        command.args(["run", "--config"]).arg(file).stdin(Stdio::piped());
        command.stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
        let mut systemd = command.spawn().expect("python3 starts");
        let starts = systemd.stdin.take().expect("piped");
        let mut managed = Self { place, systemd, starts };
        managed.start_again();
        managed
    }

    /// Has it started again; only behind its death.
    fn start_again(&mut self) {
        self.starts.write_all(b"\n").expect("systemd lives");
    }

    fn pid(&self) -> i32 {
        let read = || fs::read_to_string(self.place.file("main")).ok()?.parse().ok();
        wait_until(PATIENCE, "its pid", read)
    }

    fn workers(&self) -> Vec<Value> {
        let status = answer(
            self.place.stanch(&["status", "--json"]).arg("--socket").arg(self.place.socket()),
        );
        let status: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        status["workers"].as_array().cloned().unwrap_or_default()
    }

    /// The pids of the workers, when so many are ready.
    #[track_caller]
    fn ready(&self, many: usize) -> Vec<i32> {
        wait_until(PATIENCE, "its workers are ready", || {
            let workers = self.workers();
            let ready = workers.iter().all(|worker| worker["state"] == "ready");
            let pid = |worker: &Value| i32::try_from(worker["pid"].as_i64()?).ok();
            (ready && workers.len() == many).then(|| workers.iter().filter_map(pid).collect())
        })
    }

    /// The names of what is kept, when they are as they shall be.
    #[track_caller]
    fn store(&self, what: &str, fits: impl Fn(&BTreeSet<String>) -> bool) -> BTreeSet<String> {
        wait_until(PATIENCE, what, || {
            let names = fs::read_to_string(self.place.file("store")).ok()?;
            let names = names.split_whitespace().map(str::to_owned).collect();
            fits(&names).then_some(names)
        })
    }

    /// All are killed, and nobody is there any more; stanch first, so that it starts nobody.
    fn kill_all(&self, workers: &[i32]) {
        let own = self.pid();
        kill(own, Signal::SIGKILL);
        wait_for_end(own);
        for worker in workers {
            kill(*worker, Signal::SIGKILL);
            wait_for_end(*worker);
        }
    }

    fn stop(&self) {
        let own = self.pid();
        kill(own, Signal::SIGTERM);
        wait_for_end(own);
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        let _ = self.systemd.kill();
        let _ = self.systemd.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.place.log());
        }
    }
}

fn config(app: &App, workers: u32, listen: &str) -> String {
    let app = app.toml("kept", workers);
    format!(
        "{app}\n[listen]\n{listen}\n[ready]\ntimeout = \"20s\"\n\
         [rolling]\nslow_start = \"0s\"\ncooldown = \"0s\"\ndrain_timeout = \"5s\"\n"
    )
}

#[test]
fn who_waits_is_served_though_stanch_and_all_workers_were_killed() {
    let address = free_address();
    let app = Server::NodeHttp.app(address);
    let listen = format!("address = \"{address}\"");
    let mut managed = Managed::start(&config(&app, 2, &listen), &[]);
    let old = managed.ready(2);
    let kept = managed.store("both sockets are kept", |names| names.len() == 2);
    managed.kill_all(&old);

    let mut clients: Vec<Connection> =
        (0..20).map(|_| Connection::open(address, REQUEST).expect("it waits")).collect();
    for client in &mut clients {
        client.send("/", Style::Connect).expect("it waits");
    }
    managed.start_again();
    for client in &mut clients {
        let pid = client.receive().expect("it was not forgotten").pid();
        assert!(!old.contains(&pid), "{pid} was killed");
    }
    let new = managed.ready(2);
    assert_eq!(managed.store("the same are kept", |names| names.len() == 2), kept);
    for worker in &new {
        let environ = fs::read(format!("/proc/{worker}/environ")).expect("it lives");
        let environ = String::from_utf8_lossy(&environ).into_owned();
        assert!(!environ.contains("LISTEN_") && !environ.contains("NOTIFY_SOCKET=/"), "{environ}");
    }

    // A roll makes members more, which stay for the next one.
    let answer = answer(managed.place.stanch(&["restart", "--socket"]).arg(managed.place.socket()));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    managed.store("those of the roll are kept", |names| names.len() > 2);
    managed.stop();
    managed.store("nothing is kept beyond an orderly end", BTreeSet::is_empty);
    assert_eq!(Connection::open(address, REQUEST).err(), Some(Fault::Refused));
}

/// Without the store this host could only replace them by new ones on other sockets.
#[test]
fn sockets_of_workers_that_live_need_not_be_taken_from_them() {
    let address = free_address();
    let app = Server::NodeHttp.app(address);
    let listen = format!("address = \"{address}\"");
    let python = ["python3", "-c", world::WITHOUT_GETFD];
    let mut managed = Managed::start(&config(&app, 2, &listen), &python);
    let old = managed.ready(2);
    managed.store("both sockets are kept", |names| names.len() == 2);
    let load = Load::start(address, Style::Connect, 3);
    load.wait_for(50);
    managed.kill_all(&[]);
    load.wait_for(50);
    managed.start_again();
    wait_until(PATIENCE, "they are replaced", || {
        let workers = managed.workers();
        let is_new =
            |worker: &Value| worker["pid"].as_i64().is_some_and(|pid| !old.contains(&(pid as i32)));
        (workers.len() == 2 && workers.iter().all(is_new)).then_some(())
    });
    managed.ready(2);
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    assert!(!managed.place.log().contains("cannot be taken back"), "they were not taken");
    managed.stop();
}

#[test]
fn paths_are_kept_and_what_is_not_configured_any_more_is_let_go() {
    let [old_address, new_address] = [free_address(), free_address()];
    let script = servers().join("listen/server.js");
    let app = App::new(["node", &script.to_string_lossy(), "fd:3", "fd:4"]);
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let path = place.path().join("kept.sock");
    let listen = |address: SocketAddr| {
        format!("mode = \"inherit\"\naddress = [\"{address}\", \"unix:{}\"]", path.display())
    };
    let mut managed = Managed::start(&config(&app, 1, &listen(old_address)), &[]);
    let old = managed.ready(1);
    let kept = managed.store("both are kept", |names| names.len() == 2);
    managed.kill_all(&old);
    let mut client = ask(&path);
    managed.place.write_config(&config(&app, 1, &listen(new_address)));
    managed.start_again();
    let mut said = String::new();
    client.read_to_string(&mut said).expect("it was not forgotten");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    managed.ready(1);
    let now = managed.store("the new one too", |names| names.len() == 2 && *names != kept);
    assert_eq!(now.intersection(&kept).count(), 1, "the path's: {kept:?}, then {now:?}");
    assert_eq!(Connection::open(old_address, REQUEST).err(), Some(Fault::Refused));
    get(new_address, "/", REQUEST).expect("it serves");
    managed.stop();
}

fn ask(path: &Path) -> UnixStream {
    let mut client = UnixStream::connect(path).expect("it waits");
    client.set_read_timeout(Some(REQUEST)).expect("it is ours");
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it waits");
    client
}
