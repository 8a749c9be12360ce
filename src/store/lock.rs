//! Keeps a second writer out: an exclusive `flock` on `PATH.lock`, a file of its own.
//!
//! Not on the store itself: SQLite's own locks are POSIX record locks, which a process loses when it
//! closes *any* descriptor of the file. A `flock` belongs to the open file, ends with the process
//! however it ends, and hinders no reader. The file stays behind on purpose: removing it would let
//! two writers hold locks on two files of that name. It holds the pid of the last writer, for the
//! message of the one that is kept out.

use super::StoreError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Held as long as this process writes the store.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held, never read")] Flock<File>);

impl Lock {
    /// Takes the lock of the store at `path`, or names who has it.
    pub fn take(path: &Path) -> Result<Lock, StoreError> {
        let beside = super::beside(path, ".lock");
        let failed = |source| StoreError::Lock { path: beside.clone(), source };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&beside)
            .map_err(failed)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
            |(_, errno)| match errno {
                Errno::EWOULDBLOCK => StoreError::Locked {
                    path: path.into(),
                    pid: fs::read_to_string(&beside).ok().and_then(|text| text.trim().parse().ok()),
                },
                errno => failed(errno.into()),
            },
        )?;
        // Only a help for people: a full disk must not keep the store from being tried.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock(file))
    }
}
