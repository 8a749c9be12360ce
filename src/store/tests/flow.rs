//! From the engine's calls to what a reader finds.

use super::*;
use crate::core::{Sample, WorkerId};
use jiff::SignedDuration;
use rusqlite::Connection;

#[tokio::test]
async fn events_are_numbered_in_order_and_found_by_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not yet there/shop?100%.db");
    let store = Store::open(&path, RETENTION).unwrap();
    let writer = store.writer();
    let id = IncidentId("20261121T153012Z".into());
    for number in 1..=6 {
        let mut record = record(number);
        record.at += SignedDuration::from_secs(number as i64);
        if number >= 5 {
            record.kind = Kind::LeakConfirmed;
            record.incident = Some(id.clone());
        }
        let place = written(writer.append(record)).await;
        assert_eq!(place.seq, number);
        assert_eq!(writer.head(), place);
        // A reader beside a living writer.
        assert_eq!(Reader::open(&path).unwrap().head().unwrap(), place);
    }
    let seqs = |filter| entries(&path, &filter).iter().map(|e| e.seq).collect::<Vec<_>>();
    let all = EventFilter::default;
    assert_eq!(seqs(all()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(seqs(EventFilter { last: Some(2), ..all() }), [5, 6]);
    assert_eq!(seqs(EventFilter { slot: Some(Slot(2)), ..all() }), [2, 6]);
    assert_eq!(seqs(EventFilter { kind: Some(Kind::LeakConfirmed), ..all() }), [5, 6]);
    assert_eq!(seqs(EventFilter { incident: Some(id.clone()), last: Some(1), ..all() }), [6]);
    let since = Some("2026-11-21T15:30:16.123Z".parse().unwrap());
    assert_eq!(seqs(EventFilter { since, slot: Some(Slot(2)), ..all() }), [6]);
    assert_eq!(seqs(EventFilter { since, ..all() }), [4, 5, 6]);
    let until = Some("2026-11-21T15:30:17.123Z".parse().unwrap());
    assert_eq!(seqs(EventFilter { since, until, ..all() }), [4, 5]);
    assert_eq!(seqs(EventFilter { until, slot: Some(Slot(1)), ..all() }), [1, 5]);
    assert_eq!(seqs(EventFilter { after: Some(4), ..all() }), [5, 6]);

    let entry = entries(&path, &all()).remove(4);
    assert_eq!(entry.record().unwrap().incident, Some(id));
    let json: serde_json::Value = serde_json::from_str(&entry.json()).unwrap();
    assert_eq!((&json["seq"], &json["hash"]), (&5.into(), &entry.hash.into()));
}

#[test]
fn a_store_opened_again_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    for life in 1..=3 {
        store_with(&path, 10);
        assert_eq!(verify(&path, None).unwrap().events, life * 10);
    }
}

#[test]
fn the_last_state_of_an_incident_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    for (id, summary) in [("A", "first"), ("A-2", "second"), ("A", "first again"), ("B", "third")] {
        let store = Store::open(&path, RETENTION).unwrap();
        drop(store.writer().append(noted(1, incident(id, summary))));
        assert_eq!(store.close(DEADLINE), 0);
    }
    let reader = Reader::open(&path).unwrap();
    let names = |ids: Vec<IncidentId>| ids.into_iter().map(|id| id.0).collect::<Vec<_>>();
    let list = |filter: &IncidentFilter| {
        let found = reader.incidents(filter).unwrap().incidents;
        names(found.into_iter().map(|incident| incident.id).collect())
    };
    let all = IncidentFilter::default;
    assert_eq!(list(&all()), ["A", "A-2", "B"]);
    assert_eq!(list(&IncidentFilter { last: Some(1), ..all() }), ["B"]);
    assert_eq!(list(&IncidentFilter { unresolved: true, ..all() }), ["A", "A-2", "B"]);
    assert_eq!(names(reader.incidents_named("A").unwrap()), ["A", "A-2"]);
    assert_eq!(reader.last_incident().unwrap().unwrap().0, "B");
    let first = reader.incident(&IncidentId("A".into())).unwrap().unwrap();
    assert_eq!(first.summary, "first again");
    assert_eq!(reader.incident(&IncidentId("C".into())).unwrap(), None);
}

#[test]
fn samples_come_back_as_they_were_until_they_are_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
    let sample = Sample { rss_kib: Some(7), load_rps: Some(0.5), ..Sample::default() };
    let old = now - SignedDuration::try_from(RETENTION).unwrap();
    // The same name in two lives of the supervisor.
    let one = life(WorkerId::new(1, 3), old);
    let same_name = life(WorkerId::new(1, 3), now);
    let other = life(WorkerId::new(0, 9), now);
    let store = Store::open(&path, RETENTION).unwrap();
    for at in [old, now, now + SignedDuration::from_secs(1)] {
        store.writer().add_sample(&one, at, sample);
    }
    store.writer().add_sample(&same_name, now, Sample::default());
    store.writer().add_sample(&other, now, Sample::default());
    assert_eq!(store.close(DEADLINE), 0);

    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.lives().unwrap(), [&one, &same_name, &other].map(|life| (**life).clone()));
    let found = samples(&reader, &one);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], StoredSample { life: one, at: now, sample });
}

