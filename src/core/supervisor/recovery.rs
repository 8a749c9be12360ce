//! The beginning, with what a supervisor that died has left, or one that handed all over.
//!
//! | the log says | its leader | what it listens on | what is made of it |
//! | --- | --- | --- | --- |
//! | ready | lives | taken back | serves on |
//! | hung | lives | taken back | hung, until it gives a sign of life or is replaced |
//! | ready | lives | nothing any more | retired: drain, stop signal |
//! | told to end | lives | any | retired |
//! | started, or nothing | lives | taken back | starting: probed, has the usual time to become ready |
//! | started, or nothing | lives | nothing, and it cannot bind any more | its start is undone: killed |
//! | any | lives | cannot be taken back | retired; no worker starts before all such are gone |
//! | ended, or any | gone, its processes not | any | the rest is killed |
//! | ready or started | gone, and all of it | | `unrecorded_action`: it ended unwatched, or by what the dead supervisor did last |
//! | told to end | gone, and all of it | | retired |
//!
//! Of two in one slot the roll between them is finished if the newer one was ready, else undone. A
//! worker of which the log says nothing is an `unrecorded_action`. What operators changed by `scale`,
//! `drain` or `pause` is not remembered.
//!
//! Also after an end in good order generations go on from those that the log tells of: an incident may go on
//! too, and a worker's name stands for one process in it.

use super::super::deploy::{self, Ending};
use super::super::incidents::{Sighting, Topic};
use super::super::slot::{Desired, SlotEntry, Wait};
use super::super::worker::{Cause, Due, State, Worker};
use super::super::{
    Action, Generation, Hold, Hung, IncidentId, Kind, Legacy, Now, Past, Slot, Standing, Survivor,
    Trace, WorkerId,
};
use super::{About, Supervisor, figures};

/// What is made of a survivor.
enum Course {
    Serve,
    /// It may yet become ready.
    Wait,
    Retire(&'static str),
    /// Its start is undone.
    Undo,
    /// What it left is killed.
    Clear,
}

impl Supervisor {
    /// Begins: starts a worker in each slot.
    pub fn start(&mut self, now: Now) -> Vec<Action> {
        self.recover(now, Legacy::default())
    }

    /// Begins with what another supervisor has left: watches over its workers, ends or undoes what it
    /// had begun, and starts a worker in each slot that has none.
    pub fn recover(&mut self, now: Now, legacy: Legacy) -> Vec<Action> {
        let Legacy {
            boot_id,
            past,
            survivors,
            incidents,
            told,
            last_incident,
            altered,
            succession,
        } = legacy;
        let workers = self.settings.workers;
        if succession.is_none() {
            let start =
                figures([("workers", workers.into()), ("boot_id", boot_id.as_deref().into())]);
            let reason = "supervision begins";
            self.record(now, Kind::SupervisorStarted, About::Supervisor, None, reason, start);
        }
        for (incident, why) in altered {
            self.record(now, Kind::StoreAltered, About::Supervisor, incident, &why, figures([]));
        }
        if let Some(last) = last_incident {
            self.book.go_on_after(&last);
        }
        for incident in incidents {
            let of_it = told.iter().filter(|(id, _)| *id == incident.id);
            let told: Vec<_> = of_it.map(|(_, told)| told.clone()).collect();
            self.alerting.adopt(now.mono, &self.settings.alerts, &incident, &told);
            self.book.adopt(now, incident);
        }
        if let Some(succession) = succession {
            self.succeed(now, succession, boot_id.as_deref());
            return self.settle(now);
        }
        for slot in (0..workers).map(Slot) {
            self.slots.insert(slot, SlotEntry::new(slot));
        }
        for (slot, generation) in past.iter().flat_map(|past| &past.generations) {
            self.note_generation(*slot, *generation);
        }
        let died = past.as_ref().is_some_and(|past| past.died);
        if died || !survivors.is_empty() {
            // A log that knows of no death does not know of which boot the survivors are; they live.
            let same_boot = past.as_ref().is_none_or(|past| !past.died || past.boot_id == boot_id);
            self.take_over(now, past.as_ref(), survivors, same_boot);
        }
        for entry in self.slots.values_mut() {
            let adopted = self.workers.keys().find(|id| id.slot == entry.slot);
            entry.before = adopted.map_or(entry.generation, |id| id.generation.before());
        }
        for slot in (0..workers).map(Slot) {
            if self.current_in(slot).is_some() {
                continue;
            }
            if self.is_obstructed() {
                let wait = Wait::Backoff { until: now.mono };
                self.slots.entry(slot).and_modify(|entry| entry.wait = wait);
            } else {
                self.start_worker(now, slot, None);
            }
        }
        self.settle(now)
    }

