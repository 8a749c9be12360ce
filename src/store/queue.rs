//! The bounded queue between the engine and the store's thread, and the engine's end of it.
//!
//! Everything that is not yet on disk lives here, so this is also the buffer of a store that cannot
//! be written. Its lock is held for moments only, never during disk work, so the engine may take it.

use super::{Head, Life, StoreError, StoredSample};
use crate::core::{Incident, IncidentId, Record, Sample};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Events that may wait to be written; at some 500 bytes each, and as many for the state of its
/// incident, ten megabytes.
pub const EVENT_CAPACITY: usize = 10_000;
/// Samples that may wait; with 8 workers and a second between samples more than 8 minutes.
pub const SAMPLE_CAPACITY: usize = 4_096;
/// Samples are no evidence of what was done, so they may wait for company.
const SAMPLE_PAUSE: Duration = Duration::from_secs(10);

/// Resolves to the event's place in the chain when it is on disk. It fails when the event never will
/// be: the buffer was full, or the store was closed before it could write.
pub type Durable = oneshot::Receiver<Head>;

/// What the store tells the engine, to be made an event (`store_degraded`, `store_restored`) of.
#[derive(Debug)]
pub enum Health {
    /// The store cannot be written; events are kept in the buffer from now on.
    Degraded {
        /// Why.
        error: StoreError,
    },
    /// The store is written again.
    Restored {
        /// Events that had waited and are on disk now.
        buffered: u64,
        /// Events that found the buffer full and are lost.
        lost: u64,
        /// Events that had been on disk, in a file that was removed or replaced by an older one.
        gone: u64,
        /// The newest states of incidents that were lost with events; their rows are older.
        states: Vec<Incident>,
    },
    /// The store is not as it was written, by another program or for what a crash took away; it is
    /// written on.
    Altered {
        /// What is wrong, a sentence for people.
        why: String,
    },
}

/// An event that is not on disk yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub record: Record,
    pub durable: oneshot::Sender<Head>,
}

/// What the thread writes in one go.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub events: VecDeque<Pending>,
    pub samples: VecDeque<StoredSample>,
    /// Nothing comes after it.
    pub last: bool,
}

/// How a written batch ended.
#[derive(Debug)]
pub(super) struct Settled {
    /// Numbers of the events that were given up on while they were being written.
    pub overtaken: Vec<u64>,
    /// Events that have found the buffer full since the last time.
    pub lost: u64,
    /// The newest states of incidents among them.
    pub states: Vec<Incident>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Batch,
    /// Numbers of the events that are being written.
    in_flight: Vec<u64>,
    /// Those of them that were given up on.
    overtaken: Vec<u64>,
    samples_taken: Option<Instant>,
    lost: u64,
    /// The newest state of each incident that was lost with an event, while no newer one is waiting.
    lost_states: BTreeMap<IncidentId, Box<Incident>>,
    samples_dropped: u64,
    head: Head,
    /// Set when the store is being closed: until when the thread may try.
    closing: Option<Instant>,
    /// The thread takes nothing any more.
    ended: bool,
}

/// Shared by the writer handles and the thread.
#[derive(Debug, Default)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The engine's end of the store: cheap to clone, never waits for the disk.
#[derive(Clone, Debug)]
pub struct Writer(pub(super) Arc<Shared>);

impl Writer {
    /// Has the record written as the next event, with the state of its incident. The order of calls is the
    /// order in the log.
    pub fn append(&self, mut record: Record) -> Durable {
        let (durable, receiver) = oneshot::channel();
        let mut queue = self.0.lock();
        if queue.ended || queue.waiting.events.len() + queue.in_flight.len() >= EVENT_CAPACITY {
            queue.lost += 1;
            let state = record.state.take();
            queue.lost_states.extend(state.map(|state| (state.id.clone(), state)));
        } else {
            if let Some(state) = &record.state {
                queue.lost_states.remove(&state.id);
            }
            queue.waiting.events.push_back(Pending { record, durable });
            self.0.changed.notify_all();
        }
        receiver
    }

