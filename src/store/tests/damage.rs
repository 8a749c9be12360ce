//! The hands of others on the files, and what a crash takes: noticed, said, and nothing that was
//! acknowledged goes in silence.

use super::*;
use crate::store::chain::Link;
use crate::store::disk::Disk;
use rusqlite::Connection;
use std::fs;

const EVENTS: u64 = 20;

/// A store in use, with its events written one by one.
async fn store_in_use(path: &Path) -> Store {
    let store = Store::open(path, RETENTION).unwrap();
    for number in 1..=EVENTS {
        written(store.writer().append(record(number))).await;
    }
    store
}

fn wal(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn move_away(path: &Path) {
    for file in [path, &wal(path)] {
        // The second one may not be there.
        let _ = fs::rename(file, file.with_extension("evidence"));
    }
}

#[tokio::test]
async fn a_store_that_is_overwritten_while_in_use_is_left_alone_until_it_is_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut store = store_in_use(&path).await;
    let len = fs::metadata(&path).unwrap().len() as usize;
    let foreign = vec![b'x'; len];
    fs::write(&path, &foreign).unwrap();
    let waiting = [21, 22].map(|number| store.writer().append(record(number)));
    let Health::Degraded { error } = health(&mut store).await else { panic!("not noticed") };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(fs::read(&path).unwrap() == foreign, "nothing was written into it");
    move_away(&path);
    let Health::Restored { buffered, gone, .. } = health(&mut store).await else { panic!() };
    assert_eq!((buffered, gone), (2, EVENTS));
    for (durable, seq) in waiting.into_iter().zip(1..) {
        assert_eq!(written(durable).await.seq, seq);
    }
    assert_eq!(store.close(DEADLINE), 0);
    assert_eq!(verify(&path, None).unwrap().events, 2);
}

#[tokio::test]
async fn a_damaged_part_of_a_store_in_use_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut store = store_in_use(&path).await;
    let mut bytes = fs::read(&path).unwrap();
    // Not the first page, which says what the file is.
    bytes[3 * 4096..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    let durable = store.writer().append(record(21));
    let told = health(&mut store).await;
    let Health::Degraded { error: StoreError::Damaged { .. } } = told else { panic!("{told:?}") };
    move_away(&path);
    assert!(matches!(health(&mut store).await, Health::Restored { gone: EVENTS, .. }));
    assert_eq!(written(durable).await.seq, 1);
}

#[tokio::test]
async fn an_older_copy_over_a_store_in_use_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, 3);
    let older = fs::read(&path).unwrap();
    let mut store = store_in_use(&path).await;
    // With what is in its `-wal` file it may be a store all the same, but not with what was written.
    fs::write(&path, &older).unwrap();
    fs::write(wal(&path), "").unwrap();
    let durable = store.writer().append(record(21));
    assert!(matches!(health(&mut store).await, Health::Degraded { .. }));
    assert!(matches!(health(&mut store).await, Health::Restored { gone: EVENTS, .. }));
    assert_eq!(written(durable).await.seq, 4);
    assert_eq!(verify(&path, None).unwrap().events, 4);
}

#[tokio::test]
async fn a_log_file_that_is_removed_costs_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut store = store_in_use(&path).await;
    fs::remove_file(wal(&path)).unwrap();
    let durable = store.writer().append(record(21));
    let told = health(&mut store).await;
    let Health::Degraded { error: StoreError::Replaced { .. } } = told else { panic!("{told:?}") };
    assert!(matches!(health(&mut store).await, Health::Restored { gone: 0, .. }));
    assert_eq!(written(durable).await.seq, 21);
    assert_eq!(verify(&path, None).unwrap().events, 21);
}

#[tokio::test]
async fn another_program_that_writes_is_told_once_and_written_beside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut store = store_in_use(&path).await;
    let other = Connection::open(&path).unwrap();
    for (number, sql) in (21..).zip(["CREATE TABLE mine (x)", "INSERT INTO mine VALUES (1)"]) {
        other.execute(sql, []).unwrap();
        assert_eq!(written(store.writer().append(record(number))).await.seq, number);
    }
    let Health::Altered { why } = health(&mut store).await else { panic!("not noticed") };
    assert!(why.contains("another program"), "{why}");
    drop(other);
    assert_eq!(store.close(DEADLINE), 0);
    assert_eq!(verify(&path, None).unwrap().events, 22);
}

