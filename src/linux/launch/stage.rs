//! The steps of a launch that change this process. Each names in its [`Fault`] what it was about.
#![allow(unsafe_code)]

use super::fault::{Fault, Stage};
use super::plan::{Limit, Takeover};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdin, geteuid, setsid};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors that the worker gets begin here, after the three of stdio (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

pub(super) fn session() -> Result<(), Fault> {
    setsid().map(drop).map_err(|errno| {
        Stage::Session.fault(errno, "could not begin a session and process group of its own")
    })
}

/// Moves descriptors above the places of `listeners` sockets, so that filling these places cannot
/// overwrite one of them. Before the limits, which may allow no such numbers any more.
pub(super) fn move_up(fd: OwnedFd, listeners: usize) -> Result<OwnedFd, Fault> {
    let lowest = FIRST.saturating_add(i32::try_from(listeners).unwrap_or(i32::MAX));
    let fault = |errno| {
        let what = format!("could not move a descriptor to number {lowest} or higher");
        Stage::Listeners.fault(errno, what).hint("raise stanch's own limit of open files")
    };
    let raw = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(lowest)).map_err(fault)?;
    // SAFETY: fcntl has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

pub(super) fn limits(limits: &[Limit]) -> Result<(), Fault> {
    for limit in limits {
        let shown =
            |value: Option<u64>| value.map_or("unlimited".into(), |value| value.to_string());
        let what = || {
            let (soft, hard) = (shown(limit.soft), shown(limit.hard));
            format!("could not set the limit {} to soft {soft}, hard {hard}", limit.name)
        };
        let Some(resource) = resource(&limit.name) else {
            return Err(Stage::Limits.fault(
                Errno::EINVAL,
                format!("there is no resource limit named {:?}", limit.name),
            ));
        };
        let raw = |value: Option<u64>| value.unwrap_or(libc::RLIM_INFINITY);
        setrlimit(resource, raw(limit.soft), raw(limit.hard)).map_err(|errno| {
            let fault = Stage::Limits.fault(errno, what());
            match (errno, getrlimit(resource)) {
                (Errno::EINVAL, _) => fault.hint("the soft limit must not be above the hard one"),
                (Errno::EPERM, Ok(_))
                    if geteuid().is_root() && resource == Resource::RLIMIT_NOFILE =>
                {
                    fault.hint("fs.nr_open is the most that the kernel grants")
                }
                (Errno::EPERM, Ok((_, hard))) => {
                    let hard = shown((hard != libc::RLIM_INFINITY).then_some(hard));
                    fault.hint(format!(
                        "stanch's own hard limit is {hard}; raise it where stanch is started, or \
                         run stanch as root"
                    ))
                }
                _ => fault,
            }
        })?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// Niceness, and the umask, which cannot fail.
pub(super) fn priority(nice: Option<i32>, mask: Option<u32>) -> Result<(), Fault> {
    if let Some(mask) = mask {
        umask(Mode::from_bits_truncate(mask));
    }
    let Some(nice) = nice else { return Ok(()) };
    // SAFETY: takes three numbers; process 0 is this one.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    Errno::result(result).map(drop).map_err(|errno| {
        Stage::Priority
            .fault(errno, format!("could not set the niceness to {nice}"))
            .hint("only root may make a worker less nice than stanch itself is")
    })
}

pub(super) fn filter(takeover: Takeover) -> Result<Option<OwnedFd>, Fault> {
    let no_new_privileges = match takeover {
        Takeover::Off => return Ok(None),
        Takeover::Privileged => false,
        Takeover::NoNewPrivileges => true,
    };
    crate::linux::seccomp::install(no_new_privileges).map(Some).map_err(|error| {
        let hint =
            "`stanch doctor` tells what this host allows; mode = \"inherit\" needs no filter";
        let errno = match (error.raw_os_error(), error.kind()) {
            (Some(raw), _) => Errno::from_raw(raw),
            (None, io::ErrorKind::PermissionDenied) => Errno::EACCES,
            (None, io::ErrorKind::ResourceBusy) => Errno::EBUSY,
            (None, _) => Errno::EINVAL,
        };
        let why = if error.raw_os_error().is_none() { format!(": {error}") } else { String::new() };
        Stage::Filter.fault(errno, format!("could not install the takeover filter{why}")).hint(hint)
    })
}

pub(super) fn directory(path: &OsStr) -> Result<(), Fault> {
    nix::unistd::chdir(path).map_err(|errno| {
        let user = geteuid();
        let fault = Stage::Directory
            .fault(errno, format!("could not enter the directory {}", path.display()));
        match errno {
            Errno::ENOENT => fault.hint("create it, or correct `directory`"),
            Errno::ENOTDIR => fault.hint("it, or a part of its path, is not a directory"),
            Errno::EACCES => fault.hint(format!(
                "user {user} needs permission to enter (x) it and every directory above it"
            )),
            _ => fault,
        }
    })
}

/// Puts the listening sockets on 3, 4 … as `sd_listen_fds(3)` wants them, and lets `execve` close
/// everything else: marking costs nothing, keeps the control socket until then, and catches what
/// leaked into the supervisor from whoever started it.
pub(super) fn listeners(sockets: Vec<OwnedFd>) -> Result<(), Fault> {
    let first_free = FIRST + i32::try_from(sockets.len()).unwrap_or(i32::MAX - FIRST);
    for (place, socket) in (FIRST..).zip(&sockets) {
        // SAFETY: `move_up` put all that we own above these places; what else may stand here is a
        // leak that nobody in this process knows of. The new descriptor is not close-on-exec.
        let result = unsafe { libc::dup2(socket.as_raw_fd(), place) };
        Errno::result(result).map_err(|errno| {
            let what = format!("could not put a listening socket on descriptor {place}");
            Stage::Listeners.fault(errno, what).hint("the limit `nofile` must leave room for it")
        })?;
    }
    close_on_exec_from(first_free).map_err(|errno| {
        Stage::Listeners.fault(errno, "could not mark the descriptors to be closed")
    })
}

fn close_on_exec_from(first: RawFd) -> nix::Result<()> {
    // SAFETY: takes three numbers and closes nothing now. Not `libc::close_range`, which older
    // C libraries do not have.
    let result = unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    match Errno::result(result) {
        Ok(_) => Ok(()),
        // The call came with Linux 5.9 and the flag with 5.11; a container's filter may refuse it.
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => mark_one_by_one(first),
        Err(errno) => Err(errno),
    }
}

fn mark_one_by_one(first: RawFd) -> nix::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let numbers = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for fd in numbers.filter(|fd: &RawFd| *fd >= first) {
        // SAFETY: takes numbers; one that is closed by now (the listing itself) only gives EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, FdFlag::FD_CLOEXEC.bits()) };
    }
    Ok(())
}

