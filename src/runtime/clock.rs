//! The only place of the engine that reads clocks.

use crate::core::{Moment, Now};
use jiff::Timestamp;
use tokio::time::Instant;

/// Both clocks, the monotonic one counted from the start of the supervisor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(self) -> Now {
        Now { mono: Moment(self.start.elapsed()), wall: Timestamp::now() }
    }

    /// When a moment is, for the timer.
    pub fn instant(self, moment: Moment) -> Instant {
        self.start + moment.0
    }
}
