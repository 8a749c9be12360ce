//! The configuration: what was typed, then what is meant.
//!
//! Text goes in, not files: [`parse`] takes what a file holds, [`build`] also what flags say. Four
//! steps, and each goes on after an error, so that all errors are listed at once:
//!
//! 1. `reader` parses TOML and hands out values key by key, with line and column; keys that nobody
//!    asked for are left over, and get the nearest known key as a suggestion;
//! 2. `raw` asks for each key of the documentation and reads each value by itself (`values`,
//!    `address`);
//! 3. flags ([`Overrides`]) take the place of what the file says, read by the same code;
//! 4. `judge` fills in defaults, checks ranges and finds values that contradict each other. It draws
//!    no conclusion from a value that an earlier step found wrong: one slip, one error.
//!
//! Values of `[app.environment]` may be secrets: no error and no `Debug` shows one. The TOML parser's
//! own error display quotes the line, so it is never used.

mod address;
mod checked;
mod difference;
mod error;
mod judge;
mod name;
mod overrides;
mod raw;
mod reader;
mod release;
mod secrets;
mod suggest;
#[cfg(test)]
mod tests;
mod values;
mod variables;

pub use address::{ListenAddress, UNIX_PATH_MAX};
pub use checked::{
    App, Config, Control, Environment, Evidence, Health, Hooks, Listen, ListenMode, Log, LogFormat,
    Memory, Ready, ReadyWhen, Release, Rlimit, Rotate, Store, WorkerOutput,
};
pub use difference::difference;
pub use error::{ConfigError, ConfigErrors, Place};
pub use overrides::Overrides;
pub use release::{Pins, label, parts};
pub use secrets::masked;
pub use variables::variables;

use reader::Document;
use std::path::Path;

/// The configuration that the text of a file means; `source` is the file's path, which names it in
/// errors and is where its relative paths begin.
pub fn parse(text: &str, source: &Path) -> Result<Config, ConfigErrors> {
    build(Some(text), source, &Overrides::default())
}

/// The configuration that a file and the command line mean together. Without a file (`None`) the
/// flags and the defaults say everything, and `source` is not used.
pub fn build(
    text: Option<&str>,
    source: &Path,
    overrides: &Overrides,
) -> Result<Config, ConfigErrors> {
    let mut document = Document::parse(text.unwrap_or_default());
    let mut raw = raw::Raw::read(&mut document);
    let mut problems = document.finish();
    raw.apply(overrides, &mut problems);
    let folder = source.parent().unwrap_or(Path::new(""));
    let config = judge::judge(raw, folder, &mut problems);
    match problems.into_sorted() {
        errors if errors.is_empty() => Ok(config),
        errors => {
            let source_name = text.map(|_| source.display().to_string());
            Err(ConfigErrors { source_name, errors })
        }
    }
}
