//! How a worker leaves: diverted, drained, told to stop, hung up, killed.

use super::super::hooks::Hook;
use super::super::worker::{State, Told, Worker};
use super::super::{Action, ExitStatus, IncidentId, Intent, Kind, Left, Moment, Now, WorkerId};
use super::{About, Supervisor, figures};
use std::time::Duration;

/// The end of a drain: connections that do not wait for an answer are hung up, and those that do have
/// this long to get it. Never more than a quarter of the drain's time.
const HANG_UP_AT_MOST: Duration = Duration::from_millis(500);

/// A worker that hangs has this long to finish what it has.
const HUNG_GRACE: Duration = Duration::from_secs(1);

/// A tree that outlives its kill (a process in uninterruptible sleep) is killed again after this long.
const KILL_AGAIN: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Ends a worker in good order: no new connections, the queue emptied, the stop signal, and the
    /// kill of what is left at the deadline.
    pub(super) fn retire(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: Option<IncidentId>,
        cause: &str,
        why: &str,
    ) {
        let drain_timeout = self.settings.rolling.drain_timeout;
        let Some(worker) = self.workers.get(&id) else { return };
        if !worker.is_current() {
            return;
        }
        let drains = matches!(worker.state, State::Ready { .. });
        // What does not answer is not waited for, nor is any that hangs while nobody else serves its slot; but there
        // may be requests that are nearly done.
        let hurries = worker.is_hung() && (!worker.answers || self.serving_in(id.slot).is_none());
        let goes_in = incident.clone();
        let figures = figures([
            ("rss_kib", worker.sample.and_then(|(_, sample)| sample.rss_kib).into()),
            ("growth_kib", worker.growth_kib().into()),
            ("age_s", worker.age(now.mono).as_secs_f64().into()),
            ("drain_timeout_s", drain_timeout.as_secs_f64().into()),
        ]);
        if let Some(incident) = &incident {
            self.book.intervened(now, incident, id.slot);
            self.book.takes(id.slot, incident);
        }
        let about = About::Worker(id, Some(cause));
        let intent = self.record(now, Kind::DrainStarted, about, incident.clone(), why, figures);
        self.look_at(now, id, incident.as_ref());
        self.workers.entry(id).and_modify(|worker| worker.goes_in = goes_in);
        self.call(id, Hook::Drain);
        let hang_up_at = now.mono + drain_timeout.saturating_sub(self.hang_up_grace());
        if drains {
            let patience = if hurries { HUNG_GRACE } else { drain_timeout };
            let stop_at = now.mono + patience.min(drain_timeout / 2);
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.state = State::Draining { intent, stop_at, hang_up_at };
            }
            self.actions.push(Action::Divert { worker: id, drain: true });
        } else {
            self.let_stop(now, id, intent, hang_up_at);
        }
    }

    /// Tells a worker to stop as soon as all is known of it that shall be, and all are told of it.
    pub(super) fn let_stop(&mut self, now: Now, id: WorkerId, intent: Intent, hang_up_at: Moment) {
        if !(self.awaits_evidence(now, id) | self.hooks.any_of(id)) {
            self.stop_worker(now, id, intent, hang_up_at);
        } else if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = State::Draining { intent, stop_at: now.mono, hang_up_at };
        }
    }

    fn stop_worker(&mut self, now: Now, id: WorkerId, intent: Intent, hang_up_at: Moment) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.asked = Some((now.mono, worker.left.map_or(0, |left| left.awaiting)));
            worker.state = State::Stopping { intent, until: hang_up_at, told: Told::Asked };
            self.actions.push(Action::Stop { worker: id, intent });
        }
    }

    pub(super) fn hang_up(&mut self, now: Now, id: WorkerId, intent: Intent) {
        let until = now.mono + self.hang_up_grace();
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = State::Stopping { intent, until, told: Told::HungUp };
            self.actions.push(Action::HangUp { worker: id, intent });
        }
    }

    fn hang_up_grace(&self) -> Duration {
        HANG_UP_AT_MOST.min(self.settings.rolling.drain_timeout / 4)
    }

    pub(super) fn kill(&mut self, now: Now, id: WorkerId, intent: Intent) {
        if let Some(worker) = self.workers.get_mut(&id) {
            let until = now.mono + KILL_AGAIN;
            worker.state = State::Stopping { intent, until, told: Told::Killed };
            self.cut_off(id);
            self.actions.push(Action::Kill { worker: id, intent });
        }
    }

    /// It accepts nothing any more. Its queue is given up before it is steered past: where it was the only
    /// worker, what comes now waits behind what has waited there, and the next worker gets all of it.
    pub(super) fn cut_off(&mut self, id: WorkerId) {
        self.actions.push(Action::Abandon { worker: id });
        self.actions.push(Action::Divert { worker: id, drain: false });
    }

    /// The stop signal comes when no answer is awaited: whether a server finishes what it has on that
    /// signal, or dies of it, cannot be seen from outside (node and Go handle it only to die of it). Once
    /// one was seen to finish, it comes as soon as the queue is empty: the server can announce the end
    /// on connections that are never without a request.
    pub(super) fn on_draining(&mut self, now: Now, id: WorkerId, left: Left) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if left.orphaned {
            worker.remains = Some(left.connections);
            self.settle_remains(now, id);
            return;
        }
        worker.left = Some(left);
        match worker.state {
            // From then on it only waits for evidence.
            State::Draining { stop_at, .. } if stop_at <= now.mono => {}
            State::Draining { intent, hang_up_at, .. } => {
                if left.queued == 0 && (left.awaiting == 0 || self.finishes) {
                    self.let_stop(now, id, intent, hang_up_at);
                }
            }
            State::Starting { .. }
            | State::Ready { .. }
            | State::Stopping { .. }
            | State::Exited => {}
        }
    }

    /// The leader has ended; the rest of its tree may answer until it has no connection any more. The
    /// look at the rest and the word of the end come in either order.
    pub(super) fn settle_remains(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (State::Stopping { told, .. }, Some(ended), Some(remains)) =
            (worker.state, &mut worker.ended, worker.remains)
        else {
            return;
        };
        if remains > 0 {
            // They were not its alone.
            ended.cut = 0;
            return;
        }
        let status = ended.status;
        worker.state = State::Exited;
        let intent = self.retired(now, id, told, Some(status));
        self.actions.push(Action::Kill { worker: id, intent });
    }

    /// It ended when it was to.
    pub(super) fn retired(
        &mut self,
        now: Now,
        id: WorkerId,
        told: Told,
        status: Option<ExitStatus>,
    ) -> Intent {
        let worker = self.workers.get(&id);
        let age_s = worker.map(|worker| worker.age(now.mono).as_secs_f64());
        let incident = worker.and_then(Worker::ends_in);
        let (cause, reason) = match told {
            Told::Asked => (None, "ended as asked"),
            Told::HungUp => (Some("hung_up"), "ended when its connections were hung up"),
            Told::Killed => (Some("killed"), "ended by the kill"),
        };
        let reason = match status {
            Some(status) => format!("{reason}: {status}"),
            None => reason.to_owned(),
        };
        let figures = figures([("age_s", age_s.into())]);
        let about = About::Worker(id, cause);
        self.record(now, Kind::WorkerRetired, about, incident, &reason, figures)
    }
}
