//! Samples the workers on a thread of its own, each as often as its head-room asks for, so that slow
//! reads of `/proc` never hold up the engine.

use super::connections::Ledger;
use super::launch::Surroundings;
use super::lock::lock;
use super::message::Message;
use super::repeats::Repeats;
use crate::config::Config;
use crate::core::{Event, Sample, WorkerId, pace};
use crate::linux::procfs::Procfs;
use crate::linux::sockdiag;
use crate::linux::tree::Tree;
use crate::store::{Life, Writer};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Changes of the roster that may wait; each is one start or end of a worker.
const QUEUE: usize = 1024;

/// Connections and queues are counted at most this often.
const SLOW: Duration = Duration::from_secs(1);

/// Whole readings of a worker near its limit come at least this far apart; between them only the memory
/// of its known processes is read, 6 µs each.
const WHOLE: Duration = Duration::from_millis(50);

/// A round of counting is followed by a pause of so many times its duration.
const COUNTING_PAUSE: u32 = 50;

/// How the engine tells the sampler whom to watch.
#[derive(Clone, Debug)]
pub(super) struct Sampler {
    changes: SyncSender<Change>,
}

enum Change {
    Watch(Arc<Life>, Instant, Arc<Mutex<Tree>>, Holds),
    Forget(WorkerId),
    Holds(WorkerId, Holds),
    Pace(Pace),
}

/// Who holds the hard limit of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Kernel,
    Sampler,
}

impl Holds {
    pub fn by_kernel(held: bool) -> Self {
        if held { Holds::Kernel } else { Holds::Sampler }
    }
}

/// How often to sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    pub usual: Duration,
    pub hard_limit_kib: Option<u64>,
}

impl Pace {
    pub fn of(config: &Config) -> Self {
        let hard_limit_kib = config.settings.memory.hard_limit_kib;
        Self { usual: config.memory.sample_interval, hard_limit_kib }
    }
}

impl Sampler {
    /// Starts the thread, which ends when the last clone is dropped. Who `succeeds` another supervisor
    /// counts from here on what is turned away: the rest was told.
    pub fn start(
        surroundings: Surroundings,
        procfs: Procfs,
        store: Writer,
        succeeds: bool,
    ) -> std::io::Result<Self> {
        let (changes, receiver) = sync_channel(QUEUE);
        let dropped = match succeeds {
            true => lock(&surroundings.plane).turned_away(),
            false => BTreeMap::new(),
        };
        std::thread::Builder::new().name("stanch-sampler".into()).spawn(move || {
            let thread = Thread {
                pace: Pace::of(&surroundings.config),
                begun: Instant::now(),
                surroundings,
                procfs,
                store,
                watched: BTreeMap::new(),
                count_due: Instant::now(),
                ledger: Ledger::default(),
                dropped,
                owed: 0,
            };
            thread.run(&receiver);
        })?;
        Ok(Self { changes })
    }

    /// Samples this worker, started then, from now on.
    pub fn watch(&self, life: Arc<Life>, started: Instant, tree: Arc<Mutex<Tree>>, limit: Holds) {
        let _ = self.changes.send(Change::Watch(life, started, tree, limit));
    }

    /// Another one holds the limit of this worker.
    pub fn set_holds(&self, worker: WorkerId, limit: Holds) {
        let _ = self.changes.send(Change::Holds(worker, limit));
    }

    /// Samples all at another pace.
    pub fn set_pace(&self, pace: Pace) {
        let _ = self.changes.send(Change::Pace(pace));
    }

    /// The worker is gone.
    pub fn forget(&self, worker: WorkerId) {
        let _ = self.changes.send(Change::Forget(worker));
    }
}

struct Watched {
    life: Arc<Life>,
    started: Instant,
    tree: Arc<Mutex<Tree>>,
    limit: Holds,
    /// How soon its head-room wants the next look.
    interval: Duration,
    due: Instant,
    whole_due: Instant,
    store_due: Instant,
    repeats: Repeats,
    fds: Option<u64>,
    connections: Option<u64>,
}

struct Thread {
    pace: Pace,
    begun: Instant,
    surroundings: Surroundings,
    procfs: Procfs,
    store: Writer,
    watched: BTreeMap<WorkerId, Watched>,
    count_due: Instant,
    ledger: Ledger,
    /// What the engine knows to have been turned away at each socket.
    dropped: BTreeMap<u64, u64>,
    /// What it was told too much of that; not above 0.
    owed: i64,
}

