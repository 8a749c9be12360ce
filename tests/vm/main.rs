//! What this machine may not be able to show, in a virtual one: cgroup v2 with its memory controller.
//!
//! A room of steps is a folder of shell scripts; each step runs alone in a fresh folder of the guest,
//! with the words of `guest/lib.sh`, and its exit code is its outcome.

#[path = "../common/mod.rs"]
mod common;
mod machine;

use machine::Machine;

#[test]
fn cgroup2() {
    // Less memory than one of the steps asks for.
    let mut machine = Machine::new();
    machine.program("stanch", env!("CARGO_BIN_EXE_stanch")).memory_mib(512);
    machine.run_steps("cgroup2");
}
