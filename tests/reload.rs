//! `stanch reload` and SIGHUP, on a real supervisor with a real server.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;

/// Sections of a config file; `environment` goes below `[app.environment]`.
fn config(address: SocketAddr, workers: u32, environment: &str, more: &str) -> String {
    let app = Server::NodeHttp.app(address).toml("reload", workers);
    format!(
        "{app}{environment}\n[listen]\naddress = [\"{address}\"]\n\
         [rolling]\ndrain_timeout = \"10s\"\ncooldown = \"0s\"\nslow_start = \"0s\"\n{more}\n"
    )
}

fn start(address: SocketAddr, workers: u32, environment: &str, more: &str) -> Stanch {
    let mut stanch = Stanch::start(&config(address, workers, environment, more));
    stanch.wait_ready(workers as usize);
    stanch
}

fn pids(stanch: &Stanch) -> Vec<i64> {
    stanch.workers().iter().filter_map(|worker| worker["pid"].as_i64()).collect()
}

fn event(stanch: &mut Stanch, kind: &str) -> Value {
    stanch.wait_until(kind, |stanch| stanch.event(&[kind], |_| true))
}

#[test]
fn limits_are_in_force_at_once() {
    let address = free_address();
    let mut stanch = start(address, 1, "", "[leak]\naction = \"off\"");
    let old = pids(&stanch);
    let more = "[leak]\naction = \"off\"\n[memory]\nsoft_limit = \"1MiB\"\ntotal_limit = \"4GiB\"";
    stanch.place().write_config(&config(address, 1, "", more));
    let answer = stanch.command(&["reload"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(
        answer.stdout,
        "in force:\n  memory.soft_limit: not set → 1MiB\n  memory.total_limit: not set → 4GiB\n"
    );
    assert_eq!(stanch.status()["memory"]["total_limit_kib"], 4 << 20);
    let over = event(&mut stanch, "memory_soft_limit");
    assert_eq!(over["pid"].as_i64(), Some(old[0]), "the worker that ran before: {over}");
    let told = event(&mut stanch, "config_reloaded");
    assert!(told["reason"].as_str().unwrap().contains("soft_limit: not set → 1MiB"), "{told}");
    assert_eq!(told["figures"]["in_force"], 2, "{told}");

    stanch.place().write_config(&config(address, 1, "", "[leak]\naction = \"off\""));
    kill(stanch.pid(), Signal::SIGHUP);
    stanch.wait_until("no limit after SIGHUP", |stanch| {
        stanch.status()["memory"]["total_limit_kib"].is_null().then_some(())
    });
    stanch.stop_clean();
}

/// The kernel's own limit, or the one that is polled, follows for a worker that lives.
#[test]
fn a_hard_limit_holds_for_workers_that_live() {
    let address = free_address();
    let mut stanch = start(address, 1, "", "[memory]\nhard_limit = \"2GiB\"");
    let old = pids(&stanch);
    stanch.place().write_config(&config(address, 1, "", "[memory]\nhard_limit = \"160MiB\""));
    let answer = stanch.command(&["reload"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let mut leaking =
        Connection::open(address, std::time::Duration::from_secs(20)).expect("connects");
    while leaking.get("/leak?kib=16384").is_ok() {}
    let kinds = ["memory_hard_limit", "memory_oom_killed"];
    let killed = stanch.wait_until("the hard limit", |stanch| stanch.event(&kinds, |_| true));
    assert_eq!(killed["pid"].as_i64(), Some(old[0]), "{killed}");
    assert_eq!(killed["figures"]["hard_limit_kib"], 160 * 1024, "{killed}");
    stanch.stop_clean();
}

#[test]
fn a_bad_file_is_refused_with_all_errors_and_the_old_one_stays() {
    let address = free_address();
    let mut stanch = start(address, 1, "", "[memory]\nsoft_limit = \"2GiB\"");
    let before = pids(&stanch);
    let bad = config(address, 3, "", "[memory]\nsoft_limit = \"512\"\nhrad_limit = \"3GiB\"");
    let file = stanch.place().write_config(&bad);
    let answer = stanch.command(&["reload", "--roll"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    let checked = stanch.place().stanch(&["check"]).arg(&file).output().expect("runs");
    let checked = String::from_utf8_lossy(&checked.stderr).into_owned();
    for error in ["memory.soft_limit", "hrad_limit"] {
        let line = checked.lines().find(|line| line.contains(error)).expect(error);
        assert!(answer.stderr.contains(line), "{line} is not in {answer:?}");
    }
    let told = event(&mut stanch, "config_refused");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("memory.soft_limit") && reason.contains("hrad_limit"), "{told}");
    assert_eq!(pids(&stanch), before);
    // The old one is what the next one is compared with.
    stanch.place().write_config(&config(address, 1, "", "[memory]\nsoft_limit = \"2GiB\""));
    let answer = stanch.command(&["reload"]);
    assert_eq!(answer.stdout, "the configuration says what it said before\n");
    stanch.stop_clean();
}

#[test]
fn a_roll_replaces_all_under_load_and_shows_no_secret() {
    let address = free_address();
    let mut stanch = start(address, 2, "TOKEN = \"hunter2\"", "");
    let before = pids(&stanch);
    let load = Load::start(address, Style::Connect, 3);
    load.wait_for(50);
    let store = format!("[store]\npath = {:?}\nretention = \"9d\"", stanch.place().store());
    stanch.place().write_config(&config(
        address,
        2,
        "TOKEN = \"hunter3\"",
        &format!("[leak]\nlead_time = \"20m\"\n{store}"),
    ));
    let answer = stanch.command(&["reload"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("`stanch reload --roll` replaces all"), "{answer:?}");
    assert!(answer.stdout.contains("  app.environment.TOKEN: another value\n"), "{answer:?}");
    assert!(
        answer
            .stdout
            .contains("needs a restart of stanch, and stays as it was until then:\n  store."),
        "{answer:?}"
    );
    assert_eq!(pids(&stanch), before, "nobody was replaced");
    let answer = stanch.command(&["reload", "--roll"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.ends_with("2 worker(s) replaced\n"), "{answer:?}");
    stanch.wait_ready(2);
    let after = pids(&stanch);
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} to {after:?}");
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    let environ = std::fs::read(format!("/proc/{}/environ", after[0])).expect("it lives");
    assert!(String::from_utf8_lossy(&environ).contains("TOKEN=hunter3"));
    // Files that take long to read are told of after the start.
    let hash = |generation: u64| {
        let hash =
            |event: &Value| event["figures"]["configuration_hash"].as_str().map(str::to_owned);
        let of_it = |event: &&Value| event["slot"] == 0 && event["generation"] == generation;
        wait_until(PATIENCE, "a hash", || stanch.events().iter().filter(of_it).find_map(hash))
    };
    assert_ne!(hash(1), hash(2), "the new workers say so");
    let events = stanch.events();
    let all = format!("{events:?}{}{}", stanch.place().log(), answer.stdout);
    assert!(!all.contains("hunter"), "a secret is shown");
    stanch.stop_clean();
}

/// A worker that counts, and is not started again.
fn counting(log: &str) -> String {
    let count = "i=0; while :; do i=$((i+1)); echo counts $i; sleep 0.005; done";
    let app = App::new(["sh", "-c", count]).toml("reload", 1);
    format!("{app}\n[listen]\nmode = \"none\"\n[log]\n{log}\n")
}

/// The numbers in a text, each of which is expected behind these words.
fn numbers(text: &str, before: &str) -> Vec<u64> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split(before).skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

#[test]
fn what_is_printed_goes_elsewhere_without_a_gap() {
    let mut stanch = Stanch::start(&counting("format = \"human\""));
    stanch.wait_ready(1);
    let file = |stanch: &Stanch, name: &str| {
        std::fs::read_to_string(stanch.place().file(name)).unwrap_or_default()
    };
    let await_line = |stanch: &mut Stanch, name: &str, line: &str| {
        stanch.wait_until(line, |stanch| file(stanch, name).contains(line).then_some(()));
    };
    let reload = |stanch: &mut Stanch, log: &str| {
        stanch.place().write_config(&counting(log));
        let answer = stanch.command(&["reload"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.stdout.starts_with("in force:\n  log."), "{answer:?}");
        assert!(!answer.stdout.contains("restart"), "{answer:?}");
    };
    await_line(&mut stanch, "log", "[0] counts 3\n");
    reload(&mut stanch, "worker_output = \"files\"\npath = \"a.log\"");
    await_line(&mut stanch, "a.log", " [0] counts ");
    reload(&mut stanch, "worker_output = \"files\"\npath = \"a.log\"\nformat = \"json\"");
    await_line(&mut stanch, "a.log", "\"stream\":\"stdout\"");
    reload(&mut stanch, "worker_output = \"files\"\npath = \"b.log\"");
    // stanch's own log has followed: this is the first that it said after the last reload.
    await_line(&mut stanch, "log", "\"message\":\"operator_command: ");
    await_line(&mut stanch, "b.log", " [0] counts ");
    reload(&mut stanch, "");
    let (log, mut seen) = (file(&stanch, "log"), Vec::new());
    let last = numbers(&log, "[0] counts ").into_iter().max().expect("it has counted");
    stanch.wait_until("what comes goes to the log again", |stanch| {
        numbers(&file(stanch, "log"), "[0] counts ")
            .last()
            .filter(|number| **number > last + 3)
            .copied()
    });
    assert_eq!(stanch.workers()[0]["restarts"], 0);
    stanch.stop_clean();
    for (name, before) in [
        ("log", "[0] counts "),
        ("a.log", "[0] counts "),
        ("a.log", "\"counts "),
        ("b.log", "[0] counts "),
    ] {
        let found = numbers(&file(&stanch, name), before);
        assert!(!found.is_empty(), "{before} in {name}");
        seen.extend(found);
    }
    seen.sort_unstable();
    assert!(seen.iter().zip(1..).all(|(seen, number)| *seen == number), "{seen:?}");
}

#[test]
fn rotation_and_flood_limit_hold_for_what_is_written_already() {
    let line = "x".repeat(500);
    let shout =
        format!("while :; do for i in 1 2 3 4 5 6 7 8 9; do echo {line}; done; sleep 0.01; done");
    let config = |log: &str| {
        let app = App::new(["sh", "-c", &shout]).toml("reload", 1);
        let log = format!("[log]\nworker_output = \"files\"\npath = \"shout.log\"\n{log}");
        format!("{app}\n[listen]\nmode = \"none\"\n{log}\n")
    };
    let mut stanch = Stanch::start(&config(""));
    stanch.wait_ready(1);
    stanch.place().write_config(&config("rotate = { size = \"64KiB\", keep = 2 }"));
    assert_eq!(stanch.command(&["reload"]).code, Some(0));
    let names = |stanch: &Stanch| {
        let folder = std::fs::read_dir(stanch.place().path()).expect("it is there");
        let names = folder.map(|entry| entry.expect("it is there").file_name());
        names.filter(|name| name.to_string_lossy().starts_with("shout.log.")).count()
    };
    stanch.wait_until("a file set aside", |stanch| (names(stanch) > 0).then_some(()));
    let live = |stanch: &Stanch| {
        std::fs::read_to_string(stanch.place().file("shout.log")).unwrap_or_default()
    };
    assert!(!live(&stanch).contains("were dropped"));
    stanch.place().write_config(&config("flood_limit = 20"));
    assert_eq!(stanch.command(&["reload"]).code, Some(0));
    stanch.wait_until("what was dropped is said", |stanch| {
        live(stanch).contains("lines of this worker were dropped").then_some(())
    });

    let store = stanch.place().store();
    stanch.place().write_config(&config("").replace("\"shout.log\"", &format!("{store:?}")));
    let answer = stanch.command(&["reload"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.stderr.contains("is the audit log"), "{answer:?}");
    stanch.stop_clean();
}

/// In the folder where sockets of that kind stand on this host: a custom one would only be found by its path.
#[test]
fn a_supervisor_is_found_by_its_file_whatever_that_says_now() {
    let config = |name: &str, socket: &str| {
        let app = App::new(["sleep", "600"]).toml(name, 1);
        format!("{app}\n[listen]\nmode = \"none\"\n[control]\n{socket}\n")
    };
    let place = Place::new();
    let name = format!("renamed-{}", std::process::id());
    let file = place.write_config(&config(&name, ""));
    let (mut run, _) = place.run(&file, Output::Log);
    let mut child = run.spawn().expect("it starts");
    let status = || {
        let mut status = place.stanch(&["status", "--json", "--config", "stanch.toml"]);
        let answer = answer(status.current_dir(place.path()));
        serde_json::from_str::<Value>(&answer.stdout).map_err(|_| answer.stderr)
    };
    wait_until(PATIENCE, "an answer", || status().ok());
    for other in [config("another", ""), config(&name, "socket = \"elsewhere.sock\"")] {
        place.write_config(&other);
        let status = status().expect("it is found");
        assert_eq!(status["app"], *name, "{status}");
        assert_eq!(status["config"].as_str(), file.to_str(), "{status}");
    }
    let reload = answer(place.stanch(&["reload", "--config"]).arg(&file));
    assert!(reload.stdout.contains("control.socket: not set → "), "{reload:?}");
    kill(i32::try_from(child.id()).unwrap(), Signal::SIGTERM);
    assert!(child.wait().expect("it is ours").success());
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let place = Place::new();
    let mut command = place.stanch(&["run", "--mode", "none", "--name", "bare"]);
    command.arg("--socket").arg(place.socket()).arg("--store").arg(place.store());
    let mut child = command.args(["--", "sleep", "600"]).spawn().expect("starts");
    let reload = || {
        let mut reload = place.stanch(&["reload", "--socket"]);
        let output = reload.arg(place.socket()).output().expect("runs");
        (output.status.code() != Some(3)).then_some(output)
    };
    let output = wait_until(PATIENCE, "an answer", reload);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("started without --config"), "{said}");
    kill(i32::try_from(child.id()).unwrap(), Signal::SIGTERM);
    assert!(child.wait().expect("it is ours").success());
}
