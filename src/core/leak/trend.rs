//! The statistics of a climb: how fast, how sure, and whether it slows down.
//!
//! Slopes are medians of the slopes of all pairs of points (Theil 1950, Sen 1968), with Sen's
//! interval from Kendall's statistic: a few spikes do not move them. Two things are added.
//!
//! *Like is compared with like.* Memory that follows the work is no leak, so a pair of points counts
//! only for what work does not explain: a server that does r times the work may hold up to r times
//! the memory (elasticity between 0 and 1), and the difference that counts is the distance from that
//! range. In a daily rhythm only pairs of equal work remain, or memory that is higher at less work.
//!
//! *A climb that slows down ends somewhere.* The halves of the run give two slopes; if the second is
//! ρ times the first, ρ < 1, an exponential approach has `late · √ρ · (span / 2) / −ln ρ` still to
//! gain. A cache that fills, a heap that warms up, an allocator that reaches its plateau do this. The
//! halves are those of the *work* where it is known: a cache fills by requests, not by the clock.

use super::history::WINDOWS;

const PAIRS: usize = WINDOWS * (WINDOWS - 1) / 2;

/// Work that differs by less than this factor is the same work.
const SAME_WORK: f64 = 1.15;
/// Part of the mean work that is added before rates are compared: what happens near idle explains
/// nothing.
const IDLE_PART: f64 = 0.1;
/// Two-sided 95%.
const Z_95: f64 = 1.96;

/// The floor of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// Seconds.
    pub t: f64,
    /// Level.
    pub y: f64,
    /// Work a second in the window, where known.
    pub work: Option<f64>,
}

/// What a run of points does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trend {
    /// Seconds from the first point to the last.
    pub span_s: f64,
    /// Level a second, and its 95% interval.
    pub slope: f64,
    pub low: f64,
    pub high: f64,
    /// Slopes of the first and second half (of the work, where known).
    pub early: f64,
    pub late: f64,
    /// Standard error of `early` and of `late`.
    pub half_error: f64,
    /// Part of the pairs that work does not explain away, 0 to 1.
    pub comparable: f64,
    /// Work of the second half over work of the first, where known.
    pub work_ratio: Option<f64>,
}

impl Trend {
    /// The trend of at least four points in order of time. `idle_work` is the rate below which work
    /// explains nothing.
    pub fn of(points: &[Point], idle_work: f64) -> Option<Trend> {
        let points = &points[points.len().saturating_sub(WINDOWS)..];
        let (first, last) = (points.first()?, points.last()?);
        let n = points.len();
        let span_s = last.t - first.t;
        if n < 4 || span_s <= 0.0 {
            return None;
        }
        let works = Works::of(points, idle_work);
        let mut axis = [0.0; WINDOWS];
        works.axis(points, &mut axis);

        let mut slopes = Slopes::new();
        let (mut early, mut late) = (Slopes::new(), Slopes::new());
        let mut all_pairs = 0usize;
        let half = axis[n - 1] / 2.0;
        for j in 1..n {
            for i in 0..j {
                all_pairs += 1;
                let Some(gain) = works.unexplained(&points[i], &points[j]) else { continue };
                slopes.push(gain / (points[j].t - points[i].t));
                let run = axis[j] - axis[i];
                if run > 0.0 && axis[j] <= half {
                    early.push(gain / run);
                } else if run > 0.0 && axis[i] >= half {
                    late.push(gain / run);
                }
            }
        }
        let pairs = slopes.len;
        let slope = slopes.median()?;
        // Kendall's S has this variance under no trend; pairs explained away are missing evidence.
        let n_f = n as f64;
        let comparable = pairs as f64 / all_pairs as f64;
        let spread = Z_95 * (n_f * (n_f - 1.0) * (2.0 * n_f + 5.0) / 18.0).sqrt();
        let tail = ((pairs as f64 - spread) / 2.0).floor();
        let (low, high) = if tail >= 0.0 {
            (slopes.rank(tail as usize), slopes.rank(pairs - 1 - tail as usize))
        } else {
            (f64::NEG_INFINITY, f64::INFINITY)
        };

        // Scatter around the line, as a robust standard deviation.
        let mut residuals = Slopes::new();
        for (k, point) in points.iter().enumerate() {
            let _ = k;
            residuals.push(point.y - slope * (point.t - first.t));
        }
        let centre = residuals.median()?;
        let mut scatter = Slopes::new();
        for residual in residuals.values() {
            scatter.push((residual - centre).abs());
        }
        let sigma = 1.4826 * scatter.median()?;
        // Standard error of a least-squares slope over half the points, evenly spread.
        let half_error = sigma * (12.0 / (n_f / 2.0)).sqrt() / (span_s / 2.0);

        Some(Trend {
            span_s,
            slope,
            low,
            high,
            early: early.median().unwrap_or(0.0),
            late: late.median().unwrap_or(0.0),
            half_error,
            comparable,
            work_ratio: works.ratio(points),
        })
    }

