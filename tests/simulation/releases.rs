//! A deploy ends whole or undone, in whatever life of the supervisor.

use stanch::core::{Action, Kind, Record, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Default)]
pub struct Releases {
    pub in_force: Option<String>,
    /// What was in force until the last reload.
    replaced: Option<String>,
    before: Option<String>,
    /// With what each worker was started.
    of: BTreeMap<WorkerId, Option<String>>,
    given_up: Option<String>,
    deploys: i64,
}

impl Releases {
    pub fn new(in_force: Option<String>) -> Self {
        Self { in_force, ..Self::default() }
    }

    /// Those of the next supervisor, which may have met a deploy under way.
    pub fn reborn(&self, in_force: Option<String>, deploying: bool) -> Self {
        Self { in_force, of: self.of.clone(), deploys: deploying.into(), ..Self::default() }
    }

    pub fn comes(&mut self, release: Option<String>) {
        self.replaced = std::mem::replace(&mut self.in_force, release);
    }

    pub fn check(&mut self, action: &Action) {
        match action {
            Action::Start { worker } => drop(self.of.insert(*worker, self.in_force.clone())),
            Action::Reconfigure { remember: true } => self.before = self.replaced.take(),
            Action::RollBack => {
                self.given_up = self.in_force.take();
                self.in_force = self.before.take();
            }
            Action::RollForward => self.in_force = self.given_up.take(),
            _ => {}
        }
    }

    pub fn check_record(&mut self, seed: u64, record: &Record, serving: &BTreeSet<WorkerId>) {
        let started = |worker: &&WorkerId| self.of.contains_key(worker);
        let mut labels = serving.iter().filter(started).map(|worker| (worker, &self.of[worker]));
        match record.kind {
            Kind::DeployStarted => self.deploys += 1,
            Kind::DeployFinished => {
                self.deploys -= 1;
                match record.cause.as_deref() {
                    Some("done") => {
                        let other = labels.find(|(_, label)| **label != self.in_force);
                        assert_eq!(other, None, "seed {seed}: not {:?}", self.in_force);
                    }
                    Some("rolled_back") => {
                        let still = labels.find(|(_, label)| **label == self.given_up);
                        assert_eq!(still, None, "seed {seed}: was given up");
                    }
                    Some("failed" | "interrupted") => {}
                    other => panic!("seed {seed}: a deploy ended {other:?}"),
                }
            }
            _ => {}
        }
        assert!((0..=1).contains(&self.deploys), "seed {seed}: {} deploys at once", self.deploys);
        if record.kind == Kind::UnrecordedAction {
            // Nobody has written down with what.
            record.worker().map(|worker| self.of.remove(&worker));
        }
        let release = match record.worker() {
            Some(worker) => self.of.get(&worker),
            None => record.state.as_ref().map(|incident| &incident.release),
        };
        if let Some(release) = release {
            assert_eq!(record.release, *release, "seed {seed}: whose is it? {record:?}");
        }
    }

    pub fn check_end(&self, seed: u64) {
        assert_eq!(self.deploys, 0, "seed {seed}: a deploy did not end");
    }
}
