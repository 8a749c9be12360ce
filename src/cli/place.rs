//! Where things are: what a config file says of them, and the defaults.

use super::{Failure, check};
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
    let pins = config.app.directory.as_deref().and_then(pins).unwrap_or_default();
    let mut config = config.pinned(&pins);
    if let Some(path) = &config.release.file {
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
        config.settings.release = Some(config::label(&text).map_err(|error| wrong(&error))?);
    }
    Ok(config)
}

/// Where the links on the way to a directory lead; each is followed once, so that all are of one moment. `None`
/// if there is no such directory.
fn pins(directory: &Path) -> Option<Pins> {
    let (mut named, mut real) = (PathBuf::new(), PathBuf::new());
    let mut pins = Vec::new();
    // Without the dots and slashes that say nothing.
    for part in std::path::absolute(directory).ok()?.components() {
        named.push(part);
        real = real.join(part).canonicalize().ok()?;
        if named != real {
            pins.push((named.clone(), real.clone()));
        }
    }
    pins.reverse();
    Some(Pins(pins))
}

/// The first link on the way to a file or folder. Those of the system (`/bin`, `/usr/bin/python3`) are no
/// release's.
pub fn link_to(path: &Path) -> Option<&Path> {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    let of_system = |way: &Path| {
        let folder = way.parent().and_then(|folder| folder.canonicalize().ok());
        folder.is_none_or(|folder| folder == Path::new("/") || folder.starts_with("/usr"))
    };
    ways.into_iter().find(|way| way.is_symlink() && !of_system(way))
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

    /// Whatever the spelling, and with every link on the way: that to the release, and those in it.
    #[test]
    fn a_release_is_where_links_led_when_it_was_read() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for label in ["1", "2"] {
            let release = root.join("releases").join(label);
            std::fs::create_dir_all(&release).unwrap();
            std::fs::write(release.join("REVISION"), label).unwrap();
            std::fs::create_dir_all(root.join("shared")).unwrap();
            symlink(root.join("shared"), release.join("work")).unwrap();
        }
        symlink("releases/1", root.join("current")).unwrap();
        let read = |directory: &str| {
            let mut config = Config::default();
            config.app.directory = Some(root.join(directory));
            config.app.command = vec![root.join("current/bin/shop").display().to_string()];
            config.release.file = Some(root.join("current/REVISION"));
            let Ok(config) = with_release(config) else { panic!("{directory}") };
            assert_eq!(config.settings.release.as_deref(), Some("1"), "{directory}");
            let program = root.join("releases/1/bin/shop").display().to_string();
            assert_eq!(config.app.command, [program], "{directory}");
            config.app.directory.unwrap()
        };
        for spelling in ["current", "current/", "current/.", "./current//", "current/../../current"]
        {
            assert_eq!(read(spelling), root.join("releases/1"), "{spelling}");
        }
        assert_eq!(read("current/work"), root.join("shared"));
        assert_eq!(link_to(&root.join("current/work")), Some(root.join("current").as_path()));
        assert_eq!(link_to(&root.join("releases/1")), None);
    }

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
