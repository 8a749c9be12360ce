//! Limits, and who holds them; a host that is short of memory.

use crate::paper::{Paper, kills, limited, reading, record, starts};
use stanch::core::{Command, Event, ExitStatus, Kind, Moment, OomKiller, Sample, Settings, Ticket};
use std::time::Duration;

#[test]
fn who_nears_the_hard_limit_does_not_wait_for_the_cooldown() {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(100_000);
    settings.memory.hard_limit_kib = Some(200_000);
    settings.rolling.cooldown = Duration::from_secs(1000);
    settings.rolling.slow_start = Duration::ZERO;
    let mut paper = Paper::with(settings);
    let grown = |paper: &mut Paper, kib: u64| {
        let sample = Sample { rss_anon_kib: Some(kib), ..Sample::default() };
        let worker = paper.worker();
        starts(&paper.tell(Event::Sampled { worker, sample }))
    };
    assert!(grown(&mut paper, 110_000), "the first");
    paper.is_replaced();
    assert!(!grown(&mut paper, 110_000), "the cooldown");
    assert!(grown(&mut paper, 160_000), "nearer to the hard limit");
}

#[test]
fn a_limit_that_the_kernel_holds_is_not_held_twice() {
    let mut paper = limited();
    let worker = paper.worker();
    paper.tell(Event::LimitHeld { worker });
    let actions = reading(&mut paper, 210_000);
    assert!(!kills(&actions), "resident is not charged: {actions:?}");
    let kill = Event::OomKilled { worker, by: OomKiller::Limit, peak_kib: Some(200_000) };
    let actions = paper.tell(kill.clone());
    let oom = record(&actions, Kind::MemoryOomKilled).expect("it is told");
    assert_eq!(oom.figures["peak_kib"], 200_000);
    assert!(kills(&actions), "what the kernel left of the tree goes too");
    assert!(record(&paper.tell(kill), Kind::MemoryOomKilled).is_none(), "once");

    let mut paper = limited();
    assert!(kills(&reading(&mut paper, 210_000)), "without the kernel");
}

#[test]
fn whose_sigkill_it_was_is_told() {
    for (oom, cause) in [(true, "host_oom"), (false, "foreign_kill")] {
        let mut paper = limited();
        let worker = paper.worker();
        reading(&mut paper, 123_000);
        if oom {
            let actions =
                paper.tell(Event::OomKilled { worker, by: OomKiller::Host, peak_kib: None });
            assert!(!kills(&actions), "it may have been a child: {actions:?}");
        }
        let actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(9) });
        let crash = record(&actions, Kind::WorkerCrashed).expect("a crash");
        assert_eq!(crash.cause.as_deref(), Some(cause));
        assert_eq!(crash.figures["peak_kib"], 123_000);
    }
}

#[test]
fn a_surge_that_does_not_fit_becomes_stop_then_start() {
    for (available_kib, fits) in [(150_000, true), (90_000, false)] {
        let mut paper = limited();
        // What it has after its start is what its replacement will take.
        reading(&mut paper, 100_000);
        reading(&mut paper, 180_000);
        let available_kib = Some(available_kib);
        paper.tell(Event::HostMemory { available_kib, stalled: false });
        let command = Command::Restart { slot: None };
        let actions = paper.tell(Event::Command { ticket: Ticket(1), by: "me".into(), command });
        assert_eq!(starts(&actions), fits, "{actions:?}");
        let drain = record(&actions, Kind::DrainStarted);
        assert_eq!(drain.is_some(), !fits, "{actions:?}");
        if let Some(drain) = drain {
            assert!(drain.reason.contains("the host has 87.9 MiB"), "{}", drain.reason);
            let worker = paper.worker();
            let ended = paper.tell(Event::Exited { worker, status: ExitStatus::Code(0) });
            let gone = Event::Gone { worker, stragglers: 0, connections_cut: None };
            let ended = [ended, paper.tell(gone)].concat();
            assert!(starts(&ended), "{ended:?}");
        }
    }
}

#[test]
fn pressure_is_told_once_and_replaces_nobody_who_does_not_leak() {
    let mut paper = limited();
    reading(&mut paper, 100_000);
    let tell = |paper: &mut Paper, available, stalled| {
        let actions = paper.tell(Event::HostMemory { available_kib: Some(available), stalled });
        assert!(!starts(&actions), "{actions:?}");
        record(&actions, Kind::HostMemoryPressure).is_some()
    };
    assert!(!tell(&mut paper, 60_000, false));
    assert!(tell(&mut paper, 49_000, false), "a twentieth");
    assert!(!tell(&mut paper, 40_000, false), "once");
    assert!(!tell(&mut paper, 60_000, false), "not yet over");
    assert!(!tell(&mut paper, 40_000, false));
    assert!(!tell(&mut paper, 200_000, false), "over");
    assert!(tell(&mut paper, 200_000, true), "processes wait for memory");
}

#[test]
fn under_pressure_a_leak_does_not_wait_for_its_forecast() {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(2_000_000);
    settings.memory.host_kib = Some(4_000_000);
    settings.leak.lead_time = Duration::from_secs(1);
    let mut paper = Paper::with(settings);
    let leaks = (0..3600).any(|second| {
        paper.now = Moment(Duration::from_secs(second));
        record(&reading(&mut paper, 100_000 + second * 500), Kind::LeakConfirmed).is_some()
    });
    assert!(leaks, "a straight line is a leak");
    let short = Event::HostMemory { available_kib: Some(190_000), stalled: false };
    let actions = paper.tell(short);
    assert!(starts(&actions), "{actions:?}");
    let roll = record(&actions, Kind::RollStarted).expect("a roll");
    assert_eq!(roll.cause.as_deref(), Some("host_pressure"));
}
