//! What another program knows that takes the supervisor's place, or comes after its death.

use crate::paper::{Paper, reading, record};
use stanch::core::{
    Action, Command, Event, Hold, Kind, Legacy, Moment, Past, Sample, Settings, Supervisor,
    Survivor, Ticket,
};
use std::time::Duration;

/// When a leak is confirmed whose supervisor hands over then; with or without what the store knows.
fn confirmed_at(handed_over: Option<(u64, bool)>) -> u64 {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(2_000_000);
    let mut paper = Paper::with(settings.clone());
    let mut samples = Vec::new();
    for second in 1..3600 {
        paper.now = Moment(Duration::from_secs(second));
        let growth_kib = 100_000 + second * 500;
        if record(&reading(&mut paper, growth_kib), Kind::LeakConfirmed).is_some() {
            return second;
        }
        let sample = Sample { rss_anon_kib: Some(growth_kib), ..Sample::default() };
        samples.push((Duration::from_secs(second), sample));
        if let Some((_, remembered)) = handed_over.filter(|(at, _)| *at == second) {
            paper.is_succeeded(settings.clone());
            if remembered {
                let worker = paper.worker();
                paper.tell(Event::Remembered { worker, samples: samples.clone() });
            }
        }
    }
    panic!("a straight line is a leak");
}

#[test]
fn who_hangs_does_for_the_next_program_as_well() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    let hung = paper.hangs();
    assert!(record(&hung, Kind::WorkerHung).is_some(), "{hung:?}");
    paper.is_succeeded(Settings::default());
    let worker = paper.worker();
    let well = paper.tell(Event::Probed { worker, outcome: Ok(()) });
    let ready = record(&well, Kind::WorkerReady).expect("it was hung until now");
    assert_eq!(ready.reason, "answers its probes again");
}

#[test]
fn who_hangs_does_after_the_death_of_the_supervisor_as_well() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    let hung = paper.hangs();
    let hung = record(&hung, Kind::WorkerHung).unwrap();
    let worker = paper.worker();
    let mut past = Past::default();
    past.died = true;
    let _ = past.note(hung);
    let survivor = Survivor {
        worker,
        pid: Some(100),
        start_ticks: Some(0),
        release: None,
        age: Duration::from_secs(60),
        hold: Hold::Kept,
        deaf: false,
    };
    let incidents = hung.state.iter().map(|incident| (**incident).clone()).collect();
    let legacy =
        Legacy { past: Some(past), survivors: vec![survivor], incidents, ..Legacy::default() };
    let incident = hung.incident.clone();
    paper.supervisor = Supervisor::new(Settings::default(), 1);
    let actions = paper.supervisor.recover(paper.reading(), legacy);
    let adopted = record(&actions, Kind::WorkerAdopted).unwrap();
    assert_eq!((&adopted.incident, adopted.reason.contains("serving")), (&incident, false));
    assert!(record(&actions, Kind::IncidentChanged).is_none(), "nothing was handled: {actions:?}");
    // What it says is known after the next death too.
    let mut again = Past::default();
    let _ = again.note(adopted);
    assert_eq!(again.workers[&worker].hung, incident);
}

#[test]
fn a_leak_is_seen_as_soon_when_the_supervisor_is_another_program_by_then() {
    let at = confirmed_at(None);
    let handed_over = at - 5;
    assert_eq!(confirmed_at(Some((handed_over, true))), at);
    let anew = confirmed_at(Some((handed_over, false)));
    assert!(anew > at + 10, "without its past it is seen later: {anew}, not {at}");
}

#[test]
fn what_an_outage_has_cost_is_written_before_another_program_takes_over() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    paper.hangs();
    paper.now = paper.now + Duration::from_secs(17);
    let upgrade = Command::Upgrade { tried: Ok("2".to_owned()) };
    let (ticket, by) = (Ticket(1), "me".to_owned());
    let actions = paper.tell(Event::Command { ticket, by, command: upgrade });
    let hands_over = |action: &Action| matches!(action, Action::HandOver { .. });
    let at = actions.iter().position(hands_over).unwrap();
    let written = record(&actions[..at], Kind::IncidentChanged).unwrap();
    assert_eq!(written.figures["below_capacity_ms"], 17_000);
}
