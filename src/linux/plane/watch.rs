//! Epoll registrations that a server made before it bound its socket (Netty's native transport does).
//!
//! An epoll registration belongs to an open file and a descriptor number together. When a kept socket
//! takes the number of the server's own socket, the registration stays with the old file, and the
//! server would never hear of a connection. So it is made again for the kept one, in the server's
//! epoll: `/proc/PID/fdinfo` tells what was registered, `pidfd_getfd` takes the epoll, and a thread
//! with a descriptor table of its own (`unshare(CLONE_FILES)`) has the kept socket on the very number
//! that it will have in the server, so that a later `EPOLL_CTL_MOD` or `DEL` there finds it. The
//! registration outlives the thread, since it holds while the open file does.
#![allow(unsafe_code)]

use super::caller::{Caller, errno};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;

/// One registration.
struct Watch {
    epoll: OwnedFd,
    events: u32,
    data: u64,
}

/// Makes every registration of `fd` in the caller's epolls again for `socket`, which will be put on
/// that number.
///
/// # Errors
/// The caller's epoll may not be taken (`EPERM`), or `fd` is over the supervisor's own limit
/// (`EBADF`).
pub(super) fn copy(
    caller: Caller,
    fd: RawFd,
    own_inode: u64,
    socket: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let watches = watches(caller, fd, own_inode)?;
    if watches.is_empty() {
        return Ok(());
    }
    thread::scope(|scope| {
        let register = || register(&watches, fd, socket);
        let helper = thread::Builder::new().spawn_scoped(scope, register).map_err(errno)?;
        helper.join().unwrap_or(Err(Errno::EIO))
    })
}

fn watches(caller: Caller, fd: RawFd, own_inode: u64) -> Result<Vec<Watch>, Errno> {
    let mut watches = Vec::new();
    for entry in fs::read_dir(caller.path("fd")).map_err(errno)?.flatten() {
        let is_epoll = fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str() == "anon_inode:[eventpoll]");
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if !is_epoll {
            continue;
        }
        let info = fs::read_to_string(caller.path(&format!("fdinfo/{number}"))).map_err(errno)?;
        for (events, data) in info.lines().filter_map(|line| registration(line, fd, own_inode)) {
            watches.push(Watch { epoll: caller.take(number)?, events, data });
        }
    }
    Ok(watches)
}

/// Reads `tfd: 5 events: 19 data: 5 pos:0 ino:a1 sdev:8` (all but tfd and pos in hex), if it is of
/// this descriptor and this socket.
fn registration(line: &str, fd: RawFd, own_inode: u64) -> Option<(u32, u64)> {
    let spaced = line.replace(':', " ");
    let mut words = spaced.split_whitespace();
    let mut value = |name: &str| (words.next()? == name).then(|| words.next()).flatten();
    let target: RawFd = value("tfd")?.parse().ok()?;
    let events = u32::from_str_radix(value("events")?, 16).ok()?;
    let data = u64::from_str_radix(value("data")?, 16).ok()?;
    let _position = value("pos")?;
    let inode = u64::from_str_radix(value("ino")?, 16).ok()?;
    (target == fd && inode == own_inode).then_some((events, data))
}

/// Runs in a thread of its own, whose descriptors are gone when it ends.
fn register(watches: &[Watch], fd: RawFd, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_FILES)?;
    // Out of the way first: one of them may stand on the number that is needed.
    let mut epolls = Vec::new();
    for watch in watches {
        // SAFETY: takes integers; the new descriptor is in this thread's own table.
        let above = unsafe { libc::fcntl(watch.epoll.as_raw_fd(), libc::F_DUPFD_CLOEXEC, fd + 1) };
        epolls.push(Errno::result(above)?);
    }
    // SAFETY: takes integers; what stood on `fd` is closed in this thread's own table alone.
    Errno::result(unsafe { libc::dup2(socket.as_raw_fd(), fd) })?;
    for (watch, epoll) in watches.iter().zip(epolls) {
        let mut event = libc::epoll_event { events: watch.events, u64: watch.data };
        // SAFETY: the event outlives the call; the kernel only reads it.
        let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        match Errno::result(added) {
            // A call that was interrupted and comes a second time.
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_fdinfo_is_read() {
        let line = "tfd:        5 events:       19 data: ffffffff00000005  pos:0 ino:a1 sdev:8";
        assert_eq!(registration(line, 5, 0xa1), Some((0x19, 0xffff_ffff_0000_0005)));
        assert_eq!(registration(line, 4, 0xa1), None, "another descriptor");
        assert_eq!(registration(line, 5, 0xa2), None, "another socket");
        assert_eq!(registration("flags:\t02", 5, 0xa1), None);
    }
}
