//! Takeover, tried from end to end: two generations of the built-in server, and a client that asks
//! through a new connection each time while one replaces the other.

use super::check::Check;
use super::worker::{Worker, ask, errno, errno_words, spawn_words};
use super::{Host, PATIENCE, free_address};
use crate::config::ListenMode;
use crate::core::words::chain;
use crate::core::{Weight, WorkerId};
use crate::linux::launch::Takeover;
use crate::linux::plane::{Address, Calls, Plane, PlaneError, PlaneEvent};
use crate::linux::seccomp::Call;
use crate::linux::sockdiag;
use crate::linux::spawn::SpawnError;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const NAME: &str = "takeover";

/// Questions in a row that must all reach the right generation.
const QUESTIONS: u32 = 20;
/// Between two looks at the old generation's queue.
const PAUSE: Duration = Duration::from_millis(2);
/// What a worker may tell before it is listened to; it binds once.
const EVENTS: usize = 16;

/// Whether the sockets of a server that knows nothing of it can be taken over.
pub(super) async fn takeover(host: &Host) -> Check {
    let way = Takeover::strongest(&host.procfs);
    let step = Cell::new("");
    let outcome = timeout(2 * PATIENCE, roll(host, way, &step)).await;
    let check = match outcome.unwrap_or_else(|_| Err(Obstacle::Overdue(step.get()))) {
        Ok(rolled) => rolled.check(way),
        Err(obstacle) => Check::missing(
            NAME,
            format!("tried with the built-in server: {}", obstacle.words()),
            "no hand-over without a lost connection for servers that bind their own port; set \
             [listen] mode = \"inherit\" for one that knows LISTEN_FDS, else \"port\" (behind a \
             balancer) or \"none\"",
            obstacle.remedy(),
        ),
    };
    check.needed(host.config.listen.mode == ListenMode::Takeover)
}

/// What a roll that went well has shown.
struct Rolled {
    requests: u32,
    options_kept: bool,
}

impl Rolled {
    fn check(&self, way: Takeover) -> Check {
        let found = format!(
            "replaced a server under {} requests, each on a connection of its own; none was lost",
            self.requests
        );
        let mut means = vec!["no new connection is lost when a worker is replaced"];
        let mut remedies = Vec::new();
        if !self.options_kept {
            means.push(
                "pidfd_getfd is refused, so the first socket too is the supervisor's own: options \
                 that the server sets before bind are lost",
            );
            remedies.push(
                "allow pidfd_getfd: docker run --cap-add SYS_PTRACE, or a seccomp profile with it",
            );
        }
        if way == Takeover::NoNewPrivileges {
            means.push("workers run with no_new_privs: no sudo, no file capabilities in them");
            remedies.push(
                "give stanch CAP_SYS_ADMIN (AmbientCapabilities= in the unit, or run it as root)",
            );
        }
        match remedies.is_empty() {
            true => Check::ok(NAME, found, means.concat()),
            false => Check::limited(NAME, found, means.join("; "), remedies.join("; ")),
        }
    }
}

