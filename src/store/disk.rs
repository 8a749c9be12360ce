//! The open store, as its thread writes it.

use super::chain::Link;
use super::lock::Lock;
use super::note::{self, Note};
use super::retire::{self, Segment};
use super::rows::FORGET;
use super::samples::{Keeper, Life, Row, SAMPLE_ROWS, StoredSample};
use super::schema::{hash_of, open_for_writing, probe, refine};
use super::touch::{Files, Touched};
use super::{Head, StoreError};
use crate::core::WorkerId;
use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, HashMap};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Old rows deleted in one go, so that an event never waits long behind it.
const PRUNE_ROWS: i64 = 20_000;
/// From one look into a file that somebody else writes to the next: it reads all of it.
const PROBE_PAUSE: Duration = Duration::from_secs(60);

/// Field order matters: the connection is closed before the lock is let go.
#[derive(Debug)]
pub(super) struct Disk {
    connection: Connection,
    _lock: Lock,
    path: PathBuf,
    /// As this process left them.
    files: Files,
    /// Another program wrote to them since they were probed.
    suspect: bool,
    probed: Option<Instant>,
    /// Somebody else's work is in it, and it is no whole store any more.
    spoilt: bool,
    /// What of it is not as it was written, in words, until it is told.
    altered: Option<String>,
    note: Note,
    /// The last event. Kept here and not read again: who cuts the log while it is written leaves a
    /// gap that shows.
    head: Head,
    retention: Duration,
    keeper: Keeper,
    /// The rows of `lives` that were written or found.
    lives: HashMap<(WorkerId, Timestamp), i64>,
}

