//! The book of open incidents: which one a new fact belongs to, and when one is over.
//!
//! One cause is one incident, for a release. What a crash leads to is the same matter getting worse, so
//! its incident changes its kind and severity in place and never back:
//!
//! | stage | kind | severity |
//! | --- | --- | --- |
//! | 1 | `crash` | minor |
//! | 2 | `start_failure` | major |
//! | 3 | `roll_failure` | critical |
//! | 4 | `crash_loop` | critical |
//!
//! All other kinds stand for themselves.

use super::record::{Acknowledged, words};
use super::{Figures, Incident, IncidentId, IncidentState, Moment, Now, Severity, Slot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

words! {
    /// What an incident is about.
    Topic {
        /// A worker's memory grows without end.
        Leak => "leak",
        /// A worker, or all together, went over a limit without a leak having been confirmed.
        MemoryLimit => "memory_limit",
        /// Workers ended unasked.
        Crash => "crash",
        /// A slot is held.
        CrashLoop => "crash_loop",
        /// A worker stopped answering.
        Hang => "hang",
        /// Workers could not be started.
        StartFailure => "start_failure",
        /// A roll stopped half way.
        RollFailure => "roll_failure",
    }
}

impl Topic {
    fn severity(self) -> Severity {
        match self {
            Topic::Crash => Severity::Minor,
            Topic::Leak | Topic::MemoryLimit | Topic::Hang | Topic::StartFailure => Severity::Major,
            Topic::CrashLoop | Topic::RollFailure => Severity::Critical,
        }
    }

    /// How far the one matter has come that may lead to all of these.
    fn stage(self) -> Option<u8> {
        match self {
            Topic::Crash => Some(1),
            Topic::StartFailure => Some(2),
            Topic::RollFailure => Some(3),
            Topic::CrashLoop => Some(4),
            Topic::Leak | Topic::MemoryLimit | Topic::Hang => None,
        }
    }

    fn joins(self, other: Topic) -> bool {
        self == other || (self.stage().is_some() && other.stage().is_some())
    }
}

/// So many that are over are remembered, for those who ask for one of them.
const REMEMBERED: usize = 64;

/// The shortest quiet time after which an incident is over.
const QUIET: Duration = Duration::from_secs(600);

/// What changes without an event of its own is written after so long.
const UNWRITTEN: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Entry {
    topic: Topic,
    incident: Incident,
    last_seen: Moment,
    /// How long the matter took to come (again): the longest time between two sightings, or the age
    /// of the worker at the first. A leak that fills a worker in ten hours is not over after ten quiet
    /// minutes, but after twice its own period.
    period: Duration,
    /// Since when it is not as it was written.
    unwritten: Option<Moment>,
}

/// All incidents that are not resolved.
#[derive(Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    last_id: Option<IncidentId>,
    same_second: u32,
    /// The last ones that are over, and since when.
    over: VecDeque<(IncidentId, Timestamp)>,
}

/// What [`Book::see`] did.
pub struct Seen {
    /// The incident that the fact belongs to.
    pub id: IncidentId,
    /// What it did to it.
    pub turn: Turn,
}

/// What a fact does to its incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It began.
    Opened,
    /// It was of this kind, and is worse.
    Worse(Topic),
    /// It goes on.
    Same,
}

impl Book {
    /// Notes a fact on `topic`: opens its incident or joins the open one. `age` is how long the
    /// worker had lived, `words` say what was seen.
    pub fn see(
        &mut self,
        now: Now,
        topic: Topic,
        slot: Slot,
        age: Duration,
        release: Option<&str>,
        words: &str,
    ) -> Seen {
        let joins = |entry: &&mut Entry| {
            entry.topic.joins(topic) && entry.incident.release.as_deref() == release
        };
        if let Some(entry) = self.entries.iter_mut().find(joins) {
            entry.period = entry.period.max(now.mono.since(entry.last_seen));
            entry.last_seen = now.mono;
            entry.incident.turned(IncidentState::Open, now.wall);
            if !entry.incident.slots.contains(&slot) {
                entry.incident.slots.push(slot);
                entry.incident.slots.sort();
            }
            entry.incident.saw(words);
            entry.unwritten.get_or_insert(now.mono);
            let turn = entry.reach(topic);
            return Seen { id: entry.incident.id.clone(), turn };
        }
        let id = self.next_id(now);
        self.entries.push(Entry {
            topic,
            incident: Incident {
                id: id.clone(),
                kind: topic.as_str().to_owned(),
                severity: topic.severity(),
                state: IncidentState::Open,
                opened_at: now.wall,
                resolved_at: None,
                release: release.map(str::to_owned),
                slots: vec![slot],
                interventions: 0,
                impact: Figures::new(),
                summary: words.to_owned(),
                acknowledged: None,
                seen: words.to_owned(),
                last_intervention: None,
                handled_at: None,
            },
            last_seen: now.mono,
            period: age,
            unwritten: Some(now.mono),
        });
        Seen { id, turn: Turn::Opened }
    }

