//! One try to tell somebody.

use super::command::{self, Surroundings};
use super::format::{self, ALERTMANAGER_PATH};
use super::letter::{Letter, cut};
use super::post::{Answer, Post, post};
use super::secret::{self, SecretError, masked};
use crate::core::words::chain;
use crate::core::{Format, Given, Secret, Target, Way};
use hyper::{StatusCode, Uri};
use std::time::Duration;
use tokio::time::timeout;

/// Why it did not work.
#[derive(Debug)]
pub(super) struct Refusal {
    /// For people; holds no secret.
    pub error: String,
    /// The receiver asks for this pause.
    pub after: Option<Duration>,
    /// It would not work another time either.
    pub final_word: bool,
}

impl Refusal {
    pub fn later(error: impl Into<String>) -> Self {
        Self { error: error.into(), after: None, final_word: false }
    }

    pub fn never(error: impl Into<String>) -> Self {
        Self { error: error.into(), after: None, final_word: true }
    }
}

/// A secret may come, or be mended, while stanch runs.
impl From<SecretError> for Refusal {
    fn from(error: SecretError) -> Self {
        Refusal::later(chain(&error))
    }
}

/// Tells; gives what the receiver said to it.
pub(super) async fn attempt(
    target: &Target,
    letter: &Letter,
    surroundings: &Surroundings,
) -> Result<String, Refusal> {
    match &target.way {
        Way::Webhook { url, format, secret } => {
            let outcome = webhook(letter, url, *format, secret.as_ref());
            timeout(target.timeout, outcome).await.unwrap_or_else(|_| {
                let error = format!("no answer within {} s", target.timeout.as_secs_f64());
                Err(Refusal::later(error))
            })
        }
        Way::Command(argv) => command::run(argv, letter, target.timeout, surroundings).await,
    }
}

async fn webhook(
    letter: &Letter,
    url: &Given,
    format: Format,
    secret: Option<&Secret>,
) -> Result<String, Refusal> {
    let mut secrets = Vec::new();
    let text = match url {
        Given::Plain(text) => text.clone(),
        Given::Secret(place) => {
            let text = secret::read(place)?;
            secrets.push(text.clone());
            text
        }
    };
    let Ok(url) = text.parse::<Uri>() else {
        return Err(Refusal::never("what should be its URL is none"));
    };
    if let (Some(path), false) = (url.path_and_query(), secrets.is_empty()) {
        secrets.push(path.to_string());
        // Servers tend to repeat it without its beginning.
        secrets.extend(path.path().rsplit('/').next().map(str::to_owned));
    }
    let key = secret.map(secret::read).transpose()?;
    secrets.extend(key.clone());
    let body = format::body(letter, format, key.as_deref());
    let mut headers = vec![("idempotency-key", letter.id())];
    if let (Some(token), false) = (&key, format == Format::PagerDuty) {
        headers.push(("authorization", format!("Bearer {token}")));
    }
    let path = match format {
        Format::Alertmanager if url.path() == "/" => Some(ALERTMANAGER_PATH),
        Format::Alertmanager | Format::Json | Format::Slack | Format::PagerDuty => None,
    };
    let request = Post { url, path, headers, body, secret: !secrets.is_empty() };
    match post(request).await {
        Ok(answer) => judge(answer, &secrets),
        Err(error) => {
            let error_text = masked(&chain(&error), &secrets);
            Err(Refusal { error: error_text, after: None, final_word: error.is_final() })
        }
    }
}

/// What an answer means.
fn judge(answer: Answer, secrets: &[String]) -> Result<String, Refusal> {
    let Answer { status, retry_after, location, excerpt } = answer;
    if status.is_success() {
        return Ok(status.to_string());
    }
    if status.is_redirection() {
        let elsewhere = location.map_or("elsewhere".to_owned(), |host| format!("to {host}"));
        let error = format!(
            "it answers {status} and points {elsewhere}; redirects are not followed, name the final \
             address"
        );
        let for_ever =
            matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::PERMANENT_REDIRECT);
        // Else it is a detour of today: a page about maintenance, a login.
        return Err(if for_ever { Refusal::never(error) } else { Refusal::later(error) });
    }
    let excerpt = cut(&masked(&excerpt, secrets), 200);
    let error = match excerpt.is_empty() {
        true => format!("it answers {status}"),
        false => format!("it answers {status}: {excerpt}"),
    };
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    Err(Refusal { error, after: retry_after, final_word: !passing })
}
