use super::*;
use crate::core::{Figures, Generation, IncidentId, IncidentState, Kind, Severity, Slot};
use serde_json::json;

const OPENED_S: i64 = 1_700_000_000;

fn at(offset_s: f64) -> Timestamp {
    Timestamp::from_millisecond(OPENED_S * 1000 + (offset_s * 1000.0) as i64).unwrap()
}

fn record(
    offset_s: f64,
    kind: Kind,
    worker: Option<WorkerId>,
    figures: serde_json::Value,
) -> Record {
    Record {
        number: 0,
        at: at(offset_s),
        kind,
        incident: Some(IncidentId("X".into())),
        slot: worker.map(|worker| worker.slot),
        pid: None,
        generation: worker.map(|worker| worker.generation),
        release: Some("7".into()),
        cause: None,
        reason: "said so".into(),
        figures: figures.as_object().cloned().unwrap_or_default(),
        state: None,
    }
}

/// Two slots; slot 0 was replaced so many times, once a minute, each worker growing alike.
fn leak(times: u64) -> Dossier {
    let mut records = vec![record(-60.0, Kind::SupervisorStarted, None, json!({ "workers": 2 }))];
    for slot in 0..2 {
        records.push(record(-59.0, Kind::WorkerReady, Some(WorkerId::new(slot, 1)), json!({})));
    }
    let opened =
        Record { slot: Some(Slot(0)), ..record(0.0, Kind::IncidentOpened, None, json!({})) };
    records.push(opened);
    let mut curves = vec![curve(1, -60.0)];
    for nth in 1..=times {
        let (old, new) = (WorkerId::new(0, nth), WorkerId::new(0, nth + 1));
        let begin = 60.0 * (nth - 1) as f64;
        records.push(record(begin, Kind::LeakConfirmed, Some(old), json!({})));
        records.push(record(begin + 1.0, Kind::WorkerStarted, Some(new), json!({})));
        records.push(record(
            begin + 2.0,
            Kind::WorkerReady,
            Some(new),
            json!({ "start_ms": 1000 }),
        ));
        let drain = json!({ "growth_kib": 61_440, "age_s": 60.0 });
        records.push(record(begin + 2.0, Kind::DrainStarted, Some(old), drain));
        records.push(record(begin + 3.0, Kind::WorkerRetired, Some(old), json!({})));
        curves.push(curve(nth + 1, begin));
    }
    let incident = Incident {
        id: IncidentId("X".into()),
        kind: "leak".into(),
        severity: Severity::Major,
        state: IncidentState::Mitigated,
        opened_at: at(0.0),
        resolved_at: None,
        release: Some("7".into()),
        slots: vec![Slot(0)],
        interventions: times,
        impact: Figures::new(),
        summary: "worker 0 leaks".into(),
        acknowledged: None,
        seen: String::new(),
        last_intervention: None,
        handled_at: None,
        causes: Vec::new(),
        period_s: None,
    };
    let made_at = at(60.0 * times as f64);
    Dossier { incident, records, curves, earlier: Vec::new(), made_at, zone: TimeZone::UTC }
}

/// A MiB a second.
fn curve(generation: u64, begin_s: f64) -> Curve {
    let sample = |nth: u32| {
        let rss_anon_kib = Some(1024 * u64::from(nth));
        (at(begin_s + f64::from(nth)), Sample { rss_anon_kib, ..Sample::default() })
    };
    Curve {
        worker: WorkerId::new(0, generation),
        limit_kib: Some(256 * 1024),
        samples: (0..60).map(sample).collect(),
    }
}

