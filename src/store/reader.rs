//! Reads a store, whether or not a supervisor is writing it.

use super::StoreError;
use super::chain::Head;
use super::note;
use super::retire::retired;
use super::rows::Vouched;
use super::samples::{Life, StoredSample};
use super::schema::{Version, is_damage, open_for_reading, refine, version};
use super::shape;
use super::touch::Files;
use crate::core::{IncidentId, Kind, Record, Sample, Slot, WorkerId};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A store, open for reading. Every call sees one consistent state.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    files: Files,
}

/// An event as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub seq: u64,
    /// Its JSON object, byte for byte what was hashed.
    pub body: String,
    /// 64 hexadecimal digits.
    pub hash: String,
}

impl Entry {
    /// The JSON object with `hash` as its last key.
    pub fn json(&self) -> String {
        match self.body.strip_suffix('}') {
            Some(open) => format!("{open},\"hash\":\"{}\"}}", self.hash),
            // Only a forged body; it must still be seen.
            None => self.body.clone(),
        }
    }

    /// What was recorded; an error if this program does not know the kind, or the body was forged.
    pub fn record(&self) -> Result<Record, serde_json::Error> {
        serde_json::from_str(&self.body)
    }
}

/// Which events; the default is all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this incident only.
    pub incident: Option<IncidentId>,
    /// Of this kind only.
    pub kind: Option<Kind>,
    /// Of this slot only.
    pub slot: Option<Slot>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Not after this time.
    pub until: Option<Timestamp>,
    /// With a higher number.
    pub after: Option<u64>,
    /// Only so many, the newest.
    pub last: Option<u32>,
}

/// Which incidents; the default is all.
#[derive(Clone, Debug, Default)]
pub struct IncidentFilter {
    /// Opened not before this time.
    pub since: Option<Timestamp>,
    /// Only so many, the newest.
    pub last: Option<u32>,
    /// Only those that are not over.
    pub unresolved: bool,
}

/// An unbroken chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many events it has.
    pub events: u64,
    /// How far it vouches for the table of incidents.
    pub vouched: Vouched,
    /// Events that say themselves that the store was not as it was written (`store_altered`).
    pub altered: u64,
    /// Its end.
    pub head: Head,
}

/// The first place where the store is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// The event that is changed or missing, or with which `incident` was written.
    pub seq: Option<u64>,
    /// The chain is whole, and this incident's row is not as it says.
    pub incident: Option<IncidentId>,
    /// What is wrong, a sentence for people.
    pub why: String,
}

impl Reader {
    /// Opens the store at `path`. It is not created, changed, or locked against its writer; SQLite
    /// may leave an empty `-wal` and a `-shm` file beside it, which the next writer takes away.
    pub fn open(path: &Path) -> Result<Reader, StoreError> {
        let files = Files::of(path);
        Ok(Reader { connection: open_for_reading(path)?, path: path.into(), files })
    }

    /// Whether its file has been removed or replaced since, so that nothing new can come of it.
    pub fn is_replaced(&self) -> bool {
        self.files.is_replaced()
    }

    /// Hands the events to `visit`, oldest first, until it fails.
    pub fn events<E: From<StoreError>>(
        &self,
        filter: &EventFilter,
        mut visit: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut query = Query::new("SELECT seq, body, hash FROM events");
        query.restrict("incident = ?", filter.incident.as_ref().map(|id| id.0.clone()));
        if let Some(kind) = filter.kind {
            // Written out, so that an index of events of one kind can serve.
            query.demand(&format!("kind = '{kind}'"));
        }
        query.restrict("slot = ?", filter.slot.map(|slot| i64::from(slot.0)));
        // The order is that of `seq`, which is not that of time where a clock was set back; the ends of
        // the stretch are found apart. The plus has the first one found by the index on time: for the
        // least number alone SQLite would walk the log from its beginning.
        query.restrict(
            "at >= ? AND seq >= (SELECT min(+seq) FROM events WHERE at >= ?)",
            filter.since.map(text),
        );
        query.restrict(
            "at <= ? AND seq <= (SELECT max(seq) FROM events WHERE at <= ?)",
            filter.until.map(text),
        );
        let begin = self.begin()?;
        query.restrict("seq > ?", Some(begin.max(filter.after.unwrap_or(0)).cast_signed()));
        self.each(query.oldest_first("seq", filter.last), |row| visit(self.read(entry(row))?))
    }

