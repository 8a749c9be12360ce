//! Starts launchers and waits for what becomes of them, never without a deadline.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use stanch::core::WorkerId;
use stanch::linux::launch::Plan;
use stanch::linux::spawn::{Launcher, Launching, Listener, Output, Pipes, Progress, SpawnError};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout};

pub const STANCH: &str = env!("CARGO_BIN_EXE_stanch");
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// A plan for worker 2.7.
pub fn plan(program: &str, arguments: &[&str]) -> Plan {
    let mut plan = Plan::new(WorkerId::new(2, 7), program);
    plan.arguments = arguments.iter().map(Into::into).collect();
    plan
}

pub fn spawn() -> Launching {
    spawn_from(&Launcher::at(STANCH))
}

pub fn spawn_from(launcher: &Launcher) -> Launching {
    launcher.spawn("stanch: launching test slot 2", Output::Pipes, None).unwrap()
}

/// Goes on with the plan until the command has ended; what it wrote to its standard output.
pub async fn finish(launching: Launching, plan: &Plan) -> Result<Vec<u8>, SpawnError> {
    finish_with(launching, plan, &[]).await
}

/// [`finish`] with sockets to inherit.
pub async fn finish_with(
    mut launching: Launching,
    plan: &Plan,
    listeners: &[Listener<'_>],
) -> Result<Vec<u8>, SpawnError> {
    launching.proceed(plan, listeners).unwrap();
    let outcome = until_running(&mut launching).await;
    let output = read_output(&mut launching).await;
    let end = reap(launching.pid()).await;
    match outcome {
        Ok(()) => assert!(matches!(end, WaitStatus::Exited(_, 0)), "{end:?}"),
        Err(SpawnError::Refused { .. }) => {
            assert!(matches!(end, WaitStatus::Exited(_, 70)), "{end:?}");
            assert_eq!(String::from_utf8_lossy(&output), "", "the launcher writes nothing");
        }
        Err(_) => {}
    }
    outcome.map(|()| output)
}

pub async fn until_running(launching: &mut Launching) -> Result<(), SpawnError> {
    loop {
        if let Progress::Running = launching.next(deadline()).await? {
            return Ok(());
        }
    }
}

/// All that the process and its children write to standard output; what they write to standard error
/// is not looked at, and must fit in the pipe.
pub async fn read_output(launching: &mut Launching) -> Vec<u8> {
    let Pipes { stdout, stderr: _open } = launching.take_pipes().unwrap();
    let mut stdout = Receiver::from_owned_fd(stdout).unwrap();
    let mut output = Vec::new();
    timeout(PATIENCE, stdout.read_to_end(&mut output)).await.expect("ends in time").unwrap();
    output
}

/// How the process ended.
pub async fn reap(pid: i32) -> WaitStatus {
    let wait = tokio::task::spawn_blocking(move || waitpid(Pid::from_raw(pid), None).unwrap());
    timeout(PATIENCE, wait).await.expect("ends in time").unwrap()
}

pub async fn run_bytes(plan: &Plan) -> Vec<u8> {
    finish(spawn(), plan).await.unwrap()
}

pub async fn run(plan: &Plan) -> String {
    String::from_utf8(run_bytes(plan).await).unwrap()
}

/// The value of a line `name: value`.
pub fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim()
}

/// An executable file. Written by a process of its own: a descriptor that is open for writing here
/// could be inherited by what another test starts at that moment, and `execve` then gives ETXTBSY.
pub fn script(path: &Path, text: &str) {
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", r#"printf '%s' "$2" >"$1""#, "write"])
        .args([path.as_os_str(), text.as_ref()])
        .status();
    assert!(status.unwrap().success());
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// A launcher whose process first runs some Python: what a supervisor in another situation hands on.
pub struct Disguised {
    _folder: TempDir,
    launcher: Launcher,
}

impl Disguised {
    pub fn spawn(&self) -> Launching {
        spawn_from(&self.launcher)
    }
}

/// The Python runs with `os`, `signal`, `resource` and `nobody()`, which gives up root.
pub fn disguised(python: &str) -> Disguised {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("launcher");
    let program = format!(
        "#!/usr/bin/env python3\n\
         import os, resource, signal\n\
         def nobody():\n    os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n\
         program = os.open({STANCH:?}, os.O_RDONLY)\n\
         {python}\n\
         os.execve(program, ['stanch', '__launch'], os.environ)\n"
    );
    script(&path, &program);
    Disguised { _folder: folder, launcher: Launcher::at(path) }
}
