//! Looking into the process that waits in a trapped call.
//!
//! All of it is read by thread id, while the thread sleeps in the call. The number may be of another
//! process if the caller has died meanwhile; so whoever reads here asks `NotifyFd::id_valid`
//! afterwards, before acting on it.
//!
//! Needs the right to trace the worker (`PTRACE_MODE_ATTACH`): the same user, or `CAP_SYS_PTRACE`.
#![allow(unsafe_code)]

use super::socket;
use crate::linux::pidfd;
use nix::errno::Errno;
use nix::libc;
use std::ffi::CString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// A thread that sleeps in a trapped call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub tid: i32,
}

/// The TCP socket that the caller wants to bind.
#[derive(Debug)]
pub(super) struct OwnSocket {
    /// A second descriptor of it; `None` where `pidfd_getfd` is refused.
    pub taken: Option<OwnedFd>,
    /// Whether it can be a member: MPTCP sockets know no steering program.
    pub plain_tcp: bool,
    /// Whether it takes IPv6 alone; `None` where it cannot be asked, false for IPv4.
    pub v6only: Option<bool>,
}

/// The flags of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub nonblocking: bool,
    pub close_on_exec: bool,
}

impl Caller {
    /// Reads a sockaddr of `length` bytes at `pointer`. `None` when it is no internet address, or one
    /// that the kernel will refuse itself: too short, or not readable.
    ///
    /// # Errors
    /// The process may not be looked into (`EACCES`, `EPERM`), or is gone.
    pub fn sockaddr(self, pointer: u64, length: u64) -> Result<Option<SocketAddr>, Errno> {
        let memory = File::open(self.path("mem")).map_err(errno)?;
        // The length is an int in the low half of the register.
        let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
        let wanted = (length as u32 as usize).min(bytes.len());
        if memory.read_exact_at(&mut bytes[..wanted], pointer).is_err() {
            return Ok(None);
        }
        Ok(parse(&bytes[..wanted]))
    }

    /// The flags of descriptor `fd`.
    ///
    /// # Errors
    /// `ENOENT` when it is not open, `EACCES` when the process may not be looked into.
    pub fn flags(self, fd: RawFd) -> Result<Flags, Errno> {
        let text = fs::read_to_string(self.path(&format!("fdinfo/{fd}"))).map_err(errno)?;
        let octal = text
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .and_then(|value| i32::from_str_radix(value.trim(), 8).ok())
            .ok_or(Errno::EBADMSG)?;
        Ok(Flags {
            nonblocking: octal & libc::O_NONBLOCK != 0,
            close_on_exec: octal & libc::O_CLOEXEC != 0,
        })
    }

