//! Incidents as they come and go: which facts open them, what they cost, when they are over.

use super::super::incidents::{Topic, Turn};
use super::super::worker::{Cause, Due, Worker};
use super::super::{Figures, Incident, IncidentId, IncidentState, Kind, Moment, Now, Slot};
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// Between two counts of the time in which a slot has no worker, while that lasts.
const CAPACITY_PAUSE: Duration = Duration::from_secs(60);

/// Why an incident is written whose impact grew.
const COSTS: &str = "what it has cost so far";

impl Supervisor {
    pub(super) fn settle_incidents(&mut self, now: Now) {
        // Slots that a stop empties say nothing about what was wrong.
        if matches!(self.phase, Phase::Stopping | Phase::Finished) {
            if self.below_since.is_some() {
                self.note_capacity(now, true);
                self.book.ids().iter().for_each(|id| self.changed(now, id, "impact", COSTS));
            }
            return;
        }
        let full = self.slots.keys().all(|slot| self.serves(*slot));
        self.note_capacity(now, full);
        // Taken out, because it asks about everything else.
        let mut book = std::mem::take(&mut self.book);
        let any = |release: Option<&str>, is: &dyn Fn(&Worker) -> bool| {
            let of_release = |worker: &&Worker| worker.release.as_deref() == release;
            let mut current = self.workers.values().filter(|worker| worker.is_current());
            current.any(|worker| of_release(&worker) && is(worker))
        };
        let due = |release: Option<&str>, causes: &[Cause]| {
            let among = |due: &Due| causes.contains(&due.cause);
            any(release, &|worker| worker.due.as_ref().is_some_and(among))
        };
        let active = |topic, release: Option<&str>| match topic {
            Topic::Leak => any(release, &Worker::is_leaking),
            Topic::MemoryLimit => {
                self.over_total || due(release, &[Cause::SoftLimit, Cause::TotalLimit])
            }
            Topic::Hang => due(release, &[Cause::Hang]),
            Topic::Crash | Topic::CrashLoop | Topic::StartFailure | Topic::RollFailure => false,
        };
        let changed = book.review(now, |slot| self.serves(slot), active);
        self.book = book;
        for incident in changed {
            match incident.state {
                IncidentState::Open => self.changed(now, &incident.id, "open", "it goes on"),
                IncidentState::Mitigated => {
                    self.changed(now, &incident.id, "mitigated", "handled: every slot serves");
                }
                IncidentState::Resolved => self.resolved(now, &incident),
            }
        }
        self.book.close();
        for id in self.book.unwritten(now.mono) {
            self.changed(now, &id, "impact", COSTS);
        }
    }

    pub(super) fn resolved(&mut self, now: Now, incident: &Incident) {
        if incident.kind == Topic::Hang.as_str() {
            self.futile_hangs = 0;
        }
        if incident.kind == Topic::Leak.as_str() {
            self.holdings.clear();
        }
        let reason = format!("{} is over: {}", incident.kind, incident.summary);
        let (id, figures) = (Some(incident.id.clone()), standing(incident));
        self.record(now, Kind::IncidentResolved, About::Supervisor, id, &reason, figures);
        self.tell_end(now, incident);
    }

    /// Writes down that an incident is not what it was.
    pub(super) fn changed(&mut self, now: Now, id: &IncidentId, cause: &str, reason: &str) {
        let Some(incident) = self.book.get(id) else { return };
        let (some, figures) = (Some(id.clone()), standing(incident));
        self.record(now, Kind::IncidentChanged, About::Matter(cause), some, reason, figures);
    }

    /// What was done does not help: the incident is critical from now on.
    pub(super) fn escalate(&mut self, now: Now, id: &IncidentId, why: &str) {
        if self.book.escalate(now, id) {
            self.changed(now, id, "worse", why);
        }
    }

