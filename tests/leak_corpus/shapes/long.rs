//! Traces as a monitor keeps them: twenty minutes by the second, 72 hours by ten seconds, weeks by the
//! minute; with columns missing, gaps, and samples that come when they come. Built from parts that add
//! up, otherwise than the shapes of the module above, so that neither's habits are learned.

use super::{DAY, Leak, Rng, Trace};
use stanch::core::Sample;
use std::f64::consts::TAU;

/// A part of the level at a time, in MiB.
type Part = Box<dyn Fn(f64) -> f64>;

/// What a worker of this kind does.
pub struct Kind {
    pub name: &'static str,
    pub make: fn(&mut Frame) -> Option<Leak>,
    /// Nobody could say at its end.
    pub ambiguous: bool,
}

const fn kind(name: &'static str, make: fn(&mut Frame) -> Option<Leak>) -> Kind {
    Kind { name, make, ambiguous: false }
}

pub const KINDS: &[Kind] = &[
    kind("long_idle", |_| None),
    kind("long_collected", collected),
    kind("long_warm_up", warm_up),
    kind("long_cache", cache),
    kind("long_lru", lru),
    kind("long_first_touch", first_touch),
    kind("long_heap_steps", heap_steps),
    kind("long_rhythm", rhythm),
    kind("long_rhythm_lags", rhythm_lags),
    kind("long_nightly_job", nightly_job),
    kind("long_reloads", reloads),
    kind("long_page_cache", page_cache),
    kind("long_surge", surge),
    kind("long_walk", walk),
    Kind { name: "long_unfinished", make: unfinished, ambiguous: true },
    kind("long_leak", leak),
    kind("long_leak_warm", |f| {
        warm_up(f);
        leak(f)
    }),
    kind("long_leak_collected", |f| {
        collected(f);
        leak(f)
    }),
    kind("long_leak_rhythm", |f| {
        rhythm(f);
        leak(f)
    }),
    kind("long_leak_by_work", leak_by_work),
    kind("long_leak_late", leak_late),
    kind("long_leak_steps", leak_steps),
    kind("long_leak_faster", leak_faster),
    kind("long_leak_walk", |f| {
        walk(f);
        leak(f)
    }),
];

pub struct Frame<'a> {
    pub rng: &'a mut Rng,
    pub length_s: f64,
    pub step_s: f64,
    pub base: f64,
    limit: f64,
    pub noise: f64,
    parts: Vec<Part>,
    /// 1 is the mean rate.
    pub work: Part,
    /// File pages, which only a resident total includes.
    file: Part,
    pub tell_work: bool,
    /// When the server was started anew: its CPU time begins at nothing.
    pub restarts: Vec<f64>,
    pub about: String,
}

impl<'a> Frame<'a> {
    pub fn new(rng: &'a mut Rng, length_s: f64, step_s: f64) -> Self {
        let base = rng.log(15.0, 250.0);
        let limit = base + rng.log(100.0, 2000.0);
        Frame {
            length_s,
            step_s,
            base,
            limit,
            noise: rng.log(0.02, 2.0),
            parts: Vec::new(),
            work: Box::new(|_| 1.0),
            file: Box::new(|_| 8.0),
            tell_work: rng.unit() < 0.6,
            restarts: Vec::new(),
            about: String::new(),
            rng,
        }
    }

    pub fn room(&self) -> f64 {
        self.limit - self.base
    }

    pub fn add(&mut self, part: impl Fn(f64) -> f64 + 'static) {
        self.parts.push(Box::new(part));
    }
}

/// A trace of that kind.
pub fn make(kind: &Kind, rng: &mut Rng) -> Trace {
    let (length_s, step_s) = match rng.pick(&[0, 0, 1, 1, 2]) {
        0 => (rng.log(1200.0, 6.0 * 3600.0), rng.pick(&[1.0, 2.0, 5.0])),
        1 => (3.0 * DAY, 10.0),
        _ => (rng.uniform(7.0, 21.0) * DAY, 60.0),
    };
    let mut f = Frame::new(rng, length_s, step_s);
    let leak = (kind.make)(&mut f);
    record(f, leak)
}

