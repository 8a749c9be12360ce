//! Releases: a deploy, and the way back from a release that does not do.
//!
//! | a deploy is | meets | then |
//! | --- | --- | --- |
//! | rolling | its last worker was replaced | proving |
//! | rolling, proving | a worker of the new release crashes, hangs, does not start (or leaks, with `release.on_leak = "rollback"`) | returning, if there is a way back; else failed, the roll stops |
//! | proving | [`PROVING`] has passed | done |
//! | returning | its last worker was replaced | rolled back |
//! | returning | a worker of the old release fails | failed |
//! | any | stanch is told to stop | failed |
//! | any | stanch dies | interrupted: the next one replaces all workers by what the configuration names then |
//!
//! To go back is to start workers as before, in each slot where none of before serves. Limits, alerts and
//! all else that holds at once stays: only what workers are started from belongs to a release.
//!
//! A release that leaks after its deploy is gone back from in the same way, once and not to and fro: then
//! there is nothing to go back to any more, and what leaks is held by replacing workers.

use super::super::deploy::{Deploy, Ending, Stage, name};
use super::super::roll::Errand;
use super::super::slot::{Desired, SlotEntry};
use super::super::worker::Worker;
use super::super::{
    Action, IncidentId, Kind, LeakingRelease, Moment, Now, Refusal, Settings, Slot, Ticket,
    WorkerId,
};
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// So long all workers of a new release must have done without a failure. As long as Nomad's
/// `min_healthy_time`.
const PROVING: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Puts the release of the configuration that has just come into force into service; no roll is under
    /// way.
    pub(super) fn deploy(&mut self, now: Now, ticket: Ticket, old: &Settings, way_back: bool) {
        let (from, to) = (old.release.clone(), self.settings.release.clone());
        let slots = self.slots_up();
        let reason = format!(
            "release {} takes the place of {} in {} slot(s){}",
            name(to.as_deref()),
            name(from.as_deref()),
            slots.len(),
            if way_back { "" } else { "; both are started alike: there is no way back" }
        );
        let figures = figures([
            ("from", from.as_deref().into()),
            ("to", to.as_deref().into()),
            ("slots", slots.len().into()),
        ]);
        self.note(now, Kind::DeployStarted, &reason, figures);
        let stage = Stage::Rolling;
        let begun = now.mono;
        self.deploy = Some(Deploy { ticket, from, to, begun, has_way_back: way_back, stage });
        self.begin_roll(now, Errand::Release(None), slots);
    }

    /// The slots that shall have a worker.
    pub(super) fn slots_up(&self) -> Vec<Slot> {
        let up = |entry: &&SlotEntry| entry.desired == Desired::Up;
        self.slots.values().filter(up).map(|entry| entry.slot).collect()
    }

    /// A roll for a release has come to its end.
    pub(super) fn release_rolled(&mut self, now: Now) {
        match self.deploy.as_mut().map(|deploy| &mut deploy.stage) {
            Some(stage @ Stage::Rolling) => *stage = Stage::Proving { until: now.mono + PROVING },
            Some(Stage::Returning { .. }) => self.end_deploy(now, Ending::RolledBack, None),
            Some(Stage::Proving { .. }) | None => {}
        }
    }

    /// A worker was lost, or hangs: if it is one of a release that is being deployed, that has failed.
    pub(super) fn release_lost(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: &IncidentId,
        why: &str,
    ) {
        if self.is_of_present_release(id) && (self.may_go_back() || self.roll.is_none()) {
            self.give_up(now, incident, &format!("worker {id} {why}"));
        }
    }

    /// Ends what is being deployed. No roll but its own is ever under way.
    fn give_up(&mut self, now: Now, incident: &IncidentId, why: &str) {
        match (self.is_deploying(), self.roll.is_some()) {
            (true, true) => self.abort_roll(now, Some(incident), why),
            (true, false) => self.deploy_failed(now, Some(incident.clone()), why),
            (false, _) => {}
        }
    }

    /// What was to be deployed does not do.
    pub(super) fn deploy_failed(&mut self, now: Now, incident: Option<IncidentId>, why: &str) {
        let may_return = self.may_go_back() && !self.is_stopping();
        match &mut self.deploy {
            Some(deploy) if may_return => {
                deploy.stage = Stage::Returning { why: why.to_owned() };
                self.go_back(now, incident, why);
            }
            _ => self.end_deploy(now, Ending::Failed, Some(why)),
        }
    }

    /// Starts workers of the release before, where none of them serves.
    fn go_back(&mut self, now: Now, incident: Option<IncidentId>, why: &str) {
        let Some(before) = self.before.take() else { return };
        let from = std::mem::replace(&mut self.settings.release, before.release);
        self.settings.health.watchdog = before.watchdog;
        let failed = self.edition;
        self.edition += 1;
        self.actions.push(Action::RollBack);
        let to = self.settings.release.clone();
        let reason = format!(
            "back to release {} from {}: {why}; as long as the configuration names the latter, a restart of \
             stanch begins with it",
            name(to.as_deref()),
            name(from.as_deref())
        );
        let figures = figures([("from", from.into()), ("to", to.into())]);
        let about = About::Supervisor;
        self.record(now, Kind::ReleaseRolledBack, about, incident.clone(), &reason, figures);
        let old = |one: &Worker| one.is_serving() && one.edition != failed;
        let served = |slot| self.in_slot(slot).any(old);
        let superfluous = |one: &&Worker| one.edition == failed && served(one.id.slot);
        let superfluous: Vec<WorkerId> =
            self.workers.values().filter(superfluous).map(|one| one.id).collect();
        let mut slots = self.slots_up();
        slots.retain(|slot| !served(*slot));
        for id in superfluous {
            let why = "the one that it was to replace serves on";
            self.retire(now, id, incident.clone(), "release", why);
        }
        self.begin_roll(now, Errand::Release(incident), slots);
    }

    /// Takes a deploy to its end, and a leaking release out of service.
    pub(super) fn settle_release(&mut self, now: Now) {
        if self.is_stopping() {
            self.end_deploy(now, Ending::Failed, Some("stanch is stopping"));
            return;
        }
        if let Some((incident, why)) = self.leaking_release() {
            if self.may_go_back() {
                self.give_up(now, &incident, &why);
            } else if self.deploy.is_none() && self.roll.is_none() {
                self.go_back(now, Some(incident), &why);
            }
        }
        let proved =
            |deploy: &Deploy| matches!(deploy.stage, Stage::Proving { until } if until <= now.mono);
        if self.deploy.as_ref().is_some_and(proved) {
            self.end_deploy(now, Ending::Done, None);
        }
    }

    /// When a deploy is done.
    pub(super) fn release_deadline(&self) -> Option<Moment> {
        match self.deploy.as_ref()?.stage {
            Stage::Proving { until } => Some(until),
            Stage::Rolling | Stage::Returning { .. } => None,
        }
    }

    /// The leak of the present release that is to be gone back from, and why.
    fn leaking_release(&self) -> Option<(IncidentId, String)> {
        let rolls_back = self.settings.leaking_release == LeakingRelease::RollBack;
        let before = self.before.as_ref()?;
        // Who leaks is told by the label.
        if !rolls_back || self.phase != Phase::Running || before.release == self.settings.release {
            return None;
        }
        let present = |one: &&Worker| self.is_new(one) && one.release == self.settings.release;
        let leaks = |one: &&Worker| present(one) && one.is_serving() && one.is_leaking();
        let worker = self.workers.values().find(leaks)?;
        let known = self.siblings.has_leaked(&before.release);
        let incident = self.leak_of(worker.id).filter(|_| !known)?;
        Some((incident, format!("worker {} leaks", worker.id)))
    }

    /// Whether a new release is on its way into service.
    fn is_deploying(&self) -> bool {
        let stage = self.deploy.as_ref().map(|deploy| &deploy.stage);
        matches!(stage, Some(Stage::Rolling | Stage::Proving { .. }))
    }

    /// Whether a new release is on its way into service, and may be given up for the one before.
    fn may_go_back(&self) -> bool {
        self.is_deploying() && self.deploy.as_ref().is_some_and(|deploy| deploy.has_way_back)
    }

    /// Whether a worker is one of the present release.
    pub(super) fn is_of_present_release(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| self.is_new(worker))
    }

    fn is_new(&self, worker: &Worker) -> bool {
        worker.edition == self.edition
    }

    fn end_deploy(&mut self, now: Now, ending: Ending, why: Option<&str>) {
        let Some(Deploy { ticket, from, to, begun, stage, .. }) = self.deploy.take() else {
            return;
        };
        let (old, new) = (name(from.as_deref()), name(to.as_deref()));
        let why = match (stage, why) {
            (Stage::Returning { why }, Some(more)) => format!("{why}; on the way back: {more}"),
            (Stage::Returning { why }, None) => why,
            (Stage::Rolling | Stage::Proving { .. }, why) => why.unwrap_or_default().to_owned(),
        };
        let reason = match ending {
            Ending::Done => format!("release {new} serves in the place of {old}"),
            Ending::RolledBack => {
                format!("release {new} was given up, and {old} serves again: {why}")
            }
            Ending::Failed | Ending::Interrupted => {
                format!("release {new} does not serve in all slots: {why}")
            }
        };
        let took_s = now.mono.since(begun).as_secs_f64();
        let figures =
            figures([("from", from.into()), ("to", to.into()), ("took_s", took_s.into())]);
        let about = About::Matter(ending.as_str());
        self.record(now, Kind::DeployFinished, about, None, &reason, figures);
        let reply = match ending {
            Ending::Done => Ok(reason),
            Ending::RolledBack | Ending::Failed | Ending::Interrupted => Err(Refusal::No(reason)),
        };
        self.reply(ticket, reply);
    }
}
