//! The bodies that receivers of webhooks understand.

use super::letter::{Letter, cut};
use crate::core::{Alert, Format, IncidentState, Occasion, Severity};
use serde_json::{Value, json};

/// Where Alertmanager takes alerts, below the address of its own.
pub(super) const ALERTMANAGER_PATH: &str = "/api/v2/alerts";

/// Alertmanager forgets an alert that is not sent again within minutes, unless it says itself how long
/// it goes on. Longer than any incident should, and an end if stanch is gone for good.
const FIRING_DAYS: i64 = 30;

/// The body in a format; PagerDuty wants its key inside.
pub(super) fn body(letter: &Letter, format: Format, key: Option<&str>) -> String {
    match format {
        Format::Json => letter.json(),
        Format::Slack => slack(letter).to_string(),
        Format::PagerDuty => pagerduty(letter, key.unwrap_or_default()).to_string(),
        Format::Alertmanager => alertmanager(letter).to_string(),
    }
}

/// <https://docs.slack.dev/reference/block-kit/blocks>: a header holds 150 characters, a section 3,000.
fn slack(letter: &Letter) -> Value {
    let Alert { id, incident, .. } = &letter.alert;
    let sign = match (id.what, incident.severity) {
        (Occasion::Resolved, _) => ":white_check_mark:",
        (Occasion::Acknowledged, _) => ":eyes:",
        (_, Severity::Critical) => ":rotating_light:",
        (_, Severity::Minor | Severity::Major) => ":warning:",
    };
    let header = format!("{sign} {}: {} {}", letter.app, incident.kind, id.what);
    let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(&escaped(text), 3000)}});
    json!({
        "text": cut(&escaped(&letter.subject()), 3000),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "emoji": true, "text": cut(&header, 150)}},
            section(&letter.subject()),
            section(&letter.text()),
        ],
    })
}

/// The three characters that Slack's text gives a meaning to.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// <https://developer.pagerduty.com/docs/send-alert-event>: the summary holds 1,024 characters.
fn pagerduty(letter: &Letter, routing_key: &str) -> Value {
    let Alert { id, at, incident, .. } = &letter.alert;
    let action = match id.what {
        Occasion::Resolved => "resolve",
        Occasion::Acknowledged => "acknowledge",
        Occasion::Opened
        | Occasion::Raised
        | Occasion::Repeated
        | Occasion::Escalated
        | Occasion::Renewed => "trigger",
    };
    let severity = match incident.severity {
        Severity::Minor => "warning",
        Severity::Major => "error",
        Severity::Critical => "critical",
    };
    let details: Value = serde_json::from_str(&letter.json()).unwrap_or_default();
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": cut(&letter.incident_key(), 255),
        "client": "stanch",
        "payload": {
            "summary": cut(&letter.subject(), 1024),
            "source": letter.host,
            "severity": severity,
            "timestamp": format!("{at:.3}"),
            "component": letter.app,
            "group": incident.release,
            "class": incident.kind,
            "custom_details": details,
        },
    })
}

