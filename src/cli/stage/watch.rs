//! Looks at a running supervisor as anybody could: its control socket and its audit store.

use super::Folder;
use crate::cli::client::call;
use crate::core::Record;
use crate::core::words::chain;
use crate::store::{EventFilter, Reader, StoreError};
use crate::wire::Status;
use std::path::PathBuf;

/// Remembers what it has seen.
pub struct Watcher {
    socket: PathBuf,
    store: PathBuf,
    reader: Option<Reader>,
    last_seq: u64,
}

/// What one look found; `None` where the supervisor is not there yet, or too busy to answer.
#[derive(Default)]
pub struct Look {
    /// The state of everything.
    pub status: Option<Status>,
    /// Events that came since the last look, oldest first.
    pub events: Vec<Record>,
    /// What could not be seen, in words.
    pub trouble: Option<String>,
}

impl Watcher {
    /// Looks at the supervisor of this stage.
    pub fn new(folder: &Folder) -> Self {
        Self { socket: folder.socket(), store: folder.store(), reader: None, last_seq: 0 }
    }

    /// One look. It waits for the disk and for the supervisor's answer, away from the threads that carry the
    /// load.
    pub fn look(&mut self) -> Look {
        tokio::task::block_in_place(|| self.see())
    }

    fn see(&mut self) -> Look {
        let mut look = Look::default();
        match call::status(&self.socket) {
            Ok(status) => look.status = Some(status),
            Err(error) => look.trouble = Some(error.to_string()),
        }
        if let Err(error) = self.read(&mut look.events) {
            look.trouble = Some(chain(&error));
        }
        look
    }

    fn read(&mut self, events: &mut Vec<Record>) -> Result<(), StoreError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Reader::open(&self.store)?),
        };
        // There are a few hundred; reading them all needs no clock and misses none.
        reader.events(&EventFilter::default(), |entry| {
            if entry.seq > self.last_seq {
                self.last_seq = entry.seq;
                // This very program wrote it.
                events.extend(entry.record());
            }
            Ok(())
        })
    }
}
