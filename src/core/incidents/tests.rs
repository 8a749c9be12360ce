use super::super::WorkerId;
use super::*;
use jiff::Timestamp;

fn now(s: u64) -> Now {
    Now {
        mono: Moment(Duration::from_secs(s)),
        wall: Timestamp::from_second(1_800_000_000 + s as i64).unwrap(),
    }
}

fn sighting(topic: Topic, slot: u32) -> Sighting<'static> {
    Sighting { topic, form: "", worker: WorkerId::new(slot, 1), after: None, words: "it" }
}

fn see(book: &mut Book, s: u64, topic: Topic, age_s: u64) -> Seen {
    book.see(now(s), &sighting(topic, 0), Duration::from_secs(age_s), None)
}

/// No slot is without a worker.
fn all_serve() -> BTreeSet<Slot> {
    BTreeSet::new()
}

fn quiet(_: Topic, _: &Incident) -> bool {
    false
}

#[test]
fn one_incident_a_topic_and_names_never_repeat() {
    let mut book = Book::default();
    let first = see(&mut book, 5, Topic::Crash, 1);
    let joined = see(&mut book, 6, Topic::Crash, 1);
    let other = see(&mut book, 5, Topic::Hang, 1);
    assert_eq!([first.turn, joined.turn, other.turn], [Turn::Opened, Turn::Same, Turn::Opened]);
    assert_eq!(first.id, joined.id);
    assert_eq!(other.id.0, format!("{}-2", first.id));
    let mut next = Book::default();
    next.go_on_after(&other.id);
    assert_eq!(see(&mut next, 5, Topic::Crash, 1).id.0, format!("{}-3", first.id));
    // The clock was set back.
    assert_eq!(see(&mut book, 3, Topic::Leak, 1).id.0, format!("{}-3", first.id));
    assert_eq!(see(&mut book, 9, Topic::CrashLoop, 1).id.0.len(), first.id.0.len());
}

#[test]
fn an_incident_taken_over_is_joined_and_over_after_twice_its_own_period() {
    let mut book = Book::default();
    let first = see(&mut book, 0, Topic::Leak, 1);
    let mut old = book.get(&first.id).unwrap().clone();
    old.interventions = 10;
    // As an earlier version wrote it.
    old.period_s = None;
    let mut book = Book::default();
    // Ten times in 100,000 s.
    let restart = Now { mono: Moment::default(), wall: now(100_000).wall };
    book.adopt(restart, old.clone());
    let at = |s: u64| Now { mono: Moment(Duration::from_secs(s)), ..now(100_000 + s) };
    assert_eq!(book.review(at(1), &all_serve(), quiet).len(), 1, "mitigated");
    assert!(book.review(at(19_999), &all_serve(), quiet).is_empty());
    let leak = sighting(Topic::Leak, 1);
    let joined = book.see(at(19_999), &leak, Duration::ZERO, None);
    assert!(joined.turn == Turn::Same && joined.id == old.id);
    let other = book.see(at(20_000), &leak, Duration::ZERO, Some("2"));
    assert_eq!(other.turn, Turn::Opened, "another release has an incident of its own");
    assert_eq!(book.on(Topic::Leak, Some("2")).unwrap().id, other.id);
    assert_eq!(book.on(Topic::Leak, None).unwrap().id, old.id);
}

#[test]
fn a_name_that_was_taken_over_is_not_given_again() {
    let mut before = Book::default();
    let first = see(&mut before, 5, Topic::Crash, 1);
    let mut book = Book::default();
    book.adopt(now(5), before.get(&first.id).unwrap().clone());
    assert_ne!(see(&mut book, 5, Topic::Hang, 1).id, first.id);
}

#[test]
fn a_slow_matter_is_over_after_twice_its_period() {
    let mut book = Book::default();
    see(&mut book, 36_000, Topic::Leak, 36_000);
    let states = |changed: Vec<Incident>| changed.iter().map(|i| i.state).collect::<Vec<_>>();
    assert_eq!(states(book.review(now(36_001), &all_serve(), quiet)), [IncidentState::Mitigated]);
    assert_eq!(states(book.review(now(36_000 + 71_999), &all_serve(), quiet)), []);
    assert_eq!(
        states(book.review(now(36_000 + 72_000), &all_serve(), quiet)),
        [IncidentState::Resolved]
    );
    book.close();
    assert_eq!(book.len(), 0);
}