fn lines(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn has_the_form_of_a_post_mortem() {
    let document = post_mortem(&leak(1));
    let titles: Vec<&str> = document.sections.iter().map(|section| section.title).collect();
    assert_eq!(
        titles,
        [
            "Issue summary",
            "Impact",
            "Root cause",
            "Timeline",
            "What it was not",
            "Resolution",
            "Corrective and preventative measures",
        ]
    );
}

#[test]
fn the_steps_of_a_replacement_are_one_line() {
    let text = markdown(&post_mortem(&leak(3)));
    assert_eq!(
        lines(&text, "was replaced by a new one, ready after 1 s; drained in 1 s"),
        3,
        "{text}"
    );
    for step in ["worker ready", "worker started", "drain started", "worker retired"] {
        assert_eq!(lines(&text, step), 0, "{text}");
    }
}

#[test]
fn of_many_replacements_the_middle_ones_are_one_line() {
    let text = markdown(&post_mortem(&leak(100)));
    assert_eq!(lines(&text, "was replaced by a new one"), 16);
    assert_eq!(lines(&text, "84 more replacements"), 1, "{text}");
}

#[test]
fn a_restart_that_does_not_help_is_said() {
    let text = markdown(&post_mortem(&leak(2)));
    let fact = "2 replaced workers and their successors grow by 60 MiB and 60 MiB a minute";
    assert_eq!(lines(&text, fact), 1, "{text}");
    // Of a worker without a successor nothing can be said.
    assert_eq!(lines(&markdown(&post_mortem(&leak(0))), "a restart does not help"), 0);
}

/// A worker in good order, one that leaks, one in good order.
#[test]
fn what_came_before_a_leak_does_not_hide_that_a_restart_helped() {
    let mut dossier = leak(2);
    dossier.records.retain(|record| {
        record.kind != Kind::LeakConfirmed || record.generation == Some(Generation(2))
    });
    for curve in dossier.curves.iter_mut().filter(|curve| curve.worker.generation.0 != 2) {
        for (_, sample) in &mut curve.samples {
            sample.rss_anon_kib = Some(1024);
        }
    }
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "a restart does not help"), 0, "{text}");
    let fact = "perhaps | worker 0.2 and its successor grow by 60 MiB and 0";
    assert_eq!(lines(&text, fact), 1, "{text}");
}

/// The next release does not leak; then a worker crashes, and the one that follows grows more than any.
#[test]
fn what_follows_a_leak_says_nothing_of_it() {
    let mut dossier = leak(1);
    dossier.incident.state = IncidentState::Resolved;
    dossier.incident.handled_at = Some(at(3.0));
    dossier.incident.resolved_at = Some(at(603.0));
    dossier.incident.impact.insert("below_capacity_ms".into(), 1000.into());
    let next = Some(Generation(2));
    for record in dossier.records.iter_mut().filter(|record| record.generation == next) {
        record.release = Some("8".into());
    }
    let later = |offset_s, kind, worker| Record {
        incident: None,
        ..record(offset_s, kind, Some(worker), json!({}))
    };
    dossier.records.push(later(100.0, Kind::WorkerCrashed, WorkerId::new(0, 2)));
    dossier.records.push(later(105.0, Kind::WorkerReady, WorkerId::new(0, 3)));
    let mut steep = curve(3, 105.0);
    steep.samples.iter_mut().for_each(|(_, sample)| sample.rss_shmem_kib = Some(1 << 22));
    steep.samples[0].1.rss_shmem_kib = None;
    dossier.curves.push(steep);
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "Worker 0.1 went from"), 1, "{text}");
    assert_eq!(lines(&text, "in worker 0.3 over"), 0, "{text}");
    assert_eq!(lines(&text, "a state that a restart clears"), 0, "{text}");
    assert_eq!(lines(&text, "Slots of the incident that served"), 0, "{text}");
}

#[test]
fn time_without_workers_is_what_the_supervisor_counted() {
    let mut dossier = leak(1);
    dossier.incident.slots.push(Slot(1));
    let (below, chart) =
        ("fewer workers served than shall, for", "Slots of the incident that served");
    let text = |dossier: &Dossier| markdown(&post_mortem(dossier));
    assert_eq!(lines(&text(&dossier), below), 0);
    assert_eq!(lines(&text(&dossier), "None that stanch can see"), 1);
    dossier.incident.impact.insert("below_capacity_ms".into(), 5000.into());
    // An operator's wish is no step of it.
    let mut drain = record(10.0, Kind::DrainStarted, Some(WorkerId::new(1, 1)), json!({}));
    drain.cause = Some("operator".into());
    dossier.records.push(drain);
    assert_eq!(lines(&text(&dossier), chart), 0);
    let crash = Kind::WorkerCrashed;
    dossier.records.push(record(20.0, crash, Some(WorkerId::new(1, 1)), json!({})));
    dossier.records.push(record(25.0, Kind::WorkerReady, Some(WorkerId::new(1, 2)), json!({})));
    let text = text(&dossier);
    assert_eq!(lines(&text, &format!("{below} 5 s")), 1, "{text}");
    assert_eq!(lines(&text, &format!("{chart}, of 2")), 1, "{text}");
    assert_eq!(lines(&text, "2023-11-14 22:13:40  1"), 1, "{text}");
    assert_eq!(lines(&text, "2023-11-14 22:13:45  2"), 1, "{text}");
}

