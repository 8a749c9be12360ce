//! Leak detection.

mod history;
mod judgement;
mod look;
mod trend;

pub use judgement::{Dial, Judgement, Kind, Quantity, Shape, Verdict};

use super::{Moment, Sample};
use history::{History, Reading, SCALES, WINDOWS};
use look::{Finding, Frame, Outcome, Span, look};
use std::time::Duration;

/// CPU below this is idling and explains no memory: half a percent of one processor.
const IDLE_TICKS_S: f64 = 0.5;
/// As many requests a second are idling.
const IDLE_RPS: f64 = 0.5;
/// A process that boots grows from nothing; that part of the warm-up, and at most so long, is not
/// looked at, lest the boot pass for the steep beginning of a climb that slows down.
const BOOT_PART: f64 = 0.25;
const BOOT_MOST_S: f64 = 5.0;
/// Growth that matters where no limit is known, in KiB.
const MATTERS_KIB: f64 = 256.0 * 1024.0;
/// Health is told by the longest span, or one of nearly its length.
const LONGEST_PART: f64 = 0.9;
/// A leak that was found must go on: it is confirmed when it is found again by a later window whose
/// floor is higher by this part of what the slope gains in a window.
const GOES_ON: f64 = 0.4;

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

/// Judges one worker, sample by sample. Deterministic, of fixed size, with no heap.
#[derive(Clone, Debug)]
pub struct Detector {
    settings: DetectorSettings,
    born: Moment,
    history: History,
    last: Option<Moment>,
    meter: Meter,
    /// Floor at which a leak was first found and has been found since, for each scale, over all and
    /// over half of its windows.
    found: [[Option<f32>; 2]; SCALES],
    /// The span that the suspicion rests on.
    source: Option<Span>,
    judgement: Judgement,
}

impl Detector {
    /// A detector for a worker that was started at `born`.
    pub fn new(settings: DetectorSettings, born: Moment) -> Self {
        Self {
            settings,
            born,
            history: History::new(),
            last: None,
            meter: Meter::default(),
            found: [[None; 2]; SCALES],
            source: None,
            judgement: Judgement::unjudged(Quantity::Memory, born, None),
        }
    }

    /// Takes a new limit; the past stays.
    pub fn set_limit(&mut self, limit_kib: Option<u64>) {
        self.settings.limit_kib = limit_kib;
    }

    /// What is known now.
    pub fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    /// Takes a sample. A sample that is not later than the last one, or without a memory figure, is
    /// passed over.
    pub fn observe(&mut self, at: Moment, sample: &Sample) -> Option<Change> {
        let level = sample.growth_kib()? as f64;
        if self.last.is_some_and(|last| at <= last) {
            return None;
        }
        let elapsed_s = self.last.map(|last| at.since(last).as_secs_f64());
        self.last = Some(at);
        let age_s = at.since(self.born).as_secs_f64();
        let (work, unit_changed) = self.meter.read(sample, elapsed_s);
        if unit_changed {
            self.history.forget_work();
        }
        let boot_s = (BOOT_PART * self.settings.warm_up.as_secs_f64()).min(BOOT_MOST_S);
        let closed =
            if age_s < boot_s { 0 } else { self.history.add(&Reading { age_s, level, work }) };
        let before = self.judgement.verdict;
        if before == Verdict::Unjudged {
            let waits_s = self.settings.warm_up.as_secs_f64() - age_s;
            self.judgement =
                Judgement::unjudged(Quantity::Memory, at, (waits_s > 0.0).then_some(waits_s));
        }
        for scale in (0..SCALES).filter(|scale| closed & (1 << scale) != 0) {
            for (half, windows) in [WINDOWS, WINDOWS / 2].into_iter().enumerate() {
                self.look_at(at, age_s, Span { scale, windows }, half);
            }
        }
        let to = self.judgement.verdict;
        (to != before).then_some(Change { from: before, to })
    }

    fn look_at(&mut self, at: Moment, age_s: f64, span: Span, half: usize) {
        let frame = Frame {
            limit: self.settings.limit_kib.map(|kib| kib as f64),
            matters: MATTERS_KIB,
            idle_work: self.meter.idle(),
            warm_up_s: self.settings.warm_up.as_secs_f64(),
            age_s,
        };
        let Some(finding) = look(&self.history, span, &frame) else {
            self.found[span.scale][half] = None;
            return;
        };
        let found = &mut self.found[span.scale][half];
        let mut confirmed = false;
        if let Outcome::Leaking(_) = finding.outcome {
            let step = finding.trend.slope * self.history.scale(span.scale).width_s();
            let first = *found.get_or_insert(finding.floor as f32);
            confirmed = finding.floor >= f64::from(first) + GOES_ON * step;
        } else {
            *found = None;
        }
        let leak = self.judgement.verdict == Verdict::Leak;
        match finding.outcome {
            Outcome::Leaking(kind) if confirmed => {
                self.source = Some(span);
                self.climbs(at, Verdict::Leak, Some(kind), &finding);
            }
            Outcome::Leaking(_) | Outcome::Rising if !leak && age_s >= frame.warm_up_s => {
                self.source = Some(span);
                self.climbs(at, Verdict::Suspect, None, &finding);
            }
            Outcome::Leaking(_) | Outcome::Rising => {}
            Outcome::Quiet(shape) => {
                // A suspicion ends where it began; a verdict of health comes from the longest span.
                let cleared = self.source == Some(span);
                let free = self.source.is_none()
                    && age_s >= frame.warm_up_s
                    && finding.span_s >= LONGEST_PART * self.judgement.evidence.span_s;
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
        let eta = |slope: f64| {
            let left = (self.settings.limit_kib? as f64 - finding.ceiling).max(0.0);
            Duration::try_from_secs_f64(left / slope).ok()
        };
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
            eta: eta(slope),
            eta_low: eta(high),
            eta_high: eta(low),
            confidence,
            since: Some(self.born + Duration::from_secs_f64(finding.since_s.max(0.0))),
            at,
            quantity: Quantity::Memory,
            evidence: evidence(finding),
        };
    }

    fn rests(&mut self, at: Moment, shape: Shape, finding: &Finding) {
        self.judgement = Judgement {
            verdict: Verdict::Healthy,
            shape: Some(shape),
            confidence: finding.points as f64 / WINDOWS as f64,
            evidence: evidence(finding),
            slope_per_s: Some(finding.gain / finding.span_s),
            ..Judgement::unjudged(Quantity::Memory, at, None)
        };
    }
}

fn evidence(finding: &Finding) -> judgement::Evidence {
    judgement::Evidence {
        level: finding.floor,
        gain: finding.gain,
        needed: finding.needed,
        span_s: finding.span_s,
        points: finding.points,
        falls: finding.falls,
        plateau: finding.plateau,
        work_ratio: finding.trend.work_ratio,
        waits_s: None,
    }
}

/// Turns counters into work done between samples.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    ticks: Option<u64>,
    unit: Option<Unit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Requests,
    Ticks,
}

impl Meter {
    /// Work since the last sample with its seconds, and whether the unit is another than before.
    fn read(&mut self, sample: &Sample, elapsed_s: Option<f64>) -> (Option<(f64, f64)>, bool) {
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

    fn idle(&self) -> f64 {
        match self.unit {
            Some(Unit::Requests) => IDLE_RPS,
            Some(Unit::Ticks) | None => IDLE_TICKS_S,
        }
    }
}
