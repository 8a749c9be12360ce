//! Series with what is known of them, and what a detector made of them.

pub mod baselines;
pub mod generated;
pub mod quarter;
pub mod real;
pub mod score;

use stanch::core::leak::{Detector, DetectorSettings, Judgement, Verdict};
use stanch::core::{Moment, Sample};
use std::time::Duration;

/// What a series is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Label {
    Healthy,
    /// A leak that begins at `start_s` and reaches the limit at `limit_s`, perhaps after the end of
    /// the series.
    Leak {
        start_s: f64,
        limit_s: f64,
    },
    /// Still rises at its end, ever more slowly: nobody can say yet. Scored apart.
    Ambiguous,
}

/// A series of one worker.
pub struct Series {
    pub name: String,
    pub about: String,
    pub label: Label,
    pub limit_kib: u64,
    pub warm_up_s: f64,
    pub samples: Vec<(f64, Sample)>,
}

impl Series {
    pub fn seconds(&self) -> f64 {
        self.samples.last().map_or(0.0, |(t_s, _)| *t_s)
    }

    /// Times and levels, in KiB.
    pub fn levels(&self) -> impl Iterator<Item = (f64, f64)> {
        self.samples.iter().filter_map(|(t_s, sample)| Some((*t_s, sample.growth_kib()? as f64)))
    }
}

/// What the detector said of a series.
pub struct Run {
    /// When it first said leak, and the judgement then.
    pub first: Option<(f64, Judgement)>,
    pub last: Judgement,
}

/// The detector over a whole series.
pub fn run(series: &Series) -> Run {
    run_from(Moment::default(), series)
}

/// The same for a worker that was started at that moment.
pub fn run_from(born: Moment, series: &Series) -> Run {
    let settings = DetectorSettings {
        limit_kib: Some(series.limit_kib),
        warm_up: Duration::from_secs_f64(series.warm_up_s),
    };
    let mut detector = Detector::new(settings, born);
    let mut run = Run { first: None, last: *detector.judgement() };
    for (t_s, sample) in &series.samples {
        detector.observe(born + Duration::from_secs_f64(*t_s), sample);
        run.last = *detector.judgement();
        if run.first.is_none() && run.last.verdict == Verdict::Leak {
            run.first = Some((*t_s, run.last));
        }
    }
    run
}
