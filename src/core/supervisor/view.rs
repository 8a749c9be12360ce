//! What read-outs are made of.

use super::super::slot::{Desired, Wait};
use super::super::trend::Trend;
use super::super::worker::{Cause, Worker};
use super::super::{Moment, Sample, Slot};
use super::leaks::reason;
use super::{Phase, Supervisor};
use crate::core::Now;
use crate::core::leak::Verdict;

/// The state of everything at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// `starting`, `running`, `degraded`, `paused`, `stopping`.
    pub state: &'static str,
    /// The release that new workers get.
    pub release: Option<String>,
    /// The one before, if it can be gone back to and has a label.
    pub release_before: Option<String>,
    /// Anonymous + shared + swapped memory of all live workers.
    pub total_kib: u64,
    /// Its limit.
    pub total_limit_kib: Option<u64>,
    /// A row for each live worker, and one for a slot without any; ordered by slot and generation.
    pub slots: Vec<SlotView>,
    /// Incidents that are not resolved.
    pub incidents_open: u64,
}

/// A live worker, or a slot that has none.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    /// The slot.
    pub slot: Slot,
    /// The worker's generation, or the last one.
    pub generation: u64,
    /// The worker's leader.
    pub pid: Option<i32>,
    /// The worker's state, or `backoff`, `held`, `exited`.
    pub state: &'static str,
    /// The release that the worker was started with.
    pub release: Option<String>,
    /// Since its start was asked for.
    pub age_s: Option<f64>,
    /// The newest reading.
    pub sample: Sample,
    /// CPU use between the last two readings; 100 is one processor.
    pub cpu_percent: Option<f64>,
    /// How often the slot was started again.
    pub restarts: u64,
    /// What the leak detector says.
    pub leak: LeakView,
    /// What the worker says that it does.
    pub status_text: Option<String>,
    /// It is to be replaced.
    pub due: Option<DueView>,
}

impl SlotView {
    /// Whether the worker stopped answering.
    pub fn hangs(&self) -> bool {
        self.due.as_ref().is_some_and(|due| due.cause == Cause::Hang.as_str())
    }
}

/// A replacement that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct DueView {
    /// The word in records.
    pub cause: &'static str,
    /// In words.
    pub reason: String,
    /// Until it may begin; `None` while it is under way, or automatic action is paused.
    pub in_s: Option<f64>,
}

/// What the leak detector says.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakView {
    /// The verdict.
    pub verdict: Verdict,
    /// Growth, KiB a second.
    pub slope_kib_s: Option<f64>,
    /// Until the nearest limit is reached.
    pub eta_s: Option<f64>,
    /// 0 to 1.
    pub confidence: Option<f64>,
    /// In words.
    pub reason: String,
}

/// The state of a worker that said that it ends: it works off what it has.
const DRAINING: &str = "draining";

impl LeakView {
    fn nothing() -> Self {
        let reason = "no worker".to_owned();
        let verdict = Verdict::Unjudged;
        Self { verdict, slope_kib_s: None, eta_s: None, confidence: None, reason }
    }

    fn of(trend: &Trend, now: Now) -> Self {
        let judgement = trend.detector.judgement();
        Self {
            verdict: trend.verdict,
            slope_kib_s: judgement.slope_kib_s(),
            eta_s: judgement.eta.map(|eta| eta.as_secs_f64()),
            confidence: Some(judgement.confidence),
            reason: reason(trend, now),
        }
    }
}

impl Supervisor {
    /// The state of everything, for read-outs.
    pub fn view(&self, now: Now) -> View {
        let mut slots: Vec<SlotView> = Vec::new();
        for entry in self.slots.values() {
            let live = self.in_slot(entry.slot);
            let before = slots.len();
            slots.extend(live.map(|worker| self.worker_view(now, worker, entry.restarts())));
            if slots.len() == before && entry.desired != Desired::Removed {
                slots.push(SlotView {
                    slot: entry.slot,
                    generation: entry.generation.0,
                    pid: None,
                    state: match entry.wait {
                        Wait::None => "exited",
                        Wait::Backoff { .. } => "backoff",
                        Wait::Held { .. } => "held",
                    },
                    release: None,
                    age_s: None,
                    sample: Sample::default(),
                    cpu_percent: None,
                    restarts: entry.restarts(),
                    leak: LeakView::nothing(),
                    status_text: None,
                    due: None,
                });
            }
        }
        View {
            state: self.state_word(),
            release: self.settings.release.clone(),
            release_before: self.before.as_ref().and_then(|before| before.release.clone()),
            total_kib: self.total_growth_kib(),
            total_limit_kib: self.settings.memory.total_limit_kib,
            slots,
            incidents_open: self.book.len() as u64,
        }
    }

    fn worker_view(&self, now: Now, worker: &Worker, restarts: u64) -> SlotView {
        // The trend that is worst.
        let rank = |trend: &&Trend| trend.verdict as u8;
        let worst = worker.trends.iter().rev().max_by_key(rank);
        SlotView {
            slot: worker.id.slot,
            generation: worker.id.generation.0,
            pid: worker.pid,
            state: if worker.is_leaving() { DRAINING } else { worker.state.as_str() },
            release: worker.release.clone(),
            age_s: Some(worker.age(now.mono).as_secs_f64()),
            sample: worker.sample.map(|(_, sample)| sample).unwrap_or_default(),
            cpu_percent: worker.cpu_percent,
            restarts,
            leak: worst.map_or_else(LeakView::nothing, |trend| LeakView::of(trend, now)),
            status_text: worker.status_text.clone(),
            due: worker.awaits().map(|due| DueView {
                cause: due.cause.as_str(),
                reason: due.reason.clone(),
                in_s: self.replaced_at(worker).map(|at| at.since(now.mono).as_secs_f64()),
            }),
        }
    }

    /// When the replacement of a worker begins that is due.
    fn replaced_at(&self, worker: &Worker) -> Option<Moment> {
        let waits = self.phase == Phase::Running && self.step_old() != Some(worker.id);
        self.allowed_at(worker).filter(|_| waits)
    }

    fn is_served(&self, slot: Slot) -> bool {
        self.in_slot(slot).any(|worker| worker.is_serving() && !worker.is_leaving())
    }

    fn state_word(&self) -> &'static str {
        let wanted = self.slots.values().filter(|entry| entry.desired == Desired::Up);
        let mut missing = wanted.filter(|entry| !self.is_served(entry.slot)).peekable();
        match self.phase {
            Phase::Stopping | Phase::Finished => "stopping",
            Phase::Paused => "paused",
            Phase::Running if missing.peek().is_none() => "running",
            Phase::Running if missing.all(|entry| entry.restarts() == 0) => "starting",
            Phase::Running => "degraded",
        }
    }
}
