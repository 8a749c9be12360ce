//! Memory limits on real servers: the hard limit kills, the total limit replaces who has grown most.

mod common;

use common::*;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(20);

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

#[test]
fn the_hard_limit_kills_and_the_record_says_that_stanch_did() {
    let (mut stanch, address) = start(1, "hard_limit = \"200MiB\"");
    let pid = grow(address, 400);
    wait_for_end(pid);
    let limit = event_of(&mut stanch, "memory_hard_limit", pid);
    let end = event_of(&mut stanch, "worker_retired", pid);
    assert_eq!(end["cause"], "killed", "{end}");
    assert_eq!(end["incident"], limit["incident"], "{end}");
    stanch.wait_until("a replacement", |stanch| stanch.ready_after(0, 1));
    let incident = stanch.incidents().pop().expect("an incident");
    assert_eq!(incident["kind"], "memory_limit", "{incident}");
    assert_eq!(incident["impact"]["workers_killed"], 1, "{incident}");
    stanch.stop_clean();
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
