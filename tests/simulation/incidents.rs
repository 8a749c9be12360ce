//! What an incident says of a matter, and what it counts.

use crate::calm::{Calm, uses};
use stanch::core::{
    Command, Event, ExitStatus, Generation, Incident, IncidentState, Kind, Makeup, OomKiller,
    Settings, Severity, Slot, Ticket, WorkerId,
};

fn only(calm: &Calm) -> &Incident {
    assert_eq!(calm.incidents.len(), 1, "{:?}", calm.incidents);
    calm.incidents.values().next().unwrap()
}

fn impact(incident: &Incident, key: &str) -> Option<u64> {
    incident.impact.get(key)?.as_u64()
}

#[test]
fn a_worker_killed_at_its_limit_counts_once() {
    let mut settings = Settings { workers: 2, ..Settings::default() };
    settings.memory.hard_limit_kib = Some(200 * 1024);
    let mut calm = Calm::new(settings, 5, Box::new(|_, age_s, _| uses(1024.0, age_s, 1.0)));
    calm.run_until(60.0);
    let worker = WorkerId::new(0, 1);
    let by = OomKiller::Limit;
    calm.tell(Event::OomKilled { worker, by, peak_kib: Some(204_800) });
    calm.run_until(120.0);
    let incident = only(&calm);
    assert_eq!(calm.of(Kind::WorkerStarted).len(), 3);
    assert_eq!(incident.interventions, 1, "{incident:?}");
    assert_eq!(impact(incident, "workers_killed"), Some(1));
    // From the kill until the next worker was ready.
    let below = impact(incident, "below_capacity_ms").unwrap();
    assert!((2_000..10_000).contains(&below), "{incident:?}");
}

#[test]
fn probes_that_failed_count_from_the_first_one_on() {
    let settings = Settings { workers: 2, ..Settings::default() };
    let failures = settings.health.failures;
    let mut calm = Calm::new(settings, 5, Box::new(|_, age_s, _| uses(1024.0, age_s, 1.0)));
    for nth in 0..failures {
        calm.run_until(60.0 + 5.0 * f64::from(nth));
        let worker = WorkerId::new(1, 1);
        calm.tell(Event::Probed { worker, outcome: Err("no answer".into()), answered: false });
    }
    let incident = only(&calm);
    assert_eq!(impact(incident, "probes_failed"), Some(failures.into()));
    let hung = &calm.of(Kind::WorkerHung)[0].1;
    let failing_s = 5 * u64::from(failures - 1);
    assert_eq!(hung.figures["failing_s"], failing_s as f64);
    // That it does not serve is known now, and was so since then.
    calm.run_until(120.0);
    let ready = calm.of(Kind::WorkerReady).last().unwrap().0;
    let below_ms = ((ready - 60.0) * 1000.0) as u64;
    let told = impact(only(&calm), "below_capacity_ms").unwrap();
    assert!(told.abs_diff(below_ms) <= 2 && told > 1000 * failing_s, "{told} of {below_ms} ms");
}

#[test]
fn a_leak_says_what_did_not_change_and_tells_where_it_stands_now() {
    let mut settings = Settings { workers: 2, ..Settings::default() };
    settings.memory.soft_limit_kib = Some(500 * 1024);
    let grows = |_, age_s: f64, _| uses(102_400.0 + 50.0 * age_s, age_s, 50.0);
    let mut calm = Calm::new(settings, 5, Box::new(grows));
    let part = |text: &str| Some(text.to_owned());
    let first = Makeup { configuration: part("c"), program: part("p"), ..Makeup::default() };
    calm.tell(Event::MadeOf { worker: WorkerId::new(0, 1), makeup: first.clone() });
    calm.run_until(300.0);
    let second = Makeup { program: part("q"), ..first };
    calm.tell(Event::MadeOf { worker: WorkerId::new(1, 1), makeup: second });
    calm.run_until(4.0 * 3600.0);
    let confirmed = calm.of(Kind::LeakConfirmed);
    assert!(confirmed.len() > 2, "{confirmed:?}");
    let (said, record) = confirmed[0];
    // Not since it was seen, but since it grows.
    let growing_s = record.figures["growing_s"].as_f64().unwrap();
    assert!(growing_s > 100.0 && growing_s <= *said, "{growing_s} of {said}");
    // Should it have to be killed, something is known of it.
    let suspected = &calm.of(Kind::LeakSuspected)[0].1;
    assert_eq!(Some(calm.looks[0].slot), suspected.slot);
    assert!(*said > 300.0, "{said}");
    // Hashed late, it counts from the start of its worker.
    let midnight = "configuration and program are unchanged since 2027-01-15 00:00Z";
    assert!(record.reason.ends_with(midnight), "{}", record.reason);
    assert_eq!(record.figures["program_since"], "2027-01-15T00:00:00.000Z");
    assert!(!record.figures.contains_key("host_since"));
    assert!(!confirmed[1].1.reason.contains("unchanged"), "{}", confirmed[1].1.reason);
    let incident = only(&calm);
    let summary = &incident.summary;
    // The first words are in the log, the present ones in the summary.
    let first = &calm.of(Kind::IncidentOpened)[0].1.reason;
    assert!(first.contains(&format!("worker {} leaks", record.slot.unwrap())), "{first}");
    let (_, newest) = confirmed.last().unwrap();
    let start = format!("worker {} leaks memory: {}", newest.slot.unwrap(), newest.reason);
    assert!(summary.starts_with(&start), "{start}\n{summary}");
    let drained = calm.of(Kind::DrainStarted);
    let last = &drained.last().unwrap().1;
    let end = format!(
        "; {} interventions, the last in slot {} at {:.0}",
        drained.len(),
        last.slot.unwrap(),
        last.at
    );
    assert!(summary.ends_with(&end), "{end}\n{summary}");
}

