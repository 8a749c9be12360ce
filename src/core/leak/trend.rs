//! The statistics of a climb: how fast, how sure, and whether it slows down.
//!
//! Slopes are medians of those of all pairs of points (Theil 1950, Sen 1968), with Sen's interval from
//! Kendall's statistic: a few spikes do not move them. What work explains does not count (`work`).
//!
//! *A climb that slows down ends somewhere.* The halves of the run give two slopes; if the second is
//! ρ times the first, ρ < 1, an exponential approach has `late · √ρ · (span / 2) / −ln ρ` still to
//! gain. A cache that fills, a heap that warms up, an allocator that reaches its plateau do this. The
//! halves are those of the *work* where it is known: a cache fills by requests, not by the clock.

use super::bag::{Bag, pairs};
use super::history::WINDOWS;
use super::season;
use super::work::Works;

/// Two steps draw a bent climb nearly as well as a line does; stairs must be better by this factor.
const FAR_BETTER: f64 = 0.25;
/// A climb bends on if its last quarter is steeper than the one before by this factor.
const BEND_ON: f64 = 1.2;
/// Two-sided 95%.
const Z_95: f64 = 1.96;

/// The floor of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// Seconds.
    pub t: f64,
    /// Level.
    pub y: f64,
    /// Highest level in the window.
    pub ceiling: f64,
    /// Work a second in the window, where known.
    pub work: Option<f64>,
}

/// What a run of points does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trend {
    /// Seconds from the first point to the last.
    pub span_s: f64,
    /// From the first level to the last, at equal work.
    pub rise: f64,
    /// Level a second, and its 95% interval.
    pub slope: f64,
    pub low: f64,
    pub high: f64,
    /// Slope of the first and second half (of the work, where known).
    pub early: f64,
    pub late: f64,
    /// The last quarter is steeper than the third.
    pub bends_on: bool,
    /// Standard error of `early` and of `late`.
    pub half_error: f64,
    /// By the clock alone: early and late, where work is known and was even but for the beginning.
    clock: Option<[f64; 2]>,
    /// How many standard errors the trend is above zero, by the clock or by the work; about normal for
    /// noise and for a walk without a drift.
    pub drift: f64,
    /// Part of the pairs that work does not explain away, 0 to 1.
    pub comparable: f64,
    /// From the lowest to the highest of the day's rhythm, where days were compared.
    pub season: f64,
    /// The points stand on one or two steps, not on a slope.
    pub stairs: bool,
    /// Part of the steps from window to window in which next to nothing was gained.
    pub still: f64,
    /// Growth in the windows of less work over growth in those of more, where work went up and down.
    pub idle_growth: Option<f64>,
    /// Work of the second half over work of the first, where known.
    pub work_ratio: Option<f64>,
}

impl Trend {
    /// The trend of at least four points in order of time. `idle_work` is the rate below which work
    /// explains nothing.
    pub fn of(points: &[Point], idle_work: f64) -> Option<Trend> {
        let mut climb = Climb::of(points, idle_work)?;
        let (low, high) = (climb.low(), climb.high());
        let Climb { points, works, axis, levels, slope, .. } = &climb;
        let (n, slope, span_s) = (points.len(), *slope, climb.span_s());

        // Scatter around the line, as a robust standard deviation.
        let off_line = |k: usize| levels[k] - slope * (points[k].t - points[0].t);
        let centre = Bag::from(n, off_line).median()?;
        let sigma = 1.4826 * Bag::from(n, |k| (off_line(k) - centre).abs()).median()?;
        // Standard error of a least-squares slope over half the points, evenly spread.
        let half_error = sigma * (12.0 / (n as f64 / 2.0)).sqrt() / (span_s / 2.0);

        let clock = Works::clock(points);
        let halves = |axis| [climb.part(axis, 0.0, 0.5), climb.part(axis, 0.5, 1.0)];
        let [early, late] = halves(axis);
        let bends_on = climb.part(axis, 0.75, 1.0) > BEND_ON * climb.part(axis, 0.5, 0.75);
        let by_clock = drift(&clock[..n], &levels[..n]);
        let by_work = if works.known { drift(&axis[..n], &levels[..n]) } else { by_clock };
        Some(Trend {
            span_s,
            rise: levels[n - 1] - levels[0],
            slope,
            low,
            high,
            early,
            late,
            bends_on,
            half_error,
            clock: works.is_even(n).then(|| halves(&clock)),
            drift: by_clock.max(by_work),
            comparable: climb.comparable,
            season: climb.season,
            stairs: is_stairs(points, levels),
            still: still(&levels[..n]),
            idle_growth: works.idle_growth(points),
            work_ratio: works.ratio(n),
        })
    }

