//! The table of incidents, and how the log vouches for it.
//!
//! The table is what `list` and the head of a report read; the truth is the log. A row changes only
//! together with an event of its incident, in one transaction, and that event's body ends with the row's
//! SHA-256 (`incident_sha256`). So who changes, adds or removes a row without computing the chain anew
//! is found by [`Reader::verify`]: for each row the newest event with such a hash must fit, and each
//! incident that has one must have its row. Rows that only an earlier stanch wrote have none; they are
//! counted. When the buffer of a store that could not be written was full, an event is lost and its row with
//! it; the newest row of each incident is kept and written with an event of its own when the store is back.

use super::chain::hexadecimal;
use super::reader::Query;
use super::schema::{OPENED_AT, STATE, is_damage};
use super::{Break, IncidentFilter, Reader, StoreError};
use crate::core::{Incident, IncidentId};
use rusqlite::{Connection, Row};
use sha2::{Digest, Sha256};

/// What stands before the hash at the end of an event's body. Inside of a JSON string the quotation marks
/// would be escaped, and `figures`, which ends before it, holds no such key.
const MARK: &str = "},\"incident_sha256\":\"";

/// Incidents that were found.
#[derive(Debug, Default)]
pub struct Found {
    /// Those that can be read, oldest first.
    pub incidents: Vec<Incident>,
    /// Why others cannot ([`StoreError::Row`]).
    pub damaged: Vec<StoreError>,
}

/// How far the log vouches for the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vouched {
    /// Incidents whose rows are as the log says.
    pub incidents: u64,
    /// Incidents of an earlier stanch, for which it cannot.
    pub unvouched: u64,
}

/// The row's hash, 64 hexadecimal digits.
pub(super) fn digest(row: &str) -> String {
    hexadecimal(&Sha256::digest(row))
}

/// The hash of the row that was written with the event of this body.
fn vouched_by(body: &str) -> Option<&str> {
    let (_, hash) = body.strip_suffix("\"}")?.rsplit_once(MARK)?;
    (hash.len() == 64).then_some(hash)
}

impl Reader {
    /// The incidents, oldest first.
    pub fn incidents(&self, filter: &IncidentFilter) -> Result<Found, StoreError> {
        let mut query = Query::new("SELECT id, body FROM incidents");
        if let Some(since) = filter.since {
            query.restrict(&format!("{OPENED_AT} >= ?"), Some(super::reader::text(since)));
        }
        if filter.unresolved {
            query.demand(&format!("{STATE} <> 'resolved'"));
        }
        // Of several in one millisecond the first one written is the older one.
        let newest_first =
            query.newest_first(&format!("{OPENED_AT} DESC, rowid DESC"), filter.last);
        let mut found = self.find(newest_first, false)?;
        found.incidents.reverse();
        found.damaged.reverse();
        Ok(found)
    }

    /// The incidents that are not resolved and are as the log says, oldest first. Others are not to be gone
    /// on with: the next event of one would vouch for a row that somebody else wrote.
    pub fn unresolved(&self) -> Result<Found, StoreError> {
        let mut query = Query::new("SELECT id, body FROM incidents");
        query.demand(&format!("{STATE} <> 'resolved'"));
        self.find(query.oldest_first(&format!("{OPENED_AT}, rowid"), None), true)
    }

    /// The incident of this name.
    pub fn incident(&self, id: &IncidentId) -> Result<Option<Incident>, StoreError> {
        let mut query = Query::new("SELECT id, body FROM incidents");
        query.restrict("id = ?", Some(id.0.clone()));
        let Found { mut incidents, mut damaged } = self.find(query, false)?;
        damaged.pop().map_or(Ok(incidents.pop()), Err)
    }

    /// The names of incidents that begin like this, oldest first.
    pub fn incidents_named(&self, prefix: &str) -> Result<Vec<IncidentId>, StoreError> {
        let mut query = Query::new("SELECT id FROM incidents");
        query.restrict("instr(id, ?) = 1", Some(prefix.to_owned()));
        self.names(query.oldest_first("rowid", None))
    }

    /// The name of the incident that was opened last.
    pub fn last_incident(&self) -> Result<Option<IncidentId>, StoreError> {
        let query = Query::new("SELECT id FROM incidents");
        let newest_first = query.newest_first(&format!("{OPENED_AT} DESC, rowid DESC"), Some(1));
        Ok(self.names(newest_first)?.pop())
    }

    /// The highest name that an incident has; the next one's is higher.
    pub fn highest_incident(&self) -> Result<Option<IncidentId>, StoreError> {
        // The second is as long in all names, and so those of the last one have the highest texts.
        let query = "SELECT id FROM incidents WHERE id >=
                     (SELECT substr(max(id), 1, length('20261121T153012Z')) FROM incidents)";
        let names = self.names(Query::new(query))?;
        Ok(names.into_iter().max_by(|one, other| one.place().cmp(&other.place())))
    }

    fn names(&self, query: Query) -> Result<Vec<IncidentId>, StoreError> {
        let mut names = Vec::new();
        self.each(query, |row| {
            names.push(IncidentId(self.read(row.get(0))?));
            Ok::<(), StoreError>(())
        })?;
        Ok(names)
    }

