//! The traffic plane: the supervisor owns every listening socket of the application, the kernel
//! carries the bytes straight to the workers. No proxy.
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
//! # Traps, each of them met
//! - No two live workers share an open file: `O_NONBLOCK` belongs to it, and one server's switch
//!   would stop the other in accept. Within one worker (a prefork tree) sharing is the server's will;
//!   a second bind there gets the same member, and the last one decides on `O_NONBLOCK`.
//! - `listen` on a member is answered here: the worker's backlog would overwrite the configured one,
//!   and the member listens already. `shutdown` on one would reset its queue and end it for all.
//! - A member is never closed while its group lives: the kernel would move the last member into the
//!   gap and the program's indices would be wrong for a moment.
//! - The members of a group need one owner, hence [`socket::own`]; and a stranger who shares the port
//!   would take an index, hence the exclusive bind of [`socket::listen`].
//! - A group whose workers are all gone still attracts connections. When another group of the same
//!   port has an admitted worker (the new release binds `::` where the old one bound 0.0.0.0), the
//!   abandoned one is closed; what is still queued on it is reset.
//! - A signal may make a worker ask twice ([`seccomp`]); asking again must give the same answer.
//!
//! # What it cannot do
//! A descriptor that the server duplicated *before* bind stays with its old socket when a kept member
//! comes. io_uring is not seen. A new release that binds a more specific address than the old one
//! attracts its connections before it is admitted. Addresses are of the supervisor's network
//! namespace, except for sockets that are adopted.
//!
//! Least kernels: 5.9 (`ADDFD`) for takeover, 4.6 for steering TCP.

mod caller;
mod group;
mod owner;
mod path;
mod probe;
mod socket;
mod watch;

pub use owner::Owner;
pub use probe::ProbeTarget;

use super::seccomp::{Answer, Call, Notification, NotifyFd};
#[cfg(doc)]
use super::{seccomp, steering};
use crate::core::WorkerId;
use caller::{Caller, Flags, OwnSocket};
use group::{Group, Standing};
use nix::errno::Errno;
use path::PathListener;
use socket::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

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

/// What a trapped call told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneEvent {
    /// The worker called listen on a supervised address: it is about to accept.
    Listening {
        /// Which worker.
        worker: WorkerId,
        /// As the worker bound it.
        address: Address,
    },
    /// The worker could not have the address; it was told the same errno.
    BindFailed {
        /// Which worker.
        worker: WorkerId,
        /// As the worker wanted it.
        address: SocketAddr,
        /// Why: `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL` …
        errno: Errno,
        /// Who has it, for `EADDRINUSE` where it can be seen.
        owner: Option<Owner>,
    },
    /// The process could not be looked into, so the kernel carried its call out as if nobody
    /// supervised it: the address, if it was one to supervise, now belongs to the worker alone, and
    /// its replacement will find it in use. Takeover does not work on this host as it is set up.
    LetThrough {
        /// Which worker.
        worker: WorkerId,
        /// Which call.
        call: Call,
        /// Why: `EACCES` or `EPERM` when the worker may not be traced (another user without
        /// `CAP_SYS_PTRACE`, Yama).
        errno: Errno,
    },
}

/// The outcome of [`Plane::serve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// No call waits; wait until the descriptor is readable again.
    Idle,
    /// One call was answered, and there is nothing to tell.
    Quiet,
    /// One call was answered.
    Event(PlaneEvent),
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
    #[error("could not listen on {address}{}", .owner.as_ref().map_or(String::new(), |owner| format!(": in use by {owner}")))]
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

/// All listening sockets of one application. Calls are synchronous and short (microseconds; a bind
/// that fails walks `/proc` once), for one engine task.
#[derive(Debug)]
pub struct Plane {
    listen: Vec<Address>,
    backlog: Option<u32>,
    groups: Vec<Group>,
    paths: Vec<PathListener>,
    /// Workers that are not in here are starting.
    standing: BTreeMap<WorkerId, Standing>,
}

type Verdict = (Answer, Option<PlaneEvent>);
const PASS: Verdict = (Answer::Continue, None);

impl Plane {
    /// A plane for the addresses `listen`; nothing is bound yet. Under takeover the ports of `listen`
    /// are supervised, whatever address the worker binds them on; with no address, each TCP bind to a
    /// port other than 0 is. `backlog` as in listen(2), by default `net.core.somaxconn`.
    pub fn new(listen: Vec<Address>, backlog: Option<u32>) -> Self {
        Self { listen, backlog, groups: Vec::new(), paths: Vec::new(), standing: BTreeMap::new() }
    }

