//! What this machine may not be able to show, in a virtual one: cgroup v2 with its memory controller,
//! systemd, and what is left when the power goes.
//!
//! A room of steps is a folder of shell scripts; each step runs alone in a fresh folder of the guest,
//! with the words of `guest/lib.sh`, and its exit code is its outcome.

#[path = "../common/mod.rs"]
mod common;
mod machine;

use machine::Machine;
use serde_json::Value;

#[test]
fn cgroup2() {
    // Less memory than one of the steps asks for.
    let mut machine = Machine::new();
    machine.program("stanch", env!("CARGO_BIN_EXE_stanch")).memory_mib(512);
    machine.run_steps("cgroup2");
}

/// The unit under Debian's systemd.
#[test]
fn systemd() {
    let mut machine = Machine::new();
    machine.program("stanch", env!("CARGO_BIN_EXE_stanch")).memory_mib(1024).with_systemd();
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/stanch@.service");
    machine.link("usr/bin/stanch", "/bin/stanch");
    machine.file("etc/systemd/system/stanch@.service", unit);
    machine.run_steps("systemd");
}

/// What is acknowledged survives the loss of all memory. (What lies in a disk's own volatile cache at that
/// moment survives here whether or not it was flushed: the host keeps it.)
#[test]
fn the_power_goes_in_a_storm_of_events() {
    /// Events that are seen before it goes; other numbers find other places.
    const SEEN: [usize; 3] = [60, 25, 41];
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::new();
    machine.program("stanch", env!("CARGO_BIN_EXE_stanch"));
    machine.disk(&folder.path().join("disk"), 64);
    let mut noted = 0;
    for (round, enough) in SEEN.into_iter().enumerate() {
        let said = machine.run_until("reset", |said| {
            said.contains("verified failed") || said.matches("\"hash\":").count() > enough
        });
        assert!(!said.contains("verified failed"), "{said}");
        assert_eq!(said.contains("### verified ok"), round > 0, "{said}");
        // The last line may be half of one.
        let mut events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = events.next_back().unwrap();
        let seq = last["seq"].as_u64().unwrap();
        assert!(seq > noted, "{said}");
        noted = seq;
        machine.tell(&format!("noted={}", last["hash"].as_str().unwrap()));
    }
    let said = machine.run_until("reset", |said| said.contains("### verified"));
    assert!(said.contains("### verified ok"), "{said}");
}