    /// How much there is still to gain if the climb slows down as it did; infinite if it does not
    /// slow down. With `doubt` standard errors taken against the climb; a late slope of `slack` times
    /// the early one is no slower.
    pub fn remaining(&self, doubt: f64, slack: f64) -> f64 {
        let doubt = doubt * self.half_error;
        let left =
            |early: f64, late: f64| ahead(slack * early + doubt, late - doubt, self.span_s / 2.0);
        let by_work = left(self.early, self.late);
        // CPU time is a poor measure of requests while a runtime compiles itself: where the work was
        // even after that, the clock has a say.
        self.clock.map_or(by_work, |[early, late]| by_work.min(left(early, late)))
    }
}

/// What a long run says of a climb at its end.
pub(super) struct LongRun {
    /// Part of the pairs that work does not explain away.
    pub comparable: f64,
    /// How much a sure climb has still to gain by its last two thirds, in which a fast beginning has no
    /// part; infinite if it is not sure.
    pub remaining: f64,
}

impl LongRun {
    /// The same arguments as of [`Trend::of`] and [`Trend::remaining`].
    pub fn of(points: &[Point], idle_work: f64, slack: f64) -> Option<Self> {
        let mut climb = Climb::of(points, idle_work)?;
        let comparable = climb.comparable;
        if climb.low() <= 0.0 {
            return Some(Self { comparable, remaining: f64::INFINITY });
        }
        let third = |from, to| climb.part(&climb.axis, from, to);
        let (middle, last) = (third(0.33, 0.67), third(0.67, 1.0));
        Some(Self { comparable, remaining: ahead(slack * middle, last, climb.span_s() / 3.0) })
    }
}

/// Points at equal work, and the slopes of their pairs.
struct Climb<'a> {
    points: &'a [Point],
    works: Works,
    /// Where each point stands on the axis of work.
    axis: [f64; WINDOWS],
    /// Levels with the work taken out.
    levels: [f64; WINDOWS],
    slopes: Bag,
    /// Their median.
    slope: f64,
    /// Part of the pairs that work does not explain away.
    comparable: f64,
    /// From the lowest to the highest of the day's rhythm, where it was taken out.
    season: f64,
}

impl<'a> Climb<'a> {
    fn of(points: &'a [Point], idle_work: f64) -> Option<Self> {
        let points = &points[points.len().saturating_sub(WINDOWS)..];
        let n = points.len();
        if n < 4 || points[n - 1].t <= points[0].t {
            return None;
        }
        let works = Works::of(points, idle_work);

        // First what pairs of like work say, then all pairs with the work taken out.
        let by_hour = season::is_daily(points);
        let (mut like, mut asked) = (Bag::new(), 0);
        for (i, j) in pairs(n) {
            if by_hour && !season::is_same_hour(points[i].t, points[j].t) {
                continue;
            }
            asked += 1;
            if let Some(gain) = works.unexplained((i, points[i].y), (j, points[j].y)) {
                like.push(gain / (points[j].t - points[i].t));
            }
        }
        let comparable = like.len as f64 / f64::from(asked.max(1));
        let trend = like.median()?;
        let mut levels = works.taken_out(points, trend);
        let season = if by_hour { season::take_out(points, &mut levels[..n], trend) } else { 0.0 };
        let mut slopes = like;
        if works.known || by_hour {
            slopes.len = 0;
            for (i, j) in pairs(n) {
                slopes.push((levels[j] - levels[i]) / (points[j].t - points[i].t));
            }
        }
        let slope = slopes.median()?;
        let axis = works.axis(points);
        Some(Self { points, axis, works, levels, slopes, slope, comparable, season })
    }

    fn span_s(&self) -> f64 {
        self.points[self.points.len() - 1].t - self.points[0].t
    }

    /// Pairs below Sen's 95% interval of the slope, and as many above.
    fn tail(&self) -> usize {
        // Kendall's S has this variance under no trend.
        let n = self.points.len() as f64;
        let spread = Z_95 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        ((self.slopes.len as f64 - spread) / 2.0).max(0.0) as usize
    }

    fn low(&mut self) -> f64 {
        self.slopes.rank(self.tail())
    }

    fn high(&mut self) -> f64 {
        self.slopes.rank(self.slopes.len - 1 - self.tail())
    }

    /// Median slope along an axis, between two parts of the span; zero with no pair in it.
    fn part(&self, axis: &[f64; WINDOWS], from: f64, to: f64) -> f64 {
        let span_s = self.span_s();
        let axis = &axis[..self.points.len()];
        let first = axis.partition_point(|place| *place < from * span_s);
        let end = axis.partition_point(|place| *place <= to * span_s);
        let mut within = Bag::new();
        for j in first..end {
            for i in first..j {
                let run = axis[j] - axis[i];
                if run > 0.0 {
                    within.push((self.levels[j] - self.levels[i]) / run);
                }
            }
        }
        within.median().unwrap_or(0.0)
    }
}

