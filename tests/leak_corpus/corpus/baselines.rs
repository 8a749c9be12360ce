//! What others do, with their published constants, on the same series. Each tells when it would first
//! have called a leak; none is asked in the warm-up, and each at most once a minute (or as often as
//! there is a sample).

use super::Series;

pub struct Baseline {
    pub name: &'static str,
    pub detect: fn(&Series) -> Option<f64>,
}

pub const ALL: &[Baseline] = &[
    Baseline { name: "fixed threshold, 80%", detect: threshold },
    Baseline { name: "linear fit, predict_linear", detect: predict_linear },
    Baseline { name: "Mann–Kendall, 95%", detect: mann_kendall },
    Baseline { name: "Precog's rule", detect: precog },
    Baseline { name: "coroot's rule", detect: coroot },
    Baseline { name: "a careful simple one", detect: simple },
];

type Points = [(f64, f64)];

/// Asks `rule` once a minute of what was seen since the warm-up, at most `window_s` of it, in at most
/// some 240 points.
fn first(series: &Series, window_s: f64, rule: impl Fn(&Points) -> bool) -> Option<f64> {
    let points: Vec<_> = series.levels().filter(|(t, _)| *t >= series.warm_up_s).collect();
    let mut asked = f64::NEG_INFINITY;
    // Series of weeks are asked a thousand times as well.
    let every = 60f64.max(series.seconds() / 1000.0);
    let mut from = 0;
    for (n, &(now, _)) in points.iter().enumerate() {
        if now - asked < every {
            continue;
        }
        asked = now;
        while points[from].0 < now - window_s {
            from += 1;
        }
        let window = &points[from..=n];
        let thin: Vec<_> = window.iter().step_by(window.len().div_ceil(240)).copied().collect();
        if thin.len() >= 8 && rule(&thin) {
            return Some(now);
        }
    }
    None
}

struct Line {
    slope: f64,
    end: f64,
    r2: f64,
}

/// Least squares.
fn fit(points: &Points) -> Line {
    let n = points.len() as f64;
    let (mt, my) = points.iter().fold((0.0, 0.0), |(t, y), p| (t + p.0 / n, y + p.1 / n));
    let (mut tt, mut ty, mut yy) = (0.0, 0.0, 0.0);
    for (t, y) in points {
        tt += (t - mt) * (t - mt);
        ty += (t - mt) * (y - my);
        yy += (y - my) * (y - my);
    }
    let slope = if tt > 0.0 { ty / tt } else { 0.0 };
    let r2 = if yy > 0.0 { slope * ty / yy } else { 0.0 };
    Line { slope, end: my + slope * (points[points.len() - 1].0 - mt), r2 }
}

/// 80% of the limit, the mark that most alert rules for containers ship with.
fn threshold(series: &Series) -> Option<f64> {
    let mark = 0.8 * series.limit_kib as f64;
    series.levels().find(|(_, level)| *level >= mark).map(|(t_s, _)| t_s)
}

/// `predict_linear(memory[1h], 4 * 3600) > limit`, the example of the Prometheus documentation.
fn predict_linear(series: &Series) -> Option<f64> {
    first(series, 3600.0, |points| {
        let line = fit(points);
        line.end + line.slope * 4.0 * 3600.0 > series.limit_kib as f64
    })
}

/// Mann (1945), Kendall (1975): S beyond its two-sided 95% bound under no trend, ties counted; and
/// Sen's slope upwards, which S says as well.
fn mann_kendall(series: &Series) -> Option<f64> {
    first(series, f64::INFINITY, |points| {
        let points: Vec<_> = points.iter().step_by(points.len().div_ceil(100)).collect();
        let n = points.len() as f64;
        let mut s = 0.0;
        for (j, late) in points.iter().enumerate() {
            s += points[..j].iter().map(|early| (late.1 - early.1).signum_or_zero()).sum::<f64>();
        }
        s - 1.0 > 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt()
    })
}

trait Sign {
    fn signum_or_zero(self) -> f64;
}

impl Sign for f64 {
    fn signum_or_zero(self) -> f64 {
        if self == 0.0 { 0.0 } else { self.signum() }
    }
}

/// Jindal et al., Online Memory Leak Detection in the Cloud-based Infrastructures (2021): a line over
/// what was seen since the last change point with R² of at least 0.75 that reaches the limit within
/// the critical time of seven days. The change points of the paper are kept simple: the lines over all
/// and over the younger half and quarter are asked.
fn precog(series: &Series) -> Option<f64> {
    first(series, f64::INFINITY, |points| {
        [1, 2, 4].into_iter().any(|part| {
            let tail = &points[points.len() - points.len() / part..];
            if tail.len() < 8 {
                return false;
            }
            let line = fit(tail);
            let left = series.limit_kib as f64 - line.end;
            line.r2 >= 0.75 && line.slope > 0.0 && left / line.slope <= 7.0 * 86400.0
        })
    })
}