#[test]
fn a_matter_that_went_on_is_not_over_when_it_ends() {
    let mut book = Book::default();
    see(&mut book, 100, Topic::Leak, 100);
    assert!(book.review(now(90_000), &all_serve(), |_, _| true).is_empty());
    let changed = book.review(now(90_001), &all_serve(), quiet);
    assert_eq!(changed[0].state, IncidentState::Mitigated);
}

#[test]
fn a_matter_that_gets_worse_stays_one_incident_and_does_not_get_better() {
    let mut book = Book::default();
    let id = see(&mut book, 1, Topic::Crash, 1).id;
    for (topic, turn, kind, severity) in [
        (Topic::StartFailure, Turn::Worse(Topic::Crash), "start_failure", Severity::Major),
        (Topic::CrashLoop, Turn::Worse(Topic::StartFailure), "crash_loop", Severity::Critical),
        (Topic::Crash, Turn::Same, "crash_loop", Severity::Critical),
    ] {
        let follows = Sighting { after: Some(&id), ..sighting(topic, 0) };
        let seen = book.see(now(2), &follows, Duration::ZERO, None);
        assert_eq!((&seen.id, seen.turn), (&id, turn));
        let incident = book.get(&id).unwrap();
        assert_eq!((incident.kind.as_str(), incident.severity), (kind, severity));
    }
    assert_eq!(book.get(&id).unwrap().causes, ["crash", "start_failure", "crash_loop"]);
    assert_ne!(see(&mut book, 3, Topic::Hang, 1).id, id, "a hang is no crash");
}

/// (topic, form, slot, follows from the first, release) and whether it joins the first, a crash by signal 11 in
/// slot 0 of release 1.
#[test]
fn what_joins_is_decided_by_the_cause() {
    for (topic, form, slot, follows, release, joins) in [
        (Topic::Crash, "signal 11", 0, false, "1", true),
        (Topic::Crash, "signal 11", 3, false, "1", true),
        (Topic::Crash, "exit code 1", 0, false, "1", false),
        (Topic::Crash, "signal 11", 0, false, "2", false),
        (Topic::StartFailure, "exec", 0, false, "1", false),
        (Topic::StartFailure, "exec", 0, true, "1", true),
        (Topic::StartFailure, "exec", 0, true, "2", false),
        (Topic::RollFailure, "", 0, false, "1", false),
        (Topic::Hang, "probes", 0, true, "1", false),
    ] {
        let mut book = Book::default();
        let crash = Sighting { form: "signal 11", ..sighting(Topic::Crash, 0) };
        let first = book.see(now(1), &crash, Duration::ZERO, Some("1")).id;
        let after = follows.then_some(&first);
        let next = Sighting { form, after, ..sighting(topic, slot) };
        let seen = book.see(now(2), &next, Duration::ZERO, Some(release));
        assert_eq!(seen.id == first, joins, "{next:?} of release {release}");
    }
    // Leaks, hangs and limits are one matter each, whatever their form.
    for topic in [Topic::Leak, Topic::Hang, Topic::MemoryLimit] {
        let mut book = Book::default();
        let [one, other] = ["one", "other"].map(|form| {
            book.see(now(1), &Sighting { form, ..sighting(topic, 0) }, Duration::ZERO, None).id
        });
        assert_eq!(one, other);
    }
}

#[test]
fn what_came_after_an_acknowledgement_is_news() {
    let mut book = Book::default();
    let crash = |slot| Sighting { form: "signal 11", ..sighting(Topic::Crash, slot) };
    let tell =
        |book: &mut Book, seen: &Sighting<'_>| book.see(now(2), seen, Duration::ZERO, None).id;
    let id = tell(&mut book, &crash(0));
    let one = |book: &Book| book.get(&id).unwrap().clone();
    assert!(!one(&book).is_looked_at());
    book.acknowledge(now(1), &id, "ada");
    tell(&mut book, &crash(0));
    book.intervened(now(2), &id, Slot(0));
    assert!(one(&book).is_looked_at(), "the same goes on");
    tell(&mut book, &crash(1));
    assert_eq!(one(&book).news(), ["slot 1"]);
    let stage = Sighting { form: "exec", after: Some(&id), ..sighting(Topic::StartFailure, 0) };
    tell(&mut book, &stage);
    assert_eq!(one(&book).news(), ["start_failure: exec", "slot 1"]);
    book.acknowledge(now(3), &id, "bob");
    assert!(one(&book).is_looked_at());
    assert_eq!(one(&book).acknowledged.map(|by| by.times), Some(2));
    // Over a restart, and of a version that did not tell.
    let mut old = one(&book);
    old.causes.clear();
    old.acknowledged.as_mut().unwrap().causes.clear();
    let mut next = Book::default();
    next.adopt(now(4), old);
    assert!(one(&next).is_looked_at());
    assert_eq!(tell(&mut next, &Sighting { form: "exec", ..sighting(Topic::StartFailure, 0) }), id);
}

