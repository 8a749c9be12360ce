//! Hosts that forbid something.

use crate::stage::{Stage, free_port};
use crate::{hands_over, id, local, python, words};
use std::process::Command;

/// Installs a filter that answers `pidfd_getfd` with EPERM, as Docker's default profile does, and
/// executes its arguments.
const WITHOUT_GETFD: &str = r#"
import ctypes, os, struct, sys
step = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
PIDFD_GETFD, ALLOW, EPERM = 438, 0x7FFF0000, 0x00050001
code = step(0x20, 0, 0, 0) + step(0x15, 0, 1, PIDFD_GETFD) + step(6, 0, 0, EPERM) + step(6, 0, 0, ALLOW)
buffer = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
assert libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Runs an ignored test of this binary in a process of its own.
fn run_confined(script: &str, test: &str) {
    let binary = std::env::current_exe().unwrap();
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(binary)
        .args(["--ignored", "--exact", test, "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn takeover_does_without_pidfd_getfd() {
    run_confined(WITHOUT_GETFD, "confined::inside_without_getfd");
}

#[test]
#[ignore = "runs confined"]
fn inside_without_getfd() {
    let us = std::process::id();
    let taken = nix::unistd::Pid::from_raw(us as i32);
    assert!(nix::sys::signal::kill(taken, None).is_ok());
    for (kind, host) in [("plain", "127.0.0.1"), ("dual", "::"), ("multipath", "127.0.0.1")] {
        let port = free_port();
        hands_over(&python(kind, host, port), host, port);
    }
    // The socket is not its own, which shows that the filter was in force.
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    stage.start_listening(id(1), &words(&python("sockets", "127.0.0.1", port)));
    let said = stage.probe(id(1));
    let mut inodes = said.split(' ');
    assert_ne!(inodes.next(), inodes.next());
}

#[test]
fn a_nested_supervisor_is_told_so() {
    let said = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "confined::installs_twice", "--nocapture"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
#[ignore = "runs in a process of its own"]
fn installs_twice() {
    use stanch::linux::seccomp::install;
    let unprivileged = !nix::unistd::geteuid().is_root();
    let _listener = install(unprivileged).unwrap();
    let error = install(unprivileged).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("inherit"), "says what to do: {error}");
}
