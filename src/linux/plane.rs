//! The traffic plane: the supervisor owns every listening socket of the application, the kernel
//! carries the bytes straight to the workers. No proxy.
//!
//! ```text
//!                clients
//!                   │ SYN to 0.0.0.0:8000
//!       ┌───────────▼───────────┐   a program in the kernel picks at random, by weight, among the
//!       │  SO_REUSEPORT group   │   a probe from 127.77.0.N reaches member N, admitted or not
//!       └──┬─────────┬────────┬─┘
//!       member 0  member 1  member 2    listening sockets, each with an accept queue of its own;
//!          │         │        │         the supervisor has a descriptor of every one
//!       worker    worker    worker      has its member where it bound its own socket
//!        0.4       1.2       0.5
//!      diverted  admitted  starting     worker 0.4 works off its queue and its connections,
//!                                       0.5 is probed, and admitted before 0.4 is diverted
//! ```
//!
//! # How it works
//! For each address that a worker binds there is a *group*: sockets that listen on that address with
//! `SO_REUSEPORT`, of which each live worker holds one. A program in the kernel ([`steering`]) picks
//! a member for each new connection; [`admit`](Plane::admit) and [`divert`](Plane::divert) replace it
//! atomically. The supervisor has a descriptor of every member, so a worker that dies leaves its
//! queue behind unharmed, and the member is kept for the next worker.
//!
//! Two ways to a member:
//! - *takeover*: the worker is an ordinary server under the filter of [`seccomp`]. At its first bind
//!   a kept member takes the place of its own socket on the same descriptor (`ADDFD` with `SETFD`).
//!   If none is free its own socket becomes one: taken with `pidfd_getfd`, bound and listening by the
//!   supervisor. That keeps all options of the server and whatever it did with the socket before.
//!   Where the kernel refuses `pidfd_getfd`, or the server made an MPTCP socket (Go 1.24 does by
//!   default), a plain TCP socket of the supervisor's takes its place.
//! - *inherit*: [`inherit_fds`](Plane::inherit_fds) gives members to pass on at the start of a worker.
//!
//! # Leaving
//! A worker leaves in steps (`core::supervisor::lifecycle`, `runtime::drainer`): divert → its queue and
//! the handshakes under way are empty, and no answer is awaited on its connections, or half of
//! `drain_timeout` has passed → stop signal → at the end of `drain_timeout` what is answered is hung up
//! (`linux::tree::connections` has the measurements) → kill, and what was cut is counted. Why the stop
//! signal waits: whether a server finishes its requests on SIGTERM or dies of it cannot be told from
//! outside. node and the Go runtime have a handler for it either way. Once a worker was seen to finish
//! what it had, the next ones get the signal as soon as their queue is empty.
//!
//! What leaves without losing anything, measured with `tests/bench/traffic` and tests/drain.rs: every
//! new connection, for any server; requests in flight that take less than half of `drain_timeout`, for
//! any server, and less than all of it for one that finishes them on SIGTERM; kept connections that
//! have a pause. On a kept connection without any pause the client has to send one request again,
//! unless the server announces the end (`Connection: close`; Go, uvicorn and gunicorn do while they stop,
//! node does not). A stream holds the worker until `drain_timeout`; if the server dies of SIGTERM,
//! half as long.
//!
//! # Traps
//! Each has a test in `tests/plane`, `tests/recovery.rs` or beside the code.
//! - No two live workers share an open file: `O_NONBLOCK` belongs to it, and one server's switch
//!   would stop the other in accept. Within one worker (a prefork tree) sharing is the server's will;
//!   a second bind there gets the same member, and the last one decides on `O_NONBLOCK`. The exception
//!   is a worker that hangs: its replacement gets its member, for the sake of what is queued there
//!   ([`abandon`](Plane::abandon)).
//! - `listen` on a member is answered here: the worker's backlog would overwrite the configured one,
//!   and the member listens already. `shutdown` on one would reset its queue and end it for all.
//! - When a member is closed the kernel moves the last one into the gap, and the program's indices are
//!   wrong until it is replaced: it is, right behind.
//! - The members of a group need one owner, hence `socket::own`; and a stranger who shares the port
//!   would take an index, hence the exclusive bind of `socket::listen`.
//! - A group whose workers are all gone still attracts connections. When another group of the same
//!   port has an admitted worker (the new release binds `::` where the old one bound 0.0.0.0), the
//!   abandoned one is closed; what is still queued on it is reset.
//! - A worker that is a node cluster works, whichever its scheduling: the primary binds once, and its
//!   children share that member or get connections from it (`exclusive: true`: they bind, and get the
//!   same member). What stanch cannot see is behind the primary: "it accepts" is then said of the
//!   primary, so readiness by HTTP says more.
//! - An index out of range would not drop a connection but hash it over all members, draining ones
//!   too: the program never returns one ([`steering`], a property test).
//! - Closing a listener resets its queue, unless `net.ipv4.tcp_migrate_req` is set: so none is closed
//!   otherwise, and the queue of a dead worker is that of the next one, of whichever slot (`plane::group`).
//! - A signal may make a worker ask twice ([`seccomp`]). To bind a member again is to get the same
//!   member once more, so the second answer is the first.
//! - When the supervisor dies, a later `bind`, `listen` or `shutdown` (but `SHUT_WR`) in a worker fails
//!   with ENOSYS: the kernel has nobody to ask. The next one takes the sockets back (`plane::adopt`), also
//!   those of workers that died meanwhile where a service manager has kept them (`plane::kept`).
//! - Somebody else may have a descriptor of a member that nobody holds. One that is given up is shut down.
//!
//! # What it cannot do
//! A descriptor that the server duplicated *before* bind stays with its old socket when a kept member
//! comes. io_uring is not seen. A new release that binds a more specific address than the old one
//! attracts its connections before it is admitted. With no address configured, a client that binds a
//! port of its own before it connects is taken for a server, and a port that no worker binds any more
//! stays open, its connections unanswered, until the supervisor ends. Addresses are of the supervisor's network
//! namespace, except for sockets that are adopted.
//!
//! Least kernels: 5.9 (`ADDFD`) for takeover, 4.6 for steering TCP.

