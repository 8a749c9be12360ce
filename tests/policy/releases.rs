//! Where the way back from a release leads, and what is done where it leads nowhere.

use crate::paper::{Paper, inquiries, reading, record, starts};
use stanch::core::reload::{Start, Then};
use stanch::core::{Action, Command, Event, ExitStatus, Kind, Record, Settings, Ticket, WorkerId};
use std::time::Duration;

fn settings(release: &str) -> Settings {
    let mut settings = Settings { release: Some(release.to_owned()), ..Settings::default() };
    settings.rolling.slow_start = Duration::ZERO;
    settings.health.failures = 3;
    settings
}

/// Release 1 serves.
fn served() -> Paper {
    Paper::with(settings("1"))
}

fn deploy(paper: &mut Paper, release: &str) -> Vec<Action> {
    paper.is_reconfigured(settings(release), Then::Deploy, Start::Otherwise)
}

fn crash(paper: &mut Paper, worker: WorkerId) -> Vec<Action> {
    let mut actions = paper.tell(Event::Exited { worker, status: ExitStatus::Code(4) });
    actions.extend(paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None }));
    actions
}

fn started(actions: &[Action]) -> Option<WorkerId> {
    actions.iter().find_map(|action| match action {
        Action::Start { worker } => Some(*worker),
        _ => None,
    })
}

fn reply(actions: &[Action]) -> String {
    let reply = actions.iter().find_map(|action| match action {
        Action::Reply { reply, .. } => Some(reply),
        _ => None,
    });
    match reply.expect("an answer") {
        Ok(done) => done.clone(),
        Err(refusal) => refusal.to_string(),
    }
}

/// Where a rollback leads, if there is one.
fn gone_back_to(actions: &[Action]) -> Option<&str> {
    record(actions, Kind::ReleaseRolledBack)?.figures["to"].as_str()
}

#[test]
fn where_nobody_serves_what_did_start_is_in_force_again() {
    let mut paper = served();
    deploy(&mut paper, "2");
    paper.is_replaced();
    let last = paper.worker();
    let actions = crash(&mut paper, last);
    assert_eq!(gone_back_to(&actions), Some("1"), "{actions:?}");
    let back = record(&actions, Kind::ReleaseRolledBack).unwrap().incident.clone();
    let worker = started(&actions).unwrap_or(WorkerId::new(0, 3));
    if started(&actions).is_none() {
        paper.settle_until_a_start();
    }
    let (stage, error) = ("directory".to_owned(), "no such directory".to_owned());
    let mut actions = paper.tell(Event::SpawnFailed { worker, stage, error });
    actions.extend(paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None }));
    assert!(actions.contains(&Action::RollForward), "{actions:?}");
    let forward = record(&actions, Kind::ReleaseRolledBack).unwrap();
    assert_eq!((forward.cause.as_deref(), &forward.incident), (Some("no_way_back"), &back));
    assert!(reply(&actions).contains("does not serve in all slots"), "{actions:?}");
    if !starts(&actions) {
        paper.settle_until_a_start();
    }
    paper.becomes_ready(WorkerId::new(0, 4));
    let handled = |record: &&Record| record.reason.starts_with("handled: ");
    assert_eq!(paper.log.iter().filter(handled).count(), 1, "when somebody served again");
    let view = paper.view();
    assert_eq!(view.release.as_deref(), Some("2"), "{view:?}");
}

/// It came with a reload, and no worker of it was ever started.
#[test]
fn what_never_served_is_not_gone_back_to() {
    let mut paper = served();
    paper.is_reconfigured(settings("2"), Then::Keep, Start::Otherwise);
    deploy(&mut paper, "3");
    let actions = paper.newcomer_fails();
    assert_eq!(gone_back_to(&actions), Some("1"), "{actions:?}");
    assert!(reply(&actions).contains("1 serves again"), "{actions:?}");
}

#[test]
fn nothing_is_deployed_where_nothing_shall_run() {
    let mut paper = served();
    let worker = paper.worker();
    paper.command(Command::Drain { slot: worker.slot });
    paper.ends(worker, ExitStatus::Code(0));
    let actions = deploy(&mut paper, "2");
    assert!(reply(&actions).starts_with("no slot shall have a worker"), "{actions:?}");
    assert_eq!(paper.view().release.as_deref(), Some("1"));
}

#[test]
fn who_crashes_while_its_replacement_starts_was_replaced_for_that() {
    let mut paper = served();
    let worker = paper.worker();
    paper.command(Command::Restart { slot: None });
    crash(&mut paper, worker);
    let incidents = paper.incidents();
    assert_eq!(incidents[0].interventions, 1, "{incidents:?}");
}

