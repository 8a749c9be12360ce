//! What fools detectors: growth that ends (late, close to the limit, in a straight line, by work), and
//! leaks that hide (slow ones, under ragged collections, behind a cache). Ten minutes by the second up
//! to three days by the minute.

use super::long::{Frame, Kind, record};
use super::{DAY, Leak, Rng, Trace};

const fn kind(name: &'static str, make: fn(&mut Frame) -> Option<Leak>) -> Kind {
    Kind { name, make, ambiguous: false }
}

pub const KINDS: &[Kind] = &[
    kind("trap_lru", lru),
    kind("trap_cache", cache),
    kind("trap_cache_by_work", cache_by_work),
    kind("trap_zipf", zipf),
    kind("trap_two_fills", two_fills),
    kind("trap_lazy_heap", lazy_heap),
    kind("trap_traffic", traffic),
    kind("trap_majors", majors),
    kind("trap_arenas", arenas),
    kind("trap_steps", steps),
    kind("slow_leak", slow_leak),
    kind("slow_leak_ragged", |f| {
        ragged(f);
        slow_leak(f)
    }),
    kind("slow_leak_by_work", slow_leak_by_work),
    kind("slow_leak_behind_cache", |f| {
        let (size, tau) = (f.rng.uniform(0.02, 0.2) * f.room(), f.length_s * f.rng.log(0.01, 0.08));
        f.add(move |t| size * (1.0 - (-t / tau).exp()));
        slow_leak(f)
    }),
    kind("slow_leak_late", slow_leak_late),
];

/// A trace of that kind.
pub fn make(kind: &Kind, rng: &mut Rng) -> Trace {
    let length_s = rng.log(600.0, 3.0 * DAY);
    let steps: Vec<f64> = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0]
        .into_iter()
        .filter(|step| (250.0..9000.0).contains(&(length_s / step)))
        .collect();
    let step_s = rng.pick(&steps);
    let mut f = Frame::new(rng, length_s, step_s);
    let leak = (kind.make)(&mut f);
    record(f, leak)
}

/// Distinct keys up to a bound that may be near the limit, filled within minutes.
fn lru(f: &mut Frame) -> Option<Leak> {
    let (part, full_s) = (f.rng.log(0.02, 0.8), f.rng.log(20.0, 480f64.min(f.length_s / 2.0)));
    let (size, churn) = (part * f.room(), f.rng.uniform(0.0, 0.02));
    f.about += &format!("lru {part:.2} in {full_s:.0} s; ");
    f.add(move |t| size * ((t / full_s).min(1.0) + churn * (t / 7.0).fract()));
    None
}

/// Random keys; it has flattened at the end.
fn cache(f: &mut Frame) -> Option<Leak> {
    let (part, tau) = (f.rng.uniform(0.05, 0.8), f.length_s * f.rng.log(0.03, 0.25));
    let size = part * f.room();
    f.about += &format!("cache {part:.2} by {tau:.0} s; ");
    f.add(move |t| size * (1.0 - (-t / tau).exp()));
    None
}

/// The same by requests, of which there are more and more, or fewer.
fn cache_by_work(f: &mut Frame) -> Option<Leak> {
    f.tell_work = true;
    let (part, tau) = (f.rng.uniform(0.05, 0.7), f.length_s * f.rng.log(0.03, 0.2));
    let (size, end, times) =
        (part * f.room(), f.length_s * f.rng.uniform(0.2, 0.7), f.rng.log(0.5, 4.0));
    f.about += &format!("cache {part:.2} by {tau:.0} s, work x{times:.1} until {end:.0} s; ");
    let work = move |t: f64| 1.0 + (times - 1.0) * (t / end).min(1.0);
    let done = move |t: f64| {
        let ramp = t.min(end);
        ramp + (times - 1.0) * ramp * ramp / end / 2.0 + times * (t - end).max(0.0)
    };
    f.work = Box::new(work);
    f.add(move |t| size * (1.0 - (-done(t) / tau).exp()));
    None
}

/// Keys of which some are asked often and many seldom: the fill has a tail.
fn zipf(f: &mut Frame) -> Option<Leak> {
    let (part, power) = (f.rng.uniform(0.05, 0.7), f.rng.uniform(1.0, 2.5));
    let (size, tau) = (part * f.room(), f.length_s * f.rng.log(0.01, 0.1));
    f.about += &format!("zipf {part:.2} by {tau:.0} s, {power:.1}; ");
    f.add(move |t| size * (1.0 - (1.0 + t / tau).powf(-power)));
    None
}

fn two_fills(f: &mut Frame) -> Option<Leak> {
    let (fast, slow) = (f.rng.uniform(0.02, 0.2) * f.room(), f.rng.uniform(0.05, 0.4) * f.room());
    let tau = f.length_s * f.rng.log(0.005, 0.04);
    let later = tau * f.rng.uniform(4.0, 8.0);
    f.about += &format!("fills {fast:.0} by {tau:.0} s, {slow:.0} by {later:.0} s; ");
    f.add(move |t| fast * (1.0 - (-t / tau).exp()) + slow * (1.0 - (-t / later).exp()));
    None
}

/// A runtime that compiles itself while its heap is touched for the first time.
fn lazy_heap(f: &mut Frame) -> Option<Leak> {
    let (part, full_s) = (f.rng.uniform(0.1, 0.5), f.rng.log(30.0, 600f64.min(f.length_s / 2.0)));
    let (size, costs, tau) = (part * f.room(), f.rng.uniform(5.0, 12.0), f.rng.uniform(8.0, 25.0));
    f.about += &format!("heap {part:.2} in {full_s:.0} s, told {}; ", f.tell_work);
    f.work = Box::new(move |t| 1.0 + costs * (-t / tau).exp());
    f.add(move |t| size * (t / full_s).min(1.0));
    None
}

