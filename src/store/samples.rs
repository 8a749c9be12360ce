//! Samples: of whom they are, and how long each is kept.
//!
//! A row knows when it may go. All of the last hour are there; then the *floor* of each minute for a
//! day, and the floor of each ten minutes for as long as the store's retention: floors, because they
//! are what the leak detector judges, so a thinned trace is judged as the whole one was. What an
//! incident rests on is not thinned at all: an event of an incident keeps its worker's last hour and
//! what follows in the next ten minutes. Over [`SAMPLE_ROWS`] those go first that would go soonest.

use crate::core::{Sample, WorkerId};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Rows that are kept at most: 8 workers sampled each second have some 75,000, and a row takes 76 bytes
/// with its share of the indexes, so 30 MB.
pub(super) const SAMPLE_ROWS: i64 = 400_000;

const ALL: SignedDuration = SignedDuration::from_hours(1);
const MINUTES: SignedDuration = SignedDuration::from_hours(24);
const MINUTE_MS: i64 = 60_000;
const TEN_MINUTES_MS: i64 = 600_000;
/// How long after an event of an incident its worker's samples are all kept.
const AFTER_EVENT: SignedDuration = SignedDuration::from_mins(10);

/// One life of a worker, with what its trend is judged by: enough to judge it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Which worker. Its name comes again when the supervisor is started again.
    pub worker: WorkerId,
    /// When it was started, UTC, to the millisecond.
    pub started: Timestamp,
    /// The limit that its forecast aims at.
    pub limit_kib: Option<u64>,
    /// `leak.warm_up`.
    pub warm_up: Duration,
}

/// A sample with its time and worker.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSample {
    /// Of which worker.
    pub life: Arc<Life>,
    /// When it was taken, UTC, to the millisecond.
    pub at: Timestamp,
    /// The reading.
    pub sample: Sample,
}

/// Says of each row when it may go.
#[derive(Debug)]
pub(super) struct Keeper {
    retention: SignedDuration,
    workers: BTreeMap<WorkerId, Known>,
}

/// What is remembered of a worker.
#[derive(Debug, Default)]
struct Known {
    /// Nothing of it came since the last time that somebody was forgotten.
    silent: bool,
    /// Of the running minute and ten minutes.
    floors: [Option<Floor>; 2],
    /// If it is in an incident: from and until when all its samples are kept.
    kept: Option<(Timestamp, Timestamp)>,
}

/// The lowest row of a stretch of time.
#[derive(Clone, Copy, Debug)]
struct Floor {
    level: u64,
    row: Row,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub rowid: i64,
    pub at: Timestamp,
}

impl Keeper {
    pub fn new(retention: Duration) -> Self {
        let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        Self { retention, workers: BTreeMap::new() }
    }

    /// The row was written: when it may go, and which rows are floors no more and may go when.
    pub fn place(&mut self, row: Row, stored: &StoredSample) -> (Timestamp, Vec<(Row, Timestamp)>) {
        let retention = self.retention;
        let after = |row: Row, keep: SignedDuration| plus(row.at, keep.min(retention));
        let Known { silent, floors, kept } = self.workers.entry(stored.life.worker).or_default();
        *silent = false;
        if kept.is_some_and(|(since, until)| (since..=until).contains(&row.at)) {
            return (after(row, SignedDuration::MAX), Vec::new());
        }
        // What is not known is no floor.
        let level = stored.sample.growth_kib().unwrap_or(u64::MAX);
        let mut displaced = Vec::new();
        let mut lowest = [false; 2];
        for (place, width_ms) in [MINUTE_MS, TEN_MINUTES_MS].into_iter().enumerate() {
            let stretch = |row: Row| row.at.as_millisecond().div_euclid(width_ms);
            let floor = &mut floors[place];
            let old = floor.filter(|old| stretch(old.row) == stretch(row));
            if old.is_some_and(|old| old.level <= level) {
                continue;
            }
            *floor = Some(Floor { level, row });
            lowest[place] = true;
            displaced.extend(old.map(|old| (place, old.row)));
        }
        let ten = floors[1].map(|floor| floor.row);
        // The minute has the last word: one that was the floor of both is that of neither.
        let displaced = displaced
            .into_iter()
            .rev()
            .filter(|(_, old)| Some(*old) != ten)
            .map(|(place, old)| (old, after(old, [ALL, MINUTES][place])))
            .collect();
        let keep = match lowest {
            [_, true] => SignedDuration::MAX,
            [true, false] => MINUTES,
            [false, false] => ALL,
        };
        (after(row, keep), displaced)
    }

