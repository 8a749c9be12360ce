//! The pipes that a worker writes its output to, and how they outlive the supervisor.
//!
//! A pipe without a reader answers a write with SIGPIPE or EPIPE: a Go program dies of it, node ends on
//! the error, Python's `http.server` drops the request that it logs. So the worker's own descriptor is
//! open for reading as well (the kernel reopens a pipe through `/proc/self/fd`, like a FIFO): the pipe
//! has a reader as long as it has a writer, and its end is seen as before, when the last of the worker's
//! descriptors is closed. While nobody reads, lines wait in the pipe, and a worker that fills it waits;
//! the next supervisor opens it anew ([`reopen`]) and loses none.
#![allow(unsafe_code)]

use crate::linux::procfs::{ProcessId, Procfs};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::pipe2;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What waits while nobody reads. The kernel's usual 64 KiB are soon full; more than this would soon
/// be over what one user may have in all pipes (`fs.pipe-user-pages-soft`, 64 MiB).
const SIZE_BYTES: i32 = 256 * 1024;

/// A pipe: the supervisor's end, non-blocking, and the worker's. Both are close-on-exec.
pub(super) fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    super::nonblocking(&read)?;
    // A smaller one does too.
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE_BYTES));
    let path = format!("/proc/self/fd/{}", write.as_raw_fd());
    let both = open(path.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    Ok((read, both.unwrap_or(write)))
}

/// The supervisor's end, once more, of the pipe that is descriptor `number` of a worker's leader;
/// `None` if that is no pipe of `make`'s: a pipe between processes of the worker is not open for
/// both.
pub fn reopen(procfs: &Procfs, leader: ProcessId, number: RawFd) -> Option<OwnedFd> {
    let folder = procfs.root().join(leader.pid.to_string());
    let path = folder.join(format!("fd/{number}"));
    let is_pipe = || fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("pipe:"));
    let info = fs::read_to_string(folder.join(format!("fdinfo/{number}"))).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = OFlag::from_bits_retain(i32::from_str_radix(flags.trim(), 8).ok()?);
    let ours = is_pipe() && flags & OFlag::O_ACCMODE == OFlag::O_RDWR;
    let mode = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let end = ours.then(|| open(&path, mode, Mode::empty()).ok())??;
    // Still the same process: what was opened was its.
    (procfs.identify(leader.pid) == Some(leader)).then_some(end)
}

/// How many bytes wait in a pipe; 0 where that cannot be told.
pub fn waiting(pipe: impl AsFd) -> usize {
    nix::ioctl_read_bad!(readable, nix::libc::FIONREAD, nix::libc::c_int);
    let mut bytes = 0;
    // SAFETY: the kernel writes an int, to a local that outlives the call.
    let told = unsafe { readable(pipe.as_fd().as_raw_fd(), &raw mut bytes) };
    told.ok().and_then(|_| usize::try_from(bytes).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::unistd::{getpid, read, write};

    #[test]
    fn a_pipe_outlives_its_reader_and_nothing_is_lost() {
        let (reader, worker) = make().unwrap();
        drop(reader);
        assert_eq!(write(&worker, b"said meanwhile"), Ok(14), "no SIGPIPE, no EPIPE");
        let (procfs, us) = (Procfs::default(), getpid());
        let us = procfs.identify(us).unwrap();
        let reader = reopen(&procfs, us, worker.as_raw_fd()).expect("it is a pipe of ours");
        assert_eq!(waiting(&reader), 14);
        let mut text = [0; 64];
        assert_eq!(read(&reader, &mut text), Ok(14));
        assert_eq!(&text[..14], b"said meanwhile");
        assert_eq!(read(&reader, &mut text), Err(Errno::EAGAIN), "the worker may say more");
        drop(worker);
        assert_eq!(read(&reader, &mut text), Ok(0), "the end is seen");
    }

    #[test]
    fn a_pipe_of_the_workers_own_is_left_alone() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let procfs = Procfs::default();
        let us = procfs.identify(getpid()).unwrap();
        assert!(reopen(&procfs, us, read.as_raw_fd()).is_none());
        assert!(reopen(&procfs, us, write.as_raw_fd()).is_none());
        let file = fs::File::open("/dev/null").unwrap();
        assert!(reopen(&procfs, us, file.as_raw_fd()).is_none());
    }
}
