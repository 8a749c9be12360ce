//! The book of open incidents: which one a new fact belongs to, and when one is over.
//!
//! # What joins
//! One cause is one incident, for a release. A fact joins an incident of its release that is not over
//!
//! - if it follows from it: the replacement of a worker that was lost in it does not come up, the roll stops
//!   for that, the slot is held; or
//! - if it is alike, in whatever slot: about the same [`Topic`], and of crashes the same end (signal or exit
//!   code), of failed starts the same step.
//!
//! Anything else opens one of its own, also in the same slot at the same time. What an incident has come to
//! hold stands in its `causes`.
//!
//! What a crash leads to is the same matter getting worse, so its incident changes its kind and severity in
//! place and never back:
//!
//! | stage | kind | severity |
//! | --- | --- | --- |
//! | 1 | `crash` | minor |
//! | 2 | `start_failure` | major |
//! | 3 | `roll_failure` | critical |
//! | 4 | `crash_loop` | critical |
//!
//! All other kinds stand for themselves.
//!
//! # When it is open
//! While its cause shows itself (a worker leaks, hangs, is over a limit), and while it keeps a slot from
//! serving. A slot that has no worker to serve belongs to one incident at most: that of the last failure in it.
//! So what an operator takes away (a stop, a drain, a restart without overlap) opens no incident again and
//! counts in none, and nobody else's outage does.
//!
//! # What it cost
//! Time below capacity, and connections that are refused in it, are counted in one incident: the one that
//! keeps most slots from serving, of equals the one that began first.
//!
//! # What an acknowledgement covers
//! The slots and causes that the incident had by then. What comes in another slot, or of another cause, is
//! news, and nobody looks at that yet ([`Incident::news`](super::Incident::news)).

mod topic;

pub use topic::{Sighting, Topic};

use super::record::Acknowledged;
use super::{Figures, Incident, IncidentId, IncidentState, Moment, Now, Severity, Slot};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

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
    /// How long it had been quiet when it was taken over from an earlier supervisor.
    quiet: Duration,
    /// Since when it is not as it was written.
    unwritten: Option<Moment>,
    /// An earlier supervisor left it open: whether its slots serve has yet to be seen.
    unseen: bool,
}

