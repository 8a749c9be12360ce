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
