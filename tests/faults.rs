//! What goes wrong around a supervisor: each fault is named where an operator looks, and nothing
//! else suffers by it.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use stanch::store::beside;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(20);

/// A config for one worker of this app, with more tables behind it.
fn config(app: &App, address: SocketAddr, more: &str) -> String {
    let app = app.toml("faults", 1);
    format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        [ready]
        when = "http"
        path = "/"
        timeout = "20s"
        [restart]
        backoff_initial = "10ms"
        backoff_max = "50ms"
        intensity = {{ restarts = 3, within = "60s" }}
        {more}
        "#
    )
}

/// Waits until an operator can see a fault that no restart mends, and fails unless it is named with
/// these words. Either `run` refuses to start (exit 2 or 70, the words on standard error), or it
/// supervises on: the slot is held, and the event, or the incident, has the words.
#[track_caller]
fn is_named(mut stanch: Stanch, words: &[&str]) {
    let named = |text: &str| words.iter().all(|word| text.contains(word));
    let text = wait_until(PATIENCE, "run refuses to start, or holds the slot", || {
        if let Some(status) = stanch.ended() {
            assert!(matches!(status.code(), Some(2 | 70)), "{status}");
            return Some(stanch.place().log());
        }
        // The status tells it before the store has it.
        let held = stanch.workers().iter().any(|worker| worker["state"] == "held");
        let events = stanch.events();
        let told = events.iter().any(|event| event["kind"] == "worker_held");
        (held && told).then(|| {
            let incidents = stanch.incidents();
            let open = incidents.iter().any(|incident| incident["state"] == "open");
            assert!(open, "no open incident in {incidents:?}");
            events.iter().chain(&incidents).map(Value::to_string).collect()
        })
    });
    assert!(named(&text), "not all of {words:?} in: {text}");
    if stanch.ended().is_none() {
        stanch.stop_clean();
    }
}

#[test]
fn a_command_that_does_not_exist() {
    let address = free_address();
    let app = App::new(["no-such-command-of-stanch"]);
    is_named(Stanch::start(&config(&app, address, "")), &["no-such-command-of-stanch"]);
}

#[test]
fn a_directory_that_does_not_exist() {
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), address, "");
    let text = text.replacen("[app]\n", "[app]\ndirectory = \"/no/such/directory\"\n", 1);
    is_named(Stanch::start(&text), &["/no/such/directory"]);
}

#[test]
fn an_unknown_user() {
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), address, "");
    let text = text.replacen("[app]\n", "[app]\nuser = \"no-such-user\"\n", 1);
    is_named(Stanch::start(&text), &["no-such-user"]);
}

#[test]
fn a_port_that_a_stranger_listens_on() {
    let address = free_address();
    let _stranger = TcpListener::bind(address).expect("the address is free");
    let text = config(&Server::PythonHttp.app(address), address, "");
    is_named(Stanch::start(&text), &[&address.port().to_string()]);
}

#[test]
fn a_worker_that_ends_at_once() {
    let address = free_address();
    let text = config(&faulty("exit-at-once", address), address, "");
    let stanch = Stanch::start(&text);
    is_named(stanch, &["exit code 3"]);
}

#[test]
fn a_worker_that_ignores_sigterm() {
    let address = free_address();
    let more = "[rolling]\ndrain_timeout = \"1s\"\n";
    let mut stanch = Stanch::start(&config(&faulty("ignore-term", address), address, more));
    stanch.wait_ready(1);
    // A request that will not be done by then.
    let mut connection = Connection::open(address, REQUEST).expect("connects");
    connection.send("/slow?ms=3600000", Style::Connect).expect("sends");
    get(address, "/slow?ms=200", REQUEST).expect("the slow request was taken up before this one");
    stanch.stop_clean();
    assert_eq!(connection.receive(), Err(Fault::Reset));
    let cut = stanch.event(&["drain_cut_connections"], |event| event["slot"] == 0);
    let cut = cut.expect("connections that were cut are in the audit log");
    assert_eq!(cut["figures"]["connections_cut"], 1, "{cut}");
    assert!(stanch.event(&["worker_retired"], |event| event["slot"] == 0).is_some());
    assert!(stanch.event(&["supervisor_stopped"], |_| true).is_some());
}

