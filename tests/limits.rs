//! Memory limits on real processes: the hard limit kills, by whoever holds it here; the total limit
//! replaces who has grown most; and the record says whose kill it was.

mod common;

use common::*;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(20);

const HARD_LIMIT_KIB: u64 = 256 * 1024;

fn start(workers: usize, memory: &str) -> (Stanch, SocketAddr) {
    let address = free_address();
    let app = Server::NodeHttp.app(address).toml("limits", workers as u32);
    let mut stanch = Stanch::start(&format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        [leak]
        action = "off"
        [memory]
        sample_interval = "100ms"
        {memory}
        [restart]
        backoff_initial = "10ms"
        [rolling]
        drain_timeout = "2s"
        "#
    ));
    stanch.wait_ready(workers);
    (stanch, address)
}

/// Has the worker behind a connection keep so much; its pid.
fn grow(address: SocketAddr, mib: u64) -> i32 {
    let mut connection = Connection::open(address, REQUEST).expect("connects");
    let mut pid = 0;
    for _ in 0..mib / 16 {
        // It may be killed at any of these.
        match connection.get("/leak?kib=16384") {
            Ok(response) => pid = response.pid(),
            Err(_) => break,
        }
    }
    pid
}

fn event_of(stanch: &mut Stanch, kind: &str, pid: i32) -> Value {
    stanch.wait_until(&format!("{kind} of pid {pid}"), |stanch| {
        stanch.event(&[kind], |event| event["pid"] == pid)
    })
}

/// A supervisor in a memory cgroup of its own, where there is such a thing.
struct Grouped {
    stanch: Stanch,
    group: PathBuf,
}

impl Grouped {
    /// One worker, `script` of the shell in a loop of waiting for [`Grouped::go`]; `$FILL` touches memory
    /// as fast as it goes.
    fn start(world: &'static str, script: &str) -> Self {
        let user = if world == world::UNPRIVILEGED { 65534 } else { geteuid().as_raw() };
        let place = Place::confined(world, user);
        let name = place.path().file_name().expect("a name").to_string_lossy().into_owned();
        let group = PathBuf::from(format!("/sys/fs/cgroup/memory/stanch-test-{name}"));
        let mut grouped = Self { stanch: Self::run(place, script), group };
        grouped.stanch.wait_ready(1);
        grouped
    }

    fn run(place: Place, script: &str) -> Stanch {
        let go = place.file("go");
        let wait = format!("until mv {go:?} {go:?}.taken 2>/dev/null; do sleep 0.05; done");
        let fill = format!("{:?} __fill", place.file("stanch"));
        let script = format!("{wait}\n{}", script.replace("$FILL", &fill));
        let app = App::new(["sh", "-c", &script]).toml("limits", 1);
        let config = format!(
            r#"{app}
            [listen]
            mode = "none"
            [leak]
            action = "off"
            [memory]
            hard_limit = "{HARD_LIMIT_KIB}KiB"
            [restart]
            backoff_initial = "10ms"
            "#
        );
        Stanch::start_in(place, &config, Output::Log)
    }

    fn go(&self) {
        fs::write(self.stanch.place().file("go"), "").expect("can be written");
    }

    fn pid(&self) -> i32 {
        self.stanch.workers()[0]["pid"].as_i64().expect("a pid") as i32
    }

    /// Who holds the limit here.
    fn enforced_by(&self) -> String {
        let status = self.stanch.status();
        status["memory"]["enforced_by"].as_str().expect("a word").to_owned()
    }

    /// The groups that stanch made.
    fn made(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.group) else { return Vec::new() };
        let folders = entries.flatten().filter(|entry| entry.path().is_dir());
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// The end of the worker at its limit, as the record has it.
    fn end_at_limit(&mut self, pid: i32) -> Value {
        let kinds = ["memory_oom_killed", "memory_hard_limit"];
        let end = self.stanch.wait_until("an end at the limit", |stanch| {
            stanch.event(&kinds, |event| event["pid"] == pid)
        });
        assert_eq!(end["cause"], "hard_limit", "{end}");
        assert_eq!(end["figures"]["hard_limit_kib"], HARD_LIMIT_KIB, "{end}");
        if self.enforced_by() == "polling" {
            assert_eq!(end["kind"], "memory_hard_limit", "{end}");
        } else {
            assert_eq!(end["kind"], "memory_oom_killed", "{end}");
            let peak_kib = end["figures"]["peak_kib"].as_u64().expect("a peak");
            // Nearly there, and never beyond.
            let nearly = HARD_LIMIT_KIB - 1024..=HARD_LIMIT_KIB;
            assert!(nearly.contains(&peak_kib), "{end}");
        }
        let retired = event_of(&mut self.stanch, "worker_retired", pid);
        assert_eq!(retired["cause"], "killed", "{retired}");
        assert_eq!(retired["incident"], end["incident"], "{retired}");
        self.stanch.wait_until("a replacement", |stanch| stanch.ready_after(0, 1));
        end
    }

