//! What operators ask for, and when it is done.

use super::super::reload::{Reload, Then};
use super::super::roll::Errand;
use super::super::slot::{Desired, SlotEntry, Wait};
use super::super::{
    Action, Command, Figures, Kind, Moment, Now, Refusal, Reply, Settings, Slot, Ticket, WorkerId,
};
use super::{About, Phase, Supervisor, figures};

/// A command whose end is awaited.
#[derive(Debug)]
pub(super) struct Waiter {
    ticket: Ticket,
    until: Until,
}

#[derive(Debug)]
pub(super) enum Until {
    /// These slots have a worker that serves.
    Serving(Vec<Slot>),
    /// These slots have no worker.
    Empty(Vec<Slot>),
    /// Nothing is under way, which is waited for until then; this edition of the workers is in force.
    Rest { until: Moment, edition: u64 },
    /// Everything has ended.
    Stopped,
}

impl Waiter {
    /// Whether it waits for nothing to be under way.
    pub(super) fn is_for_rest(&self) -> bool {
        self.deadline().is_some()
    }

    /// Whom it answers.
    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// When it gives up.
    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.until {
            Until::Rest { until, .. } => Some(until),
            Until::Serving(_) | Until::Empty(_) | Until::Stopped => None,
        }
    }

    /// What was in force when it began to wait, if it waits for rest.
    pub(super) fn edition(&self) -> Option<u64> {
        match self.until {
            Until::Rest { edition, .. } => Some(edition),
            Until::Serving(_) | Until::Empty(_) | Until::Stopped => None,
        }
    }
}

impl Supervisor {
    pub(super) fn on_command(&mut self, now: Now, ticket: Ticket, by: &str, command: Command) {
        let text = describe(&command);
        let figures = figures([("by", by.into()), ("command", text.as_str().into())]);
        let reason = format!("{by} asked: {text}");
        self.note(now, Kind::OperatorCommand, &reason, figures.clone());
        self.obey(now, ticket, by, command);
        let refused = self.actions.iter().find_map(|action| match action {
            Action::Reply { ticket: of, reply: Err(why) } if *of == ticket => Some(why.to_string()),
            _ => None,
        });
        if let Some(why) = refused {
            let reason = format!("{by} asked: {text}; refused: {why}");
            let about = About::Matter("refused");
            self.record(now, Kind::OperatorCommand, about, None, &reason, figures);
        }
    }

    fn obey(&mut self, now: Now, ticket: Ticket, by: &str, command: Command) {
        let stopping = matches!(self.phase, Phase::Stopping | Phase::Finished);
        if stopping && command != Command::Stop {
            self.refuse(ticket, "stanch is stopping");
            return;
        }
        match command {
            Command::Restart { slot } => self.restart(now, ticket, slot),
            Command::Drain { slot } => self.drain(now, ticket, slot),
            Command::Scale { workers } => self.scale(now, ticket, workers),
            Command::Reload(reload) => self.reload(now, ticket, by, reload),
            Command::Upgrade { tried } => self.upgrade(now, ticket, tried),
            Command::Stop => self.stop(now, ticket),
            Command::Acknowledge { incident, by: name } => {
                let reply = self.acknowledge(now, &incident, name.as_deref(), by);
                self.reply(ticket, reply);
            }
            Command::Pause => {
                self.phase = Phase::Paused;
                self.reply(ticket, Ok("automatic action is paused".to_owned()));
            }
            Command::Resume => {
                self.phase = Phase::Running;
                self.workers.values_mut().for_each(|worker| worker.withheld = None);
                self.reply(ticket, Ok("automatic action is on".to_owned()));
            }
        }
    }

    fn restart(&mut self, now: Now, ticket: Ticket, slot: Option<Slot>) {
        if let Some(what) = self.rolls() {
            self.refuse(ticket, &format!("{what} is under way; try again when it is done"));
            return;
        }
        let slots: Vec<Slot> = match slot {
            Some(slot) if !self.knows(slot) => {
                self.refuse_unknown(ticket, slot);
                return;
            }
            Some(slot) => vec![slot],
            None => return self.roll_all(now, ticket),
        };
        self.begin_roll(now, Errand::Operator(ticket), slots);
    }

