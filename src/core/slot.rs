//! A slot between two workers: wanted or not, waiting, held; and its restart budget.

use super::{Generation, IncidentId, Moment, RestartSettings, Slot};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Whether a worker is wanted in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Desired {
    /// Yes.
    Up,
    /// An operator drained it; a restart of the slot brings it back.
    Down,
    /// No, and the slot is not shown once it is empty (scaled down). It is kept, so that its
    /// generations go on counting when it comes back.
    Removed,
}

/// Why a slot that wants a worker has none on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// It does not wait.
    None,
    /// Until the next start.
    Backoff {
        /// When.
        until: Moment,
    },
    /// In a crash loop; started again by an operator, or then.
    Held {
        /// When.
        until: Moment,
    },
}

/// A numbered place for a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SlotEntry {
    /// Its number.
    pub slot: Slot,
    /// Whether a worker is wanted.
    pub desired: Desired,
    /// Why none is on the way.
    pub wait: Wait,
    /// The generation of the newest worker; 0 before the first.
    pub generation: Generation,
    /// What it was when this supervisor began.
    #[serde(default)]
    pub before: Generation,
    /// Whether a worker of it has ever been ready.
    pub been_ready: bool,
    /// Counts crashes.
    pub budget: RestartBudget,
    /// The incident that its next start belongs to.
    pub incident: Option<IncidentId>,
}

impl SlotEntry {
    /// A slot that wants its first worker.
    pub fn new(slot: Slot) -> Self {
        Self {
            slot,
            desired: Desired::Up,
            wait: Wait::None,
            generation: Generation(0),
            before: Generation(0),
            been_ready: false,
            budget: RestartBudget::default(),
            incident: None,
        }
    }

    /// How often this supervisor started it again.
    pub fn restarts(&self) -> u64 {
        self.generation.0.saturating_sub(self.before.0 + 1)
    }
}

/// What a crash leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after this long.
    After(Duration),
    /// Too many: hold.
    Hold,
}

/// Restart intensity and exponential backoff with full jitter
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RestartBudget {
    crashes: VecDeque<Moment>,
    streak: u32,
}

impl RestartBudget {
    /// Counts a crash. `had_been_ready` makes the first of a streak free of delay: the restart of a
    /// worker that was well waits for nothing. `jitter` is uniform in 0..1.
    pub fn crashed(
        &mut self,
        now: Moment,
        had_been_ready: bool,
        settings: &RestartSettings,
        jitter: f64,
    ) -> Verdict {
        while self.crashes.front().is_some_and(|at| now.since(*at) > settings.within) {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
        if self.crashes.len() > settings.restarts as usize {
            return Verdict::Hold;
        }
        let free = had_been_ready && self.streak == 0;
        self.streak += 1;
        if free {
            return Verdict::After(Duration::ZERO);
        }
        let doublings = (self.streak - 1).min(20);
        let bound =
            settings.backoff_initial.saturating_mul(1 << doublings).min(settings.backoff_max);
        Verdict::After(bound.mul_f64(jitter))
    }

    /// A worker has been ready for the whole window: the streak is over.
    pub fn healthy(&mut self) {
        self.streak = 0;
    }

    /// Whether there is a streak to forget.
    pub fn has_streak(&self) -> bool {
        self.streak > 0
    }

    /// Forgets all crashes: an operator or the long pause starts the slot afresh.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Crashes within the window, as of the last one.
    pub fn crashes(&self) -> usize {
        self.crashes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment(Duration::from_secs(s))
    }

    #[test]
    fn first_restart_of_a_ready_worker_waits_for_nothing() {
        let settings = RestartSettings { restarts: 5, ..crate::core::Settings::default().restart };
        let mut budget = RestartBudget::default();
        assert_eq!(budget.crashed(at(1), true, &settings, 0.9), Verdict::After(Duration::ZERO));
        assert_ne!(budget.crashed(at(2), true, &settings, 0.9), Verdict::After(Duration::ZERO));
        budget.healthy();
        assert_eq!(budget.crashed(at(500), true, &settings, 0.9), Verdict::After(Duration::ZERO));
    }

    #[test]
    fn delays_grow_to_the_bound_and_intensity_holds() {
        let settings = RestartSettings {
            restarts: 12,
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            ..crate::core::Settings::default().restart
        };
        let mut budget = RestartBudget::default();
        let bounds: Vec<_> =
            (0..13).map(|_| budget.crashed(at(1), false, &settings, 1.0)).collect();
        assert_eq!(bounds[0], Verdict::After(Duration::from_millis(100)));
        assert_eq!(bounds[3], Verdict::After(Duration::from_millis(800)));
        assert_eq!(bounds[11], Verdict::After(Duration::from_secs(2)));
        assert_eq!(bounds[12], Verdict::Hold);
    }

    #[test]
    fn crashes_outside_the_window_do_not_count() {
        let settings = RestartSettings { restarts: 1, ..crate::core::Settings::default().restart };
        let mut budget = RestartBudget::default();
        assert_ne!(budget.crashed(at(0), true, &settings, 0.5), Verdict::Hold);
        assert_ne!(budget.crashed(at(61), true, &settings, 0.5), Verdict::Hold);
        assert_eq!(budget.crashed(at(62), true, &settings, 0.5), Verdict::Hold);
    }
}
