//! Workers that do not answer: when one is replaced for it, and when a restart is seen not to help.

use crate::paper::{Paper, abandons, drains, record, starts, told_to_stop};
use stanch::core::{
    Action, Command, Event, ExitStatus, IncidentId, IncidentState, Kind, Left, Settings, Severity,
    Slot, WorkerId,
};
use std::time::Duration;

#[test]
fn a_restart_that_does_not_help_is_noticed() {
    let mut paper = Paper::new();
    let actions = paper.hangs();
    assert!(starts(&actions) && abandons(&actions), "the first is replaced at once: {actions:?}");
    let mut before = Duration::ZERO;
    for _ in 0..4 {
        paper.is_replaced();
        let hung_at = paper.now;
        let actions = paper.hangs();
        assert!(!starts(&actions) && !abandons(&actions), "{actions:?}");
        let critical = |action: &Action| matches!(action, Action::Record(record) if record.state.as_ref().is_some_and(|incident| incident.severity == Severity::Critical));
        assert!(actions.iter().any(critical) || before > Duration::ZERO, "{actions:?}");
        while !starts(&paper.settle()) {}
        let waited = paper.now.since(hung_at);
        assert!(waited > before, "the pause grows: {waited:?} after {before:?}");
        before = waited;
    }
}

#[test]
fn one_that_answers_again_is_not_replaced() {
    let mut paper = Paper::new();
    paper.hangs();
    paper.is_replaced();
    paper.hangs();
    let worker = paper.worker();
    paper.tell(Event::Probed { worker, outcome: Ok(()), answered: true });
    // Long after every pause.
    paper.now = paper.now + Duration::from_secs(100_000);
    assert!(!starts(&paper.settle_now()));
}

#[test]
fn a_hung_worker_does_not_stay_for_its_replacements_slow_start() {
    let mut paper = Paper::warm();
    let old = paper.worker();
    paper.hangs();
    let new = WorkerId::new(0, 2);
    paper.tell(Event::Spawned { worker: new, pid: 101, start_ticks: 0 });
    let actions = paper.tell(Event::Ready { worker: new });
    assert!(drains(&actions, old), "{actions:?}");
}

#[test]
fn a_hung_worker_that_answers_finishes_what_it_has() {
    let mut paper = Paper::new();
    let worker = paper.worker();
    let actions = says_that_it_is_unwell(&mut paper);
    assert!(starts(&actions), "{actions:?}");
    assert!(!abandons(&actions), "it accepts what waits: {actions:?}");
    paper.generation += 1;
    paper.becomes_ready(paper.worker());
    assert!(!paper.stops(worker, 0, 2, 5));
    paper.now = paper.now + Duration::from_secs(5);
    paper.settle_now();
    assert!(!paper.stops(worker, 0, 1, 5));
    assert!(paper.stops(worker, 0, 0, 5));
}

/// Says at every probe that it is unwell, until it is taken for hung.
fn says_that_it_is_unwell(paper: &mut Paper) -> Vec<Action> {
    let worker = paper.worker();
    let unwell = || Event::Probed { worker, outcome: Err("503".into()), answered: true };
    (0..3).flat_map(|_| paper.tell(unwell())).collect()
}

#[test]
fn a_replacement_that_hangs_while_the_old_one_leaves_is_replaced_in_its_turn() {
    let mut paper = Paper::new();
    let old = paper.worker();
    says_that_it_is_unwell(&mut paper);
    paper.generation += 1;
    paper.becomes_ready(paper.worker());
    assert!(!paper.stops(old, 0, 2, 5));
    let actions = says_that_it_is_unwell(&mut paper);
    assert!(record(&actions, Kind::WorkerHung).is_some(), "{actions:?}");
    assert_eq!(record(&actions, Kind::RollAborted), None);
    assert!(paper.stops(old, 0, 0, 5));
    paper.ends(old, ExitStatus::Code(0));
    paper.settle_until_a_start();
}

