//! The supervisor is killed, and started again: its workers served on, and are its workers again.

mod common;
#[path = "simulation/random.rs"]
mod random;

use common::*;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use random::Random;
use serde_json::Value;
use stanch::core::{Kind, Record};
use stanch::linux::mark::{MARK_VARIABLE, Mark};
use stanch::linux::procfs::Procfs;
use stanch::store::{EventFilter, Reader, StoreError, beside};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const WORKERS: usize = 3;
const CLIENTS: usize = 4;
const REQUEST: Duration = Duration::from_secs(20);

fn config(app: &App, address: SocketAddr, mode: &str, more: &str) -> String {
    let app = app.toml("recovery", WORKERS as u32);
    format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        mode = "{mode}"
        [ready]
        when = "http"
        path = "/"
        timeout = "20s"
        [health]
        path = "/"
        interval = "300ms"
        timeout = "2s"
        [rolling]
        drain_timeout = "5s"
        cooldown = "200ms"
        {more}
        "#
    )
}

/// The pids of the live workers' leaders.
fn leaders(stanch: &Stanch) -> Vec<i32> {
    let pid = |worker: &Value| i32::try_from(worker["pid"].as_i64()?).ok();
    stanch.workers().iter().filter_map(pid).collect()
}

/// SIGKILL, and nothing is done about it.
fn die(stanch: &mut Stanch) {
    kill(stanch.pid(), Signal::SIGKILL);
    stanch.wait_end();
}

/// Waits for the event that tells of a recovery with these figures.
fn recovered(stanch: &mut Stanch, adopted: u64, gone: u64) -> Value {
    let event = stanch.wait_until("supervisor_recovered", |stanch| {
        stanch.event(&["supervisor_recovered"], |_| true)
    });
    let figures = &event["figures"];
    assert_eq!((&figures["adopted"], &figures["gone"]), (&adopted.into(), &gone.into()), "{event}");
    event
}

/// Waits until none of these is a worker any more, and all slots serve.
fn all_replaced(stanch: &mut Stanch, old: &[i32]) {
    stanch.wait_until("all adopted workers are replaced", |stanch| {
        let now = leaders(stanch);
        (now.len() == WORKERS && !old.iter().any(|pid| now.contains(pid))).then_some(())
    });
    stanch.wait_ready(WORKERS);
}

fn verify(stanch: &Stanch) {
    let mut command = stanch.place().stanch(&["incidents", "verify", "--store"]);
    let outcome = command.arg(stanch.place().store()).output().expect("the command runs");
    assert!(outcome.status.success(), "the chain is broken: {outcome:?}");
}

/// Killed and started again under load, twice.
fn no_request_is_lost(server: Server) {
    let address = free_address();
    let mut stanch = Stanch::start(&config(&server.app(address), address, "takeover", ""));
    stanch.wait_ready(WORKERS);
    let load = Load::start(address, Style::Connect, CLIENTS);
    for generation in 1..=2 {
        load.wait_for(200);
        let before = leaders(&stanch);
        die(&mut stanch);
        load.wait_for(200);
        for pid in &before {
            assert!(alive(*pid), "a worker did not outlive its supervisor");
        }
        stanch.restart();
        stanch.wait_until("the workers are adopted", |stanch| {
            let adopted = stanch.events().into_iter().filter(|event| {
                event["kind"] == "worker_adopted" && event["generation"] == generation
            });
            (adopted.count() == WORKERS).then_some(())
        });
        all_replaced(&mut stanch, &before);
        recovered(&mut stanch, WORKERS as u64, 0);
        for pid in before {
            wait_for_end(pid);
        }
    }
    load.wait_for(200);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    stanch.stop_clean();
    verify(&stanch);
    // What ended in good order leaves nothing.
    stanch.restart();
    stanch.wait_ready(WORKERS);
    let times = stanch.events().iter().filter(|e| e["kind"] == "supervisor_recovered").count();
    assert_eq!(times, 2, "nothing was left");
    stanch.stop_clean();
}

#[test]
fn no_request_is_lost_node() {
    no_request_is_lost(Server::NodeHttp);
}

#[test]
fn no_request_is_lost_go() {
    no_request_is_lost(Server::Go);
}

#[test]
fn no_request_is_lost_gunicorn() {
    no_request_is_lost(Server::Gunicorn);
}