#[test]
fn who_has_just_crashed_has_served() {
    let mut paper = served();
    let worker = paper.worker();
    crash(&mut paper, worker);
    paper.generation = 2;
    let actions = deploy(&mut paper, "2");
    let begun = record(&actions, Kind::DeployStarted).unwrap();
    assert!(!begun.reason.contains("no way back"), "{}", begun.reason);
}

#[test]
fn it_is_said_why_there_is_no_way_back() {
    let mut paper = served();
    let actions = paper.is_reconfigured(settings("2"), Then::Deploy, Start::Alike);
    let begun = record(&actions, Kind::DeployStarted).unwrap();
    assert!(begun.reason.ends_with("workers of before were started alike"), "{}", begun.reason);

    // From what those are that an earlier supervisor has left, a label would say.
    let mut paper = Paper::new();
    paper.is_reborn(Vec::new());
    let actions = paper.is_reconfigured(Settings::default(), Then::Deploy, Start::Alike);
    let begun = record(&actions, Kind::DeployStarted).unwrap();
    let why = "of nothing that was in force before is it known that it has served";
    assert!(begun.reason.ends_with(why), "{}", begun.reason);
}

/// What is asked of a worker until it is ready belongs to its release.
#[test]
fn workers_of_before_have_the_time_of_before_to_start() {
    let mut paper = served();
    let slow = Settings { ready_timeout: Duration::from_secs(300), ..settings("2") };
    paper.is_reconfigured(slow, Then::Deploy, Start::Otherwise);
    paper.is_replaced();
    let last = paper.worker();
    let actions = crash(&mut paper, last);
    assert!(starts(&actions), "{actions:?}");
    let begun = paper.now;
    let failed = (0..100).find_map(|_| {
        record(&paper.settle(), Kind::WorkerStartFailed).map(|failed| failed.reason.clone())
    });
    assert_eq!(failed.as_deref(), Some("was not ready within 60 s"));
    assert_eq!(paper.now.since(begun), Settings::default().ready_timeout);
}

fn limited(release: &str) -> Settings {
    let mut settings = settings(release);
    settings.memory.soft_limit_kib = Some(100_000);
    settings
}

/// Also one that was started for another reason than the deploy.
#[test]
fn a_release_whose_worker_does_not_start_in_the_proof_is_given_up() {
    let mut paper = served();
    paper.is_reconfigured(limited("2"), Then::Deploy, Start::Otherwise);
    paper.is_replaced();
    let actions = reading(&mut paper, 150_000);
    assert!(starts(&actions), "{actions:?}");
    let actions = paper.newcomer_fails();
    assert_eq!(gone_back_to(&actions), Some("1"), "{actions:?}");
}

#[test]
fn without_a_way_back_a_release_that_crashes_in_the_proof_has_failed() {
    let mut paper = served();
    paper.is_reconfigured(settings("2"), Then::Deploy, Start::Alike);
    paper.is_replaced();
    let last = paper.worker();
    let actions = crash(&mut paper, last);
    let reply = reply(&actions);
    assert!(reply.contains("does not serve in all slots"), "{reply}");
    assert!(reply.ends_with("there is no way back"), "{reply}");
}

/// The proof is of workers that serve, and begins with the last of them.
#[test]
fn a_release_has_served_for_the_time_of_its_proof() {
    let mut paper = Paper::new();
    let other = paper.gets_another();
    paper.is_reconfigured(settings("2"), Then::Deploy, Start::Alike);
    paper.is_replaced();
    // Without a way back it is a roll until all are replaced.
    let last = paper.worker();
    crash(&mut paper, last);
    let newcomer = WorkerId::new(1, 2);
    paper.becomes_ready(newcomer);
    paper.ends(other, ExitStatus::Code(0));
    let failed_at = paper.now;
    paper.now = paper.now + Duration::from_secs(8);
    paper.settle_now();
    paper.becomes_ready(WorkerId::new(0, 3));
    let done = (0..100)
        .find_map(|_| record(&paper.settle(), Kind::DeployFinished).map(|done| done.cause.clone()));
    assert_eq!(done.unwrap().as_deref(), Some("done"));
    assert!(paper.now.since(failed_at) >= Duration::from_secs(18), "{:?}", paper.now);
}

