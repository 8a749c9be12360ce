//! Releases: a deploy, and the way back from a release that does not do.
//!
//! | a deploy is | meets | then |
//! | --- | --- | --- |
//! | rolling | its last worker was replaced | proving |
//! | rolling, proving | a worker of the new release crashes, hangs, does not start, whatever it was started for (or leaks, with `release.on_leak = "rollback"`) | returning, if there is a way back |
//! | rolling | the same, without one | failed, if it was to replace another; else it is a roll, and goes on as always |
//! | proving | the same, without one | failed |
//! | proving | a slot does not serve | the proof begins anew when it does |
//! | proving | all have served until a hang would have been found out, ten seconds at least | done |
//! | returning | its last worker was replaced | returned |
//! | returned | all slots serve | rolled back |
//! | proving, returned | a slot is held | failed |
//! | returned | a worker of the old release hangs | failed |
//! | returning | a worker of the old release does not start | failed |
//! | any | stanch is told to stop | interrupted |
//! | any | stanch dies | interrupted: the next one replaces all workers by what the configuration names then |
//!
//! To go back is to start workers as before, in each slot where none of before serves. Limits, alerts and
//! all else that holds at once stays: only what workers are started from belongs to a release.
//!
//! What is gone back to has served: a release that was reloaded and never started is passed over, and so is one
//! that fewer workers are of than of the one before it.
//!
//! Where not one worker of before comes up (its folder is gone), nobody is better off with it: the release that
//! serves, or at least did start, is the one in force again. So that somebody serves until that is known, the
//! first of them starts beside the one that it replaces wherever it can, `rolling.surge` or not.
//!
//! A release that leaks after its deploy is gone back from in the same way, once and not to and fro: then
//! there is nothing to go back to any more, and what leaks is held by replacing workers.

use super::super::deploy::{Aside, Deploy, Ending, Stage, name};
use super::super::reload::Start;
use super::super::roll::Errand;
use super::super::slot::{Desired, SlotEntry, Wait};
use super::super::worker::Worker;
use super::super::{
    Action, IncidentId, Kind, LeakingRelease, Moment, Now, Refusal, Settings, Slot, Ticket,
    WorkerId,
};
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// Which release would be gone back to from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// The one in force.
    Present,
    /// The one that can be gone back to from that.
    Before,
}

