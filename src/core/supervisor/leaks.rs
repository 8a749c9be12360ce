//! Leaks: what a change of the detector's mind leads to. Suspected: it is told. Confirmed: an incident,
//! and a replacement before the forecast reaches the limit.

use super::super::incidents::Topic;
use super::super::leak::{Detector, Dial, Verdict};
use super::super::worker::{Cause, Due};
use super::super::{Kind, LeakAction, Now, Sample, WorkerId};
use super::{About, Supervisor, figures};

impl Supervisor {
    /// Shows the detector a sample, from the first one on: what a worker gained until it was ready is
    /// part of its curve.
    pub(super) fn observe_trend(&mut self, now: Now, id: WorkerId, sample: &Sample) {
        if self.settings.leak.action == LeakAction::Off {
            return;
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.detector.observe(now.mono, sample);
        }
    }

    /// Follows the detector's mind, once the worker serves.
    pub(super) fn judge_trend(&mut self, now: Now, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let after = worker.detector.judgement().verdict;
        let before = std::mem::replace(&mut worker.verdict, after);
        if after != before {
            self.verdict_changed(now, id, before, after);
        }
        self.judge_forecast(now, id);
    }

    fn verdict_changed(&mut self, now: Now, id: WorkerId, before: Verdict, after: Verdict) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let told = worker.suspicion_told;
        worker.suspicion_told |= after == Verdict::Suspect;
        let judgement = worker.detector.judgement();
        let reason = worker.detector.judgement().reason(Dial::Utc(now));
        let figures = figures([
            ("slope_kib_s", judgement.slope_per_s.into()),
            ("eta_s", judgement.eta.map(|eta| eta.as_secs_f64()).into()),
            ("confidence", judgement.confidence.into()),
            ("age_s", now.mono.since(worker.started).as_secs_f64().into()),
            ("growth_kib", worker.growth_kib().into()),
            ("limit_kib", self.settings.forecast_limit_kib().into()),
        ]);
        let open = self.book.on(Topic::Leak).map(|incident| incident.id.clone());
        let about = About::Worker(id, None);
        match (before, after) {
            (_, Verdict::Leak) => {
                let summary = format!("worker {} leaks memory: {reason}", id.slot);
                let said = &summary;
                let incident = self.see(now, Topic::Leak, id.slot, said);
                self.record(now, Kind::LeakConfirmed, about, Some(incident), &reason, figures);
            }
            (_, Verdict::Suspect) if told => {}
            (_, Verdict::Suspect) => {
                self.record(now, Kind::LeakSuspected, about, open, &reason, figures);
            }
            (Verdict::Leak, Verdict::Healthy | Verdict::Unjudged) => {
                self.record(now, Kind::LeakCleared, about, open, &reason, figures);
            }
            (Verdict::Suspect, Verdict::Healthy | Verdict::Unjudged) => {}
            (Verdict::Healthy | Verdict::Unjudged, Verdict::Healthy | Verdict::Unjudged) => {}
        }
    }

    /// A confirmed leak is replaced when the forecast leaves no more than the lead time.
    fn judge_forecast(&mut self, now: Now, id: WorkerId) {
        let lead_time = self.settings.leak.lead_time;
        let Some(worker) = self.workers.get(&id) else { return };
        let eta = worker.detector.judgement().eta;
        let restart = self.settings.leak.action == LeakAction::Restart;
        if !restart || worker.due.is_some() || !worker.detector.is_leaking() {
            return;
        }
        if eta.is_none_or(|eta| eta > lead_time) {
            return;
        }
        let reason = worker.detector.judgement().reason(Dial::Utc(now));
        let incident = self.book.on(Topic::Leak).map(|incident| incident.id.clone());
        self.make_due(id, Due { cause: Cause::Leak, incident, reason });
    }
}

impl Detector {
    /// Whether a leak is confirmed at present.
    pub fn is_leaking(&self) -> bool {
        self.judgement().verdict == Verdict::Leak
    }
}
