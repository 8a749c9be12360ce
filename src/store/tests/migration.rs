//! A store of every earlier version is brought to this one, and loses nothing.

use super::super::chain::Link;
use super::super::schema::{MIGRATIONS, VERSION};
use super::*;
use jiff::SignedDuration;
use rusqlite::{Connection, params};

/// What a stanch of that schema version left: ten events, an incident, a sample.
fn written_by(version: i64, path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    for migration in &MIGRATIONS[..version as usize] {
        connection.execute_batch(migration).unwrap();
    }
    connection
        .execute("UPDATE meta SET value = ?1 WHERE key = 'schema_version'", [version])
        .unwrap();
    let mut records: Vec<Record> = (1..=10).map(record).collect();
    records[9].incident = Some(IncidentId("A".into()));
    for Link { head, body, .. } in Head::default().extend(records.iter()) {
        let insert = "INSERT INTO events (seq, body, hash) VALUES (?1, ?2, ?3)";
        connection.execute(insert, params![head.seq as i64, body, head.hash]).unwrap();
    }
    let body = serde_json::to_string(&incident("A", "it leaks")).unwrap();
    connection.execute("INSERT INTO incidents (id, body) VALUES ('A', ?1)", [body]).unwrap();
    let at_ms = "2026-11-21T15:30:12Z".parse::<Timestamp>().unwrap().as_millisecond();
    let sample = match version {
        1 => "INSERT INTO samples (at_ms, slot, generation, rss_kib) VALUES (?1, 1, 3, 777)",
        _ => {
            let life = "INSERT INTO lives (id, slot, generation, started_ms) VALUES (1, 1, 3, ?1)";
            connection.execute(life, [at_ms]).unwrap();
            "INSERT INTO samples (life, at_ms, expires_ms, rss_kib) VALUES (1, ?1, 9e15, 777)"
        }
    };
    connection.execute(sample, [at_ms]).unwrap();
}

#[test]
fn every_earlier_version_is_read_and_brought_up_to_date() {
    for version in 1..VERSION {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        written_by(version, &path);
        // Read as it is, by who may not write.
        let before = entries(&path, &EventFilter::default());
        assert_eq!((before.len(), verify(&path, None).unwrap().events), (10, 10), "{version}");
        store_with(&path, 2);
        let after = entries(&path, &EventFilter::default());
        assert_eq!(after[..10], before, "{version}");
        let Verified { events, vouched, .. } = verify(&path, None).unwrap();
        assert_eq!((events, vouched), (12, Vouched { incidents: 0, unvouched: 1 }), "{version}");

        let reader = Reader::open(&path).unwrap();
        let incidents = reader.incidents(&IncidentFilter::default()).unwrap().incidents;
        assert_eq!(
            incidents,
            [incident("A", "it leaks")].map(|incident| Incident {
                // The store keeps milliseconds.
                opened_at: incident.opened_at.round(jiff::Unit::Millisecond).unwrap(),
                ..incident
            })
        );
        let lives = reader.lives().unwrap();
        assert_eq!(lives[0].worker, WorkerId::new(1, 3), "{version}");
        let mut samples = Vec::new();
        let keep = |stored| {
            samples.push(stored);
            Ok::<(), StoreError>(())
        };
        reader.samples(&Arc::new(lives[0].clone()), keep).unwrap();
        assert_eq!(samples[0].sample.rss_kib, Some(777), "{version}");
        assert!(samples[0].at.duration_since(lives[0].started) < SignedDuration::from_secs(1));
        drop(reader);
        Connection::open(&path)
            .unwrap()
            .execute("DELETE FROM events", [])
            .expect_err("the triggers came with the migration");
    }
}
