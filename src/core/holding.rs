//! Holding a leak: workers are replaced as fast as they fill. For how long can that go on?
//!
//! A worker that fills in X must be replaced every X; a replacement takes Y (measured, from the start of
//! the new one to the end of the old) and replacements go one at a time, with the cooldown between
//! them. So N workers keep the supervisor busy for N·(Y + cooldown)/X of its time: below 1 a leak of one
//! slope can be held for ever. A slope that grows by the factor q from generation to generation shortens
//! X by q each time: at busy part u the end comes in the generation n with u·qⁿ ≥ 1, after
//! X·(1 + 1/q + 1/q² + …) of n terms.
//!
//! A growth counts if it was seen [`IN_A_ROW`] times in a row, each by a tenth at least; slopes of one
//! generation are taken together by their median. The alarm is raised when half of the time is spent on
//! replacing, or with [`SOON`] generations left: early enough for people to do something.

use super::leak::span;
use super::{Slot, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Replacements that are remembered for their cost.
const COSTS: usize = 9;
/// Generations whose slopes are remembered.
const ROUNDS: u32 = 16;
const IN_A_ROW: usize = 2;
const GROWS: f64 = 1.1;
const TOO_BUSY: f64 = 0.5;
const SOON: u32 = 3;

/// What replacements took lately, whatever they were for.
#[derive(Debug, Default)]
pub struct Costs(VecDeque<Duration>);

impl Costs {
    /// A replacement took so long.
    pub fn note(&mut self, cost: Duration) {
        if self.0.len() == COSTS {
            self.0.pop_front();
        }
        self.0.push_back(cost);
    }

    /// What the next one will take: the median.
    pub fn expected(&self) -> Option<Duration> {
        let mut costs: Vec<Duration> = self.0.iter().copied().collect();
        costs.sort();
        costs.get(costs.len() / 2).copied()
    }
}

/// What is known of the generations of a leak.
#[derive(Debug, Default)]
pub struct Holding {
    /// How often each slot was replaced for this leak.
    rounds: BTreeMap<Slot, u32>,
    /// Confirmed slopes, KiB a second, of each generation by slot.
    slopes: BTreeMap<u32, BTreeMap<Slot, f64>>,
    /// The alarm was raised.
    pub told: bool,
}

/// What holding takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// A worker must be replaced each time after.
    pub every: Duration,
    /// What a replacement takes, with the cooldown after it.
    pub takes: Duration,
    /// The part of the time that goes into replacing.
    pub busy: f64,
    /// The slope's factor from generation to generation, if it grows.
    pub growth: Option<f64>,
    /// Generations and time until replacing cannot keep up; `None` is for ever.
    pub ends: Option<(u32, Duration)>,
}

impl Holding {
    /// A leaking worker of the slot was replaced.
    pub fn replaced(&mut self, slot: Slot) {
        *self.rounds.entry(slot).or_default() += 1;
    }

    /// A worker leaks, so fast; the slopes of the generation before it and of its own, by their medians.
    pub fn confirmed(&mut self, worker: WorkerId, slope_kib_s: f64) -> (Option<f64>, f64) {
        let round = self.rounds.get(&worker.slot).copied().unwrap_or(0);
        self.slopes.entry(round).or_default().insert(worker.slot, slope_kib_s);
        self.slopes.retain(|old, _| *old + ROUNDS > round);
        let before = round.checked_sub(1).and_then(|before| self.slope(before));
        (before, self.slope(round).unwrap_or(slope_kib_s))
    }

    /// What holding takes, for a worker that fills in `every` where a replacement, with the cooldown
    /// after it, takes so long.
    pub fn outlook(&self, every: Duration, takes: Duration) -> Outlook {
        // All slots in which it was seen come due again and again.
        let slots: BTreeSet<Slot> =
            self.slopes.values().flat_map(|slopes| slopes.keys().copied()).collect();
        let period_s = every.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = slots.len().max(1) as f64 * takes.as_secs_f64() / period_s;
        let growth = self.growth();
        let ends = if busy >= 1.0 {
            Some((0, Duration::ZERO))
        } else {
            growth.map(|factor| {
                let rounds = ((1.0 / busy).ln() / factor.ln()).ceil().min(1e6);
                let time_s = period_s * (1.0 - factor.powf(-rounds)) / (1.0 - 1.0 / factor);
                let time = Duration::try_from_secs_f64(time_s).unwrap_or(Duration::MAX);
                (rounds as u32, time)
            })
        };
        Outlook { every, takes, busy, growth, ends }
    }

