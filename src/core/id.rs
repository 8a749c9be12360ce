//! Names of slots and workers.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A numbered place for a worker, from 0 to `workers - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u32);

/// One life of a slot; the first is 1 and numbers are never used twice in a slot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// The process tree of one generation of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerId {
    /// Where it stands.
    pub slot: Slot,
    /// Which life of the slot it is.
    pub generation: Generation,
}

impl WorkerId {
    /// The worker of `slot` in its `generation`.
    pub const fn new(slot: u32, generation: u64) -> Self {
        Self { slot: Slot(slot), generation: Generation(generation) }
    }
}

impl Generation {
    /// The life after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The life before this one; 0 before the first.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads what [`Display`](fmt::Display) wrote.
impl FromStr for WorkerId {
    type Err = NotAWorker;

    fn from_str(text: &str) -> Result<Self, NotAWorker> {
        let (slot, generation) = text.split_once('.').ok_or(NotAWorker)?;
        let slot = slot.parse().map_err(|_| NotAWorker)?;
        Ok(Self::new(slot, generation.parse().map_err(|_| NotAWorker)?))
    }
}

/// The text is not `SLOT.GENERATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAWorker;

/// `SLOT.GENERATION`, as in the environment mark, the log tag and the cgroup leaf.
impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}