/// A worker reads nothing; and descriptor 0 was the control socket.
pub(super) fn stdio() -> Result<(), Fault> {
    let opened = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    opened.and_then(|null| dup2_stdin(null.as_fd())).map_err(|errno| {
        let fault = Stage::Stdio.fault(errno, "could not open /dev/null as standard input");
        match errno {
            Errno::EMFILE => fault.hint("the limit `nofile` is too low to start anything"),
            _ => fault,
        }
    })
}

/// All dispositions as a program expects to find them, and nothing blocked. `execve` resets handlers
/// but keeps what is ignored and what is blocked: Rust ignores SIGPIPE, nohup ignores SIGHUP, and
/// threads that wait for signals block them.
pub(super) fn signals() -> Result<(), Fault> {
    // SIG_DFL, no flags, an empty mask: all zeroes, and larger than the kernel's struct anywhere.
    let default = [0_u64; 8];
    for signal in 1..=64 {
        // The system call, because the C library's function refuses 32 and 33, which it uses itself;
        // and these are ignored here, for so its posix_spawn leaves them.
        // SAFETY: the kernel reads its `sigaction` from `default` and writes no old one; 8 is the
        // size of its signal set. No handler of this process is needed from here on.
        let result = unsafe {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8)
        };
        match Errno::result(result) {
            // SIGKILL and SIGSTOP have no other disposition.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(errno) => {
                return Err(Stage::Signals.fault(errno, format!("could not reset signal {signal}")));
            }
        }
    }
    SigSet::empty()
        .thread_set_mask()
        .map_err(|errno| Stage::Signals.fault(errno, "could not empty the signal mask"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_close_range_each_is_marked() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let leak = file.as_raw_fd();
        let flags = || FdFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFD).unwrap());
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        mark_one_by_one(leak + 1).unwrap();
        assert_eq!(flags(), FdFlag::empty());
        mark_one_by_one(leak).unwrap();
        assert_eq!(flags(), FdFlag::FD_CLOEXEC);
    }
}
