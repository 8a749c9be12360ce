//! The tables, and how a file becomes an open store without harm to files that are not one.
//!
//! Before anything is written to a file it is looked at through a connection that cannot write
//! (`mode=ro`), and where no `-wal` file lies beside it even without locks or side files
//! (`immutable=1`): a store of a newer stanch, a foreign database, or a damaged file stays
//! byte-identical. Paths go to SQLite as `file:` URIs because only those carry `immutable`.

use super::{Head, StoreError, beside, note, shape};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, ffi};
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Entry `n` leads from schema version `n` to `n + 1`. Entries are only ever added.
///
/// `events` is written once and never changed, which its triggers hold against this program's own
/// mistakes (whoever can write the file can drop them: against that there is the chain); all its columns
/// but three are computed from `body`, so that nothing outside the hash can disagree with what is inside. A
/// row of `incidents` may be damaged, so its indexes do without what cannot be parsed. `samples` has no
/// index on time: its rows are in the order of time, which retention relies on.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    INSERT INTO meta VALUES ('schema_version', 0);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        body TEXT NOT NULL,
        hash TEXT NOT NULL,
        at TEXT GENERATED ALWAYS AS (json_extract(body, '$.at')) VIRTUAL,
        kind TEXT GENERATED ALWAYS AS (json_extract(body, '$.kind')) VIRTUAL,
        incident TEXT GENERATED ALWAYS AS (json_extract(body, '$.incident')) VIRTUAL,
        slot INTEGER GENERATED ALWAYS AS (json_extract(body, '$.slot')) VIRTUAL
    );
    CREATE INDEX events_at ON events (at);
    CREATE INDEX events_incident ON events (incident) WHERE incident IS NOT NULL;
    CREATE TABLE incidents (
        id TEXT PRIMARY KEY,
        body TEXT NOT NULL,
        opened_at TEXT GENERATED ALWAYS AS (json_extract(body, '$.opened_at')) VIRTUAL
    );
    CREATE TABLE samples (
        at_ms INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        rss_kib INTEGER, rss_anon_kib INTEGER, rss_file_kib INTEGER, rss_shmem_kib INTEGER,
        vm_swap_kib INTEGER, threads INTEGER, fds INTEGER, processes INTEGER, cpu_ticks INTEGER,
        connections INTEGER, load_rps REAL
    );
    CREATE INDEX samples_worker ON samples (slot, generation);
",
    "
    ALTER TABLE samples RENAME TO samples_1;
    DROP INDEX samples_worker;
    CREATE TABLE lives (
        id INTEGER PRIMARY KEY,
        slot INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        started_ms INTEGER NOT NULL,
        limit_kib INTEGER,
        warm_up_ms INTEGER,
        UNIQUE (slot, generation, started_ms)
    );
    CREATE TABLE samples (
        life INTEGER NOT NULL REFERENCES lives,
        at_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        rss_kib INTEGER, rss_anon_kib INTEGER, rss_file_kib INTEGER, rss_shmem_kib INTEGER,
        vm_swap_kib INTEGER, threads INTEGER, fds INTEGER, processes INTEGER, cpu_ticks INTEGER,
        connections INTEGER, load_rps REAL
    );
    INSERT INTO lives (slot, generation, started_ms)
        SELECT slot, generation, min(at_ms) FROM samples_1 GROUP BY slot, generation;
    -- Beside min() the other columns are those of the row that has it.
    INSERT INTO samples
        SELECT id, at_ms, at_ms + 30 * 86400000, rss_kib, rss_anon_kib, rss_file_kib,
            rss_shmem_kib, vm_swap_kib, threads, fds, processes, cpu_ticks, connections, load_rps
        FROM (
            SELECT *, min(coalesce(
                rss_anon_kib + coalesce(rss_shmem_kib, 0) + coalesce(vm_swap_kib, 0), rss_kib, 0
            )) FROM samples_1 GROUP BY slot, generation, at_ms / 600000
        ) JOIN lives USING (slot, generation)
        ORDER BY at_ms;
    DROP TABLE samples_1;
    CREATE INDEX samples_life ON samples (life);
    CREATE INDEX samples_expires ON samples (expires_ms);
",
    "
    INSERT INTO meta VALUES ('salt', lower(hex(randomblob(16))));
    CREATE INDEX events_retired ON events (seq) WHERE kind = 'events_retired';
    CREATE TRIGGER events_are_appended BEFORE INSERT ON events
    WHEN new.seq <= (SELECT coalesce(max(seq), 0) FROM events)
    BEGIN SELECT raise(ABORT, 'events are only ever appended'); END;
    CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events
    BEGIN SELECT raise(ABORT, 'an event is never changed'); END;
    CREATE TRIGGER events_go_when_a_later_one_says_so BEFORE DELETE ON events
    WHEN old.seq > (
        SELECT coalesce(max(json_extract(body, '$.figures.last_seq')), 0) FROM events
        WHERE kind = 'events_retired'
    )
    BEGIN SELECT raise(ABORT, 'an event goes only after an events_retired that names it'); END;
