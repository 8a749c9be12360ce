//! Generators of memory traces: healthy shapes and leaks, with random parameters.
//!
//! Nothing here looks at the detector. Levels are in MiB, times in seconds.

pub mod days;
pub mod long;
pub mod traps;

use stanch::core::Sample;
use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea, Flood 2014): the same corpus from the same seed, everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub fn log(&mut self, low: f64, high: f64) -> f64 {
        (self.uniform(low.ln(), high.ln())).exp()
    }

    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().max(1e-12).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}

/// When the leak begins and when it reaches the limit (past the end of the trace, perhaps).
#[derive(Clone, Copy, Debug)]
pub struct Leak {
    pub start_s: f64,
    pub limit_s: f64,
}

/// A generated trace.
pub struct Trace {
    pub samples: Vec<(f64, Sample)>,
    pub limit_mib: f64,
    pub warm_up_s: f64,
    pub leak: Option<Leak>,
    pub about: String,
}

/// A generator.
pub struct Shape {
    pub name: &'static str,
    make: fn(&mut World) -> Plan,
}

impl Shape {
    pub fn make(&self, rng: &mut Rng) -> Trace {
        let mut world = World::new(rng);
        let plan = (self.make)(&mut world);
        world.trace(plan)
    }

    pub const ALL: &'static [Shape] = &[
        // Healthy.
        Shape { name: "flat", make: flat },
        Shape { name: "constant", make: constant },
        Shape { name: "wandering", make: wandering },
        Shape { name: "falling", make: falling },
        Shape { name: "warm_up", make: warm_up },
        Shape { name: "warm_up_log", make: warm_up_log },
        Shape { name: "heap_ramp", make: heap_ramp },
        Shape { name: "heap_steps", make: heap_steps },
        Shape { name: "cache_fill", make: cache_fill },
        Shape { name: "cache_bound", make: cache_bound },
        Shape { name: "sawtooth", make: sawtooth },
        Shape { name: "sawtooth_nested", make: sawtooth_nested },
        Shape { name: "surge", make: surge },
        Shape { name: "surge_retained", make: surge_retained },
        Shape { name: "daily_rps", make: daily_rps },
        Shape { name: "daily_cpu", make: daily_cpu },
        Shape { name: "allocator", make: allocator },
        Shape { name: "page_cache", make: page_cache },
        Shape { name: "batch_jobs", make: batch_jobs },
        Shape { name: "reload_step", make: reload_step },
        // Leaks.
        Shape { name: "leak_steady", make: leak_steady },
        Shape { name: "leak_noisy", make: leak_noisy },
        Shape { name: "leak_accelerating", make: leak_accelerating },
        Shape { name: "leak_stepwise", make: leak_stepwise },
        Shape { name: "leak_late", make: leak_late },
        Shape { name: "leak_after_warm_up", make: leak_after_warm_up },
        Shape { name: "leak_sawtooth", make: leak_sawtooth },
        Shape { name: "leak_load_bound", make: leak_load_bound },
        Shape { name: "leak_daily_rps", make: leak_daily_rps },
        Shape { name: "leak_daily_cpu", make: leak_daily_cpu },
        Shape { name: "leak_surge", make: leak_surge },
        Shape { name: "leak_random_rate", make: leak_random_rate },
        Shape { name: "leak_swapped", make: leak_swapped },
        Shape { name: "leak_drill", make: leak_drill },
    ];
}

const DAY: f64 = 86400.0;

/// What is told of the work.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Nothing,
    Cpu,
    Rps,
}

/// The frame of a trace: its length, step, base level, limit and noise.
struct World<'a> {
    rng: &'a mut Rng,
    length_s: f64,
    step_s: f64,
    base: f64,
    limit: f64,
    noise: f64,
    warm_up_s: f64,
    told: Told,
}

/// Levels and work, by time.
struct Plan {
    level: Box<dyn Fn(f64) -> f64>,
    /// 1 is the usual rate.
    work: Box<dyn Fn(f64) -> f64>,
    leak: Option<(f64, f64)>,
    file_growth: bool,
    swap: bool,
    about: String,
}

