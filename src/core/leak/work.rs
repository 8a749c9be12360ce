//! The work of a run of points, and what it explains of their memory.
//!
//! *Like is compared with like.* Memory that follows the work is no leak, so a pair of points counts
//! only for what work does not explain: a server that does r times the work may hold up to r times
//! the memory (elasticity between 0 and 1), and the difference that counts is the distance from that
//! range. In a daily rhythm only pairs of equal work remain, or memory that is higher at less work.

use super::bag::{Bag, pairs};
use super::history::WINDOWS;
use super::trend::Point;

/// Work rates are means over some windows to each side, at most so many, and one for so many points: a
/// single window's is noisy, above all with CPU told in ticks of 10 ms.
const SMOOTH: usize = 2;
const SMOOTH_POINTS: usize = 8;
/// Rates as near as this do not tell what memory a unit of work takes.
const OTHER_WORK: f64 = 1.05;
/// Work varies if its rates differ by this factor.
const VARIED_WORK: f64 = 2.0;
/// Part of the points that must know their work; the others take their neighbour's.
const KNOWN_PART: f64 = 0.75;
/// Work may explain this much more than in proportion: on a ramp a floor is older than its window's work.
const WORK_SLACK: f64 = 1.1;
/// Work is taken out if it leaves less than this part of what a trend does not explain.
const UNEXPLAINED_PART: f64 = 0.5;
/// Part of the mean work that is added before rates are compared: idling explains nothing.
const IDLE_PART: f64 = 0.05;
/// Work rates that differ by less than this factor are even.
const LIKE_WORK: f64 = 2.0;
/// The work of a run of points, made comparable.
pub(super) struct Works {
    pub known: bool,
    /// Work rates and the idle rate, window by window, and smoothed.
    raw: [f64; WINDOWS],
    rates: [f64; WINDOWS],
}

impl Works {
    pub fn of(points: &[Point], idle_work: f64) -> Self {
        let n = points.len();
        let told = points.iter().filter(|point| point.work.is_some()).count();
        let known = told as f64 >= KNOWN_PART * n as f64 && told > 1;
        let mut works = Self { known, raw: [1.0; WINDOWS], rates: [1.0; WINDOWS] };
        if !known {
            return works;
        }
        let sum: f64 = points.iter().filter_map(|point| point.work).sum();
        let idle = idle_work + IDLE_PART * sum / told as f64;
        let mut near = points.iter().find_map(|point| point.work).unwrap_or(0.0);
        for (rate, point) in works.raw.iter_mut().zip(points) {
            near = point.work.unwrap_or(near);
            *rate = near + idle;
        }
        let smooth = (n / SMOOTH_POINTS).min(SMOOTH);
        for (k, rate) in works.rates[..n].iter_mut().enumerate() {
            let around = &works.raw[k.saturating_sub(smooth)..(k + smooth + 1).min(n)];
            *rate = around.iter().sum::<f64>() / around.len() as f64;
        }
        works
    }

    /// The part of the difference that work does not explain; none if it may explain all of it.
    pub fn unexplained(&self, (i, from): (usize, f64), (j, to): (usize, f64)) -> Option<f64> {
        let gain = to - from;
        let ratio = self.rates[j] / self.rates[i];
        if !self.known {
            return Some(gain);
        }
        let explained = WORK_SLACK * from * (ratio - 1.0);
        let (low, high) = (explained.min(0.0), explained.max(0.0));
        if gain > high {
            Some(gain - high)
        } else if gain < low {
            Some(gain - low)
        } else {
            None
        }
    }

