//! What a check tells.

use crate::cli::output::{Colour, Paint, clean, wrap};
use serde::Serialize;
use std::io::{self, Write};

/// Columns of the text for people.
const WIDTH: usize = 100;
/// How far what a check found, and what follows from it, stands to the right.
const INDENT: usize = 8;

/// How much of a promise holds on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// All of it.
    Ok,
    /// It holds in a weaker way.
    Limited,
    /// It does not hold.
    Missing,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Limited => "limited",
            Outcome::Missing => "missing",
        }
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// Its name, which stays the same from version to version.
    pub name: &'static str,
    pub outcome: Outcome,
    /// What was tried, and what came of it.
    pub found: String,
    /// What follows for which promise.
    pub means: String,
    /// How to get the better outcome; absent where there is none.
    pub remedy: Option<String>,
    /// Whether the configuration cannot be run as it is meant while this is missing.
    #[serde(skip)]
    pub needed: bool,
}

impl Check {
    /// The promise holds.
    pub fn ok(name: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        let (found, means) = (found.into(), means.into());
        Self { name, outcome: Outcome::Ok, found, means, remedy: None, needed: false }
    }

    /// It holds in a weaker way.
    pub fn limited(
        name: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { outcome: Outcome::Limited, remedy, ..Self::ok(name, found, means) }
    }

    /// It does not hold.
    pub fn missing(
        name: &'static str,
        found: impl Into<String>,
        means: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { outcome: Outcome::Missing, ..Self::limited(name, found, means, remedy) }
    }

    /// The same, with a word on whether the configuration needs it.
    pub fn needed(self, needed: bool) -> Self {
        Self { needed, ..self }
    }

    /// Whether the configuration cannot be run as it is meant.
    pub fn is_fatal(&self) -> bool {
        self.needed && self.outcome == Outcome::Missing
    }

    /// For people: a line, and below it what follows.
    pub fn write(&self, out: &mut dyn Write, paint: Paint) -> io::Result<()> {
        let colour = match self.outcome {
            Outcome::Ok => Colour::Green,
            Outcome::Missing if self.needed => Colour::Red,
            Outcome::Limited | Outcome::Missing => Colour::Yellow,
        };
        let word = paint.text(colour, &format!("{:<INDENT$}", self.outcome.word()));
        let name = self.name.replace('_', " ");
        paragraph(out, &word, INDENT, &format!("{name}: {}", self.found))?;
        let label = |label: &str| format!("{:INDENT$}{label:<INDENT$}", "");
        paragraph(out, &label("means"), 2 * INDENT, &self.means)?;
        match &self.remedy {
            Some(remedy) => paragraph(out, &label("do"), 2 * INDENT, remedy),
            None => Ok(()),
        }
    }
}

/// A text with its head on the first line, and its other lines below each other.
fn paragraph(out: &mut dyn Write, head: &str, indent: usize, text: &str) -> io::Result<()> {
    for (nth, line) in wrap(&clean(text), WIDTH - indent).iter().enumerate() {
        match nth {
            0 => writeln!(out, "{head}{line}")?,
            _ => writeln!(out, "{:indent$}{line}", "")?,
        }
    }
    Ok(())
}
