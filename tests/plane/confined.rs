//! Hosts that forbid something.

use crate::stage::{Stage, free_port, heard};
use crate::world::{MIGRATING, UNPRIVILEGED, WITHOUT_GETFD, WITHOUT_PTRACE, confined};
use crate::{Stuck, hands_over, hands_over_both_families, id, local, python, words};
use nix::errno::Errno;
use stanch::core::Weight;
use stanch::linux::plane::PlaneEvent;
use stanch::linux::seccomp::{Call, install};
use std::net::TcpStream;

/// Runs an ignored test of this binary in a process of its own.
fn run_confined(script: &str, test: &str) {
    let binary = std::env::current_exe().unwrap();
    let output = confined(script, binary)
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
    for (kind, host) in [("plain", "127.0.0.1"), ("dual", "::"), ("multipath", "127.0.0.1")] {
        let port = free_port();
        hands_over(&python(kind, host, port), host, port);
    }
    hands_over_both_families();
    // A server that binds `::` for both families, where only IPv4 was thought of.
    let port = free_port();
    let mut stage = Stage::new(&[&format!("0.0.0.0:{port}")]);
    stage.start_listening(id(1), &words(&python("dual", "::", port)));
    stage.ask_until(local(port), "0.1");
    // The socket is not its own, which shows that the filter was in force.
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    stage.start_listening(id(1), &words(&python("sockets", "127.0.0.1", port)));
    let said = stage.probe(id(1));
    let mut inodes = said.split(' ');
    assert_ne!(inodes.next(), inodes.next());
    let told = stage
        .events
        .iter()
        .any(|event| matches!(event, PlaneEvent::Bound { options_kept: false, .. }));
    assert!(told, "{:?}", stage.events);
}

#[test]
fn a_worker_that_may_not_be_looked_into_is_reported() {
    if nix::unistd::geteuid().is_root() {
        run_confined(WITHOUT_PTRACE, "confined::inside_without_ptrace");
    } else {
        eprintln!("skipped: needs root");
    }
}

#[test]
#[ignore = "runs confined"]
fn inside_without_ptrace() {
    let port = free_port();
    let mut stage = Stage::new(&[&local(port).to_string()]);
    let command = python("plain", "127.0.0.1", port);
    stage.start(id(1), &words(&command), Some(65534));
    stage.ask_until(local(port), "0.1");
    let calls: Vec<Call> = stage
        .events
        .iter()
        .map(|event| match event {
            PlaneEvent::LetThrough { worker, call, errno: Errno::EACCES } if *worker == id(1) => {
                *call
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(calls, [Call::Bind, Call::Listen]);
    assert_eq!(stage.plane.probe_target(id(1)), None);
}

#[test]
fn takeover_needs_no_privilege() {
    if nix::unistd::geteuid().is_root() {
        run_confined(UNPRIVILEGED, "confined::inside_unprivileged");
    } else {
        inside_unprivileged();
    }
}

#[test]
#[ignore = "runs confined"]
fn inside_unprivileged() {
    assert!(!nix::unistd::geteuid().is_root());
    for (kind, host) in [("plain", "127.0.0.1"), ("epoll_first", "0.0.0.0"), ("dual", "::")] {
        let port = free_port();
        hands_over(&python(kind, host, port), host, port);
    }
    let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if start.trim() == "0" {
        return;
    }
    // The supervisor has no right to this port, so the worker has none either.
    let mut stage = Stage::new(&["127.0.0.1:1"]);
    stage.start(id(1), &words(&python("plain", "127.0.0.1", 1)), None);
    assert_eq!(stage.reap(id(1)), Some(Errno::EACCES as i32));
    let expected = PlaneEvent::BindFailed {
        worker: id(1),
        address: local(1),
        errno: Errno::EACCES,
        owner: None,
    };
    assert_eq!(stage.events, [expected]);
}

#[test]
fn the_queue_of_a_worker_that_ends_or_hangs_goes_to_the_others_where_the_kernel_moves_it() {
    if nix::unistd::geteuid().is_root() {
        run_confined(MIGRATING, "confined::inside_migrating");
    } else {
        eprintln!("skipped: needs root");
    }
}

#[test]
#[ignore = "runs confined"]
fn inside_migrating() {
    for hangs in [false, true] {
        let Stuck { mut stage, address, queued } = Stuck::new();
        let command = python("plain", "127.0.0.1", address.port());
        stage.start_listening(id(3), &words(&command));
        stage.plane.admit(id(3), Weight::FULL).unwrap();
        // One that leaves a free member behind: nothing may be moved there.
        stage.start_listening(id(4), &words(&command));
        stage.kill(id(4));
        if hangs {
            stage.plane.divert(id(1)).unwrap();
            stage.plane.abandon(id(1)).unwrap();
        } else {
            stage.kill(id(1));
        }
        let new = (0..50).map(|_| TcpStream::connect(address).unwrap());
        for connection in queued.into_iter().chain(new) {
            let by = heard(connection).unwrap();
            assert!(["0.2", "0.3"].contains(&by.as_str()), "served by {by}, hangs: {hangs}");
        }
        // The next worker makes a member of its own.
        stage.start_listening(id(5), &words(&command));
        assert_eq!(stage.probe(id(5)), "0.5");
    }
}

#[test]
fn a_nested_supervisor_is_told_so() {
    const PLAIN: &str = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])";
    run_confined(PLAIN, "confined::installs_twice");
}

#[test]
#[ignore = "runs in a process of its own"]
fn installs_twice() {
    let unprivileged = !nix::unistd::geteuid().is_root();
    let _listener = install(unprivileged).unwrap();
    let error = install(unprivileged).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(error.to_string().contains("inherit"), "says what to do: {error}");
}