/// The samples that a monitor would have of it.
pub fn record(f: Frame, leak: Option<Leak>) -> Trace {
    let Frame { rng, length_s, step_s, base, limit, noise, parts, work, file, .. } = f;
    let Frame { tell_work, restarts, about, .. } = f;
    let (rps, cost, by_cpu) = (rng.log(5.0, 500.0), rng.log(0.05, 0.4), rng.unit() < 0.6);
    let only_total = rng.unit() < 0.3 && file(length_s) < 9.0; // it tells page cache from memory
    let uneven = rng.unit() < 0.3;
    let hole = (rng.uniform(0.2, 0.9) * length_s, rng.log(60.0, 0.05 * length_s));
    let holed = rng.unit() < 0.3;
    let (mut t, mut ticks, mut slow) = (0.0, 0.0, 0.0);
    let mut samples = Vec::new();
    while t < length_s {
        let done = work(t);
        slow = 0.95 * slow + 0.3 * noise * rng.normal();
        let boot = 1.0 - 0.9 * f64::exp(-t / 2.0);
        let level: f64 = base * boot + parts.iter().map(|part| part(t)).sum::<f64>();
        let anon = ((level + slow + 0.5 * noise * rng.normal()).max(1.0) * 1024.0) as u64;
        let rate = (rps * done / step_s).max(0.0).sqrt() * rng.normal() + rps * done;
        ticks += step_s * rate.max(0.0) * cost;
        if restarts.iter().any(|at| (t..t + step_s).contains(at)) {
            ticks = 0.0;
        }
        let away = holed && (hole.0..hole.0 + hole.1).contains(&t);
        if !away {
            samples.push((
                t,
                Sample {
                    rss_kib: Some(anon + (file(t) * 1024.0) as u64),
                    rss_anon_kib: (!only_total).then_some(anon),
                    cpu_ticks: (tell_work && by_cpu).then_some(ticks as u64),
                    load_rps: (tell_work && !by_cpu).then_some(rate.max(0.0)),
                    ..Sample::default()
                },
            ));
        }
        t += if uneven { step_s * rng.uniform(0.3, 3.0) } else { step_s };
    }
    Trace {
        about: format!(
            "{length_s:.0} s by {step_s} s, {base:.0} of {limit:.0} MiB, noise {noise:.2}, work told {tell_work}; {about}"
        ),
        samples,
        limit_mib: limit,
        warm_up_s: 60.0,
        leak,
    }
}

/// A heap that is collected: small teeth, now and then a large one.
fn collected(f: &mut Frame) -> Option<Leak> {
    let minor = f.rng.log(5.0, 120.0);
    let (small, large) = (f.rng.uniform(2.0, 0.05 * f.room()), f.rng.uniform(2.0, 0.06 * f.room()));
    let every = f.rng.uniform(5.0, 30.0);
    f.add(move |t| small * (t / minor).fract() + large * (t / minor / every).fract());
    None
}

fn warm_up(f: &mut Frame) -> Option<Leak> {
    let (size, tau) = (f.rng.uniform(0.02, 0.25) * f.room(), f.rng.log(10.0, 300.0));
    f.about += &format!("warm-up {size:.0} by {tau:.0} s; ");
    f.add(move |t| size * (1.0 - (-t / tau).exp()));
    None
}

/// Fills ever more slowly, and has flattened long before the end.
fn cache(f: &mut Frame) -> Option<Leak> {
    let (size, tau) = (f.rng.uniform(0.05, 0.6) * f.room(), f.length_s * f.rng.log(0.01, 0.2));
    f.about += &format!("cache {:.2} by {tau:.0} s; ", size / f.room());
    f.add(move |t| size * (1.0 - (-t / tau).exp()));
    None
}

/// Still fills at the end.
fn unfinished(f: &mut Frame) -> Option<Leak> {
    let (size, tau) = (f.rng.uniform(0.2, 0.8) * f.room(), f.length_s * f.rng.log(0.5, 1.5));
    f.about += &format!("cache {:.2} by {tau:.0} s; ", size / f.room());
    f.add(move |t| size * (1.0 - (-t / tau).exp()));
    None
}