    /// An incident has an event of this worker: since when all of its samples are kept, and until
    /// when those stay.
    pub fn keep(&mut self, worker: WorkerId, at: Timestamp) -> (Timestamp, Timestamp) {
        let since = at.checked_sub(ALL).unwrap_or(Timestamp::MIN);
        let known = self.workers.entry(worker).or_default();
        let begun = known.kept.map_or(since, |(begun, _)| since.min(begun));
        known.kept = Some((begun, plus(at, AFTER_EVENT)));
        known.silent = false;
        (since, plus(at, self.retention))
    }

    /// Forgets the workers of which nothing came since the last time but one, else each restart would leave
    /// something behind. By no clock: what comes late, because the store could not be written, is not what is
    /// gone. Called each minute, and who serves has a sample in ten seconds; one that is looked at less often
    /// loses its floors, so that more of its few rows are kept.
    pub fn forget(&mut self) {
        self.workers.retain(|_, known| !std::mem::replace(&mut known.silent, true));
    }
}

fn plus(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples of one worker, each second; what is left of them that much later.
    fn left_after(later: SignedDuration, levels: &[u64], kept_at: Option<i64>) -> Vec<i64> {
        let mut keeper = Keeper::new(Duration::from_secs(30 * 86_400));
        let life = Arc::new(Life {
            worker: WorkerId::new(0, 1),
            started: Timestamp::UNIX_EPOCH,
            limit_kib: None,
            warm_up: Duration::ZERO,
        });
        let mut rows: BTreeMap<i64, Timestamp> = BTreeMap::new();
        for (s, level) in levels.iter().enumerate() {
            let s = s as i64;
            let at = Timestamp::from_second(s).unwrap();
            if kept_at == Some(s) {
                let (since, until) = keeper.keep(life.worker, at);
                let since = since.as_second();
                rows.range_mut(since..).for_each(|(_, expires)| *expires = (*expires).max(until));
            }
            let sample = Sample { rss_anon_kib: Some(*level), ..Sample::default() };
            let stored = StoredSample { life: Arc::clone(&life), at, sample };
            let (expires, displaced) = keeper.place(Row { rowid: s, at }, &stored);
            rows.insert(s, expires);
            rows.extend(displaced.into_iter().map(|(row, expires)| (row.rowid, expires)));
        }
        let now = Timestamp::from_second(levels.len() as i64).unwrap() + later;
        rows.into_iter().filter(|(_, expires)| *expires > now).map(|(s, _)| s).collect()
    }

    #[test]
    fn floors_stay_longer() {
        // A sawtooth with its floor 7 s into each minute, deepest in the second one of ten.
        let depth = |s: u64| if s / 60 % 10 == 1 { 10 } else { 50 };
        let levels: Vec<u64> =
            (0..3600).map(|s| if s % 60 == 7 { depth(s) } else { 100 + s % 60 }).collect();
        let every = |step: i64, first: i64| (0..3600 / step).map(move |n| n * step + first);
        let minutes: Vec<i64> = every(60, 7).collect();
        let tens: Vec<i64> = every(600, 67).collect();
        assert_eq!(left_after(SignedDuration::from_secs(-5), &levels, None).len(), 3600);
        assert_eq!(left_after(SignedDuration::from_hours(2), &levels, None), minutes);
        assert_eq!(left_after(SignedDuration::from_hours(48), &levels, None), tens);
        assert!(left_after(SignedDuration::from_hours(24 * 31), &levels, None).is_empty());
    }

    #[test]
    fn what_an_incident_rests_on_is_not_thinned() {
        let levels: Vec<u64> = (0..6000).map(|s| 1000 - s % 600).collect();
        let left = left_after(SignedDuration::from_hours(48), &levels, Some(4000));
        let whole: Vec<i64> = left.iter().copied().filter(|s| (400..=4600).contains(s)).collect();
        // But those that had been displaced before stay as long as they were to, if no longer.
        assert_eq!(whole, (400..=4600).collect::<Vec<_>>());
        assert!(left.len() < 4201 + 6, "{}", left.len());
    }

    #[test]
    fn nothing_of_a_worker_that_is_long_gone_is_remembered() {
        let mut keeper = Keeper::new(Duration::from_secs(30 * 24 * 3600));
        let at = Timestamp::UNIX_EPOCH;
        let life = Life {
            worker: WorkerId::new(0, 1),
            started: at,
            limit_kib: None,
            warm_up: Duration::ZERO,
        };
        let (life, sample) = (Arc::new(life), Sample::default());
        keeper.keep(life.worker, at);
        let stored = StoredSample { life, at, sample };
        keeper.forget();
        keeper.place(Row { rowid: 1, at }, &stored);
        keeper.forget();
        assert_eq!(keeper.workers.len(), 1);
        keeper.forget();
        assert_eq!(keeper.workers.len(), 0);
    }
}
