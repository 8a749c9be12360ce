//! When the application has little to do: a moment at which a replacement is felt least.
//!
//! The work of all workers is summed up minute by minute for an hour, and quarter by quarter for a
//! day. A moment is quiet if its work is in the lowest quartile of that past, and less than three
//! quarters of its median: of the day where there are hours to wait and a quarter of a day is known, else
//! of the hour. A quartile, because it needs no unit, and because a fourth of all moments are that quiet:
//! who waits for one finds it. Where all moments are alike, none is. An operator who knows better gives
//! a window.

use super::Moment;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const MINUTE_S: u64 = 60;
const QUARTER_S: u64 = 900;
/// Stretches that must be known before one is called quiet.
const SOME_MINUTES: usize = 20;
const SOME_QUARTERS: usize = 24;
/// A moment with more than this part of the usual work is like the others.
const LOW_PART: f32 = 0.75;
/// With more time than this the day counts, with less the hour.
const HOURS: Duration = Duration::from_secs(3 * 3600);

/// The work of all workers in the past.
#[derive(Debug)]
pub struct Workload {
    minutes: Past<60>,
    quarters: Past<96>,
}

impl Default for Workload {
    fn default() -> Self {
        Self { minutes: Past::new(MINUTE_S), quarters: Past::new(QUARTER_S) }
    }
}

impl Workload {
    /// So much work was done until then, in any unit that stays the same.
    pub fn note(&mut self, at: Moment, work: f64) {
        self.minutes.note(at, work);
        self.quarters.note(at, work);
    }

    /// Whether now is a quiet moment among those of so much time; `None` while too little is known.
    pub fn is_quiet(&self, time_left: Duration) -> Option<bool> {
        let by_day = self.quarters.is_low(SOME_QUARTERS).filter(|_| time_left > HOURS);
        by_day.or_else(|| self.minutes.is_low(SOME_MINUTES))
    }
}

/// Sums over stretches of one length, the last `N` of them.
#[derive(Debug)]
struct Past<const N: usize> {
    width_s: u64,
    /// The stretch that runs.
    running: u64,
    /// NaN where nothing was told.
    sums: [f32; N],
}

impl<const N: usize> Past<N> {
    fn new(width_s: u64) -> Self {
        Self { width_s, running: 0, sums: [f32::NAN; N] }
    }

    fn note(&mut self, at: Moment, work: f64) {
        let number = at.0.as_secs() / self.width_s;
        if number > self.running {
            for stale in self.running + 1..=number.min(self.running + N as u64) {
                self.sums[(stale % N as u64) as usize] = f32::NAN;
            }
            self.running = number;
            self.sums[(number % N as u64) as usize] = 0.0;
        }
        let sum = &mut self.sums[(self.running % N as u64) as usize];
        *sum = if sum.is_nan() { work as f32 } else { *sum + work as f32 };
    }

    /// Whether the newest whole stretch is low among at least `some`.
    fn is_low(&self, some: usize) -> Option<bool> {
        let newest = self.sums[(self.running.checked_sub(1)? % N as u64) as usize];
        let running = (self.running % N as u64) as usize;
        let mut known: Vec<f32> = (0..N)
            .filter(|place| *place != running)
            .map(|place| self.sums[place])
            .filter(|sum| !sum.is_nan())
            .collect();
        if newest.is_nan() || known.len() < some {
            return None;
        }
        known.sort_unstable_by(f32::total_cmp);
        let (quartile, median) = (known[known.len() / 4], known[known.len() / 2]);
        Some(newest <= quartile && newest < LOW_PART * median)
    }
}

/// A time of each day that an operator calls quiet, `02:00-05:00`, in UTC; it may go past midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietWindow {
    /// Minutes after midnight; the end does not belong to it.
    from: u16,
    to: u16,
}

const DAY_MINUTES: u16 = 24 * 60;

impl QuietWindow {
    /// Whether that moment is in it.
    pub fn contains(self, at: Timestamp) -> bool {
        self.since_opening(at) < self.length()
    }

    /// How long until it opens; zero while it is open.
    pub fn opens_in(self, at: Timestamp) -> Duration {
        if self.contains(at) {
            Duration::ZERO
        } else {
            Duration::from_secs(DAY_MINUTES as u64 * 60) - self.since_opening(at)
        }
    }

    /// How long it is open.
    pub fn length(self) -> Duration {
        let minutes = (self.to + DAY_MINUTES - self.from - 1) % DAY_MINUTES + 1;
        Duration::from_secs(u64::from(minutes) * 60)
    }