impl Plan {
    fn healthy(about: String, level: impl Fn(f64) -> f64 + 'static) -> Self {
        Plan {
            level: Box::new(level),
            work: Box::new(|_| 1.0),
            leak: None,
            file_growth: false,
            swap: false,
            about,
        }
    }

    /// A leak from `start_s`, that uses up the head-room in `way_s`.
    fn leak(about: String, start_s: f64, way_s: f64, level: impl Fn(f64) -> f64 + 'static) -> Self {
        Plan { leak: Some((start_s, start_s + way_s)), ..Plan::healthy(about, level) }
    }

    fn with_work(self, work: impl Fn(f64) -> f64 + 'static) -> Self {
        Plan { work: Box::new(work), ..self }
    }
}

impl<'a> World<'a> {
    fn new(rng: &'a mut Rng) -> Self {
        let length_s = rng.log(300.0, 21.0 * DAY);
        let mut world = World {
            length_s,
            step_s: 1.0,
            base: rng.log(20.0, 200.0),
            limit: 512.0,
            noise: rng.log(0.0005, 0.01),
            warm_up_s: 60.0,
            told: rng.pick(&[Told::Nothing, Told::Cpu, Told::Cpu, Told::Rps]),
            rng,
        };
        world.limit = world.base * world.rng.log(2.0, 8.0);
        world.set_length(length_s);
        world
    }

    fn set_length(&mut self, length_s: f64) {
        self.length_s = length_s;
        // Between two hundred and four thousand samples, a quarter of a second apart or more.
        let samples = self.rng.log(200.0, 4000.0);
        self.step_s = (length_s / samples).max(0.25);
    }

    fn room(&self) -> f64 {
        self.limit - self.base
    }

    /// The time in which a leak uses up the head-room: most traces end before it does.
    fn way(&mut self) -> f64 {
        self.length_s * self.rng.uniform(0.8, 2.2)
    }

    fn trace(self, plan: Plan) -> Trace {
        let World { rng, length_s, step_s, base, limit, noise, warm_up_s, told } = self;
        let rps = rng.log(5.0, 2000.0);
        let cpu_share = rng.log(0.05, 0.9);
        let mut samples = Vec::new();
        let (mut t, mut ticks, mut last) = (0.0, 0.0, 0.0);
        let mut drift = 0.0;
        while t < length_s {
            let work = (plan.work)(t);
            // Noise that has a memory, as heaps have, and some without.
            drift = 0.9 * drift + 0.3 * noise * rng.normal();
            let level = (plan.level)(t);
            let level = (level * (1.0 + drift + 0.3 * noise * rng.normal())).max(1.0);
            ticks += (t - last) * 100.0 * cpu_share * work * (1.0 + 0.05 * rng.normal()).max(0.0);
            last = t;
            let kib = level * 1024.0;
            let (anon, swap) = if plan.swap && level > base * 1.2 {
                (base * 1.2 * 1024.0, kib - base * 1.2 * 1024.0)
            } else {
                (kib, 0.0)
            };
            let file = if plan.file_growth { t / length_s * limit * 1024.0 } else { 9000.0 };
            let load = rps * work;
            samples.push((
                t,
                Sample {
                    rss_kib: Some((anon + file) as u64),
                    rss_anon_kib: Some(anon as u64),
                    rss_file_kib: Some(file as u64),
                    vm_swap_kib: Some(swap as u64),
                    cpu_ticks: (told != Told::Nothing).then_some(ticks as u64),
                    load_rps: (told == Told::Rps)
                        .then(|| (load + (load / step_s).sqrt() * rng.normal()).max(0.0)),
                    ..Sample::default()
                },
            ));
            t += step_s * rng.uniform(0.95, 1.05);
        }
        Trace {
            samples,
            limit_mib: limit,
            warm_up_s,
            leak: plan.leak.map(|(start_s, limit_s)| Leak { start_s, limit_s }),
            about: format!(
                "{length_s:.0} s by {step_s:.2} s, {base:.0} of {limit:.0} MiB, noise {noise:.4}, \
                 {told:?}; {}",
                plan.about
            ),
        }
    }
}

