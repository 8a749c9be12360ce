//! Three days by ten seconds: what servers do all day, with leaks of half a MiB to five an hour under it.

use super::long::{Frame, Kind, record};
use super::{DAY, Leak, Rng, Trace};
use std::f64::consts::TAU;

const HOUR: f64 = 3600.0;

const fn kind(name: &'static str, make: fn(&mut Frame) -> Option<Leak>) -> Kind {
    Kind { name, make, ambiguous: false }
}

pub const KINDS: &[Kind] = &[
    kind("days_rhythm", |f| {
        rhythm(f, true);
        None
    }),
    kind("days_rhythm_untold", |f| {
        rhythm(f, false);
        None
    }),
    kind("days_cache", |f| {
        cache(f, 0.6);
        None
    }),
    kind("days_cache_rhythm", |f| {
        rhythm(f, true);
        cache(f, 0.3);
        None
    }),
    kind("days_fill", fill),
    kind("days_fragments", fragments),
    kind("days_teeth", |f| {
        teeth(f);
        None
    }),
    kind("days_restarts", |f| {
        restarts(f, 0.0);
        None
    }),
    kind("days_steps", steps),
    kind("days_leak", leak),
    kind("days_leak_rhythm", |f| {
        rhythm(f, true);
        leak(f)
    }),
    kind("days_leak_rhythm_untold", |f| {
        rhythm(f, false);
        leak(f)
    }),
    kind("days_leak_cache", |f| {
        cache(f, 0.15);
        leak(f)
    }),
    kind("days_leak_teeth", |f| {
        teeth(f);
        leak(f)
    }),
    kind("days_leak_late", leak_late),
    kind("days_leak_restarts", |f| {
        let rate = rate(f);
        restarts(f, rate);
        Some(Leak { start_s: 0.0, limit_s: f.room() / rate })
    }),
    kind("days_leak_by_work", leak_by_work),
];

/// A trace of that kind.
pub fn make(kind: &Kind, rng: &mut Rng) -> Trace {
    let mut f = Frame::new(rng, 3.0 * DAY, 10.0);
    let leak = (kind.make)(&mut f);
    record(f, leak)
}

/// MiB a second; within three days it uses a tenth of the way or more.
fn rate(f: &mut Frame) -> f64 {
    f.rng.log(0.5, 5.0).max(0.1 * f.room() / 72.0) / HOUR
}

/// Work by the hour of the day, and no two days the same.
fn hours(f: &mut Frame) -> impl Fn(f64) -> f64 + Clone + 'static {
    let (night, phase) = (f.rng.uniform(0.15, 0.7), f.rng.unit());
    let days: Vec<f64> = (0..5).map(|_| f.rng.uniform(0.8, 1.1)).collect();
    move |t| {
        let day = t / DAY + phase;
        let high = days[day as usize];
        night + (high - night) * (0.5 - 0.5 * (day * TAU).cos()).powf(1.3)
    }
}

fn rhythm(f: &mut Frame, told: bool) {
    f.tell_work = told;
    let load = hours(f);
    // Some hold more than in proportion to the work of the moment: they lag.
    let (size, lag) = (f.rng.uniform(0.1, 0.8) * f.base.min(0.4 * f.room()), f.rng.log(1.0, HOUR));
    f.about += &format!("rhythm {size:.0}, told {told}; ");
    f.work = Box::new(load.clone());
    f.add(move |t| size * load((t - lag).max(0.0)));
}

fn cache(f: &mut Frame, most: f64) {
    let (size, tau) = (f.rng.log(0.03, most) * f.room(), f.rng.log(0.3, 10.0) * HOUR);
    f.about += &format!("cache {:.2} by {:.1} h; ", size / f.room(), tau / HOUR);
    f.add(move |t| size * (1.0 - (-t / tau).exp()));
}

/// Distinct keys, a straight line to the bound.
fn fill(f: &mut Frame) -> Option<Leak> {
    let (size, full_s) = (f.rng.log(0.01, 0.15) * f.room(), f.rng.log(0.1, 12.0) * HOUR);
    f.about += &format!("fill {:.2} in {:.1} h; ", size / f.room(), full_s / HOUR);
    f.add(move |t| size * (t / full_s).min(1.0));
    None
}

