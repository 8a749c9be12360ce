//! Alerts: what goes into one, and what came of it.

use super::super::alert::Forecast;
use super::super::alerting::Decision;
use super::super::incidents::Topic;
use super::super::trend::Trend;
use super::super::{
    Action, Alert, AlertFailure, AlertId, Incident, Kind, Moment, Now, Refusal, Reply,
};
use super::leaks::reason;
use super::{About, Phase, Supervisor, figures};

impl Supervisor {
    /// Tells whoever is to be told by now.
    pub(super) fn settle_alerts(&mut self, now: Now) {
        let stopping = matches!(self.phase, Phase::Stopping | Phase::Finished);
        if self.settings.alerts.is_empty() || stopping {
            return;
        }
        let mut told = Vec::new();
        for incident in self.book.incidents() {
            let decisions = self.alerting.review(now.mono, &self.settings.alerts, incident);
            told.extend(decisions.into_iter().map(|decision| (incident.clone(), decision)));
        }
        told.into_iter().for_each(|(incident, decision)| self.tell(now, incident, decision));
    }

    /// Tells those who were told of an incident that it is over.
    pub(super) fn tell_end(&mut self, now: Now, incident: &Incident) {
        let decisions = self.alerting.review(now.mono, &self.settings.alerts, incident);
        decisions.into_iter().for_each(|decision| self.tell(now, incident.clone(), decision));
    }

    fn tell(&mut self, now: Now, incident: Incident, decision: Decision) {
        let Decision { to, what, why, before, times } = decision;
        let (of, severity) = (incident.id.clone(), incident.severity);
        let id = AlertId { incident: of, what, severity, to, times };
        let forecast = self.forecast(now, &incident);
        let evidence = self.alerting.evidence_of(&incident.id);
        let alert = Alert { id, at: now.wall, why, before, incident, forecast, evidence };
        self.actions.push(Action::Alert(Box::new(alert)));
    }

    /// When the first of the leaking workers reaches its limit; those that are being replaced count where
    /// no other leaks yet.
    fn forecast(&self, now: Now, incident: &Incident) -> Option<Forecast> {
        if incident.kind != Topic::Leak.as_str() {
            return None;
        }
        let ends = self.workers.values().flat_map(|worker| {
            let leaking = worker.trends.iter().filter(|trend| trend.is_leaking());
            let goes = !worker.is_current();
            leaking.filter_map(move |trend| Some(((goes, trend.end()?), worker.id.slot, trend)))
        });
        let ((_, end), slot, trend): ((bool, Moment), _, &Trend) =
            ends.min_by_key(|(end, ..)| *end)?;
        let limit_at = now.wall.checked_add(end - now.mono).ok()?;
        Some(Forecast { slot, limit_at, reason: reason(trend, now) })
    }

    pub(super) fn on_alerted(
        &mut self,
        now: Now,
        alert: AlertId,
        attempts: u32,
        outcome: Result<String, AlertFailure>,
    ) {
        let AlertId { incident, what, to, .. } = alert;
        let mut figures = figures([
            ("to", to.as_str().into()),
            ("what", what.as_str().into()),
            ("attempts", attempts.into()),
        ]);
        let (kind, reason) = match outcome {
            Ok(said) if said.is_empty() => (Kind::AlertSent, format!("{to} was told ({what})")),
            Ok(said) => (Kind::AlertSent, format!("{to} was told ({what}): {said}")),
            Err(AlertFailure { error, given_up }) => {
                figures.insert("given_up".to_owned(), given_up.into());
                let later = if given_up { "is not told" } else { "is not told yet" };
                (Kind::AlertFailed, format!("{to} {later} ({what}): {error}"))
            }
        };
        if figures.get("given_up") == Some(&true.into()) {
            self.alerting.failed(&self.settings.alerts, &incident, &to);
        }
        self.record(now, kind, About::Supervisor, Some(incident), &reason, figures);
    }

    /// Somebody looks at an incident.
    pub(super) fn acknowledge(
        &mut self,
        now: Now,
        incident: &str,
        name: Option<&str>,
        from: &str,
    ) -> Reply {
        let found = self.book.named(incident).map_err(Refusal::No)?;
        let id = found.id.clone();
        if let Some(earlier) = found.acknowledged.as_ref().filter(|_| found.is_looked_at()) {
            return Ok(format!(
                "incident {id} was acknowledged by {} at {:.0}",
                earlier.by, earlier.at
            ));
        }
        let by = name.unwrap_or(from);
        self.book.acknowledge(now, &id, by);
        let figures = figures([("by", by.into()), ("from", from.into())]);
        let reason = format!("{by} looks at it");
        let some = Some(id.clone());
        self.record(now, Kind::IncidentAcknowledged, About::Supervisor, some, &reason, figures);
        Ok(format!("incident {id} is acknowledged"))
    }
}