    /// Hands the events to `visit`, newest first, until it has enough.
    pub fn newest_first(
        &self,
        mut visit: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let begin = self.begin()?;
        let query = "SELECT seq, body, hash FROM events WHERE seq > ?1 ORDER BY seq DESC";
        let mut statement = self.read(self.connection.prepare(query))?;
        let mut rows = self.read(statement.query([begin.cast_signed()]))?;
        while let Some(row) = self.read(rows.next())? {
            if visit(self.read(entry(row))?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The last event that was retired. What comes before is none any more: it may be there for a while, but
    /// the chain does not cover it.
    fn begin(&self) -> Result<u64, StoreError> {
        Ok(self.read(retired(&self.connection))?.unwrap_or_default().seq)
    }

    /// The last event; the default [`Head`] if there is none.
    pub fn head(&self) -> Result<Head, StoreError> {
        let mut head = Head::default();
        let query = Query::new("SELECT seq, body, hash FROM events").oldest_first("seq", Some(1));
        self.each(query, |row| {
            let Entry { seq, hash, .. } = self.read(entry(row))?;
            head = Head { seq, hash };
            Ok::<(), StoreError>(())
        })?;
        Ok(head)
    }

    /// A random number of this store, 32 hexadecimal digits; `None` in one of an older version.
    pub fn salt(&self) -> Result<Option<String>, StoreError> {
        let query = "SELECT value FROM meta WHERE key = 'salt'";
        self.read(self.connection.query_row(query, [], |row| row.get(0)).optional())
    }

    /// Walks the whole chain, from the last event that retention removed, and compares the table of
    /// incidents with it (see `rows`). `head` is the hash of some event, noted earlier outside the store:
    /// if it is not in the chain, the tail was cut or the chain computed anew. The head that stanch notes
    /// beside the store is looked for in the same way (see `note`). Then the tables, indexes and triggers are
    /// compared with those that stanch makes (see `shape`), and SQLite compares the indexes with the tables: an
    /// event that an index lacks is in the chain, and no question by that index finds it.
    ///
    /// The error is for a store that cannot be read at all; a damaged page is a break.
    pub fn verify(&self, head: Option<&str>) -> Result<Result<Verified, Break>, StoreError> {
        // Before the log is looked at, which only grows.
        let noted = note::noted(&self.path);
        // One state of the store for all.
        let _snapshot = self.read(self.connection.unchecked_transaction())?;
        let (begin, verified) = match self.walk(head, noted.as_ref())? {
            Ok(walked) => walked,
            Err(broken) => return Ok(Err(broken)),
        };
        if let Some(broken) = self.read(self.shape())? {
            return Ok(Err(broken));
        }
        // Before the table of incidents, which is compared by means of an index of this one.
        if let Some(broken) = self.integrity("events") {
            return Ok(Err(broken));
        }
        let vouched = match self.vouch(begin)? {
            Ok(vouched) => vouched,
            Err(broken) => return Ok(Err(broken)),
        };
        let others = ["incidents", "lives", "samples", "meta"];
        let broken = others.into_iter().find_map(|table| self.integrity(table));
        Ok(broken.map_or(Ok(Verified { vouched, ..verified }), Err))
    }

    /// What is not as stanch makes it.
    fn shape(&self) -> rusqlite::Result<Option<Break>> {
        let Version::Schema(version) = version(&self.connection)? else { return Ok(None) };
        let faults = shape::faults(&self.connection, version)?;
        let words: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Ok((!words.is_empty()).then(|| Break {
            seq: None,
            incident: None,
            why: format!(
                "{}: the events are whole, but questions may not find what they say, and what is written \
                 may be changed on its way; the next `stanch run` puts indexes and triggers right",
                words.join(", ")
            ),
        }))
    }

    /// What SQLite finds wrong with a table, its indexes included.
    fn integrity(&self, table: &str) -> Option<Break> {
        let check = format!("PRAGMA integrity_check({table})");
        let said: rusqlite::Result<String> =
            self.connection.query_row(&check, [], |row| row.get(0));
        let what = match said {
            Ok(said) if said == "ok" => return None,
            Ok(said) => said,
            // A store of an earlier stanch has not all of them.
            Err(error) if error.to_string().contains("no such table") => return None,
            Err(error) => error.to_string(),
        };
        let remedy = "the events are whole, but questions may not find all of them; with stanch stopped, \
                      `sqlite3 STORE REINDEX` makes indexes anew";
        Some(Break {
            seq: None,
            incident: None,
            why: format!("the file is damaged beside the chain: {}: {remedy}", what.trim()),
        })
    }

    /// Gives the last event that retention removed, and what follows.
    fn walk(
        &self,
        head: Option<&str>,
        noted: Option<&Head>,
    ) -> Result<Result<(u64, Verified), Break>, StoreError> {
        let mut end = Head::default();
        let (mut begin, mut walked, mut altered) = (0, 0, 0);
        let note = note::place(&self.path);
        let mut head_seen = head.is_none();
        let at = |seq, why| Break { seq: Some(seq), incident: None, why };
        let outcome = (|| {
            end = retired(&self.connection)?.unwrap_or_default();
            begin = end.seq;
            let first = "SELECT min(seq) FROM events";
            let first: Option<i64> = self.connection.query_row(first, [], |row| row.get(0))?;
            if let Some(seq) = first.filter(|seq| *seq < 1) {
                return Ok(Some(at(1, format!("an event {seq} stands before it"))));
            }
            let mut statement = self
                .connection
                .prepare("SELECT seq, body, hash FROM events WHERE seq > ?1 ORDER BY seq")?;
            let mut rows = statement.query([end.seq.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                let expected = end.seq + 1;
                if seq != expected.cast_signed() {
                    let why = format!("event {expected} is missing, event {seq} follows");
                    return Ok(Some(at(expected, why)));
                }
                let (Ok(body), Ok(hash)) = (row.get::<_, String>(1), row.get::<_, String>(2))
                else {
                    let why = "its body or hash is not text".into();
                    return Ok(Some(at(expected, why)));
                };
                let next = end.after(&body);
                if next.hash != hash {
                    let why = format!(
                        "its hash is {hash}, but its body and the event before it give {}: it was changed, or does not belong there",
                        next.hash
                    );
                    return Ok(Some(at(expected, why)));
                }
                if let Some(noted) = noted.filter(|n| n.seq == next.seq && n.hash != hash) {
                    let why = format!(
                        "its hash is {hash}, and stanch noted {} when it was written ({}): the chain was \
                         computed anew from somewhere before",
                        noted.hash,
                        note.display()
                    );
                    return Ok(Some(at(expected, why)));
                }
                head_seen |= head.is_some_and(|head| head.eq_ignore_ascii_case(&hash));
                end = next;
                walked += 1;
                // Quotation marks inside of a text are escaped.
                altered += u64::from(body.contains("\"kind\":\"store_altered\""));
            }
            if let Some(noted) = noted.filter(|noted| noted.seq > end.seq) {
                let why = format!(
                    "the log ends after event {}, and stanch had written up to {} ({}): what followed is \
                     lost, by damage of the file or its -wal, or was cut off",
                    end.seq,
                    noted.seq,
                    note.display()
                );
                return Ok(Some(at(end.seq + 1, why)));
            }
            Ok(None)
        })();
        Ok(match outcome {
            Ok(Some(found)) => Err(found),
            Ok(None) if !head_seen => Err(at(
                end.seq + 1,
                format!(
                    "the chain ends after event {} without the given head: its tail was cut, or it was computed anew{}",
                    end.seq,
                    match begin {
                        0 => String::new(),
                        begin => format!(
                            ", or that head is one of the {begin} oldest events, which are past store.retention"
                        ),
                    }
                ),
            )),
            Ok(None) => {
                let vouched = Vouched::default();
                Ok((begin, Verified { events: walked, vouched, altered, head: end }))
            }
            Err(error) if is_damage(&error) => {
                Err(at(end.seq + 1, format!("the file is damaged: {error}")))
            }
            Err(error) => return self.read(Err(error)),
        })
    }

    /// The lives of workers that samples are kept of, in order of their start.
    pub fn lives(&self) -> Result<Vec<Life>, StoreError> {
        let known = "SELECT count(*) FROM sqlite_schema WHERE name = 'lives'";
        if self.read(self.connection.query_row(known, [], |row| row.get::<_, i64>(0)))? == 0 {
            return Err(StoreError::Older { path: self.path.clone() });
        }
        let mut lives = Vec::new();
        let query =
            Query::new("SELECT slot, generation, started_ms, limit_kib, warm_up_ms, id FROM lives")
                .oldest_first("started_ms, id", None);
        self.each(query, |row| {
            lives.push(self.read(life(row))?);
            Ok::<(), StoreError>(())
        })?;
        Ok(lives)
    }

    /// Hands the samples of a worker to `visit`, oldest first, until it fails.
    pub fn samples<E: From<StoreError>>(
        &self,
        life: &Arc<Life>,
        mut visit: impl FnMut(StoredSample) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut query = Query::new(
            "SELECT at_ms, rss_kib, rss_anon_kib, rss_file_kib, rss_shmem_kib, vm_swap_kib, threads,
             fds, processes, cpu_ticks, connections, load_rps FROM samples JOIN lives ON life = id",
        );
        query.restrict("slot = ?", Some(i64::from(life.worker.slot.0)));
        query.restrict("generation = ?", Some(life.worker.generation.0.cast_signed()));
        query.restrict("started_ms = ?", Some(life.started.as_millisecond()));
        self.each(query.oldest_first("at_ms, samples.rowid", None), |row| {
            visit(self.read(sample(life, row))?)
        })
    }

    pub(super) fn each<E: From<StoreError>>(
        &self,
        query: Query,
        mut visit: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement = self.read(self.connection.prepare(&query.sql))?;
        let mut rows = self.read(statement.query(params_from_iter(query.values)))?;
        while let Some(row) = self.read(rows.next())? {
            visit(row)?;
        }
        Ok(())
    }

    pub(super) fn read<T>(&self, outcome: rusqlite::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|source| {
            refine(&self.path, source, |path, source| StoreError::Read { path, source })
        })
    }
}

/// A `SELECT` under construction.
pub(super) struct Query {
    sql: String,
    values: Vec<Value>,
    restricted: bool,
}

impl Query {
    pub fn new(sql: &str) -> Query {
        Query { sql: sql.into(), values: Vec::new(), restricted: false }
    }

    /// Adds a condition.
    pub fn demand(&mut self, condition: &str) {
        let word = if std::mem::replace(&mut self.restricted, true) { "AND" } else { "WHERE" };
        self.sql += &format!(" {word} {condition}");
    }

    /// Adds a condition, if there is a value for its `?`.
    pub fn restrict(&mut self, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.values.push(value.into());
            self.demand(&condition.replace('?', &format!("?{}", self.values.len())));
        }
    }

    /// Orders as it says; with `last`, only so many rows.
    pub fn newest_first(mut self, order: &str, last: Option<u32>) -> Query {
        let limit = last.map(|last| format!(" LIMIT {last}")).unwrap_or_default();
        self.sql += &format!(" ORDER BY {order}{limit}");
        self
    }

    /// Orders by the columns; with `last`, only so many rows with the highest ones.
    pub fn oldest_first(mut self, columns: &str, last: Option<u32>) -> Query {
        match last {
            None => self.sql += &format!(" ORDER BY {columns}"),
            Some(last) => {
                let newest_first = columns.replace(',', " DESC,") + " DESC";
                self.sql = format!(
                    "SELECT * FROM ({} ORDER BY {newest_first} LIMIT {last}) ORDER BY {columns}",
                    self.sql
                );
            }
        }
        self
    }
}

/// As in the events' JSON; the text sorts as the time does.
pub(super) fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry { seq: row.get::<_, i64>(0)?.unsigned_abs(), body: row.get(1)?, hash: row.get(2)? })
}

