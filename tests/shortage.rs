//! What a supervisor needs is not to be had, or is taken from it, while it runs: it goes on supervising, the
//! workers serve, it says what is missing, and it is whole again when that is back.

mod common;

use common::*;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Who is not root sees his own processes only.
const HIDDEN_PROCESSES: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 16384, 1 << 18
assert libc.unshare(CLONE_NEWNS) == 0, ctypes.get_errno()
assert libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0
assert libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), b"hidepid=2") == 0, ctypes.get_errno()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Two workers of node.
fn start(place: Place) -> (Stanch, SocketAddr) {
    let address = free_address();
    let script = place.file("server.js");
    fs::copy(servers().join("node-http/server.js"), &script).expect("can be copied");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let app = App::new(["node", &script.to_string_lossy(), &host, &port]).toml("shortage", 2);
    let config = format!(
        "{app}\n[listen]\naddress = [\"{address}\"]\n[rolling]\nslow_start = \"0s\"\n\
         [restart]\nbackoff_initial = \"10ms\"\nbackoff_max = \"100ms\"\n\
         intensity = {{ restarts = 10000, within = \"10s\" }}\n"
    );
    let mut stanch = Stanch::start_in(place, &config, Output::Log);
    stanch.wait_ready(2);
    (stanch, address)
}

/// Sets a soft limit of a live process.
fn limit(pid: i32, limit: &str) {
    let owner = fs::metadata(format!("/proc/{pid}")).expect("it lives").uid().to_string();
    // As its own user: root without CAP_SYS_RESOURCE may not touch the limits of others.
    let mut command = Command::new("env");
    if nix::unistd::geteuid().is_root() {
        command.args(["setpriv", "--reuid", &owner, "--regid", &owner, "--clear-groups"]);
    }
    let set = command.args(["prlimit", "--pid", &pid.to_string(), limit]).status();
    assert!(set.expect("util-linux has it").success(), "{limit}");
}

fn pid(worker: &Value) -> i32 {
    worker["pid"].as_i64().expect("it has one") as i32
}

/// A worker dies and cannot be replaced while the limit holds; the other serves. Then it can.
fn starved(mut stanch: Stanch, address: SocketAddr, scarce: &str, again: &str, said: &str) {
    let supervisor = stanch.pid();
    let before = stanch.workers();
    limit(supervisor, scarce);
    kill(pid(&before[0]), Signal::SIGKILL);
    let store = stanch.place().file("log");
    wait_until(PATIENCE, "the log says what is missing", || {
        fs::read_to_string(&store).unwrap_or_default().contains(said).then_some(())
    });
    for _ in 0..20 {
        get(address, "/", Duration::from_secs(20)).expect("the other one serves");
    }
    limit(supervisor, again);
    stanch.wait_until("there are two again", |stanch| {
        let ready = stanch.workers().iter().filter(|worker| worker["state"] == "ready").count();
        (ready == 2).then_some(())
    });
    assert_eq!(pid(&stanch.workers()[1]), pid(&before[1]), "the other one was let alone");
    let failed = stanch.event(&["worker_start_failed"], |event| {
        event["reason"].as_str().is_some_and(|reason| reason.contains(said))
    });
    assert!(failed.is_some(), "{:?}", stanch.events());
    let answer = stanch.ask_store(&["verify"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    stanch.stop_clean();
}

fn soft_limit(pid: i32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("it is listed");
    line.split_whitespace().next().expect("a number").to_owned()
}

#[test]
fn no_descriptor_is_left() {
    let (stanch, address) = start(Place::new());
    let before = soft_limit(stanch.pid(), "Max open files");
    let again = format!("--nofile={before}:");
    starved(stanch, address, "--nofile=10:", &again, "Too many open files");
}

#[test]
fn no_process_can_be_made() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let (stanch, address) = start(Place::confined(world::UNPRIVILEGED, 65534));
    let before = soft_limit(stanch.pid(), "Max processes");
    let again = format!("--nproc={before}:");
    starved(stanch, address, "--nproc=1:", &again, "Resource temporarily unavailable");
}

#[test]
fn other_processes_cannot_be_seen() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let (mut stanch, address) = start(Place::confined(HIDDEN_PROCESSES, 65534));
    let load = Load::start(address, Style::Connect, 2);
    load.wait_for(50);
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    // The first reading of a worker may be of its launcher.
    stanch.wait_until("all are read", |stanch| {
        let read = |worker: &Value| worker["rss_kib"].as_u64() > Some(10_000);
        stanch.workers().iter().all(read).then_some(())
    });
}

/// The cgroup2 of a process, if there is one of the worker's own.
fn leaf(pid: i32) -> Option<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists())?;
    Some(root.join(own)).filter(|leaf| leaf.to_string_lossy().contains("/worker-"))
}

#[test]
fn a_cgroup_is_taken_away() {
    let (mut stanch, address) = start(Place::new());
    let worker = stanch.workers().remove(0);
    let Some(leaf) = leaf(pid(&worker)) else {
        eprintln!("skipped: workers have no cgroup here");
        return;
    };
    let above = leaf.parent().and_then(Path::parent).expect("it is below stanch's own");
    for process in fs::read_to_string(leaf.join("cgroup.procs")).unwrap().lines() {
        fs::write(above.join("cgroup.procs"), process).expect("it can be moved");
    }
    fs::remove_dir(&leaf).expect("it is empty");
    get(address, "/", Duration::from_secs(20)).expect("it serves");
    // It is known by kinship now: its end is seen, and so is what it has.
    let answer = stanch.command(&["restart", "0"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(!alive(pid(&worker)), "the old one was ended");
    let new = stanch.ready_after(0, 1).expect("it was replaced");
    kill(pid(&new), Signal::SIGKILL);
    stanch.wait_until("a crash is seen", |stanch| stanch.ready_after(0, 2));
    stanch.stop_clean();
}