#[test]
fn a_summary_tells_what_was_seen_and_done_last() {
    let mut book = Book::default();
    let tell = |book: &mut Book, words: &str| {
        book.see(now(1), &Sighting { words, ..sighting(Topic::Leak, 0) }, Duration::ZERO, None).id
    };
    let id = tell(&mut book, "it grows");
    book.intervened(now(60), &id, Slot(0));
    let summary = |book: &Book| book.get(&id).unwrap().summary.clone();
    assert_eq!(summary(&book), "it grows; 1 intervention, in slot 0 at 2027-01-15T08:01:00Z");
    tell(&mut book, "it grows faster");
    book.intervened(now(120), &id, Slot(1));
    let last = "2 interventions, the last in slot 1 at 2027-01-15T08:02:00Z";
    assert_eq!(summary(&book), format!("it grows faster; {last}"));
    // Over a restart of the supervisor.
    let mut next = Book::default();
    next.adopt(now(130), book.get(&id).unwrap().clone());
    next.intervened(now(180), &id, Slot(2));
    let last = "3 interventions, the last in slot 2 at 2027-01-15T08:03:00Z";
    assert_eq!(summary(&next), format!("it grows faster; {last}"));
}

#[test]
fn what_is_over_is_told_in_the_past_with_what_ended_it() {
    let mut book = Book::default();
    let see = |book: &mut Book, at_s| {
        let words = "worker 0 leaks memory: grows fast";
        let leak = Sighting { words, ..sighting(Topic::Leak, 0) };
        book.see(now(at_s), &leak, Duration::ZERO, None).id
    };
    let id = see(&mut book, 1);
    let one = |book: &Book| book.get(&id).unwrap().clone();
    let past = "worker 0 leaked memory (seen last: grows fast)";
    book.review(now(10), &all_serve(), quiet);
    let since = "handled since 2027-01-15T08:00:10Z: it keeps no slot from serving";
    assert_eq!(one(&book).summary, format!("{past}; {since}"));
    assert_eq!(one(&book).handled_at, Some(now(10).wall));
    // It comes again.
    see(&mut book, 20);
    assert_eq!(one(&book).summary, "worker 0 leaks memory: grows fast");
    assert_eq!(one(&book).handled_at, None);
    book.review(now(30), &all_serve(), quiet);
    let over = &book.review(now(900), &all_serve(), quiet)[0];
    let until = "over since 2027-01-15T08:00:30Z: it kept no slot from serving, and nothing of it was seen \
                 until 2027-01-15T08:15:00Z";
    assert_eq!(over.summary, format!("{past}; {until}"));
    assert_eq!((over.handled_at, over.resolved_at), (Some(now(30).wall), Some(now(900).wall)));
    for (seen, then) in [
        ("slot 0 is held after 3 failures: exit code 1", "slot 0 was held after 3 failures"),
        ("worker 1 fails its probes: refused", "worker 1 failed its probes"),
        ("worker 1 does not ping", "worker 1 did not ping"),
        ("worker 0 was ended by SIGSEGV", "worker 0 was ended by SIGSEGV"),
    ] {
        assert!(super::super::record::in_the_past(seen).starts_with(then), "{seen}");
    }
}

#[test]
fn what_changes_without_an_event_is_written_before_long() {
    let mut book = Book::default();
    let id = see(&mut book, 1, Topic::Crash, 1).id;
    assert!(book.write(&id).is_some());
    assert!(book.unwritten(now(9_999).mono).is_empty());
    book.add_impact(now(10), &id, "connections_dropped", 3);
    book.add_impact(now(25), &id, "connections_dropped", 3);
    assert_eq!(book.deadline(), Some(now(30).mono));
    assert!(book.unwritten(now(29).mono).is_empty());
    assert_eq!(book.unwritten(now(30).mono), [id]);
}

#[test]
fn a_slot_that_it_keeps_from_serving_keeps_it_open_and_no_other() {
    let mut book = Book::default();
    let id = see(&mut book, 1, Topic::Crash, 1).id;
    let down = BTreeSet::from([Slot(0)]);
    book.takes(Slot(0), &id);
    assert!(book.review(now(2), &down, quiet).is_empty());
    assert_eq!(book.review(now(3), &all_serve(), quiet)[0].state, IncidentState::Mitigated);
    // Somebody stops that slot, or something else takes it.
    assert!(book.review(now(4), &down, quiet).is_empty());
    let hang = see(&mut book, 5, Topic::Hang, 1).id;
    book.takes(Slot(0), &hang);
    assert!(book.review(now(6), &down, quiet).is_empty());
    assert_eq!(book.get(&id).unwrap().state, IncidentState::Mitigated);
    assert_eq!(book.get(&hang).unwrap().state, IncidentState::Open);
}