/// A worker crashes, its replacements do not come up, the slot is held: one matter.
#[test]
fn a_crash_that_becomes_a_loop_is_one_incident() {
    let settings = Settings { workers: 2, ..Settings::default() };
    let failures = settings.restart.restarts;
    let mut calm = Calm::new(settings, 5, Box::new(|_, age_s, _| uses(1024.0, age_s, 1.0)));
    calm.run_until(60.0);
    let exit = |calm: &mut Calm, generation| {
        calm.crash(WorkerId::new(0, generation), ExitStatus::Code(1));
    };
    exit(&mut calm, 1);
    assert_eq!((only(&calm).kind.as_str(), only(&calm).severity), ("crash", Severity::Minor));
    for generation in 2.. {
        // It ends before it is ready, as soon as it was started.
        let started = |calm: &Calm| calm.of(Kind::WorkerStarted).len() as u64;
        let mut now = 60.0;
        while started(&calm) < generation + 1 && calm.of(Kind::WorkerHeld).is_empty() {
            now += 0.5;
            calm.run_until(now);
            assert!(now < 1000.0, "no start");
        }
        if !calm.of(Kind::WorkerHeld).is_empty() {
            break;
        }
        exit(&mut calm, generation);
    }
    let incident = only(&calm);
    assert_eq!((incident.kind.as_str(), incident.severity), ("crash_loop", Severity::Critical));
    assert_eq!(incident.interventions, u64::from(failures), "{incident:?}");
    assert!(incident.summary.contains("slot 0 is held"), "{}", incident.summary);
    assert_eq!(calm.of(Kind::IncidentOpened).len(), 1);
    let causes: Vec<_> = calm
        .of(Kind::IncidentChanged)
        .iter()
        .filter(|(_, record)| record.cause.as_deref() == Some("worse"))
        .map(|(_, record)| record.figures["kind"].clone())
        .collect();
    assert_eq!(causes, ["start_failure", "crash_loop"]);
    // What it costs counts while it lasts.
    let below_ms = |calm: &Calm| impact(only(calm), "below_capacity_ms").unwrap_or_default();
    let held_at = calm.of(Kind::WorkerHeld)[0].0;
    for minutes in 1..5 {
        calm.run_until(held_at + 60.0 * f64::from(minutes) + 25.0);
        let told = below_ms(&calm);
        assert!(told >= 60_000 * (minutes as u64 - 1) && told > 0, "{minutes} min: {told} ms");
    }
}

/// What an operator asked for, and what came of it.
#[test]
fn a_refusal_is_in_the_log() {
    let mut calm =
        Calm::new(Settings::default(), 5, Box::new(|_, age_s, _| uses(1024.0, age_s, 1.0)));
    calm.run_until(60.0);
    let command = Command::Acknowledge { incident: "1999".into(), by: None };
    calm.tell(Event::Command { ticket: Ticket(1), by: "uid 7".into(), command });
    let said = calm.of(Kind::OperatorCommand);
    let said: Vec<_> =
        said.iter().map(|(_, record)| (record.cause.as_deref(), record.reason.as_str())).collect();
    let refused = "uid 7 asked: acknowledge 1999; refused: no incident 1999 is open here; \
                   `stanch incidents list` names all that were";
    assert_eq!(said, [(None, "uid 7 asked: acknowledge 1999"), (Some("refused"), refused)]);
}