impl Disk {
    /// Opens or creates the store, with its folder where that is missing. Events and samples are kept
    /// for `retention`.
    pub fn open(path: &Path, retention: Duration) -> Result<Disk, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(|source| StoreError::Create { path: folder.into(), source })?;
        }
        let lock = Lock::take(path)?;
        let (connection, mended) = open_for_writing(path)?;
        let failed =
            |source| refine(path, source, |path, source| StoreError::Read { path, source });
        let head = connection
            .query_row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
                Ok(Head { seq: row.get::<_, i64>(0)?.unsigned_abs(), hash: row.get(1)? })
            })
            .optional()
            .map_err(failed)?
            .unwrap_or_default();
        let short = short_of_note(&connection, path, &head).map_err(failed)?;
        let mended = mended.map(|what| {
            format!("{what}: put right, but what was written before may not be as it was meant")
        });
        let altered: Vec<_> = [mended, short].into_iter().flatten().collect();
        Ok(Disk {
            connection,
            _lock: lock,
            path: path.into(),
            files: Files::of(path),
            suspect: false,
            probed: None,
            spoilt: false,
            altered: (!altered.is_empty()).then(|| altered.join("; ")),
            note: Note::of(path),
            head,
            retention,
            keeper: Keeper::new(retention),
            lives: HashMap::new(),
        })
    }

    /// The last event in the store.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What of the store turned out not to be as it was written, in words; each time it is told once.
    pub fn altered(&mut self) -> Option<String> {
        self.altered.take()
    }

    /// Whether the file is not to be opened again as it is now.
    pub fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    /// Looks whether another program has touched the files. One that was only written to is read, to know
    /// whether it is a whole store with our last event in it; what is not is left as it is.
    pub fn look(&mut self) -> Result<(), StoreError> {
        match self.files.touched() {
            Touched::No => {}
            // A file that was removed while it was open can still be written, into nowhere.
            Touched::Replaced(path) => return Err(StoreError::Replaced { path }),
            Touched::Written(now) => {
                self.files = now;
                self.suspect = true;
            }
        }
        let lately = self.probed.is_some_and(|probed| probed.elapsed() < PROBE_PAUSE);
        if !self.suspect || lately {
            return Ok(());
        }
        if let Err(error) = probe(&self.path, Some(&self.head)) {
            // Not even what is in the `-wal` file goes into it when it is closed.
            let closing = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = self.connection.set_db_config(closing, true);
            self.spoilt = !matches!(error, StoreError::Replaced { .. });
            return Err(error);
        }
        self.suspect = false;
        if self.probed.replace(Instant::now()).is_none() {
            self.altered = Some(format!(
                "another program wrote into {} while stanch had it open; it is whole, and `stanch \
                 incidents verify` tells whether it says what it said",
                self.path.display()
            ));
        }
        Ok(())
    }

    /// Brings what is in the `-wal` file into the store, so that the log does not lie in that alone.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        self.look()?;
        // A reader that holds it up is no failure, the next one comes soon.
        let outcome = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        self.files.follow();
        let failed = |path, source| StoreError::Write { path, source };
        outcome.map_err(|source| refine(&self.path, source, failed))
    }

    /// Writes events, and the rows of their incidents, in one durable transaction. After an error nobody
    /// can know whether it took place: the caller closes and reopens, and compares heads.
    pub fn write(&mut self, links: &[Link]) -> Result<(), StoreError> {
        self.transaction(|transaction| {
            insert(transaction, links)?;
            let mut put = transaction.prepare_cached(
                "INSERT INTO incidents (id, body) VALUES (?1, ?2)
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            )?;
            let last: BTreeMap<_, _> = links
                .iter()
                .filter_map(|link| link.row.as_ref())
                .map(|(id, row)| (id, row))
                .collect();
            for (id, row) in last {
                put.execute(params![id.0, row])?;
            }
            Ok(())
        })?;
        if let Some(link) = links.last() {
            self.go_on_from(link.head.clone());
        }
        Ok(())
    }

    /// This is the last event, and it is on disk.
    fn go_on_from(&mut self, head: Head) {
        self.note.write(&head);
        self.head = head;
    }

    /// Writes samples.
    pub fn write_samples<'a>(
        &mut self,
        samples: impl Iterator<Item = &'a StoredSample>,
    ) -> Result<(), StoreError> {
        self.look()?;
        let (mut lives, keeper) = (std::mem::take(&mut self.lives), &mut self.keeper);
        let outcome = transaction(&mut self.connection, &self.path, |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO samples VALUES
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?;
            let mut expire = transaction
                .prepare_cached("UPDATE samples SET expires_ms = ?2 WHERE rowid = ?1")?;
            let newest: i64 = transaction
                .prepare_cached("SELECT coalesce(max(rowid), 0) FROM samples")?
                .query_row([], |row| row.get(0))?;
            for (stored, rowid) in samples.zip(newest + 1..) {
                let StoredSample { life, at, sample } = stored;
                let id = match lives.get(&(life.worker, life.started)) {
                    Some(id) => *id,
                    None => write_life(transaction, life)?,
                };
                lives.insert((life.worker, life.started), id);
                let (expires, displaced) = keeper.place(Row { rowid, at: *at }, stored);
                insert.execute(params![
                    id,
                    at.as_millisecond(),
                    expires.as_millisecond(),
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
                for (row, expires) in displaced {
                    expire.execute([row.rowid, expires.as_millisecond()])?;
                }
            }
            Ok(())
        });
        self.lives = lives;
        self.files.follow();
        outcome
    }

    /// Keeps all recent samples of a worker that has an event in an incident, and those of the next
    /// minutes.
    pub fn keep_samples(&mut self, worker: WorkerId, at: Timestamp) -> Result<(), StoreError> {
        let (since, until) = self.keeper.keep(worker, at);
        self.transaction(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE samples SET expires_ms = max(expires_ms, ?4)
                     WHERE life = (SELECT max(id) FROM lives WHERE slot = ?1 AND generation = ?2)
                     AND at_ms >= ?3",
                )?
                .execute(params![
                    worker.slot.0,
                    worker.generation.0.cast_signed(),
                    since.as_millisecond(),
                    until.as_millisecond(),
                ])?;
            Ok(())
        })
    }

    /// Says in the log which events are older than the retention, see `retire`; [`Disk::prune`] deletes
    /// them. With them go the incidents of which no other event is left.
    pub fn retire(&mut self, now: Timestamp) -> Result<Option<Segment>, StoreError> {
        let cutoff = retire::cutoff(now, self.retention);
        let (head, retention) = (self.head.clone(), self.retention);
        let mut written = None;
        self.transaction(|transaction| {
            let Some(segment) = retire::due(transaction, cutoff)? else { return Ok(()) };
            let links = head.extend([segment.record(now, retention)].iter());
            insert(transaction, &links)?;
            transaction.execute(FORGET, [segment.last.seq.cast_signed()])?;
            written = links.last().map(|link| (link.head.clone(), segment));
            Ok(())
        })?;
        Ok(written.map(|(head, segment)| {
            self.go_on_from(head);
            segment
        }))
    }

    /// Deletes events that are retired and samples whose time is over, and of too many samples those
    /// whose time is over next; not all at once, true if there may be more.
    pub fn prune(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let mut deleted = 0;
        let mut retired = 0;
        self.transaction(|transaction| {
            if let Some(last) = retire::retired(transaction)? {
                retired = transaction
                    .prepare_cached(
                        "DELETE FROM events WHERE seq IN
                         (SELECT seq FROM events WHERE seq <= ?1 ORDER BY seq LIMIT ?2)",
                    )?
                    .execute([last.seq.cast_signed(), PRUNE_ROWS])?;
            }
            let count: i64 = transaction
                .prepare_cached("SELECT count(*) FROM samples")?
                .query_row([], |row| row.get(0))?;
            let over = (count - SAMPLE_ROWS).clamp(0, PRUNE_ROWS);
            deleted = transaction
                .prepare_cached(
                    "DELETE FROM samples WHERE rowid IN
                     (SELECT rowid FROM samples WHERE expires_ms <= ?1
                      ORDER BY expires_ms LIMIT ?2)",
                )?
                .execute([now.as_millisecond(), PRUNE_ROWS])?;
            deleted = deleted.max(
                transaction
                    .prepare_cached(
                        "DELETE FROM samples WHERE rowid IN
                         (SELECT rowid FROM samples ORDER BY expires_ms LIMIT ?1)",
                    )?
                    .execute([over - (deleted as i64).min(over)])?,
            );
            transaction
                .prepare_cached(
                    "DELETE FROM lives WHERE NOT EXISTS
                     (SELECT 1 FROM samples WHERE samples.life = lives.id)",
                )?
                .execute([])?;
            Ok(())
        })?;
        let more = deleted.max(retired) as i64 == PRUNE_ROWS;
        // A life that goes on is written again.
        self.lives.clear();
        if !more {
            self.keeper.forget();
        }
        Ok(more)
    }

    fn transaction(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        self.look()?;
        let outcome = transaction(&mut self.connection, &self.path, work);
        self.files.follow();
        outcome
    }
}

