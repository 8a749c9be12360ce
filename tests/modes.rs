//! Every way in which a worker gets its sockets, with real servers, through `stanch run`: ready,
//! answering, and replaced under load without a failed connection.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(20);

/// The server of `tests/servers/listen`.
fn node(places: &[&str]) -> App {
    let script = servers().join("listen/server.js");
    let mut app = App::new(["node", script.to_str().expect("the path is UTF-8")]);
    app.command.extend(places.iter().map(|place| (*place).to_owned()));
    app
}

/// Starts it with a `[listen]` section and waits until all workers are ready.
fn start(app: &App, workers: u32, listen: &str) -> Stanch {
    let app = app.toml("modes", workers);
    let mut stanch = Stanch::start(&format!(
        "{app}\n[listen]\n{listen}\n[rolling]\ndrain_timeout = \"10s\"\ncooldown = \"0s\"\n"
    ));
    stanch.wait_ready(workers as usize);
    stanch
}

fn at(address: &SocketAddr, mode: &str) -> String {
    format!("address = \"{address}\"\nmode = \"{mode}\"")
}

/// The pids of the leaders, by slot.
fn leaders(stanch: &Stanch) -> BTreeMap<u64, i64> {
    let number = |value: &Value| value.as_i64().expect("a ready worker has it");
    let workers = stanch.workers();
    workers.iter().map(|row| (number(&row["slot"]) as u64, number(&row["pid"]))).collect()
}

#[track_caller]
fn restart(stanch: &mut Stanch) {
    let before = leaders(stanch);
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    stanch.wait_ready(before.len());
    let after = leaders(stanch);
    assert!(before.iter().all(|(slot, pid)| after[slot] != *pid), "{before:?} to {after:?}");
}

/// Replaces all workers while clients connect; no connection may fail, to any of the addresses.
#[track_caller]
fn rolls_under_load(mut stanch: Stanch, addresses: &[SocketAddr]) {
    let loads = addresses.iter().map(|address| Load::start(*address, Style::Connect, 3));
    let loads: Vec<Load> = loads.collect();
    loads.iter().for_each(|load| load.wait_for(50));
    restart(&mut stanch);
    loads.iter().for_each(|load| load.wait_for(50));
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.failed(), 0, "{tally:?}");
    }
    stanch.stop_clean();
}

/// A free port on the IPv6 loopback, and on all other addresses.
fn free_port() -> u16 {
    loop {
        let port = free_address().port();
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

/// The pids that answer, over several connections.
fn answering(address: SocketAddr) -> BTreeSet<i32> {
    (0..64).map(|_| get(address, "/", REQUEST).expect("it answers").pid()).collect()
}

fn listener(stanch: &Stanch, address: &str) -> Value {
    let status = stanch.status();
    let listeners = status["listeners"].as_array().expect("listeners is a list").clone();
    let found = listeners.iter().find(|listener| listener["address"] == address);
    found.unwrap_or_else(|| panic!("no {address} in {listeners:?}")).clone()
}

mod inherit {
    use super::*;

    fn app_of(server: Server, address: SocketAddr) -> App {
        let mut app = server.app(address);
        let bind = app.command.iter().position(|word| word == "--bind");
        if let Some(bind) = bind {
            app.command.drain(bind..bind + 2);
        }
        if let Some(host) = app.command.iter().position(|word| word == "--host") {
            app.command.splice(host..host + 4, ["--fd".to_owned(), "3".to_owned()]);
        }
        app
    }

    fn rolls(app: &App, address: SocketAddr) {
        let stanch = start(app, 2, &at(&address, "inherit"));
        assert_eq!(listener(&stanch, &address.to_string())["mode"], "inherit");
        assert_eq!(answering(address).len(), 2, "both workers get connections");
        rolls_under_load(stanch, &[address]);
    }

    #[test]
    fn gunicorn_rolls() {
        let address = free_address();
        let app = app_of(Server::Gunicorn, address);
        assert!(!app.command.join(" ").contains(&address.to_string()));
        rolls(&app, address);
    }

    #[test]
    fn uvicorn_rolls() {
        let address = free_address();
        rolls(&app_of(Server::Uvicorn, address), address);
    }

    #[test]
    fn node_rolls() {
        rolls(&node(&["fd:3"]), free_address());
    }

    /// One request over the path.
    fn ask(path: &Path) -> std::io::Result<i32> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(REQUEST))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let last = answer.lines().filter_map(|line| line.trim().parse().ok()).next_back();
        last.ok_or_else(|| std::io::Error::other(format!("no pid in {answer:?}")))
    }

    #[test]
    fn a_path_is_shared_and_rolls() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.sock");
        let listen = format!("address = \"unix:{}\"\nmode = \"inherit\"", path.display());
        let mut stanch = start(&node(&["fd:3"]), 2, &listen);
        let shown = listener(&stanch, &format!("unix:{}", path.display()));
        assert!(shown["queued"].is_null(), "{shown}");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut pids = BTreeSet::new();
                while !stop.load(Ordering::Relaxed) {
                    pids.insert(ask(&path)?);
                }
                std::io::Result::Ok(pids)
            });
            let before: BTreeSet<i64> = leaders(&stanch).into_values().collect();
            restart(&mut stanch);
            // Only the new ones are left to answer.
            let pid = ask(&path).expect("it answers");
            stop.store(true, Ordering::Relaxed);
            let pids = client.join().expect("no panic").expect("no request fails");
            assert!(!before.contains(&i64::from(pid)), "{pid} was to be replaced");
            assert!(!pids.is_empty());
        });
        stanch.stop_clean();
        assert!(!path.exists(), "removed at the end");
    }
}

