//! `stanch upgrade`, from the moment at which all is at rest: what one supervisor leaves to the program
//! that takes its place, and how that begins. It begins as after the death of a supervisor
//! (`recovery`), but nothing is lost, so there is nothing to look for and nobody to replace.

use super::clock::{self, Clock};
use super::engine::Engine;
use super::executor::Executor;
use super::lock::lock;
use super::output::{Remainder, Stream};
use super::recovery::{self, Finds, Kept, Remnant};
use crate::config::Config;
use crate::core::words::chain;
use crate::core::{Event, Handover, Legacy, Reply, Sample, Succession, Ticket, WorkerId};
use crate::linux::cgroup::Leaf;
use crate::linux::handover::{Luggage, Place, Program};
use crate::linux::plane::{Holdings, Plane};
use crate::linux::procfs::{ProcessId, Procfs};
use crate::linux::tree::{Orphans, Tree};
use crate::store::{Life, Reader, Store, StoreError};
use jiff::Timestamp;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long alerts that are on their way are waited for; what is not delivered stays in the spool.
const ALERTS_PATIENCE: Duration = Duration::from_secs(1);

/// The successor answers who asked for it under this number; its own begin at 1.
const ASKED: Ticket = Ticket(0);

/// What a supervisor leaves.
#[derive(Debug, Serialize, Deserialize)]
pub struct Estate {
    version: String,
    /// By `CLOCK_MONOTONIC`: when its clock began, and when it decided for the last time.
    clock_began: Duration,
    left_at: Duration,
    workers_oom_score: Option<i32>,
    core: Handover,
    plane: Holdings,
    inbox: Place,
    tenants: Vec<Tenant>,
    pipes: Vec<Pipe>,
    /// What the faces leave; only they understand it.
    pub faces: serde_json::Value,
}

/// A worker.
#[derive(Debug, Serialize, Deserialize)]
struct Tenant {
    worker: WorkerId,
    leader: (i32, u64),
    /// All that is known to belong to it.
    members: Vec<(i32, u64)>,
    mark: String,
    /// What its samples are kept under.
    life_started: Timestamp,
    /// Whether this process is its parent.
    child: bool,
}

/// What of its output was not passed on.
#[derive(Debug, Serialize, Deserialize)]
struct Pipe {
    worker: WorkerId,
    stderr: bool,
    place: Place,
    text: Vec<u8>,
    dropped: u64,
}

/// A program that was tried and may take the place of this one, and who waits for that.
#[derive(Debug)]
pub(super) struct Candidate {
    pub program: Program,
    pub connection: Option<OwnedFd>,
}

/// A supervisor that goes.
#[derive(Debug)]
pub struct Departure {
    /// To be closed.
    pub store: Store,
    /// What it leaves, and the descriptors in that.
    pub estate: Estate,
    /// The descriptors that the estate names.
    pub luggage: Luggage,
    /// What takes its place.
    pub program: Program,
    /// Whoever asked for it waits for the answer here.
    pub connection: Option<OwnedFd>,
    /// What was in force.
    pub config: Arc<Config>,
}

/// What a supervisor begins with that takes another's place.
#[derive(Debug)]
pub struct Inheritance {
    /// What the other one left.
    pub estate: Estate,
    /// The descriptors that the estate names.
    pub luggage: Luggage,
    /// Who asked for it.
    pub reply: Option<oneshot::Sender<Reply>>,
    /// The other one is this very program, since the new one could not be executed.
    pub failure: Option<String>,
}

/// An inheritance at work, or a beginning without one.
pub(super) struct Beginning {
    pub clock: Clock,
    pub workers_oom_score: Option<i32>,
    pub inbox: Option<OwnedFd>,
    pub reply: Option<(Ticket, oneshot::Sender<Reply>)>,
    finds: Finds,
    succession: Option<Succession>,
}

