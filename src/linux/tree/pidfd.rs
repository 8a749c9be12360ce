//! A signal that hits one certain process or nobody.
//!
//! `pidfd_open` (Linux 5.3) pins whoever has the pid now. If that one's start time is the wanted
//! process's, a signal through the descriptor cannot hit a later owner of the pid.
#![allow(unsafe_code)]

use crate::linux::procfs::{ProcessId, Procfs};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Sends the signal if the process still exists; whether it was sent.
pub(super) fn send(procfs: &Procfs, id: ProcessId, signal: Signal) -> bool {
    let Some(pidfd) = open(id.pid) else { return false };
    if procfs.identify(id.pid) != Some(id) {
        return false;
    }
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

fn open(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: a result that is not negative is a new descriptor, and nobody else has it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
