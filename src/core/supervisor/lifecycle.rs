//! Worker life: starts, crashes, hangs, retirement. The table is in `core/worker.rs`.

use super::super::hooks::Hook;
use super::super::incidents::{Sighting, Topic};
use super::super::slot::{Desired, SlotEntry, Verdict, Wait};
use super::super::worker::{Cause, Due, Ended, State, Told, Worker};
use super::super::{
    Action, ExitStatus, Figures, IncidentId, Intent, Kind, Makeup, Moment, Now, Slot, WorkerId,
};
use super::memory::mib;
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// Who ends so soon after the stop signal did not finish what it had.
const DIED_OF_IT: Duration = Duration::from_millis(20);

const SIGKILL: i32 = 9;

impl Supervisor {
    pub(super) fn on_made_of(&mut self, now: Now, id: WorkerId, makeup: Makeup) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let age = now.mono.since(worker.started);
        self.constancy.note(now.wall.checked_sub(age).unwrap_or(now.wall), &makeup);
        worker.makeup = makeup;
        if worker.pid.is_some() {
            let figures = worker.makeup.figures();
            let reason = "its files are hashed now: they took longer than its start";
            self.record(now, Kind::WorkerHashed, About::Worker(id, None), None, reason, figures);
        }
    }

    pub(super) fn on_spawned(&mut self, now: Now, id: WorkerId, pid: i32, start_ticks: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.pid = Some(pid);
        let incident = worker.incident.clone();
        let first =
            self.slots.get(&id.slot).is_some_and(|entry| id.generation == entry.before.next());
        let reason = match &incident {
            Some(_) => "replaces a worker in an incident",
            None if first => "first start",
            None => "replaces a worker",
        };
        let mut figures = worker.makeup.figures();
        figures.insert("start_ticks".to_owned(), start_ticks.into());
        let about = About::Worker(id, None);
        self.record(now, Kind::WorkerStarted, about, incident, reason, figures);
    }

    pub(super) fn on_spawn_failed(&mut self, now: Now, id: WorkerId, stage: &str, error: &str) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match worker.state {
            State::Starting { .. } | State::Ready { .. } => {
                worker.state = State::Exited;
                let reason = format!("could not be started: {stage}: {error}");
                self.start_failed(now, id, stage, &reason);
            }
            State::Draining { .. } | State::Stopping { .. } => worker.state = State::Exited,
            State::Exited => {}
        }
    }

    pub(super) fn on_ready(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match worker.state {
            State::Starting { .. } => {
                worker.state = State::Ready { since: now.mono };
                worker.introduced = true;
                worker.evidence.baseline_at = Some(now.mono);
                self.has_served |= worker.edition == self.edition;
                let took_ms = now.mono.since(worker.started).as_millis() as u64;
                let incident = worker.incident.clone();
                let figures = figures([("start_ms", took_ms.into())]);
                let about = About::Worker(id, None);
                self.record(now, Kind::WorkerReady, about, incident, "verified ready", figures);
                if let Some(entry) = self.slots.get_mut(&id.slot) {
                    entry.been_ready = true;
                }
                self.call(id, Hook::Ready);
            }
            State::Ready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Exited => {}
        }
    }

    pub(super) fn on_exited(&mut self, now: Now, id: WorkerId, status: ExitStatus) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let before = worker.state;
        if before == State::Exited {
            return;
        }
        // A shell in front of the server dies of the signal that the server handles.
        if let State::Stopping { told: told @ (Told::Asked | Told::HungUp), .. } = before
            && let Some(left) = worker.left
        {
            let (asked_at, awaited) = worker.asked.unwrap_or((now.mono, 0));
            let at_once = now.mono.since(asked_at) <= DIED_OF_IT;
            let died = at_once || matches!(status, ExitStatus::Signal(_));
            if told == Told::Asked && awaited > 0 && !worker.is_hung() {
                self.finishes = left.awaiting == 0;
            }
            if left.connections > 0 {
                worker.ended = Some(Ended { status, cut: if died { left.awaiting } else { 0 } });
                self.settle_remains(now, id);
                return;
            }
        }
        worker.state = State::Exited;
        self.cut_off(id);
        let intent = match before {
            State::Starting { .. } => {
                let hint = match status {
                    ExitStatus::Code(0) => {
                        "; a worker must stay in the foreground (does it fork into the background?)"
                    }
                    ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::Unknown => "",
                };
                let reason = format!("ended before it was ready: {status}{hint}");
                self.start_failed(now, id, "ready", &reason)
            }
            State::Ready { .. } => self.crashed(now, id, status),
            State::Stopping { told, .. } => self.retired(now, id, told, Some(status)),
            State::Draining { .. } => self.retired(now, id, Told::Asked, Some(status)),
            State::Exited => return,
        };
        // Children that outlived their leader would hold memory and sockets that nobody watches.
        self.actions.push(Action::Kill { worker: id, intent });
    }

    pub(super) fn on_gone(&mut self, now: Now, id: WorkerId, stragglers: u32, cut: Option<u64>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let incident = worker.ends_in().or(worker.incident.clone());
        let ended = worker.ended;
        let cut = cut.or(ended.map(|ended| ended.cut));
        match worker.state {
            State::Exited => {}
            State::Starting { .. } => {
                self.start_failed(now, id, "ready", "vanished before it was ready");
            }
            State::Ready { .. } => {
                self.crashed(now, id, ExitStatus::Signal(SIGKILL));
            }
            State::Stopping { told, .. } => {
                self.retired(now, id, told, ended.map(|ended| ended.status));
            }
            State::Draining { .. } => {
                self.retired(now, id, Told::Asked, None);
            }
        }
        if let Some(cut) = cut.filter(|cut| *cut > 0) {
            let what =
                if cut == 1 { "1 connection was" } else { &format!("{cut} connections were") };
            let reason = format!("{what} still open when the worker ended");
            let figures =
                figures([("connections_cut", cut.into()), ("stragglers", stragglers.into())]);
            let about = About::Worker(id, None);
            if let Some(incident) = &incident {
                self.book.add_impact(now, incident, "connections_cut", cut);
            }
            self.record(now, Kind::DrainCutConnections, about, incident, &reason, figures);
        }
        self.call(id, Hook::Retired);
        self.workers.remove(&id).into_iter().for_each(|worker| self.departed.add(worker));
    }

    /// A worker that had been ready ended unasked.
    fn crashed(&mut self, now: Now, id: WorkerId, status: ExitStatus) -> Intent {
        let worker = self.workers.get(&id);
        let peak_kib = worker.and_then(|worker| worker.peak_kib);
        let (cause, reason) = match status {
            ExitStatus::Code(_) => ("exit", format!("ended by itself: {status}")),
            ExitStatus::Signal(SIGKILL) | ExitStatus::Unknown
                if worker.is_some_and(|worker| worker.host_oom) =>
            {
                (
                    "host_oom",
                    format!(
                        "was killed because the host, or the container, was out of memory; its peak was {}",
                        peak_kib.map_or("unknown".to_owned(), mib)
                    ),
                )
            }
            ExitStatus::Signal(SIGKILL) => {
                ("foreign_kill", "was killed by SIGKILL, which stanch did not send".to_owned())
            }
            ExitStatus::Signal(_) => ("signal", format!("was ended by {status}")),
            ExitStatus::Unknown => ("unknown", format!("ended: {status}")),
        };
        let words = &format!("worker {} {reason}", id.slot);
        let form = match status {
            ExitStatus::Code(_) | ExitStatus::Signal(_) if matches!(cause, "exit" | "signal") => {
                &status.to_string()
            }
            ExitStatus::Code(_) | ExitStatus::Signal(_) | ExitStatus::Unknown => cause,
        };
        let topic = Topic::Crash;
        let incident = self.see(now, &Sighting { topic, form, worker: id, after: None, words });
        if let Some(since) = self.workers.get(&id).and_then(Worker::failing_since) {
            self.blame_since(now, &incident, since);
        }
        let age_s = self.workers.get(&id).map(|worker| worker.age(now.mono).as_secs_f64());
        let figures = figures([("age_s", age_s.into()), ("peak_kib", peak_kib.into())]);
        let about = About::Worker(id, Some(cause));
        let intent =
            self.record(now, Kind::WorkerCrashed, about, Some(incident.clone()), &reason, figures);
        self.look_at_remains(now, id, &incident);
        self.lost(now, id, incident, true, &reason);
        intent
    }

    /// A worker did not come up.
    fn start_failed(&mut self, now: Now, id: WorkerId, stage: &str, reason: &str) -> Intent {
        let obstacle = self.workers.get(&id).and_then(|worker| worker.obstacle.as_deref());
        let reason = match obstacle {
            Some(obstacle) => format!("{reason}: {obstacle}"),
            None => reason.to_owned(),
        };
        let reason = reason.as_str();
        let words = &format!("worker {} {reason}", id.slot);
        let after = self.workers.get(&id).and_then(|worker| worker.incident.clone());
        let (topic, after) = (Topic::StartFailure, after.as_ref());
        let sighting = Sighting { topic, form: stage, worker: id, after, words };
        let incident = self.see(now, &sighting);
        let about = About::Worker(id, Some(stage));
        let some = Some(incident.clone());
        let intent = self.record(now, Kind::WorkerStartFailed, about, some, reason, Figures::new());
        self.look_at_remains(now, id, &incident);
        self.lost(now, id, incident, false, reason);
        intent
    }

    /// A slot lost a worker unasked: what now? Nothing, if it was the newcomer of a roll (the roll
    /// stops, the old one serves on) or if another worker of the slot is there or on its way.
    pub(super) fn lost(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: IncidentId,
        had_been_ready: bool,
        why: &str,
    ) {
        let newcomer = self.roll_lost_newcomer(now, id, &incident, why);
        // Whatever it was started for.
        self.release_lost(now, id, &incident, why);
        if newcomer && self.current_in(id.slot).is_some_and(|worker| worker.id != id) {
            // If the slot does not serve, that is for the old one, which hangs.
            return;
        }
        self.book.takes(id.slot, &incident);
        let jitter = self.next_jitter();
        let taken = self.in_slot(id.slot).any(|w| w.id != id && w.is_current());
        let restart = self.settings.restart.clone();
        // A kill over the hard limit has counted already.
        let killed = self.workers.get(&id).and_then(|worker| worker.due.as_ref());
        let counted = killed.is_some_and(|due| due.cause == Cause::HardLimit);
        if taken && !counted && self.step_old() == Some(id) {
            // Its replacement is on its way.
            self.book.intervened(now, &incident, id.slot);
        }
        let Some(entry) = self.slots.get_mut(&id.slot) else { return };
        if taken || entry.desired != Desired::Up || self.phase == Phase::Stopping {
            return;
        }
        match entry.budget.crashed(now.mono, had_been_ready, &restart, jitter) {
            Verdict::After(delay) => {
                entry.wait = Wait::Backoff { until: now.mono + delay };
                entry.incident = Some(incident.clone());
                if !counted {
                    self.book.intervened(now, &incident, id.slot);
                }
            }
            Verdict::Hold => self.hold(now, id, incident, why),
        }
    }

    /// No more starts for a while. A crash has become a loop; another matter stays what it is, and is as
    /// bad.
    fn hold(&mut self, now: Now, id: WorkerId, incident: IncidentId, why: &str) {
        let slot = id.slot;
        let pause = self.settings.restart.held_pause;
        let within_s = self.settings.restart.within.as_secs_f64();
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        entry.wait = Wait::Held { until: now.mono + pause };
        let crashes = entry.budget.crashes();
        let words = format!("slot {slot} is held after {crashes} failures in {within_s} s: {why}");
        let matter = self.book.topic_of(&incident).filter(|_| !self.book.is_staged(&incident));
        let (topic, form) = matter.map_or((Topic::CrashLoop, ""), |topic| (topic, "held"));
        let (after, words) = (Some(&incident), words.as_str());
        let incident = self.see(now, &Sighting { topic, form, worker: id, after, words });
        if matter.is_some() {
            self.escalate(now, &incident, words);
        }
        if let Some(entry) = self.slots.get_mut(&slot) {
            entry.incident = Some(incident.clone());
        }
        let reason = format!(
            "{crashes} failures within {within_s} s, the last: {why}; `stanch restart {slot}` starts it \
             again, or it is tried again in {} s",
            pause.as_secs()
        );
        let figures = figures([("failures", crashes.into()), ("within_s", within_s.into())]);
        self.record(
            now,
            Kind::WorkerHeld,
            About::Slot(slot, None),
            Some(incident),
            &reason,
            figures,
        );
    }

    /// When something is due without any event.
    pub(super) fn deadline_of(&self, worker: &Worker) -> Option<Moment> {
        worker.deadline(self.hooks.end_of(worker.id))
    }

    pub(super) fn settle_deadlines(&mut self, now: Now) {
        let due: Vec<(WorkerId, State)> = self
            .workers
            .values()
            .filter(|worker| self.deadline_of(worker).is_some_and(|deadline| deadline <= now.mono))
            .map(|worker| (worker.id, worker.state))
            .collect();
        for (id, state) in due {
            match state {
                State::Starting { deadline } => {
                    // As it was when it was started.
                    let limit = self.workers.get(&id).map(|worker| deadline.since(worker.started));
                    let limit_s = limit.unwrap_or_default().as_secs_f64();
                    let reason = format!("was not ready within {limit_s} s");
                    // Out of the way first: what follows must not take it for a worker on its way.
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.state = State::Exited;
                    }
                    let intent = self.start_failed(now, id, "ready", &reason);
                    self.kill(now, id, intent);
                }
                State::Draining { intent, stop_at, hang_up_at } if stop_at < hang_up_at => {
                    // What it waited for that is not taken from the time that it has to finish.
                    let hang_up_at = hang_up_at + now.mono.since(stop_at);
                    self.let_stop(now, id, intent, hang_up_at);
                }
                State::Draining { intent, .. }
                | State::Stopping { intent, told: Told::Asked, .. } => {
                    self.hang_up(now, id, intent)
                }
                State::Stopping { intent, .. } => self.kill(now, id, intent),
                State::Ready { .. } | State::Exited => {}
            }
        }
        self.settle_ages(now);
    }

    fn settle_ages(&mut self, now: Now) {
        self.settle_adopted();
        let healthy: Vec<Slot> = self
            .workers
            .values()
            .filter(|worker| self.healthy_deadline(worker).is_some_and(|at| at <= now.mono))
            .map(|worker| worker.id.slot)
            .collect();
        for slot in healthy {
            if let Some(entry) = self.slots.get_mut(&slot) {
                entry.budget.healthy();
            }
        }
        let old: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| self.max_age_deadline(worker).is_some_and(|at| at <= now.mono))
            .map(|worker| worker.id)
            .collect();
        for id in old {
            if let Some(worker) = self.workers.get_mut(&id) {
                let reason = "older than rolling.max_age".to_owned();
                worker.make_due(Due { cause: Cause::MaxAge, incident: None, reason });
            }
        }
    }

    /// When a worker counts as well again; `None` when its slot has no streak to forget.
    pub(super) fn healthy_deadline(&self, worker: &Worker) -> Option<Moment> {
        let streak = self.slots.get(&worker.id.slot)?.budget.has_streak();
        streak.then_some(worker.ready_since()? + self.settings.restart.within)
    }

    pub(super) fn max_age_deadline(&self, worker: &Worker) -> Option<Moment> {
        let since = worker.ready_since()?;
        worker.due.is_none().then_some(since + self.settings.rolling.max_age?)
    }

    /// Whether slots without a worker get one: a pause does not leave the site with fewer and fewer.
    pub(super) fn restarts(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }

    /// Whether a worker that cannot be had back holds the addresses.
    pub(super) fn is_obstructed(&self) -> bool {
        self.workers.values().any(|worker| worker.in_the_way)
    }

    /// Whether a worker can be started in a slot now: where two need the same port, when the last one has ended.
    pub(super) fn is_free(&self, slot: Slot) -> bool {
        self.settings.rolling.beside || self.in_slot(slot).next().is_none()
    }

    /// Starts what has waited long enough.
    pub(super) fn settle_slots(&mut self, now: Now) {
        if !self.restarts() || self.is_obstructed() {
            return;
        }
        let mut ready: Vec<(Slot, Option<IncidentId>)> = Vec::new();
        let taken: Vec<Slot> = self.slots.keys().copied().filter(|it| !self.is_free(*it)).collect();
        let wanted =
            |entry: &&mut SlotEntry| entry.desired == Desired::Up && !taken.contains(&entry.slot);
        for entry in self.slots.values_mut().filter(wanted) {
            match entry.wait {
                Wait::Backoff { until } if until <= now.mono => {
                    ready.push((entry.slot, entry.incident.take()));
                }
                Wait::Held { until } if until <= now.mono => {
                    entry.budget.reset();
                    ready.push((entry.slot, entry.incident.take()));
                }
                Wait::None | Wait::Backoff { .. } | Wait::Held { .. } => {}
            }
        }
        for (slot, incident) in ready {
            self.start_worker(now, slot, incident);
        }
    }
}
