//! The rhythm of the day, by the days themselves.
//!
//! Where no work is told, or work does not tell all, a rhythm hides a slow leak for days. Hirsch, Slack and
//! Smith (1982) compare only observations of the same season; here those are points whole days apart. What
//! comes back at the same hour is then taken out of the levels, so that the other tests see the rest.

use super::bag::pairs;
use super::history::WINDOWS;
use super::trend::Point;

/// A day.
pub(super) const DAY_S: f64 = 24.0 * 3600.0;
/// Days that a run has to hold for its points to be compared with those of the same hour alone, and how
/// near that is.
const SEASONS: f64 = 1.9;
const HOUR_WIDTH_S: f64 = 1.5 * 3600.0;
/// They must fall by this part of their range, as a rhythm does.
const EBB_PART: f64 = 0.3;

/// Whether days are to be compared: the points hold almost two, fall as a rhythm does, and enough of them
/// are of the same hours.
pub(super) fn is_daily(points: &[Point]) -> bool {
    let n = points.len();
    let same = || pairs(n).filter(|(i, j)| is_same_hour(points[*i].t, points[*j].t)).count();
    points[n - 1].t - points[0].t >= SEASONS * DAY_S && has_ebb(points) && same() >= n / 2
}

/// Whether the levels fall by a good part of the range that they have.
fn has_ebb(points: &[Point]) -> bool {
    let (mut low, mut high, mut fall) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
    for point in points {
        (low, high) = (low.min(point.y), f64::max(high, point.y));
        fall = f64::max(fall, high - point.y);
    }
    fall >= EBB_PART * (high - low)
}

/// Whether two moments are whole days apart.
pub(super) fn is_same_hour(from: f64, to: f64) -> bool {
    let days = (to - from) / DAY_S;
    days.round() >= 1.0 && (days - days.round()).abs() * DAY_S < HOUR_WIDTH_S
}

/// Takes out of the levels what comes back at the same hour, and tells how much it is.
pub(super) fn take_out(points: &[Point], levels: &mut [f64], slope: f64) -> f64 {
    let n = points.len();
    let mut season = [0.0; WINDOWS];
    let off = |k: usize| levels[k] - slope * (points[k].t - points[0].t);
    for (k, at) in season[..n].iter_mut().enumerate() {
        let near = (0..n).filter(|j| {
            let (from, to) = (points[k.min(*j)].t, points[k.max(*j)].t);
            *j == k || is_same_hour(from, to)
        });
        let (count, sum) = near.fold((0.0, 0.0), |(count, sum), j| (count + 1.0, sum + off(j)));
        *at = sum / count;
    }
    let mean = season[..n].iter().sum::<f64>() / n as f64;
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (level, at) in levels.iter_mut().zip(&season[..n]) {
        (low, high) = (low.min(*at), high.max(*at));
        *level -= at - mean;
    }
    high - low
}
