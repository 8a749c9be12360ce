//! When a draining worker is told to stop, and what its end cuts.

use crate::paper::{DRAIN_TIMEOUT, Paper, record};
use jiff::Timestamp;
use stanch::core::{
    Action, Event, ExitStatus, Kind, Left, Moment, Now, Settings, Supervisor, WorkerId,
};
use std::time::Duration;

#[test]
fn the_stop_signal_waits_for_the_queue_and_for_answers() {
    let mut paper = Paper::new();
    let old = paper.roll();
    assert!(!paper.stops(old, 1, 0, 0), "one waits to be accepted");
    assert!(!paper.stops(old, 0, 1, 3), "one waits for its answer");
    assert!(paper.stops(old, 0, 0, 2), "two are kept, and nothing is awaited");
}

#[test]
fn answers_that_do_not_come_have_half_of_the_drain() {
    let mut paper = Paper::new();
    let old = paper.roll();
    assert!(!paper.stops(old, 0, 1, 1));
    assert_eq!(paper.waits(), (DRAIN_TIMEOUT / 2, true));
}

#[test]
fn one_that_was_seen_to_finish_is_not_made_to_wait() {
    let mut paper = Paper::new();
    let old = paper.roll();
    assert!(!paper.stops(old, 0, 2, 2));
    assert!(paper.waits().1, "told to stop while answers are awaited");
    paper.stops(old, 0, 0, 0);
    paper.ends(old, ExitStatus::Code(0));
    let old = paper.roll();
    assert!(!paper.stops(old, 1, 2, 2), "one waits to be accepted");
    assert!(paper.stops(old, 0, 2, 2), "it answers first, as the last one did");
    // This one does not.
    paper.ends(old, ExitStatus::Code(0));
    let old = paper.roll();
    assert!(!paper.stops(old, 0, 2, 2), "it might take them along, as the last one did");
}

#[test]
fn one_that_died_of_the_signal_proves_nothing() {
    let mut paper = Paper::new();
    for _ in 0..2 {
        let old = paper.roll();
        assert!(!paper.stops(old, 0, 2, 2));
        assert!(paper.waits().1);
        paper.ends(old, ExitStatus::Signal(15));
    }
}

/// A worker that is asked to stop while an answer is awaited, and what is recorded of its death by the
/// signal: `remains` are the looks at what it left, before and after the word of its end.
fn cut_by_death(before: &[u64], after: &[u64]) -> Option<u64> {
    let mut paper = Paper::new();
    let worker = paper.roll();
    assert!(!paper.stops(worker, 0, 1, 1));
    assert!(paper.waits().1);
    let look = |paper: &mut Paper, connections: &u64| {
        let left = Left { queued: 0, awaiting: 0, connections: *connections, orphaned: true };
        paper.tell(Event::Draining { worker, left });
    };
    before.iter().for_each(|connections| look(&mut paper, connections));
    paper.tell(Event::Exited { worker, status: ExitStatus::Signal(15) });
    after.iter().for_each(|connections| look(&mut paper, connections));
    let actions = paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    let next = paper.roll();
    assert!(!paper.stops(next, 0, 1, 1), "the last one did not finish");
    Some(record(&actions, Kind::DrainCutConnections)?.figures["connections_cut"].as_u64().unwrap())
}

#[test]
fn what_a_death_by_the_signal_cuts_is_counted_whenever_the_remains_are_seen() {
    assert_eq!(cut_by_death(&[], &[]), Some(1));
    assert_eq!(cut_by_death(&[0], &[]), Some(1));
    assert_eq!(cut_by_death(&[], &[0]), Some(1));
    assert_eq!(cut_by_death(&[1], &[0]), None, "another process of the tree had it");
    assert_eq!(cut_by_death(&[], &[1, 0]), None, "another process of the tree had it");
}

#[test]
fn who_says_that_it_ends_is_steered_away_from_and_must_end() {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.workers = 2;
    let mut supervisor = Supervisor::new(settings, 1);
    let mut now = Now { mono: Moment::default(), wall: Timestamp::from_second(1).unwrap() };
    supervisor.start(now);
    for slot in 0..2 {
        assert!(!supervisor.is_up());
        let worker = WorkerId::new(slot, 1);
        supervisor.handle(Event::Spawned { worker, pid: 100 + slot as i32, start_ticks: 1 }, now);
        supervisor.handle(Event::Ready { worker }, now);
    }
    assert!(supervisor.is_up());
    let worker = WorkerId::new(1, 1);
    let actions = supervisor.handle(Event::Leaving { worker }, now);
    assert_eq!(actions, [Action::Divert { worker, drain: false }]);
    let view = supervisor.view(now);
    assert_eq!((view.state, view.slots[1].state), ("starting", "draining"));
    now.mono = now.mono + DRAIN_TIMEOUT;
    let actions = supervisor.handle_timeout(now);
    let reason = "said that it ends (STOPPING=1), and is still there after 30.0 s";
    assert_eq!(record(&actions, Kind::WorkerHung).unwrap().reason, reason);
    let costs = |action: &Action| match action {
        Action::Record(record) => {
            Some(record.state.as_ref()?.impact.get("below_capacity_ms")?.as_u64()?)
        }
        _ => None,
    };
    assert_eq!(actions.iter().filter_map(costs).max(), Some(30_000), "it served nobody new");
    assert!(supervisor.is_up(), "it has been");
}
