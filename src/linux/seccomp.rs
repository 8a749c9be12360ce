//! The seccomp filter that makes a worker ask the supervisor before `bind`, `listen` and `shutdown`,
//! and the supervisor's end of it.
//!
//! The launcher calls [`install`] as the last step before exec; the filter survives exec and is
//! inherited by every process that the worker forks, so that one [`NotifyFd`] speaks for the whole
//! tree. A trapped call sleeps in the kernel until the supervisor answers; every other call costs
//! the worker the ~50 ns of the filter (`seccomp_unotify(2)`; Linux 5.0, `ADDFD` 5.9).
//!
//! What is let through without a question, and why:
//! - `shutdown(fd, SHUT_WR)`: it ends nearly every HTTP connection (socketserver, node, nginx), so
//!   trapping it would put the supervisor on the path of each request; and on a listening socket it
//!   does nothing (`inet_shutdown` acts on a listener only with `RCV_SHUTDOWN`). A server that ends
//!   its connections with `SHUT_RDWR` waits for an answer each time: ~20 µs against 1 µs, measured
//!   with `perf_counter` around 3,000 calls in Python and an otherwise idle supervisor.
//! - calls of a foreign architecture (i386 programs, x32): their numbers and the layout of their
//!   arguments differ. x32 shares the architecture tag of x86_64, but sets bit 30 in each number,
//!   so that none of its calls equals one that is trapped.
//! - io_uring's `BIND`, `LISTEN` and `SHUTDOWN` are not system calls of their own and cannot be seen.
//!
//! Least kernels: `WAIT_KILLABLE_RECV` is 5.19. With it a caller whose question was read sleeps
//! through signals that do not kill; without it such a signal restarts the call and the same
//! question comes a second time, so whoever answers must give the same answer twice.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `AUDIT_ARCH_X86_64`: `EM_X86_64 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE` (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 62 | 0x8000_0000 | 0x4000_0000;
/// `AUDIT_ARCH_AARCH64`: `EM_AARCH64 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE`.
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 183 | 0x8000_0000 | 0x4000_0000;

// Offsets in struct seccomp_data; both architectures are little-endian, so the low half of an
// argument comes first.
const NR: u32 = 0;
const ARCH: u32 = 4;
const SECOND_ARGUMENT: u32 = 16 + 8;

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

const fn load(offset: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

const fn equal(k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k, jt, jf)
}

const fn answer(k: u32) -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, k, 0, 0)
}

/// Jumps count from the next instruction: the two answers stand at 8 and 9.
const FILTER: [libc::sock_filter; 10] = [
    load(ARCH),
    equal(NATIVE_ARCH, 0, 6),
    load(NR),
    equal(libc::SYS_bind as u32, 5, 0),
    equal(libc::SYS_listen as u32, 4, 0),
    equal(libc::SYS_shutdown as u32, 0, 2),
    load(SECOND_ARGUMENT),
    equal(libc::SHUT_WR as u32, 0, 1),
    answer(libc::SECCOMP_RET_ALLOW),
    answer(libc::SECCOMP_RET_USER_NOTIF),
];

/// Installs the filter on the calling thread and returns the supervisor's end, close-on-exec.
///
/// To be called in the launcher, which has one thread, as the last step before exec: from here on
/// `bind`, `listen` and `shutdown` of this thread wait for an answer. `no_new_privs` must be set when
/// the caller lacks `CAP_SYS_ADMIN`; it cannot be taken back, and breaks sudo and file capabilities
/// in the worker.
///
/// # Errors
/// `ResourceBusy` when another supervisor already listens to this process: the kernel allows one
/// listener in a chain of filters (`EBUSY`). `PermissionDenied` without `no_new_privs` and
/// `CAP_SYS_ADMIN`. Else what the kernel said (`EINVAL` before Linux 5.0 or without seccomp).
pub fn install(no_new_privs: bool) -> io::Result<OwnedFd> {
    if no_new_privs {
        nix::sys::prctl::set_no_new_privs()?;
    }
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    match set_filter(listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(Errno::EINVAL) => set_filter(listener),
        result => result,
    }
    .map_err(|errno| match errno {
        Errno::EBUSY => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another supervisor already answers system calls of this process (EBUSY: the kernel \
             allows one seccomp listener); use listen mode \"inherit\" here",
        ),
        Errno::EACCES => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a filter needs no_new_privs or CAP_SYS_ADMIN (EACCES)",
        ),
        other => other.into(),
    })
}

fn set_filter(flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    let program = libc::sock_fprog { len: FILTER.len() as u16, filter: FILTER.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, and the kernel only reads it.
    let fd = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    let fd = Errno::result(fd)?;
    // SAFETY: with NEW_LISTENER the call returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// One of the trapped calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `bind(fd, sockaddr, length)`.
    Bind,
    /// `listen(fd, backlog)`.
    Listen,
    /// `shutdown(fd, SHUT_RD or SHUT_RDWR)`.
    Shutdown,
}

/// A thread of the worker sleeps in a trapped call until it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    /// Names the call in the answer; dead as soon as the caller is.
    pub id: u64,
    /// The calling thread, in the pid namespace of the supervisor; 0 when it is not visible there.
    pub tid: i32,
    /// Which call; `None` for one that the filter does not trap.
    pub call: Option<Call>,
    /// Its arguments, as the registers had them: an `int` is only the low half.
    pub args: [u64; 6],
}

