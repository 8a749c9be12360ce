//! Hooks: the operator's commands that tell others, such as a load balancer, of a worker's life.
//!
//! Those of one worker run one after the other, so that it is never announced after its farewell. Who
//! waits for them waits for their time at most, and a hook that fails changes nothing but the log.

use super::record::words;
use super::{Moment, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

words! {
    /// When a command is run.
    Hook {
        /// The worker was verified ready. The one that it replaces stays until then.
        Ready => "on_ready",
        /// The worker will be told to stop. It is not before the command has ended.
        Drain => "on_drain",
        /// Nothing is left of a worker that had been ready, however it ended.
        Retired => "on_retired",
    }
}

/// Which hooks there are.
#[derive(Clone, Debug, PartialEq)]
pub struct HookSettings {
    /// Those that have a command.
    pub set: Vec<Hook>,
    /// How long each may take.
    pub timeout: Duration,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self { set: Vec::new(), timeout: Duration::from_secs(10) }
    }
}

/// A hook to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// For which worker.
    pub worker: WorkerId,
    /// Its leader, which may have ended.
    pub pid: Option<i32>,
    /// Which hook.
    pub hook: Hook,
    /// How long it may take.
    pub within: Duration,
}

/// The hooks of all workers that have not ended.
#[derive(Debug, Default)]
pub struct Calls {
    of: BTreeMap<WorkerId, VecDeque<Pending>>,
    given_up: bool,
}

#[derive(Debug)]
struct Pending {
    call: Call,
    /// Not awaited after that; `None` while it waits for the one before.
    until: Option<Moment>,
}

/// A command that does not end in its time is killed by who runs it; what is said so much later still is
/// waited for.
const SLACK: Duration = Duration::from_secs(1);

impl Calls {
    /// Adds one behind those of the same worker.
    pub fn add(&mut self, call: Call) {
        if !self.given_up {
            self.of.entry(call.worker).or_default().push_back(Pending { call, until: None });
        }
    }

    /// Gives what is to be run now.
    pub fn begin(&mut self, now: Moment) -> Vec<Call> {
        let mut begun = Vec::new();
        for first in self.of.values_mut().filter_map(|calls| calls.front_mut()) {
            if first.until.is_none() {
                first.until = Some(now + first.call.within + SLACK);
                begun.push(first.call.clone());
            }
        }
        begun
    }

    /// One has ended; false if it was not awaited any more.
    pub fn ended(&mut self, worker: WorkerId, hook: Hook) -> bool {
        let Some(calls) = self.of.get_mut(&worker) else { return false };
        let runs = |first: &&Pending| first.until.is_some() && first.call.hook == hook;
        let known = calls.front().filter(runs).is_some();
        if known {
            calls.pop_front();
        }
        if calls.is_empty() {
            self.of.remove(&worker);
        }
        known
    }

    /// Those that are not awaited any more.
    pub fn overdue(&self, now: Moment) -> Vec<Call> {
        let running = self.of.values().filter_map(|calls| calls.front());
        let late = running.filter(|first| first.until.is_some_and(|until| until <= now));
        late.map(|first| first.call.clone()).collect()
    }

    /// When all those of a worker will have ended; `None` when they have.
    pub fn end_of(&self, worker: WorkerId) -> Option<Moment> {
        let calls = self.of.get(&worker)?;
        let until = calls.front()?.until?;
        Some(calls.iter().skip(1).fold(until, |until, next| until + next.call.within + SLACK))
    }

    /// Whether one of a worker has not ended.
    pub fn any_of(&self, worker: WorkerId) -> bool {
        self.of.contains_key(&worker)
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// When the first one will not be awaited any more.
    pub fn deadline(&self) -> Option<Moment> {
        self.of.values().filter_map(|calls| calls.front()?.until).min()
    }

    /// Nobody is told of anything any more.
    pub fn give_up(&mut self) {
        *self = Self { of: BTreeMap::new(), given_up: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: WorkerId = WorkerId::new(0, 1);

    fn call(hook: Hook) -> Call {
        Call { worker: WORKER, pid: None, hook, within: Duration::from_secs(10) }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn those_of_one_worker_follow_each_other() {
        let mut calls = Calls::default();
        calls.add(call(Hook::Ready));
        assert_eq!(calls.begin(at(0)), [call(Hook::Ready)]);
        calls.add(call(Hook::Drain));
        assert_eq!(calls.begin(at(1)), []);
        assert_eq!(calls.end_of(WORKER), Some(at(22)));
        assert!(!calls.ended(WORKER, Hook::Drain), "it has not begun");
        assert!(calls.ended(WORKER, Hook::Ready));
        assert_eq!(calls.begin(at(2)), [call(Hook::Drain)]);
        assert_eq!((calls.end_of(WORKER), calls.deadline()), (Some(at(13)), Some(at(13))));
        assert_eq!(
            (calls.overdue(at(12)), calls.overdue(at(13))),
            (vec![], vec![call(Hook::Drain)])
        );
        assert!(calls.ended(WORKER, Hook::Drain) && calls.is_empty());
        assert!(!calls.ended(WORKER, Hook::Drain), "it ends once");
    }

    #[test]
    fn in_a_hurry_nobody_is_told() {
        let mut calls = Calls::default();
        calls.add(call(Hook::Drain));
        calls.give_up();
        calls.add(call(Hook::Retired));
        assert!(calls.is_empty() && calls.begin(at(0)).is_empty());
    }
}
