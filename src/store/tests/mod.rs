//! Tests of the store as a whole, on real files.

mod chain;
mod child;
mod damage;
mod evidence;
mod file;
mod flow;
mod migration;
mod retention;
mod rows;

use super::*;
use crate::core::{
    Figures, Generation, Incident, IncidentId, IncidentState, Kind, Record, Severity, Slot,
    WorkerId,
};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What keeps `events` as it is; who tampers drops them first.
const TRIGGERS: [&str; 3] =
    ["events_are_appended", "events_stay_as_they_are", "events_go_when_a_later_one_says_so"];
const RETENTION: Duration = Duration::from_secs(3600);
/// No state here takes long; a machine under load may.
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn record(number: u64) -> Record {
    Record {
        number,
        at: "2026-11-21T15:30:12.123456Z".parse().unwrap(),
        kind: Kind::WorkerStarted,
        incident: None,
        slot: Some(Slot(number as u32 % 4)),
        pid: Some(4242),
        generation: Some(Generation(number)),
        release: Some("r1".into()),
        cause: None,
        reason: format!("record {number}"),
        figures: Figures::new(),
        state: None,
    }
}

pub(super) fn life(worker: WorkerId, started: Timestamp) -> Arc<Life> {
    Arc::new(Life { worker, started, limit_kib: Some(1000), warm_up: Duration::from_secs(20) })
}

fn incident(id: &str, summary: &str) -> Incident {
    Incident {
        id: IncidentId(id.into()),
        kind: "leak".into(),
        severity: Severity::Major,
        state: IncidentState::Open,
        opened_at: "2026-11-21T15:30:12.123456Z".parse().unwrap(),
        resolved_at: None,
        release: None,
        slots: vec![Slot(1)],
        interventions: 1,
        impact: Figures::new(),
        summary: summary.into(),
        acknowledged: None,
        seen: String::new(),
        last_intervention: None,
        handled_at: None,
        causes: Vec::new(),
        period_s: None,
    }
}

/// An event that is written with this state of its incident.
fn noted(number: u64, incident: Incident) -> Record {
    let id = Some(incident.id.clone());
    Record { incident: id, state: Some(Box::new(incident)), ..record(number) }
}

async fn written(durable: Durable) -> Head {
    timeout(DEADLINE, durable).await.expect("in time").expect("written")
}

async fn health(store: &mut Store) -> Health {
    timeout(DEADLINE, store.health()).await.expect("in time").expect("the thread lives")
}

/// Writes so many records into a new store and closes it.
fn store_with(path: &Path, records: u64) {
    let store = Store::open(path, RETENTION).unwrap();
    let writer = store.writer();
    for number in 1..=records {
        drop(writer.append(record(number)));
    }
    assert_eq!(store.close(DEADLINE), 0);
}

fn entries(path: &Path, filter: &EventFilter) -> Vec<Entry> {
    let mut entries = Vec::new();
    let visit = |entry| {
        entries.push(entry);
        Ok::<(), StoreError>(())
    };
    Reader::open(path).unwrap().events(filter, visit).unwrap();
    entries
}

fn verify(path: &Path, head: Option<&str>) -> Result<Verified, Break> {
    Reader::open(path).unwrap().verify(head).unwrap()
}
