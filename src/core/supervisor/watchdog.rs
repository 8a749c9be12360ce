//! What a worker says of itself: that it lives, and that it is about to end.
//!
//! Pings are asked for by `health.watchdog`, counted from when the worker was verified ready. One whose
//! pings stop is hung, as one that fails its probes. One that says that it ends gets no new connection, and
//! is hung if it is still there after the time that a drain has. A worker of a supervisor that died
//! cannot be heard, so nothing follows from its silence. Nor from a silence that is noticed late: then the
//! supervisor itself had stood still (SIGSTOP, a host that was suspended), what was sent meanwhile is yet
//! to be read, and the time begins anew.

use super::super::worker::{State, Worker};
use super::super::{Moment, Now, WorkerId};
use super::{Supervisor, figures};
use std::time::Duration;

/// A supervisor that runs looks at a deadline within milliseconds, on a busy host within a second.
const LATE: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn on_pinged(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.pinged = Some(now.mono);
        if worker.leaving_since.is_none() {
            worker.silent = false;
            self.recovered(now, id, "pings again");
        }
    }

    pub(super) fn on_leaving(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if matches!(worker.state, State::Ready { .. }) {
            worker.leaving_since.get_or_insert(now.mono);
        }
    }

    /// When a worker that keeps silent is hung.
    pub(super) fn watchdog_deadline(&self, worker: &Worker) -> Option<Moment> {
        let ready_since = worker.ready_since()?;
        if worker.silent || worker.unheard || worker.is_hung() {
            return None;
        }
        match worker.leaving_since {
            Some(since) => Some(since + self.settings.rolling.drain_timeout),
            None => {
                let heard =
                    worker.pinged.unwrap_or_default().max(ready_since).max(self.awake_since);
                Some(heard + worker.watchdog?)
            }
        }
    }

    pub(super) fn settle_watchdogs(&mut self, now: Now) {
        let first = self.workers.values().filter_map(|w| self.watchdog_deadline(w)).min();
        if first.is_some_and(|at| now.mono.since(at) >= LATE) {
            self.awake_since = now.mono;
        }
        let due =
            |worker: &&Worker| self.watchdog_deadline(worker).is_some_and(|at| at <= now.mono);
        let silent: Vec<WorkerId> = self.workers.values().filter(due).map(|w| w.id).collect();
        for id in silent {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            worker.silent = true;
            // What it answered to the last probe is older than that.
            worker.answers = false;
            let pinged = worker.pinged;
            let (what, reason) = match (worker.leaving_since, pinged) {
                (Some(since), _) => {
                    let after_s = now.mono.since(since).as_secs_f64();
                    let reason = format!(
                        "said that it ends (STOPPING=1), and is still there after {after_s:.1} s"
                    );
                    (("stopping", "said that it ends and does not"), reason)
                }
                (None, pinged) => {
                    let limit = worker.watchdog.unwrap_or_default().as_secs_f64();
                    let ever = if pinged.is_some() { "" } else { ": it never did" };
                    let reason = format!("did not ping (WATCHDOG=1) within {limit} s{ever}");
                    (("pings", "does not ping"), reason)
                }
            };
            let silent_s = pinged.map(|at| now.mono.since(at).as_secs_f64());
            self.hung(now, id, what, reason, figures([("silent_s", silent_s.into())]));
        }
    }
}