    fn take_over(
        &mut self,
        now: Now,
        past: Option<&Past>,
        mut survivors: Vec<Survivor>,
        same_boot: bool,
    ) {
        survivors.sort_by_key(|survivor| survivor.worker);
        for survivor in &survivors {
            let trace = past.and_then(|past| past.workers.get(&survivor.worker));
            let deploying = past.is_some_and(|past| past.deploying);
            self.take_in_survivor(now, survivor, trace, deploying);
        }
        self.settle_couples(now);
        let adopted = self.workers.values().filter(|worker| worker.is_current()).count();
        let hung = self.workers.values().filter(|worker| worker.is_hung()).count();
        let found = |id: WorkerId| survivors.iter().any(|survivor| survivor.worker == id);
        let live = past.iter().flat_map(|past| past.live());
        let gone: Vec<(WorkerId, &Trace)> = live.filter(|(id, _)| !found(*id)).collect();
        // With the host they all ended, and nobody needs a line for each.
        for (id, trace) in gone.iter().filter(|_| same_boot) {
            self.note_gone(now, *id, trace);
        }
        if past.is_some_and(|past| past.rolling) {
            let reason = "the supervisor died; the workers not yet replaced serve on";
            self.note(now, Kind::RollAborted, reason, figures([]));
        }
        if past.is_some_and(|past| past.deploying) {
            let now_named = deploy::name(self.settings.release.as_deref());
            let reason = format!(
                "the supervisor died; release {now_named}, which the configuration names now, takes the place \
                 of all workers"
            );
            let about = About::Matter(Ending::Interrupted.as_str());
            self.record(now, Kind::DeployFinished, about, None, &reason, figures([]));
        }
        let log = match past {
            None => "; its audit log cannot be read",
            Some(past) if !past.died => "; this audit log does not tell of that",
            Some(_) => "",
        };
        let reason = match same_boot {
            true => {
                let hang = if hung > 0 { format!(", {hung} hang") } else { String::new() };
                let serve = adopted - hung;
                format!("the supervisor before died{log}; {serve} of its workers serve on{hang}")
            }
            false => format!("the host was started anew; {} workers ended with it", gone.len()),
        };
        let known = |survivor: &&Survivor| {
            past.is_some_and(|past| past.workers.contains_key(&survivor.worker))
        };
        let figures = figures([
            ("adopted", adopted.into()),
            ("hung", hung.into()),
            ("ended", (survivors.len() - adopted).into()),
            ("gone", gone.len().into()),
            ("unknown", (survivors.len() - survivors.iter().filter(known).count()).into()),
            ("same_boot", same_boot.into()),
            ("generations", self.generations().into()),
        ]);
        self.note(now, Kind::SupervisorRecovered, &reason, figures);
        // Their replacement is no hurry.
        self.next_roll = now.mono + self.settings.rolling.cooldown;
    }

    /// Has those replaced at leisure that another supervisor has left and that cannot stay as they are.
    pub(super) fn settle_adopted(&mut self) {
        let present = self.settings.release.clone();
        for worker in self.workers.values_mut().filter(|worker| worker.deaf || worker.stale) {
            if worker.due.is_none() && worker.ready_since().is_some() {
                let reason = match worker.deaf {
                    true => "its supervisor died, so what it binds from now on would fail",
                    false if worker.release == present => {
                        "its supervisor died in a deploy, and the label does not tell from which release it is"
                    }
                    false => "its supervisor died, and the configuration names another release",
                };
                let reason = reason.to_owned();
                worker.make_due(Due { cause: Cause::Adopted, incident: None, reason });
            }
        }
    }