    /// The record with this number was not waited for, its action went ahead: its event gets the
    /// figure `late`. False if it is too late for that: it is on disk, or on its way there. (In the
    /// latter case the store reports itself degraded by [`StoreError::Slow`], with the event's
    /// `seq`, as soon as it is there, so that the log tells the truth all the same.)
    pub fn mark_late(&self, number: u64) -> bool {
        let mut queue = self.0.lock();
        let mut newest_first = queue.waiting.events.iter_mut().rev();
        if let Some(pending) = newest_first.find(|pending| pending.record.number == number) {
            pending.record.figures.insert("late".into(), true.into());
            return true;
        }
        if queue.in_flight.contains(&number) {
            queue.overtaken.push(number);
        }
        false
    }

    /// Has the sample written within some seconds, or drops and counts it when the queue is full.
    pub fn add_sample(&self, life: &Arc<Life>, at: Timestamp, sample: Sample) {
        let mut queue = self.0.lock();
        if queue.waiting.samples.len() >= SAMPLE_CAPACITY {
            queue.samples_dropped += 1;
        } else {
            let life = Arc::clone(life);
            queue.waiting.samples.push_back(StoredSample { life, at, sample });
            if queue.waiting.samples.len() == SAMPLE_CAPACITY / 2 {
                self.0.changed.notify_all();
            }
        }
    }

    /// Samples that found the queue full, since the start.
    pub fn samples_dropped(&self) -> u64 {
        self.0.samples_dropped()
    }

    /// Events that are not on disk yet.
    pub fn waiting(&self) -> usize {
        let queue = self.0.lock();
        queue.waiting.events.len() + queue.in_flight.len()
    }

    /// The last event on disk, for logs and alerts: who knows it can tell that the log was cut.
    pub fn head(&self) -> Head {
        self.0.head()
    }
}

impl Shared {
    pub fn new(head: Head) -> Shared {
        Shared { queue: Mutex::new(Queue { head, ..Queue::default() }), ..Shared::default() }
    }

