//! Where control sockets stand, and which of them live.

use super::socket::{self, Presence};
use nix::unistd::{AccessFlags, Uid, access};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folders for control sockets of one user, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    folders: Vec<PathBuf>,
}

impl Places {
    /// `/run/stanch`, `$XDG_RUNTIME_DIR/stanch` (where the variable holds an absolute path) and
    /// `/tmp/stanch-UID`.
    pub fn of(uid: Uid, xdg_runtime_dir: Option<OsString>) -> Self {
        let xdg = xdg_runtime_dir.map(PathBuf::from).filter(|folder| folder.is_absolute());
        let folders = [
            Some(PathBuf::from("/run/stanch")),
            xdg.map(|folder| folder.join("stanch")),
            Some(PathBuf::from(format!("/tmp/stanch-{uid}"))),
        ];
        Self { folders: folders.into_iter().flatten().collect() }
    }

    /// These folders, the preferred one first.
    pub fn in_folders(folders: Vec<PathBuf>) -> Self {
        Self { folders }
    }

    /// Where to look, for people.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The socket that a supervisor of `app` makes when none is configured: in the first folder that
    /// can be written or made, `None` if there is no such folder.
    pub fn default_socket(&self, app: &str) -> Option<PathBuf> {
        let folder = self.folders.iter().find(|folder| usable(folder))?;
        Some(folder.join(file_name(app)))
    }

    /// The live socket of `app`, wherever it stands: the folders that a supervisor could write are
    /// not always those that its operator can.
    pub fn find(&self, app: &str) -> Option<PathBuf> {
        let name = file_name(app);
        self.folders.iter().map(|folder| folder.join(&name)).find(|path| lives(path))
    }

    /// All live sockets, by name within each folder. One that may not be spoken to counts as live,
    /// so that the client can say whose it is.
    pub fn discover(&self) -> Vec<PathBuf> {
        self.sockets(lives)
    }

    /// Those of supervisors that were killed: nobody listens there any more, and nobody took them away.
    pub fn left(&self) -> Vec<PathBuf> {
        self.sockets(|path| matches!(socket::presence(path), Ok(Presence::Stale)))
    }

    fn sockets(&self, which: fn(&Path) -> bool) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut here: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
                .filter(|path| which(path))
                .collect();
            here.sort();
            found.append(&mut here);
        }
        found
    }
}

/// Whether somebody listens there, or may.
pub fn lives(path: &Path) -> bool {
    matches!(socket::presence(path), Ok(Presence::Live { .. }) | Ok(Presence::Forbidden))
}

/// `NAME.sock`; what could lead out of the folder or be awkward in a shell becomes `_`.
fn file_name(app: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    app.chars().map(safe).chain(".sock".chars()).collect()
}

/// Whether a socket can be made in `folder`: it can be written, or it is missing and can be made in
/// its parent. Asked with the effective ids, and told of read-only file systems, by access(2).
fn usable(folder: &Path) -> bool {
    let writable = |path: &Path| access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    if folder.exists() { writable(folder) } else { folder.parent().is_some_and(writable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_in_order() {
        let places = Places::of(Uid::from_raw(1000), Some("/run/user/1000".into()));
        let names: Vec<_> = places.folders().iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(names, ["/run/stanch", "/run/user/1000/stanch", "/tmp/stanch-1000"]);
        let relative = Places::of(Uid::from_raw(7), Some("run".into()));
        assert_eq!(relative.folders().len(), 2, "a relative XDG_RUNTIME_DIR is invalid");
    }

    #[test]
    fn the_first_folder_that_can_be_made() {
        let root = tempfile::tempdir().unwrap();
        let (no, yes) = (root.path().join("missing/stanch"), root.path().join("stanch"));
        let places = Places::in_folders(vec![no.clone(), yes.clone()]);
        assert_eq!(places.default_socket("shop"), Some(yes.join("shop.sock")));
        std::fs::create_dir_all(&no).unwrap();
        assert_eq!(places.default_socket("a/../b c"), Some(no.join("a_.._b_c.sock")));
        assert_eq!(Places::in_folders(vec![root.path().join("x/y")]).default_socket("shop"), None);
    }

    #[test]
    fn only_live_sockets_are_found() {
        let root = tempfile::tempdir().unwrap();
        let places = Places::in_folders(vec![root.path().join("a"), root.path().join("b")]);
        assert_eq!(places.discover(), Vec::<PathBuf>::new());
        let dead = root.path().join("a/dead.sock");
        let one = socket::bind(&root.path().join("a/one.sock")).unwrap();
        let two = socket::bind(&root.path().join("b/two.sock")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        std::fs::write(root.path().join("a/file.sock"), "").unwrap();
        assert!(dead.exists());
        assert_eq!(places.discover(), [one.path(), two.path()]);
        assert_eq!(places.find("two").as_deref(), Some(two.path()));
        assert_eq!(places.find("dead"), None);
        assert_eq!(places.left(), [dead]);
    }
}
