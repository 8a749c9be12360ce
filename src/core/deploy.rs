//! A deploy: one release takes the place of another, whole or not at all.

use super::{Moment, Ticket};
use std::time::Duration;

/// A deploy under way.
#[derive(Debug)]
pub struct Deploy {
    /// Who waits for its end.
    pub ticket: Ticket,
    /// The release that served before, by its label.
    pub from: Option<String>,
    /// The one that is to serve.
    pub to: Option<String>,
    /// When it began.
    pub begun: Moment,
    /// Whether workers of before could be started again.
    pub has_way_back: bool,
    /// They would be started by the same command in the same directory, so from what lies there now.
    pub in_place: bool,
    /// So long all workers must have done without a failure at its end.
    pub proof: Duration,
    /// How far it is.
    pub stage: Stage,
}

/// How far a deploy is.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Workers are being replaced.
    Rolling,
    /// All were replaced; it is done if nothing fails and all slots serve until then.
    Proving {
        /// When.
        until: Moment,
    },
    /// It failed, and those of before are being started again.
    Returning {
        /// What failed.
        why: String,
    },
    /// They were; it is rolled back when all slots serve.
    Returned {
        /// What failed.
        why: String,
    },
}

/// How a deploy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The new release serves.
    Done,
    /// The old one serves again.
    RolledBack,
    /// Neither in all slots.
    Failed,
    /// The supervisor was told to end, or died.
    Interrupted,
}

impl Ending {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::RolledBack => "rolled_back",
            Ending::Failed => "failed",
            Ending::Interrupted => "interrupted",
        }
    }
}

/// A release that is not in force: what of the settings belongs to it. The rest of it (the command, the
/// environment) is with who starts workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Aside {
    /// Its label.
    pub release: Option<String>,
    /// `ready.timeout`
    pub ready_timeout: Duration,
    /// `health.watchdog`
    pub watchdog: Option<Duration>,
    /// The last edition of its workers.
    pub last: u64,
    /// Whether a worker of it has been ready.
    pub has_served: bool,
}

/// A release by its label, for people.
pub fn name(release: Option<&str>) -> String {
    release.map_or_else(|| "the one without a label".to_owned(), str::to_owned)
}
