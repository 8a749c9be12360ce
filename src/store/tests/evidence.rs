//! The locker: what has a name is whole, the oldest makes room, only its owner reads.

use crate::core::evidence::Part;
use crate::core::{IncidentId, WorkerId};
use crate::store::{Locker, evidence_folder, kept};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const INCIDENT: &str = "20261121T153012Z";

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("shop.db");
    (folder, store)
}

fn put(locker: &Locker, generation: u64, text: &[u8]) -> (u64, u64) {
    let worker = WorkerId::new(0, generation);
    let mut draft = locker.draft(&IncidentId(INCIDENT.into()), worker, Part::Look).unwrap();
    draft.write("look.json", text).unwrap();
    draft.seal().unwrap().removed
}

/// What does not shrink.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn what_is_put_in_comes_out() {
    let (folder, store) = place();
    assert_eq!(evidence_folder(&store), folder.path().join("shop.evidence"));
    assert!(kept(&store).unwrap().is_empty(), "there is no folder yet");
    let locker = Locker::new(&store, 1 << 20);
    let text = b"a heap of text ".repeat(1000);
    put(&locker, 3, &text);
    let parts = kept(&store).unwrap();
    let part = &parts[0];
    assert_eq!((part.worker.as_str(), part.part.as_str()), ("0.3", "look"));
    assert_eq!((part.files[0].name.as_str(), part.files[0].bytes), ("look.json", 15_000));
    assert!(part.stored_bytes() < 1000);
    let mut read = Vec::new();
    part.read(&part.files[0]).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, text);
    let out = folder.path().join("out");
    let extracted = part.extract(&out).unwrap();
    assert_eq!(extracted, out.join(INCIDENT).join("0.3/look"));
    assert_eq!(fs::read(extracted.join("look.json")).unwrap(), text);
    let error = part.extract(&out).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "nothing is written over");
}

#[test]
fn the_oldest_make_room() {
    let (_folder, store) = place();
    let locker = Locker::new(&store, 100_000);
    let mut removed = 0;
    for generation in 1..=5 {
        removed += put(&locker, generation, &noise(40_000)).0;
    }
    let left: Vec<String> = kept(&store).unwrap().into_iter().map(|part| part.worker).collect();
    assert_eq!((left, removed), (vec!["0.4".to_owned(), "0.5".to_owned()], 3));
    assert!(!evidence_folder(&store).join(INCIDENT).join("0.1").exists(), "an empty folder");
}

#[test]
fn however_many_there_are_the_oldest_make_room() {
    let (_folder, store) = place();
    let locker = Locker::new(&store, 1 << 20);
    for generation in 1..=150 {
        assert_eq!(put(&locker, generation, b"x").0, 0);
    }
    locker.set_keep(40_000);
    // A block each, and a sixteenth is to be free.
    assert_eq!(put(&locker, 151, b"x").0, 142);
    let left: Vec<String> = kept(&store).unwrap().into_iter().map(|part| part.worker).collect();
    assert_eq!(left.first().map(String::as_str), Some("0.143"));
    assert_eq!(left.len(), 9);
}

#[test]
fn what_others_removed_is_not_counted() {
    let (_folder, store) = place();
    let locker = Locker::new(&store, 100_000);
    for generation in 1..=2 {
        put(&locker, generation, &noise(40_000));
    }
    fs::remove_dir_all(evidence_folder(&store).join(INCIDENT).join("0.1")).unwrap();
    assert_eq!(put(&locker, 3, &noise(40_000)).0, 0);
    assert_eq!(put(&locker, 4, &noise(40_000)).0, 1);
}

#[test]
fn a_draft_that_is_not_sealed_is_nothing() {
    let (_folder, store) = place();
    let locker = Locker::new(&store, 1 << 20);
    let incident = IncidentId(INCIDENT.into());
    let draft = || locker.draft(&incident, WorkerId::new(0, 1), Part::Look).unwrap();
    let in_folder = || fs::read_dir(evidence_folder(&store)).unwrap().count();
    let mut dropped = draft();
    dropped.write("look.json", b"{}").unwrap();
    assert_eq!((kept(&store).unwrap().len(), in_folder()), (0, 1));
    drop(dropped);
    assert_eq!(in_folder(), 0);
    // Of a supervisor that died.
    std::mem::forget(draft());
    assert_eq!(in_folder(), 1);
    Locker::new(&store, 1 << 20);
    assert_eq!(in_folder(), 0);
}

#[test]
fn a_part_has_its_name_once_and_files_have_harmless_names() {
    let (_folder, store) = place();
    let locker = Locker::new(&store, 1 << 20);
    put(&locker, 1, b"x");
    let incident = IncidentId(INCIDENT.into());
    let again = locker.draft(&incident, WorkerId::new(0, 1), Part::Look);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut draft = locker.draft(&incident, WorkerId::new(0, 1), Part::Command).unwrap();
    for name in ["../../up", ".hidden", "a b\n", "Heap.2026.heapsnapshot"] {
        let mut file = draft.create(name).unwrap();
        file.write_all(b"x").unwrap();
        file.finish().unwrap();
    }
    draft.seal().unwrap();
    let part = kept(&store).unwrap().remove(1);
    let names: Vec<&str> = part.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["Heap.2026.heapsnapshot", "_._.._up", "_hidden", "a_b_"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = evidence_folder(&store).join(INCIDENT).join("0.1/command");
    assert_eq!((mode(&folder), mode(&folder.join("a_b_.gz"))), (0o700, 0o600));
    assert_eq!(mode(&evidence_folder(&store)), 0o700);
}

/// Generations begin anew with each supervisor.
#[test]
fn a_namesake_of_an_earlier_supervisor_has_a_folder_of_its_own() {
    let (_folder, store) = place();
    put(&Locker::new(&store, 1 << 20), 1, b"x");
    let mut later = Locker::new(&store, 1 << 20);
    later.since = SystemTime::now() + Duration::from_secs(1);
    put(&later, 1, b"y");
    let workers: Vec<String> = kept(&store).unwrap().into_iter().map(|part| part.worker).collect();
    assert_eq!(workers, ["0.1", "0.1-2"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let (_folder, store) = place();
    fs::write(evidence_folder(&store), "a file").unwrap();
    let locker = Locker::new(&store, 1 << 20);
    let incident = IncidentId(INCIDENT.into());
    assert!(locker.draft(&incident, WorkerId::new(0, 1), Part::Look).is_err());
    assert!(kept(&store).is_err());
}