/// As after a kill: what is in the `-wal` file was not brought into the store, and a bit of it flips.
#[tokio::test]
async fn an_end_that_is_lost_with_the_log_file_is_found_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let _store = store_in_use(&path).await;
    let killed = tempfile::tempdir().unwrap();
    let copy = killed.path().join("s.db");
    for suffix in ["", "-wal", ".head"] {
        fs::copy(beside(&path, suffix), beside(&copy, suffix)).unwrap();
    }
    assert_eq!(verify(&copy, None).unwrap().events, EVENTS);
    let mut bytes = fs::read(wal(&copy)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(wal(&copy), bytes).unwrap();
    fs::remove_file(beside(&copy, "-shm")).unwrap();
    let broken = verify(&copy, None).unwrap_err();
    let lost = broken.seq.unwrap();
    assert!(lost > 1 && lost <= EVENTS, "{broken:?}");
    assert!(broken.why.contains(&format!("had written up to {EVENTS}")), "{broken:?}");

    let mut store = Store::open(&copy, RETENTION).unwrap();
    assert_eq!(written(store.writer().append(record(21))).await.seq, lost);
    let Health::Altered { why } = health(&mut store).await else { panic!("not told") };
    assert!(why.contains(&format!("ended after event {}, and stanch had", lost - 1)), "{why}");
}

/// The same where nothing was brought into the store yet: what is left looks like that of a new one.
#[tokio::test]
async fn a_store_that_lies_in_a_damaged_log_file_alone_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let mut disk = Disk::open(&path, RETENTION).unwrap();
    disk.write(&Head::default().extend([record(1), record(2)].iter())).unwrap();
    let killed = tempfile::tempdir().unwrap();
    let copy = killed.path().join("s.db");
    for suffix in ["", "-wal", ".head"] {
        fs::copy(beside(&path, suffix), beside(&copy, suffix)).unwrap();
    }
    let mut damaged = fs::read(wal(&copy)).unwrap();
    // In the first frame.
    damaged[100] ^= 1;
    fs::write(wal(&copy), &damaged).unwrap();
    let error = Reader::open(&copy).unwrap_err();
    assert!(matches!(error, StoreError::Emptied { seq: 2, .. }), "{error:?}");

    let error = Store::open(&copy, RETENTION).unwrap_err();
    let mut store = Store::detached(&copy, RETENTION, error).unwrap();
    let durable = store.writer().append(record(3));
    let told = health(&mut store).await;
    let Health::Degraded { error: StoreError::Emptied { .. } } = told else { panic!("{told:?}") };
    assert_eq!(fs::read(wal(&copy)).unwrap(), damaged);
    move_away(&copy);
    assert_eq!(written(durable).await.seq, 1);
    let Health::Altered { why } = health(&mut store).await else { panic!("not told") };
    assert!(why.contains("ended after event 0, and stanch had written 2"), "{why}");
}

#[tokio::test]
async fn a_store_that_is_gone_at_the_start_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, EVENTS);
    fs::remove_file(&path).unwrap();
    let mut store = Store::open(&path, RETENTION).unwrap();
    assert_eq!(written(store.writer().append(record(1))).await.seq, 1);
    let Health::Altered { why } = health(&mut store).await else { panic!("not told") };
    assert!(why.contains("ended after event 0, and stanch had written 20"), "{why}");
    assert_eq!(store.close(DEADLINE), 0);
    // It is told once: the log goes on from there, and what is told next is another thing.
    let mut store = Store::open(&path, RETENTION).unwrap();
    written(store.writer().append(record(2))).await;
    fs::remove_file(wal(&path)).unwrap();
    let _durable = store.writer().append(record(3));
    assert!(matches!(health(&mut store).await, Health::Degraded { .. }), "told again");
}

#[tokio::test]
async fn a_chain_that_was_computed_anew_does_not_end_as_noted() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("s.db"), folder.path().join("other.db"));
    store_with(&path, EVENTS);
    let store = Store::open(&other, RETENTION).unwrap();
    (1..=EVENTS + 1).for_each(|number| drop(store.writer().append(record(100 + number))));
    assert_eq!(store.close(DEADLINE), 0);
    fs::copy(&other, &path).unwrap();
    let broken = verify(&path, None).unwrap_err();
    assert_eq!(broken.seq, Some(EVENTS), "{broken:?}");
    assert!(broken.why.contains("s.db.head"), "{broken:?}");
    let mut store = Store::open(&path, RETENTION).unwrap();
    written(store.writer().append(record(1))).await;
    let Health::Altered { why } = health(&mut store).await else { panic!("not told") };
    assert!(why.contains("computed anew"), "{why}");
}

