//! Sockets that outlive the supervisor and its workers, because a service manager keeps descriptors of them
//! too ([`fdstore`]).
//!
//! All that listens is worth it: each member of each group, held or free, and each path. A connection waits
//! in the queue of one member, and is lost with that; and a group that stays complete keeps the order of its
//! members, so that the program of the dead supervisor goes on steering right. (Ports of workers' own, in the
//! modes `port` and `none`, are not stanch's to keep.)
//!
//! A worker that lives has its socket as well, and is found by that as after any death (`plane::adopt`);
//! `pidfd_getfd` is not needed then. What only the manager has left is a free member, and its queue waits for
//! the next worker.
//!
//! - A socket lives until its last descriptor is closed. So a member that is given up is shut down, not only
//!   closed: in the manager's hands it would go on taking connections, and its index.
//! - The manager hears of a member with the next beat of the service, within a second; a socket whose
//!   supervisor and worker both die before that is lost as without a manager.
//! - More members may come back than there will be workers, if the death came in the middle of a roll. What
//!   waits in one too many waits for the next worker that starts.
//! - A socket of a unit of the type `.socket` comes the same way, and is not taken: its unit goes on listening
//!   with it whatever stanch does, so it could never leave the group.

use super::group::{Group, Member};
use super::path::PathListener;
use super::socket::{self, Key};
use super::{Address, Plane};
use crate::core::WorkerId;
#[cfg(doc)]
use crate::linux::fdstore;
use crate::linux::fdstore::Kept;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockaddrStorage, getsockname};
use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Begins the names of what is kept; the inode ends them.
const PREFIX: &str = "stanch-";

impl Plane {
    /// What shall outlive the supervisor, by the names to keep it under.
    pub fn worth_keeping(&self) -> BTreeMap<String, BorrowedFd<'_>> {
        let members = self.members().map(|member| (member.inode, &member.socket));
        let all = members.chain(self.paths.iter().map(|path| (path.inode, &path.socket)));
        all.map(|(inode, socket)| (format!("{PREFIX}{inode}"), socket.as_fd())).collect()
    }

    /// Takes back what was kept, into the places that it had; nobody holds it. What the application is not
    /// configured for any more is left out, and said. To be followed by
    /// [`settle_adopted`](Self::settle_adopted).
    pub fn take_kept(&mut self, kept: Vec<Kept>) {
        for Kept { name, fd } in kept {
            if !name.starts_with(PREFIX) {
                tracing::warn!(
                    name,
                    "a descriptor that stanch did not send to be kept is not taken: it makes its sockets \
                     itself, and can use none of a .socket unit"
                );
            } else if let Err(errno) = self.take_one(fd) {
                let why = errno.desc();
                tracing::warn!(
                    name,
                    why,
                    "a socket that the service manager kept is not taken back"
                );
            }
        }
    }

    fn take_one(&mut self, socket: OwnedFd) -> Result<(), Errno> {
        let address = address_of(&socket)?;
        let wanted = match &address {
            Address::Inet(address) => self.supervises(*address),
            Address::Unix(_) => self.listen.contains(&address),
        };
        if !wanted || socket::option(&socket, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
            return Err(Errno::EADDRNOTAVAIL);
        }
        self.put_back(socket, address, None)
    }

    /// Makes a listening socket a member of its group once more, or the one of its path.
    pub(super) fn put_back(
        &mut self,
        socket: OwnedFd,
        address: Address,
        holder: Option<WorkerId>,
    ) -> Result<(), Errno> {
        let inode = socket::inode(&socket)?;
        let address = match address {
            Address::Inet(address) => address,
            Address::Unix(path) => {
                self.paths.push(PathListener { path, socket, inode });
                return Ok(());
            }
        };
        let option = |level, name| socket::option(&socket, level, name);
        let ours = option(libc::SOL_SOCKET, libc::SO_PROTOCOL)? == libc::IPPROTO_TCP
            && option(libc::SOL_SOCKET, libc::SO_REUSEPORT)? != 0;
        if !ours {
            // The kernel bound it for the worker alone.
            return Err(Errno::EOPNOTSUPP);
        }
        let v6only = address.is_ipv6()
            && option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY).is_ok_and(|on| on != 0);
        let key = Key { address, v6only };
        let mut member = Member::new(socket, inode, holder);
        // Of its time before nobody knows what was told.
        member.untold = socket::queue(&member.socket)?.dropped;
        match self.groups.iter_mut().find(|group| group.key == key) {
            Some(group) => group.members.push(member),
            None => self.groups.push(Group { key, members: vec![member] }),
        }
        Ok(())
    }

    /// The worker has the member with this socket, if nobody else has.
    pub(super) fn hold(&mut self, inode: u64, worker: WorkerId) {
        for member in self.members_mut().filter(|member| member.inode == inode) {
            member.holder.get_or_insert(worker);
        }
    }
}

/// Where a socket is bound.
pub(super) fn address_of(socket: &OwnedFd) -> Result<Address, Errno> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    if let Some(path) = name.as_unix_addr().and_then(|unix| unix.path()) {
        return Ok(Address::Unix(path.to_owned()));
    }
    let address: SocketAddr = match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddrV4::from(*v4).into(),
        (None, Some(v6)) => SocketAddrV6::from(*v6).into(),
        (None, None) => return Err(Errno::EAFNOSUPPORT),
    };
    Ok(Address::Inet(address))
}
