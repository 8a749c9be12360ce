//! Whatever is done to the log afterwards is found.

use super::*;
use proptest::prelude::*;
use rusqlite::Connection;

const EVENTS: u64 = 12;

#[derive(Clone, Debug)]
enum Tamper {
    Edit { seq: u64, byte: usize },
    EditAndRehash { seq: u64 },
    Hash { seq: u64 },
    Remove { seq: u64 },
    RemoveAndRenumber { seq: u64 },
    Shift { from: u64 },
    Swap { one: u64, other: u64 },
    Insert { seq: u64 },
    Blank { seq: u64 },
    CutTail { from: u64 },
}

fn tamper() -> impl Strategy<Value = Tamper> {
    let seq = || 1..=EVENTS;
    prop_oneof![
        (seq(), any::<usize>()).prop_map(|(seq, byte)| Tamper::Edit { seq, byte }),
        (1..EVENTS).prop_map(|seq| Tamper::EditAndRehash { seq }),
        seq().prop_map(|seq| Tamper::Hash { seq }),
        (1..EVENTS).prop_map(|seq| Tamper::Remove { seq }),
        (1..EVENTS).prop_map(|seq| Tamper::RemoveAndRenumber { seq }),
        seq().prop_map(|from| Tamper::Shift { from }),
        (seq(), seq())
            .prop_filter("two places", |(one, other)| one != other)
            .prop_map(|(one, other)| Tamper::Swap { one, other }),
        seq().prop_map(|seq| Tamper::Insert { seq }),
        seq().prop_map(|seq| Tamper::Blank { seq }),
        seq().prop_map(|from| Tamper::CutTail { from }),
    ]
}

/// Does it, and returns the number of the first event that is not what it was.
fn apply(connection: &Connection, tamper: &Tamper) -> u64 {
    let execute = |sql: &str, values: &[u64]| {
        let values = values.iter().map(|value| value.cast_signed());
        connection.execute(sql, rusqlite::params_from_iter(values)).unwrap();
    };
    let rehash = |seq: u64| {
        let text = |seq: u64, column: &str| {
            let sql = format!("SELECT {column} FROM events WHERE seq = {seq}");
            connection.query_row(&sql, [], |row| row.get::<_, String>(0)).unwrap_or_default()
        };
        let place = Head { seq: seq - 1, hash: text(seq - 1, "hash") }.after(&text(seq, "body"));
        let sql = "UPDATE events SET hash = ?1 WHERE seq = ?2";
        connection.execute(sql, rusqlite::params![place.hash, seq as i64]).unwrap();
    };
    match *tamper {
        Tamper::Edit { seq, byte } => {
            // A byte of the reason, so that the JSON stays well-formed.
            let sql = "UPDATE events SET body = replace(body, 'record', ?2) WHERE seq = ?1";
            let mut word = *b"record";
            word[byte % 6] ^= 1;
            let word = str::from_utf8(&word).unwrap();
            connection.execute(sql, rusqlite::params![seq as i64, word]).unwrap();
            seq
        }
        Tamper::EditAndRehash { seq } => {
            execute("UPDATE events SET body = replace(body, '4242', '1') WHERE seq = ?1", &[seq]);
            rehash(seq);
            seq + 1
        }
        Tamper::Hash { seq } => {
            execute(
                "UPDATE events SET hash = replace(hash, substr(hash, 9, 1), 'x') WHERE seq = ?1",
                &[seq],
            );
            seq
        }
        Tamper::Remove { seq } => {
            execute("DELETE FROM events WHERE seq = ?1", &[seq]);
            seq
        }
        Tamper::RemoveAndRenumber { seq } => {
            execute("DELETE FROM events WHERE seq = ?1", &[seq]);
            for later in seq + 1..=EVENTS {
                execute("UPDATE events SET seq = seq - 1 WHERE seq = ?1", &[later]);
            }
            seq
        }
        Tamper::Shift { from } => {
            for later in (from..=EVENTS).rev() {
                execute("UPDATE events SET seq = seq + 1 WHERE seq = ?1", &[later]);
            }
            from
        }
        Tamper::Swap { one, other } => {
            execute("UPDATE events SET seq = -seq WHERE seq IN (?1, ?2)", &[one, other]);
            execute("UPDATE events SET seq = ?1 + ?2 + seq WHERE seq < 0", &[one, other]);
            one.min(other)
        }
        Tamper::Insert { seq } => {
            for later in (seq..=EVENTS).rev() {
                execute("UPDATE events SET seq = seq + 1 WHERE seq = ?1", &[later]);
            }
            execute(
                "INSERT INTO events SELECT ?1, body, hash FROM events WHERE seq = ?1 + 1",
                &[seq],
            );
            // The first place cannot be told from its copy; the second one is out of order.
            seq + 1
        }
        Tamper::Blank { seq } => {
            execute("UPDATE events SET body = CAST(body AS BLOB) WHERE seq = ?1", &[seq]);
            seq
        }
        Tamper::CutTail { from } => {
            execute("DELETE FROM events WHERE seq >= ?1", &[from]);
            from
        }
    }
}

