//! From a suspicion to a replacement, in a world without accidents.

use crate::calm::{Calm, Curve, uses};
use stanch::core::{
    Bounds, Command, Event, IncidentState, Kind, LeakAction, Sample, Settings, Severity, Ticket,
    WorkerId,
};
use std::f64::consts::TAU;
use std::time::Duration;

const MIB: f64 = 1024.0;
const HOUR: f64 = 3600.0;

fn settings(workers: u32, limit_mib: u64) -> Settings {
    let mut settings = Settings { workers, ..Settings::default() };
    settings.memory.soft_limit_kib = Some(limit_mib * 1024);
    settings.leak.lead_time = Duration::from_secs(300);
    settings
}

/// All alike: 100 MiB and so many MiB an hour more, under steady work.
fn leak(mib_an_hour: f64) -> Curve {
    Box::new(move |_, age_s, _| uses(100.0 * MIB + mib_an_hour * MIB * age_s / HOUR, age_s, 50.0))
}

fn figure(record: &stanch::core::Record, key: &str) -> f64 {
    record.figures[key].as_f64().unwrap_or_else(|| panic!("no {key} in {record:?}"))
}

#[test]
fn leaking_workers_are_spread_over_the_time_that_there_is() {
    // Full after four hours, all at the same minute.
    let mut calm = Calm::new(settings(4, 500), 5, leak(100.0));
    calm.run_until(9.0 * HOUR);
    let confirmed = calm.of(Kind::LeakConfirmed);
    let went = calm.went();
    assert!(confirmed[3].0 < HOUR * 1.5, "{confirmed:?}");
    // None before its leak was known, none at the limit, and not all at once.
    assert!(went[0] > confirmed[3].0 && went[3] < 4.0 * HOUR - 300.0 + 20.0, "{went:?}");
    for pair in went[..8].windows(2) {
        assert!(pair[1] - pair[0] > 0.2 * HOUR, "{went:?}");
    }
    assert!(calm.of(Kind::MemorySoftLimit).is_empty());
}

#[test]
fn urgent_ones_go_at_once_and_one_by_one() {
    // Full after some six minutes: no more than the lead time when it is confirmed.
    let mut calm = Calm::new(settings(4, 500), 1, leak(4000.0));
    calm.run_until(400.0);
    let confirmed: Vec<f64> = calm.of(Kind::LeakConfirmed).iter().map(|(at, _)| *at).collect();
    let went = calm.went();
    let cooldown_s = Settings::default().rolling.cooldown.as_secs_f64();
    assert!(went[0] - confirmed[0] < 5.0, "{confirmed:?} {went:?}");
    assert!(went[3] - confirmed[3] < 4.0 * (cooldown_s + 5.0), "{confirmed:?} {went:?}");
    assert!(went.windows(2).all(|pair| pair[1] - pair[0] >= cooldown_s), "{went:?}");
}

#[test]
fn a_quiet_moment_is_taken() {
    // Busy by day, nearly idle around 04:00; full after three days.
    let ticks =
        |t_s: f64| 50.0 * t_s - 45.0 / TAU * 24.0 * HOUR * (TAU * (t_s / HOUR - 4.0) / 24.0).sin();
    let curve: Curve = Box::new(move |_, age_s, t_s| Sample {
        cpu_ticks: Some((ticks(t_s) - ticks(t_s - age_s)).max(0.0) as u64),
        ..uses(100.0 * MIB + 6.0 * MIB * age_s / HOUR, age_s, 0.0)
    });
    let mut calm = Calm::new(settings(2, 532), 30, curve);
    calm.run_until(73.0 * HOUR);
    let went = calm.went();
    assert!(went.len() >= 2, "{went:?}");
    for at in &went[..2] {
        let hour = at / HOUR % 24.0;
        assert!((0.9..=7.2).contains(&hour), "at {hour}: {:?}", calm.of(Kind::DrainStarted));
        assert!(*at > 24.0 * HOUR, "not before a day of it is left: {went:?}");
    }
    let reason = &calm.of(Kind::DrainStarted)[0].1.reason;
    assert!(reason.ends_with("a quiet moment"), "{reason}");
}

