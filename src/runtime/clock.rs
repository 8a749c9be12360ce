//! The only place of the engine that reads clocks.

use crate::core::{Moment, Now};
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;
use tokio::time::Instant;

/// Both clocks, the monotonic one counted from the start of the supervisor, or of the one that it took
/// the place of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// One that was started then, by [`monotonic`].
    pub fn that_began(then: Duration) -> Self {
        let now = Instant::now();
        Self { start: now.checked_sub(monotonic().saturating_sub(then)).unwrap_or(now) }
    }

    /// When it was started, by [`monotonic`].
    pub fn began(self) -> Duration {
        monotonic().saturating_sub(self.start.elapsed())
    }

    pub fn now(self) -> Now {
        Now { mono: Moment(self.start.elapsed()), wall: Timestamp::now() }
    }

    /// When a moment is, for the timer.
    pub fn instant(self, moment: Moment) -> Instant {
        self.start + moment.0
    }
}

/// The kernel's `CLOCK_MONOTONIC`, which is the same for all programs until the next boot.
pub(super) fn monotonic() -> Duration {
    // It fails for clocks that are not there; this one is.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}
