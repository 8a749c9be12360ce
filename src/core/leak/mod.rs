//! Leak detection: one sample in, a judgement out.
//!
//! # How a leak is told from everything else that grows
//!
//! What is judged is anonymous + shared + swapped memory ([`Sample::growth_kib`]); the page cache is
//! never in it. The past is kept at nine time scales at once (`history`), 12 s to nine days, so that
//! 20 MiB/s and 1 MiB/h are seen by the same code. Whenever a window closes, its scale is looked at
//! (`look`), over all of its windows and over the younger half. A look asks, in this order:
//!
//! 1. *Is there a trend?* Theil–Sen slope of the windows' floors, at equal work, with Sen's interval
//!    (`trend`). Floors, because collections and ends of requests return to them; a surge, a daily
//!    rhythm follows the work and is taken out. Kendall's test alone is not enough (Machida et al.
//!    2013 measured its false alarms on aging software): noise with a memory fools it. Over two days and
//!    more, points of the same hour are compared (`season`; Hirsch, Slack and Smith 1982).
//! 2. *Is it a slope, or a step or two?* A reload, a job, a record of the allocator are steps.
//! 3. *Does it slow down?* What fills (a cache, a heap, an allocator) slows down; the place where it
//!    would end is forecast, here and on the wider scales. This is the test that RESIN (OSDI 2022) and
//!    Precog make by waiting for longer windows.
//! 4. *Is it news?* A climb back from a fall of the floors (a sawtooth) is none; a spike within a window is no
//!    fall. In a short span, whose windows hold whole cycles, the floors must have gained a cycle's depth. In a
//!    long life there are many short climbs that end (a batch, an import, the morning): half of one that is
//!    shorter than 0.3 of the age must be where the series has never been.
//! 5. *Is it far or long enough?* What fills in a straight line to a bound cannot be told from a leak
//!    before the bound, so some of the way to the limit must have been used: 42% for a climb of a
//!    minute, a quarter for five, 16% for a quarter of an hour, a tenth at last. Where the trend is beyond
//!    chance (three standard errors by the test of Perron and Yabu 2009, which holds for noise that comes
//!    back and for a walk; work explains little), time takes the place of the way: 26% for four minutes,
//!    6% for eight, 3% for twelve and more. What has five hours to the limit loses nothing by waiting, and large
//!    caches and lazy heaps are straight in their first tenths: it must have used 15% of the way, or less in
//!    proportion to the time beyond four hours for which it has been watched (3% after twenty), and with less
//!    time left less by the third power of it. A short climb in a long life must have used half, unless the limit is
//!    four warm-ups away. Where no work
//!    is told, a climb of three hours to a day may be the day's rhythm, and must have used a fifth. A runtime
//!    that compiles itself (its first seconds cost twice the CPU time of later, and two thirds of a second more
//!    in all) touches its heap lazily up to its maximum: for ten minutes it needs four times as much, and
//!    always half as long again to be sure; where no work is told any may be one, and needs a fifth more in its
//!    first minutes.
//! 6. *Is it time?* Most caches are full within some minutes, and a worker that is younger than six warm-ups
//!    (six minutes) loses nothing by being watched a little longer: it is judged only where the limit is
//!    less than four warm-ups away; in its first three, when it has used 80% of the way as well.
//!
//! CPU time is work only as long as a request costs the same. Handlers that are kept run for each request,
//! and what they cost grows with the leak: of a climb of less than half an hour that is straighter by the
//! clock (six standard errors) than traffic is, CPU time that grows alike is no excuse. Requests, where
//! they are told, are. And CPU time that falls back is another process, whose past begins anew.
//!
//! Whether it slows down is also asked of what came after the warm-up alone, where that is most of what
//! was seen: a boot is steep, and a leak behind it is slower than it and straight.
//!
//! And it must go on: the next floor, of a window a quarter as long, has to be higher; after a day and more,
//! when the evening may follow, being found for two windows in a row is enough. A suspicion ends
//! after three quiet looks in a row. What rises too little to be told yet, or slows down without having
//! flattened, is `unjudged`, with what it waits for. Samples of the boot are passed over; in the warm-up
//! only a worker that would not live through it is judged.
//!
//! # Errors
//!
//! Of 10,000 random stationary series within bounds of up to 30% of the way (noise with a memory,
//! reflected walks, teeth, waves, two states; no work told) 95 were called a leak, most of them in the
//! first tooth of a long sawtooth, which is a straight climb until it falls; a test holds the rate to
//! 0.9%. Of the limits of steady leaks, the forecast's interval, told at the confirmation, held 67 of
//! 71; a test asks for nine in ten. Of 56 recordings that others made, of which only the totals are known, all 28
//! leaks were found, and 8 of 28 healthy servers called a leak. Of 138 series of up to a week that another's
//! program made, likewise, 59 of 69 leaks were found, and 27 of 69 healthy ones called a leak (a simple detector:
//! 64, and 46): large caches and lazy heaps that fill in a straight line for hours. Of 107 healthy servers that
//! others recorded 44 climb in a straight line until they have used a quarter of the way, as do 71 of their 109 leaks:
//! within that quarter the shape does not tell. The verdict depends on
//! neither the origin of time,
//! nor on a constant added to memory and limit, nor on their scale; gaps and steps of the clock cost no
//! leak of the test's 34. All figures: `tests/leak_corpus`.
//!
//! # What it cannot do
//!
//! A bounded thing that fills in a straight line to a bound beyond those parts of the way is called a
//! leak, and so is a large cache in its first fifth: early is traded for wrong there. The first day of
//! a rhythm whose work is not told looks like a climb too. A leak of less than 3% of the way in the time
//! it was watched is not told, nor is a slow one with the limit many hours away before 15% of
//! the way or half a day, nor one under collections whose floors jump by more than it gained, nor that of
//! a JVM in its first ten minutes. A trace that goes on after its server was started anew, and does not tell
//! its CPU time, looks like a sawtooth.
//!
//! # Cost
//!
//! The detectors of all four quantities of a worker take less than 8 KiB together (a test). A sample
//! costs the update of nine windows; each window that closes costs one or two looks of at most 253 pairs:
//! on a machine with other work 0.4 to 1.0 µs on average for a series that rests, 0.7 for one that climbs
//! at four samples a second, 1.2 at one, if built for speed (`tests/leak_cost.rs`). Reasons are made only when asked for.

