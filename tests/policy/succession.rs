//! What another program knows that takes the supervisor's place, or comes after its death.

use crate::paper::{Paper, reading, record};
use stanch::core::{
    Action, AlertRule, Command, Event, ExitStatus, Incident, Kind, Moment, Past, Record, Sample,
    Settings, Severity, Target, Ticket, Topic, Way, WorkerId,
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

/// A leak, until it is confirmed; the readings.
fn leak(paper: &mut Paper) -> Vec<(Duration, Sample)> {
    let mut samples = Vec::new();
    for second in 1..3600 {
        paper.now = Moment(Duration::from_secs(second));
        let growth_kib = 100_000 + second * 500;
        let sample = Sample { rss_anon_kib: Some(growth_kib), ..Sample::default() };
        samples.push((Duration::from_secs(second), sample));
        if record(&reading(paper, growth_kib), Kind::LeakConfirmed).is_some() {
            return samples;
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
    let well = paper.tell(Event::Probed { worker, outcome: Ok(()), answered: true });
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
    let incident = hung.incident.clone();
    let incidents = paper.incidents();
    let actions = paper.is_reborn(incidents);
    let adopted = record(&actions, Kind::WorkerAdopted).unwrap();
    assert_eq!((&adopted.incident, adopted.reason.contains("serving")), (&incident, false));
    assert!(record(&actions, Kind::IncidentChanged).is_none(), "nothing was handled: {actions:?}");
    // What it says is known after the next death too.
    let mut again = Past::default();
    let _ = again.note(adopted);
    let hung = again.workers[&worker].hung.clone().unwrap();
    assert_eq!((Some(hung.incident), hung.silent), (incident, false));
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

/// Its first event would vouch for what somebody else wrote.
#[test]
fn a_hang_goes_on_in_another_incident_when_its_own_was_altered() {
    for upgrade in [false, true] {
        let mut paper = Paper::new();
        paper.command(Command::Pause);
        let hung = paper.hangs();
        let before = record(&hung, Kind::WorkerHung).unwrap().incident.clone();
        paper.log.iter_mut().for_each(|record| record.state = None);
        let actions = match upgrade {
            true => paper.is_succeeded(Settings::default()),
            false => paper.is_reborn(Vec::new()),
        };
        let opened = record(&actions, Kind::IncidentOpened).expect("another one");
        assert!(opened.incident != before, "{opened:?}");
        assert!(paper.view().slots[0].hangs());
        let of_before = |record: &&Record| record.incident == before;
        let later: Vec<&Record> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Record(record) => Some(record),
                _ => None,
            })
            .filter(of_before)
            .collect();
        assert!(later.is_empty(), "{later:?}");
    }
}

#[test]
fn who_hung_by_its_silence_is_not_well_by_its_probes() {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.health.watchdog = Some(Duration::from_secs(20));
    let mut paper = Paper::with(settings);
    paper.command(Command::Pause);
    assert!((0..1000).any(|_| record(&paper.settle(), Kind::WorkerHung).is_some()));
    let incidents = paper.incidents();
    let worker = paper.worker();
    for _ in 0..2 {
        paper.is_reborn(incidents.clone());
        let probed = paper.tell(Event::Probed { worker, outcome: Ok(()), answered: true });
        assert!(record(&probed, Kind::WorkerReady).is_none(), "{probed:?}");
        assert!(paper.view().slots[0].hangs());
    }
}

#[test]
fn each_second_below_capacity_counts_once_over_an_upgrade() {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.restart.restarts = 1;
    let mut paper = Paper::with(settings.clone());
    paper.gets_another();
    settings.workers = 2;
    let (worker, failures) = (paper.worker(), settings.health.failures);
    let fails = |paper: &mut Paper| {
        paper.now = paper.now + Duration::from_millis(1);
        paper.tell(Event::Probed { worker, outcome: Err("500".into()), answered: false });
    };
    fails(&mut paper);
    // Meanwhile the other one is lost, and does not come up again.
    let begins = paper.now;
    for _ in 0..100 {
        let row = paper.view().slots.pop().unwrap();
        let (worker, status) = (WorkerId::new(1, row.generation), ExitStatus::Code(1));
        match row.state {
            "ready" | "starting" => {
                paper.tell(Event::Exited { worker, status });
                paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
            }
            "held" => break,
            _ => drop(paper.settle()),
        }
    }
    assert_eq!(paper.view().slots[1].state, "held");
    paper.now = paper.now + Duration::from_secs(20);
    let (ticket, by) = (Ticket(1), "me".to_owned());
    let command = Command::Upgrade { tried: Ok("2".to_owned()) };
    paper.tell(Event::Command { ticket, by, command });
    paper.is_succeeded(settings);
    for _ in 1..failures {
        fails(&mut paper);
    }
    assert!(paper.log.iter().any(|record| record.kind == Kind::WorkerHung));
    let ms = |incident: &Incident| incident.impact.get("below_capacity_ms")?.as_u64();
    let all_ms: u64 = paper.incidents().iter().filter_map(ms).sum();
    assert!(
        all_ms > 19_000 && u128::from(all_ms) <= paper.now.since(begins).as_millis(),
        "{all_ms}"
    );
}

#[test]
fn a_leak_is_still_known_to_another_program() {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(2_000_000);
    let mut paper = Paper::with(settings.clone());
    paper.command(Command::Pause);
    let samples = leak(&mut paper);
    paper.log.iter().find(|record| record.kind == Kind::LeakConfirmed).expect("it leaks");
    let mut after = paper.is_succeeded(settings);
    let worker = paper.worker();
    let (age, sample) = *samples.last().unwrap();
    paper.now = Moment(age + Duration::from_secs(1));
    // Before its past is read, and after.
    after.extend(paper.tell(Event::Sampled { worker, sample }));
    after.extend(paper.tell(Event::Remembered { worker, samples }));
    paper.now = paper.now + Duration::from_secs(1);
    after.extend(paper.tell(Event::Sampled { worker, sample }));
    for kind in [Kind::IncidentChanged, Kind::LeakConfirmed, Kind::LeakCleared] {
        assert_eq!(record(&after, kind), None);
    }
}

/// A hang is found out after some probes, and what was refused since the first counts in it.
#[test]
fn what_was_refused_is_remembered_over_an_upgrade() {
    let mut paper = Paper::new();
    let worker = paper.worker();
    paper.tell(Event::Probed { worker, outcome: Err("500".into()), answered: false });
    paper.tell(Event::ConnectionsDropped { attempts: 45 });
    paper.is_succeeded(Settings::default());
    paper.tell(Event::ConnectionsDropped { attempts: 30 });
    paper.command(Command::Pause);
    let failures = Settings::default().health.failures;
    for _ in 1..failures {
        paper.tell(Event::Probed { worker, outcome: Err("500".into()), answered: false });
    }
    assert_eq!(paper.incidents()[0].impact["connections_dropped"], 75);
}

#[test]
fn nobody_gets_more_time_for_an_acknowledgement_by_an_upgrade() {
    let target = |name: &str| Target {
        name: name.to_owned(),
        way: Way::Command(Vec::new()),
        timeout: Duration::ZERO,
    };
    let rule = AlertRule {
        severity: Severity::Minor,
        kinds: vec![Topic::Crash],
        to: vec![target("ops"), target("dev")],
        escalate_after: Duration::from_secs(600),
    };
    let settings = Settings { alerts: vec![rule], ..Settings::default() };
    let mut paper = Paper::with(settings.clone());
    let began = paper.now;
    // Healthy for so long that it is started again at once.
    paper.now = paper.now + settings.restart.within;
    paper.ends(paper.worker(), ExitStatus::Code(1));
    paper.generation += 1;
    paper.becomes_ready(paper.worker());
    let told = |actions: &[Action], name: &str| {
        actions.iter().any(|action| matches!(action, Action::Alert(alert) if alert.id.to == name))
    };
    let told_at = loop {
        assert!(paper.now.since(began) < Duration::from_secs(3600), "never");
        paper.now = paper.now + Duration::from_secs(100);
        let actions = paper.settle_now();
        if told(&actions, "dev") {
            break paper.now;
        }
        paper.is_succeeded(settings.clone());
    };
    assert!(told_at.since(began) <= Duration::from_secs(770), "{told_at:?}");
}