#[test]
fn an_outage_in_which_no_worker_came_up_is_no_none() {
    let mut dossier = leak(0);
    dossier.incident.kind = "start_failure".into();
    dossier.incident.state = IncidentState::Open;
    dossier.incident.slots = vec![Slot(0), Slot(1)];
    dossier.incident.impact.insert("below_capacity_ms".into(), 65_000.into());
    dossier.records.truncate(1);
    let failed = Some(WorkerId::new(0, 1));
    dossier.records.push(record(0.0, Kind::WorkerStartFailed, failed, json!({})));
    dossier.made_at = at(65.0);
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "fewer workers serve than shall, for 1 min 5 s when"), 1, "{text}");
    assert_eq!(lines(&text, "served, of 2"), 1, "{text}");
    assert_eq!(lines(&text, "2023-11-14 22:13:20  0"), 1, "{text}");
    assert_eq!(lines(&text, "**Duration:** 1 min 5 s so far"), 1, "{text}");
}

/// What it costs is counted each minute, and this is the first one.
#[test]
fn an_outage_that_has_just_begun_is_no_none() {
    let mut dossier = leak(0);
    dossier.incident.state = IncidentState::Open;
    dossier.made_at = at(20.0);
    let crash = record(1.0, Kind::WorkerCrashed, Some(WorkerId::new(0, 1)), json!({}));
    dossier.records.push(crash);
    dossier.incident.impact.clear();
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "None that stanch can see"), 0, "{text}");
    assert_eq!(lines(&text, "the time is counted each minute"), 1, "{text}");
    assert_eq!(lines(&text, "Slots of the incident that served"), 1, "{text}");
}

#[test]
fn who_served_since_before_the_records_begin_did_serve() {
    let mut dossier = leak(0);
    dossier.incident.impact.insert("below_capacity_ms".into(), 2000.into());
    dossier.records.retain(|record| record.kind != Kind::WorkerReady);
    let (old, new) = (Some(WorkerId::new(0, 7)), Some(WorkerId::new(0, 8)));
    dossier.records.push(record(1.0, Kind::WorkerCrashed, old, json!({})));
    dossier.records.push(record(3.0, Kind::WorkerReady, new, json!({})));
    dossier.made_at = at(10.0);
    let text = markdown(&post_mortem(&dossier));
    for step in ["22:13:20  1", "22:13:21  0", "22:13:23  1"] {
        assert_eq!(lines(&text, step), 1, "{text}");
    }
}

#[test]
fn quiet_time_is_no_part_of_an_incident() {
    let mut dossier = leak(1);
    dossier.incident.state = IncidentState::Resolved;
    dossier.incident.handled_at = Some(at(3.0));
    dossier.incident.resolved_at = Some(at(603.0));
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "**Ended:** 2023-11-14 22:13:23 UTC"), 1, "{text}");
    assert_eq!(lines(&text, "**Duration:** 3 s"), 1, "{text}");
    let closed = "**Closed:** 2023-11-14 22:23:23 UTC, 10 min after the last sign of it";
    assert_eq!(lines(&text, closed), 1, "{text}");
}

#[test]
fn an_incident_ends_for_the_report_when_supervision_ends_for_good() {
    let mut dossier = leak(1);
    dossier.incident.state = IncidentState::Open;
    dossier.records.push(record(30.0, Kind::SupervisorStopped, None, json!({})));
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "**Duration:** 30 s so far"), 1, "{text}");
    assert_eq!(lines(&text, "not seen: it was open when its supervisor ended"), 1, "{text}");
    // The next one goes on with it.
    dossier.records.push(record(40.0, Kind::SupervisorStarted, None, json!({ "workers": 2 })));
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "**Duration:** 1 min so far"), 1, "{text}");
    assert_eq!(lines(&text, "**Ended:** not yet: it is open"), 1, "{text}");
}

