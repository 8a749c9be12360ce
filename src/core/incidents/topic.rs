//! What an incident can be about, and what was seen of it.

use super::super::record::words;
use super::super::{IncidentId, Severity, WorkerId};
use serde::{Deserialize, Serialize};
use std::fmt;

words! {
    /// What an incident is about.
    Topic {
        /// A worker's memory grows without end.
        Leak => "leak",
        /// A worker, or all together, went over a limit without a leak having been confirmed.
        MemoryLimit => "memory_limit",
        /// Workers ended unasked.
        Crash => "crash",
        /// A slot is held.
        CrashLoop => "crash_loop",
        /// A worker stopped answering.
        Hang => "hang",
        /// Workers could not be started.
        StartFailure => "start_failure",
        /// A roll stopped half way.
        RollFailure => "roll_failure",
    }
}

impl Topic {
    pub(super) fn severity(self) -> Severity {
        match self {
            Topic::Crash => Severity::Minor,
            Topic::Leak | Topic::MemoryLimit | Topic::Hang | Topic::StartFailure => Severity::Major,
            Topic::CrashLoop | Topic::RollFailure => Severity::Critical,
        }
    }

    /// How far the one matter has come that may lead to all of these.
    pub(super) fn stage(self) -> Option<u8> {
        match self {
            Topic::Crash => Some(1),
            Topic::StartFailure => Some(2),
            Topic::RollFailure => Some(3),
            Topic::CrashLoop => Some(4),
            Topic::Leak | Topic::MemoryLimit | Topic::Hang => None,
        }
    }
}

/// A fact that belongs to an incident.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// What it is about.
    pub topic: Topic,
    /// In which form, in a word or two: what ended the worker, the step of the start that failed, what
    /// leaks, which limit. Empty where there is only one.
    pub form: &'a str,
    /// Seen of this worker.
    pub worker: WorkerId,
    /// The incident that it follows from, if it is known.
    pub after: Option<&'a IncidentId>,
    /// What was seen, for people.
    pub words: &'a str,
}

impl Sighting<'_> {
    /// Topic and form: `crash: signal 11`.
    pub(super) fn cause(&self) -> String {
        match self.form {
            "" => self.topic.to_string(),
            form => format!("{}: {form}", self.topic),
        }
    }
}
