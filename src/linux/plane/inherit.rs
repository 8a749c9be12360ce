//! A worker that gets its sockets at its start, as systemd gives them.

use super::caller;
use super::group::Group;
use super::path::PathListener;
use super::socket::{self, Key};
use super::{Address, Plane, PlaneError};
use crate::core::WorkerId;
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

impl Plane {
    /// The sockets for a new worker that inherits them, with a name each (`tcp-8000`,
    /// `unix-app.sock`), in the order of the configured addresses. They are close-on-exec; the
    /// launcher clears that on its copies.
    ///
    /// # Errors
    /// [`PlaneError::Listen`] or [`PlaneError::Steer`]; what `worker` got so far is free again after
    /// [`release`](Self::release).
    pub fn inherit_fds(&mut self, worker: WorkerId) -> Result<Vec<(String, OwnedFd)>, PlaneError> {
        let mut fds = Vec::new();
        for address in self.listen.clone() {
            let fd = match &address {
                Address::Inet(bound) => self.member_to_inherit(worker, *bound),
                Address::Unix(path) => self.path_to_inherit(path),
            };
            let fd = fd.map_err(|source| {
                let owner = match address {
                    Address::Inet(bound) => self.owner_of(bound, source),
                    Address::Unix(_) => None,
                };
                PlaneError::Listen { address: address.clone(), owner, source }
            })?;
            fds.push((name(&address), fd));
        }
        self.steer()?;
        Ok(fds)
    }

    fn member_to_inherit(
        &mut self,
        worker: WorkerId,
        address: SocketAddr,
    ) -> Result<OwnedFd, Errno> {
        let key =
            Key { address, v6only: address.is_ipv6() && self.ipv4_configured(address.port()) };
        let free = self.group(key).and_then(Group::free);
        let index = match free {
            Some(index) => index,
            None => self.join_fresh(key)?,
        };
        let Some(group) = self.groups.iter_mut().find(|group| group.key == key) else {
            return Err(Errno::EIO);
        };
        let member = &mut group.members[index];
        // The last holder may have switched it; a server that inherits expects it blocking.
        socket::set_nonblocking(&member.socket, false)?;
        let fd = member.socket.try_clone().map_err(caller::errno)?;
        member.holder = Some(worker);
        Ok(fd)
    }

    /// Whether IPv4 on this port is configured too: then an IPv6 socket leaves it to that group.
    fn ipv4_configured(&self, port: u16) -> bool {
        self.listen.iter().any(|listen| match listen {
            Address::Inet(address) => address.is_ipv4() && address.port() == port,
            Address::Unix(_) => false,
        })
    }

    fn path_to_inherit(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let at = match self.paths.iter().position(|listener| listener.path == path) {
            Some(at) => at,
            None => {
                self.paths.push(PathListener::new(path, self.backlog)?);
                self.paths.len() - 1
            }
        };
        self.paths[at].socket.try_clone().map_err(caller::errno)
    }
}

/// A name for `LISTEN_FDNAMES`, which may not hold a colon.
fn name(address: &Address) -> String {
    match address {
        Address::Inet(address) => format!("tcp-{}", address.port()),
        Address::Unix(path) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            format!("unix-{}", file.replace(|c: char| c == ':' || !c.is_ascii_graphic(), "_"))
        }
    }
}
