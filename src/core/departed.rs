//! Workers that are gone, of which something is told yet: what their last hook did, what was left of them.

use super::worker::Worker;
use super::{Generation, Slot, WorkerId};
use std::collections::BTreeMap;

/// So many of a slot are known: nothing is awaited for as long as more of them take to come and go.
const OF_SLOT: usize = 8;

/// What records of them bear.
#[derive(Debug, Default)]
pub struct Departed(BTreeMap<WorkerId, Traits>);

/// What a worker had from its start to its end.
#[derive(Debug)]
pub struct Traits {
    /// Its leader.
    pub pid: Option<i32>,
    /// The release that it was started with.
    pub release: Option<String>,
}

impl Departed {
    /// Adds one.
    pub fn add(&mut self, worker: Worker) {
        let Worker { id, pid, release, .. } = worker;
        self.0.insert(id, Traits { pid, release });
        let known: Vec<WorkerId> = self.of_slot(id.slot).collect();
        for oldest in known.iter().rev().skip(OF_SLOT) {
            self.0.remove(oldest);
        }
    }

    /// What is known of one.
    pub fn get(&self, id: WorkerId) -> Option<&Traits> {
        self.0.get(&id)
    }

    fn of_slot(&self, slot: Slot) -> impl Iterator<Item = WorkerId> {
        let id = |generation| WorkerId { slot, generation: Generation(generation) };
        self.0.range(id(0)..=id(u64::MAX)).map(|(id, _)| *id)
    }
}
