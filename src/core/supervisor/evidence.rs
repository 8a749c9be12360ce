//! Evidence: when a worker is looked at, and how long that may keep it from going. See
//! [`core::evidence`](super::super::evidence).

use super::super::evidence::{Captured, Grown, Growth, Inquiry, Part, Scene};
use super::super::worker::{State, Worker};
use super::super::{Action, Figures, IncidentId, Kind, Moment, Now, WorkerId};
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// What a look, and what is left of a worker, may take.
const LOOK: Duration = Duration::from_secs(2);

/// An answer that comes so much later than it should is not waited for. Who looks keeps to the time that
/// it was given; this is for one that cannot.
const SLACK: Duration = Duration::from_secs(1);

impl Supervisor {
    /// A worker that is to be replaced in an incident is looked at.
    pub(super) fn look_at(&mut self, now: Now, id: WorkerId, incident: Option<&IncidentId>) {
        self.inquire(now, id, incident, Part::Look, LOOK);
    }

    /// What is left of a worker that ran, and was not looked at before.
    pub(super) fn look_at_remains(&mut self, now: Now, id: WorkerId, incident: &IncidentId) {
        let ran = self.workers.get(&id).is_some_and(|worker| {
            worker.pid.is_some() && !worker.evidence.was_asked(Part::Look, incident)
        });
        if ran {
            self.inquire(now, id, Some(incident), Part::Remains, LOOK);
        }
    }

    /// Whether a worker that could be told to stop is still looked at. First what the command finds out is
    /// asked for; what does not come in time is not waited for.
    pub(super) fn awaits_evidence(&mut self, now: Now, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let incident = worker.evidence.incident().cloned();
        let within = self.settings.evidence.command_timeout;
        for (part, incident) in worker.evidence.take_overdue(now.mono) {
            let what = match part {
                Part::Look | Part::Remains => "of the look at it",
                Part::Command => "of evidence.command",
            };
            let reason =
                format!("no word {what} in its time and 1 s more: the worker waits no longer");
            self.record_evidence(now, id, part, incident, &reason, nothing());
        }
        if let Some(within) = within {
            self.inquire(now, id, incident.as_ref(), Part::Command, within);
        }
        self.workers.get(&id).is_some_and(|worker| worker.evidence.awaited_until().is_some())
    }

    fn inquire(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: Option<&IncidentId>,
        part: Part,
        within: Duration,
    ) {
        let Some(incident) = incident.filter(|_| self.phase != Phase::Stopping) else { return };
        let scene = self.scene(now, id);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.evidence.was_asked(part, incident) {
            return;
        }
        let until = (part != Part::Remains).then_some(now.mono + within + SLACK);
        worker.evidence.ask(part, incident.clone(), until);
        let incident = incident.clone();
        let inquiry = Inquiry { worker: id, incident, part, within, scene };
        self.actions.push(Action::CaptureEvidence(Box::new(inquiry)));
    }

    fn scene(&self, now: Now, id: WorkerId) -> Scene {
        let Some(worker) = self.workers.get(&id) else { return Scene::default() };
        let samples = self.workers.values().filter_map(|worker| worker.sample);
        let connections = samples.filter_map(|(_, sample)| sample.connections);
        Scene {
            age_s: now.mono.since(worker.started).as_secs_f64(),
            release: worker.release.clone(),
            sample: worker.sample.map(|(_, sample)| sample).unwrap_or_default(),
            samples: worker.last_samples(),
            cpu_percent: worker.cpu_percent,
            peak_kib: worker.peak_kib,
            connections_total: connections.reduce(|a, b| a + b),
            serving: self.workers.values().filter(|worker| worker.is_serving()).count() as u64,
        }
    }

