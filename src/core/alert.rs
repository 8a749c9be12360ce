//! Alerts: who is told of an incident, on what occasion, by which way.

use super::incidents::Topic;
use super::record::{milliseconds, words};
use super::{Incident, IncidentId, Severity, Slot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Which incidents somebody is told of, and who.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Incidents at least as bad.
    pub severity: Severity,
    /// Of these kinds; of all when empty.
    pub kinds: Vec<Topic>,
    /// The first is told at once, each next one when the matter escalates; never empty.
    pub to: Vec<Target>,
    /// An incident that nobody has acknowledged goes to the next one after so long.
    pub escalate_after: Duration,
}

impl AlertRule {
    /// Whether it is about such an incident.
    pub fn covers(&self, incident: &Incident) -> bool {
        let kind = |topic: &Topic| topic.as_str() == incident.kind;
        incident.severity >= self.severity && (self.kinds.is_empty() || self.kinds.iter().any(kind))
    }
}

/// Somebody who can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Names it in the audit log; two targets with one name are the same.
    pub name: String,
    /// How it is reached.
    pub way: Way,
    /// One try may take so long.
    pub timeout: Duration,
}

impl Target {
    /// Where its secrets are.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (url, key) = match &self.way {
            Way::Webhook { url: Given::Secret(url), secret, .. } => (Some(url), secret.as_ref()),
            Way::Webhook { secret, .. } => (None, secret.as_ref()),
            Way::Command(_) => (None, None),
        };
        url.into_iter().chain(key)
    }
}

/// How somebody is told. Holds no secret, only where secrets are.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// An HTTP POST.
    Webhook {
        /// To where: an `http` or `https` URL.
        url: Given,
        /// What the receiver understands.
        format: Format,
        /// PagerDuty's routing key; for the others a bearer token.
        secret: Option<Secret>,
    },
    /// A program and its arguments; it gets the alert on standard input.
    Command(Vec<String>),
}

/// A text that may be a secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// It is none.
    Plain(String),
    /// It is one.
    Secret(Secret),
}

/// Where a secret is. It is read when it is needed, so that it can change.
#[derive(Clone, Debug, PartialEq)]
pub enum Secret {
    /// The first line of this file.
    File(PathBuf),
    /// This variable of the supervisor's environment; workers do not inherit it.
    Variable(String),
}

words! {
    /// What a receiver of webhooks understands.
    Format {
        /// stanch's own object.
        Json => "json",
        /// Slack's incoming webhooks, and what is compatible with them.
        Slack => "slack",
        /// PagerDuty's Events API v2.
        PagerDuty => "pagerduty",
        /// Prometheus Alertmanager's API v2.
        Alertmanager => "alertmanager",
    }
}

words! {
    /// Why somebody is told.
    Occasion {
        /// The incident began (or came to be bad enough).
        Opened => "opened",
        /// It is worse than was told before.
        Raised => "raised",
        /// Workers were acted on three times, and it is not over.
        Repeated => "repeated",
        /// Who was told before has not helped.
        Escalated => "escalated",
        /// Somebody looks at it.
        Acknowledged => "acknowledged",
        /// Something new belongs to it, at which nobody looks yet.
        Renewed => "renewed",
        /// It is over.
        Resolved => "resolved",
    }
}

/// Names an alert: no two of one incident have the same name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertId {
    /// What about.
    pub incident: IncidentId,
    /// Why.
    pub what: Occasion,
    /// The incident's severity then.
    pub severity: Severity,
    /// Who is told: [`Target::name`].
    pub to: String,
    /// After how many acknowledgements; each of them, and what is new after it, is told anew. Else 0.
    #[serde(default)]
    pub times: u32,
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.incident, self.what, self.severity, self.to)?;
        // The first one's name is as it was before there were others.
        if self.times > 1 { write!(f, "/{}", self.times) } else { Ok(()) }
    }
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Its name.
    pub id: AlertId,
    /// When it was decided.
    #[serde(serialize_with = "milliseconds")]
    pub at: Timestamp,
    /// Why now, for people.
    pub why: String,
    /// How bad they were told it is, before it was raised.
    pub before: Option<Severity>,
    /// The incident as it was then.
    pub incident: Incident,
    /// What will be, in a leak.
    pub forecast: Option<Forecast>,
    /// Evidence that was captured so far, a line each.
    pub evidence: Vec<String>,
}

/// When the worst worker of a leak reaches its limit, if nothing is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Its slot.
    pub slot: Slot,
    /// When.
    #[serde(serialize_with = "milliseconds")]
    pub limit_at: Timestamp,
    /// What the detector says of it.
    pub reason: String,
}

/// Why somebody was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFailure {
    /// What went wrong; holds no secret.
    pub error: String,
    /// Whether it will not be tried again.
    pub given_up: bool,
}
