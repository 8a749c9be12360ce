//! A release that leaks after its deploy, in a world without accidents.

use crate::calm::{Calm, Curve, uses};
use stanch::core::reload::{Change, Difference, Holds, Reconfiguration, Reload, Start, Then};
use stanch::core::{
    Command, Event, ExitStatus, Kind, LeakAction, LeakingRelease, Settings, Ticket, WorkerId,
};
use std::time::Duration;

const MIB: f64 = 1024.0;
const HOUR: f64 = 3600.0;

fn settings(release: &str) -> Settings {
    let mut settings = Settings { workers: 2, ..Settings::default() };
    settings.release = Some(release.to_owned());
    settings.leaking_release = LeakingRelease::RollBack;
    settings.memory.soft_limit_kib = Some(500 * 1024);
    settings.leak.lead_time = Duration::from_secs(300);
    settings
}

/// Those of a generation leak 400 MiB an hour, if so said.
fn leaks(which: fn(WorkerId) -> bool) -> Curve {
    Box::new(move |worker, age_s, _| {
        let slope = if which(worker) { 400.0 } else { 0.0 };
        uses(100.0 * MIB + slope * MIB * age_s / HOUR, age_s, 50.0)
    })
}

fn deploy(calm: &mut Calm, settings: Settings) {
    deploy_as(calm, settings, Start::Otherwise);
}

/// Release 1 has served for an hour, and 2 is to take its place.
fn deploying(leaking: fn(WorkerId) -> bool) -> Calm {
    let mut calm = Calm::new(settings("1"), 5, leaks(leaking));
    calm.run_until(HOUR);
    deploy(&mut calm, settings("2"));
    calm
}

fn deploy_as(calm: &mut Calm, settings: Settings, start: Start) {
    reload_as(calm, settings, start, Then::Deploy);
}

fn reload_as(calm: &mut Calm, settings: Settings, start: Start, then: Then) {
    let text = "app.directory".to_owned();
    let difference = Difference(vec![Change { holds: Holds::InNewWorkers, text }]);
    let proof = Duration::from_secs(10);
    let (workers, start_before) = (None, start);
    let found = Reconfiguration { settings, workers, difference, start, start_before, proof };
    let command = Command::Reload(Reload { found: Ok(Box::new(found)), then });
    calm.tell(Event::Command { ticket: Ticket(1), by: "me".to_owned(), command });
}

fn releases(calm: &Calm, kind: Kind) -> Vec<String> {
    calm.of(kind).iter().map(|(_, record)| record.release.clone().unwrap()).collect()
}

/// Release 2 is the second generation; the third is of release 1 again.
fn is_second(worker: WorkerId) -> bool {
    worker.generation.0 == 2
}

#[test]
fn a_leaking_release_gives_way_to_the_one_before() {
    let mut calm = deploying(is_second);
    calm.run_until(4.0 * HOUR);
    assert_eq!(calm.of(Kind::DeployFinished)[0].1.cause.as_deref(), Some("done"));
    let back = calm.of(Kind::ReleaseRolledBack);
    let [(at, record)] = back[..] else { panic!("{back:?}") };
    let confirmed = calm.of(Kind::LeakConfirmed);
    assert!(at - confirmed[0].0 < 5.0, "at once: {confirmed:?}");
    assert_eq!(record.incident, confirmed[0].1.incident, "{record:?}");
    assert_eq!(releases(&calm, Kind::WorkerReady), ["1", "1", "2", "2", "1", "1"]);
    let incident = &calm.incidents[record.incident.as_ref().unwrap()];
    assert_eq!((incident.kind.as_str(), incident.release.as_deref()), ("leak", Some("2")));
    assert_eq!(incident.impact["workers_replaced"], 2, "{incident:?}");
    assert!(incident.summary.contains("gone back to release 1"), "{incident:?}");
    assert!(!incident.summary.contains("it can go on"), "{incident:?}");
    assert_eq!(incident.slots.len(), 2, "{incident:?}");
    let retired = calm.of(Kind::WorkerRetired);
    let of_it = retired.iter().filter(|(_, retired)| retired.incident == record.incident);
    assert_eq!(of_it.count(), 2, "{retired:?}");
}

/// Its workers serve on as they are, and are those of a release that leaks.
#[test]
fn a_reload_under_the_same_label_is_the_same_release() {
    let mut calm = deploying(is_second);
    calm.run_until(1.1 * HOUR);
    reload_as(&mut calm, settings("2"), Start::Otherwise, Then::Keep);
    calm.run_until(4.0 * HOUR);
    assert_eq!(calm.of(Kind::ReleaseRolledBack).len(), 1);
    assert_eq!(releases(&calm, Kind::WorkerReady), ["1", "1", "2", "2", "1", "1"]);
}

#[test]
fn a_roll_that_is_under_way_makes_room_for_the_way_back() {
    let mut calm = deploying(is_second);
    calm.run_until(4.0 * HOUR);
    let confirmed_s = calm.of(Kind::LeakConfirmed)[0].0;

    let mut calm = deploying(is_second);
    calm.run_until(confirmed_s - 1.0);
    let command = Command::Restart { slot: None };
    calm.tell(Event::Command { ticket: Ticket(2), by: "me".to_owned(), command });
    calm.run_until(4.0 * HOUR);
    assert_eq!(calm.of(Kind::ReleaseRolledBack).len(), 1);
    assert_eq!(releases(&calm, Kind::WorkerStarted), ["1", "1", "2", "2", "2", "1", "1"]);
}

/// The worker fails its probes until it is taken for hung.
fn hang(calm: &mut Calm, worker: WorkerId) {
    for _ in 0..Settings::default().health.failures {
        let outcome = Err("no answer".to_owned());
        calm.tell(Event::Probed { worker, outcome, answered: false });
    }
}

