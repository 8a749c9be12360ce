//! What grew from one look to a later one.

use super::Look;
use crate::core::{Grown, Growth};
use std::collections::BTreeMap;

/// Of each, memory and descriptors, the most that is told.
const TOLD: usize = 5;
/// Less memory is told as 0.0 MiB, which nobody needs to read.
const LEAST_KIB: u64 = 52;

/// Memory first, then descriptors, that which grew most first.
pub fn growth(then: &Look, now: &Look) -> Vec<Growth> {
    let memory = |look: &Look| {
        let mut held: BTreeMap<String, u64> = BTreeMap::new();
        for mapping in &look.mappings {
            *held.entry(mapping.words()).or_default() += mapping.held_kib();
        }
        held
    };
    let mut grown = grew(&memory(then), &memory(now), Grown::Memory);
    grown.extend(grew(&then.descriptors, &now.descriptors, Grown::Descriptors));
    grown
}

fn grew(then: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>, grown: Grown) -> Vec<Growth> {
    let by = |what: &String, now: u64| now.saturating_sub(then.get(what).copied().unwrap_or(0));
    let least = match grown {
        Grown::Memory => LEAST_KIB,
        Grown::Descriptors => 1,
    };
    let mut all: Vec<Growth> = now
        .iter()
        .map(|(what, now)| Growth { what: what.clone(), grown, by: by(what, *now) })
        .filter(|growth| growth.by >= least)
        .collect();
    all.sort_by_key(|growth| std::cmp::Reverse(growth.by));
    all.truncate(TOLD);
    all
}