/// coroot (auditor/memory.go, model/check.go: MemoryLeakPercent, 10): the linear regression over the
/// window on view, an hour by default, grows by more than 10% an hour.
fn coroot(series: &Series) -> Option<f64> {
    first(series, 3600.0, |points| {
        let line = fit(points);
        let before = line.end - line.slope * 3600.0;
        before > 0.0 && line.end > 1.1 * before
    })
}

/// What a careful person writes in an afternoon: the floors of twenty-four windows of all since the
/// warm-up, their Theil–Sen slope with the work taken out, most pairs rising, the last third no slower
/// than 0.6 times the middle one and the second half than 0.6 times the first, and a tenth of the way used.
fn simple(series: &Series) -> Option<f64> {
    const WINDOWS: usize = 24;
    let every = 15f64.max(series.seconds() / 1000.0);
    let past: Vec<_> = levels_with_work(series).filter(|p| p.0 >= series.warm_up_s).collect();
    let mut asked = f64::NEG_INFINITY;
    for (n, now) in past.iter().enumerate() {
        if now.0 - asked < every || n < 4 * WINDOWS.min(past.len() / 8) {
            continue;
        }
        asked = now.0;
        let floors = floors(&past[..=n], WINDOWS);
        if floors.len() >= 8 && now.0 >= 5.0 * series.warm_up_s && climbs(&floors, series.limit_kib)
        {
            return Some(now.0);
        }
    }
    None
}

/// Time, level and work done so far, where it is known.
fn levels_with_work(series: &Series) -> impl Iterator<Item = (f64, f64, Option<f64>)> {
    let (mut requests, mut before) = (0.0, 0.0);
    series.samples.iter().filter_map(move |(t, sample)| {
        requests += sample.load_rps.unwrap_or(0.0) * (t - before);
        before = *t;
        let work = sample.load_rps.map(|_| requests).or(sample.cpu_ticks.map(|ticks| ticks as f64));
        Some((*t, sample.growth_kib()? as f64, work))
    })
}

/// The lowest level of each window with its time, and the rate of work in it.
pub fn floors(past: &[(f64, f64, Option<f64>)], windows: usize) -> Vec<(f64, f64, Option<f64>)> {
    past.chunks(past.len().div_ceil(windows))
        .filter(|window| window.len() > 1 || past.len() <= windows)
        .map(|window| {
            let low = window.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            let (first, last) = (window[0], window[window.len() - 1]);
            let work =
                first.2.zip(last.2).map(|(a, b)| (b - a).max(0.0) / (last.0 - first.0).max(1e-9));
            (low.0, low.1, work)
        })
        .collect()
}

fn climbs(floors: &[(f64, f64, Option<f64>)], limit_kib: u64) -> bool {
    let mut points: Vec<_> = floors.iter().map(|floor| (floor.0, floor.1)).collect();
    let n = points.len();
    let rates: Option<Vec<f64>> = floors.iter().map(|floor| floor.2).collect();
    if let Some(rates) = rates {
        // Memory for each unit of work, by what the trend leaves, and never more than all of it.
        let trend = theil_sen(&points, |k| points[k].0);
        let left: Vec<_> = points.iter().map(|p| (p.0, p.1 - trend * p.0)).collect();
        let mean = rates.iter().sum::<f64>() / n as f64;
        let most = points[0].1 / mean.max(1e-9);
        let per_work = theil_sen(&left, |k| rates[k]).clamp(0.0, most);
        for (point, rate) in points.iter_mut().zip(&rates) {
            point.1 -= per_work * (rate - mean);
        }
    }
    let slope = |from: usize, to: usize| {
        let part = &points[from..to];
        theil_sen(part, |k| part[k].0)
    };
    let all = slope(0, n);
    let gain = all * (points[n - 1].0 - points[0].0);
    let rising = (0..n).flat_map(|j| (0..j).map(move |i| (i, j)));
    let up = rising.clone().filter(|(i, j)| points[*j].1 > points[*i].1).count();
    up as f64 >= 0.85 * rising.count() as f64
        && gain >= 0.1 * (limit_kib as f64 - points[0].1)
        && slope(n / 2, n) >= 0.6 * slope(0, n / 2)
        && slope(2 * n / 3, n) >= 0.6 * slope(n / 3, 2 * n / 3)
}

/// The median slope of all pairs along an axis.
pub fn theil_sen(points: &Points, axis: impl Fn(usize) -> f64) -> f64 {
    let mut slopes: Vec<f64> = (0..points.len())
        .flat_map(|j| (0..j).map(move |i| (i, j)))
        .filter(|(i, j)| (axis(*j) - axis(*i)).abs() > 1e-9)
        .map(|(i, j)| (points[j].1 - points[i].1) / (axis(j) - axis(i)))
        .collect();
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied().unwrap_or(0.0)
}