#[test]
fn a_leak_that_stopped_growing_is_said_to_have_ended() {
    let mut dossier = leak(1);
    let cleared = record(30.0, Kind::LeakCleared, Some(WorkerId::new(0, 2)), json!({}));
    dossier.records.push(cleared);
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(
        lines(&text, "At 2023-11-14 22:13:50 UTC the growth had ended: said so."),
        1,
        "{text}"
    );
}

#[test]
fn tries_of_an_alert_are_one_line_and_of_many_the_middle_ones() {
    let mut dossier = leak(0);
    let mut alert = |at_s: u32, kind, to: &str| {
        let figures = json!({ "to": to, "what": "opened" });
        dossier.records.push(record(f64::from(at_s), kind, None, figures));
    };
    (1..5).for_each(|second| alert(second, Kind::AlertFailed, "operations"));
    alert(5, Kind::AlertSent, "operations");
    (10..40).for_each(|second| alert(second, Kind::AlertSent, &format!("team {second}")));
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "alert failed"), 0, "{text}");
    let tried = "alert sent — said so (4 failures since 2023-11-14 22:13:21)";
    assert_eq!(lines(&text, tried), 1, "{text}");
    assert_eq!(lines(&text, "alert sent"), 16, "{text}");
    assert_eq!(lines(&text, "15 more alerts like these, until 2023-11-14 22:13:51"), 1, "{text}");
}

#[test]
fn times_are_the_operators_and_utc() {
    let mut dossier = leak(1);
    dossier.zone = TimeZone::fixed(jiff::tz::offset(1));
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "2023-11-14 23:13:20 +01 (22:13:20 UTC)"), 3, "{text}");
    assert_eq!(lines(&text, "| 2023-11-14 23:13:22 | 22:13:22 |"), 1, "{text}");
}

#[test]
fn words_of_others_stay_words() {
    let mut dossier = leak(1);
    dossier.incident.summary = "<script>alert(1)</script> & \"x\" | [a](b) `c`\n# d".into();
    let document = post_mortem(&dossier);
    let page = html(&document);
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;"));
    let text = markdown(&document);
    let expected = r#"\<script\>alert(1)\</script\> & "x" \| \[a\](b) \`c\` \# d"#;
    assert_eq!(lines(&text, expected), 1, "{text}");
}

#[test]
fn a_page_needs_nothing_else() {
    let page = html(&post_mortem(&leak(12)));
    for other in ["http://", "https://", "src=", "url(", "@import"] {
        let found = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(other), "{other}");
    }
}

#[test]
fn each_kind_of_incident_has_a_page() {
    for kind in
        ["leak", "memory_limit", "crash", "crash_loop", "hang", "start_failure", "roll_failure"]
    {
        let page = runbook::of(kind).unwrap_or_else(|| panic!("{kind}"));
        for heading in ["What it means", "What stanch did"] {
            assert!(page.contains(&format!("\n## {heading}\n")), "{kind}: {heading}");
        }
        for heading in runbook::LISTS {
            assert!(!runbook::items(page, heading).is_empty(), "{kind}: {heading}");
        }
    }
}

/// With the hashes of what workers were started from.
fn started(offset_s: f64, generation: u64, program: &str) -> Record {
    let figures = json!({ "program_hash": program, "host_hash": "h" });
    let record = record(offset_s, Kind::WorkerStarted, Some(WorkerId::new(0, generation)), figures);
    Record { incident: None, ..record }
}

#[test]
fn what_did_not_change_is_ruled_out_and_what_did_is_not() {
    let mut dossier = leak(2);
    dossier.records.insert(0, started(-7200.0, 1, "a"));
    dossier.records.insert(1, started(-600.0, 1, "b"));
    let text = markdown(&post_mortem(&dossier));
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap_or_default();
    assert!(line("the program's files").contains("look at it"), "{text}");
    assert!(line("the program's files").contains("10 min before"), "{text}");
    assert!(line("the host").contains("| no |"), "{text}");
    assert_eq!(lines(&text, "its environment"), 0, "{text}");

    // What is known from before the day that the report reads.
    let confirmed = dossier.records.iter_mut().find(|r| r.kind == Kind::LeakConfirmed).unwrap();
    confirmed.figures.insert("host_since".into(), "2023-01-02T03:04:05.000Z".into());
    let text = markdown(&post_mortem(&dossier));
    assert!(text.contains("unchanged since 2023-01-02 03:04:05 UTC"), "{text}");
}