    /// The newest worker of each slot, by name.
    pub(super) fn generations(&self) -> String {
        let newest = self.slots.values().filter(|entry| entry.generation.0 > 0);
        let names = newest
            .map(|entry| WorkerId { slot: entry.slot, generation: entry.generation }.to_string());
        names.collect::<Vec<_>>().join(" ")
    }

    fn note_generation(&mut self, slot: Slot, generation: Generation) {
        let entry = self.slots.entry(slot).or_insert_with(|| {
            // Beyond the number of workers of now.
            SlotEntry { desired: Desired::Removed, ..SlotEntry::new(slot) }
        });
        entry.generation = entry.generation.max(generation);
    }

    fn take_in_survivor(
        &mut self,
        now: Now,
        survivor: &Survivor,
        trace: Option<&Trace>,
        deploying: bool,
    ) {
        let id = survivor.worker;
        self.note_generation(id.slot, id.generation);
        let wanted = self.slots.get(&id.slot).is_some_and(|entry| entry.desired == Desired::Up);
        let standing = trace.map(|trace| trace.standing);
        let course = course(standing, survivor, wanted);
        let verified = matches!(course, Course::Serve | Course::Retire(_));
        let state = match verified {
            true => State::Ready { since: now.mono },
            false => State::Starting { deadline: now.mono + self.settings.ready_timeout },
        };
        let release = trace.and_then(|trace| trace.release.clone());
        let release = release.or(survivor.release.clone());
        // Labels may be the same in a deploy.
        let stale = deploying || release != self.settings.release;
        let hung = trace.filter(|_| matches!(course, Course::Serve));
        let hung = hung.and_then(|trace| trace.hung.clone());
        let worker = Worker {
            pid: survivor.pid.or(trace.and_then(|trace| trace.pid)),
            release,
            lived_before: survivor.age,
            deaf: survivor.deaf,
            stale,
            unheard: true,
            introduced: verified,
            in_the_way: survivor.hold == Hold::Refused,
            ..self.fresh_worker(now, id, state)
        };
        // Without a label nobody knows from what it was started.
        self.has_served |= verified && !worker.stale && worker.release.is_some();
        self.workers.insert(id, worker);
        if let Some(entry) = self.slots.get_mut(&id.slot) {
            entry.been_ready |= verified;
        }
        self.actions.push(Action::Adopt { worker: id, verified, stale });
        let hung = hung.map(|hung| self.hangs_on(now, id, &hung));
        let about = About::Worker(id, Some("recovery"));
        let age_s = survivor.age.as_secs_f64();
        if trace.is_none() {
            let reason = "was started, and the audit log does not say so";
            let figures = figures([("age_s", age_s.into())]);
            self.record(now, Kind::UnrecordedAction, about, None, reason, figures);
        }
        if let Course::Clear = course {
            let reason = "processes outlived it: killed";
            let intent = self.record(now, Kind::DrainStarted, about, None, reason, figures([]));
            self.kill(now, id, intent);
            return;
        }
        let probed = self.workers.get(&id).map_or(0, |worker| worker.failed_probes);
        let mut figures = figures([
            ("start_ticks", survivor.start_ticks.into()),
            ("age_s", age_s.into()),
            ("verified", verified.into()),
        ]);
        if probed > 0 {
            figures.insert("failed_probes".to_owned(), probed.into());
        }
        let reason = match course {
            Course::Serve if hung.is_none() => "goes on serving",
            _ => "lives",
        };
        let reason = format!("{reason} after the death of its supervisor");
        self.record(now, Kind::WorkerAdopted, about, hung, &reason, figures);
        match course {
            Course::Serve | Course::Wait | Course::Clear => {}
            Course::Retire(why) => self.retire(now, id, None, "recovery", why),
            Course::Undo => {
                let why = "was starting when its supervisor died, and cannot bind any more: killed";
                self.undo_start(now, id, why);
            }
        }
    }

