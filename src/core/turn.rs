//! Whose turn it is: leaking workers are replaced one at a time, and spread over the time that their
//! forecasts leave, so that their successors do not all come due at once.
//!
//! With deadlines D₁ ≤ D₂ ≤ …, counted from the last replacement, the j first must be done by Dⱼ; evenly
//! spread, the first of them goes after Dⱼ/j. The shortest of these times over all j is the latest for
//! the next one: workers that leak alike are replaced at equal intervals, one with a near deadline
//! before all others, and no deadline is missed for the sake of the spread.

use super::quiet::{QuietWindow, Workload};
use super::{Moment, WorkerId};
use jiff::Timestamp;
use std::time::Duration;

/// In a quiet time not all go at once either: after this part of the even interval the next may.
const QUIET_GAP_PART: u32 = 8;
/// Each day has its quiet time: none is replaced for one that is further from its turn than this.
const DAY: Duration = Duration::from_secs(86_400);

/// A leaking worker.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Which.
    pub id: WorkerId,
    /// Its replacement must begin by then.
    pub deadline: Moment,
    /// When its leak was confirmed.
    pub confirmed: Moment,
}

/// Why a worker goes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The forecast does not let it wait.
    Urgent,
    /// It is its turn.
    Turn,
    /// The application has little to do.
    Quiet,
}

/// What is known of quiet times.
pub struct Calm<'a> {
    /// The operator's window, which is believed.
    pub window: Option<QuietWindow>,
    /// What was measured, where there is no window.
    pub workload: &'a Workload,
    /// The clock that windows go by.
    pub wall: Timestamp,
}

/// The leaking workers that are replaced now. `last` is when the last one was, `step` how long one
/// takes.
pub fn due(
    waiting: &mut [Waiting],
    now: Moment,
    last: Option<Moment>,
    step: Duration,
    calm: &Calm<'_>,
) -> Vec<(WorkerId, Rung)> {
    waiting.sort_by_key(|worker| (worker.deadline, worker.id));
    let mut urgent: Vec<(WorkerId, Rung)> = waiting
        .iter()
        .take_while(|worker| worker.deadline <= now)
        .map(|worker| (worker.id, Rung::Urgent))
        .collect();
    let (Some(first), true) = (waiting.first(), urgent.is_empty()) else { return urgent };
    let begin = waiting.iter().map(|worker| worker.confirmed).min().max(last).unwrap_or(now);
    let by_deadline = |part: &dyn Fn(Duration, u32) -> Duration| {
        let times = waiting.iter().zip(1..).map(|(worker, j)| part(worker.deadline - begin, j));
        times.min().unwrap_or_default()
    };
    let even = by_deadline(&|time, j| time / j);
    // With every one after it in time, if no time is lost.
    let latest = begin + by_deadline(&|time, j| time.saturating_sub(step * (j - 1)));
    let (turn, gap, quiet) = match calm.window {
        // A window that opens in time is worth waiting for.
        Some(window) if now + window.opens_in(calm.wall) < latest => {
            let workers = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
            (latest, window.length() / workers / 2, window.contains(calm.wall))
        }
        Some(_) => (begin + even, even, false),
        None => {
            let turn = begin + even;
            let quiet = calm.workload.is_quiet(turn - now).unwrap_or(false);
            (turn, even / QUIET_GAP_PART, quiet)
        }
    };
    let rested = last.is_none_or(|last| now >= last + gap);
    if now >= turn {
        urgent.push((first.id, Rung::Turn));
    } else if quiet && rested && turn - now <= DAY {
        urgent.push((first.id, Rung::Quiet));
    }
    urgent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: u64) -> Moment {
        Moment(Duration::from_secs(60 * minutes))
    }

    /// When each goes, with these deadlines in minutes, all confirmed at 0; looked at each minute.
    fn goes(deadlines: &[u64], window: Option<&str>) -> Vec<u64> {
        let workload = Workload::default();
        let mut waiting: Vec<Waiting> = (0..)
            .zip(deadlines)
            .map(|(slot, deadline)| Waiting {
                id: WorkerId::new(slot, 1),
                deadline: minutes(*deadline),
                confirmed: Moment::default(),
            })
            .collect();
        let (mut went, mut last) = (vec![0; deadlines.len()], None);
        for minute in 1.. {
            let now = minutes(minute);
            let wall = Timestamp::from_second(1_800_000_000 / 86_400 * 86_400).unwrap() + now.0;
            let window = window.map(|window| window.parse().unwrap());
            let calm = Calm { window, workload: &workload, wall };
            for (id, _) in due(&mut waiting, now, last, Duration::from_secs(60), &calm) {
                went[id.slot.0 as usize] = minute;
                last = Some(now);
                waiting.retain(|worker| worker.id != id);
            }
            if waiting.is_empty() {
                return went;
            }
        }
        went
    }

    #[test]
    fn alike_ones_go_at_equal_intervals() {
        assert_eq!(goes(&[60, 60, 60, 60], None), [15, 30, 45, 60]);
    }

    #[test]
    fn the_nearest_goes_first_and_no_deadline_is_missed() {
        assert_eq!(goes(&[100, 10, 100], None), [55, 10, 100]);
        let deadlines = [30, 31, 32, 200, 400];
        for (went, deadline) in goes(&deadlines, None).into_iter().zip(deadlines) {
            assert!(went <= deadline, "{went} of {deadline}");
        }
    }

    #[test]
    fn a_window_is_waited_for_and_they_are_spread_over_it() {
        // 02:00 to 05:00 are the minutes 120 to 300.
        assert_eq!(goes(&[900, 900, 900], Some("02:00-05:00")), [120, 165, 255]);
        // It opens too late for these two: the turn decides.
        assert_eq!(goes(&[60, 60], Some("02:00-05:00")), [30, 60]);
        // One of a week waits for the last night before its deadline.
        let week = goes(&[7 * 1440], Some("02:00-05:00"));
        assert_eq!(week, [6 * 1440 + 120]);
    }
}
