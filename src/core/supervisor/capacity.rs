//! What an incident costs the users: time below capacity and connections that were refused, each counted
//! in one incident at most ([`Book::holder`](super::super::incidents::Book::holder)). A hang is found out
//! after some probes; the time since the first of them counts then.
//!
//! What was refused while every slot served is first of all nobody's: a queue that is full says nothing of
//! why. It counts in an incident that had kept a slot from serving until just before (the kernel's
//! counters are read once a second), and in a hang that is found out within [`REMEMBERED`]: until then the
//! worker seemed to serve.

use super::super::worker::Worker;
use super::super::{IncidentId, Moment, Now, Slot, WorkerId};
use super::Supervisor;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Between two counts of the time in which a slot has no worker, while that lasts.
const PAUSE: Duration = Duration::from_secs(60);

/// What was refused is told at most so much later.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

/// For so long it is remembered what was refused while every slot served.
const REMEMBERED: Duration = Duration::from_secs(300);

/// In which incident costs are counted.
#[derive(Debug, Default)]
pub(super) struct Outages {
    /// The incident that keeps capacity away, and since when that is not counted yet.
    present: Option<(IncidentId, Moment)>,
    /// The one that did so last, and until when.
    last: Option<(IncidentId, Moment)>,
    /// Time below capacity until then is counted, or was none.
    pub counted: Moment,
    /// What was refused while every slot served, oldest first.
    pub refused: VecDeque<(Moment, u64)>,
}

impl Supervisor {
    /// The slots that shall serve and do not.
    pub(super) fn down(&self) -> BTreeSet<Slot> {
        self.slots.keys().copied().filter(|slot| !self.serves(*slot)).collect()
    }

    /// Notes that the slots of workers that do not serve as they should have been served by others until now.
    pub(super) fn note_cover(&mut self, now: Now) {
        let fails = |worker: &&Worker| worker.failing_since().is_some();
        let failing = self.workers.values().filter(fails).map(|worker| worker.id);
        let covered = |id: &WorkerId| {
            self.in_slot(id.slot).any(|other| {
                other.id != *id && other.is_serving() && other.failing_since().is_none()
            })
        };
        for id in failing.filter(covered).collect::<Vec<_>>() {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.covered_until = now.mono;
            }
        }
    }

    /// Counts the time below capacity in the incident that had kept it away, when that ends, passes to another
    /// one, or has lasted for a while: an outage may have no end.
    pub(super) fn note_capacity(&mut self, now: Now, down: &BTreeSet<Slot>) {
        let holder = self.book.holder(down);
        let due = self.capacity_deadline().is_some_and(|at| at <= now.mono);
        let present = self.outages.present.take_if(|(id, _)| due || Some(&*id) != holder.as_ref());
        if let Some((id, since)) = present {
            let below_ms = now.mono.since(since).as_millis() as u64;
            self.book.add_impact(now, &id, "below_capacity_ms", below_ms);
            self.outages.last = Some((id, now.mono));
            self.outages.counted = now.mono;
        }
        match holder {
            Some(id) => {
                self.outages.present.get_or_insert((id, now.mono));
            }
            // Somebody took it away on purpose, and what is refused in that is nobody's.
            None if !down.is_empty() => self.outages.last = None,
            None => {}
        }
    }

    /// What follows is nobody's. Gives the incident that had kept capacity away until now.
    pub(super) fn end_capacity(&mut self, now: Now) -> Option<IncidentId> {
        let (id, _) = self.outages.present.clone()?;
        self.note_capacity(now, &BTreeSet::new());
        Some(id)
    }

    /// When time below capacity is to be counted next.
    pub(super) fn capacity_deadline(&self) -> Option<Moment> {
        self.outages.present.as_ref().map(|(_, since)| *since + PAUSE)
    }

    /// Users were turned away.
    pub(super) fn on_connections_dropped(&mut self, now: Now, attempts: u64) {
        let Outages { present, last, refused, .. } = &mut self.outages;
        let just = last.as_ref().filter(|(_, until)| now.mono.since(*until) <= TOLD_WITHIN);
        match present.as_ref().or(just) {
            Some((id, _)) => self.book.add_impact(now, id, "connections_dropped", attempts),
            None => {
                let old = |(at, _): &(Moment, u64)| now.mono.since(*at) > REMEMBERED;
                while refused.front().is_some_and(old) {
                    refused.pop_front();
                }
                refused.push_back((now.mono, attempts));
            }
        }
    }

    /// A worker has not answered since then, as was found out now: it was the time below capacity, unless that
    /// counts in another incident, and what was refused meanwhile was refused for that.
    pub(super) fn blame_since(&mut self, now: Now, id: &IncidentId, since: Moment) {
        let until = self.outages.present.as_ref().map_or(now.mono, |(_, since)| *since);
        let below_ms = until.since(since.max(self.outages.counted)).as_millis() as u64;
        if below_ms > 0 {
            self.book.add_impact(now, id, "below_capacity_ms", below_ms);
            self.outages.counted = until;
        }
        let late = self.outages.refused.partition_point(|(at, _)| *at < since);
        let attempts = self.outages.refused.drain(late..).map(|(_, attempts)| attempts).sum();
        if attempts > 0 {
            self.book.add_impact(now, id, "connections_dropped", attempts);
        }
    }
}