    /// Takes over an incident that an earlier supervisor left open. What it is about goes on or comes
    /// again; how long that takes is estimated from its past.
    pub fn adopt(&mut self, now: Now, mut incident: Incident) {
        let Some(topic) = Topic::ALL.iter().copied().find(|t| t.as_str() == incident.kind) else {
            return;
        };
        let open_s = now.wall.duration_since(incident.opened_at).as_secs_f64().max(0.0);
        let period_s = open_s / incident.interventions.max(1) as f64;
        let period = Duration::try_from_secs_f64(period_s).unwrap_or(Duration::MAX);
        if incident.seen.is_empty() {
            // As an earlier version wrote it.
            incident.seen = incident.summary.clone();
        }
        self.entries.push(Entry { topic, incident, last_seen: now.mono, period, unwritten: None });
    }

    /// Counts an intervention in the incident.
    pub fn intervened(&mut self, now: Now, id: &IncidentId, slot: Slot) {
        self.change(now, id, |incident| incident.acted(now.wall, slot));
    }

    /// What was done does not help: the incident is critical from now on. False if it was before, or is
    /// over.
    pub fn escalate(&mut self, now: Now, id: &IncidentId) -> bool {
        let escalate = |incident: &mut Incident| {
            std::mem::replace(&mut incident.severity, Severity::Critical) != Severity::Critical
        };
        self.change(now, id, escalate).unwrap_or(false)
    }

    /// Something more was seen of it.
    pub fn saw(&mut self, now: Now, id: &IncidentId, words: &str) {
        self.change(now, id, |incident| incident.saw(words));
    }

    /// Somebody looks at it.
    pub fn acknowledge(&mut self, now: Now, id: &IncidentId, by: &str) {
        let acknowledged = Acknowledged { at: now.wall, by: by.to_owned() };
        self.change(now, id, |incident| incident.acknowledged = Some(acknowledged));
    }

    /// The incident's present form, to be written with the event that comes next.
    pub fn write(&mut self, id: &IncidentId) -> Option<Incident> {
        let entry = self.entry(id)?;
        entry.unwritten = None;
        Some(entry.incident.clone())
    }

    /// Those that changed without an event, long enough ago.
    pub fn unwritten(&self, now: Moment) -> Vec<IncidentId> {
        let due = |entry: &&Entry| entry.write_at().is_some_and(|at| at <= now);
        self.entries.iter().filter(due).map(|entry| entry.incident.id.clone()).collect()
    }

    /// The one that is meant by its name, the beginning of it, or `last`; the error says why it cannot
    /// be told.
    pub fn named(&self, text: &str) -> Result<&Incident, String> {
        let all = || self.incidents();
        let found: Vec<&Incident> = match text {
            "last" => all().max_by_key(|incident| incident.opened_at).into_iter().collect(),
            text => match all().find(|incident| incident.id.0 == text) {
                Some(exact) => vec![exact],
                None => all().filter(|incident| incident.id.0.starts_with(text)).collect(),
            },
        };
        let over = self.over.iter().rev().find(|(id, _)| id.0.starts_with(text));
        match (found.as_slice(), over) {
            ([one], _) => Ok(one),
            ([], _) if text == "last" => Err("no incident is open".to_owned()),
            ([], Some((id, at))) => Err(format!("incident {id} was resolved at {at:.0}")),
            ([], None) => Err(format!(
                "no incident {text} is open here; `stanch incidents list` names all that were"
            )),
            (several, _) => {
                let names: Vec<_> = several.iter().map(|incident| incident.id.0.as_str()).collect();
                Err(format!("{text} can be any of {}", names.join(", ")))
            }
        }
    }