fn flat(w: &mut World) -> Plan {
    let base = w.base;
    Plan::healthy(String::new(), move |_| base)
}

fn constant(w: &mut World) -> Plan {
    w.noise = 0.0;
    flat(w)
}

/// Slow noise that comes back: a sum of waves with periods over a range.
fn wandering(w: &mut World) -> Plan {
    let (base, size) = (w.base, w.base * w.rng.uniform(0.02, 0.12));
    let waves: Vec<(f64, f64, f64)> = (0..6)
        .map(|_| {
            let period = w.rng.log(w.length_s / 100.0, w.length_s / 2.0);
            (period, w.rng.uniform(0.0, TAU), w.rng.uniform(0.2, 0.6))
        })
        .collect();
    Plan::healthy(format!("size {size:.0}"), move |t| {
        base + size * waves.iter().map(|(p, at, a)| a * (t / p * TAU + at).sin()).sum::<f64>()
    })
}

fn falling(w: &mut World) -> Plan {
    let (high, base, tau) = (w.base + 0.4 * w.room(), w.base, w.length_s * w.rng.uniform(0.1, 1.0));
    Plan::healthy(String::new(), move |t| base + (high - base) * (-t / tau).exp())
}

/// Exponential approach.
fn warm_up(w: &mut World) -> Plan {
    let part = w.rng.uniform(0.1, 0.5);
    let (base, size) = (w.base, part * w.room());
    let tau = w.rng.log(5.0, 600.0f64.min(w.length_s / 4.0));
    Plan::healthy(format!("{part:.2} of the room, tau {tau:.0}"), move |t| {
        base + size * (1.0 - (-t / tau).exp())
    })
}

/// A warm-up with a long tail.
fn warm_up_log(w: &mut World) -> Plan {
    let part = w.rng.uniform(0.1, 0.35);
    let tau = w.rng.log(3.0, w.length_s / 50.0);
    let (base, size) = (w.base, part * w.room() / (1.0 + w.length_s / tau).ln());
    Plan::healthy(format!("{part:.2}, tau {tau:.0}"), move |t| base + size * (1.0 + t / tau).ln())
}

/// A young generation that is touched for the first time: straight up, then level.
fn heap_ramp(w: &mut World) -> Plan {
    let (part, end) = (w.rng.uniform(0.05, 0.25), w.rng.uniform(10.0, 120.0));
    let (base, size, saw) = (w.base, part * w.room(), w.rng.uniform(0.0, 0.03) * w.base);
    Plan::healthy(format!("{part:.2} of the room in {end:.0} s"), move |t| {
        base + size * (t / end).min(1.0) + saw * (t / 7.0).fract()
    })
}

/// A heap that grows towards its maximum by ever smaller steps.
fn heap_steps(w: &mut World) -> Plan {
    let (part, every) = (w.rng.uniform(0.1, 0.5), w.rng.log(5.0, w.length_s / 12.0));
    let (base, size, shrink) = (w.base, part * w.room(), w.rng.uniform(0.4, 0.7));
    Plan::healthy(format!("{part:.2}, every {every:.0} s, {shrink:.2}"), move |t| {
        base + size * (1.0 - shrink.powf((t / every).floor()))
    })
}

/// Random keys into a bounded cache.
fn cache_fill(w: &mut World) -> Plan {
    let (part, tau) = (w.rng.uniform(0.1, 0.6), w.length_s * w.rng.log(0.05, 0.4));
    let (base, size) = (w.base, part * w.room());
    Plan::healthy(format!("{part:.2} of the room, tau {tau:.0}"), move |t| {
        base + size * (1.0 - (-t / tau).exp())
    })
}

/// Distinct keys into a bounded cache: straight to its bound. No detector can tell this from a leak
/// before the bound, so it is a small cache.
fn cache_bound(w: &mut World) -> Plan {
    let (part, end) = (w.rng.uniform(0.02, 0.12), w.length_s * w.rng.uniform(0.02, 0.3));
    let (base, size) = (w.base, part * w.room());
    Plan::healthy(format!("{part:.2} of the room in {end:.0} s"), move |t| {
        base + size * (t / end).min(1.0)
    })
}