#[test]
fn the_window_of_the_operator_is_waited_for() {
    let mut settings = settings(3, 500);
    settings.leak.quiet_window = "22:00-23:00".parse().ok();
    let mut calm = Calm::new(settings, 30, leak(15.0));
    calm.run_until(26.0 * HOUR);
    let hours: Vec<f64> = calm.went().iter().map(|at| at / HOUR).collect();
    assert_eq!(hours.len(), 3, "{hours:?}");
    assert!(hours.iter().all(|hour| (22.0..23.0).contains(hour)), "{hours:?}");
    assert!(hours.windows(2).all(|pair| pair[1] - pair[0] > 0.1), "{hours:?}");
}

#[test]
fn nothing_is_replaced_where_only_an_alert_is_wanted() {
    let mut settings = settings(2, 500);
    settings.leak.action = LeakAction::Alert;
    let mut calm = Calm::new(settings, 5, leak(100.0));
    calm.run_until(3.8 * HOUR);
    assert_eq!(calm.of(Kind::LeakConfirmed).len(), 2);
    assert!(calm.went().is_empty());
}

#[test]
fn a_release_that_is_known_to_leak_is_confirmed_sooner() {
    let mut calm = Calm::new(settings(3, 500), 5, leak(100.0));
    calm.run_until(12.0 * HOUR);
    let age = |generation: u64| {
        let mut ages: Vec<f64> = calm
            .of(Kind::LeakConfirmed)
            .iter()
            .filter(|(_, record)| record.generation.unwrap().0 == generation)
            .map(|(_, record)| figure(record, "age_s"))
            .collect();
        ages.sort_by(f64::total_cmp);
        *ages
            .last()
            .unwrap_or_else(|| panic!("none of {generation}: {:?}", calm.of(Kind::LeakConfirmed)))
    };
    assert!(age(2) < age(1), "{} and then {}", age(1), age(2));
    let vouched =
        calm.of(Kind::LeakConfirmed).into_iter().find(|(_, r)| r.generation.unwrap().0 == 2);
    let reason = &vouched.unwrap().1.reason;
    assert!(reason.contains("of this release leak like it"), "{reason}");
}

#[test]
fn healthy_workers_that_climb_together_do_not_vouch_for_each_other() {
    // A cache that fills in a straight line, as suspicious as can be without being taken for a leak, and
    // later a surge; the workers differ by some percent.
    let fills: Curve = Box::new(|worker, age_s, t_s| {
        let own = 1.0 + 0.03 * f64::from(worker.slot.0);
        let cache = 100.0 * (age_s / 360.0).min(1.0);
        let surge = if (3.0..3.5).contains(&(t_s / HOUR)) { 30.0 } else { 0.0 };
        uses(MIB * (100.0 + own * cache + surge), age_s, 50.0)
    });
    let mut calm = Calm::new(settings(6, 1024), 5, fills);
    calm.run_until(12.0 * HOUR);
    assert!(calm.of(Kind::LeakConfirmed).is_empty(), "{:?}", calm.of(Kind::LeakConfirmed));
    let suspected = calm.of(Kind::LeakSuspected).len();
    assert!((3..=6).contains(&suspected), "a majority, and each once: {suspected}");
    assert!(calm.of(Kind::LeakCleared).len() <= 6);
    // The others grow as well, be they not suspect yet.
    assert!(!calm.of(Kind::LeakSuspected)[0].1.reason.contains("it alone"));
    assert!(calm.went().is_empty());
}

/// A cache of 40% of the way that fills in a straight line: nobody can tell it from a leak, the first time. From
/// that hour on what it holds grows, by so many MiB an hour.
fn fills(since_h: f64, mib_an_hour: f64) -> Curve {
    Box::new(move |worker, age_s, t_s| {
        let own = 1.0 + 0.03 * f64::from(worker.slot.0);
        let grows_h = (t_s / HOUR - since_h).clamp(0.0, age_s / HOUR);
        let cache = own * 160.0 * (age_s / 1500.0).min(1.0);
        uses(MIB * (100.0 + cache + mib_an_hour * grows_h), age_s, 50.0)
    })
}

fn roll(calm: &mut Calm) {
    let command = Command::Restart { slot: None };
    calm.tell(Event::Command { ticket: Ticket(1), by: "me".to_owned(), command });
}

