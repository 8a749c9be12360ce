//! What one file changes against another, when it holds, and that no secret is shown.

use super::*;
use crate::core::reload::{Difference, Holds, Start};

fn between(old: &str, new: &str) -> Difference {
    difference(&accepted(old), &accepted(new))
}

#[track_caller]
fn texts(old: &str, new: &str, holds: Holds) -> Vec<String> {
    let changes = between(&with_command(old), &with_command(new)).0;
    assert!(changes.iter().all(|change| change.holds == holds), "{changes:?}");
    changes.into_iter().map(|change| change.text).collect()
}

#[test]
fn the_same_file_changes_nothing() {
    assert_eq!(between(REFERENCE, REFERENCE), Difference::default());
}

#[test]
fn each_change_is_told_with_both_values() {
    let old = "[memory]\nsoft_limit = \"256MiB\"\n[leak]\naction = \"alert\"";
    let new = "[memory]\nhard_limit = \"1GiB\"\n[rolling]\nmax_age = \"1h\"";
    assert_eq!(
        texts(old, new, Holds::Now),
        [
            "memory.soft_limit: 256MiB → not set",
            "memory.hard_limit: not set → 1GiB",
            "leak.action: alert → restart",
            "rolling.max_age: not set → 1h",
        ]
    );
}

#[test]
fn what_a_worker_is_started_with_holds_for_new_ones() {
    let old = "app.user = \"www\"\n[limits]\nnofile = 1024\ncore = \"0B\"";
    let new = "app.umask = \"0027\"\napp.release = \"2\"\n[limits]\nnofile = \"1024:4096\"";
    assert_eq!(
        texts(old, new, Holds::InNewWorkers),
        [
            "app.user: www → not set",
            "app.umask: not set → 0027",
            "app.release: not set → 2",
            "limits.core: 0 → inherited",
            "limits.nofile: 1024 → 1024:4096",
        ]
    );
}

/// All that holds in new workers is of the release, and nothing else.
#[test]
fn a_release_is_what_workers_are_started_with() {
    let new = "command = [\"b\", \"c\"]\ndirectory = \"d\"\nenvironment = { E = \"1\" }\n\
               environment_file = \"e\"\nuser = \"u\"\ngroup = \"g\"\numask = \"027\"\n\
               stop_signal = \"INT\"\nrelease = \"2\"\nworkers = 7\n[limits]\nnofile = 7\n[health]\n\
               path = \"/h\"\nwatchdog = \"5s\"\ninterval = \"7s\"\n[evidence]\nlog_lines = 7\n\
               keep = \"2GiB\"\n[memory]\nsoft_limit = \"1GiB\"\n[ready]\nwhen = \"http\"\n\
               path = \"/r\"\ntimeout = \"7s\"";
    let (old, new) = (accepted("app.command = [\"a\"]"), accepted(&format!("[app]\n{new}")));
    let changes = difference(&old, &new);
    assert_eq!((changes.count(Holds::InNewWorkers), changes.count(Holds::Now)), (16, 4));
    let mixed = old.clone().with_release_of(&new);
    assert!(mixed.is_same_release(&new) && !mixed.is_same_release(&old));
    assert_eq!(difference(&old, &mixed).count(Holds::Now), 0);
    assert_eq!(difference(&mixed, &new).count(Holds::Now), 4);
    let labelled = accepted("[app]\ncommand = [\"a\"]\nrelease = \"2\"");
    assert!(labelled.starts_alike(&old) && !labelled.is_same_release(&old));
    assert!(!mixed.starts_alike(&old));
    let in_place = accepted("[app]\ncommand = [\"a\"]\nenvironment = { E = \"1\" }");
    assert_eq!(labelled.start_against(&old), Start::Alike);
    assert_eq!(in_place.start_against(&old), Start::InPlace);
    assert_eq!(mixed.start_against(&old), Start::Otherwise);
}

#[test]
fn no_secret_is_shown() {
    let file = |secret: &str, more: &str| {
        format!(
            "[app]\ncommand = [\"./server\", \"--password={secret}\"]\n\
             [app.environment]\nTOKEN = \"{secret}\"\nPLAIN = \"1\"\n{more}\n\
             [ready]\nwhen = \"http\"\npath = \"/ready?key={secret}\"\n\
             [evidence]\ncommand = [\"dump\", \"{secret}\"]\n\
             [hooks]\non_drain = [\"lb\", \"{secret}\"]\n\
             [[alert]]\nto = [{{ name = \"ops\", command = [\"mail\", \"{secret}\"] }}]\n"
        )
    };
    let told = between(&file("hunter2", ""), &file("hunter3", "NEW = \"hunter4\""));
    let texts: Vec<_> = told.0.iter().map(|change| change.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "app.command: another value",
            "app.environment.NEW: added",
            "app.environment.TOKEN: another value",
            "alert: another value",
            "ready.path: another value",
            "evidence.command: another value",
            "hooks.on_drain: another value",
        ]
    );
    assert!(!format!("{told:?}").contains("hunter"), "{told:?}");
}

/// What is said to stay stays, and nothing else does.
#[test]
fn what_needs_a_restart_is_kept_as_it_was() {
    let old = accepted("app.command = [\"a\"]");
    let new = accepted(
        "[app]\nname = \"other\"\ncommand = [\"b\"]\nworkers = 3\n[listen]\nmode = \"inherit\"\n\
         address = [\"127.0.0.1:81\"]\nbacklog = 9\n[log]\nformat = \"json\"\n\
         worker_output = \"files\"\npath = \"/l\"\nrotate = { keep = 3 }\nflood_limit = 7\n\
         [store]\npath = \"/s\"\nretention = \"9d\"\n[control]\nsocket = \"/c\"\n",
    );
    let told = difference(&old, &new);
    assert_eq!(told.count(Holds::AfterRestart), 7, "{told:?}");
    let taken = new.clone().in_place_of(&old);
    let left = |holds| difference(&old, &taken).count(holds);
    assert_eq!(left(Holds::AfterRestart), 0);
    assert_eq!(left(Holds::InNewWorkers), told.count(Holds::InNewWorkers));
    assert_eq!(left(Holds::Now), told.count(Holds::Now));
    let still = difference(&taken, &new);
    assert_eq!(still.count(Holds::AfterRestart), 7, "the next reload says it again");
    assert_eq!(still.0.len(), 7, "{still:?}");
}

/// What a mode brings with it comes with the mode.
#[test]
fn defaults_of_another_mode_wait_for_the_restart() {
    let old = accepted("app.command = [\"a\"]");
    let new = accepted("app.command = [\"a\"]\nlisten.mode = \"none\"");
    assert_ne!(new.settings.health, old.settings.health, "nobody is probed in that mode");
    let told = difference(&old, &new.in_mode_of(&old));
    assert_eq!((told.0.len(), told.count(Holds::AfterRestart)), (1, 1), "{told:?}");
}