#[test]
fn a_worker_that_forks_away() {
    let address = free_address();
    let mut stanch = Stanch::start(&config(&faulty("fork-away", address), address, ""));
    stanch.wait_ready(1);
    let leader = stanch.workers()[0]["pid"].as_i64().expect("it has a pid");
    let leader = i32::try_from(leader).expect("pids are small");
    let others = [leader, stanch.pid()];
    let stray = wait_until(PATIENCE, "it has forked away", || {
        stanch.place().processes().into_iter().find(|pid| !others.contains(pid))
    });

    // With its worker, when that crashes …
    kill(leader, Signal::SIGKILL);
    stanch.wait_until("the replacement", |stanch| stanch.ready_after(0, 1));
    wait_for_end(stray);
    // … and with all, at the end.
    stanch.stop_clean();
}

#[test]
fn nobody_is_left_waiting_by_a_crash_of_the_only_worker() {
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), address, "");
    let text = text.replace("backoff_initial = \"10ms\"", "backoff_initial = \"1s\"");
    let mut stanch = Stanch::start(&text.replace("backoff_max = \"50ms\"", "backoff_max = \"1s\""));
    stanch.wait_ready(1);
    let pid = stanch.workers()[0]["pid"].as_i64().expect("it has a pid");
    let pid = i32::try_from(pid).expect("pids are small");
    let ask = || {
        let mut connection = Connection::open(address, REQUEST).expect("connects");
        connection.send("/", Style::Connect).expect("sends");
        connection
    };
    // Some wait for a worker that accepts nothing any more …
    kill(pid, Signal::SIGSTOP);
    let mut waiting: Vec<Connection> = (0..5).map(|_| ask()).collect();
    kill(pid, Signal::SIGKILL);
    // … many come while its end is found out, and some while there is none.
    waiting.extend((0..500).map(|_| ask()));
    stanch.wait_until("the crash", |stanch| stanch.event(&["worker_crashed"], |_| true));
    waiting.extend((0..5).map(|_| ask()));
    for mut connection in waiting {
        assert_eq!(connection.receive().expect("the next one answers").status, 200);
    }
    stanch.stop_clean();
}

#[test]
fn a_second_stanch_on_the_same_socket() {
    let address = free_address();
    let mut first = Stanch::start(&config(&Server::PythonHttp.app(address), address, ""));
    first.wait_ready(1);

    let elsewhere = free_address();
    let text = config(&Server::PythonHttp.app(elsewhere), elsewhere, "");
    let control = format!("[control]\nsocket = {:?}\n", first.place().socket());
    let mut second = Stanch::start(&format!("{text}\n{control}"));
    assert_eq!(second.wait_end().code(), Some(2), "wrong use");
    let log = second.place().log();
    let socket = first.place().socket();
    assert!(log.contains(socket.to_str().expect("the path is UTF-8")), "which socket? {log}");
    assert!(second.place().processes().is_empty(), "it left something behind");

    assert_eq!(first.status()["state"], "running", "the first one is as it was");
    get(address, "/", REQUEST).expect("and serves");
    first.stop_clean();
}

#[test]
fn a_socket_file_left_behind() {
    let place = Place::new();
    // Dropping a listener leaves its file, as a crash does.
    drop(UnixListener::bind(place.socket()).expect("the path is free"));
    assert!(place.socket().exists());
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), address, "");
    let mut stanch = Stanch::start_in(place, &text, Output::Log);
    stanch.wait_ready(1);
    stanch.stop_clean();
    assert!(!stanch.place().socket().exists(), "it leaves no file behind itself");
}

#[test]
fn a_store_that_cannot_be_opened() {
    let place = Place::new();
    let precious = b"This is no database, and somebody may want it.\n".repeat(100);
    std::fs::write(place.store(), &precious).expect("the folder can be written");
    let address = free_address();
    let text = config(&Server::PythonHttp.app(address), address, "");
    let mut stanch = Stanch::start_in(place, &text, Output::Log);
    // Supervises on …
    stanch.wait_ready(1);
    let leader = stanch.workers()[0]["pid"].as_i64().expect("it has a pid");
    kill(i32::try_from(leader).expect("pids are small"), Signal::SIGKILL);
    stanch.wait_until("the replacement", |stanch| stanch.ready_after(0, 1));
    // … says so …
    let store = stanch.place().store();
    stanch.wait_until("the log says store_degraded, and of which file", |stanch| {
        let log = stanch.place().log();
        let line = |line: &str| {
            line.contains("store") && line.contains(store.to_str().expect("the path is UTF-8"))
        };
        (log.contains("store_degraded") && log.lines().any(line)).then_some(())
    });
    let status = stanch.try_status().expect("it answers");
    assert_eq!(status["store"]["state"], "degraded", "{status}");
    assert!(
        status["store"]["why"].as_str().is_some_and(|why| why.contains("store.db")),
        "{status}"
    );
    assert!(status["store"]["waiting"].as_u64() > Some(3), "{status}");
    let table = stanch.command(&["status"]).stdout;
    assert!(table.contains("the audit log is not written"), "{table}");
    let acknowledged = stanch.command(&["incidents", "ack", "last"]);
    assert_eq!(acknowledged.code, Some(0), "{acknowledged:?}");
    assert!(acknowledged.stdout.contains("taken, not yet on disk"), "{acknowledged:?}");
    stanch.stop_clean();
    // … and touches nothing.
    let after = std::fs::read(stanch.place().store()).expect("it is there");
    assert!(after == precious, "the file was changed");
}

