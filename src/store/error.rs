//! What can go wrong with a store, in words for people.

use crate::core::IncidentId;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why the store could not be opened, read or written. The text says on which file and what to do;
/// what the system said is in the source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no file.
    #[error("there is no store at {}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file is there, but not for us.
    #[error("cannot look at the store {}", path.display())]
    Look {
        /// The store.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The folder or the empty file could not be made.
    #[error("cannot create the store {} (is the folder writable?)", path.display())]
    Create {
        /// Which file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file beside the store that keeps a second writer out could not be locked.
    #[error("cannot lock {} (is the folder writable?)", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process writes this store.
    #[error(
        "the store {} is being written by {}; one stanch an application: stop that one first, or give this one its own [store] path",
        path.display(),
        pid.map_or("another process".into(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The store.
        path: PathBuf,
        /// The other process, where it said so.
        pid: Option<i32>,
    },
    /// The file was made, and nothing is written to it yet.
    #[error("the store {} is empty: nothing could be written to it yet (is the disk full?)", path.display())]
    Unbegun {
        /// The store.
        path: PathBuf,
    },
    /// The file is that of a new store, and the note beside it says that there was more.
    #[error(
        "the store {0} is empty, although stanch had written {seq} events to it: they were in {0}-wal, which is \
         damaged or gone; it was left alone: keep both as evidence, move them away, and a new one begins",
        path.display()
    )]
    Emptied {
        /// The store.
        path: PathBuf,
        /// The last event that was written.
        seq: u64,
    },
    /// The file is a database, but not one of ours.
    #[error("{} is not a store of stanch; it was left alone", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// A newer stanch wrote it.
    #[error(
        "the store {} has version {found}, this stanch knows up to {known}; it was left alone: use the newer stanch, or another [store] path",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// Its samples are kept as an earlier stanch did.
    #[error(
        "the samples in the store {} are kept as an earlier stanch did; the next `stanch run` brings them up to date",
        path.display()
    )]
    Older {
        /// The store.
        path: PathBuf,
    },
    /// The file's content is broken. It is never repaired or moved by stanch.
    #[error(
        "the store {0} is damaged; it was left alone: keep it as evidence, move it and {0}-wal away, and a new \
         one begins",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A folder that cannot be written holds a store whose last events are still in its `-wal` file.
    #[error(
        "the store {0} cannot be read in place: it was not closed, and its folder is read-only; copy it together with {0}-wal to a writable folder",
        path.display()
    )]
    Unsettled {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It could not be opened, for another reason.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It could not be brought to this program's schema version; it is as it was.
    #[error("cannot bring the store {} to version {to}; it is as it was", path.display())]
    Migrate {
        /// The store.
        path: PathBuf,
        /// The version that was tried.
        to: i64,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It could not be written.
    #[error("cannot write the store {}", path.display())]
    Write {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was removed or exchanged while it was open.
    #[error("the store {} was removed or replaced while in use", path.display())]
    Replaced {
        /// The store.
        path: PathBuf,
    },
    /// It was written, but too slowly: actions went ahead of their records, or events came faster
    /// than the buffer holds.
    #[error(
        "writing the store {} took {took:?}; actions went ahead of the events {overtaken:?}, {lost} events were lost",
        path.display()
    )]
    Slow {
        /// The store.
        path: PathBuf,
        /// From the begin of the write to its end.
        took: Duration,
        /// The `seq` of the events that were on disk only after their action.
        overtaken: Vec<u64>,
        /// Events that found the buffer full.
        lost: u64,
    },
    /// It could not be read.
    #[error("cannot read the store {} (`stanch incidents verify` tells whether its log is whole)", path.display())]
    Read {
        /// The store.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The row of an incident is not what the log says.
    #[error(
        "the store {} holds an incident {id} that is not as it was written ({why}); it is left as it is, and \
         not gone on with: what its log says: `stanch incidents events --incident {id}`",
        path.display()
    )]
    Forged {
        /// The store.
        path: PathBuf,
        /// Which incident.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// The row of an incident was changed, damaged, or written by a newer stanch.
    #[error(
        "the store {} holds an incident {id} that cannot be read ({why}); what its log says: `stanch \
         incidents events --incident {id}`; whether that is whole: `stanch incidents verify`",
        path.display()
    )]
    Row {
        /// The store.
        path: PathBuf,
        /// Which incident.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store's thread could not be started.
    #[error("cannot start the thread of the store")]
    Thread {
        /// What the kernel said.
        source: io::Error,
    },
}

impl StoreError {
    /// The incident whose row it is about.
    pub fn incident(&self) -> Option<IncidentId> {
        match self {
            StoreError::Forged { id, .. } | StoreError::Row { id, .. } => {
                Some(IncidentId(id.clone()))
            }
            _ => None,
        }
    }
}