    /// How much there is still to gain if the climb slows down as it did; infinite if it does not
    /// slow down. With `doubt` standard errors taken against the climb.
    pub fn remaining(&self, doubt: f64) -> f64 {
        let late = self.late - doubt * self.half_error;
        let early = self.early + doubt * self.half_error;
        if late <= 0.0 {
            return 0.0;
        }
        let rho = late / early;
        if early <= 0.0 || rho >= 1.0 {
            return f64::INFINITY;
        }
        late * rho.sqrt() * (self.span_s / 2.0) / -rho.ln()
    }
}

/// The work of a run of points, made comparable.
struct Works {
    known: bool,
    idle: f64,
}

impl Works {
    fn of(points: &[Point], idle_work: f64) -> Self {
        let known = points.iter().all(|point| point.work.is_some());
        let mean = points.iter().filter_map(|p| p.work).sum::<f64>() / points.len() as f64;
        Self { known, idle: idle_work + IDLE_PART * mean }
    }

    fn rate(&self, point: &Point) -> f64 {
        point.work.unwrap_or(0.0) + self.idle
    }

    /// The part of the difference that work does not explain; none if it may explain all of it.
    fn unexplained(&self, from: &Point, to: &Point) -> Option<f64> {
        let gain = to.y - from.y;
        if !self.known {
            return Some(gain);
        }
        let ratio = self.rate(to) / self.rate(from);
        if ratio < SAME_WORK && ratio > 1.0 / SAME_WORK {
            return Some(gain);
        }
        let explained = from.y * (ratio - 1.0);
        let (low, high) = (explained.min(0.0), explained.max(0.0));
        if gain > high {
            Some(gain - high)
        } else if gain < low {
            Some(gain - low)
        } else {
            None
        }
    }

    /// Where each point stands on the axis of work done, stretched to the length of the span.
    fn axis(&self, points: &[Point], axis: &mut [f64; WINDOWS]) {
        for k in 1..points.len() {
            let dt = points[k].t - points[k - 1].t;
            axis[k] = axis[k - 1] + if self.known { dt * self.rate(&points[k]) } else { dt };
        }
        let (first, last) = (points[0].t, points[points.len() - 1].t);
        let stretch = (last - first) / axis[points.len() - 1];
        for place in &mut axis[..points.len()] {
            *place *= stretch;
        }
    }

    fn ratio(&self, points: &[Point]) -> Option<f64> {
        let (early, late) = points.split_at(points.len() / 2);
        let mean =
            |half: &[Point]| half.iter().map(|p| self.rate(p)).sum::<f64>() / half.len() as f64;
        self.known.then(|| mean(late) / mean(early))
    }
}

/// A bounded bag of numbers with its median.
struct Slopes {
    values: [f32; PAIRS],
    len: usize,
}

impl Slopes {
    fn new() -> Self {
        Self { values: [0.0; PAIRS], len: 0 }
    }

    fn push(&mut self, value: f64) {
        self.values[self.len] = value as f32;
        self.len += 1;
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.values[..self.len].iter().map(|value| f64::from(*value))
    }

    /// The value of that rank, in any order before and after.
    fn rank(&mut self, rank: usize) -> f64 {
        let (_, value, _) = self.values[..self.len].select_nth_unstable_by(rank, f32::total_cmp);
        f64::from(*value)
    }

    fn median(&mut self) -> Option<f64> {
        let middle = self.len / 2;
        match self.len {
            0 => None,
            len if len % 2 == 1 => Some(self.rank(middle)),
            _ => Some((self.rank(middle - 1) + self.rank(middle)) / 2.0),
        }
    }
}
