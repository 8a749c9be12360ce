//! Taking the sockets back from the workers of a supervisor that died.
//!
//! What a live worker listens on is still there, and `pidfd_getfd` gives a descriptor of the very same
//! open file: the queue, the options and the place in the group stay. The group keeps the last program
//! of the dead supervisor (it belongs to the group, `reuseport_attach_prog`), so new connections went
//! where it had steered them. Members that no live worker had were closed with the supervisor: what
//! waited in their queues was reset, and where an index of the program is out of range by that, the
//! kernel hashed over all members; unless a service manager kept them (`plane::kept`).
//!
//! `pidfd_getfd` needs the right to trace the worker, which is not a descendant of this supervisor. With
//! `kernel.yama.ptrace_scope` = 1 that takes `CAP_SYS_PTRACE`.

use super::group::Standing;
use super::kept::address_of;
use super::{Address, Plane, order, path, socket};
use crate::core::{Hold, WorkerId};
use crate::linux::pidfd;
use crate::linux::procfs::{ProcessId, Procfs};
use crate::linux::sockdiag;
use nix::errno::Errno;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;

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
                hold = match self.take_back(worker, procfs, *id, fd, inode) {
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
    ) -> Result<(), Errno> {
        if self.keeps(inode) {
            self.hold(inode, worker);
            return Ok(());
        }
        let pidfd = pidfd::of(procfs, id).ok_or(Errno::ESRCH)?;
        let taken = pidfd::take(&pidfd, fd)?;
        // The number may have changed hands.
        if socket::inode(&taken)? != inode {
            return Err(Errno::EBADF);
        }
        let address = address_of(&taken)?;
        self.put_back(taken, address, Some(worker))
    }

    /// Finds the order of each group of which all was taken back, and gives up the others, all of them
    /// where it is not known who listens; gives the workers that had a part in those.
    pub fn settle_adopted(&mut self, listening: Option<&Listening>) -> Vec<WorkerId> {
        let mut refused = Vec::new();
        for mut group in std::mem::take(&mut self.groups) {
            let address = group.key.address;
            let all = listening.map(|listening| {
                listening.inodes.values().filter(|other| **other == address).count()
            });
            let ordered = match all {
                Some(all) if all <= group.members.len() => {
                    order::restore(&mut group, self.ipv4_bound(address.port()))
                }
                _ => Err(Errno::ENOTUNIQ),
            };
            let settled = ordered.and_then(|()| match group.is_abandoned() {
                // The program that is in force may choose several, and there may not be as many workers.
                true => group.steer(|_| Standing::Starting),
                false => Ok(()),
            });
            match settled {
                Ok(()) => self.groups.push(group),
                Err(errno) => {
                    let why = errno.desc();
                    tracing::warn!(%address, why, "connections there cannot be steered");
                    refused.extend(group.members.iter().filter_map(|member| member.holder));
                    group.close(|_| true);
                }
            }
        }
        refused
    }
}
