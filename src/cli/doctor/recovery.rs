//! Whether the next stanch has the workers of one that was killed again.

use super::check::Check;
use super::worker::errno_words;
use super::{Host, PATIENCE};
use crate::linux::launch::Credentials;
use crate::linux::pidfd;
use crate::linux::procfs::{ProcessId, Procfs};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Leaves a process that is nobody's child, and says who it is.
const ORPHAN: &str = "sleep 5 </dev/null >/dev/null 2>&1 & echo $!";

/// A process whose parent has ended, as the workers' user; killed when dropped.
struct Orphan<'a> {
    procfs: &'a Procfs,
    id: ProcessId,
}

impl<'a> Orphan<'a> {
    fn start(host: &'a Host) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", ORPHAN]);
        if let Some(Credentials { uid, gid, .. }) = &host.credentials {
            shell.uid(*uid).gid(*gid);
        }
        let told = shell.output()?;
        let pid = String::from_utf8_lossy(&told.stdout).trim().parse().ok();
        let id = pid.and_then(|pid| host.procfs.identify(Pid::from_raw(pid)));
        let id = id.ok_or_else(|| io::Error::other("it left no process behind"))?;
        Ok(Self { procfs: &host.procfs, id })
    }
}

impl Drop for Orphan<'_> {
    fn drop(&mut self) {
        pidfd::send(self.procfs, self.id, Signal::SIGKILL);
        let lives =
            || self.procfs.stat(self.id.pid).is_some_and(|s| s.id == self.id && s.is_alive());
        let begun = Instant::now();
        while lives() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a descriptor can be taken from a worker whose supervisor is dead.
pub(super) fn recovery(host: &Host) -> Check {
    let name = "recovery";
    let orphan = match Orphan::start(host) {
        Ok(orphan) => orphan,
        Err(error) => {
            let found = format!("no process could be started by /bin/sh to try it with: {error}");
            let remedy = "install /bin/sh, and let the workers' user execute it";
            return Check::limited(name, found, "it is not known", remedy);
        }
    };
    let taken = pidfd::of(&host.procfs, orphan.id).ok_or(Errno::ESRCH);
    match taken.and_then(|pidfd| pidfd::take(pidfd, 0)) {
        Ok(_) => Check::ok(
            name,
            format!("took a descriptor of a process that is no child{}", scope()),
            "when stanch is killed, the next one has the workers and their sockets again",
        ),
        Err(errno) => Check::limited(
            name,
            format!(
                "tried to take a descriptor of a process that is no child: {}{}",
                errno_words(errno),
                scope()
            ),
            "when stanch is killed, its workers serve on, and the next one ends them before it starts its own: \
             a gap; not under systemd with FileDescriptorStoreMax=",
            "give stanch CAP_SYS_PTRACE; or run the workers as stanch's own user, with \
             kernel.yama.ptrace_scope=0",
        ),
    }
}

/// What the security module Yama allows, where there is one.
fn scope() -> String {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.map_or(String::new(), |scope| format!("; kernel.yama.ptrace_scope is {}", scope.trim()))
}
