//! What the core is told.

use super::evidence::{Captured, Part};
use super::hooks::Hook;
use super::reload::Reload;
use super::{AlertFailure, AlertId, Bounds, Incident, IncidentId, Makeup, Sample, Slot, WorkerId};
use std::fmt;
use std::time::Duration;

/// Something that happened, told to the core together with the time.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What the worker is started from. Told before `Spawned`, where it is known by then; else as soon as
    /// it is.
    MadeOf {
        /// Which worker.
        worker: WorkerId,
        /// Of what.
        makeup: Makeup,
    },
    /// The worker's command runs.
    Spawned {
        /// Which worker.
        worker: WorkerId,
        /// Its leader.
        pid: i32,
        /// When the leader was started, in clock ticks after boot: with the pid it names the process
        /// for a later supervisor.
        start_ticks: u64,
    },
    /// The worker's command could not be started.
    SpawnFailed {
        /// Which worker.
        worker: WorkerId,
        /// The set-up step that failed: `directory`, `user`, `limits`, `exec` …
        stage: String,
        /// What the kernel said, on what.
        error: String,
    },
    /// Something stands in the way of the worker's becoming ready; it goes into the reason if it does
    /// not become so.
    Obstacle {
        /// Which worker.
        worker: WorkerId,
        /// What: `127.0.0.1:8000 is in use by nginx (pid 7)`.
        error: String,
    },
    /// The worker was verified ready.
    Ready {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker says that it lives, as `health.watchdog` asks it to.
    Pinged {
        /// Which worker.
        worker: WorkerId,
    },
    /// The worker says what it does.
    Described {
        /// Which worker.
        worker: WorkerId,
        /// For people, one line; empty takes the last one back.
        status: String,
    },
    /// The worker says that it is about to end.
    Leaving {
        /// Which worker.
        worker: WorkerId,
    },
    /// A liveness probe ended; the error says how it failed.
    Probed {
        /// Which worker.
        worker: WorkerId,
        /// The outcome.
        outcome: Result<(), String>,
        /// Whether it gave an answer, be it a bad one.
        answered: bool,
    },
    /// There was nothing to probe: the worker listened on a supervised address, and does not any more, or
    /// gave that up to another.
    Unreachable {
        /// Which worker.
        worker: WorkerId,
    },
    /// A look at a worker that was steered away. Comes at once, then with each change.
    Draining {
        /// Which worker.
        worker: WorkerId,
        /// What it still has.
        left: Left,
    },
    /// The leader of the tree ended.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// How.
        status: ExitStatus,
    },
    /// Nothing of the tree is left.
    Gone {
        /// Which worker.
        worker: WorkerId,
        /// Processes that had outlived the leader and were killed.
        stragglers: u32,
        /// Connections that were still open when they were hung up or the worker was killed; `None`
        /// if it was not killed, or where that cannot be known.
        connections_cut: Option<u64>,
    },
    /// What the worker may have of what is counted.
    Bounds {
        /// Which worker.
        worker: WorkerId,
        /// The limits.
        bounds: Bounds,
    },
    /// The kernel holds the worker's hard limit, so that readings need not be compared with it.
    LimitHeld {
        /// Which worker.
        worker: WorkerId,
    },
    /// The OOM killer took a process of the worker. Told before the end that it led to.
    OomKilled {
        /// Which worker.
        worker: WorkerId,
        /// For whose sake.
        by: OomKiller,
        /// The most memory that was ever charged to the worker, where the kernel counts.
        peak_kib: Option<u64>,
    },
    /// A reading of what the worker uses.
    Sampled {
        /// Which worker.
        worker: WorkerId,
        /// The reading.
        sample: Sample,
    },
    /// A part of the evidence was saved, or could not be: then the error says why.
    EvidenceCaptured {
        /// Of which worker; it may be gone.
        worker: WorkerId,
        /// In which incident.
        incident: IncidentId,
        /// Which part.
        part: Part,
        /// What was saved.
        outcome: Result<Captured, String>,
    },
    /// A command of the operator's has ended; the error says how it failed.
    HookEnded {
        /// For which worker; it may be gone.
        worker: WorkerId,
        /// Which.
        hook: Hook,
        /// What came of it.
        outcome: Result<(), String>,
    },
    /// A reading of the host's memory.
    HostMemory {
        /// What could be had without swapping, `MemAvailable`.
        available_kib: Option<u64>,
        /// Processes waited for memory for a good part of the last seconds.
        stalled: bool,
    },
    /// What a worker that was handed over used before, oldest first, by its age. Told soon after the
    /// supervisor took over, where it is known.
    Remembered {
        /// Which worker.
        worker: WorkerId,
        /// The readings.
        samples: Vec<(Duration, Sample)>,
    },
    /// The kernel turned connections away at the application's listeners.
    ConnectionsDropped {
        /// Attempts to connect, since this was last told; never 0. A client's second try counts again.
        attempts: u64,
    },
    /// The audit log cannot be written; its records are kept until it can.
    StoreDegraded {
        /// Why.
        error: String,
    },
    /// The audit log is written again.
    StoreRestored {
        /// Records that had waited.
        buffered: u64,
        /// Records that found no room.
        lost: u64,
        /// Records that had been written to a file that is not there any more.
        gone: u64,
        /// The newest states of incidents among the records that found no room.
        states: Vec<Incident>,
    },
    /// The audit log is not as it was written; it is written on.
    StoreAltered {
        /// What is wrong with it.
        why: String,
    },
    /// Somebody was told, or was not.
    Alerted {
        /// Of what; it may have been decided in an earlier life of the supervisor.
        alert: AlertId,
        /// How often it was tried.
        attempts: u32,
        /// What the receiver said, or why it was not told.
        outcome: Result<String, AlertFailure>,
    },
    /// An operator asks for something; the answer carries the ticket back.
    Command {
        /// Names the question.
        ticket: Ticket,
        /// Who asked: `uid 0`, `signal SIGTERM`.
        by: String,
        /// What is asked.
        command: Command,
    },
}

