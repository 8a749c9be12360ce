//! `stanch doctor` on hosts of several kinds, and what it leaves behind: nothing.

mod common;

use common::world::{TRAPPED, UNPRIVILEGED, WITHOUT_GETFD, WITHOUT_PTRACE};
use common::{PATIENCE, Place, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAMES: [&str; 19] = [
    "takeover",
    "steering",
    "steering_ipv6",
    "moving_queues",
    "recovery",
    "process_tree",
    "memory_limit",
    "memory_pressure",
    "swap",
    "oom_score",
    "connections",
    "hang_up",
    "user",
    "open_files",
    "store",
    "control_socket",
    "kernel",
    "container",
    "clock",
];

/// Those that differ between hosts on which root may do everything.
const OF_THE_HOST: [&str; 6] = [
    "process_tree",
    "memory_limit",
    "memory_pressure",
    "oom_score",
    "steering_ipv6",
    "moving_queues",
];

/// What a doctor said.
#[derive(Debug)]
struct Told {
    code: Option<i32>,
    checks: BTreeMap<String, Value>,
    stderr: String,
}

impl Told {
    #[track_caller]
    fn assert(&self, name: &str, outcome: &str, words: &[(&str, &str)]) {
        let check = &self.checks[name];
        assert_eq!(check["outcome"], outcome, "{check:#}");
        assert_eq!(check["remedy"].is_null(), outcome == "ok", "{check:#}");
        for (key, word) in words {
            let text = check[key].as_str().expect("a text");
            assert!(text.contains(word), "no {word:?} in {key} of {check:#}");
        }
    }
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Runs `doctor --json` to its end, and looks whether anything is left.
#[track_caller]
fn examine(place: &Place, mut command: Command) -> Told {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    nothing_left(place, pid);
    let answer: Value = serde_json::from_slice(&output.stdout).expect(&stderr);
    assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    let checks = answer["checks"].as_array().expect("a list");
    let names: Vec<&str> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    assert_eq!(names, NAMES);
    let keys: Vec<_> = checks.iter().map(|check| check.as_object().expect("an object")).collect();
    for check in keys {
        let mut keys: Vec<_> = check.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["found", "means", "name", "outcome", "remedy"]);
    }
    let named = |check: &Value| (check["name"].as_str().expect("a name").to_owned(), check.clone());
    Told { code: output.status.code(), checks: checks.iter().map(named).collect(), stderr }
}

#[track_caller]
fn nothing_left(place: &Place, doctor: u32) {
    let left = place.processes();
    assert!(left.is_empty(), "processes that outlived the doctor: {left:?}");
    let mark = format!("stanch-doctor.{doctor}");
    let cgroups = found_below(Path::new("/sys/fs/cgroup"), &mark);
    assert!(cgroups.is_empty(), "{cgroups:?}");
    let files = found_below(place.path(), ".stanch-doctor-");
    assert!(files.is_empty(), "{files:?}");
}

/// What has a name that begins like this.
fn found_below(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(name) {
            found.push(path);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(found_below(&path, name));
        }
    }
    found
}

/// A configuration in the place.
fn config(place: &Place, more: &str) -> String {
    let path = place.write_config(&format!("[app]\ncommand = [\"true\"]\n{more}"));
    path.to_str().expect("a UTF-8 path").to_owned()
}

