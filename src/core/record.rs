//! The audit log's words: records of what happened, and the incidents they belong to.

use super::{Generation, Slot, WorkerId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// Figures of a record: keys with units, values as JSON numbers, strings or booleans.
pub type Figures = serde_json::Map<String, serde_json::Value>;

/// Names the record that explains an intervention; numbered by the core from 1 in each life of the
/// supervisor. The executor waits for it to be on disk. Only the core makes one, when it records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intent(pub(in crate::core) u64);

impl Intent {
    /// The [`Record::number`] that it names.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// A line of the audit log, before the store gives it its `seq` and `hash`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number in this life of the supervisor, see [`Intent`].
    #[serde(skip)]
    pub number: u64,
    /// When it was decided, UTC; to the millisecond in JSON.
    #[serde(serialize_with = "milliseconds")]
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// The incident that it belongs to.
    pub incident: Option<IncidentId>,
    /// On which slot.
    pub slot: Option<Slot>,
    /// Its leader's pid.
    pub pid: Option<i32>,
    /// In which life of the slot.
    pub generation: Option<Generation>,
    /// The release that the worker was started with, or that the incident is of; else the one in force.
    pub release: Option<String>,
    /// One word for machines, where the kind has several causes.
    pub cause: Option<String>,
    /// A sentence for people.
    pub reason: String,
    /// What it rests on.
    pub figures: Figures,
    /// Its incident as it is from here on. The store keeps that beside the log, and its hash in the
    /// event, so that both change together or not at all.
    #[serde(skip)]
    pub state: Option<Box<Incident>>,
}

impl Record {
    /// The worker that it is about.
    pub fn worker(&self) -> Option<WorkerId> {
        Some(WorkerId { slot: self.slot?, generation: self.generation? })
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The word in JSON and in tables.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(super) use words;

words! {
    /// What a record tells.
    Kind {
        /// The supervisor began.
        SupervisorStarted => "supervisor_started",
        /// The supervisor found the workers of one that died.
        SupervisorRecovered => "supervisor_recovered",
        /// Another program took the place of the supervisor's, and kept its workers.
        SupervisorUpgraded => "supervisor_upgraded",
        /// The supervisor ended, all workers stopped.
        SupervisorStopped => "supervisor_stopped",
        /// A new configuration is in force.
        ConfigReloaded => "config_reloaded",
        /// A new configuration was refused; the old one stays.
        ConfigRefused => "config_refused",
        /// An operator asked for something.
        OperatorCommand => "operator_command",
        /// A worker's command runs.
        WorkerStarted => "worker_started",
        /// A worker of a supervisor that died is watched over again.
        WorkerAdopted => "worker_adopted",
        /// What a worker was started from is known now.
        WorkerHashed => "worker_hashed",
        /// A worker was verified ready.
        WorkerReady => "worker_ready",
        /// A worker could not be started, or was not ready in time.
        WorkerStartFailed => "worker_start_failed",
        /// A worker ended unasked.
        WorkerCrashed => "worker_crashed",
        /// A worker stopped answering.
        WorkerHung => "worker_hung",
        /// A slot is in a crash loop and is held.
        WorkerHeld => "worker_held",
        /// A worker ended as asked.
        WorkerRetired => "worker_retired",
        /// A worker is over the soft limit.
        MemorySoftLimit => "memory_soft_limit",
        /// A worker is over the hard limit.
        MemoryHardLimit => "memory_hard_limit",
        /// The kernel killed in a worker's cgroup.
        MemoryOomKilled => "memory_oom_killed",
        /// All workers together are over the total limit.
        MemoryTotalLimit => "memory_total_limit",
        /// The host is short of memory.
        HostMemoryPressure => "host_memory_pressure",
        /// The trend may be a leak.
        LeakSuspected => "leak_suspected",
        /// The trend is a leak.
        LeakConfirmed => "leak_confirmed",
        /// The trend is none, after all.
        LeakCleared => "leak_cleared",
        /// Replacement cannot keep up with the leak.
        LeakUnsustainable => "leak_unsustainable",
        /// Workers are being replaced one by one.
        RollStarted => "roll_started",
        /// All were replaced.
        RollFinished => "roll_finished",
        /// The roll stopped; the workers not yet replaced still serve.
        RollAborted => "roll_aborted",
        /// A worker gets no new connections and is asked to end.
        DrainStarted => "drain_started",
        /// Connections were cut at the drain deadline.
        DrainCutConnections => "drain_cut_connections",
        /// Automatic action is paused, and a worker would have been replaced.
        ActionWithheld => "action_withheld",
        /// Evidence was saved.
        EvidenceCaptured => "evidence_captured",
        /// A command of the operator's, run for a worker, failed.
        HookFailed => "hook_failed",
        /// An alert went out.
        AlertSent => "alert_sent",
        /// An alert could not be sent.
        AlertFailed => "alert_failed",
        /// A deploy began.
        DeployStarted => "deploy_started",
        /// A deploy ended.
        DeployFinished => "deploy_finished",
        /// The last good release is back.
        ReleaseRolledBack => "release_rolled_back",
        /// An incident began.
        IncidentOpened => "incident_opened",
        /// Somebody looks at it.
        IncidentAcknowledged => "incident_acknowledged",
        /// An incident became worse, was handled, or came back; its `cause` says which.
        IncidentChanged => "incident_changed",
        /// An incident ended.
        IncidentResolved => "incident_resolved",
        /// The store cannot be written.
        StoreDegraded => "store_degraded",
        /// The store can be written again.
        StoreRestored => "store_restored",
        /// The store is not as it was written: somebody else changed it, or a part of it is gone.
        StoreAltered => "store_altered",
        /// An action whose record was lost in a crash.
        UnrecordedAction => "unrecorded_action",
        /// Old events were removed, all up to one.
        EventsRetired => "events_retired",
    }
}

words! {
    /// How bad an incident is.
    Severity {
        /// Handled; nobody needs to get up.
        Minor => "minor",
        /// Handled, and it will come again: a leak, a hang, a limit.
        Major => "major",
        /// Capacity is lost, or will be: a held slot, a roll that failed.
        Critical => "critical",
    }
}

words! {
    /// Where an incident stands.
    IncidentState {
        /// Something is wrong and not yet handled.
        Open => "open",
        /// It keeps no slot from serving any more; the cause is still there or was seen lately.
        Mitigated => "mitigated",
        /// Over.
        Resolved => "resolved",
    }
}

/// Names an incident: the UTC second it was opened in (`20261121T153012Z`), with `-2`, `-3` … when
/// that second has several. It needs no store, so a supervisor whose disk is full still names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(pub String);

impl IncidentId {
    /// The second, and the number in it: what orders two of them.
    pub fn place(&self) -> (&str, u32) {
        let (second, number) = self.0.split_once('-').unwrap_or((&self.0, "1"));
        (second, number.parse().unwrap_or(1))
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A group of records with a beginning, a cause and an end; the keys are those of
/// `incidents list --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// What it is about: `leak`, `memory_limit`, `crash`, `crash_loop`, `hang`, `start_failure`,
    /// `roll_failure`.
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// Where it stands.
    pub state: IncidentState,
    /// When it was opened, UTC; to the millisecond in JSON.
    #[serde(serialize_with = "milliseconds")]
    pub opened_at: Timestamp,
    /// When it was found to be over, UTC; to the millisecond in JSON. That is a quiet time after
    /// [`handled_at`](Self::handled_at).
    #[serde(serialize_with = "maybe_milliseconds")]
    pub resolved_at: Option<Timestamp>,
    /// The release that ran then.
    pub release: Option<String>,
    /// The slots that it touched.
    pub slots: Vec<Slot>,
    /// How many workers were acted upon in it.
    pub interventions: u64,
    /// What it cost the users, in figures with units.
    pub impact: Figures,
    /// One sentence on where it stands now: what was seen last, what was done about it, and what ended it.
    /// What was seen first is in its `incident_opened`.
    pub summary: String,
    /// Whether somebody looks at it.
    #[serde(default)]
    pub acknowledged: Option<Acknowledged>,
    /// What was seen last.
    #[serde(default)]
    pub seen: String,
    /// What was done last.
    #[serde(default)]
    pub last_intervention: Option<Intervention>,
    /// Since when it has kept no slot from serving, and nothing of it has shown; while it is open, `null`.
    /// UTC; to the millisecond in JSON.
    #[serde(default, serialize_with = "maybe_milliseconds")]
    pub handled_at: Option<Timestamp>,
    /// What was seen of it, each once: `crash: signal 11`, `start_failure: exec`, `leak: memory`.
    #[serde(default)]
    pub causes: Vec<String>,
    /// How long its matter takes to come again, as far as was seen: it is over after twice that, and ten
    /// minutes at least.
    #[serde(default)]
    pub period_s: Option<u64>,
}

impl Incident {
    /// What has come since somebody acknowledged it: causes and slots that were not there by then.
    pub fn news(&self) -> Vec<String> {
        // An earlier version did not tell what it was about.
        let Some(known) = self.acknowledged.as_ref().filter(|by| !by.causes.is_empty()) else {
            return Vec::new();
        };
        let causes = self.causes.iter().filter(|cause| !known.causes.contains(cause)).cloned();
        let slots = self.slots.iter().filter(|slot| !known.slots.contains(slot));
        causes.chain(slots.map(|slot| format!("slot {slot}"))).collect()
    }

    /// Whether somebody has acknowledged all of it.
    pub fn is_looked_at(&self) -> bool {
        self.acknowledged.is_some() && self.news().is_empty()
    }

    /// Something was seen of it.
    pub(super) fn saw(&mut self, words: &str) {
        words.clone_into(&mut self.seen);
        self.sum_up();
    }

    /// A worker in this slot was acted upon.
    pub(super) fn acted(&mut self, at: Timestamp, slot: Slot) {
        self.interventions += 1;
        // One that is gone back from goes in every slot.
        if !self.slots.contains(&slot) {
            self.slots.push(slot);
            self.slots.sort();
        }
        self.last_intervention = Some(Intervention { at, slot });
        self.sum_up();
    }

    /// It stands there from now on.
    pub(super) fn turned(&mut self, state: IncidentState, at: Timestamp) {
        self.state = state;
        self.resolved_at = (state == IncidentState::Resolved).then_some(at);
        self.handled_at = match state {
            IncidentState::Open => None,
            IncidentState::Mitigated | IncidentState::Resolved => self.handled_at.or(Some(at)),
        };
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let seen = match self.state {
            IncidentState::Open => self.seen.clone(),
            IncidentState::Mitigated | IncidentState::Resolved => in_the_past(&self.seen),
        };
        let ended = match (self.handled_at, self.resolved_at) {
            (None, _) => String::new(),
            (Some(at), None) => format!("; handled since {at:.0}: it keeps no slot from serving"),
            (Some(at), Some(over)) => {
                format!(
                    "; over since {at:.0}: it kept no slot from serving, and nothing of it was seen until {over:.0}"
                )
            }
        };
        let done = match (&self.last_intervention, self.interventions) {
            (None, _) => String::new(),
            (Some(last), 1) => format!("; 1 intervention, in slot {} at {:.0}", last.slot, last.at),
            (Some(last), many) => {
                format!("; {many} interventions, the last in slot {} at {:.0}", last.slot, last.at)
            }
        };
        self.summary = format!("{seen}{done}{ended}");
    }
}

/// The verbs with which a sighting begins, now and afterwards.
const TENSES: [(&str, &str); 7] = [
    (" leaks ", " leaked "),
    (" is held ", " was held "),
    (" fails ", " failed "),
    (" does not ", " did not "),
    (" and does not", " and did not"),
    (" uses ", " used "),
    (" is ", " was "),
];

/// What was seen, told when it is not so any more; the evidence stays as it was given.
pub(super) fn in_the_past(seen: &str) -> String {
    // Not within brackets: "(95%: 3.1 MiB)".
    let outside = |at: usize| {
        let before = &seen[..at];
        before.matches('(').count() == before.matches(')').count()
    };
    let (head, evidence) = match seen.match_indices(": ").find(|(at, _)| outside(*at)) {
        Some((at, colon)) => (&seen[..at], format!(" (seen last: {})", &seen[at + colon.len()..])),
        None => (seen, String::new()),
    };
    let tense = TENSES.iter().find(|(now, _)| head.contains(now));
    let head = tense.map_or(head.to_owned(), |(now, then)| head.replacen(now, then, 1));
    format!("{head}{evidence}")
}

/// A worker was acted upon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervention {
    /// When, UTC; to the millisecond in JSON.
    #[serde(serialize_with = "milliseconds")]
    pub at: Timestamp,
    /// In which slot.
    pub slot: Slot,
}

/// Who looks at an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Since when, UTC; to the millisecond in JSON.
    #[serde(serialize_with = "milliseconds")]
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// The slots that it had touched by then.
    #[serde(default)]
    pub slots: Vec<Slot>,
    /// What had been seen of it by then.
    #[serde(default)]
    pub causes: Vec<String>,
    /// How often it was acknowledged so far, this time included.
    #[serde(default)]
    pub times: u32,
}

/// Always three digits (`2026-11-21T15:30:12.120Z`), so that the text sorts as the time does.
pub(super) fn milliseconds<S: Serializer>(
    at: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

fn maybe_milliseconds<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => milliseconds(at, serializer),
        None => serializer.serialize_none(),
    }
}
