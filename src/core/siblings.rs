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

use super::WorkerId;
use super::leak::{Judgement, Quantity};

/// Workers that must have been confirmed.
const ENOUGH: usize = 2;
/// As many are remembered.
const REMEMBERED: usize = 32;
/// Slopes are alike if their intervals, widened by this factor, meet: the work is not the same at all
/// times.
const ALIKE: f64 = 1.5;

/// Leaks that were confirmed on their own evidence, newest last.
#[derive(Debug, Default)]
pub struct Siblings {
    confirmed: Vec<Confirmed>,
}

#[derive(Debug)]
struct Confirmed {
    worker: WorkerId,
    release: Option<String>,
    quantity: Quantity,
    slope: (f64, f64),
}

impl Siblings {
    /// A leak was confirmed on its own evidence.
    pub fn confirmed(&mut self, worker: WorkerId, release: &Option<String>, judgement: &Judgement) {
        let Some(slope) = interval(judgement) else { return };
        if self.confirmed.len() == REMEMBERED {
            self.confirmed.remove(0);
        }
        let (release, quantity) = (release.clone(), judgement.quantity());
        self.confirmed.push(Confirmed { worker, release, quantity, slope });
    }

    /// What looked like a leak was none: what it looked like is no sign of one in this release.
    pub fn cleared(&mut self, release: &Option<String>, quantity: Quantity) {
        self.confirmed.retain(|seen| seen.release != *release || seen.quantity != quantity);
    }

    /// Whether a leak was confirmed in a release.
    pub fn has_leaked(&self, release: &Option<String>) -> bool {
        self.confirmed.iter().any(|seen| seen.release == *release)
    }

    /// The workers that vouch for the suspicion; none if they are too few.
    pub fn vouch(
        &self,
        worker: WorkerId,
        release: &Option<String>,
        judgement: &Judgement,
    ) -> Vec<WorkerId> {
        let Some((low, high)) = interval(judgement) else { return Vec::new() };
        let alike = |(other_low, other_high): (f64, f64)| {
            low <= ALIKE * other_high && other_low <= ALIKE * high
        };
        let mut workers: Vec<WorkerId> = self
            .confirmed
            .iter()
            .filter(|seen| seen.release == *release && seen.quantity == judgement.quantity())
            .filter(|seen| seen.worker != worker && alike(seen.slope))
            .map(|seen| seen.worker)
            .collect();
        workers.dedup();
        if workers.len() < ENOUGH {
            workers.clear();
        }
        workers
    }
}

fn interval(judgement: &Judgement) -> Option<(f64, f64)> {
    Some((judgement.slope_low_per_s?.max(0.0), judgement.slope_high_per_s?))
}