    /// What replaces workers at the moment.
    pub(super) fn rolls(&self) -> Option<&'static str> {
        match (&self.deploy, &self.roll) {
            (Some(_), _) => Some("a deploy"),
            (None, Some(_)) => Some("a roll"),
            (None, None) => None,
        }
    }

    /// Replaces the workers of all slots that shall have one; no roll is under way.
    pub(super) fn roll_all(&mut self, now: Now, ticket: Ticket) {
        self.begin_roll(now, Errand::Operator(ticket), self.slots_up());
    }

    fn drain(&mut self, now: Now, ticket: Ticket, slot: Slot) {
        if self.step_slot() == Some(slot) {
            self.refuse(
                ticket,
                "the slot is being replaced at the moment; try again when it is done",
            );
            return;
        }
        if !self.knows(slot) {
            self.refuse_unknown(ticket, slot);
            return;
        }
        let Some(entry) = self.slots.get_mut(&slot) else { return };
        entry.desired = Desired::Down;
        entry.wait = Wait::None;
        if let Some(roll) = &mut self.roll {
            roll.wanted.retain(|wanted| *wanted != slot);
        }
        self.retire_slot(now, slot, "drained as an operator wished");
        self.wait(ticket, Until::Empty(vec![slot]));
    }

    fn scale(&mut self, now: Now, ticket: Ticket, workers: u32) {
        if workers == 0 {
            self.refuse(
                ticket,
                "0 workers cannot serve; use `stanch stop`, or `stanch drain SLOT`",
            );
            return;
        }
        if workers > Settings::WORKERS_MAX {
            let most = Settings::WORKERS_MAX;
            self.refuse(ticket, &format!("{workers} workers are too many; {most} can be"));
            return;
        }
        if let Some(what) = self.rolls() {
            self.refuse(ticket, &format!("{what} is under way; try again when it is done"));
            return;
        }
        let until = self.resize(now, workers);
        self.wait(ticket, until);
    }

    /// Makes it so many slots; no roll is under way. Gives when it is done.
    pub(super) fn resize(&mut self, now: Now, workers: u32) -> Until {
        self.settings.workers = workers;
        self.forecast_anew();
        let mut added = Vec::new();
        for slot in (0..workers).map(Slot) {
            let entry = self.slots.entry(slot).or_insert_with(|| {
                added.push(slot);
                SlotEntry::new(slot)
            });
            // Also one that was drained: so many workers were asked for.
            if entry.desired != Desired::Up {
                entry.desired = Desired::Up;
                added.push(slot);
            }
        }
        let beyond =
            |entry: &&SlotEntry| entry.slot.0 >= workers && entry.desired != Desired::Removed;
        let mut removed: Vec<Slot> = self.slots.values().filter(beyond).map(|e| e.slot).collect();
        for slot in &removed {
            if let Some(entry) = self.slots.get_mut(slot) {
                entry.desired = Desired::Removed;
                entry.wait = Wait::None;
            }
            self.retire_slot(now, *slot, "the slot is not wanted any more");
        }
        for slot in &added {
            self.start_worker(now, *slot, None);
        }
        // A drained slot has nothing to be waited for.
        removed.retain(|slot| self.in_slot(*slot).next().is_some());
        if removed.is_empty() { Until::Serving(added) } else { Until::Empty(removed) }
    }

    fn stop(&mut self, now: Now, ticket: Ticket) {
        if self.phase == Phase::Finished {
            self.reply(ticket, Ok("all workers have ended".to_owned()));
            return;
        }
        let hurry = self.phase == Phase::Stopping;
        self.phase = Phase::Stopping;
        self.wait(ticket, Until::Stopped);
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        if hurry {
            self.hooks.give_up();
            let reason = "told to stop a second time: killed at once";
            for id in ids {
                let about = About::Worker(id, Some("operator"));
                let intent =
                    self.record(now, Kind::DrainStarted, about, None, reason, Figures::new());
                self.kill(now, id, intent);
            }
            return;
        }
        self.actions.push(Action::CloseListeners);
        for id in ids {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.evidence.give_up();
            }
            self.retire(now, id, None, "operator", "stanch is stopping");
        }
    }

    fn retire_slot(&mut self, now: Now, slot: Slot, why: &str) {
        let ids: Vec<WorkerId> = self.in_slot(slot).map(|worker| worker.id).collect();
        for id in ids {
            self.retire(now, id, None, "operator", why);
        }
    }

    fn step_slot(&self) -> Option<Slot> {
        Some(self.step()?.slot)
    }

    pub(super) fn wait(&mut self, ticket: Ticket, until: Until) {
        self.waiters.push(Waiter { ticket, until });
    }

    pub(super) fn reply(&mut self, ticket: Ticket, reply: Reply) {
        let reply = match self.prefaces.remove(&ticket) {
            Some(preface) => reply.map_or_else(
                |refusal| Err(Refusal::No(format!("{preface}\n{refusal}"))),
                |done| Ok(format!("{preface}\n{done}").trim_end().to_owned()),
            ),
            None => reply,
        };
        self.actions.push(Action::Reply { ticket, reply });
    }

    fn refuse(&mut self, ticket: Ticket, why: &str) {
        self.reply(ticket, Err(Refusal::No(why.to_owned())));
    }

    fn refuse_unknown(&mut self, ticket: Ticket, slot: Slot) {
        let last = self.settings.workers.saturating_sub(1);
        self.refuse(ticket, &format!("there is no slot {slot}; slots are 0 to {last}"));
    }

    fn knows(&self, slot: Slot) -> bool {
        self.slots.get(&slot).is_some_and(|entry| entry.desired != Desired::Removed)
    }

    /// Answers the commands that have come to their end.
    pub(super) fn settle_waiters(&mut self, now: Now) {
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            match self.outcome(&waiter.until) {
                Some(reply) => self.reply(waiter.ticket, reply),
                None => self.waiters.push(waiter),
            }
        }
        self.settle_rest(now);
    }

    fn outcome(&self, until: &Until) -> Option<Reply> {
        match until {
            Until::Serving(slots) => {
                let unwanted = slots.iter().find(|slot| {
                    let desired = self.slots.get(slot).map(|entry| entry.desired);
                    desired != Some(Desired::Up)
                });
                if let Some(slot) = unwanted {
                    return Some(Err(Refusal::No(format!("slot {slot} is not wanted any more"))));
                }
                let held = slots.iter().find(|slot| {
                    let wait = self.slots.get(slot).map(|entry| entry.wait);
                    matches!(wait, Some(Wait::Held { .. }))
                });
                if let Some(slot) = held {
                    return Some(Err(Refusal::No(format!(
                        "slot {slot} is held: it does not come up"
                    ))));
                }
                let serving = slots.iter().all(|slot| self.serving_in(*slot).is_some());
                serving.then(|| {
                    Ok(match slots.len() {
                        0 => "nothing to do".to_owned(),
                        added => format!("{added} worker(s) added"),
                    })
                })
            }
            Until::Empty(slots) => {
                let empty = !self.workers.keys().any(|id| slots.contains(&id.slot));
                empty.then(|| Ok(format!("{} slot(s) emptied", slots.len())))
            }
            Until::Rest { .. } | Until::Stopped => None,
        }
    }

    /// Answers those who wait for the end.
    pub(super) fn answer_stopped(&mut self) {
        for waiter in std::mem::take(&mut self.waiters) {
            let reply = match waiter.until {
                Until::Stopped | Until::Empty(_) => Ok("all workers have ended".to_owned()),
                Until::Serving(_) | Until::Rest { .. } => {
                    Err(Refusal::No("stanch was stopped".to_owned()))
                }
            };
            self.reply(waiter.ticket, reply);
        }
    }
}

fn describe(command: &Command) -> String {
    match command {
        Command::Restart { slot: Some(slot) } => format!("restart {slot}"),
        Command::Restart { slot: None } => "restart".to_owned(),
        Command::Drain { slot } => format!("drain {slot}"),
        Command::Scale { workers } => format!("scale {workers}"),
        Command::Reload(Reload { then, .. }) => match then {
            Then::Keep => "reload".to_owned(),
            Then::Roll => "reload --roll".to_owned(),
            Then::Deploy => "deploy".to_owned(),
        },
        Command::Upgrade { tried: Ok(version) } => format!("upgrade to version {version}"),
        Command::Upgrade { tried: Err(_) } => "upgrade".to_owned(),
        Command::Stop => "stop".to_owned(),
        Command::Acknowledge { incident, by: None } => format!("acknowledge {incident}"),
        Command::Acknowledge { incident, by: Some(by) } => {
            format!("acknowledge {incident} by {by}")
        }
        Command::Pause => "pause".to_owned(),
        Command::Resume => "resume".to_owned(),
    }
}
