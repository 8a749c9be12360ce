//! One quantity of a worker, as the supervisor follows it: the detector, and what was made of it.

use super::leak::{Detector, Quantity, Shape, Verdict};
use super::{Moment, Sample};
use std::time::Duration;

/// Counts are judged from this part of the way to their limit on. Most workers never get there, and a
/// detector is not small; who leaks has nearly all of the way before him.
const COUNTS_FROM_PART: u64 = 16;

/// What a worker may have; `None` is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Open descriptors of one process, the soft `RLIMIT_NOFILE`.
    pub fds: Option<u64>,
    /// Threads, and so processes, of all workers together: the least of `RLIMIT_NPROC`, `pids.max` and
    /// `kernel.threads-max`.
    pub tasks: Option<u64>,
}

impl Bounds {
    /// The limit of a count for a worker of that many, whose tree is of this size.
    pub fn limit(&self, quantity: Quantity, sample: &Sample, workers: u32) -> Option<u64> {
        match quantity {
            Quantity::Memory => None,
            Quantity::Fds => Some(self.fds?.saturating_mul(sample.processes.unwrap_or(1).max(1))),
            Quantity::Threads | Quantity::Processes => {
                Some(self.tasks? / u64::from(workers.max(1)))
            }
        }
    }
}

/// A quantity that is judged.
#[derive(Debug)]
pub struct Trend {
    /// Which.
    pub quantity: Quantity,
    /// What it runs into, in its unit.
    pub limit: Option<u64>,
    /// Judges it.
    pub detector: Detector,
    /// What was last made of it: the detector's verdict, raised where others vouch for it.
    pub verdict: Verdict,
    /// The log says that it may leak; a suspicion comes and goes, and is told once.
    pub suspicion_told: bool,
    /// The log says that it does not leak after all; so is that.
    pub relief_told: bool,
    /// When a leak was confirmed, until it is known to have been none.
    pub confirmed: Option<Moment>,
    /// The level of the worker when it began to serve.
    pub fresh: Option<u64>,
    /// That it leaks was found by an earlier supervisor; the detector knows too little yet to differ.
    pub handed_over: bool,
}

impl Trend {
    /// Of a worker started at `born`.
    pub fn new(quantity: Quantity, limit: Option<u64>, warm_up: Duration, born: Moment) -> Self {
        Self {
            quantity,
            limit,
            detector: Detector::of(quantity, limit, warm_up, born),
            verdict: Verdict::Unjudged,
            suspicion_told: false,
            relief_told: false,
            confirmed: None,
            fresh: None,
            handed_over: false,
        }
    }

    /// An earlier supervisor confirmed at that moment, if there is one, that it leaks.
    pub fn knowing(self, leaks_since: Option<Moment>) -> Self {
        if leaks_since.is_none() {
            return self;
        }
        Self {
            verdict: Verdict::Leak,
            suspicion_told: true,
            confirmed: leaks_since,
            handed_over: true,
            ..self
        }
    }

    /// Whether a count has come so far that it is judged.
    pub fn is_worth(limit: u64, level: u64) -> bool {
        level >= limit / COUNTS_FROM_PART
    }

    /// Takes a sample; `serves` is whether the worker does.
    pub fn observe(&mut self, at: Moment, sample: &Sample, serves: bool) {
        self.detector.observe(at, sample);
        if serves && self.fresh.is_none() {
            self.fresh = self.quantity.of(sample);
        }
    }

    /// Takes a new limit.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        if self.limit != limit {
            self.limit = limit;
            self.detector.set_limit(limit);
        }
    }

    /// Takes a new warm-up.
    pub fn set_warm_up(&mut self, warm_up: Duration) {
        self.detector.set_warm_up(warm_up);
    }

    /// Whether it leaks, as far as is known.
    pub fn is_leaking(&self) -> bool {
        self.verdict == Verdict::Leak
    }

    /// Whether the detector sees it grow, be it too little yet for a suspicion.
    pub fn grows(&self) -> bool {
        let judgement = self.detector.judgement();
        match judgement.verdict {
            Verdict::Suspect | Verdict::Leak => true,
            Verdict::Healthy => matches!(judgement.shape, Some(Shape::Slow | Shape::Saturating)),
            Verdict::Unjudged => false,
        }
    }

    /// When the limit is reached by the forecast.
    pub fn end(&self) -> Option<Moment> {
        let judgement = self.detector.judgement();
        Some(judgement.at + judgement.eta?)
    }

    /// How long a fresh worker takes to the limit at the present slope.
    pub fn fills_in(&self) -> Option<Duration> {
        let slope = self.detector.judgement().slope_per_s.filter(|slope| *slope > 0.0)?;
        let way = self.limit?.saturating_sub(self.fresh?);
        Duration::try_from_secs_f64(way as f64 / slope).ok()
    }
}
