//! What the incidents say that they cost, beside what it cost altogether.

use stanch::core::{Incident, IncidentId};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Default)]
pub struct Ledger {
    /// How long fewer slots served than should.
    below: Duration,
    refused: u64,
    /// By incident, as it was last written: milliseconds below capacity, and refused connections.
    told: BTreeMap<IncidentId, [u64; 2]>,
}

impl Ledger {
    /// Time passes below capacity.
    pub fn below(&mut self, span: Duration) {
        self.below += span;
    }

    pub fn refused(&mut self, attempts: u64) {
        self.refused += attempts;
    }

    pub fn incident(&mut self, incident: &Incident) {
        let figure = |key| incident.impact.get(key).and_then(|value| value.as_u64()).unwrap_or(0);
        let told = ["below_capacity_ms", "connections_dropped"].map(figure);
        self.told.insert(incident.id.clone(), told);
    }

    /// Each second and each refused connection is counted in one incident at most.
    pub fn check(&self, seed: u64) {
        let sum = |at: usize| self.told.values().map(|told| told[at]).sum::<u64>();
        let below_ms = self.below.as_millis() as u64;
        assert!(sum(0) <= below_ms, "seed {seed}: of {below_ms} ms: {:?}", self.told);
        assert!(sum(1) <= self.refused, "seed {seed}: of {}: {:?}", self.refused, self.told);
    }

    /// What the incidents account for, in milliseconds and in connections.
    pub fn told(&self) -> [u64; 2] {
        [0, 1].map(|at| self.told.values().map(|told| told[at]).sum())
    }
}