/// It writes a line for each request: to a pipe without a reader, that would be its last.
#[test]
fn no_request_is_lost_python_http() {
    no_request_is_lost(Server::PythonHttp);
}

#[test]
fn an_adopted_worker_that_crashes_is_restarted() {
    let address = free_address();
    let more = "[restart]\nbackoff_initial = \"10ms\"\n";
    let text = config(&Server::NodeHttp.app(address), address, "takeover", more)
        .replace("cooldown = \"200ms\"", "cooldown = \"1h\"");
    let mut stanch = Stanch::start(&text);
    stanch.wait_ready(WORKERS);
    let before = leaders(&stanch);
    die(&mut stanch);
    stanch.restart();
    stanch.wait_ready(WORKERS);
    assert_eq!(leaders(&stanch), before, "the cooldown lets them stay");
    kill(before[1], Signal::SIGKILL);
    stanch.wait_until("the replacement", |stanch| stanch.ready_after(1, 1));
    let crash = stanch.event(&["worker_crashed"], |event| event["slot"] == 1);
    assert_eq!(crash.expect("it is in the log")["pid"], before[1]);
    let sample = stanch.workers()[0]["rss_kib"].as_u64();
    assert!(sample.is_some_and(|kib| kib > 1000), "adopted workers are sampled");
    get(address, "/", REQUEST).expect("serves");
    stanch.stop_clean();
}

#[test]
fn what_died_meanwhile_is_told_and_started_again() {
    let address = free_address();
    let text = config(&Server::NodeHttp.app(address), address, "takeover", "");
    let mut stanch = Stanch::start(&text);
    stanch.wait_ready(WORKERS);
    let before = leaders(&stanch);
    die(&mut stanch);
    kill(before[2], Signal::SIGKILL);
    wait_for_end(before[2]);
    stanch.restart();
    stanch.wait_until("the replacement", |stanch| stanch.ready_after(2, 1));
    recovered(&mut stanch, WORKERS as u64 - 1, 1);
    let told = stanch.event(&["unrecorded_action"], |event| event["pid"] == before[2]);
    let told = told.expect("it is in the log");
    assert_eq!((&told["slot"], &told["generation"]), (&2.into(), &1.into()), "{told}");
    stanch.stop_clean();
}

#[test]
fn a_start_that_was_not_finished_is_undone() {
    let address = free_address();
    // Binds after ten minutes.
    let script = "import sys, time; time.sleep(600)";
    let app = App::new(["python3", "-c", script]);
    let mut stanch = Stanch::start(&config(&app, address, "takeover", ""));
    let starting = stanch.wait_until("they are started", |stanch| {
        let started = stanch.events().iter().filter(|e| e["kind"] == "worker_started").count();
        (started == WORKERS).then(|| leaders(stanch))
    });
    die(&mut stanch);
    stanch.restart();
    for pid in starting {
        wait_for_end(pid);
    }
    recovered(&mut stanch, 0, 0);
    stanch.wait_until("the next generation is started", |stanch| {
        let next = |event: &Value| event["kind"] == "worker_started" && event["generation"] == 2;
        (stanch.events().iter().filter(|event| next(event)).count() == WORKERS).then_some(())
    });
    stanch.stop_clean();
}

/// `node server.js`, but its leader is a shell that nothing is left of.
#[test]
fn what_outlives_a_leader_is_killed() {
    let address = free_address();
    let app = faulty("fork-away", address);
    let mut stanch = Stanch::start(&config(&app, address, "takeover", ""));
    stanch.wait_ready(WORKERS);
    let before = leaders(&stanch);
    let mut others = before.clone();
    others.push(stanch.pid());
    let stray = wait_until(PATIENCE, "they have forked away", || {
        let all = stanch.place().processes();
        let strays: Vec<i32> = all.into_iter().filter(|pid| !others.contains(pid)).collect();
        (strays.len() >= WORKERS).then_some(strays)
    });
    die(&mut stanch);
    for pid in &before {
        kill(*pid, Signal::SIGKILL);
    }
    stanch.restart();
    for pid in stray {
        wait_for_end(pid);
    }
    stanch.wait_ready(WORKERS);
    stanch.stop_clean();
}

