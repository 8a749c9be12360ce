//! Signals that come before the engine is there to take them.

use super::engine::SIGNALS;
use futures_util::{FutureExt, StreamExt};
use signal_hook::low_level::unregister;
use signal_hook::{SigId, flag};
use signal_hook_tokio::Signals;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Notes signals of the engine's.
#[derive(Debug)]
pub struct EarlySignals(Vec<(i32, SigId, Arc<AtomicBool>)>);

impl EarlySignals {
    /// Notes them from now on, where they would have ended the process.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn note() -> io::Result<Self> {
        let note = |signal: &i32| {
            let noted = Arc::<AtomicBool>::default();
            Ok((*signal, flag::register(*signal, Arc::clone(&noted))?, noted))
        };
        SIGNALS.iter().map(note).collect::<io::Result<_>>().map(Self)
    }

    /// Those that were noted, and those that `signals` has taken since: each once, as it came once.
    pub(super) fn hand_to(self, signals: &mut Signals) -> BTreeSet<i32> {
        let mut came = BTreeSet::new();
        for (signal, registered, noted) in self.0 {
            unregister(registered);
            came.extend(noted.load(Ordering::Relaxed).then_some(signal));
        }
        while let Some(Some(signal)) = signals.next().now_or_never() {
            came.insert(signal);
        }
        came
    }
}
