//! What is written stays as it is, until it is old and the log says so.

use super::super::disk::Disk;
use super::super::retire::cutoff;
use super::*;
use jiff::SignedDuration;
use rusqlite::Connection;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const KEPT: Duration = Duration::from_secs(10 * 86_400);

/// A store with an event every eight hours, from 2026-11-21 on; event 4 belongs to an incident.
fn days(path: &Path, events: u64, state: IncidentState) {
    let store = Store::open(path, KEPT).unwrap();
    let writer = store.writer();
    for number in 1..=events {
        let mut record = record(number);
        if number == 4 {
            let resolved_at = (state == IncidentState::Resolved).then(|| day(1));
            record = noted(4, Incident { state, resolved_at, ..incident("A", "it leaks") });
        }
        record.at = day(0) + SignedDuration::from_hours(8 * (number as i64 - 1));
        drop(writer.append(record));
    }
    assert_eq!(store.close(DEADLINE), 0);
}

fn day(number: i32) -> Timestamp {
    "2026-11-21T00:00:00Z".parse::<Timestamp>().unwrap() + DAY * number
}

/// Removes what is older than ten days at this time; the first event that is left.
fn retire(path: &Path, now: Timestamp) -> u64 {
    let mut disk = Disk::open(path, KEPT).unwrap();
    disk.retire(now).unwrap();
    while disk.prune(now).unwrap() {}
    drop(disk);
    entries(path, &EventFilter::default())[0].seq
}

fn incidents(path: &Path) -> Vec<Incident> {
    Reader::open(path).unwrap().incidents(&IncidentFilter::default()).unwrap().incidents
}

#[test]
fn whole_days_go_and_the_chain_verifies_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    days(&path, 12, IncidentState::Resolved);
    let noted = verify(&path, None).unwrap().head.hash;
    assert_eq!(cutoff(day(12) + SignedDuration::from_hours(9), KEPT), day(2));
    // Until the day is over, and the whole day older than ten days, nothing goes.
    assert_eq!(retire(&path, day(11) - SignedDuration::from_secs(1)), 1);
    assert_eq!(retire(&path, day(12) + SignedDuration::from_hours(9)), 7);
    let left = entries(&path, &EventFilter::default());
    let note = left.last().unwrap().record().unwrap();
    assert_eq!((note.kind, &note.figures["last_seq"]), (Kind::EventsRetired, &6.into()));
    assert_eq!(incidents(&path), []);
    let whole = verify(&path, Some(&noted)).unwrap();
    assert_eq!((whole.events, whole.head.seq), (7, 13));
    // The log goes on, and so does retention.
    store_with(&path, 1);
    assert_eq!(retire(&path, day(14)), 13);
    assert_eq!(verify(&path, None).unwrap().head.seq, 15);
    assert!(verify(&path, Some(&noted)).unwrap_err().why.contains("store.retention"));
}

#[test]
fn notes_of_removals_alone_are_not_worth_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    days(&path, 12, IncidentState::Resolved);
    assert_eq!(retire(&path, day(30)), 13);
    assert_eq!(retire(&path, day(60)), 13);
    assert_eq!(verify(&path, None).unwrap().head.seq, 13);
}

#[test]
fn an_incident_that_is_not_over_keeps_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    days(&path, 12, IncidentState::Mitigated);
    assert_eq!(retire(&path, day(30)), 4);
    assert_eq!(incidents(&path).len(), 1);
    assert_eq!(verify(&path, None).unwrap().vouched.incidents, 1);
}

#[test]
fn a_removal_that_a_crash_cut_short_is_ended_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    days(&path, 12, IncidentState::Resolved);
    let mut disk = Disk::open(&path, KEPT).unwrap();
    disk.retire(day(12)).unwrap();
    drop(disk);
    // All rows are still there, and some of them are no events any more.
    let rows = Connection::open(&path).unwrap();
    let first: i64 = rows.query_row("SELECT min(seq) FROM events", [], |row| row.get(0)).unwrap();
    drop(rows);
    assert_eq!((first, entries(&path, &EventFilter::default()).len()), (1, 7));
    assert_eq!(verify(&path, None).unwrap().events, 7);
    assert_eq!(retire(&path, day(12)), 7);
}

#[test]
fn a_forged_or_missing_note_breaks_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    days(&path, 12, IncidentState::Resolved);
    retire(&path, day(12));
    let forge = |sql: &str| {
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let connection = Connection::open(&copy).unwrap();
        for trigger in TRIGGERS {
            connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        }
        connection.execute_batch(sql).unwrap();
        drop(connection);
        verify(&copy, None).unwrap_err().seq.unwrap()
    };
    assert_eq!(forge("DELETE FROM events WHERE kind = 'events_retired'"), 1);
    // Two more are gone, and the note says so: its own hash does not fit.
    let more = "DELETE FROM events WHERE seq <= 8;
        UPDATE events SET body = replace(body, '\"last_seq\":6', '\"last_seq\":8')
        WHERE kind = 'events_retired'";
    assert_eq!(forge(more), 9);
    assert_eq!(forge("DELETE FROM events WHERE seq <= 8"), 7);
}

#[test]
fn the_tables_refuse_to_change_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, 3);
    let connection = Connection::open(&path).unwrap();
    for sql in [
        "UPDATE events SET body = body WHERE seq = 2",
        "DELETE FROM events WHERE seq = 1",
        "INSERT OR REPLACE INTO events (seq, body, hash) VALUES (3, '{}', '')",
        "INSERT INTO events (seq, body, hash) VALUES (0, '{}', '')",
    ] {
        let error = connection.execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("event"), "{sql}: {error}");
    }
    drop(connection);
    assert_eq!(verify(&path, None).unwrap().events, 3);
}
