//! What is wrong with a configuration: every error at once, each with its place.

use std::fmt;

/// Where a value was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file; both from 1, the column in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// On the command line, by this flag (`--soft-limit`).
    Flag(&'static str),
    /// Nowhere: it is missing.
    Nowhere,
}

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub place: Place,
    /// The key with its section (`memory.soft_limit`); empty for a syntax error.
    pub key: String,
    /// What is wrong, and what to do about it where that is not plain. Never holds a value of
    /// `[app.environment]`.
    pub message: String,
    /// What was probably meant: a key, a word or a value.
    pub suggestion: Option<String>,
}

/// `LINE:COL: key: message (did you mean …?)`; a flag's name stands in the place of line and key.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::File { line, column } => write!(f, "{line}:{column}: ")?,
            Place::Flag(flag) => write!(f, "{flag}: ")?,
            Place::Nowhere => {}
        }
        if !self.key.is_empty() && !matches!(self.place, Place::Flag(_)) {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean {suggestion}?)"),
            None => Ok(()),
        }
    }
}

/// All errors of a configuration: those of the file in the order of its lines, then those of flags,
/// then what is missing. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file's name, absent when there is no file.
    pub source_name: Option<String>,
    /// The errors.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// A head line and all of them, for a command that cannot go on.
    pub fn report(&self) -> String {
        let name = self.source_name.as_deref().unwrap_or("the configuration");
        match self.errors.len() {
            1 => self.to_string(),
            count => format!("{name} has {count} errors\n{self}"),
        }
    }
}

/// A line an error: `FILE:LINE:COL: key: message (did you mean …?)`.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match (&self.source_name, error.place) {
                (Some(name), Place::File { .. }) => write!(f, "{name}:{error}")?,
                (Some(name), Place::Nowhere) => write!(f, "{name}: {error}")?,
                (_, Place::Flag(_)) | (None, _) => error.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The errors found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Vec<ConfigError>,
}

impl Problems {
    /// Adds one, unless the same place was already found wrong: the first reason is the best.
    pub fn add(&mut self, error: ConfigError) {
        let in_file = matches!(error.place, Place::File { .. });
        if !in_file || self.errors.iter().all(|e| e.place != error.place) {
            self.errors.push(error);
        }
    }

    /// Adds one without a suggestion.
    pub fn refuse(&mut self, place: Place, key: &str, message: String) {
        self.add(ConfigError { place, key: key.to_owned(), message, suggestion: None });
    }

    /// Whether the value of a key (`memory.soft_limit`) is in doubt: it was found wrong, or what was
    /// typed was probably meant for it, or the file is not even TOML. A conclusion drawn from its
    /// absence or its default would be noise.
    pub fn doubt(&self, key: &str) -> bool {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        self.errors.iter().any(|e| {
            let beside = e.key.rsplit_once('.').is_some_and(|(of, _)| of == section);
            let meant = e.suggestion.as_deref().is_some_and(|meant| {
                meant == format!("[{section}]")
                    || meant == format!("[{section}] {name}")
                    || (beside && meant == name)
            });
            e.key.is_empty() || e.key == key || e.key == section || meant
        })
    }

    /// All of them, in the order of [`ConfigErrors`].
    pub fn into_sorted(mut self) -> Vec<ConfigError> {
        self.errors.sort_by_key(|e| e.place);
        self.errors
    }
}