    /// A panic of another holder leaves a usable queue: no update here can stop halfway.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to write. After a failure, waits for the pause instead, and
    /// returns whatever there is.
    pub fn next(&self, pause_after_failure: Option<Duration>) -> Batch {
        let began = Instant::now();
        let mut queue = self.lock();
        let samples_from = *queue.samples_taken.get_or_insert(began);
        loop {
            let now = Instant::now();
            let samples_in = SAMPLE_PAUSE.saturating_sub(now - samples_from);
            let samples_due =
                samples_in.is_zero() || queue.waiting.samples.len() >= SAMPLE_CAPACITY / 2;
            let pause_left = pause_after_failure.map(|pause| {
                // The last try comes when a closing store's time is up.
                let until = queue.closing.map_or(began + pause, |until| until.min(began + pause));
                until.saturating_duration_since(now)
            });
            let ready = match pause_left {
                Some(left) => left.is_zero(),
                None => samples_due || !queue.waiting.events.is_empty(),
            };
            if ready || (queue.closing.is_some() && pause_after_failure.is_none()) {
                let last = queue.closing.is_some();
                let take_samples = samples_due || last;
                if take_samples {
                    queue.samples_taken = Some(now);
                }
                let waiting = &mut queue.waiting;
                let batch = Batch {
                    events: std::mem::take(&mut waiting.events),
                    samples: if take_samples {
                        std::mem::take(&mut waiting.samples)
                    } else {
                        VecDeque::new()
                    },
                    last,
                };
                queue.in_flight = batch.events.iter().map(|p| p.record.number).collect();
                return batch;
            }
            let wait = pause_left.unwrap_or(samples_in);
            queue =
                self.changed.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Samples that found the queue full, since the start.
    pub fn samples_dropped(&self) -> u64 {
        self.lock().samples_dropped
    }

    /// The last event on disk.
    pub fn head(&self) -> Head {
        self.lock().head.clone()
    }

    /// The store's own event is the last one.
    pub fn set_head(&self, head: Head) {
        self.lock().head = head;
    }

    /// The events that were taken last are on disk.
    pub fn settle(&self, head: Head) -> Settled {
        let mut queue = self.lock();
        queue.head = head;
        queue.in_flight.clear();
        Settled {
            overtaken: std::mem::take(&mut queue.overtaken),
            lost: std::mem::take(&mut queue.lost),
            states: std::mem::take(&mut queue.lost_states).into_values().map(|it| *it).collect(),
        }
    }

    /// What was taken last is not on disk: it goes back to where it was, before what came since.
    pub fn put_back(&self, batch: Batch) {
        let mut queue = self.lock();
        queue.in_flight.clear();
        let overtaken = std::mem::take(&mut queue.overtaken);
        for mut pending in batch.events.into_iter().rev() {
            if overtaken.contains(&pending.record.number) {
                pending.record.figures.insert("late".into(), true.into());
            }
            queue.waiting.events.push_front(pending);
        }
        let room = SAMPLE_CAPACITY.saturating_sub(queue.waiting.samples.len());
        queue.samples_dropped += batch.samples.len().saturating_sub(room) as u64;
        for sample in batch.samples.into_iter().rev().take(room) {
            queue.waiting.samples.push_front(sample);
        }
    }

    /// Whether the thread should stop trying: the store is being closed and the time is up.
    pub fn given_up(&self) -> bool {
        self.lock().closing.is_some_and(|until| until <= Instant::now())
    }

    /// The thread takes nothing any more; whoever waits for an event learns that it is lost.
    pub fn end(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        queue.lost += queue.waiting.events.len() as u64;
        queue.waiting = Batch::default();
        self.changed.notify_all();
    }

    /// Asks the thread to end, at the latest then.
    pub fn close(&self, until: Instant) {
        self.lock().closing.get_or_insert(until);
        self.changed.notify_all();
    }

    /// Waits for the thread to end, at most until then; the number of events that were not written.
    pub fn wait_for_end(&self, until: Instant) -> u64 {
        let mut queue = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if queue.ended || left.is_zero() {
                let unfinished = queue.waiting.events.len() + queue.in_flight.len();
                return queue.lost + unfinished as u64;
            }
            queue =
                self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::WorkerId;
    use crate::store::tests::{life, record};

    fn late(batch: &Batch) -> Vec<bool> {
        batch.events.iter().map(|p| p.record.figures.get("late") == Some(&true.into())).collect()
    }

    #[test]
    fn late_is_said_of_what_is_not_on_disk() {
        let shared = Arc::new(Shared::default());
        let writer = Writer(Arc::clone(&shared));
        let _waiting: Vec<Durable> = (1..=3).map(|number| writer.append(record(number))).collect();
        assert!(writer.mark_late(2));
        let batch = shared.next(None);
        assert_eq!(late(&batch), [false, true, false]);

        // On its way, and then it does not arrive: it is marked after all, and stays first.
        assert!(!writer.mark_late(3));
        let _fourth = writer.append(record(4));
        shared.put_back(batch);
        let batch = shared.next(None);
        assert_eq!(late(&batch), [false, true, true, false]);

        // On its way, and it arrives.
        assert!(!writer.mark_late(1));
        assert_eq!(shared.settle(Head::default()).overtaken, [1]);
        assert!(!writer.mark_late(1));
        let _fifth = writer.append(record(5));
        shared.next(None);
        assert!(shared.settle(Head::default()).overtaken.is_empty());
    }

    #[test]
    fn what_the_end_finds_waiting_is_counted() {
        let shared = Arc::new(Shared::default());
        let writer = Writer(Arc::clone(&shared));
        let mut waiting = writer.append(record(1));
        shared.end();
        assert!(waiting.try_recv().is_err());
        assert!(writer.append(record(2)).try_recv().is_err());
        assert_eq!(shared.wait_for_end(Instant::now()), 2);
    }

    #[test]
    fn samples_are_dropped_and_counted_when_nobody_takes_them() {
        let shared = Arc::new(Shared::default());
        let writer = Writer(Arc::clone(&shared));
        let life = life(WorkerId::new(0, 1), Timestamp::UNIX_EPOCH);
        let add = || writer.add_sample(&life, Timestamp::UNIX_EPOCH, Sample::default());
        (0..SAMPLE_CAPACITY + 3).for_each(|_| add());
        assert_eq!(writer.samples_dropped(), 3);
        let batch = shared.next(None);
        assert_eq!(batch.samples.len(), SAMPLE_CAPACITY);
        add();
        shared.put_back(batch);
        assert_eq!(writer.samples_dropped(), 4);
    }
}