#[test]
fn what_waits_for_one_that_falls_silent_is_its_replacements() {
    let mut paper = Paper::new();
    let worker = paper.worker();
    assert!(!abandons(&says_that_it_is_unwell(&mut paper)));
    let silent = Event::Probed { worker, outcome: Err("no answer".into()), answered: false };
    assert!(abandons(&paper.tell(silent)));

    // An answer to the last probe says nothing of one that does not ping.
    let mut paper = watched();
    let worker = paper.worker();
    paper.tell(Event::Probed { worker, outcome: Ok(()), answered: true });
    let actions = loop {
        let actions = paper.settle();
        if record(&actions, Kind::WorkerHung).is_some() {
            break actions;
        }
    };
    assert!(abandons(&actions), "{actions:?}");
}

#[test]
fn where_nobody_else_serves_a_hung_worker_has_a_second_whatever_it_answers() {
    let mut settings = Settings::default();
    settings.rolling.surge = false;
    let mut paper = Paper::with(settings);
    let worker = paper.worker();
    let actions = says_that_it_is_unwell(&mut paper);
    assert!(drains(&actions, worker), "{actions:?}");
    let begun = paper.now;
    assert!(!paper.stops(worker, 0, 2, 5));
    assert!(told_to_stop(&paper.settle(), worker));
    assert_eq!(paper.now.since(begun), Duration::from_secs(1));
}

#[test]
fn a_hung_worker_that_is_silent_has_a_second_and_what_is_cut_is_counted() {
    let mut paper = Paper::new();
    let (worker, actions) = (paper.worker(), paper.hangs());
    assert!(abandons(&actions), "what waits is for its replacement: {actions:?}");
    paper.generation += 1;
    paper.becomes_ready(paper.worker());
    assert!(!paper.stops(worker, 0, 2, 5));
    let begun = paper.now;
    let actions = paper.settle();
    assert!(told_to_stop(&actions, worker), "{actions:?}");
    assert_eq!(paper.now.since(begun), Duration::from_secs(1));
    let mut actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(15) });
    let left = Left { queued: 0, awaiting: 0, connections: 0, orphaned: true };
    actions.extend(paper.tell(Event::Draining { worker, left }));
    actions.extend(paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None }));
    let cut = record(&actions, Kind::DrainCutConnections).unwrap();
    assert_eq!(cut.figures["connections_cut"], 2, "{cut:?}");
}

/// One worker that shall ping at least so often.
fn watched() -> Paper {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.health.watchdog = Some(WATCHDOG);
    Paper::with(settings)
}

const WATCHDOG: Duration = Duration::from_secs(20);

#[test]
fn a_worker_that_stops_pinging_is_replaced_as_one_that_fails_its_probes() {
    let mut paper = watched();
    let worker = paper.worker();
    for _ in 0..5 {
        paper.now = paper.now + WATCHDOG / 2;
        let actions = paper.tell(Event::Pinged { worker });
        assert_eq!(record(&actions, Kind::WorkerHung), None);
    }
    let heard = paper.now;
    let actions = loop {
        let actions = paper.settle();
        if record(&actions, Kind::WorkerHung).is_some() {
            break actions;
        }
    };
    assert_eq!(paper.now.since(heard), WATCHDOG);
    assert_eq!(
        record(&actions, Kind::WorkerHung).unwrap().reason,
        "did not ping (WATCHDOG=1) within 20 s"
    );
    let next = WorkerId::new(0, 2);
    assert!(actions.contains(&Action::Start { worker: next }), "{actions:?}");
}

#[test]
fn nothing_follows_from_a_silence_while_the_supervisor_stood_still() {
    let mut paper = watched();
    paper.now = paper.now + WATCHDOG * 3;
    let actions = paper.settle_now();
    assert_eq!(
        record(&actions, Kind::WorkerHung),
        None,
        "the pings of that time are yet to be read"
    );
    let awake = paper.now;
    let hung_at = loop {
        let actions = paper.settle();
        if record(&actions, Kind::WorkerHung).is_some() {
            break paper.now;
        }
    };
    assert_eq!(hung_at.since(awake), WATCHDOG);
}

