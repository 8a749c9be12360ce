//! A roll: replacing workers one by one. At most one is under way.

use super::deploy::Aside;
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

/// On whose behalf workers are replaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Errand {
    /// That of those who are due; this is the first.
    Due(WorkerId, Due),
    /// An operator's, who waits for the end.
    Operator(Ticket),
    /// A release's, which takes the place of another.
    Release,
    /// That of the release before, which is gone back to in an incident from another one.
    WayBack(Option<IncidentId>, Aside),
}

impl Errand {
    /// The incident in which it is.
    pub fn incident(&self) -> Option<&IncidentId> {
        match self {
            Errand::Due(_, due) => due.incident.as_ref(),
            Errand::WayBack(incident, _) => incident.as_ref(),
            Errand::Operator(_) | Errand::Release => None,
        }
    }

    /// Whether it is for a release.
    pub fn is_release(&self) -> bool {
        matches!(self, Errand::Release | Errand::WayBack(..))
    }
}

/// A roll under way.
#[derive(Debug)]
pub struct Roll {
    /// For what.
    pub errand: Errand,
    /// Slots that an operator or a release wants replaced, in order. Automatic replacements are not listed:
    /// a worker that is due says so itself.
    pub wanted: VecDeque<Slot>,
    /// The step under way.
    pub step: Option<Step>,
    /// Workers replaced so far.
    pub replaced: u32,
}

impl Roll {
    /// A roll over these slots; none for workers that are due.
    pub fn new(errand: Errand, wanted: impl IntoIterator<Item = Slot>) -> Self {
        let wanted = wanted.into_iter().collect();
        Self { errand, wanted, step: None, replaced: 0 }
    }
}