/// Between two looks at a worker that fails its probes at the end of its proof.
const PAUSE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// What is in force, in case that it is not any more.
    pub(super) fn present_release(&self) -> Aside {
        let Settings { release, ready_timeout, health, .. } = &self.settings;
        Aside {
            release: release.clone(),
            ready_timeout: *ready_timeout,
            watchdog: health.watchdog,
            last: self.edition,
            has_served: self.has_served,
        }
    }

    /// Where the way back from the next release leads: to the one that has served and has the most workers that
    /// do, the newer one of two. What was in force and never served is none to go back to.
    pub(super) fn way_back(&self) -> Option<Back> {
        let Some(before) = &self.before else { return self.has_served.then_some(Back::Present) };
        let serving = || self.workers.values().filter(|worker| worker.is_serving());
        let of_before = serving().filter(|worker| worker.edition <= before.last).count();
        let is_present = self.has_served && 2 * of_before <= serving().count();
        Some(if is_present { Back::Present } else { Back::Before })
    }

    /// Puts the release of the configuration that has just come into force into service; no roll is under
    /// way.
    pub(super) fn deploy(
        &mut self,
        now: Now,
        ticket: Ticket,
        old: &Settings,
        way_back: Result<Start, &str>,
        proof: Duration,
    ) {
        let (has_way_back, in_place) = (way_back.is_ok(), way_back == Ok(Start::InPlace));
        let before = self.before.as_ref().filter(|_| has_way_back);
        let from = before.map_or(old.release.clone(), |before| before.release.clone());
        let to = self.settings.release.clone();
        let slots = self.slots_up();
        let mut reason = format!(
            "release {} takes the place of {} in {} slot(s)",
            name(to.as_deref()),
            name(from.as_deref()),
            slots.len(),
        );
        if let Err(why) = way_back {
            reason += &format!("; there is no way back: {why}");
        }
        let figures = figures([
            ("from", from.as_deref().into()),
            ("to", to.as_deref().into()),
            ("slots", slots.len().into()),
        ]);
        self.note(now, Kind::DeployStarted, &reason, figures);
        let (begun, stage) = (now.mono, Stage::Rolling);
        self.deploy =
            Some(Deploy { ticket, from, to, begun, has_way_back, in_place, proof, stage });
        self.begin_roll(now, Errand::Release, slots);
    }

    /// The slots that shall have a worker.
    pub(super) fn slots_up(&self) -> Vec<Slot> {
        let up = |entry: &&SlotEntry| entry.desired == Desired::Up;
        self.slots.values().filter(up).map(|entry| entry.slot).collect()
    }

    /// A roll for a release has come to its end.
    pub(super) fn release_rolled(&mut self, now: Now) {
        let Some(deploy) = &mut self.deploy else { return };
        match deploy.stage {
            Stage::Rolling => deploy.stage = Stage::Proving { until: now.mono + deploy.proof },
            Stage::Returning { ref why } => {
                deploy.stage = Stage::Returned { why: why.clone() };
                self.prove(now);
            }
            Stage::Proving { .. } | Stage::Returned { .. } => {}
        }
    }

    /// A worker was lost, or hangs: if it is one of a release that is being deployed, that has failed. Without a
    /// way back it has if all were replaced: until then the deploy is a roll.
    pub(super) fn release_lost(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: &IncidentId,
        why: &str,
    ) {
        if !self.is_of_present_release(id) {
            return;
        }
        let why = format!("worker {id} {why}");
        if self.may_go_back() {
            self.give_up(now, incident, &why);
        } else if self.release_deadline().is_some() {
            let why = format!("{why}; there is no way back");
            self.end_deploy(now, Ending::Failed, Some(&why));
        }
    }

    /// Ends what is being deployed.
    fn give_up(&mut self, now: Now, incident: &IncidentId, why: &str) {
        let own = self.roll.as_ref().is_some_and(|roll| roll.errand.is_release());
        self.abort_roll(now, Some(incident), why);
        if !own {
            self.deploy_failed(now, Some(incident.clone()), why);
        }
    }

    /// What was to be deployed does not do.
    pub(super) fn deploy_failed(&mut self, now: Now, incident: Option<IncidentId>, why: &str) {
        if self.is_stopping() {
            self.end_deploy(now, Ending::Interrupted, Some(why));
        } else if !self.may_go_back() {
            self.end_deploy(now, Ending::Failed, Some(why));
        } else if let Some(deploy) = &mut self.deploy {
            deploy.stage = Stage::Returning { why: why.to_owned() };
            self.go_back(now, incident, why);
        }
    }

    /// Starts workers of the release before, where none of them serves.
    fn go_back(&mut self, now: Now, incident: Option<IncidentId>, why: &str) {
        let Some(before) = self.before.take() else { return };
        let (given_up, last) = (self.present_release(), before.last);
        self.put_into_force(before, Action::RollBack);
        let (from, to) = (given_up.release.clone(), self.settings.release.clone());
        let reason = format!(
            "back to release {} from {}: {why}; as long as the configuration names the latter, a restart of \
             stanch begins with it",
            name(to.as_deref()),
            name(from.as_deref())
        );
        if let Some(incident) = &incident {
            let words = format!("{why}; gone back to release {}", name(to.as_deref()));
            self.book.saw(now, incident, &words);
        }
        let figures = figures([("from", from.into()), ("to", to.into())]);
        let about = About::Supervisor;
        self.record(now, Kind::ReleaseRolledBack, about, incident.clone(), &reason, figures);
        let old = |one: &Worker| one.is_serving() && one.edition <= last;
        let served = |slot| self.in_slot(slot).any(old);
        // Of those that were given up one stays in a slot until its replacement serves, if it does itself.
        let stays = |one: &Worker| self.serving_in(one.id.slot).is_some_and(|it| it.id == one.id);
        let superfluous =
            |one: &&Worker| one.edition > last && (served(one.id.slot) || !stays(one));
        let superfluous: Vec<WorkerId> =
            self.workers.values().filter(superfluous).map(|one| one.id).collect();
        let mut slots = self.slots_up();
        slots.retain(|slot| !served(*slot));
        for id in superfluous {
            let why = "its release was given up";
            self.retire(now, id, incident.clone(), "release", why);
        }
        self.begin_roll(now, Errand::WayBack(incident, given_up), slots);
    }

    /// In words, if another release takes the place of this one at the moment.
    pub(super) fn gives_way(&self, release: Option<&str>) -> Option<String> {
        let errand = &self.roll.as_ref()?.errand;
        let present = self.settings.release.as_deref();
        let gives_way = errand.is_release() && release != present;
        gives_way.then(|| match errand {
            Errand::WayBack(..) => format!("gone back to release {}", name(present)),
            Errand::Release | Errand::Operator(_) | Errand::Due(..) => {
                format!("release {} takes its place", name(present))
            }
        })
    }

    fn put_into_force(&mut self, release: Aside, action: Action) {
        self.has_served = release.has_served;
        self.settings.release = release.release;
        self.settings.ready_timeout = release.ready_timeout;
        self.settings.health.watchdog = release.watchdog;
        self.edition += 1;
        self.actions.push(action);
    }

    /// Workers of before do not come up any more; the incident is the one that was gone back in.
    pub(super) fn way_back_failed(
        &mut self,
        now: Now,
        incident: Option<IncidentId>,
        from: Aside,
        why: &str,
    ) {
        let left = |one: &Worker| one.edition == from.last && one.is_serving();
        let what = match () {
            () if self.is_stopping() || self.present_release_serves() => None,
            () if self.workers.values().any(left) => Some("serves"),
            // Better one that came up and failed than one that does not come up.
            () if self.nobody_serves() && from.has_served => Some("did start"),
            () => None,
        };
        if let Some(what) = what {
            let name = name(from.release.as_deref());
            let reason = format!("release {name}, which {what}, is in force again: {why}");
            self.put_into_force(from, Action::RollForward);
            if let Some(incident) = &incident {
                self.book.saw(now, incident, &reason);
            }
            let about = About::Matter("no_way_back");
            self.record(now, Kind::ReleaseRolledBack, about, incident, &reason, figures([]));
        }
        // Those whose turn had not come.
        let waits = |entry: &&SlotEntry| entry.desired == Desired::Up && entry.wait == Wait::None;
        let waiting = self.slots.values().filter(waits).map(|entry| entry.slot);
        let empty = waiting.filter(|slot| self.current_in(*slot).is_none()).collect::<Vec<_>>();
        for slot in empty {
            let wait = Wait::Backoff { until: now.mono };
            self.slots.entry(slot).and_modify(|entry| entry.wait = wait);
        }
        let ending = if self.is_stopping() { Ending::Interrupted } else { Ending::Failed };
        self.end_deploy(now, ending, Some(why));
    }

    /// Takes a deploy to its end, and a leaking release out of service.
    pub(super) fn settle_release(&mut self, now: Now) {
        if self.is_stopping() {
            // A roll ends first, and takes the deploy along.
            if self.roll.is_none() {
                self.end_deploy(now, Ending::Interrupted, Some("stanch is stopping"));
            }
            return;
        }
        if let Some((incident, why)) = self.leaking_release() {
            if self.may_go_back() {
                self.give_up(now, &incident, &why);
            } else if self.deploy.is_none() {
                // What it would start is of the release that gives way.
                self.finish_roll(now);
                self.go_back(now, Some(incident), &why);
            }
        }
        self.prove(now);
    }

    /// Ends a deploy whose workers were all replaced: when all slots have served for the time of the proof or, on
    /// the way back, serve; or when one is given up.
    fn prove(&mut self, now: Now) {
        let down = self.down();
        let is_held = |slot: &&Slot| {
            matches!(self.slots.get(slot).map(|entry| entry.wait), Some(Wait::Held { .. }))
        };
        let held = down.iter().find(is_held);
        let has_returned = matches!(self.stage(), Some(Stage::Returned { .. }));
        let hangs = |one: &&Worker| has_returned && self.is_new(one) && one.is_hung();
        let hangs = self.workers.values().find(hangs);
        let hopeless = match (held, hangs) {
            (Some(slot), _) => Some(format!("slot {slot} is held: it does not come up")),
            (None, Some(worker)) => Some(format!("worker {} hangs as well", worker.id)),
            (None, None) => None,
        };
        let fails = |one: &Worker| self.is_new(one) && one.failing_since().is_some();
        let fails = self.workers.values().any(fails);
        let Some(Deploy { stage, proof, .. }) = &mut self.deploy else { return };
        let ending = match (stage, hopeless) {
            (Stage::Rolling | Stage::Returning { .. }, _) => return,
            (_, Some(why)) => return self.end_deploy(now, Ending::Failed, Some(&why)),
            (Stage::Returned { .. }, None) if !down.is_empty() => return,
            (Stage::Returned { .. }, None) => Ending::RolledBack,
            (Stage::Proving { until }, None) if !down.is_empty() => {
                *until = now.mono + *proof;
                return;
            }
            (Stage::Proving { until }, None) if *until > now.mono => return,
            (Stage::Proving { until }, None) if fails => {
                *until = now.mono + PAUSE;
                return;
            }
            (Stage::Proving { .. }, None) => Ending::Done,
        };
        self.end_deploy(now, ending, None);
    }

    /// When a deploy is done.
    pub(super) fn release_deadline(&self) -> Option<Moment> {
        match self.deploy.as_ref()?.stage {
            Stage::Proving { until } => Some(until),
            Stage::Rolling | Stage::Returning { .. } | Stage::Returned { .. } => None,
        }
    }

    /// The leak of the present release that is to be gone back from, and why.
    fn leaking_release(&self) -> Option<(IncidentId, String)> {
        let rolls_back = self.settings.on_leaking_release() == LeakingRelease::RollBack;
        let before = self.before.as_ref()?;
        // Who leaks is told by the label.
        if !rolls_back || self.phase != Phase::Running || before.release == self.settings.release {
            return None;
        }
        // Whatever was reloaded since under the same label.
        let present =
            |one: &&Worker| one.edition > before.last && one.release == self.settings.release;
        let leaks = |one: &&Worker| present(one) && one.is_serving() && one.is_leaking();
        let worker = self.workers.values().find(leaks)?;
        let known = self.siblings.has_leaked(&before.release);
        let incident = self.leak_of(worker.id).filter(|_| !known)?;
        Some((incident, format!("worker {} leaks", worker.id)))
    }

    fn stage(&self) -> Option<&Stage> {
        self.deploy.as_ref().map(|deploy| &deploy.stage)
    }

    /// Whether a new release is on its way into service.
    fn is_deploying(&self) -> bool {
        matches!(self.stage(), Some(Stage::Rolling | Stage::Proving { .. }))
    }

    /// Whether nothing but a release has workers replaced.
    pub(super) fn is_rolling_out(&self) -> bool {
        matches!(self.stage(), Some(Stage::Rolling | Stage::Returning { .. }))
    }

    /// Whether a new release is on its way into service, and may be given up for the one before.
    fn may_go_back(&self) -> bool {
        self.is_deploying() && self.deploy.as_ref().is_some_and(|deploy| deploy.has_way_back)
    }

    /// Whether a worker is one of the present release.
    pub(super) fn is_of_present_release(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| self.is_new(worker))
    }

    /// Whether a worker of the present release serves.
    pub(super) fn present_release_serves(&self) -> bool {
        self.workers.values().any(|worker| self.is_new(worker) && worker.is_serving())
    }

    fn is_new(&self, worker: &Worker) -> bool {
        worker.edition == self.edition
    }

    fn end_deploy(&mut self, now: Now, ending: Ending, why: Option<&str>) {
        let Some(Deploy { ticket, from, to, begun, stage, in_place, .. }) = self.deploy.take()
        else {
            return;
        };
        let (old, new) = (name(from.as_deref()), name(to.as_deref()));
        let why = match (stage, why) {
            (Stage::Returning { why } | Stage::Returned { why }, Some(more)) => {
                format!("{why}; on the way back: {more}")
            }
            (Stage::Returning { why } | Stage::Returned { why }, None) => why,
            (Stage::Rolling | Stage::Proving { .. }, why) => why.unwrap_or_default().to_owned(),
        };
        let reason = match ending {
            Ending::Done => format!("release {new} serves in the place of {old}"),
            Ending::RolledBack if in_place => format!(
                "release {new} was given up, and the configuration of {old} is in force again; both name the \
                 same command in the same directory, so what lies there now is what runs: {why}"
            ),
            Ending::RolledBack => {
                format!("release {new} was given up, and {old} serves again: {why}")
            }
            Ending::Failed => format!("release {new} does not serve in all slots: {why}"),
            Ending::Interrupted => {
                format!("the deploy of release {new} did not come to its end: {why}")
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
