//! Takeover, steering and drain with the rights that a supervisor may have: root for workers of another
//! user, an ordinary user, and root in a container that took all capabilities away.

mod common;

use common::*;

/// Two workers are rolled under load, and no request fails.
fn rolls(place: Place, more: &str) -> Vec<i32> {
    let address = free_address();
    // Where every user can read it.
    let script = place.file("server.js");
    std::fs::copy(servers().join("node-http/server.js"), &script).expect("can be copied");
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let app = App::new(["node", &script.to_string_lossy(), &host, &port]).toml("rights", 2);
    let app = app.replacen("[app]\n", &format!("[app]\n{more}\n"), 1);
    let config = format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        "#
    );
    let mut stanch = Stanch::start_in(place, &config, Output::Log);
    stanch.wait_ready(2);
    let pids: Vec<i32> = stanch
        .workers()
        .iter()
        .map(|worker| worker["pid"].as_i64().expect("a pid") as i32)
        .collect();
    let owners = pids.iter().map(|pid| owner(*pid)).collect();
    let load = Load::start(address, Style::Connect, 2);
    load.wait_for(50);
    let answer = stanch.command(&["restart"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    for slot in [0, 1] {
        assert!(stanch.ready_after(slot, 1).is_some(), "slot {slot} was not replaced");
    }
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failed(), 0, "{tally:?}");
    stanch.stop_clean();
    owners
}

fn owner(pid: i32) -> i32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(format!("/proc/{pid}")).expect("it lives").uid() as i32
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn root_with_workers_of_another_user() {
    if is_root() {
        assert_eq!(rolls(Place::new(), "user = \"nobody\""), [65534, 65534]);
    }
}

#[test]
fn an_ordinary_user() {
    if is_root() {
        assert_eq!(rolls(Place::confined(world::UNPRIVILEGED, 65534), ""), [65534, 65534]);
    } else {
        rolls(Place::new(), "");
    }
}

#[test]
fn root_without_any_capability() {
    if is_root() {
        assert_eq!(rolls(Place::confined(world::WITHOUT_CAPABILITIES, 0), ""), [0, 0]);
    }
}
