//! The statistics of a climb: how fast, how sure, and whether it slows down.
//!
//! Bag are medians of the slopes of all pairs of points (Theil 1950, Sen 1968), with Sen's
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

/// Work that differs by less than this many times its own unrest from window to window is the same
/// work; by a factor of more than [`SAME_WORK`] it never is. (A fixed margin would let the short
/// pairs of a slow morning through, and with them its whole slope.)
const UNREST: f64 = 1.5;
const SAME_WORK: f64 = 1.15;
/// Part of the points that must know their work; the others take their neighbour's.
const KNOWN_PART: f64 = 0.75;
/// Part of the mean work that is added before rates are compared: what happens near idle explains
/// nothing.
const IDLE_PART: f64 = 0.1;
/// Two steps draw a bent climb nearly as well as a line does; stairs must be better by this factor.
const FAR_BETTER: f64 = 0.25;
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
    /// Bag of the first and second half (of the work, where known).
    pub early: f64,
    pub late: f64,
    /// Standard error of `early` and of `late`.
    pub half_error: f64,
    /// Part of the pairs that work does not explain away, 0 to 1.
    pub comparable: f64,
    /// The points stand on one or two steps, not on a slope.
    pub stairs: bool,
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
        let axis = works.axis(points);

        let mut slopes = Bag::new();
        let (mut early, mut late) = (Bag::new(), Bag::new());
        let mut all_pairs = 0usize;
        let half = axis[n - 1] / 2.0;
        for j in 1..n {
            for i in 0..j {
                all_pairs += 1;
                let Some(gain) = works.unexplained(points, i, j) else { continue };
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
        let mut residuals = Bag::new();
        for point in points {
            residuals.push(point.y - slope * (point.t - first.t));
        }
        let centre = residuals.median()?;
        let mut scatter = Bag::new();
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
            stairs: is_stairs(points),
            work_ratio: works.ratio(n),
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
    /// Work rates over the idle rate.
    rates: [f64; WINDOWS],
    /// Factor up to which two rates are the same.
    same: f64,
}

impl Works {
    fn of(points: &[Point], idle_work: f64) -> Self {
        let n = points.len();
        let told = points.iter().filter(|point| point.work.is_some()).count();
        let known = told as f64 >= KNOWN_PART * n as f64 && told > 1;
        let mut works = Self { known, rates: [1.0; WINDOWS], same: 1.0 };
        if !known {
            return works;
        }
        let sum: f64 = points.iter().filter_map(|point| point.work).sum();
        let idle = idle_work + IDLE_PART * sum / told as f64;
        let mut near = points.iter().find_map(|point| point.work).unwrap_or(0.0);
        for (rate, point) in works.rates.iter_mut().zip(points) {
            near = point.work.unwrap_or(near);
            *rate = near + idle;
        }
        let mut unrest = Bag::new();
        for pair in works.rates[..n].windows(2) {
            unrest.push((pair[1] / pair[0]).ln().abs());
        }
        works.same = (UNREST * unrest.median().unwrap_or(0.0)).exp().min(SAME_WORK);
        works
    }

    /// The part of the difference that work does not explain; none if it may explain all of it.
    fn unexplained(&self, points: &[Point], i: usize, j: usize) -> Option<f64> {
        let gain = points[j].y - points[i].y;
        let ratio = self.rates[j] / self.rates[i];
        if ratio <= self.same && ratio * self.same >= 1.0 {
            return Some(gain);
        }
        let explained = points[i].y * (ratio - 1.0);
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
    fn axis(&self, points: &[Point]) -> [f64; WINDOWS] {
        let mut axis = [0.0; WINDOWS];
        let n = points.len();
        for k in 1..n {
            axis[k] = axis[k - 1] + (points[k].t - points[k - 1].t) * self.rates[k];
        }
        let stretch = (points[n - 1].t - points[0].t) / axis[n - 1];
        for place in &mut axis[..n] {
            *place *= stretch;
        }
        axis
    }

    fn ratio(&self, n: usize) -> Option<f64> {
        let (early, late) = self.rates[..n].split_at(n / 2);
        let mean = |half: &[f64]| half.iter().sum::<f64>() / half.len() as f64;
        self.known.then(|| mean(late) / mean(early))
    }
}

/// True if a few levels draw the points better than a line does: one step (a reload, a job, a new
/// record of the allocator), or two far better. What climbs in one or two steps is not a trend.
fn is_stairs(points: &[Point]) -> bool {
    let n = points.len();
    // Sums of the first k levels and squares, around the first for precision.
    let (mut sums, mut squares) = ([0.0; WINDOWS + 1], [0.0; WINDOWS + 1]);
    let (mut tt, mut ty) = (0.0, 0.0);
    let middle = points.iter().map(|point| point.t).sum::<f64>() / n as f64;
    for (k, point) in points.iter().enumerate() {
        let (y, t) = (point.y - points[0].y, point.t - middle);
        sums[k + 1] = sums[k] + y;
        squares[k + 1] = squares[k] + y * y;
        tt += t * t;
        ty += t * y;
    }
    // Squared error of one level over the points from a to b.
    let level = |a: usize, b: usize| {
        let sum: f64 = sums[b] - sums[a];
        squares[b] - squares[a] - sum * sum / (b - a) as f64
    };
    let line = level(0, n) - ty * ty / tt;
    let one_step = (1..n).map(|a| level(0, a) + level(a, n)).fold(f64::INFINITY, f64::min);
    let two_steps = (1..n - 1)
        .flat_map(|a| (a + 1..n).map(move |b| (a, b)))
        .map(|(a, b)| level(0, a) + level(a, b) + level(b, n))
        .fold(f64::INFINITY, f64::min);
    one_step < line || two_steps < FAR_BETTER * line
}

/// A bounded bag of numbers with its median.
struct Bag {
    values: [f32; PAIRS],
    len: usize,
}

impl Bag {
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
