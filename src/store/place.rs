//! Where a store lies when nobody says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

const SYSTEM: &str = "/var/lib/stanch";

/// Where the store of the application lies when the configuration does not say: as root, if it can
/// be written, `/var/lib/stanch/APP.db`; else `$XDG_STATE_HOME/stanch/APP.db`, by default under
/// `~/.local/state`. `env` looks up a variable of the environment.
pub fn default_path(app: &str, env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let system = nix::unistd::geteuid().is_root() && writable(Path::new(SYSTEM));
    let state = state_folder(env).filter(|_| !system);
    state.unwrap_or_else(|| SYSTEM.into()).join(format!("{app}.db"))
}

/// Every `*.db` in the folders of [`default_path`], sorted.
pub fn stores(env: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let folders = [Some(PathBuf::from(SYSTEM)), state_folder(env)];
    let mut found: Vec<PathBuf> = folders
        .into_iter()
        .flatten()
        .filter_map(|folder| folder.read_dir().ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .collect();
    found.sort();
    found
}

/// A relative `XDG_STATE_HOME` is to be ignored (XDG Base Directory Specification).
fn state_folder(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(base?.join("stanch"))
}

/// Whether the folder can be written, or made where it is missing.
fn writable(folder: &Path) -> bool {
    folder
        .ancestors()
        .find(|folder| folder.exists())
        .filter(|folder| folder.is_dir())
        .is_some_and(|folder| nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_folder_follows_the_specification() {
        fn folder(variables: &[(&str, &str)]) -> Option<PathBuf> {
            state_folder(|name| {
                let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
                Some(value.into())
            })
        }
        let home = ("HOME", "/home/u");
        assert_eq!(folder(&[]), None);
        assert_eq!(folder(&[home]), Some("/home/u/.local/state/stanch".into()));
        assert_eq!(folder(&[home, ("XDG_STATE_HOME", "/s")]), Some("/s/stanch".into()));
        assert_eq!(
            folder(&[home, ("XDG_STATE_HOME", "s")]),
            Some("/home/u/.local/state/stanch".into())
        );
        let path = default_path("shop", |_| None);
        assert_eq!(path, Path::new("/var/lib/stanch/shop.db"));
    }

    #[test]
    fn a_folder_that_is_not_there_counts_as_its_nearest_parent() {
        let folder = tempfile::tempdir().unwrap();
        assert!(writable(&folder.path().join("not/yet")));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!writable(&file.join("not")));
    }
}
