//! What happens on the stage, until it is over or somebody interrupts.

use super::watch::Watcher;
use super::{Folder, StageError, Supervisor};
use crate::cli::Failure;
use crate::core::Kind;
use crate::wire::Status;
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook_tokio::Signals;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Interval, MissedTickBehavior};

/// From one look at the supervisor to the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The threads that carry the load, and the ear for Ctrl-C.
pub struct Play {
    runtime: Runtime,
    signals: Signals,
}

impl Play {
    /// From before there is anything that a signal would leave behind.
    pub fn prepare() -> Result<Self, StageError> {
        let built = Builder::new_multi_thread().enable_all().build();
        let runtime = built.map_err(|source| StageError::Threads { source })?;
        let inside = runtime.enter();
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]);
        drop(inside);
        let signals = signals.map_err(|source| StageError::Signals { source })?;
        Ok(Self { runtime, signals })
    }

    /// Plays `scene` to its end, or to a signal; `what` is interrupted then, in words.
    pub fn perform<T>(
        self,
        what: &str,
        scene: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Self { runtime, mut signals } = self;
        let begun = Instant::now();
        runtime.block_on(async {
            tokio::select! {
                outcome = scene => outcome,
                signal = signals.next() => Err(Failure::Refused(format!(
                    "{what} was ended by {} after {} s; what it had started is stopped",
                    signal.map_or("a signal", name),
                    begun.elapsed().as_secs()
                ))),
            }
        })
    }
}

/// When to look at the supervisor.
pub fn turns() -> Interval {
    let mut turns = tokio::time::interval(LOOK_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// Waits until so many workers are ready, or one of them fails to be.
pub async fn ready(
    supervisor: &mut Supervisor,
    watcher: &mut Watcher,
    folder: &Folder,
    workers: u32,
    patience: Duration,
) -> Result<Status, StageError> {
    let deadline = Instant::now() + patience;
    let mut turns = turns();
    loop {
        turns.tick().await;
        supervisor.check(folder)?;
        let look = watcher.look();
        let is_ready = |status: &Status| {
            let ready = status.workers.iter().filter(|worker| worker.state == "ready");
            ready.count() >= workers as usize
        };
        if let Some(status) = look.status.filter(is_ready) {
            return Ok(status);
        }
        let why = match look.events.into_iter().find(|record| is_failure(record.kind)) {
            Some(record) => record.reason,
            None if Instant::now() < deadline => continue,
            None => {
                let trouble = look.trouble.map_or(String::new(), |text| format!(" ({text})"));
                format!("not within {} s{trouble}", patience.as_secs())
            }
        };
        return Err(StageError::NotReady { why, log: folder.log_end() });
    }
}

/// Whether a worker that this is said of is not there any more, or never was.
pub fn is_failure(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::WorkerStartFailed
            | Kind::WorkerCrashed
            | Kind::WorkerHeld
            | Kind::MemoryHardLimit
            | Kind::MemoryOomKilled
    )
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "Ctrl-C",
        SIGTERM => "SIGTERM",
        SIGQUIT => "SIGQUIT",
        _ => "a hang-up",
    }
}