#[test]
fn a_climb_that_ended_in_one_worker_is_no_leak_in_the_others() {
    let mut calm = Calm::new(settings(4, 500), 5, fills(0.0, 0.0));
    calm.run_until(2.0 * HOUR);
    let taken = calm.of(Kind::LeakConfirmed).len();
    assert!((4..=6).contains(&taken), "{:?}", calm.of(Kind::LeakConfirmed));
    // Deployed, and anew.
    for hours in [4.0, 6.0] {
        roll(&mut calm);
        calm.run_until(hours * HOUR);
    }
    assert_eq!(calm.of(Kind::LeakConfirmed).len(), taken, "{:?}", calm.of(Kind::LeakConfirmed));
    let suspected = calm.of(Kind::LeakSuspected);
    let reason = &suspected.last().unwrap().1.reason;
    assert!(
        reason.contains("; the climb of worker ") && reason.ends_with(" was like this, and ended"),
        "{reason}"
    );
}

#[test]
fn what_goes_on_where_a_climb_had_ended_is_a_leak() {
    let mut calm = Calm::new(settings(1, 500), 5, fills(2.0, 60.0));
    calm.run_until(2.0 * HOUR);
    assert_eq!(calm.of(Kind::LeakConfirmed).len(), 1);
    calm.run_until(7.0 * HOUR);
    let confirmed = calm.of(Kind::LeakConfirmed);
    assert!(confirmed[1].0 < 3.0 * HOUR, "{confirmed:?}");
    // From there on nobody waits for an end that does not come.
    let second = confirmed.iter().find(|(_, record)| record.generation.unwrap().0 == 2).unwrap();
    assert!(figure(&second.1, "growth_kib") < 200.0 * MIB, "{confirmed:?}");
    assert!(calm.of(Kind::MemorySoftLimit).is_empty());
}

#[test]
fn where_there_is_no_time_to_see_a_climb_end_it_is_a_leak() {
    // What ended at 300 MiB in the first worker of the slot goes on in the next one, six times as fast.
    let fast: Curve = Box::new(|worker, age_s, _| {
        let (times, most) = if worker.generation.0 == 1 { (1.0, 1.0) } else { (6.0, 3.0) };
        uses(MIB * (100.0 + 200.0 * (times * age_s / 3000.0).min(most)), age_s, 50.0)
    });
    let mut settings = settings(1, 500);
    settings.leak.lead_time = Duration::from_secs(900);
    let mut calm = Calm::new(settings, 1, fast);
    calm.run_until(2.0 * HOUR);
    assert_eq!(calm.of(Kind::LeakConfirmed).len(), 1);
    assert!(calm.went().is_empty());
    roll(&mut calm);
    calm.run_until(2.5 * HOUR);
    let confirmed = calm.of(Kind::LeakConfirmed);
    let level = figure(&confirmed[1].1, "growth_kib");
    assert!(level < 300.0 * MIB, "before it is where the first ended: {:?}", confirmed[1]);
    assert!(calm.of(Kind::MemorySoftLimit).is_empty());
}

#[test]
fn one_that_grows_alone_is_said_to_be_alone() {
    let alone: Curve = Box::new(|worker, age_s, _| {
        let leaks = if worker == WorkerId::new(2, 1) { 200.0 } else { 0.0 };
        uses(100.0 * MIB + leaks * MIB * age_s / HOUR, age_s, 50.0)
    });
    let mut calm = Calm::new(settings(4, 500), 5, alone);
    calm.run_until(1.5 * HOUR);
    let confirmed = calm.of(Kind::LeakConfirmed);
    assert_eq!(confirmed.len(), 1);
    let reason = &confirmed[0].1.reason;
    assert!(reason.ends_with("; it alone of 4 workers grows"), "{reason}");
    assert!(calm.of(Kind::LeakSuspected).len() <= 1);

    let mut calm = Calm::new(settings(4, 500), 5, leak(200.0));
    calm.run_until(1.5 * HOUR);
    let reason = &calm.of(Kind::LeakConfirmed)[3].1.reason;
    assert!(reason.contains("; 4 of 4 workers grow"), "{reason}");
}