fn sawtooth(w: &mut World) -> Plan {
    let (part, period) = (w.rng.uniform(0.05, 0.5), w.rng.log(2.0, w.length_s / 10.0));
    let (base, size) = (w.base, part * w.room());
    // A tooth that is long and high is a straight climb, see `cache_bound`.
    let size = if period > 120.0 { size.min(0.12 * w.room()) } else { size };
    let phase = w.rng.unit();
    Plan::healthy(format!("{part:.2}, period {period:.0}"), move |t| {
        base + size * (t / period + phase).fract()
    })
}

/// Small teeth on large ones.
fn sawtooth_nested(w: &mut World) -> Plan {
    let period = w.rng.log(5.0, w.length_s / 10.0);
    let (base, major) = (w.base, w.rng.uniform(0.05, 0.12) * w.room());
    let (minor, ratio) = (major * w.rng.uniform(0.3, 0.8), w.rng.uniform(5.0, 20.0));
    Plan::healthy(format!("period {period:.0}"), move |t| {
        base + major * (t / period).fract() + minor * (t * ratio / period).fract()
    })
}

/// Load goes up and comes down, memory with it.
fn surge(w: &mut World) -> Plan {
    w.told = w.rng.pick(&[Told::Cpu, Told::Rps]);
    let factor = w.rng.uniform(1.5, 5.0);
    let (from, to) = (w.length_s * w.rng.uniform(0.2, 0.5), w.length_s * w.rng.uniform(0.6, 0.9));
    let ramp = w.rng.log(5.0, w.length_s * 0.2);
    let work = move |t: f64| {
        let up = ((t - from) / ramp).clamp(0.0, 1.0) - ((t - to) / ramp).clamp(0.0, 1.0);
        1.0 + (factor - 1.0) * up
    };
    let part = w.rng.uniform(0.2, 0.8) * (0.6 * w.room() / (factor - 1.0) / w.base).min(1.0);
    let base = w.base;
    Plan::healthy(format!("x{factor:.1} within {ramp:.0} s"), move |t| {
        base * (1.0 + part * (work(t) - 1.0))
    })
    .with_work(work)
}

/// As a surge, but the allocator keeps what it got.
fn surge_retained(w: &mut World) -> Plan {
    let plan = surge(w);
    let Plan { level, work, about, .. } = plan;
    let (step, length) = (w.length_s / 400.0, w.length_s);
    let mut highest = Vec::new();
    let mut high: f64 = 0.0;
    let mut t = 0.0;
    while t <= length + step {
        high = high.max(level(t));
        highest.push(high);
        t += step;
    }
    Plan {
        work,
        ..Plan::healthy(about, move |t| {
            let (k, part) = ((t / step) as usize, (t / step).fract());
            highest[k] + (highest[k + 1] - highest[k]) * part
        })
    }
}

/// Load by the hour of the day, from `night` to 1.
fn day_load(night: f64, phase: f64) -> impl Fn(f64) -> f64 + Copy {
    move |t: f64| night + (1.0 - night) * (0.5 - 0.5 * ((t / DAY + phase) * TAU).cos())
}

fn daily(w: &mut World, told: Told) -> Plan {
    let days = w.rng.uniform(1.5, 14.0);
    w.set_length(days * DAY);
    w.told = told;
    let night = w.rng.uniform(0.1, 0.6);
    let part = w.rng.uniform(0.2, 0.9) * (0.6 * w.room() / w.base).min(1.0 / night - 1.0);
    let load = day_load(night, w.rng.unit());
    let base = w.base;
    Plan::healthy(format!("{days:.1} days, night {night:.2}, part {part:.2}"), move |t| {
        base * (1.0 + part * (load(t) - night) / (1.0 - night))
    })
    .with_work(load)
}

fn daily_rps(w: &mut World) -> Plan {
    daily(w, Told::Rps)
}

fn daily_cpu(w: &mut World) -> Plan {
    daily(w, Told::Cpu)
}

