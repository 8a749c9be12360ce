//! Replacing workers one by one: which is next, and when a step is done or the roll must stop.

use super::super::deploy;
use super::super::incidents::{Sighting, Topic};
use super::super::roll::{Errand, Roll, Step};
use super::super::slot::{Desired, Wait};
use super::super::worker::{Cause, Due, State, Worker};
use super::super::{
    Action, Figures, IncidentId, Kind, Moment, Now, Refusal, Slot, Weight, WorkerId,
};
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// The longest pause after aborted rolls; the first is `restart.backoff_max`, then it doubles while anybody
/// serves.
const ABORTED_PAUSE_MAX: Duration = Duration::from_secs(600);

impl Supervisor {
    /// Takes the roll as far as it goes now; starts an automatic one when a worker is due.
    pub(super) fn settle_roll(&mut self, now: Now) {
        if self.phase == Phase::Stopping || self.phase == Phase::Finished {
            self.abort_roll(now, None, "stanch is stopping");
            return;
        }
        if self.roll.is_none()
            && !self.is_rolling_out()
            && let Some(first) = self.next_due(now)
            && let Some(due) = self.workers.get(&first).and_then(|worker| worker.due.clone())
        {
            self.begin_roll(now, Errand::Due(first, due), []);
        }
        while self.roll.is_some() && self.advance_roll(now) {}
    }

    /// Begins a roll; the caller has seen to it that none is under way.
    pub(super) fn begin_roll(
        &mut self,
        now: Now,
        errand: Errand,
        wanted: impl IntoIterator<Item = Slot>,
    ) {
        let mut wanted: Vec<Slot> = wanted.into_iter().collect();
        // First where nobody serves: it is soon known whether newcomers come up, and where the old one goes first
        // the others wait for that capacity.
        wanted.sort_by_key(|slot| self.serving_in(*slot).is_some());
        let roll = Roll::new(errand, wanted);
        let slots = roll.wanted.len();
        let (about, reason) = match &roll.errand {
            Errand::Operator(_) => {
                (About::Supervisor, format!("an operator wants {slots} slot(s) replaced"))
            }
            Errand::Release | Errand::WayBack(..) => {
                let name = deploy::name(self.settings.release.as_deref());
                (About::Supervisor, format!("release {name} is wanted in {slots} slot(s)"))
            }
            Errand::Due(id, due) => {
                (About::Worker(*id, Some(due.cause.as_str())), due.reason.clone())
            }
        };
        let incident = roll.errand.incident().cloned();
        self.record(now, Kind::RollStarted, about, incident, &reason, Figures::new());
        self.roll = Some(roll);
    }

    /// The worker whose replacement is most urgent and allowed now. Routine ones wait for the
    /// cooldown; one that does not answer costs capacity as long as it stands.
    fn next_due(&self, now: Now) -> Option<WorkerId> {
        if self.phase != Phase::Running {
            return None;
        }
        self.workers
            .values()
            .filter(|worker| matches!(worker.state, State::Ready { .. }))
            .filter(|worker| self.allowed_at(worker).is_some_and(|at| at <= now.mono))
            .filter_map(|worker| Some((worker, worker.due.as_ref()?.cause)))
            .max_by_key(|(worker, cause)| {
                // A host that is short of memory has no time for anything else.
                let first = self.host.under_pressure && worker.is_leaking();
                (first, *cause, worker.growth_kib(), std::cmp::Reverse(worker.id))
            })
            .map(|(worker, _)| worker.id)
    }

    /// When the replacement of a worker that is due may begin.
    pub(super) fn allowed_at(&self, worker: &Worker) -> Option<Moment> {
        let cause = worker.due.as_ref()?.cause;
        // After an aborted roll the pause is for all: the next newcomer would not come up either.
        let urgent = self.aborted_rolls == 0;
        Some(match cause {
            Cause::Hang if urgent => self.next_hang,
            Cause::Hang => self.next_hang.max(self.next_roll),
            Cause::HostPressure if urgent => Moment::default(),
            _ if urgent && self.nears_hard_limit(worker) => Moment::default(),
            _ => self.next_roll,
        })
    }

    /// Whether more than half of the way from the soft to the hard limit is behind it: to wait for the
    /// cooldown could cost its connections.
    fn nears_hard_limit(&self, worker: &Worker) -> bool {
        let memory = &self.settings.memory;
        let (Some(soft), Some(hard)) = (memory.soft_limit_kib, memory.hard_limit_kib) else {
            return false;
        };
        worker.growth_kib().is_some_and(|growth| growth >= soft.midpoint(hard))
    }

