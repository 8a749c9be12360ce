//! How a new worker comes into the traffic, and what a pause is not.

use crate::paper::{Paper, SLOW_START, drains, kills, limited, reading, record, starts};
use jiff::Timestamp;
use stanch::core::{
    Action, Command, Event, ExitStatus, Kind, Moment, Now, Settings, Supervisor, Ticket, Weight,
    WorkerId,
};
use std::time::Duration;

#[test]
fn a_pause_is_none_for_a_crashed_worker() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    let worker = paper.worker();
    paper.now = Moment(Duration::from_secs(3600));
    let mut actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(11) });
    actions.extend(paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None }));
    assert!(starts(&actions), "{actions:?}");
}

#[test]
fn what_a_pause_holds_back_is_written_down_once() {
    let mut paper = limited();
    paper.command(Command::Pause);
    let actions = reading(&mut paper, 210_000);
    let told = record(&actions, Kind::ActionWithheld).expect("it is said");
    assert!(told.reason.contains("would be killed and replaced"), "{}", told.reason);
    assert!(!kills(&actions));
    assert!(record(&reading(&mut paper, 211_000), Kind::ActionWithheld).is_none());
    paper.hangs();
    paper.command(Command::Resume);
    assert!(kills(&reading(&mut paper, 212_000)));
}

#[test]
fn a_newcomer_gets_its_full_part_step_by_step_and_the_old_one_stays_until_then() {
    let mut paper = Paper::warm();
    let old = paper.worker();
    paper.command(Command::Restart { slot: None });
    let new = WorkerId::new(0, 2);
    paper.tell(Event::Spawned { worker: new, pid: 101, start_ticks: 0 });
    let mut actions = paper.tell(Event::Ready { worker: new });
    let (ready, mut weights) = (paper.now, Vec::new());
    loop {
        weights.extend(actions.iter().filter_map(|action| match action {
            Action::Admit { worker, weight } if *worker == new => Some(*weight),
            _ => None,
        }));
        if drains(&actions, old) {
            break;
        }
        actions = paper.settle();
    }
    assert_eq!(paper.now.since(ready), SLOW_START);
    assert!(weights.is_sorted_by(|a, b| a < b), "{weights:?}");
    assert_eq!((weights.first(), weights.last()), (Some(&Weight::LEAST), Some(&Weight::FULL)));
    assert_eq!(weights.len(), usize::from(Weight::FULL.get()), "{weights:?}");
}

#[test]
fn when_all_are_new_nobody_spares_them() {
    let mut settings = Settings::default();
    settings.rolling.slow_start = SLOW_START;
    let mut supervisor = Supervisor::new(settings, 1);
    let now = Now { mono: Moment::default(), wall: Timestamp::UNIX_EPOCH };
    supervisor.start(now);
    let worker = WorkerId::new(0, 1);
    supervisor.handle(Event::Spawned { worker, pid: 100, start_ticks: 0 }, now);
    let actions = supervisor.handle(Event::Ready { worker }, now);
    assert!(actions.contains(&Action::Admit { worker, weight: Weight::FULL }), "{actions:?}");
}

#[test]
fn who_waits_for_slots_that_are_taken_away_again_is_told() {
    let mut paper = Paper::new();
    let mut scale = |ticket, workers| {
        let (ticket, command) = (Ticket(ticket), Command::Scale { workers });
        let actions = paper.tell(Event::Command { ticket, by: "me".into(), command });
        let mut replies: Vec<_> = Vec::new();
        for action in actions {
            if let Action::Reply { ticket, reply } = action {
                replies.push((ticket, reply.map_err(|refusal| refusal.to_string())));
            }
        }
        replies
    };
    assert_eq!(scale(1, 3), []);
    let why = "slot 2 is not wanted any more".to_owned();
    assert_eq!(scale(2, 2), [(Ticket(1), Err(why))]);
}
