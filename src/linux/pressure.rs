//! The host's memory: what is available, whether processes wait for it, and how often its OOM killer
//! came.
//!
//! PSI (Documentation/accounting/psi.rst): who writes `some STALL_us WINDOW_us` into
//! `/proc/pressure/memory` and keeps it open is woken (POLLPRI) when processes together waited for
//! memory that long within a window. Without CAP_SYS_RESOURCE the window must be a multiple of 2 s.
#![allow(unsafe_code)]

use crate::linux::procfs::{Procfs, contents};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// 15% of the time, in the window that anybody may have.
const TRIGGER: &[u8] = b"some 300000 2000000\0";

/// Wakes when processes wait for memory.
#[derive(Debug)]
pub struct Stalls(AsyncFd<OwnedFd>);

impl Stalls {
    /// Asks the kernel to be woken. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// `ENOENT` or `EOPNOTSUPP`: no PSI in this kernel, or not switched on (`psi=1`).
    pub fn watch(procfs: &Procfs) -> io::Result<Self> {
        let path = procfs.root().join("pressure/memory");
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        file.write_all(TRIGGER)?;
        // SAFETY: the descriptor is owned by what is registered, which never replaces it.
        let fd = unsafe { AsyncFd::register_with_interest(file.into(), Interest::PRIORITY) };
        Ok(Self(fd?))
    }

    /// Waits for the next stall.
    pub async fn next(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}

/// What could be had without swapping (`MemAvailable`).
pub fn available_kib(procfs: &Procfs) -> Option<u64> {
    meminfo_kib(procfs, "MemAvailable:")
}

/// All swap space of the host.
pub fn swap_kib(procfs: &Procfs) -> Option<u64> {
    meminfo_kib(procfs, "SwapTotal:")
}

fn meminfo_kib(procfs: &Procfs, name: &str) -> Option<u64> {
    let text = contents(&procfs.root().join("meminfo")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

/// How often any OOM killer of this host took a process, since it booted.
pub fn oom_kills(procfs: &Procfs) -> Option<u64> {
    let text = contents(&procfs.root().join("vmstat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// How readily the OOM killer takes a process, from -1000 to 1000: a thousandth of all memory is added
/// to its size for each point.
pub fn oom_score_adj(procfs: &Procfs, pid: Pid) -> Option<i32> {
    let path = procfs.root().join(pid.to_string()).join("oom_score_adj");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Sets it.
///
/// # Errors
/// `EACCES`: less than a privileged process had set, without CAP_SYS_RESOURCE.
pub fn set_oom_score_adj(procfs: &Procfs, pid: Pid, adj: i32) -> io::Result<()> {
    let path = procfs.root().join(pid.to_string()).join("oom_score_adj");
    OpenOptions::new().write(true).open(path)?.write_all(adj.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = Procfs::new(folder.path());
        assert_eq!((available_kib(&procfs), oom_kills(&procfs)), (None, None));
        let meminfo = "MemTotal:       24684084 kB\nMemFree:  1 kB\nMemAvailable:   24076708 kB\n";
        fs::write(folder.path().join("meminfo"), meminfo).unwrap();
        fs::write(folder.path().join("vmstat"), "oom_kill_x 3\noom_kill 7\npgfault 1\n").unwrap();
        assert_eq!((available_kib(&procfs), oom_kills(&procfs)), (Some(24_076_708), Some(7)));
    }

    #[test]
    fn this_kernel_agrees() {
        let procfs = Procfs::default();
        assert!(available_kib(&procfs).unwrap() > 0);
        assert!(oom_kills(&procfs).is_some());
        let me = nix::unistd::getpid();
        let adj = oom_score_adj(&procfs, me).unwrap();
        set_oom_score_adj(&procfs, me, adj + 1).unwrap();
        assert_eq!(oom_score_adj(&procfs, me), Some(adj + 1));
    }
}
