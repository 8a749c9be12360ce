//! What no leak detector may depend on, and how often chance alone makes this one say leak.

use crate::corpus::{Label, Series, generated, run};
use crate::shapes::Rng;
use stanch::core::Sample;
use stanch::core::leak::Verdict;
use std::f64::consts::TAU;

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

/// The rate that the module states, in series.
const STATED: f64 = 0.002;

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
