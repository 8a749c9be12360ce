//! How the text of each kind of value is read, one value at a time.

use super::checked::{ListenMode, LogFormat, ReadyWhen, Rlimit, WorkerOutput};
use super::reader::{FromText, Wrong};
use super::suggest::nearest;
use crate::core::units::{Bytes, Period, UnitError};
use crate::core::{Format, LeakAction, LeakingRelease, QuietWindow, Severity, Topic};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use std::fmt;
use std::path::PathBuf;

impl FromText for String {
    const WHAT: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        Ok(text.to_owned())
    }
}

impl FromText for PathBuf {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err("is empty; name a path, or leave the key out".to_owned().into());
        }
        Ok(PathBuf::from(text))
    }
}

impl From<UnitError> for Wrong {
    fn from(error: UnitError) -> Self {
        Wrong { message: error.problem.to_string(), suggestion: error.suggestion }
    }
}

impl FromText for Bytes {
    const WHAT: &'static str = "a size like \"512MiB\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        Ok(text.parse()?)
    }
}

impl FromText for Period {
    const WHAT: &'static str = "a duration like \"30s\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        Ok(text.parse()?)
    }
}

/// One of a few words.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let list: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let list = match list.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => list.concat(),
    };
    let shown: String = text.chars().take(40).collect();
    Err(Wrong {
        message: format!("{shown:?} is none of {list}"),
        suggestion: nearest(text, words.iter().map(|(word, _)| *word)).map(|w| format!("{w:?}")),
    })
}

impl FromText for ListenMode {
    const WHAT: &'static str = "a word like \"takeover\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(text, &ListenMode::ALL.map(|mode| (mode.as_str(), mode)))
    }
}

impl FromText for ReadyWhen {
    const WHAT: &'static str = "a word like \"listen\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(text, &pairs(&ReadyWhen::ALL, ReadyWhen::as_str))
    }
}

impl FromText for LeakAction {
    const WHAT: &'static str = "a word like \"restart\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let words = [
            ("restart", LeakAction::Restart),
            ("alert", LeakAction::Alert),
            ("off", LeakAction::Off),
        ];
        word(text, &words)
    }
}

impl FromText for LeakingRelease {
    const WHAT: &'static str = "a word like \"alert\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let all = [LeakingRelease::Alert, LeakingRelease::RollBack];
        word(text, &all.map(|one| (one.as_str(), one)))
    }
}

impl FromText for Severity {
    const WHAT: &'static str = "a word like \"major\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(text, &pairs(Severity::ALL, Severity::as_str))
    }
}

impl FromText for Topic {
    const WHAT: &'static str = "a word like \"leak\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(text, &pairs(Topic::ALL, Topic::as_str))
    }
}

impl FromText for Format {
    const WHAT: &'static str = "a word like \"slack\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(text, &pairs(Format::ALL, Format::as_str))
    }
}

fn pairs<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|value| (name(*value), *value)).collect()
}

impl FromText for QuietWindow {
    const WHAT: &'static str = "times of day like \"02:00-05:00\", in UTC";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|error| format!("{text:?} {error}").into())
    }
}

impl FromText for LogFormat {
    const WHAT: &'static str = "\"human\" or \"json\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(text, &[("human", LogFormat::Human), ("json", LogFormat::Json)])
    }
}

impl FromText for WorkerOutput {
    const WHAT: &'static str = "\"pass\", \"files\" or \"journal\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        word(
            text,
            &[
                ("pass", WorkerOutput::Pass),
                ("files", WorkerOutput::Files),
                ("journal", WorkerOutput::Journal),
            ],
        )
    }
}

/// The path of an HTTP request, with its query.
#[derive(Clone, Debug)]
pub(super) struct HttpPath(pub String);

impl FromText for HttpPath {
    const WHAT: &'static str = "a path like \"/healthz\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let sendable = text.chars().all(|c| c.is_ascii_graphic() && c != '#');
        if text.starts_with('/') && sendable {
            return Ok(HttpPath(text.to_owned()));
        }
        let path = match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => text,
        };
        Err(Wrong {
            message: "must be the path of a URL: a / first, no spaces, no fragment, other \
                      characters percent-encoded"
                .to_owned(),
            suggestion: sendable.then(|| format!("\"/{path}\"")),
        })
    }
}

