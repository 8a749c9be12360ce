//! One `SO_REUSEPORT` group: the sockets that share an address, and who holds which.
//!
//! # The queue of a worker that will not accept any more
//! Its connections are established, their clients have sent their requests. They can be served by
//!
//! - the next worker, which gets the member with its queue: always possible, and takes as long as the
//!   start of a worker (`tests/bench/restart`; 90 ms for a small node server);
//! - the others, at once: with `net.ipv4.tcp_migrate_req=1` (Linux 5.14, off by default) the kernel moves
//!   the queue of a listener that stops listening to the other members of its group
//!   (`reuseport_migrate_sock`), by a hash over all of them, since a classic program cannot choose
//!   there. So free members are closed first; one of a draining worker may get some, and works them off
//!   or keeps them for the next worker.
//!
//! Measured with four node workers, 2,000 new connections a second, and one worker killed each second
//! (`tests/bench/crash`): of 20,000 requests the slowest took 324 and 398 ms the first way (two runs),
//! 22 and 17 ms the second; 2 of all 80,000 failed, accepted by a killed worker and not answered.
//!
//! The second way is taken wherever the host has the setting; it belongs to the host, and stanch does not
//! change it. (A program of the type `BPF_SK_REUSEPORT_SELECT_OR_MIGRATE` could do without, and choose;
//! it needs `CAP_BPF`.)

use super::Queue;
use super::socket::{self, Key};
use crate::core::{Weight, WorkerId};
use crate::linux::steering;
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Where a worker stands in the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Standing {
    /// Not admitted yet.
    Starting,
    /// Takes new connections.
    Admitted(Weight),
    /// Took them, and shall get no more.
    Diverted,
}

impl Standing {
    /// The part of the new connections that it takes, if it does.
    pub fn weight(self) -> Option<Weight> {
        match self {
            Standing::Admitted(weight) => Some(weight),
            Standing::Starting | Standing::Diverted => None,
        }
    }
}

/// A listening socket; lives as long as its group.
#[derive(Debug)]
pub(super) struct Member {
    pub socket: OwnedFd,
    pub inode: u64,
    /// The live worker that has it; free without one.
    pub holder: Option<WorkerId>,
    /// A worker that had it until it hung or ended, and may have its socket still.
    pub lender: Option<WorkerId>,
    /// Of what its socket turned away, what no user of this stanch's time was: probes that have ended, those
    /// of [`order`](super::order) too, and what came before it.
    pub untold: u64,
    /// Probes on their way to its queue.
    pub probes: Vec<Arc<OwnedFd>>,
    /// The last turn of steering in which new connections were sent here.
    pub turn: u64,
}

impl Member {
    pub fn new(socket: OwnedFd, inode: u64, holder: Option<WorkerId>) -> Self {
        Self { socket, inode, holder, lender: None, untold: 0, probes: Vec::new(), turn: 0 }
    }

    /// Its queue; turned away are users of this stanch's time.
    pub fn queue(&self) -> Result<Queue, Errno> {
        let queue = socket::queue(&self.socket)?;
        Ok(Queue { dropped: queue.dropped.saturating_sub(self.untold()), ..queue })
    }

    /// What was turned away and was no user, probes on their way included.
    pub fn untold(&self) -> u64 {
        self.untold + self.probes.iter().map(turned_away).sum::<u64>()
    }

    /// A probe that was on its way here has ended; whether it was.
    pub fn probe_ended(&mut self, probe: &Arc<OwnedFd>) -> bool {
        let at = self.probes.iter().position(|other| Arc::ptr_eq(other, probe));
        if let Some(at) = at {
            self.untold += turned_away(&self.probes.swap_remove(at));
        }
        at.is_some()
    }

    /// Who would accept what comes to it.
    pub fn worker(&self) -> Option<WorkerId> {
        self.holder.or(self.lender)
    }
}

/// Of a probe's packets; none of one of which nothing can be told.
fn turned_away(probe: &Arc<OwnedFd>) -> u64 {
    socket::syns_dropped(probe).unwrap_or_default()
}

/// The members stand in the order in which they began to listen, which is the kernel's order: an
/// index here is an index there. It changes when a member is closed (the kernel moves the last one
/// into the gap), so none is without a new program right behind it.
#[derive(Debug)]
pub(super) struct Group {
    pub key: Key,
    pub members: Vec<Member>,
}

impl Group {
    /// The member that `worker` holds.
    pub fn held_by(&self, worker: WorkerId) -> Option<usize> {
        self.members.iter().position(|member| member.holder == Some(worker))
    }

    /// The member at which `worker` can be reached: one that it gave up, too, while nobody else has it.
    pub fn reached_at(&self, worker: WorkerId) -> Option<usize> {
        self.members.iter().position(|member| member.worker() == Some(worker))
    }

