//! Where stanch writes, and whether it can.

use super::Host;
use super::check::Check;
use crate::cli::place;
use crate::config::UNIX_PATH_MAX;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The audit log.
pub(super) fn store(host: &Host) -> Check {
    let name = "store";
    let path = place::store_path(&host.config);
    let check = match try_store(&path) {
        Ok(found) => Check::ok(name, found, "every intervention is written down before it is done"),
        Err(trouble) => Check::missing(
            name,
            trouble,
            "supervision works, but events are only kept in memory, and lost at its end",
            "set [store] path (--store) to a file that stanch's user can write, or \
             StateDirectory=stanch in the systemd unit",
        ),
    };
    check.needed(host.config.store.path.is_some())
}

fn try_store(path: &Path) -> Result<String, String> {
    let shown = path.display();
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = try_beside(path)?;
            Ok(format!("{shown} can be made: wrote a file in {}", folder.display()))
        }
        // SQLite also writes beside it.
        opened => {
            let folder = opened.map_err(|error| format!("{shown}: {error}")).map(drop);
            let folder = folder.and_then(|()| try_beside(path))?;
            Ok(format!("opened {shown}, and wrote a file in {}", folder.display()))
        }
    }
}

/// The control socket.
pub(super) fn control_socket(host: &Host) -> Check {
    let name = "control_socket";
    let named = host.config.control.socket.clone();
    let needed = named.is_some();
    let path = named.or_else(|| place::sockets().default_socket(&host.config.app.name));
    let outcome = match &path {
        None => Err("no folder for it can be written".to_owned()),
        Some(path) if path.as_os_str().len() > UNIX_PATH_MAX => {
            Err(format!("{} is too long: {UNIX_PATH_MAX} bytes go", path.display()))
        }
        Some(path) => try_beside(path).map(|folder| {
            format!("{} can be made: wrote a file in {}", path.display(), folder.display())
        }),
    };
    let check = match outcome {
        Ok(found) => Check::ok(name, found, "status, restart, drain and the other commands work"),
        Err(trouble) => Check::missing(
            name,
            trouble,
            "supervision works, but no command reaches it; signals do",
            "set [control] socket (--socket) to a path that stanch's user can make, or \
             RuntimeDirectory=stanch in the systemd unit",
        ),
    };
    check.needed(needed)
}

/// Writes a file beside `path`, or in the nearest folder above that exists, and removes it; returns
/// that folder.
fn try_beside(path: &Path) -> Result<PathBuf, String> {
    let folder = path.ancestors().skip(1).map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    let folder = folder.into_iter().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let file = folder.join(format!(".stanch-doctor-{}", std::process::id()));
    let tried = OpenOptions::new().write(true).create_new(true).open(&file);
    let tried = tried.and_then(|_| fs::remove_file(&file));
    match tried {
        Ok(()) => Ok(folder.to_owned()),
        Err(error) => {
            Err(format!("{}: no file can be made in {}: {error}", path.display(), folder.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_tried_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("not/yet/store.db");
        assert_eq!(try_beside(&store), Ok(root.path().to_owned()));
        assert!(try_store(&store).unwrap().contains("can be made"));
        fs::create_dir_all(store.parent().unwrap()).unwrap();
        fs::write(&store, "events").unwrap();
        assert!(try_store(&store).unwrap().starts_with("opened"));
        assert_eq!(fs::read(&store).unwrap(), b"events");
        assert_eq!(fs::read_dir(store.parent().unwrap()).unwrap().count(), 1);
        assert!(try_store(&store.join("below")).unwrap_err().contains("Not a directory"));
        assert!(try_store(store.parent().unwrap()).unwrap_err().contains("Is a directory"));
    }
}
