//! Samples the workers on a thread of its own, each as often as its head-room asks for, so that slow
//! reads of `/proc` never hold up the engine.

use super::launch::Surroundings;
use crate::core::{Event, Sample, WorkerId, pace};
use crate::linux::sockdiag;
use crate::linux::tree::Tree;
use crate::store::Writer;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Changes of the roster that may wait; each is one start or end of a worker.
const QUEUE: usize = 1024;

/// Connections are counted, and samples kept in the store, at most this often for a worker.
const SLOW: Duration = Duration::from_secs(1);

/// A worker with more descriptors than this has its connections left uncounted: each costs a readlink.
const COUNTED_FDS_MAX: u64 = 4096;

/// How the engine tells the sampler whom to watch.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    changes: SyncSender<Change>,
}

enum Change {
    Watch(WorkerId, Arc<Mutex<Tree>>),
    Forget(WorkerId),
}

/// How often to sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub usual: Duration,
    pub hard_limit_kib: Option<u64>,
}

impl Sampler {
    /// Starts the thread, which ends when the last clone is dropped.
    pub fn start(pace: Pace, surroundings: Surroundings, store: Writer) -> std::io::Result<Self> {
        let (changes, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("stanch-sampler".into()).spawn(move || {
            let thread = Thread { pace, surroundings, store, watched: BTreeMap::new() };
            thread.run(&receiver);
        })?;
        Ok(Self { changes })
    }

    /// Samples this worker from now on.
    pub fn watch(&self, worker: WorkerId, tree: Arc<Mutex<Tree>>) {
        let _ = self.changes.send(Change::Watch(worker, tree));
    }

    /// The worker is gone.
    pub fn forget(&self, worker: WorkerId) {
        let _ = self.changes.send(Change::Forget(worker));
    }
}

struct Watched {
    tree: Arc<Mutex<Tree>>,
    due: Instant,
    slow_due: Instant,
    connections: Option<u64>,
}

struct Thread {
    pace: Pace,
    surroundings: Surroundings,
    store: Writer,
    watched: BTreeMap<WorkerId, Watched>,
}

impl Thread {
    fn run(mut self, changes: &Receiver<Change>) {
        loop {
            let next = self.watched.values().map(|watched| watched.due).min();
            let change = match next {
                None => changes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => changes.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match change {
                Ok(Change::Watch(worker, tree)) => {
                    let now = Instant::now();
                    let watched = Watched { tree, due: now, slow_due: now, connections: None };
                    self.watched.insert(worker, watched);
                }
                Ok(Change::Forget(worker)) => drop(self.watched.remove(&worker)),
                Err(RecvTimeoutError::Timeout) => self.sample_due(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn sample_due(&mut self) {
        // Only those that listen can have connections; under takeover that becomes known with time.
        let addresses = self.surroundings.addresses();
        for (worker, watched) in &mut self.watched {
            let now = Instant::now();
            if watched.due > now {
                continue;
            }
            let slow = watched.slow_due <= now;
            let sample = watched.sample(slow.then_some(addresses.as_slice()));
            let Pace { usual, hard_limit_kib } = self.pace;
            watched.due = now + pace::sample_interval(usual, sample.growth_kib(), hard_limit_kib);
            if slow {
                watched.slow_due = now + SLOW;
                self.store.add_samples(*worker, Timestamp::now(), sample);
            }
            // An engine that cannot keep up needs fewer samples, not older ones.
            let _ = self
                .surroundings
                .events
                .try_send(Event::Sampled { worker: *worker, sample }.into());
        }
    }
}

impl Watched {
    /// With `addresses` the connections to them are counted anew.
    fn sample(&mut self, addresses: Option<&[SocketAddr]>) -> Sample {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sample = tree.sample();
        let countable = sample.fds.is_some_and(|fds| fds <= COUNTED_FDS_MAX);
        if let Some(addresses) = addresses.filter(|all| !all.is_empty() && countable) {
            self.connections = sockdiag::connections(addresses, &tree.sockets())
                .ok()
                .map(|open| open.len() as u64);
        }
        sample.connections = self.connections;
        sample
    }
}