    /// The worker that is being replaced.
    pub(super) fn step_old(&self) -> Option<WorkerId> {
        self.step()?.old
    }

    /// The step that is under way.
    pub(super) fn step(&self) -> Option<&Step> {
        self.roll.as_ref()?.step.as_ref()
    }

    /// The newcomer of the step, while the one that it is to replace has not begun to leave: that one could serve on.
    /// Later a newcomer that hangs is replaced in its turn, as any other.
    pub(super) fn on_trial(&self) -> Option<WorkerId> {
        let step = self.step()?;
        let old = self.workers.get(&step.old?)?;
        step.new.filter(|_| old.is_current())
    }

    /// When a worker that is due may be replaced.
    pub(super) fn roll_deadline(&self) -> Option<Moment> {
        let ready = |worker: &&Worker| matches!(worker.state, State::Ready { .. });
        let due = self.workers.values().filter(ready).filter_map(|worker| self.allowed_at(worker));
        let none = self.roll.is_none() && !self.is_rolling_out();
        due.min().filter(|_| none && self.phase == Phase::Running)
    }

    /// One move of the roll; whether another may follow at once.
    fn advance_roll(&mut self, now: Now) -> bool {
        let Some(roll) = &self.roll else { return false };
        let Some(step) = &roll.step else { return self.next_step(now) };
        let (slot, old, new) = (step.slot, step.old, step.new);
        let old_lives = old.is_some_and(|old| self.workers.contains_key(&old));
        match new {
            None if old_lives => false,
            None => {
                let incident = self.step_incident(step.due.as_ref());
                let new = self.start_worker(now, slot, incident);
                self.set_newcomer(new);
                false
            }
            Some(new)
                if self.on_trial() == Some(new)
                    && self.workers.get(&new).is_some_and(Worker::is_hung) =>
            {
                let incident = step.due.as_ref().and_then(|due| due.incident.clone());
                let hang =
                    self.workers.get(&new).and_then(|new| new.due.as_ref()?.incident.clone());
                let why = "fails its probes while the old one still serves";
                self.abort_roll(now, None, &format!("the new worker of slot {slot} {why}"));
                if let Some(hang) = hang {
                    self.release_lost(now, new, &hang, why);
                }
                self.retire(now, new, incident, Cause::Hang.as_str(), why);
                // The way back, if there is one.
                true
            }
            Some(new) => match self.workers.get(&new).map(|worker| worker.state) {
                Some(State::Ready { .. }) if old_lives => {
                    if self.may_take_over(new, old) {
                        self.retire_old(now);
                    }
                    false
                }
                Some(State::Ready { .. }) => {
                    self.step_done(now);
                    true
                }
                Some(State::Starting { .. }) => false,
                Some(State::Draining { .. } | State::Stopping { .. } | State::Exited) | None => {
                    let why = format!("the new worker of slot {slot} was ended");
                    self.abort_roll(now, None, &why);
                    true
                }
            },
        }
    }

    /// The newcomer has come through its slow start and its hook, or the old worker cannot wait for that.
    fn may_take_over(&self, new: WorkerId, old: Option<WorkerId>) -> bool {
        let warm = self.workers.get(&new).is_some_and(|new| new.warmth == Weight::FULL)
            && !self.hooks.any_of(new);
        let old = old.and_then(|old| self.workers.get(&old));
        warm || old.is_none_or(|old| old.admitted.is_none() || self.nears_hard_limit(old))
    }

    fn next_step(&mut self, now: Now) -> bool {
        if let Some(id) = self.next_due(now) {
            let due = self.workers.get(&id).and_then(|worker| worker.due.clone());
            return self.begin_step(now, id.slot, Some(id), due);
        }
        let Some(roll) = &mut self.roll else { return false };
        let is_release = roll.errand.is_release();
        let Some(slot) = roll.wanted.pop_front() else {
            self.finish_roll(now);
            return false;
        };
        let Some(entry) = self.slots.get_mut(&slot) else { return true };
        if entry.desired == Desired::Removed {
            return true;
        }
        entry.desired = Desired::Up;
        match self.current_in(slot).map(|worker| (worker.id, worker.state)) {
            Some((id, State::Ready { .. })) if is_release && self.is_of_present_release(id) => true,
            // As new as a replacement would be; the step only waits for it.
            Some((id, State::Starting { .. })) if self.is_of_present_release(id) => {
                let (new, begun) = (Some(id), now.mono);
                self.set_step(Step { slot, old: None, new, due: None, begun, no_room: None });
                true
            }
            Some((id, _)) => self.begin_step(now, slot, Some(id), None),
            None if !self.is_free(slot) => {
                // The step begins with the end of who leaves already.
                if let Some(entry) = self.slots.get_mut(&slot) {
                    entry.budget.reset();
                    entry.wait = Wait::None;
                }
                let (old, begun) = (self.in_slot(slot).next_back().map(|it| it.id), now.mono);
                self.set_step(Step { slot, old, new: None, due: None, begun, no_room: None });
                true
            }
            None => self.begin_step(now, slot, None, None),
        }
    }

