//! The end of the log, noted beside it: `PATH.head`, a line of the last event's number and hash.
//!
//! What the chain alone cannot show is that its end is missing, and that is how a damaged `-wal` file looks:
//! SQLite takes what comes before the first frame with a wrong checksum for all that there is. The note is
//! written after each commit, over itself and without `fsync` (some microseconds), so it is never ahead of
//! what is on disk; after a power cut it may be behind, which does no harm. It is a check against damage and
//! mishap: who forges the log can forge the note as well, against that the head in alerts and logs helps.

use super::{Head, beside};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the note of the store at `path` is.
pub(super) fn place(path: &Path) -> PathBuf {
    beside(path, ".head")
}

/// The head that was noted last; none where no note is, or no whole one.
pub(super) fn noted(path: &Path) -> Option<Head> {
    let text = fs::read_to_string(place(path)).ok()?;
    let (seq, hash) = text.strip_suffix('\n')?.split_once(' ')?;
    let head = Head { seq: seq.parse().ok()?, hash: hash.to_owned() };
    (head.hash.len() == 64).then_some(head)
}

/// Writes the note.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    file: Option<File>,
    failed: bool,
}

impl Note {
    /// Of the store at `path`; the file is not touched before [`write`](Self::write).
    pub fn of(path: &Path) -> Self {
        Self { path: place(path), file: None, failed: false }
    }

    /// This is the last event now. The log does not depend on its note: a failure is told once.
    pub fn write(&mut self, head: &Head) {
        // Always of the same length: it fits where the last one was, on a full disk too.
        let line = format!("{:020} {}\n", head.seq, head.hash);
        let outcome = match self.file.take() {
            Some(file) => Ok(file),
            None => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o640)
                .open(&self.path),
        }
        .and_then(|file| {
            file.write_all_at(line.as_bytes(), 0)?;
            Ok(self.file.insert(file))
        });
        if let Err(error) = &outcome
            && !self.failed
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the end of the audit log cannot be noted beside it");
        }
        self.failed = outcome.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_head_is_noted_over_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        assert_eq!(noted(&path), None);
        let head = |seq: u64, digit: &str| Head { seq, hash: digit.repeat(64) };
        let mut note = Note::of(&path);
        note.write(&head(u64::MAX, "a"));
        note.write(&head(7, "b"));
        assert_eq!(noted(&path), Some(head(7, "b")));
        // Another life goes on with it.
        Note::of(&path).write(&head(8, "c"));
        assert_eq!(noted(&path), Some(head(8, "c")));
        fs::write(place(&path), "8 cc").unwrap();
        assert_eq!(noted(&path), None);
    }
}