    /// The free member that the next worker should get: the one with the longest queue, since nobody
    /// else will ever serve that. Of those that are alike the one that was steered to last: a handshake that
    /// began before its worker died is in no queue yet, and will be in that one.
    pub fn free(&self) -> Option<usize> {
        self.members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.holder.is_none())
            .max_by_key(|(index, member)| (queued(member), member.turn, Reverse(*index)))
            .map(|(index, _)| index)
    }

    /// Gives what waits at free members to those that are held, where the kernel can do that.
    pub fn hand_queues_on(&mut self) {
        if !migrates() || self.members.iter().all(|m| m.holder.is_some() || queued(m) == 0) {
            return;
        }
        // First those where nothing waits, that nothing is moved there.
        self.close(|member| member.holder.is_none() && queued(member) == 0);
        self.close(|member| member.holder.is_none());
    }

    /// Closes these members; the kernel moves the last one into each gap too. To be steered anew right
    /// behind.
    pub fn close(&mut self, which: impl Fn(&Member) -> bool) {
        while let Some(index) = self.members.iter().position(&which) {
            let member = self.members.swap_remove(index);
            if member.holder.is_none() {
                // A hung worker may have the socket as well, or a service manager: it must stop listening,
                // not only be closed here.
                let _ = shutdown(member.socket.as_raw_fd(), Shutdown::Both);
            }
        }
    }

    /// Whether no live worker has a member.
    pub fn is_abandoned(&self) -> bool {
        self.members.iter().all(|member| member.worker().is_none())
    }

    /// Takes in a socket that has just begun to listen. Returns its index.
    pub fn join(&mut self, socket: OwnedFd, holder: Option<WorkerId>) -> Result<usize, Errno> {
        let inode = socket::inode(&socket)?;
        self.members.push(Member::new(socket, inode, holder));
        Ok(self.members.len() - 1)
    }

    /// The members that shall get new connections, by what their holders' `standing` is: the admitted
    /// ones; while there is none, those that start, as if stanch were not there; else one free member,
    /// whose queue the next worker finds; and only then the diverted ones, all of them.
    pub fn chosen(&self, standing: impl Fn(WorkerId) -> Standing) -> Vec<(u16, Weight)> {
        let with = |weight: fn(Standing) -> Option<Weight>| -> Vec<(u16, Weight)> {
            (0u16..)
                .zip(&self.members)
                .filter_map(|(index, m)| Some((index, weight(standing(m.worker()?))?)))
                .collect()
        };
        let free = self.free().map(|index| (index as u16, Weight::FULL));
        [
            with(Standing::weight),
            with(|standing| (standing == Standing::Starting).then_some(Weight::FULL)),
            free.into_iter().collect(),
            with(|standing| (standing == Standing::Diverted).then_some(Weight::FULL)),
        ]
        .into_iter()
        .find(|tier| !tier.is_empty())
        .unwrap_or_default()
    }

    /// Sends new connections to the [`chosen`](Self::chosen) members from now on.
    pub fn steer(&mut self, standing: impl Fn(WorkerId) -> Standing) -> Result<(), Errno> {
        let Some(turn) = self.members.iter().map(|member| member.turn + 1).max() else {
            return Ok(());
        };
        let members = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        let chosen = self.chosen(standing);
        steering::attach(&self.members[0].socket, &steering::program(members, &chosen))?;
        chosen.iter().for_each(|(index, _)| self.members[usize::from(*index)].turn = turn);
        Ok(())
    }
}

/// Whether the kernel moves the queue of a listener that stops.
fn migrates() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req");
    setting.is_ok_and(|value| value.trim() == "1")
}

/// A queue that cannot be read counts as empty: the choice is then only less good.
fn queued(member: &Member) -> u32 {
    socket::queued(&member.socket).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_free_member_is_the_one_that_was_steered_to_last() {
        let free_port = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = Key { address: free_port.local_addr().unwrap(), v6only: false };
        drop(free_port);
        let mut group = Group { key, members: Vec::new() };
        for slot in 0..2 {
            let socket = socket::fresh(key).unwrap();
            socket::listen(&socket, key, slot == 0, None).unwrap();
            group.join(socket, Some(WorkerId::new(slot, 1))).unwrap();
        }
        for last in [1, 0] {
            let admitted = |worker: WorkerId| match worker.slot.0 {
                slot if slot == last => Standing::Admitted(Weight::FULL),
                _ => Standing::Diverted,
            };
            group.steer(admitted).unwrap();
            let holders = group.members.iter_mut().map(|member| member.holder.take());
            let holders: Vec<_> = holders.collect();
            assert_eq!(group.free(), Some(last as usize), "what is on its way comes there");
            group.members.iter_mut().zip(holders).for_each(|(m, holder)| m.holder = holder);
        }
    }
}
