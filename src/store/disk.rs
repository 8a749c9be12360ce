//! The open store, as its thread writes it.

use super::chain::Link;
use super::lock::Lock;
use super::queue::StoredSample;
use super::schema::{open_for_writing, refine};
use super::{Head, StoreError};
use crate::core::Incident;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Old samples deleted in one go, so that an event never waits long behind it.
const PRUNE_ROWS: i64 = 20_000;

/// Field order matters: the connection is closed before the lock is let go.
#[derive(Debug)]
pub(super) struct Disk {
    connection: Connection,
    _lock: Lock,
    path: PathBuf,
    /// Device and inode of the file that is open.
    identity: (u64, u64),
    /// The last event. Kept here and not read again: who cuts the log while it is written leaves a
    /// gap that shows.
    head: Head,
}

impl Disk {
    /// Opens or creates the store, with its folder where that is missing.
    pub fn open(path: &Path) -> Result<Disk, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(|source| StoreError::Create { path: folder.into(), source })?;
        }
        let lock = Lock::take(path)?;
        let connection = open_for_writing(path)?;
        let identity = identity(path).ok_or_else(|| StoreError::Replaced { path: path.into() })?;
        let head = connection
            .query_row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok(Head { seq: row.get::<_, i64>(0)?.unsigned_abs(), hash: row.get(1)? })
            })
            .optional()
            .map_err(|source| {
                refine(path, source, |path, source| StoreError::Read { path, source })
            })?
            .unwrap_or_default();
        Ok(Disk { connection, _lock: lock, path: path.into(), identity, head })
    }

    /// The last event in the store.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Writes events and incidents in one durable transaction. After an error nobody can know
    /// whether it took place: the caller closes and reopens, and compares heads.
    pub fn write<'a>(
        &mut self,
        links: &[Link],
        incidents: impl Iterator<Item = &'a Incident>,
    ) -> Result<(), StoreError> {
        self.transaction(|transaction| {
            let mut insert = transaction
                .prepare_cached("INSERT INTO events (seq, body, hash) VALUES (?1, ?2, ?3)")?;
            for link in links {
                insert.execute(params![link.head.seq.cast_signed(), link.body, link.head.hash])?;
            }
            let mut put = transaction.prepare_cached(
                "INSERT INTO incidents (id, body) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            )?;
            for incident in incidents {
                let body = serde_json::to_string(incident)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                put.execute(params![incident.id.0, body])?;
            }
            Ok(())
        })?;
        if let Some(link) = links.last() {
            self.head = link.head.clone();
        }
        Ok(())
    }

    /// Writes samples.
    pub fn write_samples<'a>(
        &mut self,
        samples: impl Iterator<Item = &'a StoredSample>,
    ) -> Result<(), StoreError> {
        // A figure beyond 2^63 is no measurement; unknown is the honest word for it.
        let whole = |figure: Option<u64>| figure.and_then(|figure| i64::try_from(figure).ok());
        self.transaction(|transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO samples VALUES
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?;
            for StoredSample { worker, at, sample } in samples {
                insert.execute(params![
                    at.as_millisecond(),
                    worker.slot.0,
                    worker.generation.0.cast_signed(),
                    whole(sample.rss_kib),
                    whole(sample.rss_anon_kib),
                    whole(sample.rss_file_kib),
                    whole(sample.rss_shmem_kib),
                    whole(sample.vm_swap_kib),
                    whole(sample.threads),
                    whole(sample.fds),
                    whole(sample.processes),
                    whole(sample.cpu_ticks),
                    whole(sample.connections),
                    sample.load_rps,
                ])?;
            }
            Ok(())
        })
    }

    /// Deletes samples that were taken before `oldest`, the oldest first and not all at once; true
    /// if there may be more. Samples lie in the order they were taken in, so only the first rows
    /// are looked at.
    pub fn prune(&mut self, oldest: Timestamp) -> Result<bool, StoreError> {
        let mut deleted = 0;
        self.transaction(|transaction| {
            deleted = transaction
                .prepare_cached(
                    "DELETE FROM samples WHERE at_ms < ?1
                     AND rowid IN (SELECT rowid FROM samples ORDER BY rowid LIMIT ?2)",
                )?
                .execute([oldest.as_millisecond(), PRUNE_ROWS])?;
            Ok(())
        })?;
        Ok(deleted as i64 == PRUNE_ROWS)
    }

    fn transaction(
        &mut self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        // A file that was removed while it was open can still be written, into nowhere.
        if identity(&self.path) != Some(self.identity) {
            return Err(StoreError::Replaced { path: self.path.clone() });
        }
        let outcome = self.connection.transaction().and_then(|transaction| {
            work(&transaction)?;
            transaction.commit()
        });
        outcome.map_err(|source| {
            refine(&self.path, source, |path, source| StoreError::Write { path, source })
        })
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}