/// What a worker that gets no new connections still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Connections that wait for it, those in the handshake included.
    pub queued: u64,
    /// Connections that it has accepted and that are open.
    pub connections: u64,
    /// Those of them on which an answer is awaited, as far as can be seen.
    pub awaiting: u64,
    /// Its leader had ended before the look: this is what others of its tree still have.
    pub orphaned: bool,
}

/// For whose sake the OOM killer took a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomKiller {
    /// The worker's own cgroup was at its limit.
    Limit,
    /// The host, or a cgroup around the supervisor, was out of memory.
    Host,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// Only its parent knows, and that was a supervisor that died.
    Unknown,
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) => write!(f, "signal {signal}"),
            ExitStatus::Unknown => f.write_str("how is not known, its parent had died"),
        }
    }
}

/// Names a question of an operator, so that its answer finds the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What an operator can ask of a running supervisor.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Replace one worker, or all in rolling fashion.
    Restart {
        /// All when absent.
        slot: Option<Slot>,
    },
    /// Retire the worker of a slot and leave the slot empty until a restart of it.
    Drain {
        /// Which slot.
        slot: Slot,
    },
    /// Change the number of slots.
    Scale {
        /// The new number.
        workers: u32,
    },
    /// Put the configuration that was read again in the place of the present one.
    Reload(Reload),
    /// Let another program take the place of this one. Its version, or why it will not do.
    Upgrade {
        /// What came of trying it.
        tried: Result<String, String>,
    },
    /// Drain all workers and end; a second one hurries.
    Stop,
    /// Somebody looks at an incident: nobody else need be told.
    Acknowledge {
        /// Its name, the beginning of it, or `last`.
        incident: String,
        /// Who, where that is another than who asked.
        by: Option<String>,
    },
    /// Stop all automatic action but restarts of crashed workers.
    Pause,
    /// Allow automatic action again.
    Resume,
}

/// Why a command was not carried out, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be, or not now.
    No(String),
    /// What was asked for is wrong in itself.
    Wrong(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refusal::No(why) | Refusal::Wrong(why)) = self;
        f.pad(why)
    }
}

/// The end of a command: what was done, or why not.
pub type Reply = Result<String, Refusal>;
