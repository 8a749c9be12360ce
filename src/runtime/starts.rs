//! By which configuration workers were started: what is run for one of them later is run as it was.

use super::roster::Roster;
use crate::config::Config;
use crate::core::WorkerId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many that are gone are known of a slot: hooks of more of them do not run at once.
const GONE_OF_SLOT: u64 = 8;

/// Those of this stanch.
#[derive(Debug, Default)]
pub(super) struct Starts(BTreeMap<WorkerId, Arc<Config>>);

impl Starts {
    /// A worker is started.
    pub fn note(&mut self, worker: WorkerId, config: &Arc<Config>, roster: &Roster) {
        let first = worker.generation.0.saturating_sub(GONE_OF_SLOT);
        self.0.retain(|known, _| {
            known.slot != worker.slot || known.generation.0 >= first || roster.has(*known)
        });
        self.0.insert(worker, Arc::clone(config));
    }

    /// The present configuration, with the release that a worker is of. One that an earlier stanch has started is
    /// taken for one of the present release.
    pub fn config_for(&self, worker: WorkerId, present: &Arc<Config>) -> Arc<Config> {
        match self.0.get(&worker) {
            Some(own) => Arc::new(Config::clone(present).with_release_of(own)),
            None => Arc::clone(present),
        }
    }
}