/// Has a hand that leaves the triggers as they were change the file.
fn by_hand<T>(path: &Path, change: impl FnOnce(&Connection) -> T) -> T {
    let connection = Connection::open(path).unwrap();
    let triggers = TRIGGERS.map(|trigger| {
        let text = "SELECT sql FROM sqlite_schema WHERE name = ?1";
        let text: String = connection.query_row(text, [trigger], |row| row.get(0)).unwrap();
        connection.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
        text
    });
    let outcome = change(&connection);
    triggers.iter().for_each(|text| connection.execute_batch(text).unwrap());
    outcome
}

#[test]
fn every_change_of_the_past_is_found_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let original = folder.path().join("original.db");
    store_with(&original, EVENTS);
    let whole = verify(&original, None).unwrap();
    assert_eq!(whole.events, EVENTS);
    let noted = &whole.head.hash;
    assert_eq!(verify(&original, Some(noted)).as_ref(), Ok(&whole));
    // An older note is as good, in capitals too; the log has only grown since.
    let older = entries(&original, &EventFilter::default()).remove(3).hash.to_uppercase();
    assert_eq!(verify(&original, Some(&older)).as_ref(), Ok(&whole));

    let copy = folder.path().join("copy.db");
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    proptest!(config, |(tamper in tamper())| {
        std::fs::copy(&original, &copy).unwrap();
        let first = by_hand(&copy, |connection| apply(connection, &tamper));
        if let Tamper::CutTail { from } = tamper {
            // All that a chain without its end can show:
            prop_assert_eq!(verify(&copy, None).unwrap().events, from - 1);
        } else {
            prop_assert_eq!(verify(&copy, None).unwrap_err().seq, Some(first));
        }
        prop_assert_eq!(verify(&copy, Some(noted)).unwrap_err().seq, Some(first));
    });
}

/// What the walk does not come by is not shown, and a note of a removal counts only as a link of the chain.
#[test]
fn what_stands_outside_of_the_chain_is_found() {
    let retired = |last_seq: u64, hash: &str| {
        format!(
            r#"{{"seq":0,"at":"2026-11-21T15:30:12.123Z","kind":"events_retired","figures":{{"last_seq":{last_seq},"last_hash":"{hash}"}}}}"#
        )
    };
    for place in [-3, 0, 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        store_with(&path, EVENTS);
        let genuine = entries(&path, &EventFilter::default());
        let cut = &genuine[3];
        by_hand(&path, |connection| {
            let remove = "DELETE FROM events WHERE seq <= ?1";
            connection.execute(remove, [cut.seq.cast_signed()]).unwrap();
            let insert = "INSERT INTO events (seq, body, hash) VALUES (?1, ?2, '0')";
            let note = retired(cut.seq, &cut.hash);
            connection.execute(insert, rusqlite::params![place, note]).unwrap();
        });
        let broken = verify(&path, None).unwrap_err();
        assert_eq!(broken.seq, Some(1), "{broken:?}");
        let shown = entries(&path, &EventFilter::default());
        assert_eq!(shown.len(), 8 + usize::from(place > 0), "{shown:?}");
    }
}

/// On the disk itself, beneath everything that SQLite or a trigger could say: a row's body and hash
/// lie side by side in the file.
#[test]
fn every_flipped_byte_of_an_event_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, EVENTS);
    let rows = entries(&path, &EventFilter::default());
    let file = std::fs::read(&path).unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    proptest!(config, |(row in 0..rows.len(), at in any::<proptest::sample::Index>(), flip in 1_u8..)| {
        let Entry { seq, body, hash } = &rows[row];
        let text = format!("{body}{hash}");
        let place = file.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
        let mut flipped = file.clone();
        flipped[place + at.index(text.len())] ^= flip;
        std::fs::write(&path, flipped).unwrap();
        prop_assert_eq!(verify(&path, None).unwrap_err().seq, Some(*seq));
    });
}

#[test]
fn a_damaged_page_breaks_the_chain_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, 2_000);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 4096 / 2 * 4096;
    bytes[middle..middle + 4096].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let broken = verify(&path, None).unwrap_err();
    assert!(broken.seq > Some(1) && broken.seq <= Some(2_000), "{broken:?}");
}
