//! The audit store: one SQLite file an application, written by one supervisor, read by anyone.
//!
//! # Writing
//!
//! [`Store`] has a thread of its own, because a disk may take seconds and the engine may not.
//! [`Writer`] puts events and samples into a bounded queue; the thread takes all that is
//! there and writes it in one transaction (group commit), so a slow disk makes batches larger, not
//! the queue longer. WAL with `synchronous=FULL`: when a commit returns, it is on disk.
//!
//! When the store cannot be written (disk full, read-only, damaged, removed) events stay in the queue,
//! in order, up to [`EVENT_CAPACITY`]; what comes beyond is counted. The thread closes the file, opens
//! it anew every second, and tells the engine ([`Health`]). Whether another program touched the files is looked
//! for every ten seconds and before each write (see `touch`). A damaged, foreign or newer file is never touched,
//! not even by a change of its journal mode (see `schema`). A failed commit may still have
//! reached the disk; the chain's head tells after the reopening (see `thread`).
//!
//! # The chain
//!
//! Table `events(seq, body, hash)`: `seq` counts from 1 without gaps, `body` is the event's JSON
//! `{"seq","at","kind","incident","slot","pid","generation","release","cause","reason","figures"}`
//! in that order, and
//!
//! > `hash` = lowercase hexadecimal SHA-256 of (the previous event's `hash` as that text, followed by
//! > `body`); for the first event the previous hash is the empty text.
//!
//! All other columns are computed from `body`. So an edit, a removal, an insertion or a changed order
//! breaks the chain at that place, and anyone can check it with `sqlite3` and `sha256sum`. What a chain
//! alone cannot show is a cut tail, or that all of it was computed anew: for that the head is noted beside
//! the store (see `note`), [`Writer::head`] goes into logs and alerts, and [`Reader::verify`] takes such a
//! head.
//!
//! The chain covers the table `incidents` too: an event that changes a row bears the row's hash, as a
//! last key `incident_sha256` in its body (see `rows`). It does not cover `samples`, which a report draws
//! its curves from, nor the files of evidence, whose event says only how many bytes they are. How events
//! go when they are older than the retention, and the chain verifies all the same, is in `retire`; how
//! long a sample stays in `samples`.
//!
//! # Reading
//!
//! [`Reader`] needs no supervisor and never writes. A second writer is kept out by a lock file (see
//! `lock`).
//!
//! # What it costs
//!
//! From [`Writer::append`] to the acknowledgement, one event at a time: median 0.4 to 0.5 ms, 99% within
//! 16 to 18 ms, at most 75 ms; debug build, ext4 on a virtual disk, two processors shared with several
//! compilers (load 12). Measured by the ignored test `append_to_durable_latency`, 5,000 events, twice:
//!
//! ```sh
//! STANCH_BENCH_DIR=FOLDER cargo test --lib append_to_durable -- --ignored --nocapture
//! ```

mod chain;
mod disk;
mod error;
mod evidence;
mod lock;
mod note;
mod place;
mod queue;
mod reader;
mod retire;
mod rows;
mod samples;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod thread;
mod touch;

pub use chain::{Head, hexadecimal};
pub use error::StoreError;
pub use evidence::{Draft, DraftFile, Kept, KeptFile, Locker, Sealed, evidence_folder, kept};
pub use place::{default_path, stores};
pub use queue::{Durable, EVENT_CAPACITY, Health, SAMPLE_CAPACITY, Writer};
pub use reader::{Break, Entry, EventFilter, IncidentFilter, Reader, Verified};
pub use rows::{Found, Vouched};
pub use samples::{Life, StoredSample};
pub use thread::Store;

use std::path::{Path, PathBuf};

/// The path with something appended to the file's name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
