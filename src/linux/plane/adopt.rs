//! Taking the sockets back from the workers of a supervisor that died.
//!
//! What a live worker listens on is still there, and `pidfd_getfd` gives a descriptor of the very same
//! open file: the queue, the options and the place in the group stay. The group keeps the last program
//! of the dead supervisor (it belongs to the group, `reuseport_attach_prog`), so new connections went
//! where it had steered them. Members that no live worker had were closed with the supervisor: what
//! waited in their queues was reset, and where an index of the program is out of range by that, the
//! kernel hashed over all members.
//!
//! `pidfd_getfd` needs the right to trace the worker, which is not a descendant of this supervisor. With
//! `kernel.yama.ptrace_scope` = 1 that takes `CAP_SYS_PTRACE`.

use super::group::{Group, Member};
use super::path::{self, PathListener};
use super::socket::{self, Key};
use super::{Address, Plane, order};
use crate::core::{Hold, WorkerId};
use crate::linux::pidfd;
use crate::linux::procfs::{ProcessId, Procfs};
use crate::linux::sockdiag;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockaddrStorage, getsockname};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

/// Who listens on what, at one moment before the first is taken back.
#[derive(Debug)]
pub struct Listening {
    inodes: HashMap<u64, SocketAddr>,
}

impl Listening {
    /// Everybody in this network namespace.
    ///
    /// # Errors
    /// What the kernel said to the dump.
    pub fn now() -> io::Result<Self> {
        Ok(Self { inodes: sockdiag::listening()? })
    }
}

impl Plane {
    /// Whether one of the processes listens where the application is configured to.
    pub fn is_held_by(
        &self,
        listening: &Listening,
        procfs: &Procfs,
        processes: &[ProcessId],
    ) -> bool {
        let configured = |address: &SocketAddr| {
            self.listen.iter().any(|listen| match listen {
                Address::Inet(listen) => listen.port() == address.port(),
                Address::Unix(_) => false,
            })
        };
        let mut inodes = processes.iter().flat_map(|id| procfs.sockets(id.pid).into_values());
        inodes.any(|inode| listening.inodes.get(&inode).is_some_and(configured))
    }

    /// Takes back what these processes of a worker listen on. Of two workers that share an open file
    /// (one of them hangs) the first that is told here holds it. To be followed by
    /// [`settle_adopted`](Self::settle_adopted).
    pub fn adopt(
        &mut self,
        worker: WorkerId,
        listening: &Listening,
        procfs: &Procfs,
        processes: &[ProcessId],
    ) -> Hold {
        let paths: HashMap<u64, Address> = self
            .listen
            .iter()
            .filter_map(|address| match address {
                Address::Unix(path) => Some((path::listener(path)?, address.clone())),
                Address::Inet(_) => None,
            })
            .collect();
        let mut hold = Hold::Nothing;
        let mut seen = HashSet::new();
        for id in processes {
            for (fd, inode) in procfs.sockets(id.pid) {
                let address = match (listening.inodes.get(&inode), paths.get(&inode)) {
                    (Some(address), _) if self.supervises(*address) => Address::Inet(*address),
                    (_, Some(path)) => path.clone(),
                    _ => continue,
                };
                if !seen.insert(inode) || hold == Hold::Refused {
                    continue;
                }
                hold = match self.take_back(worker, procfs, *id, fd, inode, &address) {
                    Ok(()) => Hold::Kept,
                    Err(errno) => {
                        let why = errno.desc();
                        tracing::warn!(%worker, %address, why, "the socket cannot be taken back");
                        Hold::Refused
                    }
                };
            }
        }
        hold
    }

    fn take_back(
        &mut self,
        worker: WorkerId,
        procfs: &Procfs,
        id: ProcessId,
        fd: i32,
        inode: u64,
        address: &Address,
    ) -> Result<(), Errno> {
        if self.keeps(inode) {
            return Ok(());
        }
        let pidfd = pidfd::of(procfs, id).ok_or(Errno::ESRCH)?;
        let taken = pidfd::take(&pidfd, fd)?;
        // The number may have changed hands.
        if socket::inode(&taken)? != inode {
            return Err(Errno::EBADF);
        }
        if let Address::Unix(path) = address {
            self.paths.push(PathListener { path: path.clone(), socket: taken, inode });
            return Ok(());
        }
        let key = key_of(&taken)?;
        let option = |name| socket::option(&taken, libc::SOL_SOCKET, name);
        let ours =
            option(libc::SO_PROTOCOL)? == libc::IPPROTO_TCP && option(libc::SO_REUSEPORT)? != 0;
        if !ours {
            // The kernel bound it for the worker alone.
            return Err(Errno::EOPNOTSUPP);
        }
        let member = Member { socket: taken, inode, holder: Some(worker) };
        match self.groups.iter_mut().find(|group| group.key == key) {
            Some(group) => group.members.push(member),
            None => self.groups.push(Group { key, members: vec![member] }),
        }
        Ok(())
    }

    /// Finds the order of each group of which all was taken back, and gives up the others; gives the
    /// workers that had a part in those.
    pub fn settle_adopted(&mut self, listening: &Listening) -> Vec<WorkerId> {
        let mut refused = Vec::new();
        for mut group in std::mem::take(&mut self.groups) {
            let address = group.key.address;
            let all = listening.inodes.values().filter(|other| **other == address).count();
            let ordered = match all <= group.members.len() {
                true => order::restore(&mut group, self.ipv4_bound(address.port())),
                false => Err(Errno::ENOTUNIQ),
            };
            match ordered {
                Ok(()) => self.groups.push(group),
                Err(errno) => {
                    let why = errno.desc();
                    tracing::warn!(%address, why, "connections there cannot be steered");
                    refused.extend(group.members.iter().filter_map(|member| member.holder));
                }
            }
        }
        refused
    }
}

fn key_of(socket: &OwnedFd) -> Result<Key, Errno> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let address: SocketAddr = match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddrV4::from(*v4).into(),
        (None, Some(v6)) => SocketAddrV6::from(*v6).into(),
        (None, None) => return Err(Errno::EAFNOSUPPORT),
    };
    let v6only = address.is_ipv6()
        && socket::option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|on| on != 0);
    Ok(Key { address, v6only })
}