/// Its port is.
#[test]
fn what_is_gone_back_to_waits_for_the_end_of_what_was_given_up() {
    let one_port = |release: &str| {
        let mut settings = settings(release);
        settings.rolling.surge = false;
        settings.rolling.beside = false;
        settings.rolling.max_unavailable = 1;
        settings
    };
    let mut paper = Paper::with(one_port("1"));
    paper.is_reconfigured(one_port("2"), Then::Deploy, Start::Otherwise);
    let (first, second) = (paper.worker(), WorkerId::new(0, 2));
    paper.ends(first, ExitStatus::Code(0));
    // It does not become ready, and is killed.
    let mut actions = Vec::new();
    while gone_back_to(&actions).is_none() {
        actions = paper.settle();
    }
    assert!(!starts(&actions), "{actions:?}");
    let status = ExitStatus::Signal(9);
    assert!(!starts(&paper.tell(Event::Exited { worker: second, status })));
    let gone = Event::Gone { worker: second, stragglers: 0, connections_cut: None };
    assert_eq!(started(&paper.tell(gone)), Some(WorkerId::new(0, 3)));

    // Nor is the port of one that crashed free before all of it is gone.
    paper.becomes_ready(WorkerId::new(0, 3));
    let worker = WorkerId::new(0, 3);
    assert!(!starts(&paper.tell(Event::Exited { worker, status: ExitStatus::Code(1) })));
    let gone = Event::Gone { worker, stragglers: 0, connections_cut: None };
    assert_eq!(started(&paper.tell(gone)), Some(WorkerId::new(0, 4)));
}

/// The file still names the release that was given up.
#[test]
fn no_program_takes_over_in_which_a_rollback_would_be_forgotten() {
    let mut paper = served();
    deploy(&mut paper, "2");
    paper.is_replaced();
    let command = Command::Upgrade { tried: Ok("2".to_owned()) };
    let ticket = Ticket(7);
    let actions = paper.tell(Event::Command { ticket, by: "me".to_owned(), command });
    assert!(!actions.iter().any(|action| matches!(action, Action::Reply { .. })), "{actions:?}");
    let last = paper.worker();
    let actions = crash(&mut paper, last);
    assert_eq!(gone_back_to(&actions), Some("1"), "{actions:?}");
    let refused = actions.iter().find_map(|action| match action {
        Action::Reply { ticket: Ticket(7), reply: Err(why) } => Some(why.to_string()),
        _ => None,
    });
    assert!(refused.is_some_and(|why| why.contains("a rollback")), "{actions:?}");
}

#[test]
fn what_lies_in_the_same_directory_is_not_called_the_release_before() {
    let mut paper = served();
    paper.is_reconfigured(settings("2"), Then::Deploy, Start::InPlace);
    let reply = reply(&paper.newcomer_fails());
    assert!(!reply.contains("1 serves again"), "{reply}");
    assert!(reply.contains("the configuration of 1 is in force again"), "{reply}");
}

/// Where the old one goes first, those that serve wait for the slot that does not.
#[test]
fn the_way_back_begins_where_nobody_serves() {
    let old_first = |release: &str| {
        let mut settings = settings(release);
        settings.rolling.surge = false;
        settings.rolling.beside = false;
        settings.rolling.max_unavailable = 1;
        Settings { workers: 2, ..settings }
    };
    let mut paper = Paper::with(old_first("1"));
    let other = paper.gets_another();
    paper.is_reconfigured(old_first("2"), Then::Deploy, Start::Otherwise);
    let first = paper.worker();
    for (old, new) in [(first, WorkerId::new(0, 2)), (other, WorkerId::new(1, 2))] {
        paper.ends(old, ExitStatus::Code(0));
        paper.becomes_ready(new);
    }
    let actions = crash(&mut paper, WorkerId::new(1, 2));
    assert_eq!(gone_back_to(&actions), Some("1"), "{actions:?}");
    let worker = WorkerId::new(1, 3);
    assert_eq!(started(&actions), Some(worker));
    let (stage, error) = ("directory".to_owned(), "no such directory".to_owned());
    let actions = paper.tell(Event::SpawnFailed { worker, stage, error });
    assert!(actions.contains(&Action::RollForward), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Divert { .. })), "{actions:?}");
}

/// Also when it is gone, and another one is in force: what is left of it, and its incident.
#[test]
fn what_is_told_of_a_worker_is_of_its_release() {
    let mut paper = served();
    paper.answers = false;
    deploy(&mut paper, "2");
    let old = paper.worker();
    let actions = crash(&mut paper, old);
    let inquiry = inquiries(&actions).pop().expect("what is left is looked at");
    paper.becomes_ready(WorkerId::new(0, 2));
    paper.captured(inquiry);
    for kind in [Kind::WorkerCrashed, Kind::IncidentOpened, Kind::EvidenceCaptured] {
        let told = paper.log.iter().find(|record| record.kind == kind).unwrap();
        assert_eq!(told.release.as_deref(), Some("1"), "{told:?}");
    }
}