/// What the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call was done for it: 0.
    Done,
    /// The call failed.
    Fail(Errno),
    /// The kernel carries the call out as if nobody had asked.
    Continue,
}

/// The supervisor's end of a filter: readable while a call waits, hung up when the last process
/// under the filter is gone.
#[derive(Debug)]
pub struct NotifyFd(OwnedFd);

impl From<OwnedFd> for NotifyFd {
    /// Takes over what [`install`] returned in the launcher.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for NotifyFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for NotifyFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl NotifyFd {
    /// Registered with the tokio runtime, to be waited for: readable while a call waits, closed when
    /// no process with the filter is left.
    ///
    /// # Errors
    /// What the runtime's epoll said.
    pub fn registered(self: Arc<Self>) -> io::Result<AsyncFd<Arc<Self>>> {
        // SAFETY: the descriptor is owned, also by what is registered, so it stays open and the same for
        // as long as it is.
        Ok(unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) }?)
    }

    /// The next waiting call, or `None` when none waits. Never blocks, as long as one thread alone
    /// receives: the kernel's count of questions only falls when one is received, so it is never
    /// less than what poll has just seen, and a caller that was killed in between gives `ENOENT`.
    ///
    /// # Errors
    /// What poll or `SECCOMP_IOCTL_NOTIF_RECV` said.
    pub fn recv(&self) -> io::Result<Option<Notification>> {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO)?;
        if !fds[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLIN)) {
            return Ok(None);
        }
        // SAFETY: plain integers, for which zero is a value; the kernel demands a zeroed one.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request's number carries the size of the struct that it fills.
        let result = unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut raw) };
        match result {
            Ok(()) => {}
            Err(Errno::ENOENT | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        let call = match libc::c_long::from(raw.data.nr) {
            libc::SYS_bind => Some(Call::Bind),
            libc::SYS_listen => Some(Call::Listen),
            libc::SYS_shutdown => Some(Call::Shutdown),
            _ => None,
        };
        Ok(Some(Notification { id: raw.id, tid: raw.pid as i32, call, args: raw.data.args }))
    }

    /// Whether the call still waits. What was read from `/proc/TID` before this said yes was that
    /// thread's and not of a later one with the same number.
    pub fn id_valid(&self, id: u64) -> bool {
        let mut id = id;
        // SAFETY: the request reads one u64.
        unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut id) }.is_ok()
    }

    /// Answers a call. A caller that is gone needs none: that is not an error.
    ///
    /// # Errors
    /// What `SECCOMP_IOCTL_NOTIF_SEND` said.
    pub fn respond(&self, id: u64, answer: Answer) -> io::Result<()> {
        let mut raw = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
        match answer {
            Answer::Done => {}
            Answer::Fail(errno) => raw.error = -(errno as i32),
            Answer::Continue => raw.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        }
        // SAFETY: the request's number carries the size of the struct that it reads.
        match unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut raw) } {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts the open file of `source` on descriptor `target` of the caller, closing what is there
    /// (as dup2 does). The caller goes on waiting.
    ///
    /// # Errors
    /// `ENOENT` when the caller is gone; `EBADF` when `target` is over its limit.
    pub fn add_fd(
        &self,
        id: u64,
        source: BorrowedFd<'_>,
        target: RawFd,
        close_on_exec: bool,
    ) -> Result<(), Errno> {
        let mut raw = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: source.as_raw_fd() as u32,
            newfd: target as u32,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        // SAFETY: the request's number carries the size of the struct that it reads.
        unsafe { self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut raw) }
    }

    /// # Safety
    /// `argument` must be what `request` reads or fills.
    unsafe fn ioctl<T>(&self, request: libc::Ioctl, argument: *mut T) -> Result<(), Errno> {
        // SAFETY: the descriptor is open; the caller vouches for the argument.
        Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter over a call, as the kernel does.
    fn verdict(arch: u32, nr: i64, second_argument: u32) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let step = &FILTER[at];
            at += 1;
            if step.code == load(0).code {
                accumulator = match step.k {
                    NR => nr as u32,
                    ARCH => arch,
                    SECOND_ARGUMENT => second_argument,
                    other => panic!("reads offset {other}"),
                };
            } else if step.code == equal(0, 0, 0).code {
                at += usize::from(if accumulator == step.k { step.jt } else { step.jf });
            } else {
                return step.k;
            }
        }
    }

    #[test]
    fn traps_the_three_calls_and_nothing_else() {
        for nr in 0..600 {
            let trapped = [libc::SYS_bind, libc::SYS_listen, libc::SYS_shutdown].contains(&nr);
            let expected =
                if trapped { libc::SECCOMP_RET_USER_NOTIF } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(verdict(NATIVE_ARCH, nr, 0), expected, "call {nr}");
        }
    }

    #[test]
    fn foreign_architectures_pass() {
        let i386 = 3 | 0x4000_0000;
        assert_eq!(verdict(i386, libc::SYS_bind, 0), libc::SECCOMP_RET_ALLOW);
        let x32 = 0x4000_0000;
        assert_eq!(verdict(NATIVE_ARCH, x32 | libc::SYS_bind, 0), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn half_closing_a_connection_passes() {
        let shut = |how: i32| verdict(NATIVE_ARCH, libc::SYS_shutdown, how as u32);
        assert_eq!(shut(libc::SHUT_WR), libc::SECCOMP_RET_ALLOW);
        assert_eq!(shut(libc::SHUT_RD), libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(shut(libc::SHUT_RDWR), libc::SECCOMP_RET_USER_NOTIF);
    }
}