#[test]
fn a_restart_that_did_not_help_is_told_in_figures() {
    let mut calm = Calm::new(settings(1, 500), 5, leak(100.0));
    calm.run_until(7.5 * HOUR);
    let confirmed = calm.of(Kind::LeakConfirmed);
    let [(_, first), (_, second)] = confirmed[..] else { panic!("{:#?}", calm.records) };
    assert!(first.figures.get("slope_before_kib_s").is_none(), "{first:?}");
    assert!((figure(second, "slope_before_kib_s") / 28.4 - 1.0).abs() < 0.1, "{second:?}");
    assert!(
        second.reason.contains("the restart did not help: 1.7 MiB/min before it, 1.7 MiB/min now"),
        "{}",
        second.reason
    );
    // 400 MiB at 100 MiB an hour; a replacement takes 3 s, and the cooldown 10 s.
    assert!((figure(second, "replace_every_s") / (4.0 * HOUR) - 1.0).abs() < 0.1, "{second:?}");
    assert!((12.0..15.0).contains(&figure(second, "replacement_s")), "{second:?}");
    assert!(second.figures["held_for_s"].is_null(), "{second:?}");
    let incident = calm.incidents.values().next().unwrap();
    assert!(incident.seen.ends_with("it can go on for ever"), "{}", incident.summary);
    assert!(calm.of(Kind::LeakUnsustainable).is_empty());
}

#[test]
fn a_leak_that_grows_with_each_generation_is_escalated_before_it_is_lost() {
    // Each generation is half as steep again.
    let growing: Curve = Box::new(|worker, age_s, _| {
        let mib_an_hour = 600.0 * 1.5_f64.powi(worker.generation.0 as i32 - 1);
        uses(100.0 * MIB + mib_an_hour * MIB * age_s / HOUR, age_s, 50.0)
    });
    let mut calm = Calm::new(settings(2, 500), 1, growing);
    calm.run_until(1.35 * HOUR);
    let told = calm.of(Kind::LeakUnsustainable);
    assert_eq!(told.len(), 1, "{told:?}");
    let (at, record) = told[0];
    assert!(figure(record, "held_for_s") > 0.0, "before it fails: {record:?}");
    assert!((figure(record, "slope_growth") - 1.5).abs() < 0.15, "{record:?}");
    assert!((0.1..1.0).contains(&figure(record, "busy_part")), "{record:?}");
    let lost = calm.of(Kind::MemorySoftLimit);
    assert!(lost.first().is_none_or(|(lost, _)| lost > at), "told at {at}, lost at {lost:?}");
    let incident = calm.incidents.values().next().unwrap();
    assert_eq!(incident.severity, Severity::Critical);
    assert_ne!(incident.state, IncidentState::Resolved, "the next one leaks as well");
}

#[test]
fn descriptors_climb_the_same_ladder() {
    let fds: Curve = Box::new(|_, age_s, _| Sample {
        fds: Some(20 + (age_s / 5.0) as u64),
        ..uses(100.0 * MIB, age_s, 50.0)
    });
    let mut calm = Calm::new(settings(1, 500), 5, fds);
    let bounds = Bounds { fds: Some(1024), tasks: None };
    calm.tell(Event::Bounds { worker: WorkerId::new(0, 1), bounds });
    calm.run_until(1.4 * HOUR);
    let confirmed = calm.of(Kind::LeakConfirmed);
    let (at, record) = confirmed[0];
    // The limit is reached after 5,020 s.
    assert!(*at < 0.4 * 5020.0, "{confirmed:?}");
    assert_eq!(record.cause.as_deref(), Some("fds"));
    assert!(record.reason.starts_with("fds: grows 12 descriptors/min"), "{}", record.reason);
    assert!(
        record.reason.contains("; limit at 01:2") && record.reason.contains(", of 1024"),
        "{}",
        record.reason
    );
    assert!((figure(record, "slope_per_s") - 0.2).abs() < 0.01, "{record:?}");
    let went = calm.went();
    assert!(went[0] <= 5020.0 - 290.0, "{went:?}");
    assert!(
        calm.incidents
            .values()
            .next()
            .unwrap()
            .summary
            .starts_with("worker 0 leaked fds (seen last: ")
    );
}