fn run_until(calm: &mut Calm, kind: Kind, count: usize) {
    while calm.of(kind).len() < count {
        calm.run_until(calm.seconds() + 0.1);
    }
}

#[test]
fn a_way_back_that_hangs_as_well_comes_to_an_end() {
    let mut calm = deploying(|_| false);
    run_until(&mut calm, Kind::RollFinished, 1);
    hang(&mut calm, WorkerId::new(0, 2));
    run_until(&mut calm, Kind::WorkerReady, 5);
    hang(&mut calm, WorkerId::new(0, 3));
    calm.run_until(calm.seconds() + 20.0);
    let finished = calm.of(Kind::DeployFinished);
    assert_eq!(finished[0].1.cause.as_deref(), Some("failed"), "{finished:?}");
    assert!(finished[0].1.reason.ends_with("worker 0.3 hangs as well"), "{finished:?}");
}

/// Be it in the roll or in the proof.
#[test]
fn a_rollback_stays_in_the_summary_and_each_crash_counts() {
    for (kind, count) in [(Kind::WorkerReady, 4), (Kind::RollFinished, 1)] {
        let mut calm = deploying(|_| false);
        run_until(&mut calm, kind, count);
        calm.crash(WorkerId::new(0, 2), ExitStatus::Code(7));
        calm.crash(WorkerId::new(1, 2), ExitStatus::Code(7));
        calm.run_until(calm.seconds() + 60.0);
        assert_eq!(calm.of(Kind::DeployFinished)[0].1.cause.as_deref(), Some("rolled_back"));
        let incident = calm.incidents.values().next().unwrap();
        assert!(incident.summary.contains("gone back to release 1"), "{}", incident.summary);
        assert_eq!(incident.interventions, 2, "{incident:?}");
    }
}

#[test]
fn a_way_back_that_is_stopped_is_interrupted() {
    let mut calm = deploying(|_| false);
    run_until(&mut calm, Kind::RollFinished, 1);
    calm.crash(WorkerId::new(0, 2), ExitStatus::Code(7));
    calm.tell(Event::Command { ticket: Ticket(2), by: "me".to_owned(), command: Command::Stop });
    calm.run_until(calm.seconds() + 60.0);
    assert_eq!(calm.of(Kind::DeployFinished)[0].1.cause.as_deref(), Some("interrupted"));
}

/// Whether it comes up is known before the last one goes, also where the old one goes first as a rule.
#[test]
fn the_first_of_the_way_back_starts_beside_the_last_that_serves() {
    let old_first = |release: &str| {
        let mut settings = Settings { workers: 1, ..settings(release) };
        settings.rolling.surge = false;
        settings.rolling.max_unavailable = 1;
        settings
    };
    let mut calm = Calm::new(old_first("1"), 5, leaks(is_second));
    calm.run_until(HOUR);
    deploy(&mut calm, old_first("2"));
    calm.run_until(4.0 * HOUR);
    assert_eq!(calm.of(Kind::ReleaseRolledBack).len(), 1);
    let (ready, goes) = (calm.of(Kind::WorkerReady)[2].0, calm.went()[1]);
    assert!(ready <= goes, "{ready} {goes}");
}

#[test]
fn nothing_is_gone_back_to_that_leaks_itself() {
    let mut calm = Calm::new(settings("1"), 5, leaks(|_| true));
    calm.run_until(0.8 * HOUR);
    assert!(!calm.of(Kind::LeakConfirmed).is_empty());
    deploy(&mut calm, settings("2"));
    calm.run_until(4.0 * HOUR);
    assert!(releases(&calm, Kind::LeakConfirmed).contains(&"2".to_owned()));
    assert!(calm.of(Kind::ReleaseRolledBack).is_empty(), "from one leak to another");
    assert_eq!(releases(&calm, Kind::DrainStarted).pop().as_deref(), Some("2"), "it is held");
}

#[test]
fn an_alert_is_all_where_nothing_else_is_wanted_and_a_pause_holds() {
    let mut told = settings("2");
    told.leaking_release = LeakingRelease::Alert;
    // Nothing is touched, the release neither.
    let mut untouched = settings("2");
    untouched.leak.action = LeakAction::Alert;
    for (new, paused) in [(told, false), (untouched, false), (settings("2"), true)] {
        let mut calm = Calm::new(settings("1"), 5, leaks(is_second));
        calm.run_until(HOUR);
        deploy(&mut calm, new);
        calm.run_until(1.1 * HOUR);
        if paused {
            let command = Command::Pause;
            calm.tell(Event::Command { ticket: Ticket(2), by: "me".to_owned(), command });
        }
        calm.run_until(1.8 * HOUR);
        assert!(!calm.of(Kind::LeakConfirmed).is_empty());
        assert!(calm.of(Kind::ReleaseRolledBack).is_empty());
    }
}

/// Such a deploy is a roll: the worker that crashed is started again, as another would be.
#[test]
fn without_a_way_back_a_crash_is_a_crash() {
    let mut calm = Calm::new(settings("1"), 5, leaks(|_| false));
    calm.run_until(HOUR);
    deploy_as(&mut calm, settings("2"), Start::Alike);
    // The next one is being replaced.
    run_until(&mut calm, Kind::WorkerStarted, 4);
    calm.crash(WorkerId::new(0, 2), ExitStatus::Code(1));
    calm.run_until(2.0 * HOUR);
    assert_eq!(calm.of(Kind::DeployFinished)[0].1.cause.as_deref(), Some("done"));
    assert!(calm.of(Kind::ReleaseRolledBack).is_empty());
    assert_eq!(releases(&calm, Kind::WorkerReady), ["1", "1", "2", "2", "2"]);
}
