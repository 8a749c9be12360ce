//! Real servers, unmodified, under `stanch run`: what kills, hangs or leaks one worker of four does
//! not reach the clients.
//!
//! No connection is ever refused. Of a worker that is killed, the requests that it was just
//! answering are lost, at most one a client; of one that is replaced, none.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const WORKERS: usize = 4;
const CLIENTS: usize = 4;
const REQUEST: Duration = Duration::from_secs(20);

/// Four workers of a server, all ready, under load.
struct Scene {
    stanch: Stanch,
    address: SocketAddr,
    load: Load,
}

/// One worker as it was before something happened to it.
struct Victim {
    slot: u64,
    generation: u64,
    leader: i32,
    /// The process of its tree that answers requests.
    serving: i32,
}

impl Scene {
    fn new(server: Server) -> Self {
        let address = free_address();
        let app = server.app(address).toml("scene", 4);
        let mut stanch = Stanch::start(&format!(
            r#"{app}
            [listen]
            address = ["{address}"]
            mode = "takeover"
            [ready]
            when = "http"
            path = "/"
            [health]
            path = "/"
            interval = "500ms"
            timeout = "1s"
            failures = 3
            [memory]
            soft_limit = "200MiB"
            sample_interval = "250ms"
            [rolling]
            drain_timeout = "10s"
            cooldown = "1s"
            "#
        ));
        stanch.wait_ready(WORKERS);
        let load = Load::start(address, Style::Connect, CLIENTS);
        load.wait_for(100);
        Self { stanch, address, load }
    }

    /// The worker that answers on this connection.
    fn victim(&self, connection: &mut Connection) -> Victim {
        let serving = connection.get("/pid").expect("a worker answers").pid();
        let workers = self.stanch.workers();
        let leads = |pid: i32| workers.iter().find(|worker| worker["pid"] == pid);
        let worker = std::iter::successors(Some(serving), |&pid| parent(pid))
            .find_map(leads)
            .unwrap_or_else(|| panic!("pid {serving} answers, and belongs to none of {workers:?}"));
        let number = |key: &str| worker[key].as_u64().expect("slot and generation are numbers");
        let leader = worker["pid"].as_i64().expect("it has a pid");
        Victim {
            slot: number("slot"),
            generation: number("generation"),
            leader: i32::try_from(leader).expect("pids are small"),
            serving,
        }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address, REQUEST).expect("connects")
    }

    /// Waits for an event about this very worker.
    fn event_of(&mut self, victim: &Victim, kinds: &[&str]) -> Value {
        self.stanch.wait_until(&format!("{kinds:?} of slot {}", victim.slot), |stanch| {
            stanch.event(kinds, |event| {
                event["slot"] == victim.slot && event["generation"] == victim.generation
            })
        })
    }

    /// Waits until another worker stands ready in its place, and all four slots serve.
    fn replaced(&mut self, victim: &Victim) {
        let what = format!("a replacement in slot {}", victim.slot);
        let (slot, generation) = (victim.slot, victim.generation);
        self.stanch.wait_until(&what, |stanch| stanch.ready_after(slot, generation));
        self.stanch.wait_ready(WORKERS);
        let gone = self.stanch.workers().iter().all(|worker| worker["pid"] != victim.leader);
        assert!(gone, "status still shows the old worker of slot {slot}");
    }

    /// Ends the load and then the supervisor; no request may have been refused, and no more cut off
    /// than `cut`.
    fn end(mut self, cut: usize) {
        self.load.wait_for(100);
        let tally = self.load.stop();
        assert_eq!(tally.refused, 0, "{tally:?}");
        assert!(tally.failed() <= cut as u64, "more than {cut} failed: {tally:?}");
        self.stanch.stop_clean();
    }
}

/// An incident of this kind that names the slot.
fn incident(stanch: &mut Stanch, kind: &str, slot: u64) -> Value {
    stanch.wait_until(&format!("an incident `{kind}` of slot {slot}"), |stanch| {
        stanch.incidents().into_iter().find(|incident| {
            let slots = incident["slots"].as_array().expect("slots is a list");
            incident["kind"] == kind && slots.iter().any(|found| found == slot)
        })
    })
}

fn survives_sigkill(server: Server) {
    let mut scene = Scene::new(server);
    let victim = scene.victim(&mut scene.connect());
    kill(victim.leader, Signal::SIGKILL);
    let event = scene.event_of(&victim, &["worker_crashed"]);
    assert_eq!(event["cause"], "foreign_kill", "{event}");
    assert_eq!(event["pid"], victim.leader, "{event}");
    scene.replaced(&victim);
    incident(&mut scene.stanch, "crash", victim.slot);
    scene.end(CLIENTS);
}

fn survives_hang(server: Server) {
    let mut scene = Scene::new(server);
    let victim = scene.victim(&mut scene.connect());
    kill(victim.serving, Signal::SIGSTOP);
    scene.event_of(&victim, &["worker_hung"]);
    scene.replaced(&victim);
    wait_for_end(victim.serving);
    incident(&mut scene.stanch, "hang", victim.slot);
    scene.end(CLIENTS);
}

fn survives_leak(server: Server) {
    let mut scene = Scene::new(server);
    // One connection, so that one worker gets it all.
    let mut connection = scene.connect();
    let victim = scene.victim(&mut connection);
    for _ in 0..25 {
        // A worker that is being replaced already may close the connection.
        if connection.get("/leak?kib=10240").map_or(true, |response| response.last) {
            break;
        }
    }
    drop(connection);
    let seen = scene.event_of(&victim, &["memory_soft_limit", "leak_confirmed"]);
    let figures = seen["figures"].as_object().expect("figures is an object");
    assert!(!figures.is_empty(), "an intervention rests on figures: {seen}");
    scene.replaced(&victim);
    wait_for_end(victim.serving);

    // With overlap: its successor was ready before it was touched.
    let left = scene.event_of(&victim, &["drain_started", "worker_retired"]);
    let successor = Victim { generation: victim.generation + 1, ..victim };
    let ready = scene.event_of(&successor, &["worker_ready"]);
    assert!(ready["seq"].as_u64() < left["seq"].as_u64(), "ready {ready}, left {left}");
    scene.end(0);
}

