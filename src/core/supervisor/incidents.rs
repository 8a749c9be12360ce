//! Incidents as they come and go: which facts open them, when they are over.

use super::super::incidents::{Sighting, Topic, Turn};
use super::super::worker::{Cause, Due, Worker};
use super::super::{Figures, Incident, IncidentId, IncidentState, Kind, Moment, Now};
use super::{About, Phase, Supervisor, figures};

/// Why an incident is written whose impact grew.
const COSTS: &str = "what it has cost so far";

impl Supervisor {
    pub(super) fn settle_incidents(&mut self, now: Now) {
        // Slots that a stop empties say nothing about what was wrong.
        if matches!(self.phase, Phase::Stopping | Phase::Finished) {
            if let Some(id) = self.end_capacity(now) {
                self.changed(now, &id, "impact", COSTS);
            }
            return;
        }
        let down = self.down();
        self.note_capacity(now, &down);
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
        let to_retry = |incident: &Incident| {
            let waits = |worker: &Worker| {
                incident.slots.contains(&worker.id.slot) && worker.awaits().is_some()
            };
            self.to_retry.as_ref() == Some(&incident.id) && self.workers.values().any(waits)
        };
        let active = |topic, incident: &Incident| {
            let release = incident.release.as_deref();
            match topic {
                Topic::Leak => any(release, &Worker::is_leaking),
                Topic::MemoryLimit => {
                    self.over_total || due(release, &[Cause::SoftLimit, Cause::TotalLimit])
                }
                Topic::Hang => due(release, &[Cause::Hang]),
                Topic::RollFailure => to_retry(incident),
                Topic::Crash | Topic::CrashLoop | Topic::StartFailure => false,
            }
        };
        let changed = book.review(now, &down, active);
        self.book = book;
        for incident in changed {
            match incident.state {
                IncidentState::Open => self.changed(now, &incident.id, "open", "it goes on"),
                IncidentState::Mitigated => {
                    let reason = match incident.slots.iter().any(|slot| down.contains(slot)) {
                        true => "another incident keeps its slots from serving now",
                        false => "handled: it keeps no slot from serving",
                    };
                    self.changed(now, &incident.id, "mitigated", reason);
                }
                IncidentState::Resolved => self.resolved(now, &incident),
            }
        }
        self.book.close();
        self.write_costs(now, now.mono);
    }

    /// Writes down what incidents cost and is not written, if it was to be by then.
    pub(super) fn write_costs(&mut self, now: Now, by: Moment) {
        for id in self.book.unwritten(by) {
            self.changed(now, &id, "impact", COSTS);
        }
    }

    pub(super) fn resolved(&mut self, now: Now, incident: &Incident) {
        if incident.kind == Topic::Hang.as_str() {
            self.futile_hangs = 0;
        }
        if incident.kind == Topic::Leak.as_str() {
            self.holdings.retain(|(release, _), _| *release != incident.release);
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

    /// Notes a fact: opens its incident or joins the open one, which it may make worse. Says so.
    pub(super) fn see(&mut self, now: Now, sighting: &Sighting<'_>) -> IncidentId {
        let Sighting { topic, worker: id, words, .. } = *sighting;
        let worker = self.workers.get(&id);
        let age = worker.map_or(now.mono.0, |worker| worker.age(now.mono));
        let release = worker.map_or(self.settings.release.clone(), |worker| worker.release.clone());
        let gives_way = self.gives_way(release.as_deref());
        let words = &gives_way.map_or(words.to_owned(), |more| format!("{words}; {more}"));
        let seen = self.book.see(now, &Sighting { words, ..*sighting }, age, release.as_deref());
        match seen.turn {
            Turn::Opened => {
                let severity = self.book.get(&seen.id).map(|incident| incident.severity.as_str());
                let figures = figures([("severity", severity.into())]);
                let about = About::Slot(id.slot, Some(topic.as_str()));
                let some = Some(seen.id.clone());
                self.record(now, Kind::IncidentOpened, about, some, words, figures);
            }
            Turn::Worse(before) => {
                let reason = format!("{before} has become {topic}: {words}");
                self.changed(now, &seen.id, "worse", &reason);
            }
            Turn::Same => {}
        }
        seen.id
    }

    pub(super) fn on_store_restored(
        &mut self,
        now: Now,
        counts: [u64; 3],
        mut states: Vec<Incident>,
    ) {
        let [buffered, lost, gone] = counts;
        if gone > 0 {
            // The new file knows of none that was open.
            let known = |one: &&Incident| !states.iter().any(|state| state.id == one.id);
            let open: Vec<Incident> = self.book.incidents().filter(known).cloned().collect();
            states.extend(open);
        }
        let mut reason = format!("the audit log is written again; {lost} events were lost");
        if gone > 0 {
            reason += &format!(", and {gone} from before are gone with the file that held them");
        }
        if !states.is_empty() {
            let names: Vec<_> = states.iter().map(|state| state.id.0.as_str()).collect();
            let names = names.join(", ");
            reason += &format!("; the incidents of which they told are written anew: {names}");
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