impl Beginning {
    /// Without an inheritance.
    pub fn anew(workers_oom_score: impl FnOnce() -> Option<i32>) -> Self {
        Self {
            clock: Clock::start(),
            workers_oom_score: workers_oom_score(),
            inbox: None,
            reply: None,
            finds: Finds::new(),
            succession: None,
        }
    }

    /// What the core is told, and the workers: of the log only what is said of incidents.
    pub fn look(&mut self, procfs: &Procfs, log: Option<&Reader>) -> (Legacy, Finds) {
        let read = log.map(recovery::incidents).transpose().unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "the incidents of before are not known");
            None
        });
        let (boot_id, succession) = (procfs.boot_id(), self.succession.take());
        let legacy = Legacy { boot_id, succession, ..read.unwrap_or_default() };
        (legacy, std::mem::take(&mut self.finds))
    }
}

impl Engine {
    /// What this supervisor would leave at this moment, if that is its plane.
    pub(super) fn estate(&self, plane: &Plane, luggage: &mut Luggage) -> io::Result<Estate> {
        let Executor { surroundings, roster, workers_oom_score, .. } = &self.executor;
        let process = |id: ProcessId| (id.pid.as_raw(), id.start_time_ticks);
        let tenants = roster.iter().map(|(worker, live)| {
            let tree = live.tree();
            Tenant {
                worker,
                leader: (live.pid, live.start_ticks),
                members: tree.known().map(process).collect(),
                mark: tree.mark(),
                life_started: live.life.started,
                child: !live.adopted,
            }
        });
        Ok(Estate {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock_began: self.clock.began(),
            left_at: clock::monotonic(),
            workers_oom_score: *workers_oom_score,
            core: self.supervisor.hand_over(),
            plane: plane.holdings(luggage)?,
            inbox: luggage.put(surroundings.notices.inbox())?,
            tenants: tenants.collect(),
            pipes: Vec::new(),
            faces: serde_json::Value::Null,
        })
    }

    /// Whether anything is under way: also what the core does not know of, or only later.
    fn is_busy(&self) -> bool {
        let Executor { store_problem, children, .. } = &self.executor;
        self.supervisor.underway().is_some() || store_problem.is_some() || !children.is_empty()
    }

    /// Leaves, if the time has come: all is at rest still, also when the faces are closed and whatever
    /// waited to be told has been told.
    pub(super) async fn depart(&mut self) -> Option<(Estate, Luggage, Candidate)> {
        if self.is_busy() {
            return None;
        }
        if let Some(close_faces) = self.executor.close_faces.take() {
            // If there are none, nobody asks.
            let _ = close_faces.send(());
        }
        if !self.deserted {
            return None;
        }
        let notices = self.executor.surroundings.notices.clone();
        let silence = notices.pause()?;
        while let Ok(message) = self.messages.try_recv() {
            self.on_message(message).await;
        }
        let events = self.executor.look();
        self.tell_all(events).await;
        if self.is_busy() {
            return None;
        }
        let mut luggage = Luggage::default();
        let mut estate = self
            .leave_plane(&mut luggage)
            .inspect_err(|error| tracing::warn!(%error, "nothing can be handed over yet"))
            .ok()?;
        let candidate = self.executor.leaving.take()?;
        self.service.reloading();
        if let Some(alerts) = self.executor.alerts.end() {
            let _ = timeout(ALERTS_PATIENCE, spawn_blocking(|| alerts.join())).await;
        }
        for remainder in self.executor.surroundings.output.halt().await {
            let Remainder { worker, stream, pipe, text, dropped } = remainder;
            // One that is missing is opened anew, as after a death.
            let Ok(place) = luggage.put(pipe) else { continue };
            let stderr = stream == Stream::Stderr;
            estate.pipes.push(Pipe { worker, stderr, place, text, dropped });
        }
        // Nothing more is taken from there: it is for the successor.
        std::mem::forget(silence);
        Some((estate, luggage, candidate))
    }

    /// The estate, and no call of a worker is answered after it.
    fn leave_plane(&self, luggage: &mut Luggage) -> io::Result<Estate> {
        let plane = &self.executor.surroundings.plane;
        let mut plane = lock(plane);
        let estate = self.estate(&plane, luggage)?;
        plane.retire();
        Ok(estate)
    }
}

