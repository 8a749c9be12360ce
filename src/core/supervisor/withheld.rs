//! While automatic action is paused, by an operator or from the beginning (`run --dry-run`), what would have
//! been done is written down, once a worker and cause.

use super::super::worker::{Cause, State};
use super::super::{Figures, IncidentId, Kind, Now, WorkerId};
use super::{About, Phase, Supervisor};

impl Supervisor {
    pub(super) fn settle_withheld(&mut self, now: Now) {
        if self.phase != Phase::Paused {
            return;
        }
        let ready = self.workers.values().filter(|w| matches!(w.state, State::Ready { .. }));
        let due: Vec<_> = ready.filter_map(|w| Some((w.id, w.due.clone()?))).collect();
        for (id, due) in due {
            self.withhold(now, id, due.cause, due.incident, &due.reason);
        }
    }

    /// Writes down that a worker would be replaced.
    pub(super) fn withhold(
        &mut self,
        now: Now,
        id: WorkerId,
        cause: Cause,
        incident: Option<IncidentId>,
        why: &str,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.withheld >= Some(cause) {
            return;
        }
        worker.withheld = Some(cause);
        let what = if cause == Cause::HardLimit { "killed and replaced" } else { "replaced" };
        let reason = format!("would be {what}, were automatic action not paused: {why}");
        let about = About::Worker(id, Some(cause.as_str()));
        self.record(now, Kind::ActionWithheld, about, incident, &reason, Figures::new());
    }
}
