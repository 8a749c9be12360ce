//! What a supervisor hands to the program that takes its place in the same process (`stanch upgrade`):
//! all that neither the audit log nor the configuration nor the kernel tells. The clock goes on, so its
//! moments stay what they are.
//!
//! It is handed over at rest ([`Supervisor::underway`](super::Supervisor::underway)): each live worker
//! is ready, nobody waits for an answer. So what would have to be carried in the middle of something
//! never is. What the leak detector has learned is learned again, from the readings in the store.

use super::slot::SlotEntry;
use super::worker::{Cause, Due};
use super::{IncidentId, Moment, Ticket, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// The state of a supervisor at rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handover {
    pub(super) paused: bool,
    /// The number of slots, which an operator may have changed.
    pub(super) workers: u32,
    pub(super) slots: Vec<SlotEntry>,
    pub(super) residents: Vec<Resident>,
    pub(super) next_roll: Moment,
    pub(super) next_hang: Moment,
    pub(super) futile_hangs: u32,
    pub(super) aborted_rolls: u32,
    /// The incident of a roll that is to be tried again.
    #[serde(default)]
    pub(super) to_retry: Option<IncidentId>,
    /// Time below capacity until then is counted.
    #[serde(default)]
    pub(super) counted: Moment,
    /// What was refused while every slot served, oldest first.
    #[serde(default)]
    pub(super) refused: VecDeque<(Moment, u64)>,
    /// When the next one is told of an incident, by the number of the rule.
    #[serde(default)]
    pub(super) escalations: Vec<(IncidentId, usize, Moment)>,
    pub(super) finishes: bool,
}

/// A worker that is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Resident {
    pub id: WorkerId,
    pub release: Option<String>,
    pub pid: Option<i32>,
    pub started: Moment,
    pub lived_before: Duration,
    pub ready_since: Moment,
    pub deaf: bool,
    pub unheard: bool,
    pub watchdog: Option<Duration>,
    pub pinged: Option<Moment>,
    pub leaving_since: Option<Moment>,
    pub status_text: Option<String>,
    pub peak_kib: Option<u64>,
    pub settled_kib: Option<u64>,
    pub withheld: Option<Cause>,
    /// It hangs, as far as is known.
    #[serde(default)]
    pub hung: Option<Due>,
    #[serde(default)]
    pub failed_probes: u32,
    #[serde(default)]
    pub failing_since: Option<Moment>,
    /// The last one was answered.
    #[serde(default)]
    pub answers: bool,
    #[serde(default)]
    pub silent: bool,
    /// When its memory was confirmed to leak, while it does.
    #[serde(default)]
    pub leaks_since: Option<Moment>,
}

/// How one supervisor came to follow another.
#[derive(Clone, Debug)]
pub struct Succession {
    /// What it was handed.
    pub handover: Handover,
    /// The version of the one before.
    pub from: String,
    /// Its own version.
    pub to: String,
    /// How long nobody decided anything.
    pub pause: Duration,
    /// Who asked for it, if somebody waits for the answer.
    pub ticket: Option<Ticket>,
    /// The new program could not be executed, for this reason: the old one follows itself.
    pub failure: Option<String>,
}