    /// The levels at mean work: what memory a unit of work takes is measured on what the trend of
    /// like pairs leaves, between nothing and in proportion.
    pub fn taken_out(&self, points: &[Point], slope: f64) -> [f64; WINDOWS] {
        let n = points.len();
        let mut levels = [0.0; WINDOWS];
        for (level, point) in levels.iter_mut().zip(points) {
            *level = point.y;
        }
        let mut per_work = Bag::new();
        for (i, j) in pairs(n) {
            let ratio = self.rates[j] / self.rates[i];
            if !(1.0 / OTHER_WORK..=OTHER_WORK).contains(&ratio) {
                let gain = points[j].y - points[i].y - slope * (points[j].t - points[i].t);
                per_work.push(gain / (self.rates[j] - self.rates[i]));
            }
        }
        let mean = self.rates[..n].iter().sum::<f64>() / n as f64;
        let proportion = levels[..n].iter().sum::<f64>() / n as f64 / mean;
        let takes = per_work.median().unwrap_or(0.0).clamp(0.0, proportion.max(0.0));
        if takes <= 0.0 {
            return levels;
        }
        // Rates that happen to go with a bend would straighten it: work must explain much of what the
        // trend leaves.
        let (mut left, mut before) = (0.0, 0.0);
        for (i, j) in pairs(n) {
            let gain = points[j].y - points[i].y - slope * (points[j].t - points[i].t);
            before += gain.abs();
            left += (gain - takes * (self.rates[j] - self.rates[i])).abs();
        }
        if left > UNEXPLAINED_PART * before {
            return levels;
        }
        for (level, rate) in levels.iter_mut().zip(&self.rates[..n]) {
            *level -= takes * (rate - mean);
        }
        levels
    }

    /// Where each point stands in time.
    pub fn clock(points: &[Point]) -> [f64; WINDOWS] {
        let mut clock = [0.0; WINDOWS];
        for (place, point) in clock.iter_mut().zip(points) {
            *place = point.t - points[0].t;
        }
        clock
    }

    /// Where each point stands on the axis of work done, stretched to the length of the span.
    pub fn axis(&self, points: &[Point]) -> [f64; WINDOWS] {
        let mut axis = [0.0; WINDOWS];
        let n = points.len();
        for k in 1..n {
            // Noise adds up to nothing here, and a smoothed burst would begin before it does.
            axis[k] = axis[k - 1] + (points[k].t - points[k - 1].t) * self.raw[k];
        }
        let stretch = (points[n - 1].t - points[0].t) / axis[n - 1];
        for place in &mut axis[..n] {
            *place *= stretch;
        }
        axis
    }

    pub fn idle_growth(&self, points: &[Point]) -> Option<f64> {
        let n = points.len();
        let rates = &self.raw[..n];
        let (low, high) =
            rates.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), rate| {
                (low.min(*rate), high.max(*rate))
            });
        if !self.known || high < VARIED_WORK * low {
            return None;
        }
        let mut growth = [(0.0, 0.0); 2];
        for k in 1..n {
            // A climbing window has its floor at its beginning.
            let (gain, time) = &mut growth[usize::from(rates[k - 1] > (low + high) / 2.0)];
            *gain += points[k].y - points[k - 1].y;
            *time += points[k].t - points[k - 1].t;
        }
        let [(idle, idle_s), (busy, busy_s)] = growth;
        (idle_s > 0.0 && busy > 0.0).then(|| idle / idle_s / (busy / busy_s))
    }

    pub fn is_even(&self, n: usize) -> bool {
        let lately = &self.rates[n / 4..n];
        let (low, high) =
            lately.iter().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), rate| {
                (low.min(*rate), high.max(*rate))
            });
        self.known && high < LIKE_WORK * low
    }

    pub fn ratio(&self, n: usize) -> Option<f64> {
        let (early, late) = self.rates[..n].split_at(n / 2);
        let mean = |half: &[f64]| half.iter().sum::<f64>() / half.len() as f64;
        self.known.then(|| mean(late) / mean(early))
    }
}

/// The deepest fall from the floor of one window to that of a later one that less work does not explain. A
/// spike within a window is none; of the oldest window it is not known whether it is one, and its ceiling
/// counts.
pub(super) fn deepest_fall(points: &[Point], idle_work: f64) -> f64 {
    let works = Works::of(points, idle_work);
    let mut deepest: f64 = 0.0;
    for (i, j) in pairs(points.len()) {
        let from = if i == 0 { points[i].ceiling } else { points[i].y };
        let fall = works.unexplained((i, from), (j, points[j].y));
        deepest = deepest.max(-fall.unwrap_or(0.0));
    }
    deepest
}
