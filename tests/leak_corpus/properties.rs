//! What no leak detector may depend on, and how often chance alone makes this one say leak.

use crate::corpus::{Label, Series, generated, run, run_from};
use crate::shapes::Rng;
use stanch::core::leak::Verdict;
use stanch::core::{Moment, Sample};
use std::f64::consts::TAU;
use std::time::Duration;

/// When the detector first said leak, and what it said at the end.
fn verdicts(series: &Series) -> (Option<f64>, Verdict) {
    let run = run(series);
    (run.first.map(|(t_s, _)| t_s), run.last.verdict)
}

/// One series of each shape that is not too long.
fn some() -> impl Iterator<Item = Series> {
    generated::series(77, 1).filter(|series| series.samples.len() < 6000)
}

/// All memory of a sample in one column, changed.
fn map(series: &mut Series, change: impl Fn(u64) -> u64) {
    for (_, sample) in &mut series.samples {
        let level = sample.growth_kib();
        (sample.rss_kib, sample.vm_swap_kib, sample.rss_shmem_kib) = (None, None, None);
        sample.rss_anon_kib = level.map(&change);
    }
}

#[test]
fn a_constant_on_memory_and_limit_changes_nothing() {
    for mut series in some() {
        // Load may explain memory in proportion to all of it, so this is for what load is not told of.
        series.samples.iter_mut().for_each(|(_, sample)| {
            (sample.load_rps, sample.cpu_ticks) = (None, None);
        });
        map(&mut series, |kib| kib);
        let before = verdicts(&series);
        map(&mut series, |kib| kib + 300 * 1024);
        series.limit_kib += 300 * 1024;
        assert_eq!(verdicts(&series), before, "{}: {}", series.name, series.about);
    }
}

#[test]
fn a_factor_on_memory_and_limit_changes_nothing() {
    for mut series in some() {
        map(&mut series, |kib| kib);
        let before = verdicts(&series);
        map(&mut series, |kib| kib * 8);
        series.limit_kib *= 8;
        assert_eq!(verdicts(&series), before, "{}: {}", series.name, series.about);
    }
}

#[test]
fn another_origin_of_time_changes_nothing() {
    for series in some() {
        let before = run(&series);
        for born_s in [0.3, 86_400.0 * 11.0 + 0.007, 1.7e9] {
            let born = Moment(Duration::from_secs_f64(born_s));
            let after = run_from(born, &series);
            let first = |run: &crate::corpus::Run| {
                run.first.map(|(t_s, judgement)| (t_s, judgement.slope_per_s, judgement.eta))
            };
            assert_eq!(first(&after), first(&before), "{}: {}", series.name, series.about);
            assert_eq!(after.last.verdict, before.last.verdict, "{}", series.name);
        }
    }
}

/// Nothing for a while, thrice, and a clock that is set forward once and back twice.
fn disturb(series: &mut Series, rng: &mut Rng) {
    let length_s = series.seconds();
    for _ in 0..3 {
        let from = rng.uniform(0.0, length_s);
        let to = from + length_s * rng.log(0.002, 0.08);
        series.samples.retain(|(t_s, _)| !(from..to).contains(t_s));
    }
    for step_s in [rng.log(0.001, 0.1), -rng.log(0.001, 0.02), -rng.log(0.001, 0.02)] {
        let at = rng.uniform(0.0, length_s);
        let from = series.samples.partition_point(|(t_s, _)| *t_s < at);
        for (t_s, _) in &mut series.samples[from..] {
            *t_s = (*t_s + step_s * length_s).max(0.0);
        }
    }
}