/// Distinct keys: a straight line to a bound that takes little of the way, or little time.
fn lru(f: &mut Frame) -> Option<Leak> {
    let size = f.rng.uniform(0.01, 0.08) * f.room();
    let full_s = f.rng.log(30.0, f.length_s / 4.0);
    f.about += &format!("lru {:.2} in {full_s:.0} s; ", size / f.room());
    f.add(move |t| size * (t / full_s).min(1.0));
    None
}

/// A young generation that is touched for the first time; the runtime compiles itself meanwhile.
fn first_touch(f: &mut Frame) -> Option<Leak> {
    let size = f.rng.uniform(0.05, 0.25) * f.room();
    let full_s = f.rng.log(30.0, 240.0);
    f.work = Box::new(|t| 1.0 + 8.0 * (-t / 15.0).exp());
    f.about += &format!("touched {:.2} in {full_s:.0} s; ", size / f.room());
    f.add(move |t| size * (t / full_s).min(1.0));
    None
}

/// A heap that is enlarged by ever rarer steps up to its maximum.
fn heap_steps(f: &mut Frame) -> Option<Leak> {
    let size = f.rng.uniform(0.1, 0.6) * f.room();
    let first = f.rng.log(20.0, f.length_s / 60.0);
    f.about += &format!("steps to {:.2} from {first:.0} s; ", size / f.room());
    f.add(move |t| size * ((t / first).max(1.0).log2().floor() / 5.0).min(1.0));
    None
}

fn day(f: &mut Frame) -> (f64, f64, f64) {
    f.tell_work = true;
    let (night, phase) = (f.rng.uniform(0.2, 0.6), f.rng.unit());
    // Short traces see a short day.
    let period = if f.length_s < DAY { f.length_s / f.rng.uniform(1.5, 4.0) } else { DAY };
    (night, phase, period)
}

fn load(t: f64, (night, phase, period): (f64, f64, f64)) -> f64 {
    night + (1.0 - night) * (0.5 - 0.5 * ((t / period + phase) * TAU).cos())
}

/// Memory by the connections held: follows the load of the day.
fn rhythm(f: &mut Frame) -> Option<Leak> {
    let day = day(f);
    let size = f.rng.uniform(0.2, 0.9) * f.base.min(0.5 * f.room());
    f.about += &format!("rhythm {size:.0} by {:.0} s; ", day.2);
    f.work = Box::new(move |t| load(t, day));
    f.add(move |t| size * load(t, day));
    None
}

/// The same, some time after the load.
fn rhythm_lags(f: &mut Frame) -> Option<Leak> {
    let day = day(f);
    let (size, lag) = (f.rng.uniform(0.1, 0.6) * f.base.min(0.3 * f.room()), 0.03 * day.2);
    f.about += &format!("rhythm {size:.0} by {:.0} s; ", day.2);
    f.work = Box::new(move |t| load(t, day));
    f.add(move |t| size * load(t - lag, day));
    None
}

/// Twenty minutes a night, and the allocator keeps a part of the first.
fn nightly_job(f: &mut Frame) -> Option<Leak> {
    let period = if f.length_s < 2.0 * DAY { f.length_s / 3.0 } else { DAY };
    let (size, kept) = (f.rng.uniform(0.1, 0.5) * f.room(), f.rng.uniform(0.0, 0.3));
    let at = f.rng.unit();
    f.add(move |t| {
        let days = t / period + at;
        let busy = days.fract() > 0.986;
        let first = (1.0 - at) * period;
        size * if busy {
            1.0
        } else if t > first {
            kept
        } else {
            0.0
        }
    });
    None
}

fn reloads(f: &mut Frame) -> Option<Leak> {
    for _ in 0..3 {
        let (at, size) = (f.rng.unit() * f.length_s, f.rng.uniform(0.01, 0.12) * f.room());
        f.add(move |t| if t > at { size } else { 0.0 });
    }
    None
}