    /// All that are not over, as they are now.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.entries.iter().map(|entry| &entry.incident)
    }

    /// Adds to a counter of the incident's impact.
    pub fn add_impact(&mut self, now: Now, id: &IncidentId, key: &str, amount: u64) {
        self.change(now, id, |incident| {
            let before = incident.impact.get(key).and_then(|value| value.as_u64()).unwrap_or(0);
            incident.impact.insert(key.to_owned(), (before + amount).into());
        });
    }

    /// The incident's present form.
    pub fn get(&self, id: &IncidentId) -> Option<&Incident> {
        self.entries.iter().map(|entry| &entry.incident).find(|incident| &incident.id == id)
    }

    /// All that are not over.
    pub fn ids(&self) -> Vec<IncidentId> {
        self.entries.iter().map(|entry| entry.incident.id.clone()).collect()
    }

    /// Whether it is one of those that get worse by stages.
    pub fn is_staged(&self, id: &IncidentId) -> bool {
        self.entries.iter().any(|entry| &entry.incident.id == id && entry.topic.stage().is_some())
    }

    /// The newest open incident on a topic.
    pub fn on(&self, topic: Topic) -> Option<&Incident> {
        self.entries.iter().rfind(|entry| entry.topic == topic).map(|entry| &entry.incident)
    }

    /// Those in which every slot serves again become mitigated; those quiet for long are resolved, and
    /// leave the book by [`Book::close`]. Gives the ones that changed. `serves` says whether a slot has a ready worker
    /// (or is not wanted any more), `active` whether a topic
    /// still shows itself in workers of a release.
    pub fn review(
        &mut self,
        now: Now,
        serves: impl Fn(Slot) -> bool,
        active: impl Fn(Topic, Option<&str>) -> bool,
    ) -> Vec<Incident> {
        let mut changed = Vec::new();
        for entry in &mut self.entries {
            let active = active(entry.topic, entry.incident.release.as_deref());
            if active {
                // A worker that leaks may stay for days after that was seen first.
                entry.last_seen = now.mono;
            }
            let handled = entry.incident.slots.iter().all(|slot| serves(*slot)) && !active;
            let state = match (handled, now.mono >= entry.over_at()) {
                (false, _) => IncidentState::Open,
                (true, false) => IncidentState::Mitigated,
                (true, true) => IncidentState::Resolved,
            };
            if state != entry.incident.state {
                entry.incident.turned(state, now.wall);
                changed.push(entry.incident.clone());
            }
            if state == IncidentState::Resolved {
                self.over.push_back((entry.incident.id.clone(), now.wall));
            }
        }
        self.over.drain(..self.over.len().saturating_sub(REMEMBERED));
        changed
    }

    /// Those that are resolved leave the book.
    pub fn close(&mut self) {
        self.entries.retain(|entry| entry.incident.state != IncidentState::Resolved);
    }

    /// When the next one may be over, or is to be written.
    pub fn deadline(&self) -> Option<Moment> {
        let over = |entry: &Entry| {
            (entry.incident.state == IncidentState::Mitigated).then(|| entry.over_at())
        };
        self.entries.iter().flat_map(|entry| [over(entry), entry.write_at()]).flatten().min()
    }

    /// How many are not resolved.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&mut self, id: &IncidentId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| &entry.incident.id == id)
    }

    fn change<T>(
        &mut self,
        now: Now,
        id: &IncidentId,
        change: impl FnOnce(&mut Incident) -> T,
    ) -> Option<T> {
        let entry = self.entry(id)?;
        entry.unwritten.get_or_insert(now.mono);
        Some(change(&mut entry.incident))
    }

    /// Names come after this one, of an earlier supervisor.
    pub fn go_on_after(&mut self, id: &IncidentId) {
        let (second, number) = id.place();
        self.last_id = Some(IncidentId(second.to_owned()));
        self.same_second = number;
    }

    fn next_id(&mut self, now: Now) -> IncidentId {
        let present = IncidentId(now.wall.strftime("%Y%m%dT%H%M%SZ").to_string());
        // A clock that was set back comes by every second again.
        let base = match self.last_id.take() {
            Some(last) if last >= present => last,
            _ => {
                self.same_second = 0;
                present
            }
        };
        self.last_id = Some(base.clone());
        loop {
            self.same_second += 1;
            let id = match self.same_second {
                1 => base.clone(),
                more => IncidentId(format!("{base}-{more}")),
            };
            // It may be one that was taken over.
            if self.get(&id).is_none() {
                return id;
            }
        }
    }
}

impl Entry {
    fn over_at(&self) -> Moment {
        self.last_seen + self.period.saturating_mul(2).max(QUIET)
    }

    fn write_at(&self) -> Option<Moment> {
        Some(self.unwritten? + UNWRITTEN)
    }