mod adopt;
mod caller;
mod calls;
mod group;
mod handover;
mod inherit;
mod kept;
mod order;
mod owner;
mod path;
mod probe;
mod socket;
mod takeover;
mod watch;

pub use adopt::Listening;
pub use calls::Calls;
pub use handover::Holdings;
pub use owner::Owner;
pub use probe::ProbeTarget;
pub use takeover::{PlaneEvent, Served};

use super::seccomp::NotifyFd;
#[cfg(doc)]
use super::{seccomp, steering};
use crate::core::{Weight, WorkerId};
use group::{Group, Member, Standing};
use nix::errno::Errno;
use path::PathListener;
use socket::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where an application listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Inet(SocketAddr),
    /// A path in the file system.
    Unix(PathBuf),
}

/// `127.0.0.1:8000`, `[::]:8000`, `unix:/run/app.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why the plane could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The notification descriptor failed.
    #[error("could not receive or answer a system call of worker {worker}")]
    Notify {
        /// Which worker.
        worker: WorkerId,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A new program could not be attached; the last one stays in force.
    #[error("could not steer connections to {address} (for ENOMEM, raise net.core.optmem_max)")]
    Steer {
        /// Which group.
        address: SocketAddr,
        /// What the kernel said.
        source: Errno,
    },
    /// A socket to inherit could not be made.
    #[error("could not listen on {address}{}", in_use(.owner))]
    Listen {
        /// Where.
        address: Address,
        /// Who has it, where it can be seen.
        owner: Option<Owner>,
        /// What the kernel said.
        source: Errno,
    },
    /// The queue of a listener could not be read.
    #[error("could not read the accept queue of {address}")]
    Queue {
        /// Which group.
        address: SocketAddr,
        /// What the kernel said.
        source: Errno,
    },
}

