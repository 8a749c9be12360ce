//! The folder that the evidence command writes its files into.
//!
//! It is the worker's user's, who may put there whatever he likes, also between two looks of ours: links
//! to what only the supervisor may read, pipes, devices. So it is opened once, before he has it, and all
//! is found through that descriptor; only plain files of his own are taken, and no folders.

use nix::libc;
use nix::unistd::{Gid, Uid, fchown, geteuid, mkdtemp};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where large files for a while have their place: not in memory, as `/tmp` may be. The command must be
/// able to reach it, so it is not in the evidence's own folder.
const PLACES: [&str; 2] = ["/var/tmp", "/tmp"];

/// The folder; it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    opened: File,
    owner: u32,
}

/// A file that was found, and its size.
pub(super) struct Found {
    pub name: String,
    pub bytes: u64,
    /// Why it is not taken.
    pub refused: Option<&'static str>,
}

impl Folder {
    /// Makes one for this user and group, the supervisor's own if absent.
    pub fn make(owner: Option<(u32, u32)>) -> io::Result<Self> {
        let place = std::env::var_os("TMPDIR").map(PathBuf::from);
        let usual = PLACES.iter().map(PathBuf::from);
        let place = place.into_iter().chain(usual).find(|path| path.is_dir());
        let place = place.unwrap_or_else(|| PathBuf::from(PLACES[1]));
        let path = mkdtemp(&place.join("stanch-evidence-XXXXXX"))?;
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        if let Some((uid, gid)) = owner {
            fchown(&opened, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        let owner = owner.map_or(geteuid().as_raw(), |(uid, _)| uid);
        Ok(Self { path, opened, owner })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, by name.
    pub fn list(&self) -> Vec<Found> {
        let entries = fs::read_dir(self.inside("")).into_iter().flatten().flatten();
        let mut found: Vec<Found> = entries
            .filter_map(|entry| {
                // Of a link this is the link.
                let about = entry.metadata().ok()?;
                let refused = match () {
                    () if !about.is_file() => Some("not a plain file"),
                    () if about.uid() != self.owner => Some("another user's"),
                    () => None,
                };
                let name = entry.file_name().to_string_lossy().into_owned();
                Some(Found { name, bytes: about.len(), refused })
            })
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Opens what was found; it may be something else by now, and is refused then.
    pub fn open(&self, found: &Found) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let path = self.inside(&found.name);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() || about.uid() != self.owner {
            return Err(io::Error::other("was exchanged"));
        }
        Ok(file)
    }

    fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.opened.as_raw_fd()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Follows no links.
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_plain_files_are_taken() {
        let folder = Folder::make(None).unwrap();
        let inside = |name: &str| folder.path().join(name);
        fs::write(inside("a"), "text").unwrap();
        symlink("/etc/passwd", inside("b")).unwrap();
        fs::create_dir(inside("c")).unwrap();
        nix::unistd::mkfifo(&inside("d"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let found = folder.list();
        let refused: Vec<_> = found.iter().map(|found| found.refused.is_some()).collect();
        assert_eq!(refused, [false, true, true, true]);
        assert_eq!((found[0].name.as_str(), found[0].bytes), ("a", 4));
        // Exchanged after it was listed.
        fs::remove_file(inside("a")).unwrap();
        symlink("/etc/passwd", inside("a")).unwrap();
        assert!(folder.open(&found[0]).is_err());
        assert!(folder.open(&found[3]).is_err(), "and does not wait for a writer");
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists() && Path::new("/etc/passwd").exists());
    }

    #[test]
    fn a_folder_that_was_moved_is_still_the_one_that_is_read() {
        let folder = Folder::make(None).unwrap();
        fs::write(folder.path().join("a"), "mine").unwrap();
        let moved = folder.path().with_extension("moved");
        fs::rename(folder.path(), &moved).unwrap();
        symlink("/etc", folder.path()).unwrap();
        let found = folder.list();
        assert_eq!(found.len(), 1);
        let mut text = String::new();
        folder.open(&found[0]).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "mine");
        fs::remove_file(folder.path()).unwrap();
        fs::remove_dir_all(moved).unwrap();
    }
}