/// A test a server and scenario: `gunicorn::survives_sigkill`.
macro_rules! scenarios {
    ($($name:ident: $server:expr,)*) => { $(
        mod $name {
            use super::Server;

            #[test]
            fn survives_sigkill() {
                super::survives_sigkill($server);
            }

            #[test]
            fn survives_hang() {
                super::survives_hang($server);
            }

            #[test]
            fn survives_leak() {
                super::survives_leak($server);
            }
        }
    )* };
}

scenarios! {
    node_http: Server::NodeHttp,
    node_express: Server::NodeExpress,
    gunicorn: Server::Gunicorn,
    uvicorn: Server::Uvicorn,
    go: Server::Go,
    python_http: Server::PythonHttp,
}

/// A worker hangs for a while, and no other can be started meanwhile: it is not given up for well, and has its
/// connections again when it answers.
fn comes_back(workers: usize) {
    let (place, address) = (Place::new(), free_address());
    let broken = place.file("broken");
    let server = Server::PythonHttp.app(address).command.join(" ");
    let script = format!("test ! -e {} || exit 3; exec {server}", broken.display());
    let app = App::new(["sh", "-c", &script]).toml("scene", workers as u32);
    let config = format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        mode = "takeover"
        [health]
        path = "/"
        interval = "100ms"
        timeout = "500ms"
        failures = 2
        [restart]
        backoff_max = "100ms"
        "#
    );
    let mut stanch = Stanch::start_in(place, &config, Output::Log);
    stanch.wait_ready(workers);
    let pid = stanch.workers()[0]["pid"].as_i64().expect("it has a pid") as i32;
    std::fs::write(&broken, "").expect("can be written");
    kill(pid, Signal::SIGSTOP);
    let of = |stanch: &Stanch, kind: &str| {
        stanch.events().into_iter().filter(|event| event["kind"] == kind).count()
    };
    // The probes between two tries find it as it is.
    stanch.wait_until("it is tried three times", |stanch| {
        (of(stanch, "roll_aborted") >= 3).then_some(())
    });
    assert_eq!(of(&stanch, "worker_ready"), workers, "nobody is well");

    kill(pid, Signal::SIGCONT);
    stanch.wait_until("it is well", |stanch| {
        stanch.event(&["worker_ready"], |event| {
            event["pid"] == pid && event["reason"] == "answers its probes again"
        })
    });
    stanch.wait_until("it serves", |_| {
        let response = get(address, "/", REQUEST).ok()?;
        (response.pid() == pid).then_some(())
    });
    std::fs::remove_file(&broken).expect("it is there");
    let restarted = stanch.command(&["restart"]);
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    assert_ne!(get(address, "/", REQUEST).expect("it answers").pid(), pid);
    stanch.stop_clean();
}

#[test]
fn the_only_one_that_hangs_comes_back() {
    comes_back(1);
}

#[test]
fn one_of_two_that_hangs_comes_back() {
    comes_back(2);
}

/// Python's server, which says that it is unwell when told so by pid, and dies of SIGTERM.
const FRANK: &str = r#"
import os, pathlib, sys
host, port, folder, servers = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4]
sys.path.insert(0, servers)
import server

class Handler(server.Handler):
    def do_GET(self):
        if self.path == "/" and (folder / f"unwell-{os.getpid()}").exists():
            return self.send_error(503)
        if self.path.startswith("/slow"):
            with open(folder / "begun", "a") as begun:
                begun.write(".")
        super().do_GET()

server.Server((host, port), Handler).serve_forever()
"#;

#[test]
fn requests_of_a_worker_that_says_that_it_is_unwell_are_finished() {
    let (place, address) = (Place::new(), free_address());
    let script = place.file("frank.py");
    std::fs::write(&script, FRANK).expect("can be written");
    let folder = script.parent().expect("it is in a folder").to_owned();
    let paths = [&script, &folder, &servers().join("python-http")];
    let [script, folder_name, python] = paths.map(|path| path.display().to_string());
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let app = App::new(["python3", &script, &host, &port, &folder_name, &python]).toml("scene", 2);
    let config = format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        mode = "takeover"
        [health]
        path = "/"
        interval = "100ms"
        timeout = "5s"
        failures = 2
        "#
    );
    let mut stanch = Stanch::start_in(place, &config, Output::Log);
    stanch.wait_ready(2);
    let slow: Vec<_> = (0..12)
        .map(|_| std::thread::spawn(move || get(address, "/slow?ms=2000", REQUEST)))
        .collect();
    stanch.wait_until("all are being answered", |_| {
        let begun = std::fs::read(folder.join("begun")).ok()?;
        (begun.len() == slow.len()).then_some(())
    });
    for worker in stanch.workers() {
        std::fs::write(folder.join(format!("unwell-{}", worker["pid"])), "").expect("is writable");
    }
    let answers: Vec<_> =
        slow.into_iter().map(|one| one.join().expect("it does not panic")).collect();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    stanch.wait_until("both are replaced", |stanch| {
        let retired = |event: &&Value| event["kind"] == "worker_retired";
        (stanch.events().iter().filter(retired).count() == 2).then_some(())
    });
    assert!(stanch.event(&["worker_hung"], |_| true).is_some());
    assert!(stanch.event(&["drain_cut_connections"], |_| true).is_none());
    stanch.stop_clean();
}