mod bag;
mod history;
mod judgement;
mod look;
mod season;
mod trend;
mod work;

pub(in crate::core) use judgement::span;
pub use judgement::{Dial, Judgement, Kind, Quantity, Shape, Verdict};

use super::{Moment, Sample};
use history::{Grid, History, Reading};
use look::{Finding, Frame, Outcome, Span, look};
use season::DAY_S;
use std::time::Duration;

/// CPU below this is idling and explains no memory: half a percent of one processor.
const IDLE_TICKS_S: f64 = 0.5;
/// As many requests a second are idling.
const IDLE_RPS: f64 = 0.5;
/// A process that boots grows from nothing; that part of the warm-up, and at most so long, is not
/// looked at, lest the boot pass for the steep beginning of a climb that slows down.
const BOOT_PART: f64 = 0.25;
const BOOT_MOST_S: f64 = 5.0;
/// Samples in the mean of the time between them.
const STEPS_IN_MEAN: u8 = 50;
/// Windows of less than this part of the time between samples are passed over.
const FINE_PART: f64 = 0.5;
/// How much a climb may change for the forecast, and the most that it may slow down.
const CHANGES: f64 = 0.2;
const SLOWEST: f64 = 4.0;
/// The costly beginning of a runtime that compiles itself: so many times the CPU time a second of later, and so
/// many ticks a second more (most of a second in all; what only loads its libraries costs less).
const COSTLY_S: f64 = 20.0;
const LAZY_COST: f64 = 2.0;
const LAZY_TICKS_S: f64 = 3.3;
/// Looks in a row that end a suspicion.
const QUIET_LOOKS: u8 = 3;
/// Health is told by the longest span, or one of nearly its length.
const LONGEST_PART: f64 = 0.9;
/// A leak that was found must go on: it is confirmed when it is found again by a later window whose
/// floor is higher by this part of what the slope gains in a window.
const GOES_ON: f64 = 0.4;
/// One of more than a day may have the evening after it; being found for so many of its windows is enough.
const HOLDS_ON: f64 = 2.0;

