//! Holds the floors of the house: imports in `src` point down only.
//!
//! It reads the `crate::` paths of every file, and the `super::` paths that leave their room. A room
//! is a folder or file directly under `src`.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may import. A room that is missing here has no floor yet: give
/// it one.
const FLOORS: &[(&str, &[&str])] = &[
    // `run` puts the faces together, so the command line stands above the other two.
    (
        "cli",
        &["tui", "http", "runtime", "linux", "store", "alert", "report", "config", "wire", "core"],
    ),
    ("tui", &["runtime", "report", "config", "wire", "core"]),
    ("http", &["runtime", "report", "config", "wire", "core"]),
    ("runtime", &["linux", "store", "alert", "report", "config", "wire", "core"]),
    ("linux", &["core"]),
    ("store", &["core"]),
    ("alert", &["wire", "core"]),
    ("report", &["wire", "core"]),
    ("config", &["core"]),
    ("wire", &["core"]),
    ("core", &[]),
];

/// All that the faces may know of the runtime: its handle, and what travels through it.
const OF_RUNTIME: &[&str] = &["Handle", "Ended", "Request"];

/// What would give the core a clock, a world to touch, or a thread to wait on.
const IMPURE: &[&str] = &[
    "tokio",
    "nix::",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
];

/// A file of `src`: where it is, and its text without comments.
struct Source {
    path: PathBuf,
    room: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let inside = path.strip_prefix(&src).expect("it was found there");
                let first = inside.components().next().expect("a file has a name");
                let room = Path::new(&first).file_stem().expect("a file has a name");
                let room = room.to_str().expect("rooms have plain names").to_owned();
                found.push(Source { path: inside.to_owned(), room, code: without_comments(&text) });
            }
        }
    }
    assert!(found.len() > 10, "only {} sources found", found.len());
    found
}

fn without_comments(text: &str) -> String {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// The paths that follow each `prefix` in the code, groups in braces taken apart:
/// `crate::{core::{Slot, units}, wire}` gives `core::Slot`, `core::units` and `wire`.
fn paths(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            collect(&code[at + prefix.len()..], "", &mut found);
        }
    }
    found
}

/// Takes one path, or a group of them, from the beginning of `code`; returns what is behind it.
fn collect<'a>(code: &'a str, parent: &str, found: &mut Vec<String>) -> &'a str {
    let mut rest = code.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        rest = group;
        loop {
            rest = collect(rest, parent, found);
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => return rest.strip_prefix('}').unwrap_or(rest).trim_start(),
            }
        }
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (name, behind) = rest.split_at(end);
    let path = [parent, name].join("::").trim_matches(':').to_owned();
    match behind.strip_prefix("::") {
        Some(deeper) => collect(deeper, &path, found),
        None => {
            found.push(path);
            // What may stand here in a group: `as other_name`.
            behind.find([',', '}', ';']).map_or("", |end| &behind[end..])
        }
    }
}

/// The paths from the root of the crate that a file names.
fn imports(source: &Source) -> Vec<String> {
    let mut found = paths(&source.code, "crate::");
    // `super::` as often as the file is deep leads to the root as well; an inline `mod tests` adds
    // one, which is why names of rooms are looked for and others left alone.
    let depth = source.path.components().count() - usize::from(source.path.ends_with("mod.rs"));
    for supers in depth..=depth + 1 {
        let beyond = paths(&source.code, &"super::".repeat(supers));
        let own = |path: &String| {
            let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&source.room);
            let name = path.split("::").next().unwrap_or_default();
            room.join(name).exists() || room.join(format!("{name}.rs")).exists()
        };
        found.extend(beyond.into_iter().filter(|path| !own(path)));
    }
    found
}

/// What is wrong with the imports of a file, one line each.
fn offences(source: &Source) -> Vec<String> {
    let here = source.path.display();
    let Some((_, allowed)) = FLOORS.iter().find(|(room, _)| *room == source.room) else {
        return vec![format!("{here}: the room `{}` has no floor in tests/layers.rs", source.room)];
    };
    let mut offences = Vec::new();
    for path in imports(source) {
        let mut names = path.split("::");
        let target = names.next().unwrap_or_default();
        let is_room = FLOORS.iter().any(|(room, _)| *room == target);
        if is_room && target != source.room && !allowed.contains(&target) {
            offences.push(format!("{here}: `{path}` points up or sideways"));
        }
        let face = matches!(source.room.as_str(), "http" | "tui");
        let item = names.next().unwrap_or_default();
        if face && target == "runtime" && !OF_RUNTIME.contains(&item) {
            offences.push(format!("{here}: `{path}`: a face knows the runtime by its handle only"));
        }
    }
    if source.room == "core" {
        let impure = IMPURE.iter().filter(|word| source.code.contains(**word));
        offences.extend(impure.map(|word| format!("{here}: `{word}`: the core is pure")));
    }
    if source.room != "linux" && source.code.contains("unsafe_code") {
        offences.push(format!("{here}: unsafe code is for src/linux alone"));
    }
    offences
}

#[test]
fn imports_point_down() {
    // main.rs is above all rooms and sees the command line only; lib.rs lists the rooms.
    let (tops, rooms): (Vec<Source>, Vec<Source>) =
        sources().into_iter().partition(|source| matches!(source.room.as_str(), "main" | "lib"));
    let offences: Vec<String> = rooms.iter().flat_map(offences).collect();
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
    for top in tops.iter().filter(|top| top.room == "main") {
        let strays = paths(&top.code, "stanch::");
        let strays: Vec<_> = strays.iter().filter(|path| !path.starts_with("cli::")).collect();
        assert!(strays.is_empty(), "main.rs imports {strays:?}");
    }
}

#[test]
fn offences_are_found() {
    let found = |path: &str, code: &str| {
        let path = PathBuf::from(path);
        let room = path.components().next().expect("not empty");
        let room = Path::new(&room).file_stem().expect("not empty").to_string_lossy().into_owned();
        offences(&Source { path, room, code: without_comments(code) }).len()
    };
    for (path, code) in [
        ("core/action.rs", "use crate::wire;"),
        ("core/action.rs", "fn f() { crate::store::open() }"),
        ("core/action.rs", "use super::super::linux;"),
        ("core/mod.rs", "use super::linux::procfs;"),
        ("core/mod.rs", "mod tests { use super::super::linux; }"),
        ("core/mod.rs", "let now = std::time::Instant::now();"),
        ("linux/tree.rs", "use crate::{core::{Slot, units::{self, Bytes}}, store::Store};"),
        ("linux/tree.rs", "use crate::{core as c, config};"),
        ("store/mod.rs", "pub(in crate::linux) fn f() {}"),
        ("store/mod.rs", "#![allow(unsafe_code)]"),
        ("http/mod.rs", "use crate::runtime::Engine;"),
        ("http/mod.rs", "use crate::runtime;"),
        ("runtime/mod.rs", "use crate::cli::Failure;"),
        ("wire.rs", "use super::config;"),
        ("attic/mod.rs", ""),
    ] {
        assert_eq!(found(path, code), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("core/action.rs", "use crate::core::{Slot, Sample}; // not crate::linux"),
        ("core/action.rs", "use super::linux;"),
        ("linux/mod.rs", "use crate::linux::procfs; use crate::core::leak;"),
        ("http/mod.rs", "use crate::runtime::{Ended, Handle}; use crate::wire;"),
        ("cli/run.rs", "use crate::{http, runtime, store};"),
        ("runtime/mod.rs", "use crate::{linux::tree, store as s};"),
    ] {
        assert_eq!(found(path, code), 0, "{path}: {code}");
    }
}
