//! What a supervisor that died leaves: its audit log, its workers, its open incidents.
//!
//! # How the log is read
//! From its end backwards ([`Past::note`]), as far as workers may be in it that live still: to the
//! orderly end of a supervisor, or to the beginning of one that finished its own recovery, since that
//! wrote down every worker anew (`worker_adopted`, then `supervisor_recovered`). Both ends tell the newest
//! generation of each slot. The newest event on a
//! worker says where it stood. What the dead supervisor did last may not be in the log: a record waits
//! in memory for the disk, a few milliseconds as a rule.

use super::{Generation, Incident, IncidentId, Kind, Occasion, Record, Slot, Succession, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

/// Where a worker stood, as far as the log says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its command ran.
    Started,
    /// It had been verified ready.
    Ready,
    /// It had been told to end, or was about to be.
    Leaving,
    /// Its leader had ended, or its start was given up.
    Ended,
}

/// A worker in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Its leader.
    pub pid: Option<i32>,
    /// When the leader was started, in clock ticks after boot.
    pub start_ticks: Option<u64>,
    /// The release that it was started with.
    pub release: Option<String>,
    /// Where it stood.
    pub standing: Standing,
    /// It hung.
    pub hung: Option<Hung>,
}

/// What the log says of a worker that hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hung {
    /// In which incident.
    pub incident: IncidentId,
    /// By what it did not say of itself, not by its probes.
    pub silent: bool,
}

/// What the log says of the supervisors since the last orderly end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Past {
    /// The last supervisor did not end in good order.
    pub died: bool,
    /// The boot of the host in which it ran.
    pub boot_id: Option<String>,
    /// Its workers, and those that it had adopted.
    pub workers: BTreeMap<WorkerId, Trace>,
    /// The newest generation of each slot.
    pub generations: BTreeMap<Slot, Generation>,
    /// Whether a roll was under way.
    pub rolling: bool,
    roll_seen: bool,
    /// Whether a deploy was under way.
    pub deploying: bool,
    deploy_seen: bool,
    recovered_later: bool,
    started_seen: bool,
    /// Workers in the records since the last beginning that was met, and so before it.
    of_life: BTreeSet<WorkerId>,
}