    fn since_opening(self, at: Timestamp) -> Duration {
        let time = at.to_zoned(TimeZone::UTC).time();
        let second = i64::from(time.hour()) * 3600
            + i64::from(time.minute()) * 60
            + i64::from(time.second());
        let since = (second - i64::from(self.from) * 60).rem_euclid(i64::from(DAY_MINUTES) * 60);
        Duration::from_secs(since.unsigned_abs())
    }
}

impl FromStr for QuietWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let number = |text: &str| {
                let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| text.parse::<u16>().ok()).flatten()
            };
            let (hour, minute) = (number(hour)?, number(minute)?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let ends = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match ends {
            Some((from, to)) if from != to => Ok(Self { from, to }),
            Some(_) => Err("begins and ends at the same minute".to_owned()),
            None => {
                Err("is not a time of day from and to, in UTC, like \"02:00-05:00\"".to_owned())
            }
        }
    }
}

impl fmt::Display for QuietWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workload told each ten seconds, by hour of the day.
    fn past(hours: f64, rate: impl Fn(f64) -> f64) -> Workload {
        let mut workload = Workload::default();
        for s in (0..(hours * 3600.0) as u64).step_by(10) {
            workload.note(Moment(Duration::from_secs(s)), 10.0 * rate(s as f64 / 3600.0));
        }
        workload
    }

    #[test]
    fn a_quiet_moment_is_low_against_its_own_past() {
        let (minutes, day) = (Duration::from_secs(1800), Duration::from_secs(86_400));
        assert_eq!(past(0.2, |_| 1.0).is_quiet(minutes), None, "too little is known");
        // Busy in the first half of each ten minutes.
        let busy = |hour: f64| if (hour * 6.0).fract() < 0.5 { 50.0 } else { 5.0 };
        assert_eq!(past(2.0 + 4.0 / 60.0, busy).is_quiet(minutes), Some(false));
        assert_eq!(past(2.0 + 9.0 / 60.0, busy).is_quiet(minutes), Some(true));
        // A day with its night; in the evening each hour is somewhat quieter than the one before.
        let daily = |hour: f64| 100.0 - 80.0 * (std::f64::consts::TAU * (hour - 3.0) / 24.0).cos();
        let evening = past(24.0 + 20.0, daily);
        assert_eq!(evening.is_quiet(minutes), Some(false));
        assert_eq!(evening.is_quiet(day), Some(false));
        assert_eq!(past(24.0 + 27.0, daily).is_quiet(day), Some(true));
        // Where all moments are alike none is quiet.
        assert_eq!(past(5.0, |_| 0.0).is_quiet(minutes), Some(false));
        assert_eq!(past(5.0, |_| 9.0).is_quiet(minutes), Some(false));
    }

    #[test]
    fn time_that_nothing_was_told_of_is_not_quiet() {
        let mut workload = past(2.0, |_| 50.0);
        workload.note(Moment(Duration::from_secs(9000)), 1.0);
        assert_eq!(workload.is_quiet(Duration::ZERO), None, "the minute before is not known");
        workload.note(Moment(Duration::from_secs(900_000)), 1.0);
        assert_eq!(workload.is_quiet(Duration::ZERO), None, "nothing of the past is left");
    }

    #[test]
    fn windows_are_read_and_may_go_past_midnight() {
        let at = |text: &str| format!("2026-11-21T{text}Z").parse::<Timestamp>().unwrap();
        let window: QuietWindow = "02:00-05:30".parse().unwrap();
        assert_eq!(window.to_string(), "02:00-05:30");
        assert!(window.contains(at("02:00:00")) && window.contains(at("05:29:59")));
        assert!(!window.contains(at("05:30:00")) && !window.contains(at("01:59:59")));
        assert_eq!(window.opens_in(at("01:30:00")), Duration::from_secs(1800));
        let night: QuietWindow = "23:00-01:00".parse().unwrap();
        assert!(night.contains(at("23:30:00")) && night.contains(at("00:59:00")));
        assert!(!night.contains(at("12:00:00")));
        assert_eq!(night.length(), Duration::from_secs(7200));
        for wrong in ["", "02:00", "2-5", "02:00-24:00", "02:00-02:00", "02:60-03:00", "a-b"] {
            assert!(wrong.parse::<QuietWindow>().is_err(), "{wrong}");
        }
    }
}