mod port {
    use super::*;

    #[test]
    fn each_slot_has_its_own() {
        let (first, second) = loop {
            let first = free_address();
            let second = SocketAddr::new(first.ip(), first.port() + 1);
            if TcpListener::bind(second).is_ok() {
                break (first, second);
            }
        };
        let mut stanch = start(&node(&["env:PORT"]), 2, &at(&first, "port"));
        let serves = |stanch: &Stanch| {
            let pids = leaders(stanch);
            for (slot, address) in [(0, first), (1, second)] {
                let pid = get(address, "/", REQUEST).expect("it answers").pid();
                assert_eq!(i64::from(pid), pids[&slot], "slot {slot} on {address}");
            }
        };
        serves(&stanch);
        assert_eq!(listener(&stanch, &second.to_string())["mode"], "port");
        let _kept = Connection::open(second, REQUEST).expect("connects");
        stanch.wait_until("the connection of slot 1 is counted", |stanch| {
            let of = |slot: usize| stanch.workers().get(slot)?["connections"].as_u64();
            (of(0) == Some(0) && of(1) == Some(1)).then_some(())
        });
        drop(_kept);
        restart(&mut stanch);
        serves(&stanch);
        stanch.stop_clean();
    }
}

mod none {
    use super::*;

    #[test]
    fn a_program_that_does_not_listen_is_restarted() {
        let app = App::new(["sleep", "100000"]);
        let mut stanch = start(&app, 2, "mode = \"none\"");
        let before = leaders(&stanch);
        restart(&mut stanch);
        for pid in before.into_values() {
            wait_for_end(i32::try_from(pid).expect("pids are small"));
        }
        stanch.stop_clean();
    }

    #[test]
    fn a_server_that_binds_by_itself_is_restarted() {
        let address = free_address();
        let app = Server::NodeHttp.app(address);
        let mut stanch = start(&app, 1, &at(&address, "none"));
        let before = get(address, "/pid", REQUEST).expect("it answers").pid();
        restart(&mut stanch);
        let after = get(address, "/pid", REQUEST).expect("it answers").pid();
        assert_ne!(before, after);
        stanch.stop_clean();
    }
}

mod auto {
    use super::*;

    #[test]
    fn the_ports_of_a_server_are_found_and_the_ignored_one_is_left_alone() {
        let [one, two] = [free_address(), free_address()];
        let debug = free_address();
        let app = node(&[&format!("try:{debug}"), &one.to_string(), &two.to_string()]);
        let mut stanch = start(&app, 2, &format!("ignore_ports = [{}]", debug.port()));
        stanch.wait_until("both are shown", |stanch| {
            let status = stanch.status();
            let shown = status["listeners"].as_array()?.iter();
            let shown: BTreeSet<String> =
                shown.filter_map(|at| Some(at["address"].as_str()?.to_owned())).collect();
            (shown == BTreeSet::from([one.to_string(), two.to_string()])).then_some(())
        });
        for address in [one, two] {
            assert_eq!(answering(address).len(), 2, "both workers on {address}");
        }
        assert_eq!(answering(debug).len(), 1, "the one that came first");
        rolls_under_load(stanch, &[one, two]);
    }

    /// What the README shows, but for the places of socket and store.
    #[test]
    fn a_command_is_all_it_needs() {
        let place = Place::new();
        let address = free_address();
        let app = node(&[&address.to_string()]);
        let socket = place.socket();
        let mut run = place.stanch(&["run", "--workers", "4", "--listen", "auto"]);
        run.arg("--socket").arg(&socket).arg("--store").arg(place.store());
        run.arg("--").args(&app.command);
        let mut supervisor = run.spawn().expect("the stanch binary starts");
        let served = wait_until(PATIENCE, "four workers serve", || {
            let mut status = place.stanch(&["status", "--json", "--socket"]);
            let answer = status.arg(&socket).output().expect("the stanch binary starts");
            let status: Value = serde_json::from_slice(&answer.stdout).ok()?;
            let ready = |worker: &Value| worker["state"] == "ready";
            let workers = status["workers"].as_array()?;
            let all = workers.len() == 4 && workers.iter().all(ready);
            (all && answering(address).len() == 4).then_some(status)
        });
        assert_eq!(served["listeners"][0]["address"], address.to_string());
        let pid = i32::try_from(supervisor.id()).expect("pids are small");
        kill(pid, Signal::SIGTERM);
        assert!(supervisor.wait().expect("it is our child").success());
    }
}