#[test]
fn a_host_that_allows_everything() {
    if !root() {
        return;
    }
    let place = Place::new();
    let told =
        examine(&place, place.stanch(&["doctor", "--json", "--config", &config(&place, "")]));
    for name in NAMES.iter().filter(|name| !OF_THE_HOST.contains(name)) {
        told.assert(name, "ok", &[]);
    }
    told.assert("takeover", "ok", &[("found", "none was lost")]);
    {
        let found = told.checks["memory_limit"]["found"].as_str().expect("a text");
        assert!(found.contains("killed by the kernel at its limit"), "{found}");
    }
    told.assert("store", "ok", &[("found", "store.db can be made")]);
    told.assert("control_socket", "ok", &[("found", "control.sock can be made")]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
}

#[test]
fn nobody_is_told_what_root_could_do() {
    if !root() {
        return;
    }
    let place = Place::new();
    let told = examine(&place, place.stanch_in(UNPRIVILEGED, &["doctor", "--json"]));
    let remedy = ("remedy", "CAP_SYS_ADMIN");
    told.assert("takeover", "limited", &[("means", "no_new_privs"), remedy]);
    told.assert("steering", "ok", &[]);
    told.assert("connections", "ok", &[]);
    told.assert("hang_up", "ok", &[]);
    told.assert("user", "missing", &[("found", "stage user"), ("remedy", "CAP_SETUID")]);
    let bound = [("means", "every 5 ms"), ("means", "MiB/s here"), ("remedy", "Delegate=yes")];
    told.assert("memory_limit", "limited", &bound);
    told.assert("oom_score", "limited", &[("remedy", "CAP_SYS_RESOURCE")]);
    assert_eq!(told.code, Some(0), "everything has a fallback: {}", told.stderr);
}

#[test]
fn without_pidfd_getfd_takeover_is_limited() {
    let place = Place::new();
    let told = examine(&place, place.stanch_in(WITHOUT_GETFD, &["doctor", "--json"]));
    let remedy = ("remedy", "SYS_PTRACE");
    told.assert("takeover", "limited", &[("means", "pidfd_getfd is refused"), remedy]);
    told.assert("hang_up", "limited", &[("found", "pidfd_getfd"), remedy]);
    told.assert("container", "ok", &[("found", "seccomp")]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
}

#[test]
fn below_another_listener_takeover_is_missing() {
    let place = Place::new();
    let told = examine(&place, place.stanch_in(TRAPPED, &["doctor", "--json"]));
    told.assert(
        "takeover",
        "missing",
        &[("found", "stage filter"), ("found", "EBUSY"), ("means", "\"inherit\"")],
    );
    told.assert("takeover", "missing", &[("remedy", "outside of the supervisor")]);
    told.assert("steering", "ok", &[]);
    told.assert("hang_up", "ok", &[]);
    assert_eq!(told.code, Some(1));
    assert_eq!(told.stderr, "stanch: the default configuration cannot work here: takeover\n");

    // What does not need it works.
    let inherit = config(&place, "[listen]\naddress = \"127.0.0.1:8000\"\nmode = \"inherit\"\n");
    let told =
        examine(&place, place.stanch_in(TRAPPED, &["doctor", "--json", "--config", &inherit]));
    told.assert("takeover", "missing", &[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
}

#[test]
fn without_ptrace_the_workers_of_another_user_are_out_of_reach() {
    if !root() {
        return;
    }
    let place = Place::new();
    let other = config(&place, "user = \"65534\"\ngroup = \"65534\"\n");
    let doctor = ["doctor", "--json", "--config", &other];
    let told = examine(&place, place.stanch_in(WITHOUT_PTRACE, &doctor));
    let found = [("found", "stage Bind"), ("found", "EACCES"), ("remedy", "CAP_SYS_PTRACE")];
    told.assert("takeover", "missing", &found);
    told.assert("user", "ok", &[]);
    told.assert("hang_up", "limited", &[("remedy", "CAP_SYS_PTRACE")]);
    let found = [("found", "EPERM"), ("means", "a gap"), ("remedy", "CAP_SYS_PTRACE")];
    told.assert("recovery", "limited", &found);
    assert_eq!(told.code, Some(1));
}

#[test]
fn what_the_configuration_names_must_be_there() {
    let place = Place::new();
    let file = place.file("file");
    fs::write(&file, "").expect("it can be written");
    let below = format!(
        "user = \"no-such-user\"\n[store]\npath = \"{0}/store.db\"\n[control]\nsocket = \"{0}/sock\"\n",
        file.display()
    );
    let told =
        examine(&place, place.stanch(&["doctor", "--json", "--config", &config(&place, &below)]));
    told.assert("user", "missing", &[("found", "no user \"no-such-user\"")]);
    told.assert("store", "missing", &[("found", "Not a directory")]);
    told.assert("control_socket", "missing", &[("found", "Not a directory")]);
    assert_eq!(told.code, Some(1));
    assert_eq!(
        told.stderr,
        "stanch: this configuration cannot work here: user, store, control socket\n"
    );
}

#[test]
fn people_get_lines() {
    let place = Place::new();
    let output = place.stanch_in(TRAPPED, &["doctor"]).output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("a text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("missing takeover: tried with the built-in server: stage"),
        "{text}"
    );
    assert!(lines.iter().any(|line| line.starts_with("        means   no hand-over")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("        do      run stanch out")), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("ok      steering: attached")), "{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
}

/// A doctor that runs, and so does a server of it. One that ends before it is seen in that state is
/// started again: its servers live for some milliseconds only.
fn in_the_middle(place: &Place, mut doctor: Command) -> Child {
    let begun = std::time::Instant::now();
    doctor.stdout(Stdio::null()).stderr(Stdio::null());
    while begun.elapsed() < PATIENCE {
        let mut doctor = doctor.spawn().expect("it starts");
        while doctor.try_wait().expect("it is our child").is_none() {
            if place.processes().into_iter().any(is_server) {
                return doctor;
            }
        }
    }
    panic!("no server was seen");
}

fn is_server(pid: i32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).any(|word| word == b"__leaky-server")
}

#[test]
fn a_doctor_that_is_interrupted_clears_away() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let place = Place::new();
        wait_until(PATIENCE, "one did not end before the signal came", || {
            let mut doctor = in_the_middle(&place, place.stanch(&["doctor"]));
            common::kill(doctor.id().cast_signed(), signal);
            let status = doctor.wait().expect("it is our child");
            nothing_left(&place, doctor.id());
            (!status.success()).then(|| assert_eq!(status.code(), Some(1), "{signal}"))
        });
    }
}

#[test]
fn the_servers_of_a_doctor_that_is_killed_end_too() {
    let place = Place::new();
    // Here the only server is one without a filter: others end when nobody answers their calls.
    let mut doctor = in_the_middle(&place, place.stanch_in(TRAPPED, &["doctor"]));
    common::kill(doctor.id().cast_signed(), Signal::SIGKILL);
    doctor.wait().expect("it is our child");
    wait_until(PATIENCE, "they have ended", || place.processes().is_empty().then_some(()));
}

#[test]
fn run_says_what_it_does_without_and_names_the_doctor() {
    let limited = "pidfd_getfd is refused here: options that the workers set on their sockets";
    let refused = "could not install the takeover filter";
    for (world, words) in [(WITHOUT_GETFD, limited), (TRAPPED, refused)] {
        let place = Place::new();
        let binary = env!("CARGO_BIN_EXE_stanch");
        let path = place.write_config(&format!(
            "[app]\ncommand = [{binary:?}, \"__leaky-server\", \"--address\", \"{}\", \"--session\", \
             \"1KiB\"]\n",
            common::free_address()
        ));
        let path = path.to_str().expect("a UTF-8 path");
        let log = fs::File::create(place.file("log")).expect("the log can be written");
        let mut run = place.stanch_in(world, &["run", "--config", path]);
        let mut run = run.stdout(Stdio::null()).stderr(log).spawn().expect("it starts");
        wait_until(PATIENCE, words, || {
            let log = place.log();
            let line = log.lines().find(|line| line.contains(words))?;
            assert!(line.contains("`stanch doctor`"), "{line}");
            Some(())
        });
        common::kill(run.id().cast_signed(), Signal::SIGTERM);
        run.wait().expect("it is our child");
    }
}