/// What the detector holds a series against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectorSettings {
    /// The limit, in KiB. Without one, growth to three times the size is what matters.
    pub limit_kib: Option<u64>,
    /// Younger workers are expected to grow; they are judged only if they would not live through it.
    pub warm_up: Duration,
}

/// A change of the verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// What it was.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
}

/// Judges one quantity of one worker, sample by sample. Deterministic, of fixed size.
#[derive(Clone, Debug)]
pub struct Detector {
    quantity: Quantity,
    limit: Option<u64>,
    warm_up: Duration,
    born: Moment,
    history: History,
    last: Option<Moment>,
    /// Mean time between samples, the last some fifty counting most.
    step_s: f64,
    /// How many are in it.
    steps: u8,
    /// The lowest level of its life, its birth included.
    lowest: f64,
    meter: Meter,
    /// Where a leak was first found and has been found since, for each scale, over all and over half
    /// of its windows.
    found: Box<[[Option<Found>; 2]]>,
    /// The span that the suspicion rests on, and how often in a row it has looked quiet since.
    source: Option<(Span, u8)>,
    judgement: Judgement,
}

/// A leak to be confirmed: the floor, and the age at which it was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    floor: f32,
    age_s: f32,
}

impl Detector {
    /// A detector for the memory of a worker that was started at `born`.
    pub fn new(settings: DetectorSettings, born: Moment) -> Self {
        Self::of(Quantity::Memory, settings.limit_kib, settings.warm_up, born)
    }

    /// The same for another quantity; the limit is in its unit.
    pub fn of(quantity: Quantity, limit: Option<u64>, warm_up: Duration, born: Moment) -> Self {
        let grid = if quantity == Quantity::Memory { Grid::MEMORY } else { Grid::COUNT };
        Self {
            quantity,
            limit,
            warm_up,
            born,
            history: History::new(grid),
            last: None,
            step_s: 0.0,
            steps: 0,
            lowest: f64::INFINITY,
            meter: Meter::default(),
            found: vec![[None; 2]; grid.scales].into(),
            source: None,
            judgement: Judgement::unjudged(quantity, born, None),
        }
    }