#[test]
fn an_index_that_hides_an_event_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, 1);
    let mut bytes = fs::read(&path).unwrap();
    let at = b"2026-11-21T15:30:12.123Z";
    // In the event itself it stands between quotation marks.
    let place = bytes
        .windows(at.len() + 1)
        .position(|part| part[1..] == at[..] && part[0] != b'"')
        .expect("it is in the index");
    bytes[place + at.len()] ^= 1;
    fs::write(&path, bytes).unwrap();
    let broken = verify(&path, None).unwrap_err();
    assert_eq!((broken.seq, &broken.incident), (None, &None), "{broken:?}");
    assert!(broken.why.contains("events_at") && broken.why.contains("REINDEX"), "{broken:?}");
}

#[test]
fn a_column_that_is_computed_otherwise_is_found() {
    for (text, other) in [("'$.kind'", "'$.kine'"), ("'$.slot'", "'$.pid'")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        store_with(&path, 1);
        let file = Connection::open(&path).unwrap();
        file.execute_batch(&format!(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = replace(sql, \"{text}\", \"{other}\");"
        ))
        .unwrap();
        drop(file);
        let broken = verify(&path, None).unwrap_err();
        assert_eq!((broken.seq, &broken.incident), (None, &None), "{broken:?}");
        assert!(broken.why.contains("the table events is not as stanch makes it"), "{broken:?}");
        let error = Store::open(&path, RETENTION).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn triggers_are_put_right_and_others_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, 1);
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "DROP TRIGGER events_stay_as_they_are;
         DROP INDEX events_at;
         CREATE TRIGGER \"of \"\"mine\" AFTER INSERT ON incidents BEGIN DELETE FROM incidents; END;
         CREATE TABLE mine (x);
         CREATE TRIGGER my_own AFTER INSERT ON mine BEGIN DELETE FROM mine; END;",
    )
    .unwrap();
    drop(file);
    let words = [
        "the trigger events_stay_as_they_are is missing",
        "the index events_at is missing",
        "the trigger of \"mine is not stanch's",
    ];
    let broken = verify(&path, None).unwrap_err();
    assert!(words.iter().all(|word| broken.why.contains(word)), "{broken:?}");
    assert!(!broken.why.contains("my_own"), "{broken:?}");
    let mut store = Store::open(&path, RETENTION).unwrap();
    written(store.writer().append(record(2))).await;
    let Health::Altered { why } = health(&mut store).await else { panic!("not told") };
    assert!(words.iter().all(|word| why.contains(word)), "{why}");
    assert_eq!(store.close(DEADLINE), 0);
    assert_eq!(verify(&path, None).unwrap().events, 2);
}

#[test]
fn after_a_checkpoint_the_log_lies_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("s.db"), folder.path().join("copy.db"));
    let mut disk = Disk::open(&path, RETENTION).unwrap();
    let links: Vec<Link> = Head::default().extend([record(1), record(2)].iter());
    disk.write(&links).unwrap();
    fs::copy(&path, &copy).unwrap();
    let before = Reader::open(&copy).and_then(|reader| reader.head());
    assert!(!matches!(before, Ok(Head { seq: 2, .. })), "{before:?}");
    disk.checkpoint().unwrap();
    fs::copy(&path, &copy).unwrap();
    assert_eq!(verify(&copy, None).unwrap().events, 2);
    // It was our own work.
    disk.look().unwrap();
    assert_eq!(disk.altered(), None);
}

/// Some of its bytes mean nothing, and none of them is a fault of stanch.
#[test]
fn what_is_flipped_in_the_header_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    store_with(&path, EVENTS);
    let whole = fs::read(&path).unwrap();
    for (at, flip) in (0..100).flat_map(|at| [1, 0x80, 0xff].map(|flip| (at, flip))) {
        let mut flipped = whole.clone();
        flipped[at] ^= flip;
        let copy = folder.path().join(format!("{at}-{flip}.db"));
        fs::write(&copy, flipped).unwrap();
        let all = EventFilter::default();
        let read = Reader::open(&copy).and_then(|reader| reader.events(&all, |_| Ok(())));
        let told = match &read {
            Ok(()) => true,
            Err(error) => {
                matches!(error, StoreError::Damaged { .. } | StoreError::NotAStore { .. })
            }
        };
        assert!(told, "byte {at}, {flip}: {read:?}");
        fs::remove_file(copy).unwrap();
    }
}
