//! What must hold of hooks: those of a worker come in their order and one at a time, and it is not told to
//! stop under one.

use stanch::core::hooks::{Call, Hook};
use stanch::core::{Moment, WorkerId};
use std::collections::BTreeMap;
use std::time::Duration;

pub struct Hooks {
    seed: u64,
    /// Until when the last one of each worker may be waited for; `None` when it has ended.
    last: BTreeMap<WorkerId, (Hook, Option<Moment>)>,
}

impl Hooks {
    pub fn new(seed: u64) -> Self {
        Self { seed, last: BTreeMap::new() }
    }

    pub fn begun(&mut self, now: Moment, call: &Call) {
        self.check_none(now, call.worker);
        let until = now + call.within + Duration::from_secs(1);
        let before = self.last.insert(call.worker, (call.hook, Some(until)));
        let ordered = before.is_none_or(|(before, _)| before < call.hook);
        assert!(ordered, "seed {}: {call:?} after {before:?}", self.seed);
    }

    pub fn ended(&mut self, worker: WorkerId, hook: Hook) {
        if let Some((last, until)) = self.last.get_mut(&worker)
            && *last == hook
        {
            *until = None;
        }
    }

    /// None of the worker is awaited.
    pub fn check_none(&self, now: Moment, worker: WorkerId) {
        let awaited = self.last.get(&worker).filter(|(_, until)| until.is_some_and(|at| at > now));
        assert!(awaited.is_none(), "seed {}: {worker} has {awaited:?} still", self.seed);
    }
}
