//! Letters on disk, until they are told: a file each, in a folder beside the audit store.
//!
//! A file gets its name only when it is whole and on disk (written under another name, `fsync`,
//! `rename`, `fsync` of the folder), so a kill or a power cut leaves no half letter.

use super::letter::Letter;
use crate::core::AlertId;
use nix::unistd::getpid;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// So many letters may wait.
pub(super) const CAPACITY: usize = 1000;

const SUFFIX: &str = "json";

/// The folder.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    written: u64,
}

impl Spool {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, written: 0 }
    }

    /// The letters of an earlier life, oldest first. What is no letter is set aside.
    pub fn load(&self) -> io::Result<Vec<(PathBuf, Letter)>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut paths: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        let mut letters = Vec::new();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(SUFFIX) => match read(&path) {
                    Ok(letter) => letters.push((path, letter)),
                    Err(error) => set_aside(&path, &error),
                },
                // It never became whole.
                Some("new") => drop(fs::remove_file(&path)),
                _ => {}
            }
        }
        Ok(letters)
    }

    /// Writes a letter; it is on disk when this returns.
    pub fn put(&mut self, letter: &Letter) -> io::Result<PathBuf> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.written += 1;
        let at_ms = letter.alert.at.as_millisecond();
        let name = format!("{at_ms:015}-{}-{:06}", getpid(), self.written);
        let path = self.folder.join(format!("{name}.{SUFFIX}"));
        let new = self.folder.join(format!("{name}.new"));
        let written = write(&new, letter).and_then(|()| fs::rename(&new, &path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
        written?;
        File::open(&self.folder)?.sync_all()?;
        Ok(path)
    }
}

/// What an earlier life has left untold in a folder, oldest first.
///
/// # Errors
/// The folder cannot be read.
pub fn waiting(folder: &Path) -> io::Result<Vec<AlertId>> {
    let letters = Spool::new(folder.to_owned()).load()?;
    Ok(letters.into_iter().map(|(_, letter)| letter.alert.id).collect())
}

/// Takes a letter out.
pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "an alert that was told stays in the spool");
    }
}

fn write(path: &Path, letter: &Letter) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(letter)?)?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<Letter> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn set_aside(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "not an alert of this version; it is set aside");
    let _ = fs::rename(path, path.with_extension("unreadable"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::letter::tests::letter;
    use crate::core::Occasion;

    #[test]
    fn letters_come_back_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("shop.db.alerts");
        let mut spool = Spool::new(folder.clone());
        assert!(spool.load().unwrap().is_empty());
        let letters = [Occasion::Opened, Occasion::Raised, Occasion::Resolved].map(letter);
        let paths: Vec<_> = letters.iter().map(|letter| spool.put(letter).unwrap()).collect();
        // A kill in the middle of a write, a foreign file, a damaged one.
        fs::write(folder.join("1.new"), "{").unwrap();
        fs::write(folder.join("README"), "").unwrap();
        fs::write(folder.join("0.json"), "{\"alert\":").unwrap();

        let found = Spool::new(folder.clone()).load().unwrap();
        assert!(found.iter().map(|(_, letter)| letter).eq(&letters), "{found:?}");
        assert!(found.iter().map(|(path, _)| path).eq(&paths));
        let ids = letters.each_ref().map(|letter| letter.alert.id.clone());
        assert_eq!(waiting(&folder).unwrap(), ids);
        paths.iter().for_each(|path| remove(path));
        let left = fs::read_dir(&folder).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0.unreadable", "README"]);
    }
}