/// The accept queues of an address, all workers' together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait to be accepted.
    pub queued: u64,
    /// How many may wait, for one worker. The kernel lets in one more.
    pub limit: u64,
    /// Attempts to connect that the kernel turned away, since the sockets were made: above all those
    /// that found the queue full. A client that tries again (after 1, 3, 7 s …) counts again. It wraps
    /// at 2^32 for a worker.
    pub dropped: u64,
}

/// All listening sockets of one application. Calls are synchronous and short (microseconds; a bind
/// that fails walks `/proc` once), for one engine task.
#[derive(Debug)]
pub struct Plane {
    listen: Vec<Address>,
    ignore_ports: Vec<u16>,
    backlog: Option<u32>,
    groups: Vec<Group>,
    paths: Vec<PathListener>,
    /// Where the calls of each worker come in.
    calls: BTreeMap<WorkerId, Arc<NotifyFd>>,
    /// The end has begun.
    closing: bool,
    /// Another program takes over.
    retired: bool,
    /// Workers that are not in here are starting.
    standing: BTreeMap<WorkerId, Standing>,
}

impl Plane {
    /// A plane for the addresses `listen`; nothing is bound yet. Under takeover the ports of `listen`
    /// are supervised, whatever address the worker binds them on; with no address, each TCP bind to a
    /// port other than 0 is, by whichever worker. `backlog` as in listen(2), by default
    /// `net.core.somaxconn`.
    pub fn new(listen: Vec<Address>, backlog: Option<u32>) -> Self {
        Self {
            listen,
            ignore_ports: Vec::new(),
            backlog,
            groups: Vec::new(),
            paths: Vec::new(),
            calls: BTreeMap::new(),
            closing: false,
            retired: false,
            standing: BTreeMap::new(),
        }
    }

    /// With no address given to [`new`](Self::new), binds to these ports are the workers' own all the
    /// same.
    pub fn ignoring(self, ports: Vec<u16>) -> Self {
        Self { ignore_ports: ports, ..self }
    }

    /// Lets new connections reach the worker, in the relation of the weights of all.
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn admit(&mut self, worker: WorkerId, weight: Weight) -> Result<(), PlaneError> {
        self.standing.insert(worker, Standing::Admitted(weight));
        self.steer()
    }

    /// Lets no new connection reach the worker, as long as anybody else can take it: another worker,
    /// or a member that waits for the next one (one is made if need be). What is queued for the
    /// worker stays queued; see [`waiting`](Self::waiting).
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn divert(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        self.standing.insert(worker, Standing::Diverted);
        for at in 0..self.groups.len() {
            let group = &self.groups[at];
            let only_diverted = group.members.iter().all(|member| {
                member.holder.is_some_and(|holder| self.standing_of(holder) == Standing::Diverted)
            });
            if only_diverted && !self.closing {
                let key = group.key;
                // Without it the worker keeps its connections, as it would without stanch.
                if let Err(source) = self.join_fresh(key) {
                    return self
                        .steer()
                        .and(Err(PlaneError::Steer { address: key.address, source }));
                }
            }
        }
        self.steer()
    }

    /// Connections that are queued for the worker and that it has not accepted, over all groups. A
    /// handshake that began before the worker was diverted may still add one: also wait until
    /// `sockdiag::syn_recv` says 0. A path that workers share is not in it.
    ///
    /// # Errors
    /// [`PlaneError::Queue`].
    pub fn waiting(&self, worker: WorkerId) -> Result<u32, PlaneError> {
        let mut waiting = 0;
        for group in &self.groups {
            for member in group.members.iter().filter(|member| member.holder == Some(worker)) {
                let address = group.key.address;
                waiting += socket::queued(&member.socket)
                    .map_err(|source| PlaneError::Queue { address, source })?;
            }
        }
        Ok(waiting)
    }