impl Past {
    /// Takes in a record of the log; the newest comes first. Breaks when older ones say nothing more.
    pub fn note(&mut self, record: &Record) -> ControlFlow<()> {
        if let Some(id) = record.worker() {
            self.note_generation(id);
            self.note_worker(id, record);
        }
        match record.kind {
            Kind::RollStarted if !std::mem::replace(&mut self.roll_seen, true) => {
                self.rolling = true;
            }
            Kind::RollFinished | Kind::RollAborted => self.roll_seen = true,
            Kind::DeployStarted if !std::mem::replace(&mut self.deploy_seen, true) => {
                self.deploying = true;
            }
            Kind::DeployFinished => self.deploy_seen = true,
            Kind::SupervisorStopped => {
                self.note_generations(record);
                return ControlFlow::Break(());
            }
            Kind::SupervisorRecovered => {
                self.recovered_later = true;
                self.note_generations(record);
            }
            Kind::SupervisorStarted => return self.note_start(record),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn note_generations(&mut self, record: &Record) {
        let newest = record.figures.get("generations").and_then(|text| text.as_str());
        let newest = newest.unwrap_or_default().split(' ');
        newest.filter_map(|id| id.parse().ok()).for_each(|id| self.note_generation(id));
    }

    fn note_generation(&mut self, id: WorkerId) {
        let newest = self.generations.entry(id.slot).or_insert(id.generation);
        *newest = (*newest).max(id.generation);
    }

    fn note_start(&mut self, record: &Record) -> ControlFlow<()> {
        self.died = true;
        let boot_id = record.figures.get("boot_id").and_then(|id| id.as_str()).map(str::to_owned);
        let same_boot = !self.started_seen || boot_id == self.boot_id;
        if !std::mem::replace(&mut self.started_seen, true) {
            self.boot_id = boot_id;
        }
        let of_life = std::mem::take(&mut self.of_life);
        if !same_boot {
            self.workers.retain(|id, _| !of_life.contains(id));
        }
        let recovered = std::mem::take(&mut self.recovered_later);
        if recovered || !same_boot { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn note_worker(&mut self, id: WorkerId, record: &Record) {
        let standing = match record.kind {
            Kind::WorkerStarted => Standing::Started,
            Kind::WorkerAdopted if record.figures.get("verified") == Some(&true.into()) => {
                Standing::Ready
            }
            Kind::WorkerAdopted => Standing::Started,
            Kind::WorkerReady | Kind::WorkerHung => Standing::Ready,
            Kind::DrainStarted | Kind::MemoryHardLimit | Kind::MemoryOomKilled => Standing::Leaving,
            Kind::WorkerCrashed | Kind::WorkerRetired | Kind::WorkerStartFailed => Standing::Ended,
            _ => return,
        };
        let start_ticks = record.figures.get("start_ticks").and_then(|ticks| ticks.as_u64());
        let trace = self.workers.entry(id).or_insert_with(|| {
            self.of_life.insert(id);
            let release = record.release.clone();
            // Who is adopted in an incident hung before.
            let hung = matches!(record.kind, Kind::WorkerHung | Kind::WorkerAdopted);
            let silent = !record.figures.contains_key("failed_probes");
            let hung = record.incident.clone().filter(|_| hung);
            let hung = hung.map(|incident| Hung { incident, silent });
            Trace { pid: record.pid, start_ticks: None, release, standing, hung }
        });
        // The newest event said where it stood; who it is stands at its start.
        trace.start_ticks = trace.start_ticks.or(start_ticks);
        trace.pid = trace.pid.or(record.pid);
    }

    /// The workers whose end is not in the log.
    pub fn live(&self) -> impl Iterator<Item = (WorkerId, &Trace)> {
        let live = self.workers.iter().filter(|(_, trace)| trace.standing != Standing::Ended);
        live.map(|(id, trace)| (*id, trace))
    }
}

/// Whether the supervisor has again what a worker listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It has, or in this mode it needs nothing.
    Kept,
    /// The worker listens on nothing that is supervised, and never will.
    Nothing,
    /// The kernel does not give it back.
    Refused,
}

/// A worker of which processes live.
#[derive(Clone, Debug, PartialEq)]
pub struct Survivor {
    /// Which.
    pub worker: WorkerId,
    /// Its leader; without one only what it had started is left.
    pub pid: Option<i32>,
    /// When the leader was started, in clock ticks after boot.
    pub start_ticks: Option<u64>,
    /// The release that it was started with, where the log does not say it.
    pub release: Option<String>,
    /// How long it has lived.
    pub age: Duration,
    /// Its sockets.
    pub hold: Hold,
    /// Whether its `bind` asks the supervisor that died.
    pub deaf: bool,
}

/// All that is left.
#[derive(Clone, Debug, Default)]
pub struct Legacy {
    /// This run of the kernel.
    pub boot_id: Option<String>,
    /// What the log says; `None` if it cannot be read.
    pub past: Option<Past>,
    /// Workers that live, each once.
    pub survivors: Vec<Survivor>,
    /// Incidents that are not resolved.
    pub incidents: Vec<Incident>,
    /// Who was told of them or is about to be, on what occasion, and whether they cannot be told.
    pub told: Vec<(IncidentId, (String, Occasion, bool))>,
    /// The last name of an incident that is known.
    pub last_incident: Option<IncidentId>,
    /// Set when nobody died: another program has taken the place of the supervisor's.
    pub succession: Option<Succession>,
    /// What in the store is not as it was written, in words, and of which incident. Such an incident is not
    /// gone on with: its next event would vouch for what somebody else wrote.
    pub altered: Vec<(Option<IncidentId>, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    fn record(kind: Kind, worker: Option<(u32, u64)>, figures: serde_json::Value) -> Record {
        Record {
            number: 0,
            at: Timestamp::UNIX_EPOCH,
            kind,
            incident: None,
            slot: worker.map(|(slot, _)| Slot(slot)),
            pid: worker.map(|(_, generation)| 100 + generation as i32),
            generation: worker.map(|(_, generation)| Generation(generation)),
            release: None,
            cause: None,
            reason: String::new(),
            figures: figures.as_object().cloned().unwrap_or_default(),
            state: None,
        }
    }

    /// What a log says that has these records, oldest first.
    fn past(records: &[Record]) -> Past {
        let mut past = Past::default();
        let _ = records.iter().rev().try_for_each(|record| past.note(record));
        past
    }

    fn began(boot: &str) -> Record {
        record(Kind::SupervisorStarted, None, json!({ "boot_id": boot }))
    }

    fn of(kind: Kind, slot: u32, generation: u64) -> Record {
        record(kind, Some((slot, generation)), json!({}))
    }

    fn started(slot: u32, generation: u64) -> Record {
        record(Kind::WorkerStarted, Some((slot, generation)), json!({ "start_ticks": generation }))
    }

    fn standings(past: &Past) -> Vec<(String, Standing)> {
        past.workers.iter().map(|(id, trace)| (id.to_string(), trace.standing)).collect()
    }

    #[test]
    fn the_newest_event_says_where_a_worker_stood_and_the_start_who_it_is() {
        let past = past(&[
            began("a"),
            started(0, 1),
            of(Kind::WorkerReady, 0, 1),
            of(Kind::RollStarted, 0, 1),
            started(0, 2),
            of(Kind::WorkerReady, 0, 2),
            of(Kind::DrainStarted, 0, 1),
            started(1, 7),
            of(Kind::WorkerCrashed, 1, 7),
        ]);
        assert!(past.died && past.rolling);
        let expected =
            [("0.1", Standing::Leaving), ("0.2", Standing::Ready), ("1.7", Standing::Ended)];
        assert_eq!(standings(&past), expected.map(|(id, standing)| (id.to_owned(), standing)));
        let trace = &past.workers[&WorkerId::new(0, 1)];
        assert_eq!((trace.pid, trace.start_ticks), (Some(101), Some(1)));
        assert_eq!(past.generations[&Slot(1)], Generation(7));
        assert_eq!(past.live().count(), 2);
    }

    #[test]
    fn an_orderly_end_leaves_nothing() {
        let log = [began("a"), started(0, 1), record(Kind::SupervisorStopped, None, json!({}))];
        assert_eq!(past(&log), Past::default());
        assert_eq!(past(&[]), Past::default());
    }

    #[test]
    fn a_finished_recovery_is_as_far_as_one_looks_and_an_unfinished_one_is_not() {
        let adopted = record(Kind::WorkerAdopted, Some((0, 1)), json!({ "verified": true }));
        let mut log = vec![began("a"), started(0, 1), started(1, 1), began("a"), adopted];
        assert_eq!(past(&log).workers.len(), 2, "the recovery was cut short");
        let figures = json!({ "generations": "0.1 1.1 2.9" });
        log.push(record(Kind::SupervisorRecovered, None, figures));
        let past = past(&log);
        assert_eq!(standings(&past), [("0.1".to_owned(), Standing::Ready)]);
        assert_eq!(past.generations[&Slot(2)], Generation(9), "its worker is long gone");
    }

    #[test]
    fn another_boot_is_another_world() {
        let log = [began("a"), started(0, 1), began("b"), started(1, 1)];
        let past = past(&log);
        assert_eq!(past.boot_id.as_deref(), Some("b"));
        assert_eq!(past.workers.len(), 1);
    }

    /// An incident may go on, so a worker's name must not come again.
    #[test]
    fn generations_go_on_after_an_end_in_good_order() {
        let stopped = record(Kind::SupervisorStopped, None, json!({ "generations": "0.4 2.17" }));
        let past = past(&[began("a"), started(0, 4), of(Kind::WorkerRetired, 0, 4), stopped]);
        assert!(!past.died && past.workers.is_empty());
        let known: Vec<_> = past.generations.iter().map(|(slot, at)| (slot.0, at.0)).collect();
        assert_eq!(known, [(0, 4), (2, 17)]);
    }
}
