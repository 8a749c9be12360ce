//! Whether somebody else touched the store's files while they were open.
//!
//! SQLite trusts that nobody writes to its files behind its back, and keeps pages in memory: a file that was
//! overwritten looks well to its writer until a page that was not read yet is needed, and the next checkpoint
//! writes into what is there now. But only this process writes them, so their sizes and times of change are
//! known: what differs from the last look is another's work. Two `stat` a look, some microseconds.

use super::beside;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What the files are like at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    path: PathBuf,
    store: Option<State>,
    wal: Option<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Device and inode.
    identity: (u64, u64),
    len: u64,
    modified: (i64, i64),
}

/// What happened to them since.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Touched {
    No,
    /// This one is removed, or is another file.
    Replaced(PathBuf),
    /// They are the same files, and were written; so they are now.
    Written(Files),
}

impl Files {
    /// The store at `path`, as it is now.
    pub fn of(path: &Path) -> Self {
        Self { path: path.into(), store: state(path), wal: state(&beside(path, "-wal")) }
    }

    /// This process has written them. One that is another file meanwhile is another's work all the same.
    pub fn follow(&mut self) {
        let now = Self::of(&self.path);
        for (known, now) in [(&mut self.store, now.store), (&mut self.wal, now.wal)] {
            let same = |known: &State| now.is_some_and(|now| now.identity == known.identity);
            if known.as_ref().is_none_or(same) {
                *known = now;
            }
        }
    }

    /// Whether another store has its place now, or none.
    pub fn is_replaced(&self) -> bool {
        identity(state(&self.path)) != identity(self.store)
    }

    /// What was done to them since then.
    pub fn touched(&self) -> Touched {
        let now = Self::of(&self.path);
        if identity(now.store).is_none() || identity(now.store) != identity(self.store) {
            Touched::Replaced(now.path)
        } else if self.wal.is_some() && identity(now.wal) != identity(self.wal) {
            Touched::Replaced(beside(&now.path, "-wal"))
        } else if now == *self {
            Touched::No
        } else {
            Touched::Written(now)
        }
    }
}

/// Which file it is.
fn identity(state: Option<State>) -> Option<(u64, u64)> {
    state.map(|state| state.identity)
}

fn state(path: &Path) -> Option<State> {
    let file = fs::metadata(path).ok()?;
    Some(State {
        identity: (file.dev(), file.ino()),
        len: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
    })
}