    fn slope(&self, round: u32) -> Option<f64> {
        let mut slopes: Vec<f64> = self.slopes.get(&round)?.values().copied().collect();
        slopes.sort_by(f64::total_cmp);
        slopes.get(slopes.len() / 2).copied()
    }

    /// The mean factor of the last generations, if each was steeper than the one before.
    fn growth(&self) -> Option<f64> {
        let newest = *self.slopes.keys().next_back()?;
        let slope = |back: usize| self.slope(newest.checked_sub(back as u32)?);
        let factors: Option<Vec<f64>> =
            (0..IN_A_ROW).map(|back| Some(slope(back)? / slope(back + 1)?)).collect();
        let factors = factors?;
        let grows = factors.iter().all(|factor| *factor >= GROWS);
        grows.then(|| factors.iter().product::<f64>().powf(1.0 / IN_A_ROW as f64))
    }
}

impl Outlook {
    /// In words.
    pub fn words(&self) -> String {
        let [every, takes] = [self.every, self.takes].map(|time| span(time.as_secs_f64()));
        let busy = 100.0 * self.busy;
        let mut words = format!(
            "to hold it, each worker must be replaced every {every}; with {takes} for each, this is \
             {busy:.0}% of the time"
        );
        if let Some(growth) = self.growth {
            words += &format!(", and each generation leaks {growth:.1} times as fast as the last");
        }
        words += &match self.ends {
            None if self.busy > TOO_BUSY => {
                ": it can go on, but not if it gets much faster".to_owned()
            }
            None => ": it can go on for ever".to_owned(),
            Some((0, _)) => ": it cannot be held".to_owned(),
            Some((rounds, time)) => {
                let time = span(time.as_secs_f64());
                format!(": it can be held for about {time} more, {rounds} generations")
            }
        };
        words
    }

    /// Whether somebody must know that replacing will not do for long.
    pub fn is_alarming(&self) -> bool {
        self.busy >= TOO_BUSY || self.ends.is_some_and(|(rounds, _)| rounds <= SOON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn holding(slopes: &[f64]) -> Holding {
        let mut holding = Holding::default();
        for (generation, slope) in (1..).zip(slopes) {
            for slot in 0..2 {
                holding.confirmed(WorkerId::new(slot, generation), *slope);
                holding.replaced(Slot(slot));
            }
        }
        holding
    }

    #[test]
    fn a_leak_of_one_slope_is_held_for_ever_while_there_is_time_for_it() {
        let steady = holding(&[10.0, 11.5, 9.0, 10.0]);
        let outlook = steady.outlook(100 * SECOND, 10 * SECOND);
        assert_eq!((outlook.busy, outlook.growth, outlook.ends), (0.2, None, None));
        assert!(!outlook.is_alarming());
        assert!(steady.outlook(30 * SECOND, 10 * SECOND).is_alarming(), "busy for two thirds");
        let lost = steady.outlook(15 * SECOND, 10 * SECOND);
        assert_eq!(lost.ends, Some((0, Duration::ZERO)));
    }

    #[test]
    fn a_growing_slope_has_an_end() {
        // 0.1 of the time now, doubling: 0.2, 0.4, 0.8, and the fourth is too much.
        let growing = holding(&[1.0, 2.0, 4.0]);
        let outlook = growing.outlook(200 * SECOND, 10 * SECOND);
        assert_eq!(outlook.growth, Some(2.0));
        let (rounds, time) = outlook.ends.unwrap();
        assert_eq!((rounds, time.as_secs()), (4, 375));
        assert!(!outlook.is_alarming());
        assert!(growing.outlook(100 * SECOND, 10 * SECOND).is_alarming(), "three are left");
        assert_eq!(holding(&[1.0, 2.0]).growth(), None, "once is no trend");
    }

    #[test]
    fn what_a_replacement_takes_is_measured() {
        let mut costs = Costs::default();
        assert_eq!(costs.expected(), None);
        [90, 3, 4, 5, 90].into_iter().for_each(|s| costs.note(s * SECOND));
        assert_eq!(costs.expected(), Some(5 * SECOND));
        (0..COSTS).for_each(|_| costs.note(SECOND));
        assert_eq!(costs.expected(), Some(SECOND));
    }

    #[test]
    fn what_a_generation_did_is_told_beside_the_one_before() {
        let mut holding = Holding::default();
        assert_eq!(holding.confirmed(WorkerId::new(0, 4), 8.0), (None, 8.0));
        holding.replaced(Slot(0));
        assert_eq!(holding.confirmed(WorkerId::new(0, 5), 9.0), (Some(8.0), 9.0));
        // The other slot was not replaced yet.
        assert_eq!(holding.confirmed(WorkerId::new(1, 4), 10.0), (None, 10.0));
    }
}