impl Estate {
    /// The version of the program that left it.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Takes over what was left.
pub(super) fn begin(
    inheritance: Inheritance,
    procfs: &Procfs,
    orphans: &Orphans,
    plane: &mut Plane,
) -> io::Result<Beginning> {
    let Inheritance { estate, mut luggage, reply, failure } = inheritance;
    plane.take_on(estate.plane, &mut luggage)?;
    let inbox = luggage.take(estate.inbox)?;
    let mut pipes: BTreeMap<WorkerId, Vec<Remainder>> = BTreeMap::new();
    for Pipe { worker, stderr, place, text, dropped } in estate.pipes {
        let stream = if stderr { Stream::Stderr } else { Stream::Stdout };
        let remainder = Remainder { worker, stream, pipe: luggage.take(place)?, text, dropped };
        pipes.entry(worker).or_default().push(remainder);
    }
    let process = |(pid, start_time_ticks)| ProcessId { pid: Pid::from_raw(pid), start_time_ticks };
    let mut finds = Finds::new();
    for Tenant { worker, leader, members, mark, life_started, child } in estate.tenants {
        let leader = process(leader);
        let leaf = Leaf::adopt(procfs, leader.pid, worker);
        let mut tree = Tree::new(procfs.clone(), orphans.clone(), leader, mark, leaf);
        members.into_iter().for_each(|id| tree.know(process(id)));
        let age = procfs.age(leader).unwrap_or_default();
        let pipes = pipes.remove(&worker).unwrap_or_default();
        let kept = Some(Kept { life_started, child, pipes });
        finds.insert(worker, Remnant { leader: Some(leader), tree, age, kept });
    }
    let pause = clock::monotonic().saturating_sub(estate.left_at);
    Ok(Beginning {
        clock: Clock::that_began(estate.clock_began),
        workers_oom_score: estate.workers_oom_score,
        inbox: Some(inbox),
        finds,
        succession: Some(Succession {
            handover: estate.core,
            from: estate.version,
            to: env!("CARGO_PKG_VERSION").to_owned(),
            pause,
            ticket: reply.as_ref().map(|_| ASKED),
            failure,
        }),
        reply: reply.map(|reply| (ASKED, reply)),
    })
}

impl Executor {
    /// Has the core told what the workers used before. Beside the engine: there may be thousands of
    /// readings, on a slow disk.
    pub fn remember(&self) {
        let lives: Vec<_> = self.roster.iter().map(|(_, live)| Arc::clone(&live.life)).collect();
        let (store, events) =
            (Arc::clone(&self.surroundings.store), self.surroundings.events.clone());
        spawn_blocking(move || {
            let told = Reader::open(&store).and_then(|reader| {
                lives.iter().try_for_each(|life| {
                    let (worker, samples) = (life.worker, used_before(&reader, life)?);
                    // An engine that has ended needs none.
                    let _ = events.blocking_send(Event::Remembered { worker, samples }.into());
                    Ok(())
                })
            });
            if let Err(error) = told {
                tracing::warn!(error = chain(&error), "leaks are judged anew from here on");
            }
        });
    }

    /// Goes, and leaves behind what would undo itself if it were dropped: cgroups would be removed, or
    /// lose their limits.
    pub fn go(self) {
        let Self { leaves, limits, roster, .. } = self;
        std::mem::forget((leaves, limits, roster));
    }
}

/// The readings of a worker by its age.
fn used_before(reader: &Reader, life: &Arc<Life>) -> Result<Vec<(Duration, Sample)>, StoreError> {
    let mut samples = Vec::new();
    reader.samples(life, |stored| {
        let age = Duration::try_from(stored.at.duration_since(life.started)).unwrap_or_default();
        samples.push((age, stored.sample));
        Ok::<(), StoreError>(())
    })?;
    Ok(samples)
}