    /// Begins to replace `old`; false when it must wait for capacity.
    fn begin_step(
        &mut self,
        now: Now,
        slot: Slot,
        old: Option<WorkerId>,
        due: Option<Due>,
    ) -> bool {
        let surge = self.settings.rolling.surge;
        let beside = surge || self.settings.rolling.beside && self.is_first_of_way_back();
        let no_room = old.filter(|_| beside).and_then(|id| self.no_room_beside(id));
        let overlap = old.is_none() || beside && no_room.is_none();
        let no_room = no_room.filter(|_| surge);
        if let (Some(old), Some(due)) = (old, &due) {
            // Beside the start of its replacement.
            self.look_at(now, old, due.incident.as_ref());
        }
        let silent = |one: &Worker| one.is_hung() && !one.answers;
        if let Some(id) = old.filter(|id| self.workers.get(id).is_some_and(silent)) {
            self.actions.push(Action::Abandon { worker: id });
        }
        if overlap {
            if old.is_none()
                && let Some(entry) = self.slots.get_mut(&slot)
            {
                entry.budget.reset();
            }
            let incident = self.step_incident(due.as_ref());
            let new = self.start_worker(now, slot, incident);
            self.set_step(Step { slot, old, new, due, begun: now.mono, no_room: None });
            return true;
        }
        // Without room, to wait for capacity would be to wait for ever.
        if no_room.is_none() && !self.may_go(old) {
            // The slot comes first again when capacity is back.
            if due.is_none()
                && let Some(roll) = &mut self.roll
            {
                roll.wanted.push_front(slot);
            }
            return false;
        }
        self.set_step(Step { slot, old, new: None, due, begun: now.mono, no_room });
        self.retire_old(now);
        true
    }

    /// Whether workers of the release before are wanted, and it is not known yet whether they come up.
    fn is_first_of_way_back(&self) -> bool {
        let is_way_back = matches!(&self.roll, Some(Roll { errand: Errand::WayBack(..), .. }));
        is_way_back && !self.present_release_serves()
    }

    /// Whether the floor allows this worker to go before its replacement is there.
    fn may_go(&self, id: Option<WorkerId>) -> bool {
        let serving = |slot: &Slot| self.serving_in(*slot).is_some();
        let wanted = self.slots.values().filter(|entry| entry.desired == Desired::Up).count();
        let ready = self.slots.keys().filter(|slot| serving(slot)).count();
        let counts = id.and_then(|id| self.workers.get(&id)).is_some_and(|w| w.is_serving());
        !counts || ready > wanted.saturating_sub(self.settings.rolling.max_unavailable as usize)
    }

    fn retire_old(&mut self, now: Now) {
        let Some(step) = self.step() else { return };
        let Some(old) = step.old else { return };
        let (due, no_room) = (step.due.clone(), step.no_room.clone());
        let errand = self.roll.as_ref().map(|roll| &roll.errand);
        let (cause, incident, mut reason) = match (due, errand) {
            (Some(due), _) => (due.cause.as_str(), due.incident, due.reason),
            (None, Some(errand)) if errand.is_release() => {
                let name = deploy::name(self.settings.release.as_deref());
                let incident = errand.incident().cloned();
                ("release", incident, format!("release {name} takes its place"))
            }
            (None, _) => ("operator", None, "replaced as an operator wished".to_owned()),
        };
        if let Some(no_room) = no_room {
            reason += &format!("; {no_room}");
        }
        self.retire(now, old, incident, cause, &reason);
    }