#[test]
fn gaps_and_steps_of_the_clock_mislead_nobody() {
    let mut rng = Rng::new(78);
    let (mut alarms, mut leaks, mut found) = ((0, 0), 0, 0);
    for mut series in generated::series(78, 2).filter(|series| series.samples.len() < 6000) {
        let (before, _) = verdicts(&series);
        disturb(&mut series, &mut rng);
        let (after, _) = verdicts(&series);
        match series.label {
            Label::Healthy => {
                alarms.0 += u32::from(before.is_some());
                alarms.1 += u32::from(after.is_some());
            }
            // What is found without all that is found with it, but for a few.
            Label::Leak { .. } if before.is_some() => {
                leaks += 1;
                found += u32::from(after.is_some());
            }
            Label::Leak { .. } | Label::Ambiguous => {}
        }
    }
    println!("{found} of {leaks} leaks, false alarms {alarms:?}");
    assert!(alarms.1 <= alarms.0 + 1, "{alarms:?}");
    assert!(f64::from(found) >= 0.95 * f64::from(leaks), "{found} of {leaks}");
}

/// A bounded stationary series of one of five sorts, its band up to 30% of the way to the limit.
fn stationary(rng: &mut Rng) -> Series {
    let (count, step_s) = (rng.uniform(300.0, 1200.0) as usize, rng.log(0.25, 60.0));
    let band = rng.log(0.005, 0.3);
    let kind = rng.pick(&[0, 1, 2, 3, 4]);
    let (memory, pace, period) =
        (rng.uniform(0.0, 0.98), rng.log(0.005, 0.3), rng.log(3.0, count as f64 / 4.0));
    let mut at = rng.unit();
    let samples = (0..count).map(|n| {
        let unit = match kind {
            // Noise that remembers.
            0 => {
                let fresh = (1.0 - memory * memory).sqrt() * 0.2 * rng.normal();
                at = memory * (at - 0.5) + fresh + 0.5;
                at.clamp(0.0, 1.0)
            }
            // A walk, reflected.
            1 => {
                at = (at + pace * rng.normal()).abs();
                at = 1.0 - (1.0 - at.min(2.0)).abs();
                at
            }
            // Teeth.
            2 => (n as f64 / period + at).fract(),
            // Waves in noise.
            3 => 0.5 + 0.4 * (n as f64 / period * TAU).sin() + 0.03 * rng.normal(),
            // Two states.
            _ => {
                if rng.unit() < 1.0 / period {
                    at = 1.0 - at;
                }
                at + 0.05 * rng.normal()
            }
        };
        let kib = (100.0 + 400.0 * band * unit.clamp(0.0, 1.0)) * 1024.0;
        (n as f64 * step_s, Sample { rss_anon_kib: Some(kib as u64), ..Sample::default() })
    });
    Series {
        samples: samples.collect(),
        name: ["memory", "walk", "teeth", "waves", "states"][kind].to_owned(),
        about: format!(
            "{count} by {step_s:.2} s, band {band:.3}, {memory:.2} {pace:.3} {period:.0}"
        ),
        label: Label::Healthy,
        limit_kib: 500 * 1024,
        warm_up_s: 60.0,
    }
}

/// The rate that the module states, in series. Most of it is the first tooth of a long sawtooth: a
/// straight climb, until it falls.
const STATED: f64 = 0.009;

#[test]
fn chance_makes_no_more_leaks_than_is_stated() {
    let count = 10_000;
    let alarms = |from: u64, to: u64| {
        (from..to)
            .filter(|k| {
                let series = stationary(&mut Rng::new(4_000_000 + k));
                let (at, _) = verdicts(&series);
                if at.is_some() && std::env::var_os("STANCH_CORPUS_VERBOSE").is_some() {
                    println!("{} {}: {at:?}", series.name, series.about);
                }
                at.is_some()
            })
            .count()
    };
    let (first, second) = std::thread::scope(|scope| {
        let half = scope.spawn(|| alarms(0, count / 2));
        (alarms(count / 2, count), half.join().unwrap())
    });
    let found = (first + second) as f64;
    println!("{found} of {count} series");
    // Three standard errors of that rate.
    let expected = STATED * count as f64;
    assert!(found <= expected + 3.0 * expected.sqrt(), "{found}, {expected} expected");
}