    #[track_caller]
    fn stop_clean(mut self) {
        self.stanch.stop_clean();
        assert_eq!(self.made(), [""; 0]);
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        for folder in self.made() {
            for leaf in fs::read_dir(self.group.join(&folder)).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(leaf.path());
            }
            let _ = fs::remove_dir(self.group.join(folder));
        }
        let _ = fs::remove_dir(&self.group);
    }
}

#[test]
fn the_hard_limit_holds_against_the_fastest_allocator() {
    let mut grouped = Grouped::start(world::OWN_MEMORY, "exec $FILL 2GiB");
    if geteuid().is_root() && grouped.group.exists() {
        assert_eq!(grouped.enforced_by(), "cgroup1");
    }
    let pid = grouped.pid();
    grouped.go();
    grouped.end_at_limit(pid);
    let incident = grouped.stanch.incidents().pop().expect("an incident");
    assert_eq!(incident["kind"], "memory_limit", "{incident}");
    assert_eq!(incident["impact"]["workers_killed"], 1, "{incident}");
    grouped.stop_clean();
}

#[test]
fn the_hard_limit_holds_after_an_upgrade() {
    let mut grouped = Grouped::start(world::OWN_MEMORY, "exec $FILL 2GiB");
    let (pid, enforced_by, made) = (grouped.pid(), grouped.enforced_by(), grouped.made());
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("lives");
    let scores = (score(grouped.stanch.pid()), score(pid));
    for _ in 0..2 {
        let answer = grouped.stanch.command(&["upgrade"]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert_eq!(grouped.pid(), pid);
    assert_eq!((grouped.enforced_by(), grouped.made()), (enforced_by, made));
    assert_eq!((score(grouped.stanch.pid()), score(pid)), scores);
    grouped.go();
    grouped.end_at_limit(pid);
    let next = grouped.pid();
    assert_eq!(score(next), scores.1, "the next one is as the first");
    grouped.go();
    grouped.end_at_limit(next);
    grouped.stop_clean();
}

#[test]
fn a_child_over_the_limit_takes_the_whole_tree_with_it() {
    // The OOM killer of cgroup v1 takes the child alone, and the leader would live on.
    let mut grouped = Grouped::start(world::OWN_MEMORY, "$FILL 2GiB; sleep 1000");
    let pid = grouped.pid();
    grouped.go();
    grouped.end_at_limit(pid);
    wait_for_end(pid);
    grouped.stop_clean();
}

#[test]
fn polling_holds_it_for_an_unprivileged_user() {
    if !geteuid().is_root() {
        // Then the other tests are polled.
        return;
    }
    let mut grouped = Grouped::start(world::UNPRIVILEGED, "exec $FILL 4GiB --hold");
    assert_eq!(grouped.enforced_by(), "polling");
    let pid = grouped.pid();
    grouped.go();
    let end = grouped.end_at_limit(pid);
    eprintln!("overshoot of {}", end["figures"]["growth_kib"]);
    grouped.stop_clean();
}

#[test]
fn what_somebody_else_killed_was_not_over_a_limit() {
    let mut grouped = Grouped::start(world::OWN_MEMORY, "");
    let pid = grouped.pid();
    kill(pid, Signal::SIGKILL);
    let crash = event_of(&mut grouped.stanch, "worker_crashed", pid);
    assert_eq!(crash["cause"], "foreign_kill", "{crash}");
    grouped.stop_clean();
}

#[test]
fn the_hosts_oom_killer_is_pointed_at_workers() {
    let grouped = Grouped::start(world::OWN_MEMORY, "");
    let score = |pid: i32| -> i32 {
        let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives");
        text.trim().parse().expect("a number")
    };
    let (supervisor, worker) = (score(grouped.stanch.pid()), score(grouped.pid()));
    assert!(worker >= supervisor + 100, "{worker} against {supervisor}");
    grouped.stop_clean();
}

#[test]
fn groups_that_a_killed_supervisor_left_are_swept() {
    let mut grouped = Grouped::start(world::OWN_MEMORY, "");
    let worker = grouped.pid();
    kill(grouped.stanch.pid(), Signal::SIGKILL);
    grouped.stanch.wait_end();
    let left = grouped.made();
    if grouped.group.exists() {
        assert_eq!(left.len(), 1, "{left:?}");
    }
    kill(worker, Signal::SIGKILL);
    wait_for_end(worker);
    grouped.stanch.restart();
    grouped.stanch.wait_ready(1);
    let now = grouped.made();
    assert!(left.iter().all(|folder| !now.contains(folder)), "{now:?}");
    grouped.stop_clean();
}

#[test]
fn the_total_limit_replaces_who_has_grown_most() {
    let (mut stanch, address) = start(2, "total_limit = \"400MiB\"");
    let pid = grow(address, 400);
    let limit = event_of(&mut stanch, "memory_total_limit", pid);
    let drain = event_of(&mut stanch, "drain_started", pid);
    assert_eq!(drain["incident"], limit["incident"], "{drain}");
    wait_for_end(pid);
    stanch.wait_ready(2);
    stanch.stop_clean();
}