/// Each burst may need more than all before it; new records come ever more rarely.
fn allocator(w: &mut World) -> Plan {
    let bursts = w.rng.uniform(20.0, 200.0);
    let every = w.length_s / bursts;
    let (base, size) = (w.base, w.rng.uniform(0.03, 0.08) * w.room());
    let mut high: f64 = 0.0;
    let records: Vec<f64> = (0..=bursts as usize + 1)
        .map(|_| {
            high = high.max(2.0 + w.rng.normal());
            high
        })
        .collect();
    Plan::healthy(format!("burst every {every:.0} s"), move |t| {
        base + size * records[(t / every) as usize].max(0.0)
    })
}

fn page_cache(w: &mut World) -> Plan {
    Plan { file_growth: true, ..flat(w) }
}

/// Now and then a job takes much for a short time.
fn batch_jobs(w: &mut World) -> Plan {
    let period = w.rng.log(w.length_s / 30.0, w.length_s / 4.0);
    let (takes, part) = (w.rng.uniform(0.05, 0.3), w.rng.uniform(0.1, 0.7));
    let (base, size, offset) = (w.base, part * w.room(), w.rng.uniform(0.0, 1.0));
    let busy = move |t: f64| (t / period + offset).fract() < takes;
    Plan::healthy(format!("{part:.2} every {period:.0} s"), move |t| {
        base + if busy(t) { size } else { 0.0 }
    })
    .with_work(move |t| if busy(t) { 3.0 } else { 1.0 })
}

fn reload_step(w: &mut World) -> Plan {
    let (at, part) = (w.length_s * w.rng.uniform(0.1, 0.9), w.rng.uniform(0.05, 0.4));
    let (base, size) = (w.base, part * w.room());
    let takes = w.rng.uniform(0.5, 5.0);
    Plan::healthy(format!("{part:.2} at {at:.0}"), move |t| {
        base + size * ((t - at) / takes).clamp(0.0, 1.0)
    })
}

fn leak_steady(w: &mut World) -> Plan {
    let (base, room, way) = (w.base, w.room(), w.way());
    Plan::leak(format!("way {way:.0} s"), 0.0, way, move |t| base + room * t / way)
}

fn leak_noisy(w: &mut World) -> Plan {
    w.noise = w.rng.uniform(0.01, 0.04);
    leak_steady(w)
}

fn leak_accelerating(w: &mut World) -> Plan {
    let (base, room, way) = (w.base, w.room(), w.length_s * w.rng.uniform(0.8, 1.5));
    let power = w.rng.uniform(1.3, 2.5);
    Plan::leak(format!("power {power:.1}, way {way:.0} s"), 0.0, way, move |t| {
        base + room * (t / way).powf(power)
    })
}

fn leak_stepwise(w: &mut World) -> Plan {
    let (base, room, way) = (w.base, w.room(), w.way());
    let steps = w.rng.uniform(25.0, 120.0);
    let every = way / steps;
    Plan::leak(format!("{steps:.0} steps, way {way:.0} s"), 0.0, way, move |t| {
        base + room * (t / every).floor() / steps
    })
}

fn leak_late(w: &mut World) -> Plan {
    let start = w.length_s * w.rng.uniform(0.2, 0.6);
    let way = (w.length_s - start) * w.rng.uniform(0.8, 2.0);
    let (base, room) = (w.base, w.room());
    Plan::leak(format!("from {start:.0} s, way {way:.0} s"), start, way, move |t| {
        base + room * (t - start).max(0.0) / way
    })
}

fn leak_after_warm_up(w: &mut World) -> Plan {
    let (way, part) = (w.way(), w.rng.uniform(0.05, 0.3));
    let (base, room, warm) = (w.base, w.room(), part * w.room());
    let tau = w.rng.log(3.0, 300.0f64.min(w.length_s / 15.0));
    let way = way * (1.0 - part);
    Plan::leak(format!("{part:.2} by tau {tau:.0}, way {way:.0} s"), 0.0, way, move |t| {
        base + warm * (1.0 - (-t / tau).exp()) + (room - warm) * t / way
    })
}

