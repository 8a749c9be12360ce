//! Files that are not a store to write: they stay as they are, and the engine is told.

use super::*;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs;

/// Every file beside the store with its bytes; the lock file is ours to make.
fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().unwrap() != "lock");
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn refused(path: &Path) -> StoreError {
    let before = bytes(path.parent().unwrap());
    let error = Store::open(path, RETENTION).unwrap_err();
    assert_eq!(bytes(path.parent().unwrap()), before, "harmed by the refusal: {error}");
    error
}

#[test]
fn a_newer_store_is_refused_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, 3);
    let raise = "UPDATE meta SET value = 99 WHERE key = 'schema_version'";
    let newer = Connection::open(&path).unwrap();
    newer.execute(raise, []).unwrap();

    // A newer stanch that was killed: its version is only in the write-ahead log.
    let killed = tempfile::tempdir().unwrap();
    let killed_path = killed.path().join("s.db");
    fs::copy(&path, &killed_path).unwrap();
    fs::copy(beside(&path, "-wal"), beside(&killed_path, "-wal")).unwrap();
    let error = Store::open(&killed_path, RETENTION).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");

    // One that ended in order, and one that keeps another journal, which a switch to WAL would harm.
    drop(newer);
    let error = refused(&path);
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(newer);
    let error = refused(&path);
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");
    let error = Reader::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");
}

#[test]
fn a_foreign_database_is_refused_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    Connection::open(&path).unwrap().execute("CREATE TABLE meta (key, value)", []).unwrap();
    assert!(matches!(refused(&path), StoreError::NotAStore { .. }));
    assert!(matches!(Reader::open(&path).unwrap_err(), StoreError::NotAStore { .. }));
}

#[tokio::test]
async fn a_damaged_file_is_left_alone_until_it_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    fs::write(&path, "not SQLite at all, but long enough to be looked at. ".repeat(99)).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");

    let mut store = Store::detached(&path, RETENTION, error).unwrap();
    let before = bytes(folder.path());
    let durable = store.writer().append(record(1));
    assert!(matches!(health(&mut store).await, Health::Degraded { .. }));
    assert_eq!(bytes(folder.path()), before);
    fs::rename(&path, folder.path().join("evidence.db")).unwrap();
    assert_eq!(written(durable).await.seq, 1);
    assert!(matches!(
        health(&mut store).await,
        Health::Restored { buffered: 1, lost: 0, gone: 0, .. }
    ));
}

#[test]
fn an_empty_file_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    fs::write(&path, "").unwrap();
    let error = Reader::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Unbegun { .. }), "{error:?}");
    assert!(error.to_string().contains("is the disk full?"), "{error}");
    store_with(&path, 1);
    assert_eq!(verify(&path, None).unwrap().events, 1);
}

#[test]
fn a_reader_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    assert!(matches!(Reader::open(&path).unwrap_err(), StoreError::Missing { .. }));
    assert!(!path.exists());
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let first = Store::open(&path, RETENTION).unwrap();
    let error = Store::open(&path, RETENTION).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(first.close(DEADLINE), 0);
    store_with(&path, 1);
}

#[tokio::test]
async fn a_store_that_is_removed_is_noticed_and_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut store = Store::open(&path, RETENTION).unwrap();
    let writer = store.writer();
    assert_eq!(written(writer.append(record(1))).await.seq, 1);
    fs::remove_file(&path).unwrap();
    let durable = writer.append(record(2));
    let Health::Degraded { error } = health(&mut store).await else { panic!("not noticed") };
    assert!(matches!(error, StoreError::Replaced { .. }), "{error:?}");
    assert_eq!(written(durable).await.seq, 1);
    assert!(matches!(
        health(&mut store).await,
        Health::Restored { buffered: 1, lost: 0, gone: 1, .. }
    ));
    assert_eq!(verify(&path, None).unwrap().events, 1);
}

#[tokio::test]
async fn what_the_buffer_cannot_hold_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("a file, not a folder");
    fs::write(&parent, "").unwrap();
    let path = parent.join("s.db");
    let error = Store::open(&path, RETENTION).unwrap_err();
    let mut store = Store::detached(&path, RETENTION, error).unwrap();
    let writer = store.writer();
    assert!(matches!(health(&mut store).await, Health::Degraded { .. }));
    let mut waiting: Vec<Durable> =
        (1..=EVENT_CAPACITY as u64 + 2).map(|number| writer.append(record(number))).collect();
    for durable in waiting.split_off(EVENT_CAPACITY) {
        assert!(timeout(DEADLINE, durable).await.expect("refused at once").is_err());
    }
    for summary in ["it is lost", "it is lost too"] {
        drop(writer.append(noted(1, incident("A", summary))));
    }
    fs::remove_file(&parent).unwrap();
    let Health::Restored { buffered, lost, gone: 0, states } = health(&mut store).await else {
        panic!()
    };
    assert_eq!((buffered, lost), (EVENT_CAPACITY as u64, 4));
    assert_eq!(states, [incident("A", "it is lost too")]);
    assert_eq!(written(waiting.pop().unwrap()).await.seq, EVENT_CAPACITY as u64);
    let last = entries(&path, &EventFilter { last: Some(1), ..EventFilter::default() });
    assert_eq!(last[0].record().unwrap().reason, format!("record {EVENT_CAPACITY}"));
}

#[tokio::test]
async fn closing_a_store_that_cannot_be_written_says_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    fs::create_dir(&path).unwrap();
    let error = Store::open(&path, RETENTION).unwrap_err();
    let store = Store::detached(&path, RETENTION, error).unwrap();
    let durable = store.writer().append(record(1));
    let closed = tokio::task::spawn_blocking(|| store.close(Duration::from_millis(1500)));
    assert_eq!(closed.await.unwrap(), 1);
    assert!(timeout(DEADLINE, durable).await.unwrap().is_err());
}
