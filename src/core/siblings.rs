//! What workers of one release say about each other.
//!
//! All workers of a release run the same code, so a release that leaks leaks in all of them. Once two
//! workers, side by side or one after the other, were confirmed each on its own evidence, a third one
//! of that release needs no more than to be suspect of a like slope: it is confirmed then, some 40% of
//! the evidence earlier, and so is every later generation.
//!
//! Suspicions alone do not add up, however many there are. What makes healthy workers climb (a warm-up,
//! a cache, a surge) makes all of them climb together, so a majority of suspects says nothing that one
//! does not. This rule cannot open an incident: it speaks only when the detector, by itself, has
//! confirmed two, so false alarms do not become more frequent. And it forgets: when one of those is
//! cleared, what was seen of that release counts no more.
//!
//! What fills in a straight line (a cache, a heap that is touched lazily) cannot be told from a leak while it
//! fills, but that need happen only once in a release: where a confirmed climb has come to an end, those of the
//! other workers are expected to end as well, and up to there they are suspects. What merely paused (its
//! requests come by day) goes on beyond, is confirmed there, and such a release is not trusted again.

use super::WorkerId;
use super::leak::{Judgement, Quantity};

/// Workers that must have been confirmed.
const ENOUGH: usize = 2;
/// As many are remembered.
const REMEMBERED: usize = 32;
/// Slopes are alike if their intervals, widened by this factor, meet: the work is not the same at all
/// times.
const ALIKE: f64 = 1.5;
/// Climbs of one kind end within this factor of each other.
const ENDS_ALIKE: f64 = 1.1;

/// What leaks of the same quantity in the same release have in common.
type Of = (Option<String>, Quantity);

/// What was learnt of releases, newest last.
#[derive(Debug, Default)]
pub struct Siblings {
    /// Leaks that were confirmed on their own evidence.
    confirmed: Vec<Confirmed>,
    /// Where one that was none has ended, the first of each release.
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Confirmed {
    worker: WorkerId,
    of: Of,
    slope: (f64, f64),
}

#[derive(Debug)]
struct Ended {
    worker: WorkerId,
    of: Of,
    level: u64,
    /// A climb went on beyond it.
    refuted: bool,
}

impl Siblings {
    /// A leak was confirmed on its own evidence, at this level.
    pub fn confirmed(&mut self, worker: WorkerId, of: Of, level: u64, judgement: &Judgement) {
        self.refute(worker, &of, level);
        let Some(slope) = interval(judgement) else { return };
        if self.confirmed.len() == REMEMBERED {
            self.confirmed.remove(0);
        }
        self.confirmed.push(Confirmed { worker, of, slope });
    }

    /// What looked like a leak was none: what it looked like is no sign of one in this release.
    pub fn cleared(&mut self, of: &Of) {
        self.confirmed.retain(|seen| seen.of != *of);
    }

    /// What looked like a leak is at rest, at this level.
    pub fn ended(&mut self, worker: WorkerId, of: Of, level: u64) {
        self.refute(worker, &of, level);
        if self.ended.iter().any(|seen| seen.of == of) {
            return;
        }
        if self.ended.len() == REMEMBERED {
            self.ended.remove(0);
        }
        self.ended.push(Ended { worker, of, level, refuted: false });
    }

    /// The worker of the release whose climb has ended where that of this one, at this level, may end as well.
    pub fn may_end_like(&self, worker: WorkerId, of: &Of, level: u64) -> Option<WorkerId> {
        let ended = self.ended.iter().find(|seen| seen.of == *of)?;
        (!ended.refuted && !ended.is_passed(worker, level)).then_some(ended.worker)
    }

    fn refute(&mut self, worker: WorkerId, of: &Of, level: u64) {
        for ended in self.ended.iter_mut().filter(|seen| seen.of == *of) {
            ended.refuted |= ended.is_passed(worker, level);
        }
    }

    /// Whether a leak was confirmed in a release.
    pub fn has_leaked(&self, release: &Option<String>) -> bool {
        self.confirmed.iter().any(|seen| seen.of.0 == *release)
    }

    /// The workers that vouch for the suspicion; none if they are too few.
    pub fn vouch(&self, worker: WorkerId, of: &Of, judgement: &Judgement) -> Vec<WorkerId> {
        let Some((low, high)) = interval(judgement) else { return Vec::new() };
        let alike = |(other_low, other_high): (f64, f64)| {
            low <= ALIKE * other_high && other_low <= ALIKE * high
        };
        let mut workers: Vec<WorkerId> = self
            .confirmed
            .iter()
            .filter(|seen| seen.of == *of && seen.worker != worker && alike(seen.slope))
            .map(|seen| seen.worker)
            .collect();
        workers.dedup();
        if workers.len() < ENOUGH {
            workers.clear();
        }
        workers
    }
}

impl Ended {
    /// Whether a climb at this level has not ended with it; the worker's own may be no higher.
    fn is_passed(&self, worker: WorkerId, level: u64) -> bool {
        let margin = if worker == self.worker { 1.0 } else { ENDS_ALIKE };
        level as f64 > margin * self.level as f64
    }
}

fn interval(judgement: &Judgement) -> Option<(f64, f64)> {
    Some((judgement.slope_low_per_s?.max(0.0), judgement.slope_high_per_s?))
}
