//! Acting on one certain process or on nobody.
//!
//! `pidfd_open` (Linux 5.3) pins whoever has the pid now. If that one's start time is the wanted
//! process's, what is done through the descriptor cannot hit a later owner of the pid.
#![allow(unsafe_code)]

use super::procfs::{ProcessId, Procfs};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The end of a process that need not be a child; how it ended only its parent learns.
#[derive(Debug)]
pub struct End(AsyncFd<OwnedFd>);

impl End {
    /// That of this very process; `None` when it is over.
    ///
    /// # Errors
    /// What the runtime's epoll said.
    pub fn of(procfs: &Procfs, id: ProcessId) -> io::Result<Option<Self>> {
        let register = |pidfd| {
            // SAFETY: the descriptor is owned by what is registered, and open as long as that lives.
            unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map(Self)
        };
        Ok(of(procfs, id).map(register).transpose()?)
    }

    /// Waits for it.
    pub async fn wait(&self) {
        // A pidfd is readable from the end of the process on (pidfd_open(2)).
        let _ = self.0.readable().await;
    }
}

/// Sends the signal if the process still exists; whether it was sent.
pub fn send(procfs: &Procfs, id: ProcessId, signal: Signal) -> bool {
    let Some(pidfd) = of(procfs, id) else { return false };
    // SAFETY: the descriptor is open for the length of the call; a null siginfo asks the kernel to
    // fill it in as kill(2) does.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    sent == 0
}

/// A pidfd of this very process, if it still exists.
pub fn of(procfs: &Procfs, id: ProcessId) -> Option<OwnedFd> {
    let pidfd = open(id.pid.as_raw()).ok()?;
    (procfs.identify(id.pid) == Some(id)).then_some(pidfd)
}

/// A pidfd of whoever has the pid now.
pub(super) fn open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two integers and touches no memory of ours.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A second descriptor, close-on-exec, of the open file that `fd` is in the process (`pidfd_getfd`,
/// Linux 5.6). Needs the right to trace it.
///
/// # Errors
/// `EPERM` without that right, `EBADF` if nothing is open there.
pub fn take(pidfd: impl AsFd, fd: RawFd) -> Result<OwnedFd, Errno> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: takes three integers.
    let taken = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, fd, 0) })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(taken as RawFd) })
}