/// All incidents that are not resolved.
#[derive(Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    /// The slots that do not serve because of an incident.
    taken: BTreeMap<Slot, IncidentId>,
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
    /// Notes a fact: opens its incident or joins the open one. `age` is how long the worker had lived.
    pub fn see(
        &mut self,
        now: Now,
        seen: &Sighting<'_>,
        age: Duration,
        release: Option<&str>,
    ) -> Seen {
        let (slot, cause) = (seen.worker.slot, seen.cause());
        let Some(at) = self.joined(seen, &cause, release) else {
            let id = self.next_id(now);
            self.entries.push(Entry::new(now, id.clone(), seen, age, release));
            return Seen { id, turn: Turn::Opened };
        };
        let entry = &mut self.entries[at];
        entry.came_after(now.mono.since(entry.last_seen) + entry.quiet);
        entry.seen_at(now);
        entry.unwritten.get_or_insert(now.mono);
        let incident = &mut entry.incident;
        incident.turned(IncidentState::Open, now.wall);
        if !incident.slots.contains(&slot) {
            incident.slots.push(slot);
            incident.slots.sort();
        }
        if !incident.causes.contains(&cause) {
            incident.causes.push(cause);
        }
        incident.saw(seen.words);
        Seen { id: incident.id.clone(), turn: entry.reach(seen.topic) }
    }

    /// The entry that a fact belongs to.
    fn joined(&self, seen: &Sighting<'_>, cause: &str, release: Option<&str>) -> Option<usize> {
        let of_release = |entry: &Entry| entry.incident.release.as_deref() == release;
        let follows =
            |entry: &Entry| seen.after == Some(&entry.incident.id) && entry.is_staged_as(seen);
        let alike = |entry: &Entry| match seen.topic.stage() {
            None => entry.topic == seen.topic,
            // An earlier version did not tell causes.
            Some(_) if entry.incident.causes.is_empty() => entry.is_staged_as(seen),
            Some(_) => entry.incident.causes.iter().any(|known| known == cause),
        };
        let first = |fits: &dyn Fn(&Entry) -> bool| {
            self.entries.iter().position(|entry| of_release(entry) && fits(entry))
        };
        first(&follows).or_else(|| first(&alike))
    }

    /// The incident keeps the slot from serving, until [`review`](Self::review) finds it serving.
    pub fn takes(&mut self, slot: Slot, id: &IncidentId) {
        self.taken.insert(slot, id.clone());
    }

    /// What time below capacity and refused connections count in now: the incident that keeps most slots
    /// from serving, of equals the one that began first. `down` are the slots that do not serve.
    pub fn holder(&self, down: &BTreeSet<Slot>) -> Option<IncidentId> {
        let mut most: Option<(usize, &Entry)> = None;
        for entry in &self.entries {
            let taken = self
                .taken
                .iter()
                .filter(|(slot, id)| **id == entry.incident.id && down.contains(*slot));
            let count = taken.count();
            if count > most.map_or(0, |(most, _)| most) {
                most = Some((count, entry));
            }
        }
        most.map(|(_, entry)| entry.incident.id.clone())
    }

    /// Takes over an incident that an earlier supervisor left open. What it is about goes on or comes
    /// again; how long that takes is estimated from its past.
    pub fn adopt(&mut self, now: Now, mut incident: Incident) {
        let Some(topic) = Topic::ALL.iter().copied().find(|t| t.as_str() == incident.kind) else {
            return;
        };
        let between = |from: Timestamp, to: Timestamp| {
            Duration::try_from(to.duration_since(from)).unwrap_or_default()
        };
        let seen_until = incident.handled_at.unwrap_or(now.wall);
        let times = u32::try_from(incident.interventions.max(1)).unwrap_or(u32::MAX);
        let known = incident.period_s.map(Duration::from_secs);
        let period = known.unwrap_or_else(|| between(incident.opened_at, seen_until) / times);
        let quiet = between(seen_until, now.wall);
        if incident.seen.is_empty() {
            // As an earlier version wrote it.
            incident.seen = incident.summary.clone();
        }
        let unseen = incident.state == IncidentState::Open;
        let (last_seen, unwritten) = (now.mono, None);
        self.entries.push(Entry { topic, incident, last_seen, period, quiet, unwritten, unseen });
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
        self.change(now, id, |incident| {
            let times = incident.acknowledged.as_ref().map_or(0, |before| before.times) + 1;
            let (slots, causes) = (incident.slots.clone(), incident.causes.clone());
            let (at, by) = (now.wall, by.to_owned());
            incident.acknowledged = Some(Acknowledged { at, by, slots, causes, times });
        });
    }

    /// The incident's present form, to be written with the event that comes next.
    pub fn write(&mut self, id: &IncidentId) -> Option<Incident> {
        let entry = self.entry(id)?;
        entry.unwritten = None;
        Some(entry.incident.clone())
    }

    /// Those that changed without an event, and were to be written by then.
    pub fn unwritten(&self, by: Moment) -> Vec<IncidentId> {
        let due = |entry: &&Entry| entry.write_at().is_some_and(|at| at <= by);
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

    /// Whether it is one of those that get worse by stages.
    pub fn is_staged(&self, id: &IncidentId) -> bool {
        self.topic_of(id).is_some_and(|topic| topic.stage().is_some())
    }

    /// What it is about, while it is not over.
    pub fn topic_of(&self, id: &IncidentId) -> Option<Topic> {
        let entry = self.entries.iter().find(|entry| &entry.incident.id == id)?;
        Some(entry.topic)
    }

    /// The incident on a topic in a release, while it is not over.
    pub fn on(&self, topic: Topic, release: Option<&str>) -> Option<&Incident> {
        let mut incidents = self.entries.iter().filter(|entry| entry.topic == topic);
        let found = incidents.find(|entry| entry.incident.release.as_deref() == release)?;
        Some(&found.incident)
    }

    /// Those that keep no slot from serving and do not show themselves become mitigated; those quiet for
    /// long are resolved, and leave the book by [`Book::close`]. Gives the ones that changed. `down` are the
    /// slots that shall serve and do not, `active` says whether what an incident is about still shows itself.
    pub fn review(
        &mut self,
        now: Now,
        down: &BTreeSet<Slot>,
        active: impl Fn(Topic, &Incident) -> bool,
    ) -> Vec<Incident> {
        self.taken.retain(|slot, _| down.contains(slot));
        let mut changed = Vec::new();
        for entry in &mut self.entries {
            let active = active(entry.topic, &entry.incident);
            entry.unseen &= entry.incident.slots.iter().any(|slot| down.contains(slot));
            let takes = self.taken.values().any(|id| *id == entry.incident.id);
            let handled = !takes && !active && !entry.unseen;
            if active || takes {
                // It is over a quiet time after that: a worker that leaks may stay for days after it was seen
                // first, and a slot may be held for longer than a quiet time.
                entry.seen_at(now);
            }
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
    /// Of an incident that begins.
    fn new(
        now: Now,
        id: IncidentId,
        seen: &Sighting<'_>,
        age: Duration,
        release: Option<&str>,
    ) -> Self {
        let incident = Incident {
            id,
            kind: seen.topic.as_str().to_owned(),
            severity: seen.topic.severity(),
            state: IncidentState::Open,
            opened_at: now.wall,
            resolved_at: None,
            release: release.map(str::to_owned),
            slots: vec![seen.worker.slot],
            interventions: 0,
            impact: Figures::new(),
            summary: seen.words.to_owned(),
            acknowledged: None,
            seen: seen.words.to_owned(),
            last_intervention: None,
            handled_at: None,
            causes: vec![seen.cause()],
            period_s: Some(age.as_secs()),
        };
        Self {
            topic: seen.topic,
            incident,
            last_seen: now.mono,
            period: age,
            quiet: Duration::ZERO,
            unwritten: Some(now.mono),
            unseen: false,
        }
    }

    /// Whether both are of the matter that gets worse by stages.
    fn is_staged_as(&self, seen: &Sighting<'_>) -> bool {
        self.topic.stage().is_some() && seen.topic.stage().is_some()
    }

    fn came_after(&mut self, period: Duration) {
        self.period = self.period.max(period);
        self.incident.period_s = Some(self.period.as_secs());
    }

    fn seen_at(&mut self, now: Now) {
        self.last_seen = now.mono;
        self.quiet = Duration::ZERO;
    }

    fn over_at(&self) -> Moment {
        let long = self.period.saturating_mul(2).max(QUIET);
        self.last_seen + long.saturating_sub(self.quiet)
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
mod tests;