    /// Evidence was saved, or could not be.
    pub(super) fn on_evidence_captured(
        &mut self,
        now: Now,
        id: WorkerId,
        incident: IncidentId,
        part: Part,
        outcome: Result<Captured, String>,
    ) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.evidence.came(part, &incident);
        }
        let (reason, figures) = match outcome {
            Ok(captured) => (sentence(part, &captured), told(&captured)),
            Err(error) => (format!("could not be saved: {error}"), nothing()),
        };
        self.record_evidence(now, id, part, incident, &reason, figures);
    }

    fn record_evidence(
        &mut self,
        now: Now,
        id: WorkerId,
        part: Part,
        incident: IncidentId,
        reason: &str,
        figures: Figures,
    ) {
        let about = About::Worker(id, Some(part.as_str()));
        self.record(now, Kind::EvidenceCaptured, about, Some(incident), reason, figures);
    }

    /// What later looks are compared with: taken when the worker has become ready, and again when it is
    /// warm.
    pub(super) fn settle_baselines(&mut self, now: Now) {
        let warm_up = self.settings.leak.warm_up;
        for worker in self.workers.values_mut() {
            let State::Ready { since } = worker.state else { continue };
            if worker.evidence.baseline_at.is_some_and(|at| at <= now.mono) {
                let warm = since + warm_up;
                worker.evidence.baseline_at = (warm > now.mono).then_some(warm);
                self.actions.push(Action::TakeBaseline { worker: worker.id });
            }
        }
    }

    /// When the next baseline is due.
    pub(super) fn baseline_deadline(&self, worker: &Worker) -> Option<Moment> {
        worker.ready_since().and(worker.evidence.baseline_at)
    }
}

/// What was found, in words.
fn sentence(part: Part, captured: &Captured) -> String {
    let mut said = Vec::new();
    let since = captured.baseline_age.map(|age| format!("in the last {} s", age.as_secs()));
    if captured.too_late {
        said.push("it had ended before it could be looked at".to_owned());
    }
    let part = if captured.too_late { Part::Remains } else { part };
    match (part, since) {
        (Part::Look, Some(since)) if captured.grew.is_empty() => {
            said.push(format!("nothing grew {since}"));
        }
        (Part::Look, Some(since)) => {
            let grew: Vec<String> = captured.grew.iter().take(4).map(Growth::words).collect();
            said.push(format!("grew {since}: {}", grew.join(", ")));
        }
        (Part::Look, None) => {
            said.push("what grew is not known: it was never seen in good order".to_owned());
        }
        (Part::Command, _) => said.push("what evidence.command found is saved".to_owned()),
        (Part::Remains, _) => {
            said.push("its last output, readings and counters are saved".to_owned());
            if let Some(age) = captured.look_age.filter(|_| !captured.grew.is_empty()) {
                let grew: Vec<String> = captured.grew.iter().take(4).map(Growth::words).collect();
                said.push(format!("grew until {} s before: {}", age.as_secs(), grew.join(", ")));
            }
        }
    }
    said.extend(captured.problem.clone());
    if captured.removed.0 > 0 {
        said.push(format!("{} older part(s) of evidence made room for it", captured.removed.0));
    }
    said.join("; ")
}

fn told(captured: &Captured) -> Figures {
    let mut told = figures([
        ("files", captured.files.into()),
        ("bytes", captured.bytes.into()),
        ("took_ms", (captured.took.as_millis() as u64).into()),
    ]);
    let mut note = |key: &str, value: serde_json::Value| drop(told.insert(key.to_owned(), value));
    if let Some(age) = captured.baseline_age {
        note("baseline_age_s", age.as_secs().into());
    }
    let most = |grown| captured.grew.iter().find(move |growth| growth.grown == grown);
    if let Some(growth) = most(Grown::Memory) {
        note("grew_most", growth.what.clone().into());
        note("grew_most_kib", growth.by.into());
    }
    if let Some(growth) = most(Grown::Descriptors) {
        note("descriptors_grew_most", growth.what.clone().into());
        note("descriptors_grew_most_by", growth.by.into());
    }
    if captured.problem.is_some() || captured.too_late {
        note("complete", false.into());
    }
    let (parts, bytes) = captured.removed;
    if parts > 0 {
        note("removed_parts", parts.into());
        note("removed_bytes", bytes.into());
    }
    told
}

fn nothing() -> Figures {
    figures([("complete", false.into())])
}