#[test]
fn what_was_suspected_before_stands_in_the_timeline() {
    let mut dossier = leak(1);
    let suspicion = |slot| {
        let who = Some(WorkerId::new(slot, 1));
        Record { incident: None, ..record(-20.0, Kind::LeakSuspected, who, json!({})) }
    };
    dossier.records.insert(3, suspicion(0));
    dossier.records.insert(4, suspicion(1));
    assert_eq!(lines(&markdown(&post_mortem(&dossier)), "leak suspected"), 1);
}

#[test]
fn a_leak_begins_with_the_growth() {
    let mut dossier = leak(1);
    let who = Some(WorkerId::new(0, 1));
    let growing = |offset_s: f64| json!({ "growing_s": offset_s + 50.0 });
    let suspected = record(-20.0, Kind::LeakSuspected, who, growing(-20.0));
    dossier.records.insert(3, Record { incident: None, ..suspected });
    let text = |dossier: &Dossier| markdown(&post_mortem(dossier));
    let told = text(&dossier);
    let head = "- **Began:** 2023-11-14 22:12:30 UTC\n- **Suspected:** 2023-11-14 22:13:00 UTC\n\
                - **Confirmed:** 2023-11-14 22:13:20 UTC\n";
    assert!(told.contains(head), "{told}");
    let row = "| 2023-11-14 22:12:30 | worker 0.1 begins to grow, as was reckoned later |";
    assert_eq!(lines(&told, row), 1, "{told}");
    // By the confirmation it had begun still earlier.
    let confirmed = dossier.records.iter_mut().find(|r| r.kind == Kind::LeakConfirmed).unwrap();
    confirmed.figures.insert("growing_s".into(), 55.into());
    let told = text(&dossier);
    assert_eq!(lines(&told, "**Began:** 2023-11-14 22:12:25 UTC"), 1, "{told}");
}

#[test]
fn a_beginning_that_is_lost_is_said_to_be() {
    let mut dossier = leak(2);
    let text = |dossier: &Dossier| markdown(&post_mortem(dossier));
    assert_eq!(lines(&text(&dossier), "beginning is missing"), 0);
    // Another file of the store holds the events from then on.
    dossier.records.retain(|record| record.at > at(30.0));
    let told = text(&dossier);
    let said = "beginning is missing: it was opened at 2023-11-14 22:13:20 UTC, and the audit log holds \
                nothing of it before 2023-11-14 22:14:20 UTC";
    assert_eq!(lines(&told, said), 1, "{told}");
    dossier.records.clear();
    assert_eq!(lines(&text(&dossier), "and the audit log holds no event of it"), 1);
}

#[test]
fn a_hang_begins_with_the_first_probe_that_failed() {
    let mut dossier = leak(0);
    dossier.incident.kind = "hang".into();
    let who = Some(WorkerId::new(0, 1));
    dossier.records.push(record(0.0, Kind::WorkerHung, who, json!({ "failing_s": 20.0 })));
    assert!(markdown(&post_mortem(&dossier)).contains("2023-11-14 22:13:00 UTC"));
}

