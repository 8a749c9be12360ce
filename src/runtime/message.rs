//! What tasks tell the engine.

use super::reload::Reread;
use super::upgrade::Tried;
use crate::core::{Event, Sample, WorkerId};

/// From a task to the engine, through one bounded queue.
#[derive(Debug)]
pub(super) enum Message {
    /// For the core.
    Event(Event),
    /// What was read of several workers at about one moment.
    Sampled(Vec<(WorkerId, Sample)>),
    /// A launch came to its end: the command runs, or which step failed and how. Until then an exit
    /// of the process is held back, so that the reason comes first.
    Launched { worker: WorkerId, outcome: Result<(), LaunchFailure> },
    /// The leader of an adopted worker has ended.
    Ended { worker: WorkerId },
    /// The OOM killer may have come to the worker.
    Oom { worker: WorkerId },
    /// A program was tried that is to take the place of this one.
    Tried(Box<Tried>),
    /// The configuration was read again, or could not be.
    Reread(Box<Reread>),
}

/// Why a worker's command does not run.
#[derive(Debug)]
pub(super) struct LaunchFailure {
    pub stage: String,
    pub error: String,
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Message::Event(event)
    }
}