fn at(row: &Row<'_>, place: usize) -> rusqlite::Result<Timestamp> {
    let at_ms = row.get(place)?;
    Timestamp::from_millisecond(at_ms)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(place, at_ms))
}

fn whole(row: &Row<'_>, place: usize) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(place).map(|figure| figure.map(i64::unsigned_abs))
}

fn life(row: &Row<'_>) -> rusqlite::Result<Life> {
    Ok(Life {
        worker: WorkerId::new(row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()),
        started: at(row, 2)?,
        limit_kib: whole(row, 3)?,
        warm_up: Duration::from_millis(whole(row, 4)?.unwrap_or_default()),
    })
}

fn sample(life: &Arc<Life>, row: &Row<'_>) -> rusqlite::Result<StoredSample> {
    Ok(StoredSample {
        life: Arc::clone(life),
        at: at(row, 0)?,
        sample: Sample {
            rss_kib: whole(row, 1)?,
            rss_anon_kib: whole(row, 2)?,
            rss_file_kib: whole(row, 3)?,
            rss_shmem_kib: whole(row, 4)?,
            vm_swap_kib: whole(row, 5)?,
            threads: whole(row, 6)?,
            fds: whole(row, 7)?,
            processes: whole(row, 8)?,
            cpu_ticks: whole(row, 9)?,
            connections: whole(row, 10)?,
            load_rps: row.get(11)?,
        },
    })
}