#[test]
fn who_answered_the_probes_is_drawn() {
    let mut dossier = leak(0);
    dossier.incident.kind = "hang".into();
    dossier.incident.impact.insert("below_capacity_ms".into(), 21_000.into());
    let (old, new) = (Some(WorkerId::new(0, 1)), Some(WorkerId::new(0, 2)));
    let text = |dossier: &Dossier| markdown(&post_mortem(dossier));
    assert_eq!(lines(&text(&dossier), "Health probes"), 0);
    let hung = json!({ "failed_probes": 3, "failing_s": 20.0 });
    dossier.records.push(record(0.0, Kind::WorkerHung, old, hung));
    let took = json!({ "start_ms": 900 });
    dossier.records.push(record(1.0, Kind::WorkerReady, new, took));
    dossier.records.push(record(2.0, Kind::DrainStarted, old, json!({})));
    dossier.records.push(record(3.0, Kind::WorkerRetired, old, json!({})));
    dossier.made_at = at(60.0);
    let text = text(&dossier);
    let told = "worker 0.1    did not answer from 2023-11-14 22:13:00 to 2023-11-14 22:13:22";
    assert_eq!(lines(&text, told), 1, "{text}");
    assert_eq!(lines(&text, "worker 0.2    answered"), 1, "{text}");
    assert_eq!(lines(&text, "A new worker took 900 ms to come up"), 1, "{text}");
    assert_eq!(lines(&text, "the old one served"), 0, "{text}");
    // One whose end nobody saw, in an earlier life of the supervisor.
    let gone = Some(WorkerId::new(0, 0));
    let earlier = [(-900.0, Kind::WorkerReady), (-800.0, Kind::UnrecordedAction)];
    let earlier = earlier.map(|(offset_s, kind)| Record {
        incident: None,
        ..record(offset_s, kind, gone, json!({}))
    });
    dossier.records.splice(0..0, earlier);
    assert_eq!(lines(&markdown(&post_mortem(&dossier)), "worker 0.0"), 0);
    // Until it was found out, too.
    assert_eq!(lines(&text, "2023-11-14 22:13:00  0"), 1, "{text}");
    assert_eq!(lines(&text, "2023-11-14 22:13:21  1"), 1, "{text}");
    let page = html(&post_mortem(&dossier));
    assert_eq!(
        (lines(&page, "class=\"fails\""), lines(&page, "class=\"answers\"")),
        (1, 2),
        "{page}"
    );
}

#[test]
fn what_grew_in_each_worker_is_told() {
    let text = |dossier: &Dossier| markdown(&post_mortem(dossier));
    let mut dossier = leak(20);
    assert!(!text(&dossier).contains("## Evidence"), "there is none");
    for generation in 1..=20 {
        let figures = json!({
            "grew_most": "heap", "grew_most_kib": 1024 * generation, "baseline_age_s": 90,
            "descriptors_grew_most": "pipe", "descriptors_grew_most_by": 12
        });
        let worker = Some(WorkerId::new(0, generation));
        let at = 60.0 * generation as f64 - 58.5;
        let mut look = record(at, Kind::EvidenceCaptured, worker, figures);
        look.cause = Some("look".into());
        dossier.records.push(look);
    }
    let text = text(&dossier);
    assert!(text.contains("heap by 20 MiB, descriptors (pipe) by 12"), "{text}");
    assert!(text.contains("| 10 more |"), "{text}");
    assert!(text.contains("1 min 30 s"), "{text}");
    assert!(!text.contains("evidence captured"), "part of the replacement: {text}");
}

#[test]
fn what_was_left_of_a_worker_is_evidence_too() {
    let mut dossier = leak(1);
    let worker = Some(WorkerId::new(0, 7));
    for (at, part, grew) in [(1.0, "remains", 30), (2.0, "look", 40), (3.0, "remains", 50)] {
        let figures = json!({"grew_most": "heap", "grew_most_kib": 1024 * grew});
        let mut taken = record(at, Kind::EvidenceCaptured, worker, figures);
        taken.cause = Some(part.into());
        dossier.records.push(taken);
        let text = markdown(&post_mortem(&dossier));
        let told = [30, 40, 50].map(|mib| text.contains(&format!("heap by {mib} MiB")));
        // A look says more than what is left.
        assert_eq!(told, if grew == 30 { [true, false, false] } else { [false, true, false] });
    }
}

#[test]
fn a_release_that_was_gone_back_from_is_not_held_any_more() {
    let mut dossier = leak(1);
    let went = json!({ "from": "7", "to": "6" });
    dossier.records.push(record(3.0, Kind::ReleaseRolledBack, None, went));
    let text = markdown(&post_mortem(&dossier));
    assert_eq!(lines(&text, "- [x] roll back: stanch went from release 7 back to release 6"), 1);
    assert_eq!(lines(&text, "Roll back, if"), 0, "{text}");
    assert_eq!(lines(&text, "goes on replacing"), 0, "{text}");
}