",
    "
    CREATE INDEX events_worker_started ON events (seq) WHERE kind = 'worker_started';
    CREATE INDEX incidents_opened_at ON incidents
        (CASE WHEN json_valid(body) THEN json_extract(body, '$.opened_at') END);
    CREATE INDEX incidents_unresolved ON incidents (id)
        WHERE CASE WHEN json_valid(body) THEN json_extract(body, '$.state') END <> 'resolved';
",
];

/// When an incident was opened, of a row that can be read. As it stands in its index.
pub(super) const OPENED_AT: &str =
    "CASE WHEN json_valid(body) THEN json_extract(body, '$.opened_at') END";

/// Where an incident stands, of a row that can be read. As it stands in its index.
pub(super) const STATE: &str = "CASE WHEN json_valid(body) THEN json_extract(body, '$.state') END";

/// The newest schema version that this program knows.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// How long to wait for another process's lock: a reader that recovers the log of a killed writer,
/// a person with a database shell.
const BUSY: Duration = Duration::from_secs(1);
/// Pages that SQLite keeps, a quarter of its default: it appends, and the kernel has the rest.
const CACHE_KIB: i64 = 512;
/// A checkpoint cuts the `-wal` file back to this.
const WAL_LIMIT_BYTES: i64 = 16 * 1024 * 1024;

/// Opens the store for writing, made or brought to [`VERSION`] where needed; with what of its indexes and
/// triggers was not as it should be, in words, and is now. The caller holds the lock of the store.
pub(super) fn open_for_writing(path: &Path) -> Result<(Connection, Option<String>), StoreError> {
    look(path)?;
    let open = |source| refine(path, source, |path, source| StoreError::Open { path, source });
    // SQLite would make it readable to all.
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => {
            return Err(StoreError::Create { path: path.into(), source });
        }
        _ => {}
    }
    let mut connection = connect(path, "rw").map_err(open)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(open)?;
    // An event is durable when its commit returns, not when the next checkpoint does.
    connection.pragma_update(None, "synchronous", "FULL").map_err(open)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(open)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT_BYTES).map_err(open)?;
    let migrated = migrate(&mut connection).map_err(|source| {
        refine(path, source, |path, source| StoreError::Migrate { path, to: VERSION, source })
    })?;
    Ok((connection, migrated))
}

/// Opens the store for reading only; a writer may be at work. Where the folder cannot be written
/// SQLite cannot make the index (`-shm`) that it shares with a writer; if no `-wal` file lies there
/// either, nobody writes and the file is read as it is (`immutable=1`).
pub(super) fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    // Never by opening the file: closing it would drop the locks that another connection of this
    // process has on it (POSIX record locks; see "How To Corrupt An SQLite Database File", 2.2).
    access(path, AccessFlags::R_OK).map_err(|errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => StoreError::Missing { path: path.into() },
        errno => StoreError::Look { path: path.into(), source: errno.into() },
    })?;
    if path.is_dir() {
        return Err(StoreError::NotAStore { path: path.into() });
    }
    let shared = connect(path, "ro").and_then(|c| version(&c).map(|version| (c, version)));
    let (connection, version) = match shared {
        Err(error) if cannot_share(&error) => {
            if unsettled(path) {
                return Err(StoreError::Unsettled { path: path.into(), source: error });
            }
            connect(path, "ro&immutable=1").and_then(|c| version(&c).map(|version| (c, version)))
        }
        outcome => outcome,
    }
    .map_err(|source| refine(path, source, |path, source| StoreError::Open { path, source }))?;
    judge(path, version)?;
    Ok(connection)
}

/// Reads the whole file, through a connection that knows nothing of it yet: whether it is a store without
/// damage, and has this event. No file is no damage.
pub(super) fn probe(path: &Path, head: Option<&Head>) -> Result<(), StoreError> {
    let connection = match open_for_reading(path) {
        Err(StoreError::Missing { .. } | StoreError::Unbegun { .. }) if head.is_none() => {
            return Ok(());
        }
        opened => opened?,
    };
    let failed = |source| refine(path, source, |path, source| StoreError::Read { path, source });
    let said: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if said != "ok" {
        return Err(failed(corrupt(said)));
    }
    let Some(head) = head.filter(|head| head.seq > 0) else { return Ok(()) };
    match hash_of(&connection, head.seq).map_err(failed)? {
        Some(hash) if hash == head.hash => Ok(()),
        _ => Err(StoreError::Replaced { path: path.into() }),
    }
}

