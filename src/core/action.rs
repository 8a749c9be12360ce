//! What the core wants done.

use super::evidence::Inquiry;
use super::hooks::Call;
use super::{Alert, Intent, Record, Reply, Ticket, Weight, WorkerId};

/// One step for the executor. Steps are carried out in the order given; a step that holds an
/// [`Intent`] waits until that record is on disk (a kill does not wait, see design section 7).
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write this to the audit log, and with it the new state of its incident.
    Record(Record),
    /// Tell somebody. Answered by `Alerted` when it was done, when it failed for the first time, and when
    /// it is given up; perhaps in a later life of the supervisor.
    Alert(Box<Alert>),
    /// Start the worker's command, outside the traffic. Answered by `Spawned` or `SpawnFailed`, then
    /// by `Ready` and `Probed` as long as it lives, and by `Exited` and `Gone`.
    Start {
        /// Which worker.
        worker: WorkerId,
    },
    /// Watch over a worker that a dead supervisor started. As for `Start`; `Spawned` does not come, and
    /// `Ready` only if it was not verified.
    Adopt {
        /// Which worker.
        worker: WorkerId,
        /// Whether it was verified ready.
        verified: bool,
        /// It was started from another release than the one in force, so it may not know what that is asked for.
        stale: bool,
    },
    /// Let new connections reach the worker.
    Admit {
        /// Which worker.
        worker: WorkerId,
        /// How many, beside the others.
        weight: Weight,
    },
    /// Let no new connection reach the worker. With `drain`, `Draining` follows until it is gone.
    Divert {
        /// Which worker.
        worker: WorkerId,
        /// Whether to report `Draining`.
        drain: bool,
    },
    /// Give the queues of a worker that accepts nothing any more (it hangs, it has ended or is about to be
    /// killed) to the next one.
    Abandon {
        /// Which worker.
        worker: WorkerId,
    },
    /// It answers again, and nobody came in its place: give it its queues back.
    Reclaim {
        /// Which worker.
        worker: WorkerId,
    },
    /// Send the stop signal to the tree.
    Stop {
        /// Which worker.
        worker: WorkerId,
        /// The record that explains it.
        intent: Intent,
    },
    /// Close the connections of a draining worker on which no answer is awaited, and each other one
    /// once it has had its own.
    HangUp {
        /// Which worker.
        worker: WorkerId,
        /// The record that explains it.
        intent: Intent,
    },
    /// Kill the whole tree, now.
    Kill {
        /// Which worker.
        worker: WorkerId,
        /// The record that explains it.
        intent: Intent,
    },
    /// Save what can be learned of the worker. Answered by `EvidenceCaptured`, once.
    CaptureEvidence(Box<Inquiry>),
    /// Run a command of the operator's. Answered by `HookEnded`, once.
    RunHook(Call),
    /// Look at the worker in good order, so that a later look can tell what grew.
    TakeBaseline {
        /// Which worker.
        worker: WorkerId,
    },
    /// Look at a suspect, so that something is known of it if it has to be killed at once.
    TakeLook {
        /// Which worker.
        worker: WorkerId,
    },
    /// No worker comes any more: close the supervisor's own copies of the listening sockets, that of
    /// each worker when it is told to end. Whoever connects when the last has closed its own shall be
    /// refused, not left waiting.
    CloseListeners,
    /// Put the configuration that the last [`Command::Reload`](super::Command::Reload) came with into
    /// force. Answered by `LimitHeld`, where the hard limit is another.
    Reconfigure {
        /// Whether the one before is what [`Action::RollBack`] goes back to from now on.
        remember: bool,
    },
    /// Have workers started from now on as those of the release before the present one were.
    RollBack,
    /// And again as those of the one that was gone back from.
    RollForward,
    /// All is at rest: another program may take this one's place. Until it does the core goes on, and
    /// is asked again before the step.
    HandOver {
        /// Whom it answers.
        ticket: Ticket,
    },
    /// Answer an operator.
    Reply {
        /// Which question.
        ticket: Ticket,
        /// What came of it.
        reply: Reply,
    },
    /// Everything is stopped: end.
    Finish,
}
