//! What can go wrong between the start of a launcher and the start of the command, in words.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The steps of a launch, in their order; a failure names its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A session and process group of its own.
    Session,
    /// Receiving the plan from the supervisor.
    Plan,
    /// The words of the command and the environment.
    Environment,
    /// Resource limits.
    Limits,
    /// Scheduling priority.
    Priority,
    /// The takeover filter.
    Filter,
    /// User and groups.
    User,
    /// Working directory, entered as that user.
    Directory,
    /// Listening sockets from descriptor 3 on.
    Listeners,
    /// `/dev/null` as standard input.
    Stdio,
    /// Signal dispositions and the signal mask.
    Signals,
    /// Finding and executing the command.
    Exec,
}

impl Stage {
    /// The stage's name in events and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Session => "session",
            Stage::Plan => "plan",
            Stage::Environment => "environment",
            Stage::Limits => "limits",
            Stage::Priority => "priority",
            Stage::Filter => "filter",
            Stage::User => "user",
            Stage::Directory => "directory",
            Stage::Listeners => "listeners",
            Stage::Stdio => "stdio",
            Stage::Signals => "signals",
            Stage::Exec => "exec",
        }
    }

    /// A failure at this stage: what was tried, on what.
    pub(super) fn fault(self, errno: Errno, what: impl Into<String>) -> Fault {
        Fault { stage: self, errno: errno as i32, what: shortened(what.into()), hint: None }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a launcher gave up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::linux) struct Fault {
    pub stage: Stage,
    pub errno: i32,
    /// What could not be done, on what.
    pub what: String,
    /// What to do about it, where that can be told.
    pub hint: Option<String>,
}

impl Fault {
    /// The same with advice.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(shortened(hint.into())), ..self }
    }
}

/// At most 2,000 characters (a `PATH` can be much longer), so that a fault always fits in a packet.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(2_000) {
        text.truncate(end);
        text.push('…');
    }
    text
}
