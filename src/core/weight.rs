//! Slow start: how many of the new connections a worker gets beside the others.
//!
//! A server that has just begun is slow: its code is compiled while it answers the first requests
//! (node, the JVM), its pools and caches are empty. With its full part of the connections at once it
//! would keep those waiting, so its weight grows in steps over `rolling.slow_start`, as with the
//! balancers that know the like (HAProxy `slowstart`, nginx `slow_start`, Envoy).

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A part of the new connections, in relation to the weights of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u8);

impl Weight {
    /// That of a worker that has just become ready.
    pub const LEAST: Self = Self(1);
    /// That of one that has come through its slow start.
    pub const FULL: Self = Self(16);

    /// The weight at a time after a worker became ready; it grows in equal steps.
    pub fn after(age: Duration, slow_start: Duration) -> Self {
        if age >= slow_start {
            return Self::FULL;
        }
        let steps = u32::from(Self::FULL.0 - Self::LEAST.0);
        let step = slow_start / steps;
        let done = if step.is_zero() { 0 } else { age.as_nanos() / step.as_nanos() };
        Self(Self::LEAST.0 + done.min(u128::from(steps) - 1) as u8)
    }

    /// The age at which the next step is taken; `None` when it was the last.
    pub fn ends_at(self, slow_start: Duration) -> Option<Duration> {
        let steps = u32::from(Self::FULL.0 - Self::LEAST.0);
        match u32::from(self.0 - Self::LEAST.0) + 1 {
            done if done > steps => None,
            done if done == steps => Some(slow_start),
            done => Some(slow_start / steps * done),
        }
    }

    /// As a number, 1 to 16.
    pub fn get(self) -> u8 {
        self.0
    }
}