    /// The worker accepts nothing any more: it has ended, or hangs and is to be replaced. What waits in its
    /// queues goes to the admitted ones where the kernel can do that (see `plane::group`); else its members
    /// become those of the next worker, queues included. With a hung one two live workers share an open file
    /// then, for once; it does not accept, and would only do the same with it if it did. If nobody comes it
    /// may have them [back](Self::reclaim).
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn abandon(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        self.give_up(worker, Some(worker))
    }

    /// The worker answers again before anybody came in its place: members that it gave up and that are free are
    /// its own once more. (A queue that the kernel has moved took the socket with it: that one stays deaf.)
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn reclaim(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        for member in self.members_mut() {
            if member.holder.is_none() && member.lender == Some(worker) {
                member.holder = member.lender.take();
            }
        }
        self.steer()
    }

    fn give_up(&mut self, worker: WorkerId, lender: Option<WorkerId>) -> Result<(), PlaneError> {
        if self.closing {
            return self.let_go(worker);
        }
        let standing = &self.standing;
        let admitted = |holder| standing.get(&holder).is_some_and(|s| s.weight().is_some());
        for group in &mut self.groups {
            let Some(index) = group.held_by(worker) else { continue };
            let member = &mut group.members[index];
            (member.holder, member.lender) = (None, lender.or(member.lender));
            if group.members.iter().any(|member| member.holder.is_some_and(admitted)) {
                group.hand_queues_on();
            }
        }
        self.steer()
    }

    /// The worker is gone, with all its processes: its members are free, no new connection goes to
    /// them while a worker is admitted, and what is queued on them goes to the admitted ones as in
    /// [`abandon`](Self::abandon), or waits for the next worker, which gets the free member with the
    /// longest queue.
    ///
    /// # Errors
    /// [`PlaneError::Steer`]; the worker is released all the same.
    pub fn release(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        self.standing.remove(&worker);
        self.calls.remove(&worker);
        for member in self.members_mut() {
            member.lender.take_if(|lender| *lender == worker);
        }
        self.give_up(worker, None)
    }

    /// How to connect to this worker and no other, admitted or not; `None` before it has bound a TCP
    /// address, and when another has what it gave up.
    pub fn probe_target(&self, worker: WorkerId) -> Option<ProbeTarget> {
        self.groups.iter().find_map(|group| {
            let ipv4_elsewhere = self.ipv4_bound(group.key.address.port());
            ProbeTarget::new(group, group.reached_at(worker)?, ipv4_elsewhere)
        })
    }

    /// A probe of this worker is about to set out from this socket: what of it finds no place in the queue
    /// is no user turned away.
    pub fn probe_begins(&mut self, worker: WorkerId, probe: Arc<OwnedFd>) {
        if let Some(member) = self.members_mut().find(|member| member.worker() == Some(worker)) {
            member.probes.push(probe);
        }
    }

    /// It has arrived, or is given up. Whose queue it is may have changed meanwhile.
    pub fn probe_ends(&mut self, probe: &Arc<OwnedFd>) {
        self.members_mut().any(|member| member.probe_ended(probe));
    }

    /// How many users each listening socket has turned away, by its inode.
    pub fn turned_away(&self) -> BTreeMap<u64, u64> {
        self.members().filter_map(|one| Some((one.inode, one.queue().ok()?.dropped))).collect()
    }

    /// The addresses that are bound, then those that are configured and on whose port nothing is.
    pub fn listeners(&self) -> Vec<Address> {
        let bound = self.groups.iter().map(|group| group.key.address);
        let ports: BTreeSet<u16> = bound.clone().map(|address| address.port()).collect();
        let silent = self.listen.iter().filter(|address| match address {
            Address::Inet(address) => !ports.contains(&address.port()),
            Address::Unix(_) => true,
        });
        bound.map(Address::Inet).chain(silent.cloned()).collect()
    }