    /// Takes a new limit, in the unit of the quantity; the past stays.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        self.limit = limit;
    }

    /// Takes a new warm-up; the past stays.
    pub fn set_warm_up(&mut self, warm_up: Duration) {
        self.warm_up = warm_up;
    }

    /// Bytes that it takes, all in all.
    pub fn bytes(&self) -> usize {
        size_of_val(self) + size_of_val(&self.found[..]) + self.history.heap_bytes()
    }

    /// What is known now.
    pub fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// Takes a sample. One that is not later than the last, or does not tell the quantity, is passed
    /// over.
    pub fn observe(&mut self, at: Moment, sample: &Sample) -> Option<Change> {
        let level = self.quantity.of(sample)? as f64;
        if self.last.is_some_and(|last| at <= last) {
            return None;
        }
        let before = self.judgement.verdict;
        if self.meter.began_anew(sample) {
            *self = Self::of(self.quantity, self.limit, self.warm_up, at);
        }
        let elapsed_s = self.last.map(|last| at.since(last).as_secs_f64());
        self.last = Some(at);
        self.lowest = self.lowest.min(level);
        if let Some(elapsed_s) = elapsed_s {
            self.steps = (self.steps + 1).min(STEPS_IN_MEAN);
            self.step_s += (elapsed_s - self.step_s) / f64::from(self.steps);
        }
        let age_s = at.since(self.born).as_secs_f64();
        let (work, unit_changed) = self.meter.read(sample, age_s, elapsed_s);
        if unit_changed {
            self.history.forget_work();
        }
        let boot_s = (BOOT_PART * self.warm_up.as_secs_f64()).min(BOOT_MOST_S);
        let closed =
            if age_s < boot_s { 0 } else { self.history.add(&Reading { age_s, level, work }) };
        if self.judgement.verdict == Verdict::Unjudged && self.judgement.shape.is_none() {
            let waits_s = self.warm_up.as_secs_f64() - age_s;
            self.judgement =
                Judgement::unjudged(self.quantity, at, (waits_s > 0.0).then_some(waits_s));
        }
        let (scales, windows) = (self.history.scales(), self.history.windows());
        for scale in (0..scales).filter(|scale| closed & (1 << scale) != 0) {
            // Windows shorter than the time between samples tell nothing that wider ones do not.
            if self.history.scale(scale).width_s() < FINE_PART * self.step_s {
                continue;
            }
            for (half, windows) in [windows, windows / 2].into_iter().enumerate() {
                self.look_at(at, age_s, Span { scale, windows }, half);
                // What the wider scale found is confirmed by windows of this one.
                let wider = scale + 1;
                if before != Verdict::Leak
                    && wider < scales
                    && closed & (1 << wider) == 0
                    && self.found[wider][half].is_some()
                {
                    self.look_at(at, age_s, Span { scale: wider, windows }, half);
                }
            }
        }
        let to = self.judgement.verdict;
        (to != before).then_some(Change { from: before, to })
    }

    fn look_at(&mut self, at: Moment, age_s: f64, span: Span, half: usize) {
        let frame = Frame {
            limit: self.limit.map(|limit| limit as f64),
            quantity: self.quantity,
            idle_work: self.meter.idle(),
            warm_up_s: self.warm_up.as_secs_f64(),
            age_s,
            lowest: self.lowest,
            lazy: self.meter.is_lazy(age_s),
            work_is_cpu: self.meter.unit == Some(Unit::Ticks),
            by_clock: false,
        };
        let Some(finding) = look(&self.history, span, &frame) else {
            self.found[span.scale][half] = None;
            return;
        };
        let found = &mut self.found[span.scale][half];
        let mut confirmed = false;
        if let Outcome::Leaking(_) = finding.outcome {
            // The newest floor is that of the next finer scale.
            let newest = self.history.scale(span.scale.saturating_sub(1)).newest_floor();
            if let Some((floor_at_s, floor)) = newest {
                let now = Found { floor: floor as f32, age_s: floor_at_s as f32 };
                let first = *found.get_or_insert(now);
                let passed_s = floor_at_s - f64::from(first.age_s);
                let gained = floor - f64::from(first.floor);
                let goes_on = gained >= GOES_ON * finding.trend.slope * passed_s;
                let held_s = HOLDS_ON * self.history.scale(span.scale).width_s();
                confirmed =
                    passed_s > 0.0 && goes_on || finding.span_s > DAY_S && passed_s > held_s;
            }
        } else {
            *found = None;
        }
        let leak = self.judgement.verdict == Verdict::Leak;
        match finding.outcome {
            Outcome::Leaking(kind) if confirmed => {
                self.source = Some((span, 0));
                self.climbs(at, Verdict::Leak, Some(kind), &finding);
            }
            Outcome::Leaking(_) | Outcome::Rising if !leak && age_s >= frame.warm_up_s => {
                self.source = Some((span, 0));
                self.climbs(at, Verdict::Suspect, None, &finding);
            }
            Outcome::Leaking(_) | Outcome::Rising => {}
            Outcome::Quiet(shape) => {
                // A suspicion ends where it began, and not by one look; a verdict of health comes from
                // the longest span.
                let mut cleared = false;
                if let Some((source, quiet)) = &mut self.source
                    && *source == span
                {
                    *quiet += 1;
                    cleared = *quiet >= QUIET_LOOKS;
                }
                let free = self.source.is_none()
                    && age_s >= frame.warm_up_s
                    && finding.span_s >= LONGEST_PART * f64::from(self.judgement.evidence.span_s);
                if cleared || free {
                    self.source = None;
                    self.rests(at, shape, &finding);
                }
            }
        }
    }

    fn climbs(&mut self, at: Moment, verdict: Verdict, kind: Option<Kind>, finding: &Finding) {
        let trend = &finding.trend;
        let slope = trend.late.max(trend.slope);
        let half = (trend.high - trend.low) / 2.0;
        let (low, high) = ((slope - half).max(trend.low.min(slope)), slope + half);
        let eta = |level: f64, slope: f64| {
            let left = (self.limit? as f64 - level).max(0.0);
            Duration::try_from_secs_f64(left / slope).ok()
        };
        // The interval of the end has to bear that the climb changes: it holds what the halves did, and
        // a fifth more.
        let slowest = (1.0 - CHANGES) * trend.late.min(trend.early).min(low).max(slope / SLOWEST);
        let fastest = (1.0 + CHANGES) * trend.late.max(trend.early).max(high);
        let sure = (low / slope).clamp(0.0, 1.0);
        let confidence = match verdict {
            Verdict::Leak => 0.9 + 0.1 * sure,
            _ => 0.9 * (finding.gain / finding.needed).clamp(0.0, 1.0),
        };
        self.judgement = Judgement {
            verdict,
            kind,
            shape: None,
            slope_per_s: Some(slope),
            slope_low_per_s: Some(low),
            slope_high_per_s: Some(high),
            eta: eta(finding.ceiling, slope),
            eta_low: eta(finding.ceiling, fastest),
            eta_high: eta(finding.floor, slowest),
            confidence,
            since: Some(self.born + Duration::from_secs_f64(finding.since_s.max(0.0))),
            at,
            quantity: self.quantity,
            evidence: evidence(finding),
        };
    }

    fn rests(&mut self, at: Moment, shape: Shape, finding: &Finding) {
        let verdict = if finding.still_rises { Verdict::Unjudged } else { Verdict::Healthy };
        self.judgement = Judgement {
            verdict,
            shape: Some(shape),
            confidence: finding.points as f64 / self.history.windows() as f64,
            evidence: evidence(finding),
            slope_per_s: Some(finding.gain / finding.span_s),
            ..Judgement::unjudged(self.quantity, at, None)
        };
    }
}