    /// Of those that are to be vouched for, the ones that the log does not vouch for are damaged.
    fn find(&self, query: Query, vouched: bool) -> Result<Found, StoreError> {
        let mut found = Found::default();
        self.each(query, |row| {
            let (id, body) = self.read(row_of(row))?;
            if vouched
                && let Judged::Forged(seq, why) =
                    self.read(judge(&self.connection, &id, body.as_deref(), 0))?
            {
                let at = seq.map_or_else(String::new, |seq| format!("event {seq}: "));
                let (path, why) = (self.path.clone(), format!("{at}{why}"));
                found.damaged.push(StoreError::Forged { path, id, why });
                return Ok(());
            }
            let incident = match &body {
                Some(body) => serde_json::from_str(body).map_err(|error| error.to_string()),
                None => Err("it is no text".to_owned()),
            };
            match incident {
                Ok(incident) => found.incidents.push(incident),
                Err(why) => {
                    found.damaged.push(StoreError::Row { path: self.path.clone(), id, why });
                }
            }
            Ok::<(), StoreError>(())
        })?;
        Ok(found)
    }

    /// Compares the table with the log, whose events up to `gone` do not count any more.
    pub(super) fn vouch(&self, gone: u64) -> Result<Result<Vouched, Break>, StoreError> {
        match compare(&self.connection, gone) {
            Err(error) if is_damage(&error) => Ok(Err(Break {
                seq: None,
                incident: None,
                why: format!("the table of incidents is damaged: {error}"),
            })),
            outcome => self.read(outcome),
        }
    }
}

/// Name and body of a row; no body if it is not text.
fn row_of(row: &Row<'_>) -> rusqlite::Result<(String, Option<String>)> {
    let id = String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or(b"?")).into_owned();
    Ok((id, row.get_ref(1)?.as_str().ok().map(str::to_owned)))
}

fn compare(connection: &Connection, gone: u64) -> rusqlite::Result<Result<Vouched, Break>> {
    let broken = |seq, id: &str, why: &str| {
        Ok(Err(Break { seq, incident: Some(IncidentId(id.to_owned())), why: why.to_owned() }))
    };
    let mut rows = connection.prepare("SELECT id, body FROM incidents ORDER BY rowid")?;
    let mut rows = rows.query([])?;
    let mut vouched = Vouched::default();
    while let Some(row) = rows.next()? {
        let (id, body) = row_of(row)?;
        match judge(connection, &id, body.as_deref(), gone)? {
            Judged::Vouched => vouched.incidents += 1,
            Judged::Unvouched => vouched.unvouched += 1,
            Judged::Forged(seq, why) => return broken(seq, &id, why),
        }
    }
    let mut others = connection.prepare(
        "SELECT DISTINCT incident FROM events
         WHERE incident IS NOT NULL AND incident NOT IN (SELECT id FROM incidents)",
    )?;
    let mut others = others.query([])?;
    while let Some(row) = others.next()? {
        let id: String = row.get(0)?;
        if let Newest::Hash(seq, _) = newest_hash(connection, &id, gone)? {
            return broken(Some(seq), &id, "its row is missing");
        }
    }
    Ok(Ok(vouched))
}

/// What the log says of a row.
enum Judged {
    Vouched,
    /// It is of an earlier stanch.
    Unvouched,
    /// The event that says another thing, and what is wrong.
    Forged(Option<u64>, &'static str),
}

fn judge(
    connection: &Connection,
    id: &str,
    row: Option<&str>,
    gone: u64,
) -> rusqlite::Result<Judged> {
    Ok(match newest_hash(connection, id, gone)? {
        Newest::Hash(_, said) if row.is_some_and(|row| digest(row) == said) => Judged::Vouched,
        Newest::Hash(seq, _) => {
            Judged::Forged(Some(seq), "its row is not what this event was written with")
        }
        Newest::Event => Judged::Unvouched,
        Newest::Nothing => Judged::Forged(None, "it has a row, and the log no event of it"),
    })
}

enum Newest {
    /// The newest event that was written with a row, and that row's hash.
    Hash(u64, String),
    /// There are events, none with a hash.
    Event,
    Nothing,
}

fn newest_hash(connection: &Connection, id: &str, gone: u64) -> rusqlite::Result<Newest> {
    let mut events = connection.prepare_cached(
        "SELECT seq, body FROM events WHERE incident = ?1 AND seq > ?2 ORDER BY seq DESC",
    )?;
    let mut events = events.query((id, gone.cast_signed()))?;
    let mut newest = Newest::Nothing;
    while let Some(row) = events.next()? {
        let body = row.get_ref(1)?.as_str().unwrap_or_default();
        if let Some(hash) = vouched_by(body) {
            let seq = row.get::<_, i64>(0)?.unsigned_abs();
            return Ok(Newest::Hash(seq, hash.to_owned()));
        }
        newest = Newest::Event;
    }
    Ok(newest)
}

/// Whether an incident may go: nothing of it is left in the log after this event.
pub(super) const FORGET: &str = "DELETE FROM incidents WHERE NOT EXISTS
    (SELECT 1 FROM events WHERE incident = incidents.id AND seq > ?1)";