fn transaction(
    connection: &mut Connection,
    path: &Path,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> Result<(), StoreError> {
    let outcome = connection.transaction().and_then(|transaction| {
        work(&transaction)?;
        transaction.commit()
    });
    outcome
        .map_err(|source| refine(path, source, |path, source| StoreError::Write { path, source }))
}

fn insert(transaction: &Transaction<'_>, links: &[Link]) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT INTO events (seq, body, hash) VALUES (?1, ?2, ?3)")?;
    for link in links {
        insert.execute(params![link.head.seq.cast_signed(), link.body, link.head.hash])?;
    }
    Ok(())
}

/// The row of a life, written if it is not there.
fn write_life(transaction: &Transaction<'_>, life: &Life) -> rusqlite::Result<i64> {
    let Life { worker, started, limit_kib, warm_up } = life;
    let (slot, generation) = (worker.slot.0, worker.generation.0.cast_signed());
    let started_ms = started.as_millisecond();
    transaction
        .prepare_cached(
            "INSERT INTO lives (slot, generation, started_ms, limit_kib, warm_up_ms)
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            slot,
            generation,
            started_ms,
            whole(*limit_kib),
            i64::try_from(warm_up.as_millis()).ok(),
        ])?;
    transaction
        .prepare_cached(
            "SELECT id FROM lives WHERE slot = ?1 AND generation = ?2 AND started_ms = ?3",
        )?
        .query_row(params![slot, generation, started_ms], |row| row.get(0))
}

/// A figure beyond 2^63 is no measurement; unknown is the honest word for it.
fn whole(figure: Option<u64>) -> Option<i64> {
    figure.and_then(|figure| i64::try_from(figure).ok())
}

/// What the log lacks of what was noted beside it, in words.
fn short_of_note(
    connection: &Connection,
    path: &Path,
    head: &Head,
) -> rusqlite::Result<Option<String>> {
    let Some(noted) = note::noted(path) else { return Ok(None) };
    let found = hash_of(connection, noted.seq)?;
    let (noted, place) = (&noted, note::place(path));
    Ok(match found {
        Some(hash) if hash == noted.hash => None,
        Some(_) => Some(format!(
            "event {} is not the one that stanch wrote, whose hash is {} ({}): the log was replaced, or \
             computed anew",
            noted.seq,
            noted.hash,
            place.display()
        )),
        // Events that are past their time are gone by right.
        None if noted.seq <= head.seq => None,
        None => Some(format!(
            "the log ended after event {}, and stanch had written {}, with the hash {} ({}): what was \
             between is lost",
            head.seq,
            noted.seq,
            noted.hash,
            place.display()
        )),
    })
}
