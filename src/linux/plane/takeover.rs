//! Answering the calls that a worker waits in.

use super::caller::{Caller, Flags, OwnSocket};
use super::owner::Owner;
use super::socket::{self, Key};
use super::{Address, Plane, PlaneError, watch};
use crate::core::WorkerId;
use crate::linux::seccomp::{Answer, Call, Notification, NotifyFd};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

/// What a trapped call told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneEvent {
    /// The worker has a supervised address, and its socket there listens: it is about to accept. Its
    /// own `listen` is no sign, gunicorn leaves it out for a socket that listens already.
    Bound {
        /// Which worker.
        worker: WorkerId,
        /// As the worker bound it.
        address: Address,
        /// Nobody had bound it before: it is supervised from now on.
        new: bool,
        /// The socket has the options that the worker set on its own one before bind. False where
        /// `pidfd_getfd` is refused: it is then a plain one of the supervisor.
        options_kept: bool,
    },
    /// The worker called listen on a socket that it has from here.
    Listening {
        /// Which worker.
        worker: WorkerId,
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
    /// Told for each such call.
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

type Verdict = (Answer, Option<PlaneEvent>);
const PASS: Verdict = (Answer::Continue, None);

impl Plane {
    /// Answers one waiting call of `worker`'s tree, if there is one; never blocks. To be called until
    /// it says [`Served::Idle`], again whenever `notify` is readable.
    ///
    /// # Errors
    /// [`PlaneError::Notify`]; [`PlaneError::Steer`] after the call was answered.
    pub fn serve(&mut self, worker: WorkerId, notify: &NotifyFd) -> Result<Served, PlaneError> {
        if self.retired {
            return Ok(Served::Idle);
        }
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
        let v6only = bind.own.v6only.unwrap_or_else(|| self.guess_v6only(address));
        let key = Key { address, v6only };
        let new = self.group(key).is_none();
        let options_kept = bind.own.taken.is_some();
        match self.place(worker, notify, bind, key) {
            Ok(()) => {
                let address = Address::Inet(address);
                (Answer::Done, Some(PlaneEvent::Bound { worker, address, new, options_kept }))
            }
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
        match caller.socket_inode(question.args[0] as RawFd) {
            Ok(Some(inode)) if self.keeps(inode) && notify.id_valid(question.id) => {
                let listening = PlaneEvent::Listening { worker };
                (Answer::Done, (call == Call::Listen).then_some(listening))
            }
            Ok(_) => PASS,
            Err(errno) => blind(worker, notify, question, call, errno),
        }
    }

    pub(super) fn supervises(&self, address: SocketAddr) -> bool {
        let port = address.port();
        match self.listen.as_slice() {
            [] => port != 0 && !self.ignore_ports.contains(&port),
            listen => listen
                .iter()
                .any(|listen| matches!(listen, Address::Inet(listen) if listen.port() == port)),
        }
    }

    /// For an IPv6 socket that cannot be asked: as the last worker had it, since servers bind their
    /// families in any order; else dual stack, unless that could not have been bound.
    fn guess_v6only(&self, address: SocketAddr) -> bool {
        let before = self.groups.iter().find(|group| group.key.address == address);
        before.map_or_else(|| self.ipv4_bound(address.port()), |group| group.key.v6only)
    }

    /// Whether the socket with this number is one from here.
    pub(super) fn keeps(&self, inode: u64) -> bool {
        self.members().any(|member| member.inode == inode)
            || self.paths.iter().any(|path| path.inode == inode)
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
    fn swap(&self, notify: &NotifyFd, member: BorrowedFd<'_>) -> Result<(), Errno> {
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
