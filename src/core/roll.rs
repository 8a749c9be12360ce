//! A roll: replacing workers one by one. At most one is under way.

use super::worker::Due;
use super::{IncidentId, Moment, Slot, Ticket, WorkerId};
use std::collections::VecDeque;

/// What is being replaced at the moment.
#[derive(Debug)]
pub struct Step {
    /// Where.
    pub slot: Slot,
    /// Who goes; `None` for a slot that has no worker.
    pub old: Option<WorkerId>,
    /// Who comes; `None` while the old one must go first (no surge).
    pub new: Option<WorkerId>,
    /// Why, when it was not an operator's wish.
    pub due: Option<Due>,
    /// When it began.
    pub begun: Moment,
    /// Why the old one goes first in spite of `rolling.surge`.
    pub no_room: Option<String>,
}

/// A roll under way.
#[derive(Debug)]
pub struct Roll {
    /// Who waits for its end.
    pub ticket: Option<Ticket>,
    /// The incident that began it, if it is an automatic one.
    pub incident: Option<IncidentId>,
    /// Slots that an operator wants replaced, in order. Automatic replacements are not listed: a
    /// worker that is due says so itself.
    pub wanted: VecDeque<Slot>,
    /// The step under way.
    pub step: Option<Step>,
    /// Workers replaced so far.
    pub replaced: u32,
}

impl Roll {
    /// A roll over these slots; none for an automatic one.
    pub fn new(ticket: Option<Ticket>, wanted: impl IntoIterator<Item = Slot>) -> Self {
        let wanted = wanted.into_iter().collect();
        Self { ticket, incident: None, wanted, step: None, replaced: 0 }
    }
}
