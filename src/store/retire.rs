//! Retention of the audit log.
//!
//! A *segment* is what a UTC day wrote. When all events up to the end of a day are older than the
//! retention they go, together, and never one from the middle: an `events_retired` event says so first.
//! It holds the number and the hash of the last one that goes (`last_seq`, `last_hash`), so the chain
//! verifies from there on, and as it is itself a link nobody can move that place unseen. The rows go
//! after it is on disk, some at a time; what a crash leaves of them goes next time.
//!
//! Two things hold a day back: an incident that is not resolved keeps its events, and days that wrote
//! nothing but notes of removals wait for one that wrote more (else each note would cause the next one).
//! The day of an event is its `at`; of a clock that was set back the latest time before counts, because
//! everything before a younger event stays.

use super::Head;
use super::schema::STATE;
use crate::core::{Figures, Kind, Record};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension};
use std::time::Duration;

const DAY_S: i64 = 86_400;

/// Events whose time is over, all from the first one on.
#[derive(Debug, PartialEq)]
pub(super) struct Segment {
    pub first_seq: u64,
    pub last: Head,
    from: String,
    until: String,
}

/// The beginning of the first UTC day of which something is kept.
pub(super) fn cutoff(now: Timestamp, retention: Duration) -> Timestamp {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    let second = now.checked_sub(retention).unwrap_or(Timestamp::MIN).as_second();
    Timestamp::from_second(second.div_euclid(DAY_S) * DAY_S).unwrap_or(Timestamp::MIN)
}

/// What has to go: the events before the first one that is younger, or that an unresolved incident
/// needs.
pub(super) fn due(connection: &Connection, cutoff: Timestamp) -> rusqlite::Result<Option<Segment>> {
    let cutoff = format!("{cutoff:.3}");
    let gone = retired(connection)?.map_or(0, |head| head.seq);
    let needed = format!(
        "SELECT min(seq) FROM events WHERE incident IN
         (SELECT id FROM incidents WHERE {STATE} <> 'resolved')"
    );
    let needed: Option<i64> = connection.query_row(&needed, [], |row| row.get(0))?;
    let mut old = connection.prepare(
        "SELECT seq, hash, at, kind FROM events WHERE seq > ?1 AND seq < ?2 ORDER BY seq",
    )?;
    let mut rows = old.query([gone.cast_signed(), needed.unwrap_or(i64::MAX)])?;
    let mut segment: Option<Segment> = None;
    let mut only_notes = true;
    while let Some(row) = rows.next()? {
        let (seq, hash, at) = (row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?, row.get(2)?);
        if at >= cutoff {
            break;
        }
        only_notes &= row.get::<_, String>(3)? == Kind::EventsRetired.as_str();
        let last = Head { seq, hash };
        segment = Some(match segment {
            Some(begun) => Segment { last, until: begun.until.max(at), ..begun },
            None => Segment { first_seq: seq, last, from: at.clone(), until: at },
        });
    }
    Ok(segment.filter(|_| !only_notes))
}

/// The last event that was retired, as the newest note of it says. A note that stands where the chain does
/// not begin after it is none of ours.
pub(super) fn retired(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    connection
        .prepare_cached(
            "SELECT json_extract(body, '$.figures.last_seq'), json_extract(body, '$.figures.last_hash')
             FROM events WHERE kind = 'events_retired'
             AND seq > json_extract(body, '$.figures.last_seq') ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([], |row| {
            Ok(Head { seq: row.get::<_, i64>(0)?.unsigned_abs(), hash: row.get(1)? })
        })
        .optional()
}

impl Segment {
    /// The event that says so.
    pub fn record(&self, now: Timestamp, retention: Duration) -> Record {
        let Segment { first_seq, last, from, until } = self;
        let mut figures = Figures::new();
        figures.insert("first_seq".into(), (*first_seq).into());
        figures.insert("last_seq".into(), last.seq.into());
        figures.insert("last_hash".into(), last.hash.clone().into());
        figures.insert("retention_s".into(), retention.as_secs().into());
        Record {
            number: 0,
            at: now,
            kind: Kind::EventsRetired,
            incident: None,
            slot: None,
            pid: None,
            generation: None,
            release: None,
            cause: None,
            reason: format!(
                "events {first_seq} to {}, of {from} to {until}, are older than store.retention and are removed",
                last.seq
            ),
            figures,
            state: None,
        }
    }
}