#[test]
fn one_that_was_left_open_is_handled_when_its_slots_were_seen_to_serve() {
    let mut before = Book::default();
    let id = see(&mut before, 1, Topic::Crash, 1).id;
    let mut book = Book::default();
    book.adopt(now(2), before.get(&id).unwrap().clone());
    let down = BTreeSet::from([Slot(0)]);
    assert!(book.review(now(3), &down, quiet).is_empty());
    assert_eq!(book.holder(&down), None, "the start costs nobody");
    assert_eq!(book.review(now(4), &all_serve(), quiet)[0].state, IncidentState::Mitigated);
    assert!(book.review(now(5), &down, quiet).is_empty());
}

#[test]
fn who_keeps_most_slots_from_serving_bears_the_costs() {
    let mut book = Book::default();
    let crash = see(&mut book, 1, Topic::Crash, 1).id;
    let hang = see(&mut book, 2, Topic::Hang, 1).id;
    let down = |slots: &[u32]| slots.iter().map(|slot| Slot(*slot)).collect::<BTreeSet<_>>();
    book.takes(Slot(1), &hang);
    book.takes(Slot(0), &crash);
    assert_eq!(book.holder(&down(&[0, 1])).as_ref(), Some(&crash), "it began first");
    book.takes(Slot(2), &hang);
    assert_eq!(book.holder(&down(&[0, 1, 2])).as_ref(), Some(&hang));
    assert_eq!(book.holder(&down(&[0, 2, 3])).as_ref(), Some(&crash));
    // The last failure in a slot is why it does not serve.
    book.takes(Slot(0), &hang);
    assert_eq!(book.holder(&down(&[0])).as_ref(), Some(&hang));
    assert_eq!(book.holder(&down(&[3])), None);
}

#[test]
fn the_quiet_time_begins_when_it_is_handled() {
    let mut book = Book::default();
    let down = BTreeSet::from([Slot(0)]);
    let id = book.see(now(1), &sighting(Topic::CrashLoop, 0), Duration::ZERO, None).id;
    book.takes(Slot(0), &id);
    book.review(now(2), &down, quiet);
    // It is held for longer than a quiet time, and then tried again.
    book.review(now(1200), &down, quiet);
    let changed = book.review(now(1201), &all_serve(), quiet);
    assert_eq!(changed[0].state, IncidentState::Mitigated);
    let again = book.see(now(1202), &sighting(Topic::CrashLoop, 0), Duration::ZERO, None);
    assert_eq!((again.id, again.turn), (id, Turn::Same));
}

#[test]
fn brackets_stay_in_one_piece_in_the_past() {
    let seen =
        "worker 0 used 157 MiB, over the soft limit; grows 30 MiB/s (95%: 28 MiB–32 MiB), 127 MiB";
    assert_eq!(super::super::record::in_the_past(seen), seen);
}

#[test]
fn the_quiet_time_goes_on_after_a_restart_of_the_supervisor() {
    let mut before = Book::default();
    let id = see(&mut before, 1, Topic::Crash, 1).id;
    before.review(now(11), &all_serve(), quiet);
    let mut book = Book::default();
    for restart in [300, 500] {
        book = Book::default();
        book.adopt(now(restart), before.get(&id).unwrap().clone());
    }
    assert_eq!(book.deadline(), Some(now(11 + 600).mono));
    // What is seen again begins it anew.
    see(&mut book, 560, Topic::Crash, 1);
    book.write(&id);
    assert_eq!(book.review(now(1100), &all_serve(), quiet)[0].state, IncidentState::Mitigated);
    assert_eq!(book.deadline(), Some(now(560 + 2 * 549).mono));
}

#[test]
fn how_slow_a_matter_is_is_known_after_a_restart_of_the_supervisor() {
    let mut before = Book::default();
    let id = see(&mut before, 1, Topic::Crash, 400).id;
    before.review(now(2), &all_serve(), quiet);
    let mut book = Book::default();
    book.adopt(now(625), before.get(&id).unwrap().clone());
    assert_eq!(book.deadline(), Some(now(2 + 800).mono));
}
