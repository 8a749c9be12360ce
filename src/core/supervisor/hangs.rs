//! Workers that do not answer, by their probes or by what they say of themselves (`watchdog`).

use super::super::incidents::{Sighting, Topic};
use super::super::worker::{Cause, Due, State, Worker};
use super::super::{Action, Figures, IncidentId, Kind, Now, WorkerId};
use super::{About, Supervisor, figures};
use std::time::Duration;

impl Supervisor {
    pub(super) fn on_probed(
        &mut self,
        now: Now,
        id: WorkerId,
        outcome: Result<(), String>,
        answered: bool,
    ) {
        let limit = self.settings.health.failures;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // One may be under way when probes are switched off.
        if limit == 0 || !matches!(worker.state, State::Ready { .. }) {
            return;
        }
        let falls_silent = std::mem::replace(&mut worker.answers, answered) && !answered;
        if worker.is_hung() && falls_silent {
            // What waits is for its replacement, if that has not come yet.
            self.actions.push(Action::Abandon { worker: id });
        }
        let error = match outcome {
            Ok(()) => {
                worker.failed_probes = 0;
                worker.failing_since = None;
                self.recovered(now, id, "answers its probes again");
                return;
            }
            Err(error) => error,
        };
        worker.failed_probes += 1;
        if let Some(Due { cause: Cause::Hang, incident: Some(incident), .. }) = &worker.due {
            // Those until then were counted when it was taken for hung.
            let incident = incident.clone();
            self.book.add_impact(now, &incident, "probes_failed", 1);
            return;
        }
        let failing = now.mono.since(*worker.failing_since.get_or_insert(now.mono));
        if worker.failed_probes < limit {
            return;
        }
        let failures = worker.failed_probes;
        let figures = figures([
            ("failed_probes", failures.into()),
            ("failing_s", failing.as_secs_f64().into()),
        ]);
        let reason = format!("{failures} probes in a row failed; the last: {error}");
        let what = format!("fails its probes: {error}");
        self.hung(now, id, ("probes", &what), reason, figures);
    }

    pub(super) fn on_unreachable(&mut self, now: Now, id: WorkerId) {
        // Who is taken for hung may have given its socket up to its replacement: that is no failed probe.
        if !self.workers.get(&id).is_some_and(Worker::is_hung) {
            let error = "it has no supervised address any more".to_owned();
            self.on_probed(now, id, Err(error), false);
        }
    }

    /// Takes a worker for hung, so that it is replaced; `form` is by what it is seen, in a word and in words.
    pub(super) fn hung(
        &mut self,
        now: Now,
        id: WorkerId,
        (form, what): (&str, &str),
        mut reason: String,
        figures: Figures,
    ) {
        // Started because another one hung, and now it hangs itself.
        let worker = self.workers.get(&id);
        let started_in = worker.and_then(|worker| worker.incident.as_ref());
        let futile = started_in.and_then(|id| self.book.topic_of(id)) == Some(Topic::Hang);
        let failing_since = worker.and_then(Worker::failing_since);
        let words = &format!("worker {} {what}", id.slot);
        let topic = Topic::Hang;
        let sighting = Sighting { topic, form, worker: id, after: None, words };
        let incident = self.see(now, &sighting);
        self.book.takes(id.slot, &incident);
        self.blame_since(now, &incident, failing_since.unwrap_or(now.mono));
        if futile {
            let pause = self.restart_is_futile(now, &incident);
            reason += &format!(
                "; the worker that it replaced hung too: a restart does not help, and none for this \
                 follows within {} s",
                pause.as_secs()
            );
        }
        let failed = self.workers.get(&id).map_or(0, |worker| worker.failed_probes);
        if failed > 0 {
            self.book.add_impact(now, &incident, "probes_failed", failed.into());
        }
        let about = About::Worker(id, None);
        self.record(now, Kind::WorkerHung, about, Some(incident.clone()), &reason, figures);
        let due = Due { cause: Cause::Hang, incident: Some(incident.clone()), reason };
        self.make_due(id, due);
        if self.on_trial() != Some(id) {
            self.release_lost(now, id, &incident, what);
        }
        if self.nobody_serves() {
            // What was put off for the sake of those that served is not any more.
            self.next_roll = self.next_roll.min(now.mono + self.settings.restart.backoff_max);
        }
    }

    /// A worker that was taken for hung gives a sign of life, and its replacement has not begun. It is
    /// well again when nothing else makes it hung.
    pub(super) fn recovered(&mut self, now: Now, id: WorkerId, reason: &str) {
        let limit = self.settings.health.failures;
        if self.step_old() == Some(id) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.is_hung()) else {
            return;
        };
        if worker.silent || (limit > 0 && worker.failed_probes >= limit) {
            return;
        }
        let incident = worker.due.take().and_then(|due| due.incident);
        if !self.is_any_due() {
            self.aborted_rolls = 0;
            self.to_retry = None;
        }
        self.actions.push(Action::Reclaim { worker: id });
        let about = About::Worker(id, None);
        self.record(now, Kind::WorkerReady, about, incident, reason, Figures::new());
    }

    /// A worker was replaced because it failed its probes, and its replacement fails them too. Gives
    /// the time until the next such replacement; it doubles.
    pub(super) fn restart_is_futile(&mut self, now: Now, incident: &IncidentId) -> Duration {
        let pause = self.pause_after(self.futile_hangs);
        self.futile_hangs += 1;
        self.next_hang = self.next_hang.max(now.mono + pause);
        self.escalate(now, incident, "a restart does not help");
        pause
    }
}