/// By a command of the operator's, say, that was meant for another file.
#[test]
fn a_store_that_is_overwritten_while_in_use() {
    let address = free_address();
    let mut stanch = Stanch::start(&config(&Server::PythonHttp.app(address), address, ""));
    stanch.wait_ready(1);
    stanch
        .wait_until("the start is in the log", |stanch| stanch.event(&["worker_ready"], |_| true));
    let store = stanch.place().store();
    let precious = b"Somebody may want this.\n".repeat(1000);
    std::fs::write(&store, &precious).expect("it can be written");
    let status = stanch.wait_until("it is noticed, with nothing to write", |stanch| {
        let status = stanch.try_status().ok()?;
        (status["store"]["state"] == "degraded").then_some(status)
    });
    assert!(
        status["store"]["why"].as_str().is_some_and(|why| why.contains("is damaged")),
        "{status}"
    );
    assert!(std::fs::read(&store).expect("it is there") == precious, "the file was changed");
    std::fs::rename(&store, stanch.place().file("evidence")).expect("it can be moved");
    std::fs::remove_file(beside(&store, "-wal")).expect("it was left");
    stanch.wait_until("it is written again", |stanch| {
        (stanch.try_status().ok()?["store"]["state"] == "well").then_some(())
    });
    let told = stanch
        .wait_until("what is gone is told", |stanch| stanch.event(&["store_restored"], |_| true));
    assert!(told["figures"]["gone"].as_u64() >= Some(3), "{told}");
    stanch.stop_clean();
}

#[test]
fn a_worker_that_floods_its_log() {
    let address = free_address();
    let text = config(&faulty("flood", address), address, "");
    // Nobody reads what the supervisor passes on: the worst reader there is. The worker serves only
    // when its 128 MiB are written.
    let mut stanch = Stanch::start_in(Place::new(), &text, Output::Unread);
    stanch.wait_ready(1);
    get(address, "/", REQUEST).expect("the worker serves");
    let peak_kib = resident_peak_kib(stanch.pid());
    assert!(peak_kib < 96 * 1024, "the supervisor grew to {peak_kib} KiB");
    stanch.read_output();
    stanch.wait_until("the log tells how much was dropped", |stanch| {
        let log = stanch.place().log();
        let told = |line: &str| {
            line.contains("dropped") && line.chars().any(|character| character.is_ascii_digit())
        };
        log.lines().any(told).then_some(())
    });
    stanch.stop_clean();
}

#[test]
fn signals_out_of_habit_do_not_end_it() {
    let address = free_address();
    let mut stanch = Stanch::start(&config(&Server::PythonHttp.app(address), address, ""));
    stanch.wait_ready(1);
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM, Signal::SIGHUP] {
        kill(stanch.pid(), signal);
        let word = format!("{signal} is ignored");
        stanch.wait_until("it says what it does with the signal", |stanch| {
            let log = stanch.place().log();
            let passed_on = format!("{signal} was passed on");
            let words = [word.as_str(), &passed_on, "the signal is ignored"];
            words.iter().any(|word| log.contains(word)).then_some(())
        });
        assert!(stanch.ended().is_none(), "{signal}");
    }
    stanch.stop_clean();
}

#[test]
fn sigterm_twice_hurries() {
    let address = free_address();
    let more = "[rolling]\ndrain_timeout = \"1h\"\n";
    let mut stanch = Stanch::start(&config(&faulty("ignore-term", address), address, more));
    stanch.wait_ready(1);
    kill(stanch.pid(), Signal::SIGTERM);
    stanch.wait_until("it is stopping", |stanch| {
        (stanch.try_status().ok()?["state"] == "stopping").then_some(())
    });
    // The second one; an end within the patience of the test is far below an hour.
    stanch.stop_clean();
}