impl Thread {
    fn run(mut self, changes: &Receiver<Change>) {
        loop {
            let due = self.watched.values().map(|watched| watched.due);
            let next = due.chain([self.count_due]).min().unwrap_or(self.count_due);
            match changes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Change::Watch(life, started, tree, limit)) => {
                    let now = Instant::now();
                    let worker = life.worker;
                    let watched = Watched {
                        life,
                        started,
                        tree,
                        limit,
                        interval: self.pace.usual,
                        due: now,
                        whole_due: now,
                        store_due: now,
                        repeats: Repeats::default(),
                        fds: None,
                        connections: None,
                    };
                    self.watched.insert(worker, watched);
                }
                Ok(Change::Forget(worker)) => drop(self.watched.remove(&worker)),
                Ok(Change::Holds(worker, limit)) => {
                    if let Some(watched) = self.watched.get_mut(&worker) {
                        watched.limit = limit;
                    }
                }
                Ok(Change::Pace(pace)) => self.set_pace(pace),
                Err(RecvTimeoutError::Timeout) => {
                    if self.count_due <= Instant::now() {
                        self.count();
                    }
                    self.sample_due();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// All are looked at now, as new ones are: what was planned was for the other pace.
    fn set_pace(&mut self, pace: Pace) {
        if std::mem::replace(&mut self.pace, pace) == pace {
            return;
        }
        let now = Instant::now();
        for watched in self.watched.values_mut() {
            watched.interval = pace.usual;
            (watched.due, watched.whole_due, watched.store_due) = (now, now, now);
        }
    }

    /// When all are sampled next, unless their head-room asks for more.
    fn next_turn(&self, now: Instant) -> Instant {
        let usual = self.pace.usual;
        let passed = (now - self.begun).as_nanos() / usual.as_nanos().max(1);
        self.begun + usual * (passed as u32 + 1)
    }

    /// Samples all that are due in one go, because every message costs the engine a look at all workers.
    /// But who is near its limit does not wait until a thousand others were read: they go on after it.
    fn sample_due(&mut self) {
        let (begun, Pace { usual, hard_limit_kib }) = (Instant::now(), self.pace);
        let turn = self.next_turn(begun);
        let urgent = self.watched.values().filter(|watched| watched.interval < usual);
        let next_urgent = urgent.map(|watched| watched.due.max(begun + pace::SHORTEST)).min();
        let mut due: Vec<_> =
            self.watched.iter_mut().filter(|(_, watched)| watched.due <= begun).collect();
        due.sort_by_key(|(_, watched)| (watched.interval, watched.due));
        let mut samples = Vec::with_capacity(due.len());
        for (worker, watched) in due {
            let now = Instant::now();
            if next_urgent.is_some_and(|due| due <= now) {
                break;
            }
            // The limit that this thread has to watch.
            let limit_kib = hard_limit_kib.filter(|_| watched.limit == Holds::Sampler);
            if watched.whole_due > now {
                let growth_kib = watched.tree().growth_kib();
                let over = growth_kib.zip(limit_kib).is_some_and(|(growth, limit)| growth > limit);
                if !over {
                    watched.interval = pace::look_interval(usual, growth_kib, limit_kib);
                    watched.due = (now + watched.interval).min(watched.whole_due);
                    continue;
                }
            }
            let sample = watched.sample();
            watched.interval = pace::look_interval(usual, sample.growth_kib(), limit_kib);
            watched.due = turn.min(now + watched.interval);
            watched.whole_due = turn.min(now + watched.interval.max(WHOLE.min(usual)));
            if watched.store_due <= now {
                watched.store_due = turn;
                for (then, sample) in watched.repeats.next(now, sample).into_iter().flatten() {
                    // By the clock that does not step: the age is what the trend is judged by.
                    let at = watched.life.started.checked_add(then - watched.started);
                    self.store.add_sample(&watched.life, at.unwrap_or(Timestamp::MAX), sample);
                }
            }
            samples.push((*worker, sample));
        }
        // An engine that cannot keep up needs fewer samples, not older ones.
        if !samples.is_empty() {
            let _ = self.surroundings.events.try_send(Message::Sampled(samples));
        }
    }

    /// One round for all workers: their connections, and what was turned away.
    fn count(&mut self) {
        let begun = Instant::now();
        self.count_connections();
        self.count_dropped();
        self.count_due = Instant::now() + SLOW.max(begun.elapsed() * COUNTING_PAUSE);
    }

    fn count_connections(&mut self) {
        let mut addresses = self.surroundings.addresses();
        let listen = &self.surroundings.config.listen;
        let own = self.watched.keys().filter_map(|id| listen.own_address(id.slot));
        addresses.extend(own);
        // Without an address nothing is known, and what the kernel does not tell neither.
        let accepted = sockdiag::accepted_inodes(&addresses).ok().filter(|_| !addresses.is_empty());
        let counts = accepted.map(|accepted| {
            let fds = self.watched.iter().map(|(worker, watched)| (*worker, watched.fds));
            self.ledger.count(&accepted, &fds.collect(), |worker| {
                let pids = self.watched.get(&worker).map(|watched| watched.tree().last_seen());
                // Without the lock: the engine may need it.
                pids.into_iter()
                    .flatten()
                    .flat_map(|pid| self.procfs.sockets(pid).into_values())
                    .collect()
            })
        });
        for (worker, watched) in &mut self.watched {
            watched.connections = counts.as_ref().and_then(|counts| counts.get(worker).copied());
        }
    }

    fn count_dropped(&mut self) {
        let now = lock(&self.surroundings.plane).turned_away();
        let change = |(socket, dropped): (&u64, &u64)| {
            dropped.cast_signed() - self.dropped.get(socket).map_or(0, |known| known.cast_signed())
        };
        // Less than was told, where a probe was met between its packet and the answer: that comes off the next.
        let attempts = self.owed + now.iter().map(change).sum::<i64>();
        let event = Event::ConnectionsDropped { attempts: attempts.max(0).cast_unsigned() };
        // An engine that cannot take it now is told in the next round.
        if attempts <= 0 || self.surroundings.events.try_send(event.into()).is_ok() {
            (self.dropped, self.owed) = (now, attempts.min(0));
        }
    }
}

impl Watched {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    fn sample(&mut self) -> Sample {
        let mut sample = self.tree().sample();
        self.fds = sample.fds;
        sample.connections = self.connections;
        sample
    }
}
