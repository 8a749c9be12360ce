//! Making, adopting and asking listening sockets.
#![allow(unsafe_code)]

use super::Queue;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, socket,
};
use nix::sys::stat::fstat;
use nix::unistd::{fchown, geteuid};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What two sockets must have in common to stand in one `SO_REUSEPORT` group; the kernel also wants
/// the same owner, which [`own`] sees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// As the application bound it; scope kept, flow label 0.
    pub address: SocketAddr,
    /// Always false for IPv4. A dual-stack `::` and a v6-only one are different groups.
    pub v6only: bool,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// An unbound TCP socket of the family of `key`, close-on-exec, blocking.
pub(super) fn fresh(key: Key) -> Result<OwnedFd, Errno> {
    let family = if key.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
    if key.address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &key.v6only)?;
    }
    Ok(socket)
}

/// Makes a socket of another user ours in the eyes of the kernel, which lets only sockets of one user
/// share a port. The owner that counts (`sk_uid`) follows fchown (`sockfs_setattr`, Linux 4.11);
/// changing it needs `CAP_CHOWN`, which a supervisor of another user's worker has.
pub(super) fn own(socket: impl AsFd) -> Result<(), Errno> {
    let us = geteuid();
    if fstat(&socket)?.st_uid != us.as_raw() {
        fchown(&socket, Some(us), None)?;
    }
    Ok(())
}

/// Binds and listens, as a member of the group of `key`.
///
/// The first member (`alone`) binds *without* `SO_REUSEPORT` and sets it before it listens: so a
/// stranger on the port gives `EADDRINUSE` even if the stranger would share it. (The kernel looks at
/// the option again when the socket begins to listen: `inet_csk_listen_start` → `get_port`.)
/// `SO_REUSEADDR` lets a new supervisor in while connections of the last one linger in TIME_WAIT.
///
/// `backlog` as in listen(2); without one it is `net.core.somaxconn`.
pub(super) fn listen(
    socket: impl AsFd,
    key: Key,
    alone: bool,
    backlog: Option<u32>,
) -> Result<(), Errno> {
    setsockopt(&socket, ReuseAddr, &true)?;
    setsockopt(&socket, ReusePort, &!alone)?;
    bind(socket.as_fd().as_raw_fd(), &SockaddrStorage::from(key.address))?;
    setsockopt(&socket, ReusePort, &true)?;
    // The kernel cuts it to somaxconn itself.
    let backlog = backlog.map_or(i32::MAX, |backlog| i32::try_from(backlog).unwrap_or(i32::MAX));
    // SAFETY: takes two integers; the descriptor is open.
    Errno::result(unsafe { libc::listen(socket.as_fd().as_raw_fd(), backlog) }).map(drop)
}

/// The number of the socket, as in `/proc/PID/fd`: `socket:[…]`.
pub(super) fn inode(socket: impl AsFd) -> Result<u64, Errno> {
    Ok(fstat(socket)?.st_ino)
}

/// Connections that wait in the accept queue of a listener. For a listener, `tcpi_unacked` (offset 24
/// of `struct tcp_info`) is `sk_ack_backlog`; connections in the handshake are not in it.
pub(super) fn queued(listener: impl AsFd) -> Result<u32, Errno> {
    const UNACKED: usize = 24 / 4;
    let mut info = [0; UNACKED + 1];
    get(&listener, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info[UNACKED].cast_unsigned())
}

/// The accept queue of a listener: see [`queued`]; `tcpi_sacked`, the word behind it, is the limit
/// (`sk_max_ack_backlog`). `SO_MEMINFO` (Linux 4.12) ends with `sk_drops`, which the kernel raises with
/// each SYN or last ACK that it drops there (`tcp_listendrop`).
pub(super) fn queue(listener: impl AsFd) -> Result<Queue, Errno> {
    const UNACKED: usize = 24 / 4;
    const MEMINFO_DROPS: usize = 8;
    let mut info = [0; UNACKED + 2];
    get(&listener, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    let mut memory = [0; MEMINFO_DROPS + 1];
    get(&listener, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut memory)?;
    Ok(Queue {
        queued: info[UNACKED].cast_unsigned().into(),
        limit: info[UNACKED + 1].cast_unsigned().into(),
        dropped: memory[MEMINFO_DROPS].cast_unsigned().into(),
    })
}

/// How many first packets of a connection within this host found no place: each that was sent again
/// (`tcpi_total_retrans`), and the last one while there is no answer (`TCP_SYN_SENT`), which comes at once
/// if it comes at all.
pub(super) fn syns_dropped(client: impl AsFd) -> Result<u64, Errno> {
    const TOTAL_RETRANS: usize = 100 / 4;
    const SYN_SENT: u8 = 2;
    let mut info = [0; TOTAL_RETRANS + 1];
    get(&client, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    let [state, ..] = info[0].to_ne_bytes();
    Ok(u64::from(info[TOTAL_RETRANS].cast_unsigned()) + u64::from(state == SYN_SENT))
}

/// Sets or clears `O_NONBLOCK`, which belongs to the open file: every process that shares it sees it.
pub(super) fn set_nonblocking(socket: impl AsFd, nonblocking: bool) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    let mut wanted = flags;
    wanted.set(OFlag::O_NONBLOCK, nonblocking);
    if wanted != flags {
        fcntl(&socket, FcntlArg::F_SETFL(wanted))?;
    }
    Ok(())
}

/// Options of a listener that its connections inherit, or that decide when they are accepted. What a
/// server set before bind would be lost with its socket when it gets a kept one.
const INHERITED: [(libc::c_int, libc::c_int); 7] = [
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
];

/// Gives `to` the options that `from` has. An option that one of them refuses is left as it is: the
/// server never sees whether it got through, and a wrong keep-alive is better than no listener.
pub(super) fn copy_options(from: impl AsFd, to: impl AsFd) {
    for (level, name) in INHERITED {
        let (mut wanted, mut have) = ([0i32], [0i32]);
        if get(&from, level, name, &mut wanted).is_ok()
            && get(&to, level, name, &mut have).is_ok()
            && wanted != have
        {
            let _ = set(&to, level, name, wanted[0]);
        }
    }
}

/// An option that is one int.
pub(super) fn option(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
) -> Result<i32, Errno> {
    let mut value = [0i32];
    get(&socket, level, name, &mut value)?;
    Ok(value[0])
}

/// Fills as many words of `value` as the kernel has.
fn get<const N: usize>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut [i32; N],
) -> Result<(), Errno> {
    let mut size = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `value`, which is plain integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    Errno::result(result).map(drop)
}

/// Has the socket drop packets for which the program returns 0, in place of what it had.
pub(super) fn attach_filter(socket: impl AsFd, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program before the call returns, and writes nothing through it.
    let result = unsafe {
        let size = size_of_val(&program) as libc::socklen_t;
        let program = (&raw const program).cast();
        let fd = socket.as_fd().as_raw_fd();
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program, size)
    };
    Errno::result(result).map(drop)
}

/// Lets all packets through again.
pub(super) fn detach_filter(socket: impl AsFd) -> Result<(), Errno> {
    set(&socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

/// Sets an option that is one int.
pub(super) fn set(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> Result<(), Errno> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value is an int of the given size, and outlives the call.
    let result = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value, size)
    };
    Errno::result(result).map(drop)
}