/// Two workers, the first of which has crashed once and is well again.
fn one_crash() -> Calm {
    let mut settings = Settings { workers: 2, ..Settings::default() };
    settings.rolling.surge = false;
    settings.rolling.max_unavailable = 1;
    settings.memory.hard_limit_kib = Some(200 * 1024);
    let mut calm = Calm::new(settings, 5, Box::new(|_, age_s, _| uses(1024.0, age_s, 1.0)));
    calm.run_until(60.0);
    calm.crash(WorkerId::new(0, 1), ExitStatus::Signal(11));
    calm.run_until(90.0);
    let incident = only(&calm);
    assert_eq!(incident.state, IncidentState::Mitigated);
    assert_eq!(impact(incident, "below_capacity_ms"), Some(2000), "{incident:?}");
    calm
}

#[test]
fn what_an_operator_takes_away_is_no_part_of_an_incident() {
    let mut calm = one_crash();
    let before = only(&calm).clone();
    let command = Command::Restart { slot: Some(Slot(0)) };
    calm.tell(Event::Command { ticket: Ticket(1), by: "uid 7".into(), command });
    calm.tell(Event::ConnectionsDropped { attempts: 5 });
    calm.run_until(91.0);
    calm.tell(Event::ConnectionsDropped { attempts: 5 });
    calm.run_until(300.0);
    assert_eq!(calm.of(Kind::RollFinished).len(), 1);
    assert_eq!(*only(&calm), before);
}

#[test]
fn each_outage_counts_in_the_incident_that_it_is_of() {
    let mut calm = one_crash();
    let crash = only(&calm).clone();
    // The same slot, for another reason.
    let worker = WorkerId::new(0, 2);
    calm.tell(Event::OomKilled { worker, by: OomKiller::Limit, peak_kib: Some(204_800) });
    calm.tell(Event::ConnectionsDropped { attempts: 3 });
    calm.run_until(120.0);
    // While both last the second belongs to the one that began first.
    calm.crash(WorkerId::new(1, 1), ExitStatus::Signal(11));
    calm.run_until(121.0);
    let worker = WorkerId::new(0, 3);
    calm.tell(Event::OomKilled { worker, by: OomKiller::Limit, peak_kib: Some(204_800) });
    calm.run_until(300.0);
    assert_eq!(calm.incidents.len(), 2, "{:?}", calm.incidents);
    let now = &calm.incidents[&crash.id];
    let limit = calm.incidents.values().find(|incident| incident.id != crash.id).unwrap();
    assert_eq!(limit.kind, "memory_limit");
    let below = |incident| impact(incident, "below_capacity_ms");
    let ready_at = |generation| {
        let ready = calm.of(Kind::WorkerReady).into_iter().find(|(_, record)| {
            (record.slot, record.generation) == (Some(Slot(0)), Some(Generation(generation)))
        });
        ready.unwrap_or_else(|| panic!("worker 0.{generation} was never ready")).0
    };
    // The second time from the end of the other outage on.
    let of_limit_s = (ready_at(3) - 90.0) + (ready_at(4) - 122.0);
    let of_limit_ms = (of_limit_s * 1000.0).floor() as u64;
    assert_eq!(below(now), Some(4000));
    assert!(below(limit).is_some_and(|ms| ms.abs_diff(of_limit_ms) <= 2), "{limit:?}");
    assert_eq!(impact(limit, "connections_dropped"), Some(3));
    assert_eq!(impact(now, "connections_dropped"), None);
    let reopened = calm.of(Kind::IncidentChanged);
    let reopened = reopened.iter().filter(|(_, record)| record.cause.as_deref() == Some("open"));
    assert_eq!(reopened.count(), 0, "an incident does not go on for another one");
}

/// What is refused before a hang is found out is the hang's, what is told late the outage's before.
#[test]
fn what_was_refused_is_counted_where_the_reason_is() {
    let mut calm = one_crash();
    let crash = only(&calm).id.clone();
    calm.tell(Event::ConnectionsDropped { attempts: 100 });
    let worker = WorkerId::new(1, 1);
    for _ in 0..Settings::default().health.failures {
        calm.run_until(calm.seconds() + 5.0);
        calm.tell(Event::Probed { worker, outcome: Err("no answer".into()), answered: false });
        calm.tell(Event::ConnectionsDropped { attempts: 10 });
    }
    calm.run_until(calm.seconds() + 30.0);
    let failures = u64::from(Settings::default().health.failures);
    let hang = calm.incidents.values().find(|incident| incident.kind == "hang").unwrap();
    assert_eq!(impact(hang, "connections_dropped"), Some(10 * failures), "{hang:?}");
    calm.crash(WorkerId::new(0, 2), ExitStatus::Signal(11));
    calm.run_until(calm.seconds() + 2.5);
    calm.tell(Event::ConnectionsDropped { attempts: 1 });
    calm.run_until(calm.seconds() + 30.0);
    assert_eq!(impact(&calm.incidents[&crash], "connections_dropped"), Some(1));
}