/// More traffic, and memory for it.
fn traffic(f: &mut Frame) -> Option<Leak> {
    f.tell_work = true;
    let (from, takes) =
        (f.length_s * f.rng.uniform(0.0, 0.4), f.length_s * f.rng.uniform(0.1, 0.6));
    let times = f.rng.uniform(1.3, 4.0);
    let per_work = f.rng.uniform(0.2, 0.9) * f.base.min(0.8 * f.room() / (times - 1.0));
    f.about += &format!("traffic x{times:.1} in {takes:.0} s, {per_work:.0} MiB each; ");
    let work = move |t: f64| 1.0 + (times - 1.0) * ((t - from) / takes).clamp(0.0, 1.0);
    f.work = Box::new(work);
    f.add(move |t| per_work * (work(t) - 1.0));
    None
}

/// Collections that leave something for a rarer and larger one.
fn majors(f: &mut Frame) -> Option<Leak> {
    let minor = f.rng.log(2.0 * f.step_s, f.length_s / 80.0);
    let every = f.rng.uniform(4.0, 10.0);
    let (small, large) =
        (f.rng.uniform(0.01, 0.05) * f.room(), f.rng.uniform(0.02, 0.15) * f.room());
    f.about += &format!("teeth {small:.0} by {minor:.0} s, {large:.0} every {every:.0}; ");
    f.add(move |t| small * (t / minor).fract() + large * (t / minor / every).fract());
    None
}

/// Each arena grows once, at a time of its own.
fn arenas(f: &mut Frame) -> Option<Leak> {
    let (count, part) = (f.rng.uniform(8.0, 64.0) as usize, f.rng.uniform(0.03, 0.4));
    let tau = f.length_s * f.rng.log(0.02, 0.15);
    let size = part * f.room() / count as f64;
    let at: Vec<f64> = (0..count).map(|_| -tau * f.rng.unit().max(1e-9).ln()).collect();
    f.about += &format!("{count} arenas, {part:.2} by {tau:.0} s; ");
    f.add(move |t| size * at.iter().filter(|at| **at < t).count() as f64);
    None
}

fn steps(f: &mut Frame) -> Option<Leak> {
    for _ in 0..f.rng.pick(&[1, 2, 2, 3]) {
        let (at, size) = (f.rng.unit() * f.length_s, f.rng.uniform(0.01, 0.1) * f.room());
        f.about += &format!("step {size:.0} at {at:.0} s; ");
        f.add(move |t| if t > at { size } else { 0.0 });
    }
    None
}

/// Between three and twenty percent of the way until the end.
fn slow_leak(f: &mut Frame) -> Option<Leak> {
    let (way, room) = (f.length_s / f.rng.log(0.03, 0.2), f.room());
    // Plain, that is: well above the noise.
    f.noise = f.noise.min(room * f.length_s / way / 15.0);
    f.about += &format!("leak, way {way:.0} s; ");
    f.add(move |t| room * t / way);
    Some(Leak { start_s: 0.0, limit_s: way })
}

/// Floors that jump: collections of uneven depth.
fn ragged(f: &mut Frame) {
    let period = f.rng.log(4.0 * f.step_s, f.length_s / 12.0);
    let size = f.rng.uniform(0.005, 0.03) * f.room();
    let depths: Vec<f64> = (0..2000).map(|_| f.rng.uniform(0.0, 0.5)).collect();
    f.about += &format!("ragged {size:.0} by {period:.0} s; ");
    f.add(move |t| {
        let (k, part) = ((t / period) as usize, (t / period).fract());
        let (from, to) = (depths[k % 2000], depths[(k + 1) % 2000]);
        size * (from + (1.0 + to - from) * part)
    });
}

/// By requests, of which there are more or fewer over time.
fn slow_leak_by_work(f: &mut Frame) -> Option<Leak> {
    f.tell_work = true;
    let (end, times) = (f.length_s * f.rng.uniform(0.2, 0.9), f.rng.log(0.6, 2.0));
    let (way, room) = (f.length_s / f.rng.log(0.04, 0.3), f.room());
    f.noise = f.noise.min(room * f.length_s / way / 15.0);
    let work = move |t: f64| 1.0 + (times - 1.0) * (t / end).min(1.0);
    let done = move |t: f64| {
        let ramp = t.min(end);
        ramp + (times - 1.0) * ramp * ramp / end / 2.0 + times * (t - end).max(0.0)
    };
    f.about += &format!("leak by work x{times:.1}, way {way:.0} s; ");
    f.work = Box::new(work);
    f.add(move |t| room * done(t) / way);
    Some(Leak { start_s: 0.0, limit_s: way })
}

fn slow_leak_late(f: &mut Frame) -> Option<Leak> {
    let start = f.length_s * f.rng.uniform(0.1, 0.5);
    let (way, room) = ((f.length_s - start) / f.rng.log(0.04, 0.25), f.room());
    f.noise = f.noise.min(room * (f.length_s - start) / way / 15.0);
    f.about += &format!("leak from {start:.0}, way {way:.0} s; ");
    f.add(move |t| room * (t - start).max(0.0) / way);
    Some(Leak { start_s: start, limit_s: start + way })
}
