//! Processes, as /proc shows them.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

/// Sends a signal to one process of the test's own.
#[track_caller]
pub fn kill(pid: i32, signal: Signal) {
    assert!(pid > 1, "pid {pid} is no worker");
    nix::sys::signal::kill(Pid::from_raw(pid), signal)
        .unwrap_or_else(|error| panic!("{signal} to {pid}: {error}"));
}

/// Whether the process is there and not a zombie.
pub fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// The parent of a process.
pub fn parent(pid: i32) -> Option<i32> {
    stat(pid).map(|(_, parent)| parent)
}

/// Waits until the process has ended (zombies have).
#[track_caller]
pub fn wait_for_end(pid: i32) {
    super::wait_until(super::PATIENCE, "the process has ended", || (!alive(pid)).then_some(()));
}

/// The most resident memory that a process has had.
pub fn resident_peak_kib(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("a process that runs has a VmHWM")
}

/// State and parent of a process; none when it is gone.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, also brackets and blanks.
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The processes that carry this variable with this value, zombies left out.
pub fn marked(variable: &str, value: &str) -> Vec<i32> {
    let mark = format!("{variable}={value}").into_bytes();
    let processes = fs::read_dir("/proc").expect("/proc is there");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| environment(*pid).split(|&byte| byte == 0).any(|variable| variable == mark))
        .collect()
}

/// Empty of a zombie, and of a process just gone. In the middle of an exec it is empty too: that one is
/// asked again.
fn environment(pid: i32) -> Vec<u8> {
    let mut environment = Vec::new();
    for _ in 0..50 {
        environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // Kernel threads and zombies have no program.
        if !environment.is_empty() || fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    environment
}

/// Kills all that carry the mark, also those that come while it works.
pub fn kill_marked(variable: &str, value: &str) {
    for _ in 0..250 {
        let found = marked(variable, value);
        if found.is_empty() {
            return;
        }
        for pid in found {
            // One that ended in the meantime is as good.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("still there after five seconds of SIGKILL: {:?}", marked(variable, value));
}