fn leak_sawtooth(w: &mut World) -> Plan {
    let (base, room, way) = (w.base, w.room(), w.way());
    let period = w.rng.log(2.0, w.length_s / 40.0);
    let size = w.rng.uniform(0.02, 0.2) * room;
    Plan::leak(format!("tooth {size:.0} by {period:.0} s, way {way:.0} s"), 0.0, way, move |t| {
        base + room * t / way + size * (t / period).fract()
    })
}

/// Leaks by request; the load comes and goes.
fn leak_load_bound(w: &mut World) -> Plan {
    w.told = w.rng.pick(&[Told::Cpu, Told::Rps]);
    let (base, room, way) = (w.base, w.room(), w.way());
    let period = w.length_s / w.rng.uniform(3.0, 30.0);
    let low = w.rng.uniform(0.1, 0.5);
    let load = move |t: f64| low + (1.0 - low) * (0.5 - 0.5 * (t / period * TAU).cos());
    let done = move |t: f64| {
        let (k, mean) = (TAU / period, (1.0 + low) / 2.0);
        (t * mean - (1.0 - low) / 2.0 * (t * k).sin() / k) / mean
    };
    Plan::leak(format!("load from {low:.2} by {period:.0} s, way {way:.0} s"), 0.0, way, move |t| {
        base + room * done(t) / way
    })
    .with_work(load)
}

fn leak_daily(w: &mut World, told: Told) -> Plan {
    let plan = daily(w, told);
    let (room, way) = (w.limit - w.base, w.length_s * w.rng.uniform(0.7, 1.5));
    let Plan { level, work, about, .. } = plan;
    Plan {
        work,
        ..Plan::leak(format!("{about}, way {way:.0} s"), 0.0, way, move |t| {
            level(t) + room * t / way
        })
    }
}

fn leak_daily_rps(w: &mut World) -> Plan {
    leak_daily(w, Told::Rps)
}

fn leak_daily_cpu(w: &mut World) -> Plan {
    leak_daily(w, Told::Cpu)
}

/// A surge triggers a cache that is never cleared.
fn leak_surge(w: &mut World) -> Plan {
    let plan = surge(w);
    let start = w.length_s * w.rng.uniform(0.2, 0.4);
    let way = (w.length_s - start) * w.rng.uniform(0.8, 1.6);
    let room = w.limit - w.base;
    let Plan { level, work, about, .. } = plan;
    Plan {
        work,
        ..Plan::leak(
            format!("{about}, leak from {start:.0}, way {way:.0} s"),
            start,
            way,
            move |t| level(t) + room * (t - start).max(0.0) / way,
        )
    }
}

/// The rate changes all the time, by half and double.
fn leak_random_rate(w: &mut World) -> Plan {
    let (base, room, way) = (w.base, w.room(), w.way());
    let pieces = 60;
    let mut sum = 0.0;
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain((0..pieces * 3).map(|_| {
            sum += w.rng.log(0.5, 2.0);
            sum
        }))
        .collect();
    let mean = sums[pieces] / pieces as f64;
    let piece = way / pieces as f64;
    Plan::leak(format!("way {way:.0} s"), 0.0, way, move |t| {
        let (k, part) = ((t / piece) as usize, (t / piece).fract());
        base + room * (sums[k] + (sums[k + 1] - sums[k]) * part) / mean / pieces as f64
    })
}

fn leak_swapped(w: &mut World) -> Plan {
    Plan { swap: true, ..leak_steady(w) }
}

/// A drill: the limit within one or two minutes, after a warm-up of a few seconds.
fn leak_drill(w: &mut World) -> Plan {
    let way = w.rng.uniform(50.0, 130.0);
    w.length_s = way * 1.1;
    w.step_s = w.rng.pick(&[0.25, 0.5, 1.0]);
    w.warm_up_s = w.rng.uniform(2.0, 6.0);
    let (base, room) = (w.base, w.room());
    Plan::leak(format!("way {way:.0} s"), 0.0, way, move |t| base + room * t / way)
}