fn samples(reader: &Reader, life: &Arc<Life>) -> Vec<StoredSample> {
    let mut found = Vec::new();
    let visit = |stored: StoredSample| {
        found.push(stored);
        Ok::<(), StoreError>(())
    };
    reader.samples(life, visit).unwrap();
    found
}

/// Two workers, a sample every ten seconds of the last two hours; an event in an incident of one.
#[tokio::test]
async fn the_trace_of_an_incident_is_not_thinned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let now = Timestamp::from_second(Timestamp::now().as_second() / 600 * 600).unwrap();
    let began = now - SignedDuration::from_hours(2);
    let lives = [0, 1].map(|slot| life(WorkerId::new(slot, 5), began));
    let store = Store::open(&path, 24 * 30 * RETENTION).unwrap();
    let writer = store.writer();
    let add = |from: i64, to: i64| {
        for s in (from..to).step_by(10) {
            let sample = Sample { rss_kib: Some(s as u64), ..Sample::default() };
            let at = began + SignedDuration::from_secs(s);
            lives.iter().for_each(|life| writer.add_sample(life, at, sample));
        }
    };
    add(0, 6600);
    let mut event = record(1);
    event.at = began + SignedDuration::from_mins(110);
    event.incident = Some(IncidentId("20261121T153012Z".into()));
    (event.slot, event.generation) = (Some(Slot(1)), Some(Generation(5)));
    written(writer.append(event)).await;
    add(6600, 7200);
    assert_eq!(store.close(DEADLINE), 0);
    // The next supervisor finds what is past its time.
    assert_eq!(Store::open(&path, 24 * 30 * RETENTION).unwrap().close(DEADLINE), 0);

    let reader = Reader::open(&path).unwrap();
    let in_first = |life: &Arc<Life>, minutes: i64| {
        let end = began + SignedDuration::from_mins(minutes);
        samples(&reader, life).into_iter().filter(|stored| stored.at < end).count()
    };
    assert_eq!(in_first(&lives[0], 60), 60, "one a minute");
    assert_eq!(in_first(&lives[1], 50), 50, "one a minute until an hour before");
    assert_eq!(in_first(&lives[1], 60), 50 + 60, "all of them from then on");
}

/// A store as version 1 left it.
#[test]
fn a_store_of_version_1_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    super::super::schema::version_1(&path);
    let old = Connection::open(&path).unwrap();
    let body = super::super::chain::Head::default().extend([record(1)].iter()).remove(0);
    let event = rusqlite::params![1, body.body, body.head.hash];
    old.execute("INSERT INTO events (seq, body, hash) VALUES (?1, ?2, ?3)", event).unwrap();
    let now_ms = Timestamp::now().as_millisecond() / 600_000 * 600_000 - 1_200_000;
    for s in 0..1200 {
        // A sawtooth whose floor is 5 s after the full minute.
        let level = 5000 + (s - 5) % 60;
        let values = [now_ms + s * 1000, level];
        let insert = "INSERT INTO samples (at_ms, slot, generation, rss_anon_kib, rss_kib, threads)
                      VALUES (?1, 2, 7, ?2, ?2 * 2, 3)";
        old.execute(insert, values).unwrap();
    }
    drop(old);
    assert!(matches!(Reader::open(&path).unwrap().lives(), Err(StoreError::Older { .. })));
    assert_eq!(entries(&path, &EventFilter::default()).len(), 1, "events can be read before");

    store_with(&path, 1);
    assert_eq!(verify(&path, None).unwrap().events, 2);
    let reader = Reader::open(&path).unwrap();
    let lives = reader.lives().unwrap();
    assert_eq!((lives.len(), lives[0].worker), (1, WorkerId::new(2, 7)));
    let found = samples(&reader, &Arc::new(lives[0].clone()));
    let floors: Vec<_> = found
        .iter()
        .map(|stored| {
            (
                stored.at.as_millisecond() - now_ms,
                stored.sample.rss_anon_kib,
                stored.sample.rss_kib,
                stored.sample.threads,
            )
        })
        .collect();
    // At s < 5 the remainder is negative: lower still.
    assert_eq!(
        floors,
        [(0, Some(4995), Some(9990), Some(3)), (605_000, Some(5000), Some(10_000), Some(3))]
    );
}

#[tokio::test]
async fn a_hundred_thousand_events() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    let store = Store::open(&path, RETENTION).unwrap();
    let writer = store.writer();
    for chunk in 0..20 {
        let mut last = None;
        for number in 1..=5_000 {
            last = Some(writer.append(record(chunk * 5_000 + number)));
        }
        written(last.unwrap()).await;
    }
    assert_eq!(store.close(DEADLINE), 0);
    assert_eq!(verify(&path, None).unwrap().events, 100_000);
}

#[tokio::test]
#[ignore = "a measurement, printed; quoted in the documentation of the module"]
async fn append_to_durable_latency() {
    let folder = tempfile::tempdir_in(std::env::var_os("STANCH_BENCH_DIR").unwrap()).unwrap();
    let store = Store::open(&folder.path().join("s.db"), RETENTION).unwrap();
    let writer = store.writer();
    let mut took = Vec::new();
    for number in 1..=5_000 {
        let began = std::time::Instant::now();
        written(writer.append(record(number))).await;
        took.push(began.elapsed());
    }
    took.sort();
    println!("median {:?}, p99 {:?}, max {:?}", took[2_500], took[4_950], took[4_999]);
}