/// The workers do not ask the supervisor for anything here, so they may stay for good.
fn adopted_for_good(mode: &str, app: impl Fn(SocketAddr) -> App, more: &str) {
    let address = free_address();
    let mut stanch = Stanch::start(&config(&app(address), address, mode, more));
    stanch.wait_ready(WORKERS);
    let before = leaders(&stanch);
    die(&mut stanch);
    stanch.restart();
    recovered(&mut stanch, WORKERS as u64, 0);
    stanch.wait_ready(WORKERS);
    assert_eq!(leaders(&stanch), before);
    kill(before[0], Signal::SIGKILL);
    stanch.wait_until("the replacement", |stanch| stanch.ready_after(0, 1));
    stanch.stop_clean();
}

#[test]
fn adopted_in_mode_port() {
    // Three ports in a row, of which the test takes the first.
    let script = "import os, sys\nsys.argv = ['server', '127.0.0.1', os.environ['PORT']]\n\
                  exec(open(os.environ['SCRIPT']).read())";
    let app = |_| {
        let mut app = App::new(["python3", "-c", script]);
        let path = servers().join("python-http/server.py");
        app.environment.push(("SCRIPT", path.display().to_string()));
        app
    };
    adopted_for_good("port", app, "");
}

#[test]
fn adopted_in_mode_inherit() {
    let script = "import socket, os, http.server as h\n\
        class H(h.BaseHTTPRequestHandler):\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers()\n\
        \x20       self.wfile.write(b'ok')\n\
        s = h.ThreadingHTTPServer(('', 0), H, bind_and_activate=False)\n\
        s.socket = socket.socket(fileno=3)\n\
        s.serve_forever()";
    adopted_for_good("inherit", |_| App::new(["python3", "-c", script]), "");
}

#[test]
fn a_store_that_is_elsewhere_now() {
    let address = free_address();
    let text = config(&Server::NodeHttp.app(address), address, "takeover", "");
    let mut stanch = Stanch::start(&text);
    stanch.wait_ready(WORKERS);
    let before = leaders(&stanch);
    die(&mut stanch);
    let (old, elsewhere) = (stanch.place().store(), stanch.place().file("elsewhere.db"));
    let text = std::fs::read_to_string(stanch.place().file("stanch.toml")).expect("it is there");
    let text = text.replace(&format!("{old:?}"), &format!("{elsewhere:?}"));
    std::fs::write(stanch.place().file("stanch.toml"), text).expect("it can be written");
    stanch.restart();
    // The marks tell whose they are, and where they listen.
    all_replaced(&mut stanch, &before);
    for pid in before {
        wait_for_end(pid);
    }
    stanch.stop_clean();
}

/// Killed without its parent having noticed, and the log is removed.
#[test]
fn workers_are_found_by_their_mark_when_the_log_is_gone() {
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), address, "takeover", "");
    let mut stanch = Stanch::start(&text);
    stanch.wait_ready(WORKERS);
    let before = leaders(&stanch);
    // A zombie, from here to the end of the test.
    kill(stanch.pid(), Signal::SIGKILL);
    wait_for_end(stanch.pid());
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(beside(&stanch.place().store(), suffix)).expect("it is there");
    }
    stanch.restart();
    let told = recovered(&mut stanch, WORKERS as u64, 0);
    let reason = told["reason"].as_str().expect("it has one");
    assert!(reason.contains("this audit log does not tell of that"), "{told}");
    all_replaced(&mut stanch, &before);
    for pid in before {
        wait_for_end(pid);
    }
    let gone = stanch.event(&["store_altered"], |_| true).expect("it is in the log");
    let reason = gone["reason"].as_str().expect("it has one");
    assert!(reason.contains("the log ended after event 0, and stanch had written"), "{gone}");
    stanch.stop_clean();
    verify(&stanch);
}