    /// The inode of the socket on descriptor `fd`; `None` when there is none.
    ///
    /// # Errors
    /// The process may not be looked into (`EACCES`).
    pub fn socket_inode(self, fd: RawFd) -> Result<Option<u64>, Errno> {
        match fs::read_link(self.path(&format!("fd/{fd}"))).map_err(errno) {
            Ok(target) => Ok(super::socket_inode(&target)),
            Err(Errno::ENOENT) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// The socket on descriptor `fd`, if it is a TCP socket of the family of `address`.
    ///
    /// # Errors
    /// The process may not be looked into, or is gone.
    pub fn own_socket(self, fd: RawFd, address: SocketAddr) -> Result<Option<OwnSocket>, Errno> {
        match self.take(fd) {
            Ok(taken) => Ok(describe(taken, address)),
            // A container's filter or an old kernel refuses the call; the name still tells.
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => {
                let name = self.protocol_name(fd)?;
                let known = if address.is_ipv4() { ["TCP", "MPTCP"] } else { ["TCPv6", "MPTCPv6"] };
                let v6only = if address.is_ipv4() { Some(false) } else { None };
                Ok(known.contains(&name.as_str()).then_some(OwnSocket {
                    taken: None,
                    plain_tcp: false,
                    v6only,
                }))
            }
            // Not a descriptor at all: the kernel says it best itself.
            Err(Errno::EBADF) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A second descriptor of the open file that `fd` is in the caller (`pidfd_getfd`, Linux 5.6).
    pub fn take(self, fd: RawFd) -> Result<OwnedFd, Errno> {
        pidfd::take(pidfd::open(self.process()?)?, fd)
    }

    /// The process of the thread: a pidfd is of a process, a notification of a thread.
    fn process(self) -> Result<i32, Errno> {
        let status = fs::read_to_string(self.path("status")).map_err(errno)?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("Tgid:"))
            .and_then(|value| value.trim().parse().ok())
            .ok_or(Errno::EBADMSG)
    }

    /// `TCP`, `TCPv6`, `MPTCP`, `UDP` … Empty for what is no socket. (`sockfs_xattr_get`.)
    fn protocol_name(self, fd: RawFd) -> Result<String, Errno> {
        let path = CString::new(self.path(&format!("fd/{fd}"))).map_err(|_| Errno::EINVAL)?;
        let mut name = [0u8; 32];
        // SAFETY: both names end with NUL, and the kernel writes at most `name.len()` bytes.
        let length = unsafe {
            libc::getxattr(
                path.as_ptr(),
                c"system.sockprotoname".as_ptr(),
                name.as_mut_ptr().cast(),
                name.len(),
            )
        };
        match Errno::result(length) {
            Ok(length) => {
                let name = &name[..length as usize];
                Ok(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
            }
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ENOENT) => Ok(String::new()),
            Err(other) => Err(other),
        }
    }

    pub fn path(self, name: &str) -> String {
        format!("/proc/{}/{name}", self.tid)
    }
}

/// What an I/O error on a path of `/proc` means.
pub(super) fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn describe(taken: OwnedFd, address: SocketAddr) -> Option<OwnSocket> {
    let ask = |name| socket::option(&taken, libc::SOL_SOCKET, name).ok();
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let protocol = ask(libc::SO_PROTOCOL)?;
    let tcp = ask(libc::SO_DOMAIN)? == family
        && ask(libc::SO_TYPE)? == libc::SOCK_STREAM
        && [libc::IPPROTO_TCP, libc::IPPROTO_MPTCP].contains(&protocol);
    let v6only = address.is_ipv6()
        && socket::option(&taken, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|on| on != 0);
    tcp.then_some(OwnSocket {
        plain_tcp: protocol == libc::IPPROTO_TCP,
        v6only: Some(v6only),
        taken: Some(taken),
    })
}

/// An AF_INET or AF_INET6 sockaddr. The scope is kept only where the kernel heeds it.
fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    const V4: usize = size_of::<libc::sockaddr_in>();
    /// Without the scope, which RFC 2133 did not have; the kernel still takes it.
    const V6_SHORT: usize = size_of::<libc::sockaddr_in6>() - 4;

    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    if family == libc::AF_INET && bytes.len() >= V4 {
        let ip = Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[4..8]).ok()?);
        Some(SocketAddrV4::new(ip, port).into())
    } else if family == libc::AF_INET6 && bytes.len() >= V6_SHORT {
        let ip = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?);
        let scope = match bytes.get(24..28) {
            Some(scope) if ip.is_unicast_link_local() => u32::from_ne_bytes(scope.try_into().ok()?),
            _ => 0,
        };
        Some(SocketAddrV6::new(ip, port, 0, scope).into())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{SockaddrLike, SockaddrStorage};
    use std::os::fd::{AsFd, AsRawFd};

    fn bytes(address: &str) -> Vec<u8> {
        let storage = SockaddrStorage::from(address.parse::<SocketAddr>().unwrap());
        // SAFETY: nix gives the length of what it points to.
        unsafe { std::slice::from_raw_parts(storage.as_ptr().cast(), storage.len() as usize) }
            .to_vec()
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        for address in ["127.0.0.1:8000", "0.0.0.0:80", "[::]:443", "[fe80::1%7]:8000"] {
            assert_eq!(parse(&bytes(address)).unwrap().to_string(), address);
        }
        let short = &bytes("[2001:db8::1]:8000")[..24];
        assert_eq!(parse(short).unwrap().to_string(), "[2001:db8::1]:8000");
    }

    #[test]
    fn what_the_kernel_refuses_is_no_address() {
        for length in 0..16 {
            assert_eq!(parse(&bytes("127.0.0.1:8000")[..length]), None);
        }
        for length in 0..24 {
            assert_eq!(parse(&bytes("[::1]:8000")[..length]), None);
        }
        let mut unix = bytes("127.0.0.1:8000");
        unix[0] = libc::AF_UNIX as u8;
        assert_eq!(parse(&unix), None);
    }

    #[test]
    fn a_global_address_has_no_scope() {
        let mut with_scope = bytes("[2001:db8::1]:8000");
        with_scope[24] = 7;
        assert_eq!(parse(&with_scope).unwrap().to_string(), "[2001:db8::1]:8000");
    }

    #[test]
    fn this_process_can_be_looked_into() {
        let us = Caller { tid: std::process::id() as i32 };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = socket.as_fd().as_raw_fd();
        assert_eq!(us.flags(fd), Ok(Flags { nonblocking: false, close_on_exec: true }));
        socket.set_nonblocking(true).unwrap();
        assert_eq!(us.flags(fd), Ok(Flags { nonblocking: true, close_on_exec: true }));
        assert_eq!(us.socket_inode(fd).unwrap(), socket::inode(&socket).ok());
        assert_eq!(us.protocol_name(fd).unwrap(), "UDP");
        assert!(us.own_socket(fd, socket.local_addr().unwrap()).unwrap().is_none());
        assert_eq!(us.flags(9999), Err(Errno::ENOENT));
        assert!(us.own_socket(9999, socket.local_addr().unwrap()).unwrap().is_none());
    }
}