/// The hash of an event, if it is there.
pub(super) fn hash_of(connection: &Connection, seq: u64) -> rusqlite::Result<Option<String>> {
    let query = "SELECT hash FROM events WHERE seq = ?1";
    connection.query_row(query, [seq.cast_signed()], |row| row.get(0)).optional()
}

/// Refuses a file that this program must not write, without touching it.
fn look(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(file) if file.len() > 0 || unsettled(path) => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(StoreError::Look { path: path.into(), source }),
    }
    let mode = if unsettled(path) { "ro" } else { "ro&immutable=1" };
    let found = connect(path, mode)
        .and_then(|connection| version(&connection))
        .map_err(|source| refine(path, source, |path, source| StoreError::Open { path, source }))?;
    match judge(path, found) {
        // A stanch that was killed between the creation of the file and that of its tables.
        Err(StoreError::Unbegun { .. }) => Ok(()),
        // All of it was in the `-wal` file; without one there is nothing to be kept as evidence.
        Err(StoreError::Emptied { .. }) if !unsettled(path) => Ok(()),
        judged => judged,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Version {
    /// A database without tables.
    Empty,
    /// A database of something else.
    Foreign,
    /// A store.
    Schema(i64),
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<Version> {
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    if count("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(Version::Empty);
    }
    if count("SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'events')")? < 2 {
        return Ok(Version::Foreign);
    }
    let version = connection
        .query_row("SELECT value FROM meta WHERE key = 'schema_version'", [], |row| row.get(0))
        .optional()?;
    Ok(version.map_or(Version::Foreign, Version::Schema))
}

fn judge(path: &Path, found: Version) -> Result<(), StoreError> {
    match found {
        Version::Schema(version) if version <= VERSION => Ok(()),
        Version::Schema(found) => {
            Err(StoreError::Newer { path: path.into(), found, known: VERSION })
        }
        Version::Empty => Err(match note::noted(path) {
            Some(Head { seq, .. }) => StoreError::Emptied { path: path.into(), seq },
            None => StoreError::Unbegun { path: path.into() },
        }),
        Version::Foreign => Err(StoreError::NotAStore { path: path.into() }),
    }
}

/// Gives what of its schema was not as it should be.
fn migrate(connection: &mut Connection) -> rusqlite::Result<Option<String>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = match version(&transaction)? {
        Version::Schema(version) => version,
        Version::Empty | Version::Foreign => 0,
    };
    let mended = shape::mend(&transaction, found)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    if found < VERSION {
        transaction
            .execute("UPDATE meta SET value = ?1 WHERE key = 'schema_version'", [VERSION])?;
    }
    transaction.commit()?;
    Ok(mended)
}

/// Whether commits may lie in the `-wal` file that are not in the store itself.
fn unsettled(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).is_ok_and(|file| file.len() > 0)
}

/// Opens the file; `mode` is the value of SQLite's `mode` URI parameter, and more parameters.
fn connect(path: &Path, mode: &str) -> rusqlite::Result<Connection> {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                uri.push(byte.into());
            }
            // Writing to a string cannot fail.
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    let _ = write!(uri, "?mode={mode}");
    // The flags only bound what `mode` may ask for; each connection stays in one thread.
    let access = if mode.starts_with("ro") {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let flags = access | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Whether SQLite could not make or use the files that readers and writers share.
fn cannot_share(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure)
    )
}

/// An error about the file's content is that, whatever was being done.
pub(super) fn refine(
    path: &Path,
    source: rusqlite::Error,
    otherwise: impl FnOnce(std::path::PathBuf, rusqlite::Error) -> StoreError,
) -> StoreError {
    if is_damage(&source) {
        StoreError::Damaged { path: path.into(), source }
    } else {
        otherwise(path.into(), source)
    }
}

/// Damage that SQLite did not find by itself.
pub(super) fn corrupt(what: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(what))
}

/// Whether SQLite says that the file's content is broken.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        // The number of the schema's format in the header, 1 to 4. SQLite has no code for it.
        rusqlite::Error::SqliteFailure(_, Some(text)) if text == "unsupported file format" => true,
        _ => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}

/// Makes a store as version 1 was.
#[cfg(test)]
pub(super) fn version_1(path: &Path) {
    let connection = Connection::open(path).expect("can be made");
    connection.execute_batch(MIGRATIONS[0]).expect("is SQL");
    connection.execute("UPDATE meta SET value = 1", []).expect("is SQL");
}