#[test]
fn an_incident_that_was_edited_meanwhile_is_not_vouched_for() {
    let address = free_address();
    let more = "[restart]\nbackoff_initial = \"10ms\"\n";
    let text = config(&Server::PythonHttp.app(address), address, "takeover", more);
    let mut stanch = Stanch::start(&text);
    stanch.wait_ready(WORKERS);
    let crash = |stanch: &mut Stanch| {
        let first = stanch.workers()[0]["generation"].as_u64().expect("it has one");
        kill(leaders(stanch)[0], Signal::SIGKILL);
        stanch.wait_until("the replacement", |stanch| stanch.ready_after(0, first));
        stanch.wait_ready(WORKERS);
    };
    crash(&mut stanch);
    stanch.stop_clean();
    let store = rusqlite::Connection::open(stanch.place().store()).expect("it is there");
    let forge =
        r#"UPDATE incidents SET body = replace(body, '"interventions":1', '"interventions":0')"#;
    assert_eq!(store.execute(forge, []).expect("is SQL"), 1);
    drop(store);
    let forged = stanch.incidents()[0]["id"].clone();
    stanch.restart();
    stanch.wait_ready(WORKERS);
    let told = stanch.event(&["store_altered"], |event| event["incident"] == forged);
    let told = told.expect("it is in the log");
    assert!(
        told["reason"].as_str().is_some_and(|why| why.contains("its row is not what")),
        "{told}"
    );
    crash(&mut stanch);
    let incidents = stanch.incidents();
    assert_eq!(incidents.len(), 2, "a new one, for what happens now: {incidents:?}");
    stanch.stop_clean();
    let verified = stanch.ask_store(&["verify"]);
    assert_eq!(verified.code, Some(1), "{verified:?}");
    let name = forged.as_str().expect("it is a name");
    assert!(verified.stdout.contains(&format!("in incident {name}: its row")), "{verified:?}");
}

#[test]
fn a_second_stanch_on_the_same_store_is_refused() {
    let address = free_address();
    let mut first = Stanch::start(&config(&Server::NodeHttp.app(address), address, "takeover", ""));
    first.wait_ready(WORKERS);
    let before = leaders(&first);
    let other = free_address();
    let text = config(&Server::NodeHttp.app(other), other, "takeover", "");
    let store = format!("[store]\npath = {:?}\n", first.place().store());
    let mut second = Stanch::start(&format!("{text}\n{store}"));
    assert_eq!(second.wait_end().code(), Some(2), "wrong use");
    assert!(second.place().log().contains("is being written by"), "{}", second.place().log());
    assert_eq!(leaders(&first), before, "the first one's are as they were");
    first.stop_clean();
}

#[test]
fn one_incident_goes_on_across_a_restart() {
    let address = free_address();
    let more = "[restart]\nbackoff_initial = \"10ms\"\n";
    let text = config(&Server::NodeHttp.app(address), address, "takeover", more);
    let mut stanch = Stanch::start(&text);
    stanch.wait_ready(WORKERS);
    let crash = |stanch: &mut Stanch, generation| {
        kill(leaders(stanch)[0], Signal::SIGKILL);
        stanch.wait_until("the replacement", |stanch| stanch.ready_after(0, generation));
        stanch.wait_ready(WORKERS);
    };
    crash(&mut stanch, 1);
    stanch.stop_clean();
    stanch.restart();
    stanch.wait_ready(WORKERS);
    // A worker's name stands for one process in the incident.
    let first = &stanch.workers()[0];
    assert_eq!((&first["generation"], &first["restarts"]), (&3.into(), &0.into()), "{first}");
    let start = stanch.event(&["worker_started"], |event| event["generation"] == 3);
    assert_eq!(start.expect("it is in the log")["reason"], "first start");
    crash(&mut stanch, 3);
    let incidents = stanch.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0]["interventions"], 2, "{incidents:?}");
    stanch.stop_clean();
}

/// The leaders that live in this place, by the name of their worker.
fn marked_leaders(place: &Place) -> Vec<(String, i32)> {
    let procfs = Procfs::default();
    let leader = |pid: i32| {
        let id = Pid::from_raw(pid);
        let mark = Mark::parse(&procfs.environment(id, MARK_VARIABLE)?)?;
        (procfs.stat(id)?.session == id).then(|| (mark.worker.to_string(), pid))
    };
    place.processes().into_iter().filter_map(leader).collect()
}

/// What the audit log holds, as it lies on the disk.
fn log_of(stanch: &Stanch) -> Vec<Record> {
    let reader = Reader::open(&stanch.place().store()).expect("the store is there");
    let mut records = Vec::new();
    let all = EventFilter::default();
    let read = reader.events(&all, |entry| {
        records.push(entry.record().expect("it is a record"));
        Ok::<(), StoreError>(())
    });
    read.expect("the store can be read");
    records
}

/// One of the things that happen to workers.
fn meddle(stanch: &Stanch, address: SocketAddr, random: &mut Random) {
    let workers = marked_leaders(stanch.place());
    match random.below(4) {
        _ if random.chance(0.2) && !workers.is_empty() => {
            let (_, pid) = workers[random.below(workers.len() as u64) as usize];
            // It may have ended by itself.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        0 => {
            let mut restart = stanch.place().stanch(&["restart", "--no-wait", "--socket"]);
            let restart = restart.arg(stanch.place().socket()).output();
            restart.expect("the command runs");
        }
        _ => drop(get(address, "/leak?kib=30720", Duration::from_millis(300))),
    }
}