    /// What waits at an address, and what was turned away there; `None` where nothing is bound, or it
    /// is a path.
    pub fn queue(&self, address: &Address) -> Option<Queue> {
        let Address::Inet(address) = address else { return None };
        let groups = self.groups.iter().filter(|group| group.key.address == *address);
        // One that cannot be read is left out: the others still tell.
        let queues =
            groups.flat_map(|group| &group.members).filter_map(|member| member.queue().ok());
        queues.reduce(|sum, one| Queue {
            queued: sum.queued + one.queued,
            limit: sum.limit.max(one.limit),
            dropped: sum.dropped + one.dropped,
        })
    }

    /// The end has begun: no worker comes any more. Members that nobody holds are closed; the workers
    /// serve on until each is [let go](Self::let_go).
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn close(&mut self) -> Result<(), PlaneError> {
        self.closing = true;
        self.paths.clear();
        for group in &mut self.groups {
            group.close(|member| member.holder.is_none());
        }
        self.steer()
    }

    /// The worker is about to be told to end. If nobody comes after it, its own descriptors of its
    /// sockets are the last: connections are refused as soon as it has closed them.
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn let_go(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        if !self.closing {
            return Ok(());
        }
        for group in &mut self.groups {
            group.close(|member| member.holder == Some(worker));
        }
        self.steer()
    }

    /// Whether IPv4 on this port belongs to a group of its own, which a dual-stack one does not see.
    fn ipv4_bound(&self, port: u16) -> bool {
        let mut bound = self.groups.iter().map(|group| group.key.address);
        bound.any(|address| address.is_ipv4() && address.port() == port)
    }

    fn group(&self, key: Key) -> Option<&Group> {
        self.groups.iter().find(|group| group.key == key)
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.groups.iter().flat_map(|group| &group.members)
    }

    fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.groups.iter_mut().flat_map(|group| &mut group.members)
    }

    /// Binds `socket`, listens, and takes it into the group of `key`; returns its index there.
    fn join(
        &mut self,
        key: Key,
        socket: OwnedFd,
        holder: Option<WorkerId>,
    ) -> Result<usize, Errno> {
        let port = key.address.port();
        let alone = self.groups.iter().all(|group| group.key.address.port() != port);
        socket::listen(&socket, key, alone, self.backlog)?;
        let at = match self.groups.iter().position(|group| group.key == key) {
            Some(at) => at,
            None => {
                self.groups.push(Group { key, members: Vec::new() });
                self.groups.len() - 1
            }
        };
        self.groups[at].join(socket, holder)
    }

    /// A free member more.
    fn join_fresh(&mut self, key: Key) -> Result<usize, Errno> {
        self.join(key, socket::fresh(key)?, None)
    }

    fn owner_of(&self, address: SocketAddr, errno: Errno) -> Option<Owner> {
        if errno == Errno::EADDRINUSE { owner::of_port(address.port()) } else { None }
    }

    fn standing_of(&self, worker: WorkerId) -> Standing {
        self.standing.get(&worker).copied().unwrap_or(Standing::Starting)
    }

    /// Brings the kernel's programs up to date; closes groups that only mislead connections.
    fn steer(&mut self) -> Result<(), PlaneError> {
        let served: BTreeSet<u16> = self
            .groups
            .iter()
            .filter(|group| {
                let holders = group.members.iter().filter_map(Member::worker);
                holders.into_iter().any(|holder| self.standing_of(holder).weight().is_some())
            })
            .map(|group| group.key.address.port())
            .collect();
        self.groups.retain_mut(|group| {
            let misleads = group.is_abandoned() && served.contains(&group.key.address.port());
            if misleads {
                group.close(|_| true);
            }
            !misleads
        });
        let standing = &self.standing;
        for group in &mut self.groups {
            let address = group.key.address;
            group
                .steer(|worker| standing.get(&worker).copied().unwrap_or(Standing::Starting))
                .map_err(|source| PlaneError::Steer { address, source })?;
        }
        Ok(())
    }
}

/// The inode in `socket:[…]`, what `/proc/PID/fd` links a socket to.
fn socket_inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn in_use(owner: &Option<Owner>) -> String {
    owner.as_ref().map_or(String::new(), |owner| format!(": in use by {owner}"))
}
