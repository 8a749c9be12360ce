//! What is learned of a worker before it goes, and how much of it was asked for.
//!
//! Three parts, each asked for at most once of a worker in an incident, and only in one:
//!
//! - the *look*: mappings, descriptors, threads, counters, last lines of output. It begins with the step
//!   that replaces the worker, so that it sees it at work, and beside the start of its replacement;
//! - the *command* of the configuration, which may stop the worker for as long as it likes (a heap
//!   snapshot does). So it comes when the worker has nothing left to lose: no new connections, no
//!   answer awaited, just before the stop signal;
//! - the *remains*: what can be had of a worker that crashed, or that is killed at its hard limit. A kill
//!   waits for nothing, so they are what was known before: its last output, readings and counters, and
//!   what grew until it was last looked at, which was when it was first suspected of a leak. A look that
//!   comes too late, since the kill overtook it, saves the same.
//!
//! Only the stop signal waits for the first two, and not for longer than they were given.

use super::{IncidentId, Moment, Sample, WorkerId};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What the kernel tells of a living worker.
    Look,
    /// What the command of the configuration finds out.
    Command,
    /// What is left of one that ended, or is about to be killed.
    Remains,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Look, Part::Command, Part::Remains];

    /// The word in records, and the name of the folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Look => "look",
            Part::Command => "command",
            Part::Remains => "remains",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Asks for a part of the evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Inquiry {
    /// Of which worker.
    pub worker: WorkerId,
    /// In which incident.
    pub incident: IncidentId,
    /// Which part.
    pub part: Part,
    /// How long it may take.
    pub within: Duration,
    /// What is known already.
    pub scene: Scene,
}

/// What the supervisor knew of the worker when it asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Scene {
    /// Since its start was asked for.
    pub age_s: f64,
    /// The release that it was started with.
    pub release: Option<String>,
    /// Its newest reading: memory, descriptors, threads, connections.
    pub sample: Sample,
    /// The last readings by its age in seconds, the newest last.
    pub samples: Vec<(f64, Sample)>,
    /// CPU use between the last two readings; 100 is one processor.
    pub cpu_percent: Option<f64>,
    /// The most memory that it was seen to use.
    pub peak_kib: Option<u64>,
    /// Connections of all workers together.
    pub connections_total: Option<u64>,
    /// Workers that serve, itself included.
    pub serving: u64,
}

/// A part of the evidence that was saved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captured {
    /// Files.
    pub files: u64,
    /// What they take, compressed.
    pub bytes: u64,
    /// From the question until all was on disk.
    pub took: Duration,
    /// What grew since the baseline, what grew most first; memory and descriptors.
    pub grew: Vec<Growth>,
    /// How long ago the baseline was taken; `None` where there is none.
    pub baseline_age: Option<Duration>,
    /// How old the look is that was compared with it; `None` for one that was taken for this.
    pub look_age: Option<Duration>,
    /// A look was asked for and the worker had ended, so that only its remains are saved.
    pub too_late: bool,
    /// What is missing, and why.
    pub problem: Option<String>,
    /// Older evidence that had to go for it: how many parts, how many bytes.
    pub removed: (u64, u64),
}

/// Something that grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Growth {
    /// What: `anonymous memory`, `/usr/lib/libssl.so.3`, `tcp established to port 5432`.
    pub what: String,
    /// In which unit.
    pub grown: Grown,
    /// By how much: KiB, or a number.
    pub by: u64,
}

impl Growth {
    /// For people.
    pub fn words(&self) -> String {
        match self.grown {
            Grown::Memory => format!("{} by {:.1} MiB", self.what, self.by as f64 / 1024.0),
            Grown::Descriptors => format!("descriptors ({}) by {}", self.what, self.by),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grown {
    /// KiB of memory.
    Memory,
    /// Open descriptors.
    Descriptors,
}

/// How far the evidence of one worker is.
#[derive(Debug, Default)]
pub struct Evidence {
    asked: Vec<(Part, IncidentId)>,
    /// What the stop signal waits for, and until when.
    pending: Vec<(Part, IncidentId, Moment)>,
    /// When it is next looked at to know later what grew.
    pub baseline_at: Option<Moment>,
}

impl Evidence {
    /// The incident in which something was asked for last.
    pub fn incident(&self) -> Option<&IncidentId> {
        self.asked.last().map(|(_, incident)| incident)
    }

    /// Whether the part was asked for in this incident.
    pub fn was_asked(&self, part: Part, incident: &IncidentId) -> bool {
        self.asked.iter().any(|asked| asked.0 == part && asked.1 == *incident)
    }

    /// Notes a question; the stop signal waits for its answer until then, if at all.
    pub fn ask(&mut self, part: Part, incident: IncidentId, until: Option<Moment>) {
        self.pending.extend(until.map(|until| (part, incident.clone(), until)));
        self.asked.push((part, incident));
    }

    /// The part has come.
    pub fn came(&mut self, part: Part, incident: &IncidentId) {
        self.pending.retain(|pending| pending.0 != part || pending.1 != *incident);
    }

    /// Until when the stop signal waits.
    pub fn awaited_until(&self) -> Option<Moment> {
        self.pending.iter().map(|pending| pending.2).max()
    }

    /// Takes out what did not come by now.
    pub fn take_overdue(&mut self, now: Moment) -> Vec<(Part, IncidentId)> {
        let overdue = self.pending.extract_if(.., |pending| pending.2 <= now);
        overdue.map(|(part, incident, _)| (part, incident)).collect()
    }

    /// Nothing is waited for any more.
    pub fn give_up(&mut self) {
        self.pending.clear();
    }
}