/// Kills the supervisor at so many instants while its workers crash, leak and are rolled.
fn storm(kills: u64, seed: u64) {
    let mut random = Random::new(seed);
    let address = free_address();
    let more = "[memory]\nsoft_limit = \"100MiB\"\nsample_interval = \"100ms\"\n\
        [restart]\nbackoff_initial = \"5ms\"\nbackoff_max = \"20ms\"\n\
        intensity = { restarts = 1000, within = \"10s\" }\n";
    let text = config(&Server::Go.app(address), address, "takeover", more)
        .replace("drain_timeout = \"5s\"", "drain_timeout = \"1s\"")
        .replace("cooldown = \"200ms\"", "cooldown = \"10ms\"");
    let mut stanch = Stanch::start(&text);
    let mut seen: Vec<(String, i32)> = Vec::new();
    for kill in 0..kills {
        let instant = Instant::now() + Duration::from_millis(random.below(600));
        while Instant::now() < instant {
            meddle(&stanch, address, &mut random);
        }
        let there = stanch.place().store().exists();
        let acknowledged = if there { log_of(&stanch) } else { Vec::new() };
        die(&mut stanch);
        let left = marked_leaders(stanch.place());
        let now = if there { log_of(&stanch) } else { Vec::new() };
        assert!(now.starts_with(&acknowledged), "seed {seed}, kill {kill}: an event is missing");
        stanch.restart();
        // Some lives are over before they have looked. And a start that was not in the log yet, whose
        // process ended before anybody looked again, has left nothing to tell of it.
        if random.chance(0.5) {
            let looks = |log: &[Record]| {
                log.iter().filter(|record| record.kind == Kind::SupervisorRecovered).count()
            };
            let before = looks(&now);
            stanch.wait_until("it has looked", |stanch| {
                (looks(&log_of(stanch)) > before).then_some(())
            });
            let alive = marked_leaders(stanch.place());
            seen.extend(left.into_iter().filter(|one| alive.contains(one)));
        }
    }
    stanch.wait_ready(WORKERS);
    get(address, "/", REQUEST).expect("it serves after all that");
    stanch.stop_clean();
    verify(&stanch);

    let log = log_of(&stanch);
    let name = |record: &Record| record.worker().map(|worker| worker.to_string());
    for (worker, pid) in seen {
        let told = |record: &Record| {
            let kinds = [Kind::WorkerStarted, Kind::WorkerAdopted, Kind::UnrecordedAction];
            kinds.contains(&record.kind) && record.pid == Some(pid)
        };
        assert!(log.iter().any(told), "seed {seed}: nothing tells of {worker}, pid {pid}");
    }
    let mut ended: BTreeMap<String, bool> = BTreeMap::new();
    for (worker, kind) in log.iter().filter_map(|record| Some((name(record)?, record.kind))) {
        match kind {
            Kind::WorkerStarted | Kind::WorkerAdopted => drop(ended.insert(worker, false)),
            Kind::WorkerCrashed
            | Kind::WorkerRetired
            | Kind::WorkerStartFailed
            | Kind::UnrecordedAction => drop(ended.insert(worker, true)),
            _ => {}
        }
    }
    let open: Vec<&String> = ended.iter().filter(|(_, ended)| !**ended).map(|(id, _)| id).collect();
    assert!(open.is_empty(), "seed {seed}: the log does not tell how these ended: {open:?}");
    let count = |kind| log.iter().filter(|record| record.kind == kind).count();
    let [died, adopted] = [Kind::SupervisorRecovered, Kind::WorkerAdopted].map(count);
    eprintln!(
        "seed {seed}: {kills} kills, {died} recoveries, {adopted} adoptions, {} unrecorded actions, \
         {} workers, {} events",
        count(Kind::UnrecordedAction),
        ended.len(),
        log.len()
    );
    assert!(died as u64 * 2 > kills && adopted as u64 > kills / 2, "too little was left to adopt");
}

#[test]
fn killed_at_random_instants_of_a_storm() {
    storm(60, 1);
}

#[test]
#[ignore = "more than a minute"]
fn killed_at_200_random_instants_of_a_storm() {
    storm(200, 7);
}