#[test]
fn who_never_pings_is_hung_too_and_probes_do_not_make_up_for_it() {
    let mut paper = watched();
    let worker = paper.worker();
    // Its replacement waits, so that it could recover.
    paper.command(Command::Pause);
    paper.now = paper.now + WATCHDOG;
    let actions = paper.settle_now();
    assert!(
        record(&actions, Kind::WorkerHung).unwrap().reason.ends_with("it never did"),
        "{actions:?}"
    );
    let recovers = |actions: &[Action]| {
        let ready = |a: &Action| matches!(a, Action::Record(r) if r.kind == Kind::WorkerReady);
        actions.iter().any(ready)
    };
    let probed = paper.tell(Event::Probed { worker, outcome: Ok(()), answered: true });
    assert!(!recovers(&probed), "{probed:?}");
    assert!(recovers(&paper.tell(Event::Pinged { worker })));
    // And the other way round: pings do not make up for failed probes.
    paper.hangs();
    assert!(!recovers(&paper.tell(Event::Pinged { worker })));
    assert!(recovers(&paper.tell(Event::Probed { worker, outcome: Ok(()), answered: true })));
}

#[test]
fn without_a_watchdog_nobody_has_to_ping() {
    let mut paper = Paper::new();
    paper.now = paper.now + WATCHDOG * 1000;
    assert_eq!(record(&paper.settle_now(), Kind::WorkerHung), None);
}

/// What the records say that the incident has cost, at last.
fn below_capacity_ms(actions: &[Action], incident: &Option<IncidentId>) -> Option<u64> {
    let mut states = actions.iter().filter_map(|action| match action {
        Action::Record(record) if record.incident == *incident => record.state.as_ref(),
        _ => None,
    });
    states.next_back()?.impact.get("below_capacity_ms")?.as_u64()
}

#[test]
fn a_newcomer_that_fails_does_not_take_the_outage_from_the_hang() {
    let mut paper = Paper::new();
    let mut told = paper.hangs();
    let hang = record(&told, Kind::WorkerHung).unwrap().incident.clone();
    for _ in 0..3 {
        paper.now = paper.now + Duration::from_secs(10);
        let failed = paper.newcomer_fails();
        let aborted = record(&failed, Kind::RollAborted).unwrap();
        assert!(aborted.reason.ends_with("tried again in 30 s"), "{}", aborted.reason);
        assert_eq!(aborted.figures["pause_s"], 30.0, "nobody serves");
        let failure = aborted.incident.clone().unwrap();
        let due = paper.view().slots[0].due.clone().unwrap();
        assert_eq!((due.cause, due.in_s), ("hang", Some(30.0)));

        told.extend(failed);
        let begins = paper.now + Duration::from_secs(30);
        loop {
            let actions = paper.settle();
            told.extend(actions.iter().cloned());
            if starts(&actions) {
                break;
            }
            assert!(paper.now < begins);
            let left = paper.view().incidents_open;
            assert_eq!(left, 2, "{failure}: it goes on as long as it is tried again");
        }
        assert_eq!(paper.now, begins);
    }
    paper.generation += 1;
    let worker = paper.worker();
    told.extend(paper.tell(Event::Spawned { worker, pid: 100, start_ticks: 0 }));
    told.extend(paper.tell(Event::Ready { worker }));
    // It hung at the beginning, and three times 10 s were waited for a start and 30 s for the next.
    assert_eq!(below_capacity_ms(&told, &hang), Some(120_000));
}

