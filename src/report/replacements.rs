//! Which workers were replaced, and what each replacement took and cost.

use super::Dossier;
use crate::core::{Kind, Record, WorkerId};
use jiff::Timestamp;

/// One worker that had to go, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Replacement {
    pub worker: WorkerId,
    /// When it got no new connections any more, or was killed.
    pub at: Timestamp,
    /// Killed over its hard limit.
    pub killed: bool,
    /// It was told to end in good order first.
    pub drained: bool,
    /// Its memory then, in KiB.
    pub growth_kib: Option<f64>,
    /// Its age then, in seconds.
    pub age_s: Option<f64>,
    /// When its replacement was verified ready.
    pub ready_at: Option<Timestamp>,
    /// Whether it served until then.
    pub overlapped: bool,
    /// From the start of the replacement until it was ready, in seconds.
    pub start_s: Option<f64>,
    /// When it had ended.
    pub ended_at: Option<Timestamp>,
    /// Connections that were cut.
    pub cut: u64,
}

/// Those of the incident, in order of time.
pub(super) fn replacements(dossier: &Dossier) -> Vec<Replacement> {
    let begins = |record: &&Record| {
        matches!(record.kind, Kind::DrainStarted | Kind::MemoryHardLimit | Kind::MemoryOomKilled)
    };
    let mut found: Vec<Replacement> = Vec::new();
    for record in dossier.own().filter(begins) {
        let Some(worker) = record.worker() else { continue };
        // A worker that drains may still run into its hard limit.
        match found.iter_mut().find(|earlier| earlier.worker == worker) {
            Some(earlier) => earlier.killed |= record.kind != Kind::DrainStarted,
            None => found.push(follow(dossier, worker, record)),
        }
    }
    found
}

fn follow(dossier: &Dossier, worker: WorkerId, record: &Record) -> Replacement {
    let later = |kind: Kind, of: WorkerId| {
        dossier.records.iter().find(move |later| {
            later.kind == kind && later.at >= record.at && later.worker() == Some(of)
        })
    };
    let next = WorkerId { generation: worker.generation.next(), ..worker };
    let ready = dossier
        .records
        .iter()
        .rev()
        .find(|other| other.kind == Kind::WorkerReady && other.worker() == Some(next));
    let killed = record.kind != Kind::DrainStarted;
    let mut of_it = dossier.own().filter(|other| other.worker() == Some(worker));
    let hung = of_it.any(|other| other.kind == Kind::WorkerHung && other.at <= record.at);
    Replacement {
        worker,
        at: record.at,
        killed,
        drained: !killed,
        overlapped: !killed && !hung && ready.is_some_and(|ready| ready.at <= record.at),
        // The newest sample may be much older than the end at a limit.
        growth_kib: figure(record, "peak_kib").or_else(|| figure(record, "growth_kib")),
        age_s: figure(record, "age_s"),
        ready_at: ready.map(|ready| ready.at),
        start_s: ready.and_then(|ready| figure(ready, "start_ms")).map(|ms| ms / 1000.0),
        ended_at: later(Kind::WorkerRetired, worker).map(|end| end.at),
        cut: later(Kind::DrainCutConnections, worker)
            .and_then(|cut| figure(cut, "connections_cut"))
            .unwrap_or(0.0) as u64,
    }
}

/// A figure of an event, as a number.
pub(super) fn figure(record: &Record, key: &str) -> Option<f64> {
    record.figures.get(key)?.as_f64()
}