/// An allocator that fragments ever more slowly.
fn fragments(f: &mut Frame) -> Option<Leak> {
    let (size, tau) = (f.rng.uniform(0.01, 0.04) * f.room(), f.rng.log(0.02, 1.0) * HOUR);
    f.about += &format!("fragments {size:.0} by {tau:.0} s; ");
    f.add(move |t| size * (1.0 + t / tau).ln());
    None
}

/// Collections of minutes that leave something to those of hours.
fn teeth(f: &mut Frame) {
    let (minor, major) = (f.rng.log(20.0, 600.0), f.rng.log(0.7, 8.0) * HOUR);
    let small = f.rng.uniform(0.005, 0.05) * f.room();
    let large = f.rng.uniform(0.01, 0.08) * f.room();
    let deep: Vec<f64> = (0..200).map(|_| f.rng.uniform(0.7, 1.0)).collect();
    f.about += &format!("teeth {small:.0}, {large:.0} by {:.1} h; ", major / HOUR);
    f.add(move |t| {
        let tooth = (t / major) as usize % 200;
        small * (t / minor).fract() + large * deep[tooth] * (t / major).fract()
    });
}

/// Deployments: what was there is gone, and fills anew.
fn restarts(f: &mut Frame, rate: f64) {
    let (size, tau) = (f.rng.uniform(0.02, 0.15) * f.room(), f.rng.log(60.0, 1800.0));
    let mut times = vec![0.0];
    for _ in 0..f.rng.pick(&[1, 2, 3]) {
        times.push(f.rng.uniform(0.1, 0.9) * f.length_s);
    }
    f.about += &format!("{} restarts; ", times.len() - 1);
    f.restarts = times[1..].to_vec();
    f.add(move |t| {
        let since = times.iter().filter(|at| **at <= t).fold(f64::INFINITY, |s, at| s.min(t - at));
        size * (1.0 - (-since / tau).exp()) + rate * since
    });
}

fn steps(f: &mut Frame) -> Option<Leak> {
    for _ in 0..f.rng.pick(&[2, 3, 4]) {
        let (at, size) = (f.rng.unit() * f.length_s, f.rng.log(0.005, 0.08) * f.room());
        let ramp = f.rng.log(1.0, 1800.0);
        f.add(move |t| size * ((t - at) / ramp).clamp(0.0, 1.0));
    }
    None
}

fn leak(f: &mut Frame) -> Option<Leak> {
    let rate = rate(f);
    f.about += &format!("leak {:.1} MiB/h; ", rate * HOUR);
    f.add(move |t| rate * t);
    Some(Leak { start_s: 0.0, limit_s: f.room() / rate })
}

fn leak_late(f: &mut Frame) -> Option<Leak> {
    let (start_s, rate) = (f.rng.uniform(12.0, 40.0) * HOUR, 2.0 * rate(f));
    f.about += &format!("leak {:.1} MiB/h from {:.0} h; ", rate * HOUR, start_s / HOUR);
    f.add(move |t| rate * (t - start_s).max(0.0));
    Some(Leak { start_s, limit_s: start_s + f.room() / rate })
}

fn leak_by_work(f: &mut Frame) -> Option<Leak> {
    f.tell_work = true;
    let (load, rate) = (hours(f), 1.5 * rate(f));
    let step = 600.0;
    let mut done = vec![0.0];
    for k in 0..=(f.length_s / step) as usize {
        done.push(done[k] + rate * step * load(k as f64 * step));
    }
    let mean = done[done.len() - 2] / f.length_s;
    f.about += &format!("leak {:.1} MiB/h by work; ", mean * HOUR);
    f.work = Box::new(load);
    f.add(move |t| {
        let place = t / step;
        let from = done[place as usize];
        from + (done[place as usize + 1] - from) * place.fract()
    });
    Some(Leak { start_s: 0.0, limit_s: f.room() / mean })
}
