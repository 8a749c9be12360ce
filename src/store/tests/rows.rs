//! The table of incidents says what the log says, or it is found.

use super::*;
use proptest::prelude::*;
use rusqlite::Connection;

/// Two incidents; of the first an event came after the last one that changed it.
fn store(path: &Path) {
    let store = Store::open(path, RETENTION).unwrap();
    let writer = store.writer();
    drop(writer.append(noted(1, incident("A", "it grows"))));
    drop(writer.append(noted(2, incident("A", "it grows faster"))));
    drop(writer.append(Record { incident: Some(IncidentId("A".into())), ..record(3) }));
    drop(writer.append(noted(4, incident("B", "it hangs"))));
    assert_eq!(store.close(DEADLINE), 0);
}

/// What is found after this was done to a copy.
fn forged(original: &Path, sql: &str) -> Result<Verified, Break> {
    let copy = original.with_extension("copy");
    std::fs::copy(original, &copy).unwrap();
    Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
    verify(&copy, None)
}

/// Flips a bit on the disk itself, where this text begins.
fn damage(path: &Path, text: &str) {
    let mut file = std::fs::read(path).unwrap();
    let places = file.windows(text.len()).enumerate().filter(|(_, part)| *part == text.as_bytes());
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|place| file[place] ^= 1);
    std::fs::write(path, file).unwrap();
}

#[test]
fn a_row_that_the_log_does_not_vouch_for_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store(&path);
    let whole = verify(&path, None).unwrap();
    assert_eq!(whole.vouched, Vouched { incidents: 2, unvouched: 0 });
    for (sql, seq, id) in [
        (r#"UPDATE incidents SET body = replace(body, 'faster', 'slower')"#, Some(2), "A"),
        (
            r#"UPDATE incidents SET body = replace(body, 'open', 'resolved') WHERE id = 'B'"#,
            Some(4),
            "B",
        ),
        ("DELETE FROM incidents WHERE id = 'A'", Some(2), "A"),
        ("UPDATE incidents SET id = 'C' WHERE id = 'B'", None, "C"),
        (
            "INSERT INTO incidents (id, body) SELECT 'C', body FROM incidents WHERE id = 'A'",
            None,
            "C",
        ),
        ("UPDATE incidents SET body = CAST(body AS BLOB) WHERE id = 'B'", Some(4), "B"),
        // What was true once is not true now.
        ("UPDATE incidents SET body = replace(body, 'grows faster', 'grows')", Some(2), "A"),
    ] {
        let broken = forged(&path, sql).unwrap_err();
        let incident = Some(IncidentId(id.into()));
        assert_eq!((broken.seq, broken.incident), (seq, incident), "{sql}: {}", broken.why);
    }
    // To say so in the log too breaks the chain.
    let both = "DROP TRIGGER events_stay_as_they_are;
        UPDATE incidents SET body = replace(body, 'hangs', 'works') WHERE id = 'B';
        UPDATE events SET body = replace(body, 'incident_sha256', 'incident_sha255') WHERE seq = 4";
    assert_eq!(forged(&path, both).unwrap_err().seq, Some(4));
}

/// To go on with it would be to vouch for it.
#[test]
fn a_row_that_the_log_does_not_vouch_for_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store(&path);
    let unresolved = || {
        let Found { incidents, damaged } = Reader::open(&path).unwrap().unresolved().unwrap();
        (incidents.into_iter().map(|one| one.id.0).collect::<Vec<_>>(), damaged)
    };
    let (incidents, damaged) = unresolved();
    assert_eq!((incidents, damaged.len()), (vec!["A".to_owned(), "B".to_owned()], 0));
    let forge = "UPDATE incidents SET body = replace(body, 'faster', 'slower') WHERE id = 'A'";
    Connection::open(&path).unwrap().execute_batch(forge).unwrap();
    let (incidents, damaged) = unresolved();
    assert_eq!(incidents, ["B"]);
    assert_eq!(damaged[0].incident(), Some(IncidentId("A".into())));
    assert!(damaged[0].to_string().contains("event 2: its row is not what"), "{}", damaged[0]);
}

#[test]
fn every_flipped_byte_of_a_row_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store(&path);
    let row: String = Connection::open(&path)
        .unwrap()
        .query_row("SELECT body FROM incidents WHERE id = 'A'", [], |row| row.get(0))
        .unwrap();
    let file = std::fs::read(&path).unwrap();
    let place = file.windows(row.len()).position(|part| part == row.as_bytes()).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) };
    proptest!(config, |(at in any::<proptest::sample::Index>(), flip in 1_u8..)| {
        let mut flipped = file.clone();
        flipped[place + at.index(row.len())] ^= flip;
        std::fs::write(&path, flipped).unwrap();
        prop_assert_eq!(verify(&path, None).unwrap_err().incident, Some(IncidentId("A".into())));
    });
}

#[test]
fn a_damaged_row_does_not_hide_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store(&path);
    damage(&path, r#"{"id":"A""#);
    let reader = Reader::open(&path).unwrap();
    let Found { incidents, damaged } = reader.incidents(&IncidentFilter::default()).unwrap();
    assert_eq!(incidents.into_iter().map(|one| one.id.0).collect::<Vec<_>>(), ["B"]);
    assert!(matches!(&damaged[..], [StoreError::Row { id, .. }] if id == "A"), "{damaged:?}");
    assert!(damaged[0].to_string().contains("events --incident A"), "{}", damaged[0]);
    assert!(matches!(reader.incident(&IncidentId("A".into())), Err(StoreError::Row { .. })));
    drop(reader);
    // The next supervisor can write all the same.
    store_with(&path, 1);
    assert_eq!(entries(&path, &EventFilter::default()).len(), 5);
}

#[test]
fn a_store_of_an_earlier_stanch_with_a_damaged_row_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    super::super::schema::version_1(&path);
    let old = Connection::open(&path).unwrap();
    let insert = r#"INSERT INTO incidents (id, body) VALUES ('A', '{"id":"A"}')"#;
    old.execute(insert, []).unwrap();
    drop(old);
    damage(&path, r#"{"id":"A""#);
    store_with(&path, 1);
    assert_eq!(verify(&path, None).unwrap_err().incident, Some(IncidentId("A".into())));
}

#[test]
fn the_highest_name_is_that_of_the_last_one_of_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let store = Store::open(&path, RETENTION).unwrap();
    for id in
        ["20261121T153012Z-9", "20261121T153012Z-10", "20261121T153012Z", "20261120T235959Z-77"]
    {
        drop(store.writer().append(noted(1, incident(id, "it"))));
    }
    assert_eq!(store.close(DEADLINE), 0);
    let highest = Reader::open(&path).unwrap().highest_incident().unwrap();
    assert_eq!(highest, Some(IncidentId("20261121T153012Z-10".into())));
}
