//! A new process, born in the cgroup it belongs to.
//!
//! Moving a process into another cgroup (writing `cgroup.procs`) makes the kernel wait until every
//! processor has passed through the scheduler: `cgroup_attach_lock` takes a per-CPU semaphore for
//! writing, which costs an RCU grace period, 10 to 25 ms of a worker's restart. `clone3` with
//! `CLONE_INTO_CGROUP` (Linux 5.7) makes the process there in the first place and waits for nothing.
//!
//! glibc has no wrapper for it before 2.38, so it is called directly, in the way of `fork` (without
//! `CLONE_VM`: sharing the memory would need a stack and assembly of our own). The page tables of the
//! supervisor are copied, which is cheap because it is small.
//!
//! Between here and `execve` the child is a copy of a process with other threads, any of which may
//! have held a lock: nothing in it allocates, locks or panics.
#![allow(unsafe_code)]

use crate::linux::launch::control;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

/// linux/sched.h
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process that was made.
pub(super) struct Child {
    pub pid: i32,
    /// Whether it is in the cgroup that was asked for.
    pub placed: bool,
}

/// What the child turns into.
pub(super) struct Image<'a> {
    pub program: &'a CStr,
    pub arguments: &'a [&'a CStr],
    /// Its standard input, output and error; `None` keeps the supervisor's own.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
}

/// Starts `image` in a process of its own, in the cgroup whose folder is given, if the kernel can do
/// that; all its signals are blocked. When the program cannot be executed the child sends the errno
/// to its standard input, see [`control::errno`].
///
/// # Errors
/// `EAGAIN` or `ENOMEM`: no process could be made.
pub(super) fn start(image: &Image<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Child, Errno> {
    let mut arguments: Vec<*const c_char> =
        image.arguments.iter().map(|word| word.as_ptr()).collect();
    arguments.push(ptr::null());
    let stdio = image.stdio.map(|fd| fd.map(|fd| fd.as_raw_fd()));
    // A handler of the supervisor must not run in the child, where it would write to the pipe that it
    // shares with the supervisor.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let born = match cgroup.map(|cgroup| clone_into(cgroup)) {
        Some(Err(refused)) if !matches!(refused, Errno::EAGAIN | Errno::ENOMEM) => {
            fork().map(|pid| (pid, false))
        }
        Some(made) => made.map(|pid| (pid, true)),
        None => fork().map(|pid| (pid, false)),
    };
    if let Ok((0, _)) = born {
        // SAFETY: this is the child; all pointers are of strings that live in this frame's callers.
        unsafe { become_image(image.program.as_ptr(), arguments.as_ptr(), stdio) }
    }
    mask.thread_set_mask()?;
    born.map(|(pid, placed)| Child { pid, placed })
}

fn clone_into(cgroup: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: all zero is a valid value of this struct of integers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.as_raw_fd() as u64;
    // SAFETY: the kernel reads `args` of the given size; without CLONE_VM the child has a copy of this
    // stack, and it only calls `become_image`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    Errno::result(pid).map(|pid| pid as i32)
}

fn fork() -> Result<i32, Errno> {
    // SAFETY: the child only calls `become_image`.
    Errno::result(unsafe { libc::fork() })
}

/// # Safety
/// To be called in a new process only. The pointers are of strings that end in NUL and of an array of
/// such that ends in a null pointer.
unsafe fn become_image(
    program: *const c_char,
    arguments: *const *const c_char,
    stdio: [Option<RawFd>; 3],
) -> ! {
    // SAFETY: async-signal-safe calls only, on integers, on a local and on what the caller vouches
    // for. The descriptors are above 2 (the standard library opens all three at the start), so none
    // overwrites another.
    unsafe {
        let mut ready = true;
        for (number, fd) in (0..).zip(stdio) {
            if let Some(fd) = fd {
                ready &= libc::dup2(fd, number) == number;
            }
        }
        if ready {
            libc::execv(program, arguments);
        }
        let errno = control::errno_packet(*libc::__errno_location());
        if let Some(control) = stdio[0] {
            libc::send(control, errno.as_ptr().cast(), errno.len(), libc::MSG_NOSIGNAL);
        }
        libc::_exit(control::FAILED.into())
    }
}
