//! Watches the memory of the host and of the cgroups around the supervisor, once a second, and at once when processes begin to wait for it.

use super::message::Message;
use crate::core::Event;
use crate::linux::cgroup::Around;
use crate::linux::pressure::{self, Stalls};
use crate::linux::procfs::Procfs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// From one reading to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// A stall is told for so long: twice the kernel's window, so that the next one joins it.
const REMEMBERED: Duration = Duration::from_secs(4);

/// What the OOM killers of the host have done.
#[derive(Clone, Debug)]
pub(super) struct OomKills {
    procfs: Procfs,
    /// The count of one to two seconds ago.
    before: Arc<AtomicU64>,
}

impl OomKills {
    pub fn new(procfs: &Procfs) -> Self {
        let before = pressure::oom_kills(procfs).unwrap_or(0);
        Self { procfs: procfs.clone(), before: Arc::new(AtomicU64::new(before)) }
    }

    /// Whether there was one within the last seconds.
    pub fn lately(&self) -> bool {
        let before = self.before.load(Ordering::Relaxed);
        pressure::oom_kills(&self.procfs).is_some_and(|now| now > before)
    }
}

/// Runs until the engine has ended.
pub(super) async fn watch(
    procfs: Procfs,
    around: Around,
    oom_kills: OomKills,
    events: mpsc::Sender<Message>,
) {
    let stalls = Stalls::watch(&procfs)
        .inspect_err(|error| {
            tracing::info!(%error, "no word from the kernel on stalls for memory (PSI)");
        })
        .ok();
    let mut stalled_at: Option<Instant> = None;
    let mut newest = pressure::oom_kills(&procfs).unwrap_or(0);
    loop {
        let stalled = stalled_at.is_some_and(|at| at.elapsed() < REMEMBERED);
        // A container is short of memory before the host is.
        let host_kib = pressure::available_kib(&procfs);
        let available_kib = host_kib.into_iter().chain(around.room_kib()).min();
        let event = Event::HostMemory { available_kib, stalled };
        if events.send(event.into()).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            Some(()) = next(stalls.as_ref()) => stalled_at = Some(Instant::now()),
        }
        let now = pressure::oom_kills(&procfs).unwrap_or(0);
        oom_kills.before.store(std::mem::replace(&mut newest, now), Ordering::Relaxed);
    }
}

async fn next(stalls: Option<&Stalls>) -> Option<()> {
    stalls?.next().await.ok()
}
