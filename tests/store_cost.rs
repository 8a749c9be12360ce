//! What the audit log costs when it is long. A measurement, printed and not judged; quoted in the
//! documentation of `stanch::store`:
//!
//! ```sh
//! STANCH_BENCH_DIR=FOLDER cargo test --release --test store_cost -- --ignored --nocapture
//! ```
//!
//! Through the program itself, as an operator waits for it, beside what its start alone takes.

use jiff::{SignedDuration, Timestamp};
use stanch::core::{
    Figures, Generation, Incident, IncidentId, IncidentState, Kind, Record, Severity, Slot,
};
use stanch::store::Store;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const EVENTS: u64 = 1_000_000;
/// Events of one incident.
const EACH: u64 = 20;
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn record(number: u64, began: Timestamp) -> Record {
    let mut figures = Figures::new();
    figures.insert("growth_kib".into(), (100_000 + number).into());
    figures.insert("age_s".into(), 3600.5.into());
    Record {
        number,
        at: began + SignedDuration::from_secs(20 * number as i64),
        kind: Kind::DrainStarted,
        incident: Some(id(number / EACH)),
        slot: Some(Slot(number as u32 % 16)),
        pid: Some(4242),
        generation: Some(Generation(number / 16)),
        release: Some("2026.11.3".into()),
        cause: Some("leak".into()),
        reason:
            "grows 3.1 MiB/min since 14:03Z (95%: 2.8–3.4), floor of 11 collection cycles rising"
                .into(),
        figures,
        state: None,
    }
}

fn id(number: u64) -> IncidentId {
    IncidentId(format!("incident-{number}"))
}

fn incident(number: u64, began: Timestamp) -> Incident {
    Incident {
        id: id(number),
        kind: "leak".into(),
        severity: Severity::Major,
        state: IncidentState::Resolved,
        opened_at: began + SignedDuration::from_secs(400 * number as i64),
        resolved_at: Some(began + SignedDuration::from_secs(400 * number as i64 + 300)),
        release: Some("2026.11.3".into()),
        slots: vec![Slot(1)],
        acknowledged: None,
        seen: String::new(),
        last_intervention: None,
        handled_at: None,
        causes: Vec::new(),
        period_s: None,
        interventions: EACH,
        impact: Figures::new(),
        summary: "worker 1 leaks memory".into(),
    }
}

fn fill(path: &Path) {
    let began = Timestamp::now() - SignedDuration::from_secs(20 * EVENTS as i64);
    let store = Store::open(path, YEAR).unwrap();
    let writer = store.writer();
    let (mut waiting, mut took) = (Vec::new(), Duration::ZERO);
    for number in 1..=EVENTS {
        let start = Instant::now();
        let state = Some(Box::new(incident(number / EACH, began)));
        waiting.push(writer.append(Record { state, ..record(number, began) }));
        // As many at once as find room.
        if waiting.len() == 5_000 || number == EVENTS {
            waiting.drain(..).for_each(|durable| assert!(durable.blocking_recv().is_ok()));
        }
        took += start.elapsed();
    }
    println!("append, 5,000 at a time: {:.1} µs each", 1e6 * took.as_secs_f64() / EVENTS as f64);
    assert_eq!(store.close(Duration::from_secs(600)), 0);
    let mib = std::fs::metadata(path).unwrap().len() >> 20;
    println!("the file: {mib} MiB");
}

#[test]
#[ignore = "a measurement"]
fn a_million_events() {
    let folder = tempfile::tempdir_in(std::env::var_os("STANCH_BENCH_DIR").unwrap()).unwrap();
    let path = folder.path().join("s.db");
    fill(&path);
    let (id, recent) = (id(EVENTS / EACH / 2).0, "2h");
    let questions: &[&[&str]] = &[
        &["--help"],
        &["events", "--last", "20"],
        &["events", "--since", recent],
        &["events", "--slot", "3", "--last", "20"],
        &["events", "--incident", &id],
        &["show", &id],
        &["list", "--last", "20"],
        &["list", "--json"],
        &["report", &id],
        &["events", "--kind", "leak_confirmed"],
        &["verify"],
        &["export"],
    ];
    for question in questions {
        let took = (0..5).map(|_| {
            let began = Instant::now();
            let status = Command::new(env!("CARGO_BIN_EXE_stanch"))
                .arg("incidents")
                .args(*question)
                .args(["--store".as_ref(), path.as_os_str()])
                .stdout(Stdio::null())
                .status();
            assert!(status.unwrap().success(), "{question:?}");
            began.elapsed()
        });
        println!("incidents {}: {:.0?}, the best of 5", question.join(" "), took.min().unwrap());
    }
}