/// <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>. Labels are an alert's
/// name: with another severity it is another alert, so the one before is ended. The kind, which changes as a
/// matter gets worse, is none of them.
fn alertmanager(letter: &Letter) -> Value {
    let Alert { id, at, before, incident, forecast, why, .. } = &letter.alert;
    let over = incident.state == IncidentState::Resolved;
    let end = if over {
        incident.resolved_at.unwrap_or(*at)
    } else {
        at.checked_add(jiff::SignedDuration::from_hours(FIRING_DAYS * 24)).unwrap_or(*at)
    };
    let alert = |severity: Severity, end: jiff::Timestamp| {
        json!({
            "labels": {
                "alertname": "stanch",
                "app": letter.app,
                "instance": letter.host,
                "incident": incident.id,
                "severity": severity,
                "to": id.to,
            },
            "annotations": {
                "kind": incident.kind,
                "summary": letter.subject(),
                "description": letter.text(),
                "why": why,
                "forecast": forecast.as_ref().map_or("", |forecast| forecast.reason.as_str()),
                "runbook": letter.runbook.join("\n"),
            },
            "startsAt": format!("{:.3}", incident.opened_at),
            "endsAt": format!("{end:.3}"),
        })
    };
    let milder = before.map(|before| alert(before, *at));
    Value::Array([alert(incident.severity, end)].into_iter().chain(milder).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::letter::tests::letter;

    #[test]
    fn pagerduty_gets_one_alert_an_incident() {
        let body = |what| pagerduty(&letter(what), "KEY");
        let opened = body(Occasion::Opened);
        assert_eq!(opened["routing_key"], "KEY");
        assert_eq!(opened["event_action"], "trigger");
        assert_eq!(opened["payload"]["severity"], "error");
        assert_eq!(opened["payload"]["source"], "web1");
        assert_eq!(opened["payload"]["custom_details"]["incident"]["kind"], "leak");
        assert_eq!(body(Occasion::Resolved)["event_action"], "resolve");
        assert_eq!(body(Occasion::Acknowledged)["event_action"], "acknowledge");
        assert_eq!(body(Occasion::Resolved)["dedup_key"], opened["dedup_key"]);
        assert_eq!(opened["dedup_key"], "web1/shop/20270115T080000Z");
    }

    #[test]
    fn slack_reads_no_markup_in_what_a_worker_said() {
        let mut letter = letter(Occasion::Opened);
        letter.alert.incident.summary = "<!channel> & co ".repeat(400);
        let body = slack(&letter);
        let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt; &amp; co") && !text.contains('<'), "{text}");
        assert_eq!(text.chars().count(), 3000);
        assert!(body["blocks"][2]["text"]["text"].as_str().unwrap().contains("incidents ack"));
    }

    #[test]
    fn alertmanager_is_told_until_when_and_what_is_replaced() {
        let fires = |what| alertmanager(&letter(what));
        let opened = fires(Occasion::Opened);
        assert_eq!(opened[0]["startsAt"], "2027-01-15T08:00:00.000Z");
        assert_eq!(opened[0]["endsAt"], "2027-02-14T08:05:00.000Z");
        assert_eq!(opened.as_array().map(Vec::len), Some(1));

        let mut raised = letter(Occasion::Raised);
        raised.alert.before = Some(Severity::Minor);
        let raised = alertmanager(&raised);
        assert_eq!(raised[0]["labels"]["severity"], "major");
        assert_eq!(raised[1]["labels"]["severity"], "minor");
        assert_eq!(raised[1]["endsAt"], "2027-01-15T08:05:00.000Z");

        let mut over = letter(Occasion::Resolved);
        over.alert.incident.state = IncidentState::Resolved;
        over.alert.incident.resolved_at = Some("2027-01-15T08:04:00Z".parse().unwrap());
        let over = alertmanager(&over);
        assert_eq!(over[0]["endsAt"], "2027-01-15T08:04:00.000Z");
        assert_eq!(over[0]["labels"], opened[0]["labels"]);
    }

    #[test]
    fn the_generic_form_is_the_documented_one() {
        let body = body(&letter(Occasion::Escalated), Format::Json, None);
        assert!(
            body.starts_with(
                r#"{"id":"web1/shop/20270115T080000Z/escalated/major/operations","what":"escalated","why":"not acknowledged within 15m","to":"operations","app":"shop","host":"web1","at":"2027-01-15T08:05:00.000Z","subject":"[major] shop on web1: leak escalated: worker 0 leaks memory","incident":{"id":"20270115T080000Z","kind":"leak","#
            ),
            "{body}"
        );
        assert!(body.contains(r#""forecast":{"slot":0,"limit_at":"2027-01-15T09:00:00.000Z","#));
        assert!(body.ends_with(r#""runbook":["look here"],"head":"abc"}"#), "{body}");
    }
}