    /// In which incident a step is: that for which its worker is due, else the roll's.
    fn step_incident(&self, due: Option<&Due>) -> Option<IncidentId> {
        match due {
            Some(due) => due.incident.clone(),
            None => self.roll.as_ref()?.errand.incident().cloned(),
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Some(roll) = &mut self.roll {
            roll.step = Some(step);
        }
    }

    fn set_newcomer(&mut self, new: Option<WorkerId>) {
        if let Some(step) = self.roll.as_mut().and_then(|roll| roll.step.as_mut()) {
            step.new = new;
        }
    }

    fn step_done(&mut self, now: Now) {
        let cooldown = self.settings.rolling.cooldown;
        let Some(roll) = &mut self.roll else { return };
        roll.replaced += 1;
        self.aborted_rolls = 0;
        self.to_retry = None;
        let Some(Step { old, due, begun, .. }) = roll.step.take() else { return };
        if let Some(incident) = self.step_incident(due.as_ref()) {
            self.book.add_impact(now, &incident, "workers_replaced", 1);
        }
        let Some(old) = old else { return };
        self.costs.note(now.mono - begun);
        if let Some(due) = due {
            self.next_roll = now.mono + cooldown;
            self.leak_replaced(now.mono, old, &due);
        }
    }

    pub(super) fn finish_roll(&mut self, now: Now) {
        let Some(roll) = self.roll.take() else { return };
        let mut reason = format!("{} worker(s) replaced", roll.replaced);
        if roll.step.is_some() || !roll.wanted.is_empty() {
            reason += ", the others by the release that is gone back to";
        }
        let figures = figures([("replaced", roll.replaced.into())]);
        let about = About::Supervisor;
        let incident = roll.errand.incident().cloned();
        self.record(now, Kind::RollFinished, about, incident, &reason, figures);
        match roll.errand {
            Errand::Operator(ticket) => self.reply(ticket, Ok(reason)),
            Errand::Release | Errand::WayBack(..) => self.release_rolled(now),
            Errand::Due(..) => {}
        }
    }

    /// Stops the roll, if there is one, `after` a failure that is known; the workers not yet replaced
    /// serve on.
    pub(super) fn abort_roll(&mut self, now: Now, after: Option<&IncidentId>, why: &str) {
        let Some(roll) = self.roll.take() else { return };
        let slot = roll.step.as_ref().map(|step| step.slot);
        let worker = roll.step.as_ref().and_then(|step| step.new.or(step.old));
        let by_itself = roll.step.as_ref().is_some_and(|step| step.due.is_some());
        let incident = match worker {
            Some(worker) if self.phase == Phase::Running || self.phase == Phase::Paused => {
                let words = &format!("a roll stopped at slot {}: {why}", worker.slot);
                let topic = Topic::RollFailure;
                Some(self.see(now, &Sighting { topic, form: "", worker, after, words }))
            }
            Some(_) | None => None,
        };
        let (pause, others) = match self.nobody_serves() {
            true => (self.settings.restart.backoff_max, "nobody serves"),
            false => (self.pause_after(self.aborted_rolls), "the others serve on"),
        };
        self.next_roll = now.mono + pause;
        self.aborted_rolls += 1;
        let mut reason = format!("{why}; {} worker(s) had been replaced, {others}", roll.replaced);
        self.to_retry = incident.clone().filter(|_| by_itself);
        if self.phase == Phase::Running && by_itself {
            reason += &format!("; tried again in {} s", pause.as_secs());
        }
        let figures = figures([
            ("replaced", roll.replaced.into()),
            ("not_replaced", (roll.wanted.len() + usize::from(slot.is_some())).into()),
            ("pause_s", pause.as_secs_f64().into()),
        ]);
        let about = match slot {
            Some(slot) => About::Slot(slot, None),
            None => About::Supervisor,
        };
        self.record(now, Kind::RollAborted, about, incident.clone(), &reason, figures);
        match roll.errand {
            Errand::Operator(ticket) => self.reply(ticket, Err(Refusal::No(reason))),
            Errand::Release => self.deploy_failed(now, incident, why),
            Errand::WayBack(of, from) => self.way_back_failed(now, of.or(incident), from, why),
            Errand::Due(..) => {}
        }
    }

    /// Whether a worker waits to be replaced.
    pub(super) fn is_any_due(&self) -> bool {
        self.workers.values().any(|worker| worker.awaits().is_some())
    }

    /// How long nothing is tried again after it has failed so many times before.
    pub(super) fn pause_after(&self, times: u32) -> Duration {
        let shortest = self.settings.restart.backoff_max;
        shortest.saturating_mul(1 << times.min(16)).min(ABORTED_PAUSE_MAX.max(shortest))
    }

    /// A worker was lost: was it the newcomer of the roll? Then the roll stops.
    pub(super) fn roll_lost_newcomer(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: &IncidentId,
        why: &str,
    ) -> bool {
        let lost = self.step().is_some_and(|step| step.new == Some(id));
        if lost {
            let why = format!("the new worker of slot {} {why}", id.slot);
            self.abort_roll(now, Some(incident), &why);
        }
        lost
    }
}