/// What an exponential approach has still to gain whose slope fell from `early` to `late` within
/// `apart_s`.
fn ahead(early: f64, late: f64, apart_s: f64) -> f64 {
    if late <= 0.0 {
        return 0.0;
    }
    let rho = late / early;
    if early <= 0.0 || rho >= 1.0 {
        return f64::INFINITY;
    }
    late * rho.sqrt() * apart_s / -rho.ln()
}

/// How many standard errors the trend along an axis is above zero, whether what disturbs it wanders off
/// or comes back: the quasi-feasible GLS test of Perron and Yabu (2009). The residuals of a line tell how
/// much of the disturbance stays from point to point. If that cannot be told from all of it, the steps
/// are asked; else the points, less that much of the one before.
fn drift(axis: &[f64], levels: &[f64]) -> f64 {
    let n = levels.len() as f64;
    let line = Line::of(axis.iter().copied().zip(levels.iter().copied()));
    let off = |k: usize| levels[k] - line.at(axis[k]);
    let (now, before) = (1..levels.len()).fold((0.0, 0.0), |(now, before), k| {
        (now + off(k) * off(k - 1), before + off(k - 1) * off(k - 1))
    });
    // Around a fitted line the estimate a is low by about (2 + 4a) / n.
    let stays = ((now / before * n + 2.0) / (n - 4.0)).max(0.0);
    let walks = stays >= 1.0 - 1.0 / n.sqrt();
    let less = |part: f64| {
        let of = move |of: &[f64], k: usize| of[k] - part * of[k - 1];
        (1..levels.len()).map(move |k| (of(axis, k), of(levels, k)))
    };
    if walks {
        let (run, gain) = less(1.0).fold((0.0, 0.0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
        let squares: f64 = less(1.0).map(|(run_k, rise)| (rise - gain / run * run_k).powi(2)).sum();
        as_normal(gain / (squares / (n - 2.0) * (n - 1.0)).sqrt(), n - 2.0)
    } else {
        let line = Line::of(less(stays));
        as_normal(line.slope / line.error, n - 3.0)
    }
}

/// Student's t with d degrees of freedom as a standard normal: about √(d·ln(1 + t²/d)) (Wallace 1959).
fn as_normal(t: f64, freedom: f64) -> f64 {
    t.signum() * (freedom * (t * t / freedom).ln_1p()).sqrt()
}

/// A line of least squares.
struct Line {
    slope: f64,
    /// Standard error of the slope.
    error: f64,
    middle: (f64, f64),
}

impl Line {
    fn of(points: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let (n, x, y) = points
            .clone()
            .fold((0.0, 0.0, 0.0), |(n, x, y), point| (n + 1.0, x + point.0, y + point.1));
        let middle = (x / n, y / n);
        let (xx, xy, yy) = points.fold((0.0, 0.0, 0.0), |(xx, xy, yy), point| {
            let (x, y) = (point.0 - middle.0, point.1 - middle.1);
            (xx + x * x, xy + x * y, yy + y * y)
        });
        let slope = xy / xx;
        let error = ((yy - slope * xy).max(0.0) / (n - 2.0) / xx).sqrt();
        Self { slope, error, middle }
    }

    fn at(&self, x: f64) -> f64 {
        self.middle.1 + self.slope * (x - self.middle.0)
    }
}

/// True if a few levels draw the points better than a line does: one step (a reload, a job, a new
/// record of the allocator), or two far better. What climbs in one or two steps is not a trend.
fn is_stairs(points: &[Point], levels: &[f64; WINDOWS]) -> bool {
    let n = points.len();
    // Sums of the first k levels and squares, around the first for precision.
    let (mut sums, mut squares) = ([0.0; WINDOWS + 1], [0.0; WINDOWS + 1]);
    let (mut tt, mut ty) = (0.0, 0.0);
    let middle = points.iter().map(|point| point.t).sum::<f64>() / n as f64;
    for (k, point) in points.iter().enumerate() {
        let (y, t) = (levels[k] - levels[0], point.t - middle);
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
    let two_steps = || {
        (1..n - 1)
            .flat_map(|a| (a + 1..n).map(move |b| (a, b)))
            .map(|(a, b)| level(0, a) + level(a, b) + level(b, n))
            .fold(f64::INFINITY, f64::min)
    };
    one_step < line || two_steps() < FAR_BETTER * line
}

/// The part of the steps that gain less than a fifth of the mean step.
fn still(levels: &[f64]) -> f64 {
    let steps = levels.len() as f64 - 1.0;
    let mean = (levels[levels.len() - 1] - levels[0]) / steps;
    let still = levels.windows(2).filter(|pair| (pair[1] - pair[0]).abs() < mean / 5.0).count();
    still as f64 / steps
}
