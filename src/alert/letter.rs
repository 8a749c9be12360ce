//! What an alert says.

use crate::core::{Alert, Forecast, Incident, Occasion};
use serde::{Deserialize, Serialize};

/// An alert with what people need beside it; this is also what lies in the spool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// What was decided.
    pub alert: Alert,
    /// The application.
    pub app: String,
    /// The host that it runs on.
    pub host: String,
    /// The audit log's head when it was decided, for `stanch incidents verify --head`.
    pub head: String,
    /// What to look at and how to fix it, from the runbook of the incident's kind.
    pub runbook: Vec<String>,
}

/// The generic form of a letter: the body of webhooks in the format `json`, and what commands get on
/// standard input.
#[derive(Serialize)]
struct Message<'a> {
    id: String,
    what: Occasion,
    why: &'a str,
    to: &'a str,
    app: &'a str,
    host: &'a str,
    at: String,
    subject: String,
    incident: &'a Incident,
    forecast: &'a Option<Forecast>,
    evidence: &'a [String],
    runbook: &'a [String],
    head: &'a str,
}

impl Letter {
    /// The same for every copy of this letter, and for no other.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.host, self.app, self.alert.id)
    }

    /// Names the incident among all hosts and applications.
    pub fn incident_key(&self) -> String {
        format!("{}/{}/{}", self.host, self.app, self.alert.incident.id)
    }

    /// The generic form, one JSON object.
    pub fn json(&self) -> String {
        let Letter { alert, app, host, head, runbook } = self;
        let message = Message {
            id: self.id(),
            what: alert.id.what,
            why: &alert.why,
            to: &alert.id.to,
            app,
            host,
            at: format!("{:.3}", alert.at),
            subject: self.subject(),
            incident: &alert.incident,
            forecast: &alert.forecast,
            evidence: &alert.evidence,
            runbook,
            head,
        };
        serde_json::to_string(&message).expect("its keys are strings, its times valid")
    }

    /// One line.
    pub fn subject(&self) -> String {
        let Alert { id, incident, .. } = &self.alert;
        let Incident { kind, severity, summary, .. } = incident;
        format!("[{severity}] {} on {}: {kind} {}: {summary}", self.app, self.host, id.what)
    }

    /// Some lines, below the subject.
    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    fn lines(&self) -> Vec<String> {
        let Alert { id, why, incident, forecast, evidence, .. } = &self.alert;
        let news = match id.what {
            Occasion::Opened | Occasion::Raised | Occasion::Escalated | Occasion::Renewed => true,
            Occasion::Repeated | Occasion::Acknowledged | Occasion::Resolved => false,
        };
        let mut lines = vec![
            format!("{}: {why}", id.what),
            format!(
                "incident {}, {}, opened {:.0}, {} acted on",
                incident.id,
                incident.state,
                incident.opened_at,
                workers(incident.interventions)
            ),
        ];
        if let Some(by) = &incident.acknowledged {
            lines.push(match incident.news().as_slice() {
                [] => format!("{} looks at it since {:.0}", by.by, by.at),
                news => {
                    let news = news.join(", ");
                    format!("{} acknowledged it at {:.0}; new since: {news}", by.by, by.at)
                }
            });
        }
        if let Some(Forecast { slot, limit_at, reason }) = forecast {
            lines.push(format!("worker {slot} reaches its limit at {limit_at:.0}: {reason}"));
        }
        lines.extend(incident.impact.iter().map(|(key, value)| format!("{key}: {value}")));
        lines.extend(evidence.iter().map(|line| format!("evidence: {line}")));
        if news {
            lines.extend(self.runbook.iter().map(|line| format!("- {line}")));
            lines.push(format!("stanch incidents ack {}", incident.id));
        }
        lines.push(format!("stanch incidents show {}", incident.id));
        if !self.head.is_empty() {
            lines.push(format!("head of the audit log: {}", self.head));
        }
        lines
    }
}

fn workers(count: u64) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}

/// A text cut after so many characters, with a sign where it was.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::{AlertId, Figures, IncidentId, IncidentState, Severity, Slot};

    pub fn letter(what: Occasion) -> Letter {
        let id = IncidentId("20270115T080000Z".to_owned());
        let incident = Incident {
            id: id.clone(),
            kind: "leak".to_owned(),
            severity: Severity::Major,
            state: IncidentState::Open,
            opened_at: "2027-01-15T08:00:00Z".parse().unwrap(),
            resolved_at: None,
            release: Some("7".to_owned()),
            slots: vec![Slot(0)],
            interventions: 1,
            impact: Figures::new(),
            summary: "worker 0 leaks memory".to_owned(),
            acknowledged: None,
            seen: String::new(),
            last_intervention: None,
            handled_at: None,
            causes: Vec::new(),
            period_s: None,
        };
        let forecast = Forecast {
            slot: Slot(0),
            limit_at: "2027-01-15T09:00:00Z".parse().unwrap(),
            reason: "grows 1 MiB/min".to_owned(),
        };
        let to = "operations".to_owned();
        let alert = Alert {
            id: AlertId { incident: id, what, severity: Severity::Major, to, times: 0 },
            at: "2027-01-15T08:05:00Z".parse().unwrap(),
            why: "not acknowledged within 15m".to_owned(),
            before: None,
            incident,
            forecast: Some(forecast),
            evidence: vec!["heap snapshot of 12 MiB".to_owned()],
        };
        let [app, host, head] = ["shop", "web1", "abc"].map(str::to_owned);
        Letter { alert, app, host, head, runbook: vec!["look here".to_owned()] }
    }

    #[test]
    fn a_letter_tells_what_to_do() {
        let text = letter(Occasion::Escalated).text();
        for part in [
            "not acknowledged within 15m",
            "limit at 2027-01-15T09:00:00Z: grows",
            "evidence: heap snapshot",
            "- look here",
            "stanch incidents ack 20270115T080000Z",
            "audit log: abc",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!letter(Occasion::Resolved).text().contains("incidents ack"));
    }

    #[test]
    fn a_cut_text_has_its_length() {
        assert_eq!(cut("grün", 4), "grün");
        assert_eq!(cut("grüne", 4), "grü…");
    }
}
