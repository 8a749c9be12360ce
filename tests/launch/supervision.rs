//! The time between the start of a launcher and the start of its command.

use crate::harness::*;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use stanch::linux::spawn::{Launcher, Output, SpawnError};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use tokio::time::Instant;

#[tokio::test]
async fn a_waiting_launcher_is_known_by_its_title() {
    let deadline = deadline();
    let launching = spawn();
    let path = format!("/proc/{}/cmdline", launching.pid());
    // For a moment it still has the arguments of its parent, then none.
    let title = b"stanch: launching test slot 2\0__launch\0";
    while std::fs::read(&path).unwrap() != title {
        assert!(Instant::now() < deadline, "no title");
    }
    let pid = launching.pid();
    drop(launching);
    assert!(matches!(reap(pid).await, WaitStatus::Exited(_, 0)));
}

#[tokio::test]
async fn nothing_runs_without_a_plan() {
    let mut launching = spawn();
    let soon = Instant::now() + std::time::Duration::from_millis(50);
    let error = launching.next(soon).await.unwrap_err();
    assert!(matches!(error, SpawnError::Overdue { pid } if pid == launching.pid()), "{error:?}");
    // Waiting was given up, the launcher was not.
    assert_eq!(finish(launching, &plan("/bin/echo", &["late"])).await.unwrap(), b"late\n");
}

#[tokio::test]
async fn a_launcher_that_was_killed_is_told_from_a_success() {
    let mut launching = spawn();
    kill(Pid::from_raw(launching.pid()), Signal::SIGKILL).unwrap();
    reap(launching.pid()).await;
    launching.proceed(&plan("/bin/true", &[]), &[]).unwrap();
    let error = launching.next(deadline()).await.unwrap_err();
    assert!(matches!(error, SpawnError::Died { .. }), "{error:?}");
}

#[tokio::test]
async fn last_words_are_heard_after_the_end() {
    // Fails before it reads its plan, so it leaves a reset connection behind as well as its reason.
    let leader = disguised("os.setpgid(0, 0)");
    let mut launching = leader.spawn();
    launching.proceed(&plan("/bin/true", &[]), &[]).unwrap();
    reap(launching.pid()).await;
    let error = launching.next(deadline()).await.unwrap_err();
    assert_eq!(error.stage(), "session", "{error:?}");
}

#[tokio::test]
async fn an_environment_larger_than_any_socket_buffer_is_no_trouble() {
    let mut plan = plan("/bin/sh", &["-c", "echo ${#V0} ${#V9}"]);
    for number in 0..10 {
        plan.environment.set(format!("V{number}"), "x".repeat(120_000));
    }
    assert_eq!(run(&plan).await, "120000 120000\n");
}

/// Not a test: a supervisor to be killed, started by the test below.
#[test]
#[ignore = "started by a test"]
fn helper_supervisor() {
    let launching = Launcher::at(STANCH).spawn("stanch: orphan", Output::Inherit, None).unwrap();
    println!("\nlauncher {}", launching.pid());
    // Holds the control socket until it is killed.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    unreachable!("was to be killed");
}

#[test]
fn a_launcher_ends_with_its_supervisor() {
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervision::helper_supervisor", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(supervisor.stdout.take().unwrap());
    let (tell, told) = mpsc::channel();
    // The launcher holds the same pipe as its supervisor: it ends when both are gone.
    std::thread::spawn(move || {
        let lines = output.lines().map(Result::unwrap);
        lines
            .filter(|line| line.starts_with("launcher "))
            .for_each(|line| tell.send(line).unwrap());
    });
    let line = told.recv_timeout(PATIENCE).unwrap();
    let launcher: i32 = line.strip_prefix("launcher ").unwrap().parse().unwrap();
    assert!(std::fs::exists(format!("/proc/{launcher}")).unwrap());
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let end = told.recv_timeout(PATIENCE);
    assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected), "the launcher ends too");
}