fn evidence(finding: &Finding) -> judgement::Evidence {
    judgement::Evidence {
        level: finding.floor as f32,
        gain: finding.gain as f32,
        needed: finding.needed as f32,
        span_s: finding.span_s as f32,
        points: finding.points as u16,
        falls: finding.falls as u16,
        plateau: finding.plateau.map(|plateau| plateau as f32),
        work_ratio: finding.trend.work_ratio.map(|ratio| ratio as f32),
        waits_s: None,
    }
}

/// Turns counters into work done between samples.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    ticks: Option<u64>,
    unit: Option<Unit>,
    /// CPU ticks from the start to the first sample after [`COSTLY_S`], and its age.
    boot: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Requests,
    Ticks,
}

impl Meter {
    /// Whether another process is told of than before: the CPU time of one never falls. A tree that
    /// loses a small part of its processes goes on.
    fn began_anew(&self, sample: &Sample) -> bool {
        self.ticks.zip(sample.cpu_ticks).is_some_and(|(before, now)| now < before / 2)
    }

    /// Work since the last sample with its seconds, and whether the unit is another than before.
    fn read(
        &mut self,
        sample: &Sample,
        age_s: f64,
        elapsed_s: Option<f64>,
    ) -> (Option<(f64, f64)>, bool) {
        if let (None, Some(ticks), true) = (self.boot, sample.cpu_ticks, age_s >= COSTLY_S) {
            self.boot = Some((ticks as f64, age_s));
        }
        let before = std::mem::replace(&mut self.ticks, sample.cpu_ticks);
        let rps = sample.load_rps.filter(|rps| rps.is_finite() && *rps >= 0.0);
        let ticks = before.zip(sample.cpu_ticks).and_then(|(a, b)| b.checked_sub(a));
        let Some(elapsed_s) = elapsed_s else { return (None, false) };
        // Requests are the better measure; once they were told, CPU does not take their place.
        let (unit, work) = match (rps, ticks) {
            (Some(rps), _) => (Unit::Requests, rps * elapsed_s),
            (None, Some(ticks)) if self.unit != Some(Unit::Requests) => (Unit::Ticks, ticks as f64),
            _ => return (None, false),
        };
        let changed = self.unit.replace(unit).is_some_and(|old| old != unit);
        (Some((work, elapsed_s)), changed)
    }

    /// Whether this is a runtime that compiles itself: its beginning cost so much more CPU time than what came
    /// after it.
    fn is_lazy(&self, age_s: f64) -> bool {
        self.boot.zip(self.ticks).is_some_and(|((boot_ticks, boot_s), ticks)| {
            let boot = boot_ticks / boot_s;
            let since = (ticks as f64 - boot_ticks) / (age_s - boot_s);
            boot > LAZY_COST * since && boot - since > LAZY_TICKS_S
        })
    }

    fn idle(&self) -> f64 {
        match self.unit {
            Some(Unit::Requests) => IDLE_RPS,
            Some(Unit::Ticks) | None => IDLE_TICKS_S,
        }
    }
}

#[cfg(test)]
mod tests;
