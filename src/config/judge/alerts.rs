//! `[[alert]]`: who is told, by which way, and that no secret stands in the file.

use super::super::error::{ConfigError, Place};
use super::super::raw;
use super::super::reader::{At, Typed};
use super::super::secrets::{holds_secret, in_command};
use super::{Judge, given};
use crate::core::words::is_own_host;
use crate::core::{AlertRule, Format, Given, Secret, Severity, Target, Way};
use hyper::Uri;
use std::path::Path;
use std::time::Duration;

const ESCALATE_AFTER: Duration = Duration::from_secs(15 * 60);
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// A lane tells one alert after the other.
const TIMEOUT_MOST: Duration = Duration::from_secs(600);
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

const SECRET_HOW: &str = "write { file = \"PATH\" }, its first line, or { env = \"NAME\" }, a variable of \
                          stanch itself";

impl Judge<'_> {
    pub(super) fn alerts(&mut self, raw: Vec<raw::Alert>) -> Vec<AlertRule> {
        let mut named: Vec<Target> = Vec::new();
        raw.into_iter().map(|alert| self.alert(alert, &mut named)).collect()
    }

    fn alert(&mut self, raw: raw::Alert, named: &mut Vec<Target>) -> AlertRule {
        let at = At { key: "alert.to", place: raw.place };
        let none = raw.to.is_none() || raw.to.as_ref().is_some_and(Vec::is_empty);
        if none {
            let message = "names nobody to tell; write to = { webhook = \"https://…\" } or to = { \
                           command = [\"./tell\"] }";
            self.conclude(at, &[], message.to_owned());
        }
        let mut to: Vec<Target> = Vec::new();
        for target in raw.to.unwrap_or_default() {
            let place = target.place;
            let Some(target) = self.target(target) else { continue };
            let name = &target.name;
            if to.iter().any(|other| other.name == *name) {
                let message = format!("{name:?} is told already; give each a name of its own");
                self.problems.refuse(place, "alert.to", message);
            } else if named.iter().any(|other| other.name == *name && *other != target) {
                let message = format!(
                    "{name:?} is somebody else in another alert; give each a name of its own"
                );
                self.problems.refuse(place, "alert.to", message);
            }
            named.push(target.clone());
            to.push(target);
        }
        if let Some(typed) = &raw.escalate_after
            && to.len() == 1
        {
            let message = "there is nobody to escalate to; name several, to = [{ … }, { … }], in the \
                           order in which they are told";
            self.refuse(typed, message.to_owned());
        }
        AlertRule {
            severity: given(&raw.severity).unwrap_or(Severity::Minor),
            kinds: raw.kinds.into_iter().flat_map(|typed| typed.value).map(|k| k.value).collect(),
            to,
            escalate_after: self.positive(&raw.escalate_after, ESCALATE_AFTER),
        }
    }

    fn target(&mut self, raw: raw::AlertTarget) -> Option<Target> {
        let at = At { key: "alert.to", place: raw.place };
        let format = given(&raw.format);
        let hosted = format == Some(Format::PagerDuty);
        let (way, usual, default) = match (raw.webhook, raw.command) {
            (Some(_), Some(command)) => {
                let message = "is told by a webhook or by a command, not by both; name two targets";
                self.refuse(&command, message.to_owned());
                return None;
            }
            (None, None) if !hosted => {
                let message = "needs webhook = \"https://…\" or command = [\"./tell\"]";
                let keys = ["alert.to.webhook", "alert.to.command"];
                self.conclude(at, &keys, message.to_owned());
                return None;
            }
            (None, Some(command)) => {
                for typed in [&raw.token, &raw.routing_key].into_iter().flatten() {
                    let message = "is for webhooks; a command knows its own secrets";
                    self.refuse(typed, message.to_owned());
                }
                if let Some(typed) = &raw.format {
                    let message = "is for webhooks; a command gets JSON on standard input";
                    self.refuse(typed, message.to_owned());
                }
                let program = command.value.first().cloned().unwrap_or_default();
                if program.is_empty() {
                    self.refuse(&command, "names no program".to_owned());
                }
                if in_command(&command.value) {
                    // Every user of the host can read command lines. The message does not repeat it.
                    let message = "holds what looks like a secret, and that does not belong into this file \
                                   or a command line; have the command read it from a file";
                    self.refuse(&command, message.to_owned());
                }
                let name = Path::new(&program).file_name().unwrap_or_default();
                let name = name.to_string_lossy().into_owned();
                let argv = self.program_of(command.value);
                (Way::Command(argv), COMMAND_TIMEOUT, name)
            }
            (webhook, None) => {
                let format = format.unwrap_or(Format::Json);
                let secret = self.key(format, at, raw.token, raw.routing_key);
                let url = match webhook {
                    Some(typed) => self.url(typed, secret.is_some()),
                    None => Given::Plain(PAGERDUTY.to_owned()),
                };
                let way = Way::Webhook { url, format, secret };
                (way, WEBHOOK_TIMEOUT, format.as_str().to_owned())
            }
        };
        let timeout = self.positive(&raw.timeout, usual);
        if let Some(typed) = &raw.timeout
            && timeout > TIMEOUT_MOST
        {
            self.refuse(typed, "must be at most 10m".to_owned());
        }
        let name = self.label(&raw.name).unwrap_or(default);
        Some(Target { name, way, timeout })
    }

    /// A program that is named with a folder starts at the file's, like other paths; others are looked
    /// for in `PATH`.
    fn program_of(&mut self, mut command: Vec<String>) -> Vec<String> {
        if let Some(program) = command.first_mut()
            && program.contains('/')
        {
            let path = self.folder.join(&*program);
            // A path begins at the current directory only with a folder in front.
            let path = if path.is_relative() { Path::new(".").join(path) } else { path };
            *program = path.to_string_lossy().into_owned();
        }
        command
    }

    /// PagerDuty's key, or the bearer token of the others.
    fn key(
        &mut self,
        format: Format,
        at: At<'_>,
        token: Option<Typed<Given>>,
        routing_key: Option<Typed<Given>>,
    ) -> Option<Secret> {
        match (format, token, routing_key) {
            (Format::PagerDuty, token, key) => {
                if let Some(token) = token {
                    let message = "PagerDuty knows its users by routing_key";
                    self.refuse(&token, message.to_owned());
                }
                if key.is_none() {
                    let message = format!("PagerDuty needs a routing_key: {SECRET_HOW}");
                    self.conclude(at, &["alert.to.routing_key"], message);
                }
                key.and_then(|key| self.secret(key))
            }
            (Format::Slack, Some(token), _) => {
                let message = "Slack's webhooks need none: their URL is the secret";
                self.refuse(&token, message.to_owned());
                None
            }
            (_, _, Some(key)) => {
                self.refuse(&key, "is for format = \"pagerduty\"".to_owned());
                None
            }
            (_, token, None) => token.and_then(|token| self.secret(token)),
        }
    }

    fn secret(&mut self, typed: Typed<Given>) -> Option<Secret> {
        match typed.value {
            Given::Secret(secret) => Some(self.placed(secret)),
            Given::Plain(_) => {
                let message = format!("a secret does not belong into this file: {SECRET_HOW}");
                self.problems.refuse(typed.place, &typed.key, message);
                None
            }
        }
    }

    fn placed(&self, secret: Secret) -> Secret {
        match secret {
            Secret::File(path) => Secret::File(self.folder.join(path)),
            Secret::Variable(name) => Secret::Variable(name),
        }
    }

    /// Where a webhook is. No message repeats what was typed: it may be a secret.
    fn url(&mut self, typed: Typed<Given>, secret: bool) -> Given {
        let (place, key) = (typed.place, typed.key.as_str());
        match typed.value {
            Given::Secret(secret) => Given::Secret(self.placed(secret)),
            Given::Plain(text) => {
                let uri = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some());
                let scheme = uri.as_ref().and_then(Uri::scheme_str);
                match uri.as_ref().filter(|_| matches!(scheme, Some("http" | "https"))) {
                    None => {
                        let message = "must be a URL that begins with https:// (or http://)";
                        self.problem(place, key, message.to_owned());
                    }
                    Some(uri) if holds_secret(uri) => {
                        let message = format!(
                            "the URL holds a secret, and that does not belong into this file: \
                             {SECRET_HOW}"
                        );
                        self.problem(place, key, message);
                    }
                    Some(uri) if secret && scheme == Some("http") && !is_own(uri) => {
                        let message =
                            "would send a secret in clear text to another host; use https://";
                        self.conclude(At { key, place }, &["alert.to.token"], message.to_owned());
                    }
                    Some(_) => {}
                }
                Given::Plain(text)
            }
        }
    }

    fn problem(&mut self, place: Place, key: &str, message: String) {
        self.problems.add(ConfigError { place, key: key.to_owned(), message, suggestion: None });
    }
}

/// Whether nothing leaves this host.
fn is_own(uri: &Uri) -> bool {
    uri.host().is_some_and(is_own_host)
}