    /// A worker hung before its supervisor died or was another program, and does until it gives the sign of
    /// life that it missed. Gives the incident: a new one, if that of then is not gone on with.
    pub(super) fn hangs_on(&mut self, now: Now, id: WorkerId, hung: &Hung) -> IncidentId {
        let limit = self.settings.health.failures;
        let silent = hung.silent || limit == 0;
        let incident = match self.book.get(&hung.incident) {
            Some(incident) => incident.id.clone(),
            None => {
                let words = &format!("worker {} hung before its supervisor died", id.slot);
                let form = if silent { "pings" } else { "probes" };
                let topic = Topic::Hang;
                self.see(now, &Sighting { topic, form, worker: id, after: None, words })
            }
        };
        self.book.takes(id.slot, &incident);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.failed_probes = if silent { 0 } else { limit };
            worker.silent = silent;
            let reason = "hung before its supervisor died".to_owned();
            worker.due = Some(Due { cause: Cause::Hang, incident: Some(incident.clone()), reason });
        }
        incident
    }

    /// One worker stays in a slot: the newest that was ready.
    fn settle_couples(&mut self, now: Now) {
        let slots: Vec<Slot> = self.slots.keys().copied().collect();
        for slot in slots {
            let current: Vec<(WorkerId, bool)> = self
                .workers
                .values()
                .filter(|worker| worker.id.slot == slot && worker.is_current())
                .map(|worker| (worker.id, worker.ready_since().is_some()))
                .collect();
            let ready = current.iter().rfind(|(_, ready)| *ready);
            let Some((stays, _)) = ready.or(current.last()).copied() else { continue };
            for (id, ready) in current.into_iter().filter(|(id, _)| *id != stays) {
                match ready {
                    true => self.retire(now, id, None, "recovery", "its replacement is ready"),
                    false => {
                        let why = "was to replace a worker when the supervisor died: killed";
                        self.undo_start(now, id, why);
                    }
                }
            }
        }
    }

    fn undo_start(&mut self, now: Now, id: WorkerId, why: &str) {
        let about = About::Worker(id, Some("recovery"));
        let intent = self.record(now, Kind::WorkerStartFailed, about, None, why, figures([]));
        self.kill(now, id, intent);
    }

    fn note_gone(&mut self, now: Now, id: WorkerId, trace: &Trace) {
        let (kind, reason) = match trace.standing {
            Standing::Leaving => {
                (Kind::WorkerRetired, "ended as asked, while no supervisor watched")
            }
            Standing::Started | Standing::Ready | Standing::Ended => (
                Kind::UnrecordedAction,
                "is gone, and the audit log does not say why: it ended while no supervisor watched, or \
                 by what the one that died did last",
            ),
        };
        // It is in no list of workers; the record shall bear its name all the same.
        let state = State::Exited;
        let worker = Worker {
            pid: trace.pid,
            release: trace.release.clone(),
            ..self.fresh_worker(now, id, state)
        };
        self.workers.insert(id, worker);
        let about = About::Worker(id, Some("recovery"));
        self.record(now, kind, about, None, reason, figures([]));
        self.workers.remove(&id);
    }
}

fn course(standing: Option<Standing>, survivor: &Survivor, wanted: bool) -> Course {
    if survivor.pid.is_none() || standing == Some(Standing::Ended) {
        return Course::Clear;
    }
    match (standing, survivor.hold) {
        (_, Hold::Refused) => {
            Course::Retire("its sockets cannot be had back, and its replacement needs the address")
        }
        (Some(Standing::Leaving), _) => Course::Retire("had been told to end before"),
        (Some(Standing::Ready), _) if !wanted => Course::Retire("the slot is not wanted any more"),
        (Some(Standing::Ready), Hold::Kept) => Course::Serve,
        (Some(Standing::Ready), Hold::Nothing) => Course::Retire("listens no more"),
        (Some(Standing::Started) | None, Hold::Kept) if wanted => Course::Wait,
        (Some(Standing::Started) | None, Hold::Kept | Hold::Nothing) => Course::Undo,
        (Some(Standing::Ended), Hold::Kept | Hold::Nothing) => Course::Clear,
    }
}