/// Bits that workers' new files do not get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Umask(pub u32);

impl FromText for Umask {
    const WHAT: &'static str = "octal digits like \"027\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        match u32::from_str_radix(text, 8) {
            Ok(mask) if mask <= 0o777 && text.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Umask(mask))
            }
            _ => Err(format!("must be octal, from \"000\" to \"777\", not {text:?}").into()),
        }
    }
}

/// A signal that asks a server to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopSignal(pub Signal);

impl FromText for StopSignal {
    const WHAT: &'static str = "a signal like \"SIGTERM\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let words = [
            ("SIGTERM", Signal::SIGTERM),
            ("SIGINT", Signal::SIGINT),
            ("SIGQUIT", Signal::SIGQUIT),
            ("SIGHUP", Signal::SIGHUP),
            ("SIGUSR1", Signal::SIGUSR1),
            ("SIGUSR2", Signal::SIGUSR2),
            ("SIGWINCH", Signal::SIGWINCH),
        ];
        if matches!(text, "SIGKILL" | "KILL" | "SIGSTOP" | "STOP") {
            let message = format!(
                "no server can finish its requests on {text}; after rolling.drain_timeout what is \
                 left is killed anyway"
            );
            return Err(Wrong { message, suggestion: Some("\"SIGTERM\"".to_owned()) });
        }
        // `TERM` is as common as `SIGTERM`.
        let long = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
        word(&long, &words).map(StopSignal)
    }
}

/// Soft and hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LimitPair {
    soft: Option<u64>,
    hard: Option<u64>,
}

impl LimitPair {
    /// `X` for both, or `SOFT:HARD`; each may be `unlimited`.
    fn parse(text: &str, one: impl Fn(&str) -> Result<u64, Wrong>) -> Result<Self, Wrong> {
        let side = |text: &str| match text.trim() {
            "unlimited" => Ok(None),
            text => one(text).map(Some),
        };
        let (soft, hard) = match text.split_once(':') {
            None => (side(text)?, side(text)?),
            Some((soft, hard)) => (side(soft)?, side(hard)?),
        };
        if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
            return Err(
                format!("{text:?}: the soft limit, before the colon, is above the hard").into()
            );
        }
        Ok(Self { soft, hard })
    }

    /// The limit of this resource.
    pub fn of(self, resource: Resource) -> Rlimit {
        Rlimit { resource, soft: self.soft, hard: self.hard }
    }
}

/// A limit on a number of things.
pub(super) struct CountLimit(pub LimitPair);

impl FromText for CountLimit {
    const WHAT: &'static str = "a number, \"SOFT:HARD\" or \"unlimited\"";
    const BARE_NUMBER: bool = true;

    fn from_text(text: &str) -> Result<Self, Wrong> {
        let count = |text: &str| {
            let wrong = |_| format!("{text:?} is not {}", Self::WHAT).into();
            text.parse::<u64>().map_err(wrong)
        };
        LimitPair::parse(text, count).map(CountLimit)
    }
}

/// A limit on a size.
pub(super) struct SizeLimit(pub LimitPair);

impl FromText for SizeLimit {
    const WHAT: &'static str = "a size, \"SOFT:HARD\" or \"unlimited\"";

    fn from_text(text: &str) -> Result<Self, Wrong> {
        LimitPair::parse(text, |text| Ok(text.parse::<Bytes>()?.0)).map(SizeLimit)
    }
}
/// A TCP port, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port(pub u16);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromText for Port {
    const WHAT: &'static str = "a port, a whole number from 1 to 65535";
    const BARE_NUMBER: bool = true;

    fn from_text(text: &str) -> Result<Self, Wrong> {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Port(port)),
            _ => Err(format!("{text} is not {}", Self::WHAT).into()),
        }
    }
}
