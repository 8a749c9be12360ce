//! Precision, recall, earliness and the rate of false alarms.

use super::{Label, Series};

#[derive(Clone, Debug, Default)]
pub struct Score {
    pub hits: u32,
    pub misses: u32,
    pub false_alarms: u32,
    pub quiet: u32,
    series: u32,
    /// Ambiguous series, and those of them that were called a leak.
    pub ambiguous: (u32, u32),
    /// Time from the start of a leak to its verdict, as a part of the time to the limit.
    pub ways: Vec<f64>,
    /// Time without a leak.
    pub quiet_days: f64,
}

impl Score {
    /// Counts a series in which a leak was first told at that time. One that is told before it began
    /// is a false alarm, and is missed.
    pub fn count(&mut self, series: &Series, detected_s: Option<f64>) {
        match (series.label, detected_s) {
            (Label::Ambiguous, detected) => {
                self.ambiguous.0 += 1;
                self.ambiguous.1 += u32::from(detected.is_some());
                return;
            }
            (Label::Healthy, None) => self.quiet += 1,
            (Label::Healthy, Some(_)) => self.false_alarms += 1,
            (Label::Leak { .. }, None) => self.misses += 1,
            (Label::Leak { start_s, .. }, Some(at)) if at < start_s => {
                self.false_alarms += 1;
                self.misses += 1;
            }
            (Label::Leak { start_s, limit_s }, Some(at)) => {
                self.hits += 1;
                self.ways.push((at - start_s) / (limit_s - start_s));
            }
        }
        self.series += 1;
        self.quiet_days += match series.label {
            Label::Leak { start_s, .. } => start_s,
            _ => series.seconds(),
        } / 86400.0;
    }

    /// Series that are no ambiguous ones.
    pub fn series(&self) -> u32 {
        self.series
    }

    pub fn precision(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.hits + self.false_alarms).max(1.0)
    }

    pub fn recall(&self) -> f64 {
        f64::from(self.hits) / f64::from(self.hits + self.misses).max(1.0)
    }

    pub fn f1(&self) -> f64 {
        let (p, r) = (self.precision(), self.recall());
        if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 }
    }

    /// The part of the way that so many of the hits needed at most.
    pub fn way(&self, part: f64) -> f64 {
        let mut ways = self.ways.clone();
        ways.sort_by(f64::total_cmp);
        let place = (part * ways.len() as f64).ceil() as usize;
        ways.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub fn false_alarms_per_1000_days(&self) -> f64 {
        1000.0 * f64::from(self.false_alarms) / self.quiet_days
    }

    pub const HEAD: &str =
        "precision recall    F1  way: median   p90  false/1000 worker-days  ambiguous";

    pub fn line(&self) -> String {
        format!(
            "{:9.3} {:6.3} {:5.3} {:12.2} {:5.2} {:23.0}  {} of {}",
            self.precision(),
            self.recall(),
            self.f1(),
            self.way(0.5),
            self.way(0.9),
            self.false_alarms_per_1000_days(),
            self.ambiguous.1,
            self.ambiguous.0,
        )
    }
}