    /// Time in which a slot had no worker counts in each incident that is not over: whose it was cannot
    /// be told, where there are several. It counts while it lasts, too: an outage may have no end.
    pub(super) fn note_capacity(&mut self, now: Now, whole: bool) {
        let due = whole || self.capacity_deadline().is_some_and(|at| at <= now.mono);
        if let Some(since) = self.below_since.take_if(|_| due) {
            let below_ms = now.mono.since(since).as_millis() as u64;
            self.add_to_all(now, "below_capacity_ms", below_ms);
        }
        if !whole {
            self.below_since.get_or_insert(now.mono);
        }
    }

    /// When time without all workers is to be counted next; it waits for an incident to count in.
    pub(super) fn capacity_deadline(&self) -> Option<Moment> {
        let since = self.below_since.filter(|_| self.book.len() > 0)?;
        Some(since + CAPACITY_PAUSE)
    }

    /// Notes a fact on a topic: opens its incident or joins the open one, which it may make worse. Says
    /// so.
    pub(super) fn see(&mut self, now: Now, topic: Topic, slot: Slot, words: &str) -> IncidentId {
        let worker = self.in_slot(slot).next_back();
        let age = worker.map_or(now.mono.0, |worker| worker.age(now.mono));
        let release = worker.map_or(self.settings.release.clone(), |worker| worker.release.clone());
        let seen = self.book.see(now, topic, slot, age, release.as_deref(), words);
        match seen.turn {
            Turn::Opened => {
                let severity = self.book.get(&seen.id).map(|incident| incident.severity.as_str());
                let figures = figures([("severity", severity.into())]);
                let about = About::Slot(slot, Some(topic.as_str()));
                let id = Some(seen.id.clone());
                self.record(now, Kind::IncidentOpened, about, id, words, figures);
            }
            Turn::Worse(before) => {
                let reason = format!("{before} has become {topic}: {words}");
                self.changed(now, &seen.id, "worse", &reason);
            }
            Turn::Same => {}
        }
        seen.id
    }

    /// Counts an intervention in its incident.
    pub(super) fn count_intervention(
        &mut self,
        now: Now,
        incident: Option<&IncidentId>,
        slot: Slot,
    ) {
        if let Some(id) = incident {
            self.book.intervened(now, id, slot);
        }
    }

    /// Users whom the application turned away while something was wrong. Which of the incidents it was
    /// cannot be told, so it counts in each that is not over.
    pub(super) fn on_connections_dropped(&mut self, now: Now, attempts: u64) {
        self.add_to_all(now, "connections_dropped", attempts);
    }

    /// What something cost the users, in each incident.
    pub(super) fn add_to_all(&mut self, now: Now, key: &str, amount: u64) {
        for id in self.book.ids() {
            self.book.add_impact(now, &id, key, amount);
        }
    }

    pub(super) fn on_store_restored(&mut self, now: Now, counts: [u64; 3], states: Vec<Incident>) {
        let [buffered, lost, gone] = counts;
        let mut reason = format!("the audit log is written again; {lost} events were lost");
        if !states.is_empty() {
            let names: Vec<_> = states.iter().map(|state| state.id.0.as_str()).collect();
            reason += &format!(", some of them of {}, which are written anew", names.join(", "));
        }
        if gone > 0 {
            reason += &format!(", and {gone} from before are gone with the file that held them");
        }
        let figures = figures([
            ("buffered", buffered.into()),
            ("lost", lost.into()),
            ("lost_of_incidents", states.len().into()),
            ("gone", gone.into()),
        ]);
        self.note(now, Kind::StoreRestored, &reason, figures);
        for state in states {
            let reason = "what events said of it that were lost";
            // One that is over is not in the book any more.
            let state = self.book.write(&state.id).unwrap_or(state);
            let (id, about) = (state.id.clone(), About::Matter("restored"));
            let figures = standing(&state);
            let kind = Kind::IncidentChanged;
            self.write_down(now, kind, about, Some(id), reason, figures, Some(state));
        }
    }
}

/// Where an incident stands.
fn standing(incident: &Incident) -> Figures {
    let mut figures = figures([
        ("kind", incident.kind.as_str().into()),
        ("severity", incident.severity.as_str().into()),
        ("state", incident.state.as_str().into()),
        ("interventions", incident.interventions.into()),
    ]);
    figures.extend(incident.impact.clone());
    figures
}