mod ipv6 {
    use super::*;

    #[test]
    fn loopback_rolls() {
        let address = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port()));
        let stanch = start(&node(&[&address.to_string()]), 2, &at(&address, "takeover"));
        assert_eq!(answering(address).len(), 2);
        rolls_under_load(stanch, &[address]);
    }

    #[test]
    fn dual_stack_rolls() {
        let port = free_port();
        let listen = at(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), "takeover");
        let stanch = start(&node(&[&port.to_string()]), 2, &listen);
        let addresses =
            [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
        for address in addresses {
            assert_eq!(answering(address).len(), 2, "{address}");
        }
        rolls_under_load(stanch, &addresses);
    }
}

mod cluster {
    use super::*;

    /// Two workers, each a primary with two children.
    fn rolls(scheduling: &str) {
        let address = free_address();
        let mut app = node(&[&address.to_string()]);
        app.environment.push(("CLUSTER", scheduling.to_owned()));
        let stanch = start(&app, 2, &at(&address, "takeover"));
        let leaders: BTreeSet<i64> = leaders(&stanch).into_values().collect();
        let pids = answering(address);
        let parents: BTreeSet<i64> =
            pids.iter().filter_map(|pid| parent(*pid)).map(i64::from).collect();
        assert_eq!(parents, leaders, "children of both answer: {pids:?}");
        rolls_under_load(stanch, &[address]);
    }

    #[test]
    fn scheduled_by_the_primary_rolls() {
        rolls("rr");
    }

    #[test]
    fn sharing_a_handle_rolls() {
        rolls("none");
    }
}

mod figures {
    use super::*;

    #[test]
    fn connections_are_counted_for_the_worker_that_has_them() {
        let address = free_address();
        let mut stanch = start(&node(&[&address.to_string()]), 3, &at(&address, "takeover"));
        let mut kept: Vec<Connection> = Vec::new();
        let mut expected: BTreeMap<i64, u64> =
            leaders(&stanch).into_values().map(|pid| (pid, 0)).collect();
        for _ in 0..20 {
            let mut connection = Connection::open(address, REQUEST).expect("connects");
            let pid = connection.get("/").expect("it answers").pid();
            *expected.get_mut(&i64::from(pid)).expect("a leader answers") += 1;
            kept.push(connection);
        }
        let counted = |stanch: &Stanch| -> BTreeMap<i64, u64> {
            let count = |row: &Value| Some((row["pid"].as_i64()?, row["connections"].as_u64()?));
            stanch.workers().iter().filter_map(count).collect()
        };
        // Node ends a connection that is idle for 5 s: so they are kept busy.
        stanch.wait_until("each worker's are counted", |stanch| {
            for connection in &mut kept {
                connection.get("/").expect("it answers");
            }
            (counted(stanch) == expected).then_some(())
        });
        kept.clear();
        stanch.wait_until("none is left", |stanch| {
            counted(stanch).values().all(|count| *count == 0).then_some(())
        });
        stanch.stop_clean();
    }

    #[test]
    fn what_is_turned_away_is_shown_and_weighs_in_the_incident_that_took_the_worker() {
        let address = free_address();
        let listen = format!(
            "{}\nbacklog = 4\n[health]\nfailures = 0\n\
             [restart]\nintensity = {{ restarts = 1, within = \"60s\" }}",
            at(&address, "takeover")
        );
        let mut stanch = start(&node(&[&address.to_string()]), 1, &listen);
        let name = address.to_string();
        let shown = listener(&stanch, &name);
        assert_eq!((&shown["queue_limit"], &shown["dropped"]), (&4.into(), &0.into()), "{shown}");
        let leader = |stanch: &Stanch| i32::try_from(leaders(stanch)[&0]).expect("pids are small");

        let crashed = leader(&stanch);
        kill(crashed, Signal::SIGKILL);
        stanch.wait_until("another one is ready", |stanch| stanch.ready_after(0, 1));
        // One too many: the slot is held.
        kill(leader(&stanch), Signal::SIGKILL);
        stanch.wait_until("the slot is held", |stanch| stanch.event(&["worker_held"], |_| true));
        let timeout = Duration::from_millis(50);
        let mut clients: Vec<TcpStream> = Vec::new();
        stanch.wait_until("the queue is full", |stanch| {
            clients.extend(TcpStream::connect_timeout(&address, timeout));
            let shown = listener(stanch, &name);
            let full = shown["queued"].as_u64() > Some(4) && shown["dropped"].as_u64() > Some(0);
            full.then_some(())
        });
        stanch.wait_until("it is in the impact", |stanch| {
            let crash = stanch.incidents().into_iter().find(|it| it["kind"] == "crash_loop")?;
            (crash["impact"]["connections_dropped"].as_u64()? > 0).then_some(())
        });
        let table = stanch.command(&["status"]).stdout;
        assert!(
            table.contains("waiting to be accepted") && table.contains("turned away"),
            "{table}"
        );
        drop(clients);
        stanch.stop_clean();
    }
}