/// Why a roll failed.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error("no port is free on 127.0.0.1")]
    Port(#[source] io::Error),
    #[error("the server did not start")]
    Spawn(#[from] SpawnError),
    #[error("the server's calls cannot be waited for")]
    Wait(#[source] io::Error),
    #[error("{0:?} of the server could not be looked into")]
    LetThrough(Call, #[source] Errno),
    #[error("the server could not bind {0}")]
    Bind(SocketAddr, #[source] Errno),
    #[error(transparent)]
    Plane(#[from] PlaneError),
    #[error("the server ended before it bound its port")]
    Ended,
    #[error("worker {0} did not answer")]
    Ask(WorkerId, #[source] io::Error),
    #[error("worker {expected} should have answered, and {answered:?} did")]
    Astray { expected: WorkerId, answered: String },
    #[error("{lost} requests were lost beside {answered} that were answered")]
    Lost {
        lost: u32,
        answered: u32,
        #[source]
        first: io::Error,
    },
    #[error("{0} took too long")]
    Overdue(&'static str),
}

impl Obstacle {
    fn words(&self) -> String {
        match self {
            Obstacle::Spawn(error) => spawn_words(error),
            Obstacle::LetThrough(call, errno) => format!(
                "stage {call:?}: the server could not be looked into: {}",
                errno_words(*errno)
            ),
            other => chain(other),
        }
    }

    fn remedy(&self) -> String {
        let errno = match self {
            Obstacle::Spawn(SpawnError::Refused { source, .. }) => Some(errno(source)),
            Obstacle::LetThrough(_, errno) | Obstacle::Bind(_, errno) => Some(*errno),
            _ => None,
        };
        let looking = matches!(self, Obstacle::LetThrough(..));
        match errno {
            Some(Errno::EBUSY) => {
                "run stanch outside of the supervisor or container manager that traps system calls \
                 here: the kernel allows one (a stanch in a stanch; seccomp notify in LXC)"
            }
            Some(Errno::EACCES | Errno::EPERM) if looking => {
                "give stanch CAP_SYS_PTRACE (docker run --cap-add SYS_PTRACE, AmbientCapabilities= in \
                 the unit), or run the workers as stanch's own user; kernel.yama.ptrace_scope must \
                 be below 2"
            }
            Some(Errno::EMFILE | Errno::ENFILE) => "raise stanch's limit of open files (ulimit -n)",
            Some(Errno::ENOSYS | Errno::EINVAL) => {
                "Linux 5.9 or later with CONFIG_SECCOMP_FILTER, and a container profile that allows \
                 seccomp(2)"
            }
            Some(Errno::EPERM | Errno::EACCES) => {
                "allow it: root or the capability for the stage that is named, and a container \
                 profile that allows seccomp(2)"
            }
            _ => "start it again; if it stays, report it with this line",
        }
        .to_owned()
    }
}

async fn roll(host: &Host, way: Takeover, step: &Cell<&'static str>) -> Result<Rolled, Obstacle> {
    let (old, new) = (WorkerId::new(0, 1), WorkerId::new(0, 2));
    let address = free_address(Ipv4Addr::LOCALHOST.into()).map_err(Obstacle::Port)?;
    let plane = Rc::new(Mutex::new(Plane::new(vec![Address::Inet(address)], None)));

    step.set("the start of the first server");
    let mut first = Generation::start(host, way, &plane, old, address).await?;
    let options_kept = first.bound().await?;
    hold(&plane).admit(old, Weight::FULL)?;
    answers(address, old).await?;

    let client = Client::start(address);
    step.set("the start of the second server");
    let mut second = Generation::start(host, way, &plane, new, address).await?;
    second.bound().await?;
    step.set("an answer of the first server beside the second");
    answers(address, old).await?;

    step.set("the change to the second server");
    hold(&plane).admit(new, Weight::FULL)?;
    hold(&plane).divert(old)?;
    answers(address, new).await?;

    step.set("the end of the first server");
    // Where handshakes cannot be seen, the queue says nearly as much.
    while hold(&plane).waiting(old)? > 0 || sockdiag::syn_recv(address).unwrap_or(0) > 0 {
        sleep(PAUSE).await;
    }
    first.worker.process.signal(Signal::SIGTERM);
    first.ended().await;
    hold(&plane).release(old)?;
    step.set("an answer of the second server alone");
    answers(address, new).await?;
    Ok(Rolled { requests: client.tally()?, options_kept })
}

fn hold(plane: &Mutex<Plane>) -> MutexGuard<'_, Plane> {
    plane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether everybody who asks reaches this worker and no other.
async fn answers(address: SocketAddr, expected: WorkerId) -> Result<(), Obstacle> {
    for _ in 0..QUESTIONS {
        let answered = ask(address).await.map_err(|error| Obstacle::Ask(expected, error))?;
        if answered != expected.to_string() {
            return Err(Obstacle::Astray { expected, answered });
        }
    }
    Ok(())
}

/// A server under the filter, and the task that answers it.
struct Generation {
    worker: Worker,
    events: mpsc::Receiver<Result<PlaneEvent, PlaneError>>,
    _answering: JoinSet<()>,
}

impl Generation {
    async fn start(
        host: &Host,
        way: Takeover,
        plane: &Rc<Mutex<Plane>>,
        id: WorkerId,
        address: SocketAddr,
    ) -> Result<Self, Obstacle> {
        let mut worker = host.serve(id, address, way).await?;
        let (told, events) = mpsc::channel(EVENTS);
        let mut answering = JoinSet::new();
        if let Some(notify) = worker.notify.take() {
            let calls = Calls::of(id, notify, plane).map_err(Obstacle::Wait)?;
            let plane = Rc::clone(plane);
            answering.spawn_local(async move {
                while let Some(event) = calls.next(&plane).await {
                    // Full only when nobody wants to know any more.
                    let _ = told.try_send(event);
                }
            });
        }
        Ok(Self { worker, events, _answering: answering })
    }

    /// Waits until it has its address; whether the options of its own socket were kept.
    async fn bound(&mut self) -> Result<bool, Obstacle> {
        while let Some(told) = self.events.recv().await {
            match told? {
                PlaneEvent::Bound { options_kept, .. } => return Ok(options_kept),
                PlaneEvent::Listening { .. } => {}
                PlaneEvent::LetThrough { call, errno, .. } => {
                    return Err(Obstacle::LetThrough(call, errno));
                }
                PlaneEvent::BindFailed { address, errno, .. } => {
                    return Err(Obstacle::Bind(address, errno));
                }
            }
        }
        Err(Obstacle::Ended)
    }

    /// Waits until no process with its filter is left.
    async fn ended(&mut self) {
        while self.events.recv().await.is_some() {}
    }
}

/// Asks all the while, through a new connection each time.
struct Client {
    tally: Rc<RefCell<Tally>>,
    _asking: JoinSet<()>,
}

#[derive(Default)]
struct Tally {
    answered: u32,
    lost: u32,
    first: Option<io::Error>,
}

impl Client {
    fn start(address: SocketAddr) -> Self {
        let tally = Rc::new(RefCell::new(Tally::default()));
        let mut asking = JoinSet::new();
        let seen = Rc::clone(&tally);
        asking.spawn_local(async move {
            loop {
                let outcome = ask(address).await;
                let mut tally = seen.borrow_mut();
                match outcome {
                    Ok(_) => tally.answered += 1,
                    Err(error) => {
                        tally.lost += 1;
                        tally.first.get_or_insert(error);
                    }
                }
            }
        });
        Self { tally, _asking: asking }
    }

    /// How many were answered; an error if any was not.
    fn tally(self) -> Result<u32, Obstacle> {
        let mut tally = self.tally.borrow_mut();
        let (lost, answered) = (tally.lost, tally.answered);
        match tally.first.take() {
            Some(first) => Err(Obstacle::Lost { lost, answered, first }),
            None => Ok(answered),
        }
    }
}
