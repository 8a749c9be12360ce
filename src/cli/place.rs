//! Where things are: what a config file says of them, and the defaults.

use super::{Failure, links};
use crate::config::{self, Config, Pins};
use crate::core::units::Bytes;
use crate::core::words::chain;
use crate::http::Places;
use crate::store;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

/// The text of a config file.
pub fn read_config(path: &Path) -> Result<String, Failure> {
    read(path).map_err(|error| Failure::Usage(chain(&error)))
}

/// Why a configuration file could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// The file system says no.
    #[error("cannot read the configuration {}", path.display())]
    Io {
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a text.
    #[error("the configuration {} is not UTF-8 text (line {line})", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where the first byte stands that is not.
        line: usize,
    },
    /// Not a configuration either.
    #[error("{} is larger than {}: not a configuration", path.display(), Bytes(LARGEST))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// No configuration is larger; a wrong path (`/dev/zero`, a log) ends here, and not in as many errors
/// as it has lines.
const LARGEST: u64 = 128 << 10;

/// The text of a configuration file.
fn read(path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    if bytes.len() as u64 > LARGEST {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        ReadError::NotText { path: path.to_owned(), line }
    })
}

/// A config file, judged.
pub fn config_of(path: &Path) -> Result<Config, Failure> {
    let text = read_config(path)?;
    config::parse(&text, path).map_err(|errors| Failure::Usage(errors.report()))
}

/// Where the audit log of an application is.
pub fn store_path(config: &Config) -> PathBuf {
    let default = || store::default_path(&config.app.name, |name| std::env::var_os(name));
    config.store.path.clone().unwrap_or_else(default)
}

/// So much of a file is read for a label, in bytes.
const LABEL_MAX: u64 = 4096;

/// A configuration with its release: what is started is where links lead now, and the label is what a file has
/// there.
///
/// # Errors
/// The file of the label is none, or what is in it.
pub fn with_release(config: Config) -> Result<Config, Failure> {
    let pins = links::pins(&config);
    let label = label(&config, &pins)?;
    Ok(released(config, &pins, label))
}

/// The same by what was found out of its links and its label.
pub fn released(config: Config, pins: &Pins, label: Option<String>) -> Config {
    let mut config = config.pinned(pins);
    config.settings.release = label.or(config.settings.release);
    config
}

/// The label that a file has, if one is named.
///
/// # Errors
/// The file is none, or what is in it.
pub fn label(config: &Config, pins: &Pins) -> Result<Option<String>, Failure> {
    let Some(path) = &config.release.file else { return Ok(None) };
    let wrong = |why: &dyn Display| {
        let path = path.display();
        Failure::Usage(format!("release.file: the label of the release in {path}: {why}"))
    };
    // A pipe would be waited for.
    let there = pins.moved(path).unwrap_or_else(|| path.clone());
    let about = std::fs::metadata(&there).map_err(|error| wrong(&error))?;
    if !about.is_file() {
        return Err(wrong(&"is not a file"));
    }
    let mut text = Vec::new();
    File::open(&there)
        .and_then(|file| file.take(LABEL_MAX).read_to_end(&mut text))
        .map_err(|error| wrong(&error))?;
    config::label(&text).map(Some).map_err(|error| wrong(&error))
}

/// Where control sockets stand on this host, for this user.
pub fn sockets() -> Places {
    Places::of(nix::unistd::geteuid(), std::env::var_os("XDG_RUNTIME_DIR"))
}

/// The absolute path without the way that it was come by: the paths that a configuration gives begin at its
/// folder, and are to be the same from wherever stanch is started. What is reached through a symbolic link
/// stays so, it may lead elsewhere tomorrow.
pub fn lasting(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path).map_err(|error| {
        Failure::Usage(format!("cannot find {} again: {error}", path.display()))
    })?;
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir if !plain.is_symlink() => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_the_same_from_wherever_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |rest: &str| folder.path().join(rest);
        let lasting = |rest: &str| lasting(&path(rest)).ok().unwrap();
        std::fs::create_dir(path("here")).unwrap();
        std::os::unix::fs::symlink("/usr/bin", path("link")).unwrap();
        assert_eq!(lasting("here/../app.toml"), path("app.toml"));
        assert_eq!(lasting("link/../app.toml"), path("link/../app.toml"));
    }
}