fn page_cache(f: &mut Frame) -> Option<Leak> {
    let (length, room) = (f.length_s, f.room());
    f.file = Box::new(move |t| 8.0 + 0.6 * room * t / length);
    f.about += "page cache; ";
    None
}

fn surge(f: &mut Frame) -> Option<Leak> {
    f.tell_work = true;
    let (from, takes) = (f.length_s * f.rng.uniform(0.1, 0.6), f.length_s * f.rng.log(0.01, 0.3));
    let (times, size) = (f.rng.uniform(1.5, 5.0), f.rng.uniform(0.1, 0.5) * f.base);
    let up = move |t: f64| {
        let edge = 0.05 * takes;
        ((t - from) / edge).clamp(0.0, 1.0) - ((t - from - takes) / edge).clamp(0.0, 1.0)
    };
    f.about += &format!("surge x{times:.1}; ");
    f.work = Box::new(move |t| 1.0 + (times - 1.0) * up(t));
    f.add(move |t| size * up(t));
    None
}

/// A walk between bounds.
fn walk(f: &mut Frame) -> Option<Leak> {
    let size = f.rng.uniform(0.01, 0.06) * f.room();
    let cell = f.length_s / 2000.0;
    let pace = f.rng.log(0.02, 0.3);
    let mut at = 0.5;
    let places: Vec<f64> = (0..2002)
        .map(|_| {
            at = (at + pace * f.rng.normal()).abs();
            at = 1.0 - (1.0 - at.min(2.0)).abs();
            at
        })
        .collect();
    f.add(move |t| size * places[((t / cell) as usize).min(2001)]);
    None
}

/// Until the end it uses between an eighth of the way and all of it.
fn leak(f: &mut Frame) -> Option<Leak> {
    let way = f.length_s * f.rng.log(0.7, 8.0);
    let room = f.room();
    f.about += &format!("leak, way {way:.0} s; ");
    f.add(move |t| room * t / way);
    Some(Leak { start_s: 0.0, limit_s: way })
}

fn leak_by_work(f: &mut Frame) -> Option<Leak> {
    let day = day(f);
    let (night, phase, period) = day;
    let way = f.length_s * f.rng.log(0.7, 4.0);
    let room = f.room();
    f.work = Box::new(move |t| load(t, day));
    let mean = (1.0 + night) / 2.0;
    let sum = move |t: f64| {
        let turn = |t: f64| ((t / period + phase) * TAU).sin() * period / TAU;
        mean * t - (1.0 - night) / 2.0 * (turn(t) - turn(0.0))
    };
    f.about += &format!("leak by work, way {way:.0} s; ");
    f.add(move |t| room * sum(t) / mean / way);
    Some(Leak { start_s: 0.0, limit_s: way })
}

fn leak_late(f: &mut Frame) -> Option<Leak> {
    let start = f.length_s * f.rng.uniform(0.15, 0.6);
    let way = (f.length_s - start) * f.rng.log(0.7, 6.0);
    let room = f.room();
    f.about += &format!("leak from {start:.0}, way {way:.0} s; ");
    f.add(move |t| room * (t - start).max(0.0) / way);
    Some(Leak { start_s: start, limit_s: start + way })
}

/// Arenas: every so often one more.
fn leak_steps(f: &mut Frame) -> Option<Leak> {
    let way = f.length_s * f.rng.log(0.7, 3.0);
    let (room, steps) = (f.room(), f.rng.log(20.0, 200.0));
    f.about += &format!("leak by {steps:.0} steps, way {way:.0} s; ");
    f.add(move |t| room * (t / way * steps).floor() / steps);
    Some(Leak { start_s: 0.0, limit_s: way })
}

fn leak_faster(f: &mut Frame) -> Option<Leak> {
    let way = f.length_s * f.rng.log(0.7, 2.0);
    let (room, power) = (f.room(), f.rng.uniform(1.3, 2.5));
    f.about += &format!("leak, power {power:.1}, way {way:.0} s; ");
    f.add(move |t| room * (t / way).powf(power));
    Some(Leak { start_s: 0.0, limit_s: way })
}