    /// It has come as far as this, if it had not come farther.
    fn reach(&mut self, topic: Topic) -> Turn {
        if topic.stage() <= self.topic.stage() {
            return Turn::Same;
        }
        let before = std::mem::replace(&mut self.topic, topic);
        topic.as_str().clone_into(&mut self.incident.kind);
        self.incident.severity = self.incident.severity.max(topic.severity());
        Turn::Worse(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn now(s: u64) -> Now {
        Now {
            mono: Moment(Duration::from_secs(s)),
            wall: Timestamp::from_second(1_800_000_000 + s as i64).unwrap(),
        }
    }

    fn see(book: &mut Book, s: u64, topic: Topic, age_s: u64) -> Seen {
        let age = Duration::from_secs(age_s);
        book.see(now(s), topic, Slot(0), age, None, "it")
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
        let mut book = Book::default();
        // Ten times in 100,000 s.
        let restart = Now { mono: Moment::default(), wall: now(100_000).wall };
        book.adopt(restart, old.clone());
        let at = |s: u64| Now { mono: Moment(Duration::from_secs(s)), ..now(100_000 + s) };
        assert_eq!(book.review(at(1), |_| true, |_, _| false).len(), 1, "mitigated");
        assert!(book.review(at(19_999), |_| true, |_, _| false).is_empty());
        let joined = book.see(at(19_999), Topic::Leak, Slot(1), Duration::ZERO, None, "again");
        assert!(joined.turn == Turn::Same && joined.id == old.id);
        let other = book.see(at(20_000), Topic::Leak, Slot(1), Duration::ZERO, Some("2"), "new");
        assert_eq!(other.turn, Turn::Opened, "another release has an incident of its own");
        assert_eq!(book.on(Topic::Leak).unwrap().id, other.id);
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
        let served = |_: Slot| true;
        let quiet = |_: Topic, _: Option<&str>| false;
        assert_eq!(states(book.review(now(36_001), served, quiet)), [IncidentState::Mitigated]);
        assert_eq!(states(book.review(now(36_000 + 71_999), served, quiet)), []);
        assert_eq!(
            states(book.review(now(36_000 + 72_000), served, quiet)),
            [IncidentState::Resolved]
        );
        book.close();
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn a_matter_that_went_on_is_not_over_when_it_ends() {
        let mut book = Book::default();
        see(&mut book, 100, Topic::Leak, 100);
        assert!(book.review(now(90_000), |_| true, |_, _| true).is_empty());
        let changed = book.review(now(90_001), |_| true, |_, _| false);
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
            let seen = see(&mut book, 2, topic, 1);
            assert_eq!((&seen.id, seen.turn), (&id, turn));
            let incident = book.get(&id).unwrap();
            assert_eq!((incident.kind.as_str(), incident.severity), (kind, severity));
        }
        assert_ne!(see(&mut book, 3, Topic::Hang, 1).id, id, "a hang is no crash");
    }

    #[test]
    fn a_summary_tells_what_was_seen_and_done_last() {
        let mut book = Book::default();
        let release = None;
        let tell = |book: &mut Book, words: &str| {
            book.see(now(1), Topic::Leak, Slot(0), Duration::ZERO, release, words).id
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
            book.see(now(at_s), Topic::Leak, Slot(0), Duration::ZERO, None, words).id
        };
        let id = see(&mut book, 1);
        let one = |book: &Book| book.get(&id).unwrap().clone();
        let past = "worker 0 leaked memory (seen last: grows fast)";
        book.review(now(10), |_| true, |_, _| false);
        let since = "every slot has served since 2027-01-15T08:00:10Z";
        assert_eq!(one(&book).summary, format!("{past}; {since}"));
        assert_eq!(one(&book).handled_at, Some(now(10).wall));
        // It comes again.
        see(&mut book, 20);
        assert_eq!(one(&book).summary, "worker 0 leaks memory: grows fast");
        assert_eq!(one(&book).handled_at, None);
        book.review(now(30), |_| true, |_, _| false);
        let over = &book.review(now(900), |_| true, |_, _| false)[0];
        let until = "over since 2027-01-15T08:00:30Z: every slot served and nothing of it was seen until \
                     2027-01-15T08:15:00Z";
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
    fn a_slot_that_does_not_serve_keeps_it_open() {
        let mut book = Book::default();
        see(&mut book, 1, Topic::Crash, 1);
        assert!(book.review(now(9_999), |_| false, |_, _| false).is_empty());
        assert_eq!(book.on(Topic::Crash).unwrap().state, IncidentState::Open);
    }
}