    /// Answers one waiting call of `worker`'s tree, if there is one; never blocks. To be called until
    /// it says [`Served::Idle`], again whenever `notify` is readable.
    ///
    /// # Errors
    /// [`PlaneError::Notify`]; [`PlaneError::Steer`] after the call was answered.
    pub fn serve(&mut self, worker: WorkerId, notify: &NotifyFd) -> Result<Served, PlaneError> {
        let failed = |source| PlaneError::Notify { worker, source };
        let Some(question) = notify.recv().map_err(failed)? else { return Ok(Served::Idle) };
        let (answer, event) = match question.call {
            Some(Call::Bind) => self.bind(worker, notify, question),
            Some(call) => self.listen_or_shutdown(worker, notify, question, call),
            None => PASS,
        };
        notify.respond(question.id, answer).map_err(failed)?;
        if (question.call, answer) == (Some(Call::Bind), Answer::Done) {
            self.steer()?;
        }
        Ok(event.map_or(Served::Quiet, Served::Event))
    }

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

    /// Lets new connections reach the worker.
    ///
    /// # Errors
    /// [`PlaneError::Steer`].
    pub fn admit(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        self.standing.insert(worker, Standing::Admitted);
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
            if only_diverted {
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

    /// Connections that are queued for the worker and that it has not accepted, over all groups.
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

    /// The worker is gone, with all its processes: its members are free, no new connection goes to
    /// them while a worker is admitted, and what is queued on them waits for the next worker, which
    /// gets the free member with the longest queue.
    ///
    /// # Errors
    /// [`PlaneError::Steer`]; the worker is released all the same.
    pub fn release(&mut self, worker: WorkerId) -> Result<(), PlaneError> {
        self.standing.remove(&worker);
        for member in self.groups.iter_mut().flat_map(|group| &mut group.members) {
            member.holder = member.holder.filter(|holder| *holder != worker);
        }
        self.steer()
    }

    /// How to connect to this worker and no other, admitted or not; `None` before it has bound a TCP
    /// address.
    pub fn probe_target(&self, worker: WorkerId) -> Option<ProbeTarget> {
        self.groups.iter().find_map(|group| ProbeTarget::new(group, group.held_by(worker)?))
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

    /// Gives all sockets up: once the workers have closed theirs too, connections are refused, and
    /// what is queued is reset. The start of a stop.
    pub fn close(&mut self) {
        self.groups.clear();
        self.paths.clear();
    }

    fn bind(&mut self, worker: WorkerId, notify: &NotifyFd, question: Notification) -> Verdict {
        let caller = Caller { tid: question.tid };
        let fd = question.args[0] as RawFd;
        let address = match caller.sockaddr(question.args[1], question.args[2]) {
            Ok(Some(address)) if self.supervises(address) => address,
            Ok(_) => return PASS,
            Err(errno) => return blind(worker, notify, question, Call::Bind, errno),
        };
        let bound = (|| {
            let Some(own) = caller.own_socket(fd, address)? else { return Ok(None) };
            Ok(Some(Bind {
                id: question.id,
                caller,
                fd,
                flags: caller.flags(fd)?,
                inode: caller.socket_inode(fd)?.ok_or(Errno::ENOTSOCK)?,
                own,
            }))
        })();
        let bind = match bound {
            Ok(Some(bind)) => bind,
            Ok(None) => return PASS,
            Err(errno) => return blind(worker, notify, question, Call::Bind, errno),
        };
        // What was read until here is the caller's, and not of a later thread with its number.
        if !notify.id_valid(question.id) {
            return PASS;
        }
        if self.kept(worker, bind.inode).is_some() {
            return (Answer::Done, None);
        }
        let v6only = bind.own.v6only.unwrap_or_else(|| self.has_v4(address.port()));
        match self.place(worker, notify, bind, Key { address, v6only }) {
            Ok(()) => (Answer::Done, None),
            // The caller died: nobody is left to tell.
            Err(Errno::ENOENT) => PASS,
            Err(errno) => {
                let owner = self.owner_of(address, errno);
                let event = PlaneEvent::BindFailed { worker, address, errno, owner };
                (Answer::Fail(errno), Some(event))
            }
        }
    }

    /// Makes the worker a member of the group of `key`.
    fn place(
        &mut self,
        worker: WorkerId,
        notify: &NotifyFd,
        mut bind: Bind,
        key: Key,
    ) -> Result<(), Errno> {
        let group = self.group(key);
        let kept = group.and_then(|group| group.held_by(worker).or_else(|| group.free()));
        let index = match kept {
            Some(index) => index,
            None if bind.own.plain_tcp
                && let Some(taken) = bind.own.taken.take() =>
            {
                socket::own(&taken)?;
                return self.join(key, taken, Some(worker)).map(drop);
            }
            None => self.join_fresh(key)?,
        };
        let Some(group) = self.groups.iter_mut().find(|group| group.key == key) else {
            return Err(Errno::EIO);
        };
        let member = &mut group.members[index];
        bind.swap(notify, member.socket.as_fd())?;
        member.holder = Some(worker);
        Ok(())
    }

    fn listen_or_shutdown(
        &self,
        worker: WorkerId,
        notify: &NotifyFd,
        question: Notification,
        call: Call,
    ) -> Verdict {
        let caller = Caller { tid: question.tid };
        let address = match caller.socket_inode(question.args[0] as RawFd) {
            Ok(inode) => inode.and_then(|inode| self.kept(worker, inode)),
            Err(errno) => return blind(worker, notify, question, call, errno),
        };
        match address {
            Some(address) if notify.id_valid(question.id) => {
                let listening = PlaneEvent::Listening { worker, address };
                (Answer::Done, (call == Call::Listen).then_some(listening))
            }
            _ => PASS,
        }
    }

    fn supervises(&self, address: SocketAddr) -> bool {
        let port = address.port();
        port != 0
            && (self.listen.is_empty()
                || self
                    .listen
                    .iter()
                    .any(|listen| matches!(listen, Address::Inet(listen) if listen.port() == port)))
    }

    /// Whether IPv4 on this port is taken by a group, or will be: then an IPv6 socket beside it must
    /// be v6-only, since a dual-stack one could not have been bound.
    fn has_v4(&self, port: u16) -> bool {
        let bound = self.groups.iter().map(|group| group.key.address);
        let configured = self.listen.iter().filter_map(|listen| match listen {
            Address::Inet(address) => Some(*address),
            Address::Unix(_) => None,
        });
        bound.chain(configured).any(|address| address.is_ipv4() && address.port() == port)
    }

    /// The address of the socket with this number, if `worker` has it from here.
    fn kept(&self, worker: WorkerId, inode: u64) -> Option<Address> {
        let held = self.groups.iter().find(|group| {
            group
                .members
                .iter()
                .any(|member| member.holder == Some(worker) && member.inode == inode)
        });
        let inet = held.map(|group| Address::Inet(group.key.address));
        inet.or_else(|| {
            let path = self.paths.iter().find(|path| path.inode == inode)?;
            Some(Address::Unix(path.path.clone()))
        })
    }

    fn group(&self, key: Key) -> Option<&Group> {
        self.groups.iter().find(|group| group.key == key)
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

    fn member_to_inherit(
        &mut self,
        worker: WorkerId,
        address: SocketAddr,
    ) -> Result<OwnedFd, Errno> {
        let key = Key { address, v6only: address.is_ipv6() && self.has_v4(address.port()) };
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
                let holders = group.members.iter().filter_map(|member| member.holder);
                holders.into_iter().any(|holder| self.standing_of(holder) == Standing::Admitted)
            })
            .map(|group| group.key.address.port())
            .collect();
        self.groups
            .retain(|group| !(group.is_abandoned() && served.contains(&group.key.address.port())));
        for group in &self.groups {
            let address = group.key.address;
            group
                .steer(|worker| self.standing_of(worker))
                .map_err(|source| PlaneError::Steer { address, source })?;
        }
        Ok(())
    }
}

/// A bind that waits, and the socket it is about.
struct Bind {
    id: u64,
    caller: Caller,
    fd: RawFd,
    flags: Flags,
    inode: u64,
    own: OwnSocket,
}

impl Bind {
    /// Puts `member` in the place of the caller's own socket, made to look like it.
    fn swap(&self, notify: &NotifyFd, member: std::os::fd::BorrowedFd<'_>) -> Result<(), Errno> {
        if let Some(taken) = &self.own.taken {
            socket::copy_options(taken, member);
        }
        socket::set_nonblocking(member, self.flags.nonblocking)?;
        watch::copy(self.caller, self.fd, self.inode, member)?;
        notify.add_fd(self.id, member, self.fd, self.flags.close_on_exec)
    }
}

/// The kernel shall do it; told to the lead unless the caller is just gone.
fn blind(
    worker: WorkerId,
    notify: &NotifyFd,
    question: Notification,
    call: Call,
    errno: Errno,
) -> Verdict {
    let event = PlaneEvent::LetThrough { worker, call, errno };
    (Answer::Continue, notify.id_valid(question.id).then_some(event))
}

/// The inode in `socket:[…]`, what `/proc/PID/fd` links a socket to.
fn socket_inode(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
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
