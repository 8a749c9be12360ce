//! Where things are: what a config file says of them, and the defaults.

use super::{Failure, check, links};
use crate::config::{self, Config, Pins};
use crate::core::words::chain;
use crate::http::Places;
use crate::store;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The text of a config file.
pub fn read_config(path: &Path) -> Result<String, Failure> {
    check::read(path).map_err(|error| Failure::Usage(chain(&error)))
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
