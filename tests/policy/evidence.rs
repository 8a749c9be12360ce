//! What is learned of a worker before it goes.

use crate::paper::{
    DRAIN_TIMEOUT, Paper, drains, inquiries, limited, reading, record, starts, told_to_stop,
};
use stanch::core::evidence::Part;
use stanch::core::{
    Action, Captured, Event, ExitStatus, Inquiry, Kind, LeakAction, Left, Moment, Settings,
    WorkerId,
};
use std::time::Duration;

/// One that is over its soft limit, with a replacement that is ready and warm. Nothing is answered.
fn over_the_soft_limit(command: Option<Duration>) -> (Paper, WorkerId, Vec<Action>) {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.memory.soft_limit_kib = Some(100_000);
    settings.evidence.command_timeout = command;
    let mut paper = Paper::with(settings);
    paper.answers = false;
    let old = paper.worker();
    let mut actions = reading(&mut paper, 110_000);
    assert!(starts(&actions), "{actions:?}");
    paper.generation += 1;
    let new = paper.worker();
    actions.extend(paper.tell(Event::Spawned { worker: new, pid: 101, start_ticks: 1 }));
    actions.extend(paper.tell(Event::Ready { worker: new }));
    (paper, old, actions)
}

#[test]
fn only_the_stop_signal_waits_for_the_look() {
    let (mut paper, old, actions) = over_the_soft_limit(None);
    let asked = inquiries(&actions);
    let [look] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((look.worker, look.part), (old, Part::Look));
    assert_eq!(look.scene.sample.rss_anon_kib, Some(110_000));
    assert!(drains(&actions, old), "its replacement is ready: {actions:?}");
    let left = Left { queued: 0, awaiting: 0, connections: 0, orphaned: false };
    let actions = paper.tell(Event::Draining { worker: old, left });
    assert!(!told_to_stop(&actions, old), "{actions:?}");
    let actions = paper.captured(look.clone());
    assert!(told_to_stop(&actions, old), "{actions:?}");
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    assert_eq!((record.slot, record.cause.as_deref()), (Some(old.slot), Some("look")));
}

#[test]
fn a_look_that_came_too_late_says_what_is_left() {
    let (mut paper, _, actions) = over_the_soft_limit(None);
    let Inquiry { worker, incident, part, .. } = inquiries(&actions).remove(0);
    let outcome = Ok(Captured { files: 2, too_late: true, ..Captured::default() });
    let actions = paper.tell(Event::EvidenceCaptured { worker, incident, part, outcome });
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    let reason = "it had ended before it could be looked at; its last output, readings and counters are saved";
    assert_eq!(record.reason, reason);
    assert_eq!((&record.figures["files"], &record.figures["complete"]), (&2.into(), &false.into()));
}

#[test]
fn a_look_that_never_answers_does_not_keep_the_worker() {
    let (mut paper, old, _) = over_the_soft_limit(None);
    let before = paper.now;
    paper.stops(old, 0, 0, 0);
    let actions = loop {
        let actions = paper.settle();
        if told_to_stop(&actions, old) {
            break actions;
        }
    };
    assert_eq!(paper.now.since(before), Duration::from_secs(3));
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    assert!(record.reason.contains("waits no longer"), "{}", record.reason);
    assert_eq!(record.figures["complete"], false);
}

#[test]
fn the_command_comes_when_nothing_is_awaited_and_takes_nothing_from_the_drain() {
    let (mut paper, old, actions) = over_the_soft_limit(Some(Duration::from_secs(40)));
    let look = inquiries(&actions).remove(0);
    paper.captured(look);
    let left = Left { queued: 0, awaiting: 1, connections: 1, orphaned: false };
    assert!(inquiries(&paper.tell(Event::Draining { worker: old, left })).is_empty());
    let left = Left { awaiting: 0, ..left };
    let asked = inquiries(&paper.tell(Event::Draining { worker: old, left }));
    assert_eq!((asked[0].part, asked[0].within), (Part::Command, Duration::from_secs(40)));
    // What comes meanwhile does not stop it.
    assert!(!paper.stops(old, 0, 0, 0));
    paper.now = paper.now + Duration::from_secs(35);
    let actions = paper.captured(asked[0].clone());
    assert!(told_to_stop(&actions, old), "{actions:?}");
    let until = loop {
        let actions = paper.settle();
        if actions.iter().any(|a| matches!(a, Action::HangUp { worker, .. } if *worker == old)) {
            break paper.now;
        }
    };
    assert!(until.0 > Duration::from_secs(35) + DRAIN_TIMEOUT / 2, "{until:?}");
}

#[test]
fn a_kill_waits_for_nothing_and_an_operator_gets_no_evidence() {
    let mut paper = limited();
    paper.answers = false;
    let actions = reading(&mut paper, 210_000);
    let kill = actions.iter().position(|action| matches!(action, Action::Kill { .. }));
    let asked = actions.iter().position(|a| matches!(a, Action::CaptureEvidence(_)));
    assert!(asked < kill && asked.is_some(), "{actions:?}");
    assert_eq!(inquiries(&actions)[0].part, Part::Remains);

    let mut paper = Paper::new();
    paper.answers = false;
    let old = paper.roll();
    assert!(paper.stops(old, 0, 0, 0));
}

#[test]
fn a_crash_leaves_its_remains() {
    let mut paper = Paper::new();
    paper.answers = false;
    let worker = paper.worker();
    let actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(11) });
    assert_eq!(inquiries(&actions)[0].part, Part::Remains);
    paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    // The answer comes later than the end.
    let actions = paper.captured(inquiries(&actions).remove(0));
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    assert_eq!(record.generation, Some(worker.generation));
    assert!(record.incident.is_some());
}

#[test]
fn a_worker_is_seen_in_good_order_when_ready_and_when_warm() {
    let mut paper = Paper::new();
    let warm_up = Settings::default().leak.warm_up;
    let baseline = |action: &Action| matches!(action, Action::TakeBaseline { .. });
    let mut taken = Vec::new();
    while paper.supervisor.poll_timeout().is_some() && taken.len() < 3 {
        let actions = paper.settle();
        taken.extend(actions.iter().filter(|a| baseline(a)).map(|_| paper.now.0));
    }
    // The first came with the readiness.
    assert_eq!(taken, [warm_up]);
}

#[test]
fn a_leak_that_is_only_told_is_looked_at_when_it_is_told() {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(2_000_000);
    settings.leak.action = LeakAction::Alert;
    let mut paper = Paper::with(settings);
    let confirmed = (0..3600).find_map(|second| {
        paper.now = Moment(Duration::from_secs(second));
        let actions = reading(&mut paper, 100_000 + second * 500);
        record(&actions, Kind::LeakConfirmed).is_some().then_some(actions)
    });
    let actions = confirmed.expect("a straight line is a leak");
    let asked = inquiries(&actions);
    let [look] = &asked[..] else { panic!("{actions:?}") };
    assert_eq!((look.worker, look.part), (paper.worker(), Part::Look));
    assert!(!starts(&actions), "{actions:?}");
}
