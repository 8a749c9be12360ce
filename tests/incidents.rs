//! `stanch incidents` as people and scripts meet it.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use stanch::core::{
    Figures, Generation, Incident, IncidentId, IncidentState, Kind, Record, Sample, Severity, Slot,
    WorkerId,
};
use stanch::store::{Life, Store};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn figures(pairs: &[(&str, Value)]) -> Figures {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

fn incident(id: &str, opened_at: &str, resolved_at: Option<&str>) -> Incident {
    Incident {
        id: IncidentId(id.into()),
        kind: "leak".into(),
        severity: Severity::Major,
        state: if resolved_at.is_some() { IncidentState::Resolved } else { IncidentState::Open },
        opened_at: opened_at.parse().unwrap(),
        resolved_at: resolved_at.map(|at| at.parse().unwrap()),
        release: Some("2026.11.3".into()),
        slots: vec![Slot(0), Slot(1)],
        interventions: 2,
        impact: figures(&[("connections_cut", 0.into())]),
        summary:
            "Workers of release 2026.11.3 leak 153 KiB/s; they were replaced one by one before \
                  the limit, and no request was dropped."
                .into(),
        acknowledged: None,
        seen: String::new(),
        last_intervention: None,
        handled_at: None,
        causes: Vec::new(),
        period_s: None,
    }
}

/// A store with two incidents, five events and the samples of two workers.
fn store(folder: &Path) -> PathBuf {
    let path = folder.join("shop.db");
    let store = Store::open(&path, HOUR).unwrap();
    let writer = store.writer();
    let incidents = [
        incident("20261120T081500Z", "2026-11-20T08:15:00Z", None),
        incident("20261121T153012Z", "2026-11-21T15:30:12.1204Z", Some("2026-11-21T15:41:40Z")),
    ];
    for (number, (kind, at, reason)) in [
        (Kind::SupervisorStarted, "2026-11-21T12:00:00Z", "stanch 0.1.0 began"),
        (Kind::LeakConfirmed, "2026-11-21T15:30:12.1204Z", "anonymous memory of the worker grows steadily under a load that does not; at this slope it reaches the soft limit in 13 minutes"),
        (Kind::RollStarted, "2026-11-21T15:30:12.130Z", "replacing two workers"),
        (Kind::WorkerRetired, "2026-11-21T15:31:00Z", "ended\u{1b}[2J as asked"),
        (Kind::IncidentResolved, "2026-11-22T00:00:00Z", "over"),
    ]
    .into_iter()
    .enumerate()
    {
        let number = number as u64 + 1;
        drop(writer.append(Record {
            number,
            at: at.parse().unwrap(),
            kind,
            incident: Some(incidents[usize::from(number > 1)].id.clone()),
            state: Some(Box::new(incidents[usize::from(number > 1)].clone())),
            slot: (2..=4).contains(&number).then_some(Slot(number as u32 % 2)),
            pid: (number == 2).then_some(4242),
            generation: (number == 2).then_some(Generation(3)),
            release: None,
            cause: None,
            reason: reason.into(),
            figures: match number {
                2 => figures(&[
                    ("slope_kib_s", 153.2.into()),
                    ("eta_s", 812.into()),
                    ("confidence", 0.97.into()),
                    ("limit_kib", 524_288.into()),
                ]),
                _ => Figures::new(),
            },
        }));
    }
    let now = Timestamp::now();
    for (slot, generation, age_s) in [(0, 1, 70), (1, 3, 60), (1, 4, 50), (0, 3, 1_000_000_000)] {
        let life = Arc::new(Life {
            worker: WorkerId::new(slot, generation),
            started: now - SignedDuration::from_secs(age_s),
            limit_kib: Some(2048),
            warm_up: Duration::from_secs(90),
        });
        let sample = Sample {
            rss_kib: Some(1000 * generation),
            threads: Some(4),
            load_rps: Some(1.5),
            ..Sample::default()
        };
        for s in 0..2 {
            let at = now + Duration::from_millis(s * 500);
            writer.add_sample(&life, at, sample);
        }
    }
    assert_eq!(store.close(HOUR), 0);
    path
}

fn record(kind: Kind, reason: &str) -> Record {
    Record {
        number: 0,
        at: Timestamp::now(),
        kind,
        incident: None,
        slot: None,
        pid: None,
        generation: None,
        release: None,
        cause: None,
        reason: reason.into(),
        figures: Figures::new(),
        state: None,
    }
}

fn incidents(store: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stanch"))
        .arg("incidents")
        .args(args)
        .arg("--store")
        .arg(store)
        .output()
        .unwrap()
}

fn text(store: &Path, args: &[&str]) -> String {
    let output = incidents(store, args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code and what was said on standard error.
fn failure(store: &Path, args: &[&str]) -> (i32, String) {
    let output = incidents(store, args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn json(store: &Path, args: &[&str]) -> Vec<Value> {
    text(store, args).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn all(values: &[Value], key: &str) -> Vec<Value> {
    values.iter().map(|value| value[key].clone()).collect()
}

#[test]
fn lists_are_complete_oldest_first_and_can_be_cut() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let ids = |args| all(&json(&store, args), "id");
    assert_eq!(ids(&["list", "--json"]), ["20261120T081500Z", "20261121T153012Z"]);
    assert_eq!(ids(&["list", "--json", "--last", "1"]), ["20261121T153012Z"]);
    assert_eq!(
        ids(&["list", "--json", "--since", "2026-11-21T00:00:00+02:00"]),
        ["20261121T153012Z"]
    );
    let first = text(&store, &["list", "--json"]).lines().next().unwrap().to_owned();
    assert!(
        first.starts_with(
            r#"{"id":"20261120T081500Z","kind":"leak","severity":"major","state":"open","opened_at":"2026-11-20T08:15:00.000Z","resolved_at":null,"release":"2026.11.3","slots":[0,1],"interventions":2,"impact":{"connections_cut":0},"summary":"#
        ),
        "{first}"
    );

    let seqs = |args| all(&json(&store, args), "seq");
    assert_eq!(seqs(&["events", "--json"]), [1, 2, 3, 4, 5]);
    assert_eq!(seqs(&["events", "--json", "--kind", "roll_started"]), [3]);
    assert_eq!(seqs(&["events", "--json", "--slot", "0"]), [2, 4]);
    assert_eq!(seqs(&["events", "--json", "--incident", "last", "--last", "2"]), [4, 5]);
    assert_eq!(seqs(&["export"]), [1, 2, 3, 4, 5]);
    assert!(text(&store, &["export"]).lines().all(|line| line.contains(r#"","hash":""#)));
    let long_ago = ["events", "--json", "--since", "5000w"];
    assert_eq!(seqs(&long_ago), [1, 2, 3, 4, 5]);
}

#[test]
fn tables_are_for_people_without_colours_in_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let table = text(&store, &["events"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(
        lines[2].split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect::<Vec<_>>()
            [..5],
        ["2", "2026-11-21 15:30:12.120", "leak_confirmed", "0.3", "4242"]
    );
    assert!(!table.contains('\u{1b}'), "{table}");
    let table = text(&store, &["list"]);
    assert!(
        table.contains("leak  major     resolved  2026-11-21 15:30:12  11m 27s  0,1"),
        "{table}"
    );
}

#[test]
fn one_incident_is_told_in_80_columns() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let told = text(&store, &["show", "20261121"]);
    assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
    for expected in [
        "Incident 20261121T153012Z\n",
        "  handled   2026-11-21 15:41:40 UTC, after 11m 27s\n  resolved  2026-11-21 15:41:40 UTC\n",
        "  opened    2026-11-21 15:30:12 UTC; the events of its beginning are not in this\n            store\n",
        "15:30:12.120  leak_confirmed  worker 0.3  pid 4242\n",
        "              confidence=0.97, eta_s=812, limit_kib=524288, slope_kib_s=153.2\n",
        "\n2026-11-22\n00:00:00.000  incident_resolved\n              over\n",
        "\nHow to fix it\n  - Find what the growing memory holds, and bound or release it.\n",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in\n{told}");
    }
    assert_eq!(told, text(&store, &["show", "last"]));
    let object = json(&store, &["show", "last", "--json"]);
    assert_eq!(object[0]["id"], "20261121T153012Z");
    assert_eq!(all(object[0]["events"].as_array().unwrap(), "seq"), [2, 3, 4, 5]);

    let (code, said) = failure(&store, &["show", "2026"]);
    assert_eq!(code, 1);
    assert!(said.contains("20261120T081500Z, 20261121T153012Z"), "{said}");
    let (code, said) = failure(&store, &["show", "1999"]);
    assert_eq!(code, 1);
    assert!(said.contains("no incident 1999"), "{said}");
}

#[test]
fn an_incident_is_reported_in_both_formats_and_in_the_operators_zone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let report = |format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_stanch"))
            .args(["incidents", "report", "last", "--format", format, "--store"])
            .arg(&store)
            .env("TZ", "Africa/Lagos")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = report("md");
    for expected in [
        "# Post-mortem: the application leaks memory (20261121T153012Z)\n",
        "\n- **Began:** 2026-11-21 16:30:12 WAT (15:30:12 UTC)\n",
        "\n- **Duration:** 11 min 28 s\n",
        "Its beginning is missing: it was opened at 2026-11-21 16:30:12 WAT (15:30:12 UTC), and the audit log holds nothing of it before 2026-11-21 16:30:12 WAT",
        "| 2026-11-21 16:31:00 | 15:31:00 | worker retired — slot 0: ended\\[2J as asked |\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let page = report("html");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    assert!(
        page.contains("<dt>Began</dt><dd>2026-11-21 16:30:12 WAT (15:30:12 UTC)</dd>"),
        "{page}"
    );
}

#[test]
fn events_are_exported_as_json_lines_and_as_csv() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let all = text(&store, &["export"]);
    assert_eq!(all, text(&store, &["events", "--json"]));
    let some =
        text(&store, &["export", "--kind", "roll_started", "--since", "2026-11-21T13:00:00Z"]);
    assert_eq!(some.lines().count(), 1);
    assert_eq!(text(&store, &["export", "--since", "2026-11-21T15:30:13Z"]).lines().count(), 2);

    let csv = text(&store, &["export", "--format", "csv"]);
    let mut lines = csv.lines();
    assert_eq!(
        lines.next().unwrap(),
        "seq,at,kind,incident,slot,pid,generation,release,cause,reason,figures,hash"
    );
    assert_eq!(lines.clone().count(), 5);
    let leak = lines.nth(1).unwrap();
    // A reason with a semicolon needs no quotes, figures do.
    assert!(
        leak.starts_with("2,2026-11-21T15:30:12.120Z,leak_confirmed,20261121T153012Z,"),
        "{leak}"
    );
    assert!(leak.contains(r#","{""#), "{leak}");
}

#[test]
fn new_events_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path());
    for arguments in [["events", "--json"], ["export", "--format=csv"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stanch"))
            .args(["incidents", "--store"])
            .arg(&path)
            .args(arguments)
            .args(["--follow", "--last", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until = |part: &str| while !lines.next().unwrap().unwrap().contains(part) {};
        // The one that was there, then what comes.
        until("incident_resolved");
        let store = Store::open(&path, HOUR).unwrap();
        drop(store.writer().append(record(Kind::WorkerCrashed, "fell over")));
        assert_eq!(store.close(HOUR), 0);
        until("fell over");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path, HOUR).unwrap();
        drop(store.writer().append(record(Kind::IncidentResolved, "incident_resolved again")));
        assert_eq!(store.close(HOUR), 0);
    }
}

/// Nothing new can come of it, and who waits for that shall know.
#[test]
fn a_store_that_goes_is_not_followed_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = store(folder.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_stanch"))
        .args(["incidents", "--store"])
        .arg(&path)
        .args(["events", "--json", "--follow", "--last", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    std::fs::rename(&path, folder.path().join("old.db")).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is not at its place any more"), "{said}");
}

#[test]
fn verify_names_the_break() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let whole = json(&store, &["verify", "--json"]).remove(0);
    let head = whole["head"].as_str().unwrap();
    assert_eq!((&whole["ok"], &whole["events"]), (&true.into(), &5.into()));
    assert!(text(&store, &["verify", "--head", head]).contains("5 events"));

    // By a hand that leaves the triggers as they were.
    let tampered = |statement: &str| {
        let connection = rusqlite::Connection::open(&store).unwrap();
        let mut triggers = connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap();
        let triggers = triggers.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let triggers: Vec<(String, String)> = triggers.map(Result::unwrap).collect();
        for (name, _) in &triggers {
            connection.execute(&format!("DROP TRIGGER {name}"), []).unwrap();
        }
        let outcome = connection.execute(statement, []);
        triggers.iter().for_each(|(_, text)| connection.execute_batch(text).unwrap());
        outcome
    };
    tampered("DELETE FROM events WHERE seq = 5").unwrap();
    // The end is noted beside the store; without the note it must have been noted elsewhere.
    let output = incidents(&store, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.starts_with("broken at event 5: the log ends after event 4, and stanch"),
        "{said}"
    );
    std::fs::remove_file(folder.path().join("shop.db.head")).unwrap();
    assert_eq!(json(&store, &["verify", "--json"])[0]["events"], 4);
    let output = incidents(&store, &["verify", "--head", head]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("broken at event 5: "));
    tampered("UPDATE events SET body = 'forged' WHERE seq = 2").unwrap_err();
    tampered("UPDATE events SET body = '\"forged\"' WHERE seq = 2").unwrap();
    let output = incidents(&store, &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let broken: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&broken["ok"], &broken["seq"]), (&false.into(), &2.into()));
    // What was forged can still be looked at.
    assert!(text(&store, &["events"]).contains(r#": "forged""#));
}

#[test]
fn samples_are_exported_a_worker_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let trace = |generation: u64, age_s: u64| {
        let rss = 1000 * generation;
        format!(
            "t_s,rss_kib,rss_anon_kib,rss_file_kib,rss_shmem_kib,vm_swap_kib,threads,fds,cpu_ticks,load_rps,\
             processes,limit_kib,warm_up_s\n{age_s},{rss},,,,,4,,,1.5,,2048,90\n\
             {age_s}.5,{rss},,,,,4,,,1.5,,,\n"
        )
    };
    assert_eq!(text(&store, &["export", "--samples", "--slot", "1"]), trace(4, 50));
    assert_eq!(
        text(&store, &["export", "--samples", "--slot", "1", "--generation", "3"]),
        trace(3, 60)
    );
    // Its only event with a worker is of slot 0; that worker lived long before the event.
    assert_eq!(
        text(&store, &["export", "--samples", "--incident", "last"]),
        trace(3, 1_000_000_000)
    );
    let (code, said) = failure(&store, &["export", "--samples", "--incident", "20261120"]);
    assert_eq!(code, 1);
    assert!(said.contains("names no such worker"), "{said}");
    let (code, said) = failure(&store, &["export", "--samples"]);
    assert_eq!(code, 2);
    assert!(said.contains("0.1, 0.3, 1.3, 1.4"), "{said}");
    assert_eq!(failure(&store, &["export", "--samples", "--slot", "7"]).0, 1);
}

#[test]
fn no_store_is_wrong_use_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.db");
    for args in [&["list"][..], &["verify"], &["show", "last"], &["export"]] {
        let (code, said) = failure(&path, args);
        assert_eq!(code, 2);
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    assert!(!path.exists());
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    assert_eq!(failure(&path, &["verify"]).0, 1);
}

#[test]
fn a_store_is_not_offered_where_it_acknowledges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let help = Command::new(env!("CARGO_BIN_EXE_stanch"))
        .args(["incidents", "ack", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--config") && !help.contains("--store"), "{help}");
    let (code, said) = failure(&store, &["ack", "last"]);
    assert_eq!(code, 2);
    assert!(said.contains("a store acknowledges nothing"), "{said}");
}

#[test]
fn the_only_store_in_the_default_folders_is_found() {
    let state = tempfile::tempdir().unwrap();
    let ask = || {
        Command::new(env!("CARGO_BIN_EXE_stanch"))
            .args(["incidents", "verify"])
            .env("XDG_STATE_HOME", state.path())
            .output()
            .unwrap()
    };
    let folder = state.path().join("stanch");
    std::fs::create_dir(&folder).unwrap();
    // The system's folder may hold stores of others; then there is no only one.
    if stanch::store::stores(|_| None).is_empty() {
        assert_eq!(ask().status.code(), Some(2));
        let store = store(&folder);
        assert_eq!(ask().status.code(), Some(0));
        std::fs::copy(&store, folder.join("other.db")).unwrap();
    } else {
        store(&folder);
    }
    let output = ask();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("shop.db"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_stanch"))
        .args(["incidents", "export", "--store"])
        .arg(&store)
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
