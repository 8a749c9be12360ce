//! Who else is told of a worker, and when.

use crate::paper::{Paper, drains, record, told_to_stop};
use jiff::Timestamp;
use stanch::core::hooks::{Call, Hook};
use stanch::core::reload::{Start, Then};
use stanch::core::{
    Action, Command, Event, ExitStatus, Kind, Moment, Now, Settings, Slot, Supervisor, WorkerId,
};
use std::time::Duration;

/// The hooks that are to be run.
fn calls(actions: &[Action]) -> Vec<Call> {
    let call = |action: &Action| match action {
        Action::RunHook(call) => Some(call.clone()),
        _ => None,
    };
    actions.iter().filter_map(call).collect()
}

fn hooked() -> Paper {
    let mut settings = Settings::default();
    settings.hooks.set = Hook::ALL.to_vec();
    settings.rolling.slow_start = Duration::ZERO;
    Paper::with(settings)
}

impl Paper {
    fn hook_ends(&mut self, worker: WorkerId, hook: Hook) -> Vec<Action> {
        self.tell(Event::HookEnded { worker, hook, outcome: Ok(()) })
    }
}

#[test]
fn a_newcomer_is_announced_before_the_old_one_drains_and_that_is_told_before_the_stop_signal() {
    let mut paper = hooked();
    paper.hook_ends(paper.worker(), Hook::Ready);
    let (old, new) = (paper.worker(), WorkerId::new(0, 2));
    paper.command(Command::Restart { slot: None });
    paper.tell(Event::Spawned { worker: new, pid: 100, start_ticks: 0 });
    let actions = paper.tell(Event::Ready { worker: new });
    assert_eq!(calls(&actions)[0].hook, Hook::Ready);
    assert!(!drains(&actions, old), "{actions:?}");
    let actions = paper.hook_ends(new, Hook::Ready);
    assert!(drains(&actions, old), "{actions:?}");
    assert_eq!((calls(&actions)[0].worker, calls(&actions)[0].hook), (old, Hook::Drain));
    assert!(!paper.stops(old, 0, 0, 0));
    let actions = paper.hook_ends(old, Hook::Drain);
    assert!(told_to_stop(&actions, old), "{actions:?}");
    paper.tell(Event::Exited { worker: old, status: ExitStatus::Code(0) });
    let gone = Event::Gone { worker: old, stragglers: 0, connections_cut: None };
    let farewell = &calls(&paper.tell(gone))[0];
    assert_eq!((farewell.worker, farewell.hook, farewell.pid), (old, Hook::Retired, Some(100)));
}

#[test]
fn a_hook_without_an_end_keeps_nobody() {
    let mut paper = hooked();
    paper.hook_ends(paper.worker(), Hook::Ready);
    let old = paper.worker();
    let before = paper.now;
    paper.command(Command::Drain { slot: Slot(0) });
    paper.stops(old, 0, 0, 0);
    let (mut failed, mut told) = (None, false);
    while !told {
        let actions = paper.settle();
        failed = record(&actions, Kind::HookFailed).cloned().or(failed);
        told = told_to_stop(&actions, old);
    }
    let timeout = Settings::default().hooks.timeout;
    assert_eq!(paper.now.since(before), timeout + Duration::from_secs(1));
    let failed = failed.expect("it is written down");
    assert_eq!((failed.slot, failed.cause.as_deref()), (Some(old.slot), Some("on_drain")));
}

#[test]
fn what_fails_is_of_the_release_of_the_worker_that_is_gone() {
    let release = |label: &str| {
        let mut settings = Settings { release: Some(label.to_owned()), ..Settings::default() };
        settings.hooks.set = vec![Hook::Retired];
        settings.rolling.slow_start = Duration::ZERO;
        settings
    };
    let mut paper = Paper::with(release("1"));
    let worker = paper.worker();
    paper.is_reconfigured(release("2"), Then::Deploy, Start::Otherwise);
    paper.is_replaced();
    let outcome = Err("ended with exit code 1".to_owned());
    let actions = paper.tell(Event::HookEnded { worker, hook: Hook::Retired, outcome });
    let failed = record(&actions, Kind::HookFailed).unwrap();
    assert_eq!((failed.release.as_deref(), failed.pid), (Some("1"), Some(100)), "{failed:?}");
}

#[test]
fn the_end_waits_for_farewells_unless_it_is_told_twice() {
    for twice in [false, true] {
        let mut paper = hooked();
        let worker = paper.worker();
        paper.hook_ends(worker, Hook::Ready);
        paper.command(Command::Stop);
        if twice {
            paper.command(Command::Stop);
        } else {
            paper.hook_ends(worker, Hook::Drain);
        }
        paper.ends(worker, ExitStatus::Code(0));
        assert_eq!(paper.supervisor.is_finished(), twice);
        paper.hook_ends(worker, Hook::Retired);
        assert!(paper.supervisor.is_finished());
    }
}

#[test]
fn a_worker_that_was_never_ready_is_announced_to_nobody() {
    let mut settings = Settings::default();
    settings.hooks.set = Hook::ALL.to_vec();
    let mut supervisor = Supervisor::new(settings, 1);
    let now = Now { mono: Moment::default(), wall: Timestamp::from_second(1_800_000_000).unwrap() };
    let mut actions = supervisor.start(now);
    let worker = WorkerId::new(0, 1);
    for event in [
        Event::Spawned { worker, pid: 100, start_ticks: 0 },
        Event::Exited { worker, status: ExitStatus::Code(1) },
        Event::Gone { worker, stragglers: 0, connections_cut: None },
    ] {
        actions.extend(supervisor.handle(event, now));
    }
    assert_eq!(calls(&actions), []);
}