#[test]
fn rolls_that_fail_are_tried_again_less_and_less_while_somebody_serves() {
    let mut paper = Paper::new();
    let other = paper.gets_another();
    let fails = |paper: &mut Paper| {
        let failed = paper.newcomer_fails();
        record(&failed, Kind::RollAborted).unwrap().figures["pause_s"].as_f64().unwrap()
    };
    paper.hangs();
    assert_eq!(fails(&mut paper), 30.0);
    paper.settle_until_a_start();
    assert_eq!(fails(&mut paper), 60.0);
    paper.settle_until_a_start();
    assert_eq!(fails(&mut paper), 120.0);
    // Nobody is spared by waiting any more.
    let before = paper.now;
    paper.fails_probes(other);
    paper.settle_until_a_start();
    assert_eq!(paper.now.since(before), Duration::from_secs(30));
}

#[test]
fn one_that_is_well_again_leaves_no_pause_behind() {
    let mut paper = Paper::new();
    let first = paper.worker();
    paper.hangs();
    paper.newcomer_fails();
    assert_eq!(paper.view().incidents_open, 2);
    let well = paper.tell(Event::Probed { worker: first, outcome: Ok(()), answered: true });
    let handled = |action: &&Action| match action {
        Action::Record(record) => record.cause.as_deref() == Some("mitigated"),
        _ => false,
    };
    assert_eq!(well.iter().filter(handled).count(), 2, "{well:?}");
    // The next one that hangs is replaced at once.
    let actions = paper.fails_probes(first);
    assert!(starts(&actions), "{actions:?}");
}

#[test]
fn who_is_not_probed_any_more_is_said_to_be_well() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    paper.hangs();
    let mut settings = Settings::default();
    settings.health.failures = 0;
    let actions = paper.is_reloaded(settings);
    let ready = record(&actions, Kind::WorkerReady).unwrap();
    assert_eq!(ready.reason, "is not probed any more");
    assert!(actions.iter().any(|action| matches!(action, Action::Reclaim { .. })));
    // So is it for the next supervisor.
    let incidents = paper.incidents();
    paper.is_reborn(incidents);
    assert!(!paper.view().slots[0].hangs());
}

#[test]
fn an_operators_failed_roll_is_not_opened_again_by_a_hang() {
    let mut paper = Paper::new();
    let other = paper.gets_another();
    paper.command(Command::Restart { slot: Some(Slot(0)) });
    paper.newcomer_fails();
    let aborted = paper.log.iter().find(|record| record.kind == Kind::RollAborted).unwrap();
    let failure = aborted.incident.clone();
    assert!(aborted.reason.ends_with("the others serve on"), "{}", aborted.reason);
    let state = |paper: &Paper| {
        let all = paper.incidents();
        all.into_iter().find(|one| Some(&one.id) == failure.as_ref()).unwrap().state
    };
    assert_eq!(state(&paper), IncidentState::Mitigated);
    paper.fails_probes(other);
    assert_eq!(state(&paper), IncidentState::Mitigated);
}

/// While its replacement has what it listened on, nothing is sent that could fail.
#[test]
fn a_probe_that_cannot_be_sent_is_none_that_failed() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    paper.hangs();
    let worker = paper.worker();
    let failed = |paper: &Paper| paper.incidents()[0].impact["probes_failed"].clone();
    let before = failed(&paper);
    for _ in 0..5 {
        paper.tell(Event::Unreachable { worker });
    }
    paper.tell(Event::Probed { worker, outcome: Err("500".into()), answered: false });
    paper.command(Command::Upgrade { tried: Ok("2".to_owned()) });
    assert_eq!(failed(&paper).as_u64(), before.as_u64().map(|count| count + 1));
}

/// But who does not listen any more, and was not replaced, does not answer.
#[test]
fn who_does_not_listen_any_more_is_hung() {
    let mut paper = Paper::new();
    let worker = paper.worker();
    let limit = Settings::default().health.failures;
    let hung = (0..limit).any(|_| {
        let actions = paper.tell(Event::Unreachable { worker });
        record(&actions, Kind::WorkerHung).is_some()
    });
    assert!(hung);
}
