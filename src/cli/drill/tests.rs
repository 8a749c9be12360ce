//! The parts of a drill by themselves, but the stage's; `tests/drill.rs` plays the whole.

use super::story::Story;
use crate::core::{Figures, Generation, IncidentId, Kind, Record, Slot};
use jiff::Timestamp;

fn began() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn record(after_s: i64, kind: Kind, slot: Option<u32>) -> Record {
    Record {
        number: 0,
        at: Timestamp::from_second(1_800_000_000 + after_s).unwrap(),
        kind,
        incident: None,
        slot: slot.map(Slot),
        pid: None,
        generation: slot.map(|_| Generation(1)),
        release: None,
        cause: None,
        reason: "because".to_owned(),
        figures: Figures::new(),
        state: None,
    }
}

fn leak(after_s: i64, slot: u32) -> Record {
    let mut record = record(after_s, Kind::LeakConfirmed, Some(slot));
    record.incident = Some(IncidentId("the-leak".to_owned()));
    record.figures.insert("growth_kib".to_owned(), (40 * 1024).into());
    record.figures.insert("eta_s".to_owned(), 50.0.into());
    record
}

fn retired(after_s: i64, slot: u32) -> Record {
    let incident = Some(IncidentId("the-leak".to_owned()));
    Record { incident, ..record(after_s, Kind::WorkerRetired, Some(slot)) }
}

fn roll(after_s: i64, kind: Kind, cause: &str) -> Record {
    Record { cause: Some(cause.to_owned()), ..record(after_s, kind, Some(0)) }
}

#[test]
fn a_story_is_complete_when_each_slot_was_replaced_and_the_roll_has_ended() {
    let mut story = Story::new(began(), 2, 160 * 1024);
    for event in [
        record(14, Kind::LeakSuspected, Some(1)),
        leak(22, 1),
        roll(22, Kind::RollStarted, "leak"),
        retired(23, 1),
        record(23, Kind::RollFinished, None),
        leak(24, 0),
        roll(25, Kind::RollStarted, "leak"),
        retired(25, 0),
    ] {
        story.note(&event);
    }
    assert!(!story.complete(), "the second roll is under way");
    story.note(&record(26, Kind::RollFinished, None));
    assert!(story.complete() && story.in_time);
    assert_eq!(story.suspected.as_ref().map(|seen| seen.after_s), Some(14.0));
    assert_eq!(story.first_confirmed().map(|seen| seen.slot), Some(1));
    assert_eq!(story.without_stanch_s(), [72.0, 74.0]);
    assert_eq!(story.all_replaced_s, Some(25.0));
    assert_eq!(story.incident.as_deref(), Some("the-leak"));
}

#[test]
fn a_story_knows_when_stanch_was_late_or_did_not_act_on_the_leak() {
    let mut late = Story::new(began(), 1, 160 * 1024);
    for event in [
        leak(22, 0),
        record(60, Kind::MemorySoftLimit, Some(0)),
        roll(60, Kind::RollStarted, "leak"),
        retired(61, 0),
        record(61, Kind::RollFinished, None),
    ] {
        late.note(&event);
    }
    assert!(late.complete() && !late.in_time);

    let mut other = Story::new(began(), 1, 160 * 1024);
    for event in [
        roll(5, Kind::RollStarted, "operator"),
        record(6, Kind::WorkerRetired, Some(0)),
        record(6, Kind::RollFinished, None),
        record(8, Kind::WorkerCrashed, Some(0)),
    ] {
        other.note(&event);
    }
    assert!(!other.complete() && other.rolls_finished == 0 && other.workers_replaced == 0);
    assert_eq!(other.troubles, ["worker_crashed (worker 0): because"]);
}
