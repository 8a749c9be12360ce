//! The store's thread: writes what the queue holds, and goes on trying when the disk does not.

use super::chain::Link;
use super::disk::Disk;
use super::evidence::Locker;
use super::queue::{Batch, Health, Pending, Shared, Writer};
use super::retire::Segment;
use super::schema::probe;
use super::touch::{Files, Touched};
use super::{Head, Reader, StoreError};
use crate::core::{Incident, WorkerId};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// From a failure to the next try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// From one look into a damaged file that nobody touched to the next.
const DAMAGED_PAUSE: Duration = Duration::from_secs(60);
/// Between looks for rows whose time is over, and between checkpoints.
const PRUNE_PAUSE: Duration = Duration::from_secs(60);
/// Between looks for events older than the retention, and before the first: the clock of a machine that
/// has just booted may be years off until it is set.
const RETIRE_PAUSE: Duration = Duration::from_secs(3600);
/// Notices that an engine which does not listen may leave unread.
const HEALTH_CAPACITY: usize = 64;

/// The audit store of a supervisor. It writes on a thread of its own, which ends when this is dropped
/// or closed.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    shared: Arc<Shared>,
    health: mpsc::Receiver<Health>,
}

impl Store {
    /// Opens or creates the store at `path`; reads and writes the disk. What is older than
    /// `retention` is deleted in time, most samples sooner (see `retire` and `samples`).
    pub fn open(path: &Path, retention: Duration) -> Result<Store, StoreError> {
        let disk = Disk::open(path, retention)?;
        Store::start(path, retention, Ok(disk))
    }

    /// A store that could not be opened, for a supervisor that supervises all the same: events are
    /// kept in the buffer and opening is tried again every second. The first [`Health`] is
    /// `Degraded` with `error`.
    pub fn detached(
        path: &Path,
        retention: Duration,
        error: StoreError,
    ) -> Result<Store, StoreError> {
        Store::start(path, retention, Err(error))
    }

    fn start(
        path: &Path,
        retention: Duration,
        disk: Result<Disk, StoreError>,
    ) -> Result<Store, StoreError> {
        let head = disk.as_ref().map(|disk| disk.head().clone()).unwrap_or_default();
        let shared = Arc::new(Shared::new(head));
        let (sender, health) = mpsc::channel(HEALTH_CAPACITY);
        let mut thread = Thread {
            path: path.into(),
            retention,
            shared: Arc::clone(&shared),
            health: sender,
            disk: None,
            doubt: Vec::new(),
            damaged: None,
            outage: None,
            prune_at: Instant::now(),
            retire_at: Instant::now() + RETIRE_PAUSE,
            dropped: 0,
        };
        match disk {
            Ok(disk) => thread.disk = Some(disk),
            Err(error) => thread.degrade(error),
        }
        std::thread::Builder::new()
            .name("stanch-store".into())
            .spawn(move || thread.run())
            .map_err(|source| StoreError::Thread { source })?;
        Ok(Store { path: path.into(), shared, health })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what it holds; a store that is being written can be read.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.path)
    }

    /// Keeps so many bytes of evidence beside the store.
    pub fn locker(&self, keep_bytes: u64) -> Locker {
        Locker::new(&self.path, keep_bytes)
    }

    /// A handle for the engine.
    pub fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.shared))
    }

    /// The next change of the store's health; `None` when its thread has ended. Cancel safe. Of
    /// notices that nobody takes the first 64 are kept; all of them are in the program's own log.
    pub async fn health(&mut self) -> Option<Health> {
        self.health.recv().await
    }

    /// Writes what is still in the queue and ends, in `within` at the latest; blocks. Returns the
    /// number of events that did not reach the disk (0: all is well).
    pub fn close(self, within: Duration) -> u64 {
        let until = Instant::now() + within;
        self.shared.close(until);
        self.shared.wait_for_end(until)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.close(Instant::now());
    }
}

/// A time in which the store cannot be written.
#[derive(Debug, Default)]
struct Outage {
    /// Events that had waited and are on disk.
    buffered: u64,
    lost: u64,
    /// Events that had been written to a file that is not there any more.
    gone: u64,
    /// The newest states of incidents that were lost with events.
    states: Vec<Incident>,
}

struct Thread {
    path: PathBuf,
    retention: Duration,
    shared: Arc<Shared>,
    health: mpsc::Sender<Health>,
    /// Closed after every failure: a fresh look finds a disk that came back, or a file that did not.
    disk: Option<Disk>,
    /// The places of the events whose commit failed. A failed commit may have reached the disk all
    /// the same (the write succeeded, its `fsync` did not): then the reopened store has one of them
    /// as its head, and writing it again would put it into the log twice.
    doubt: Vec<Head>,
    /// The file as it was when it was found damaged, and when that was: it is not opened before it is
    /// another one, or well.
    damaged: Option<(Files, Instant)>,
    outage: Option<Outage>,
    prune_at: Instant,
    retire_at: Instant,
    /// Samples whose loss is in the log.
    dropped: u64,
}

impl Thread {
    fn run(mut self) {
        loop {
            let mut batch = self.shared.next(self.outage.as_ref().map(|_| RETRY_PAUSE));
            let last = batch.last;
            let outcome = match self.is_still_damaged() {
                true => Err(None),
                false => self.write(&mut batch).map_err(Some),
            };
            match outcome {
                Ok(()) if last => break,
                Ok(()) => {}
                Err(error) => {
                    if self.disk.take().is_some_and(|disk| disk.is_spoilt()) {
                        self.damaged = Some((Files::of(&self.path), Instant::now()));
                    }
                    self.shared.put_back(batch);
                    error.into_iter().for_each(|error| self.degrade(error));
                    if self.shared.given_up() {
                        break;
                    }
                }
            }
        }
    }

    fn is_still_damaged(&self) -> bool {
        self.damaged
            .as_ref()
            .is_some_and(|(then, at)| at.elapsed() < DAMAGED_PAUSE && then.touched() == Touched::No)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.damaged.is_some() {
            probe(&self.path, None)?;
            self.damaged = None;
        }
        let mut disk = Disk::open(&self.path, self.retention)?;
        let known = self.shared.head();
        if let Some(outage) = &mut self.outage {
            outage.gone += known.seq.saturating_sub(disk.head().seq);
        }
        if known.seq > 0 {
            // What is gone of it is told as that.
            drop(disk.altered());
        }
        self.disk = Some(disk);
        Ok(())
    }

    /// Writes the batch, and takes out of it what is written.
    fn write(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let began = Instant::now();
        if self.disk.is_none() {
            self.reopen()?;
        }
        let Some(disk) = &mut self.disk else { return Ok(()) };
        disk.look()?;
        if let Some(why) = disk.altered() {
            tracing::error!("{why}");
            let _ = self.health.try_send(Health::Altered { why });
        }
        let mut places = Vec::new();
        let doubt = std::mem::take(&mut self.doubt);
        if let Some(landed) = doubt.iter().position(|place| place == disk.head()) {
            places.extend_from_slice(&doubt[..=landed]);
        }
        let fresh = batch.events.iter().skip(places.len()).map(|pending| &pending.record);
        let links = disk.head().extend(fresh);
        if !links.is_empty() {
            let heads = links.iter().map(|Link { head, .. }| head.clone());
            places.extend(heads);
            if let Err(error) = disk.write(&links) {
                self.doubt = places;
                return Err(error);
            }
        }
        let head = disk.head().clone();
        let touched = touched(batch);
        self.settle(batch, places, head, began.elapsed());

        let disk = self.disk.as_mut();
        if let Some(disk) = disk {
            for (worker, at) in touched {
                disk.keep_samples(worker, at)?;
            }
            if !batch.samples.is_empty() {
                disk.write_samples(batch.samples.iter())?;
                batch.samples.clear();
            }
            let dropped = self.shared.samples_dropped();
            let more = dropped - std::mem::replace(&mut self.dropped, dropped);
            if more > 0 {
                let path = self.path.display();
                tracing::warn!(%path, samples = more, "samples were dropped: the store is too slow");
            }
            if self.retire_at <= Instant::now() {
                self.retire_at = Instant::now() + RETIRE_PAUSE;
                if let Some(Segment { last, .. }) = disk.retire(Timestamp::now())? {
                    let path = self.path.display();
                    tracing::info!(%path, last_seq = last.seq, "old events are removed");
                    self.shared.set_head(disk.head().clone());
                }
            }
            if self.prune_at <= Instant::now() {
                let more = disk.prune(Timestamp::now())?;
                disk.checkpoint()?;
                self.prune_at = Instant::now() + if more { Duration::ZERO } else { PRUNE_PAUSE };
            }
        }
        if let Some(Outage { buffered, lost, gone, states }) = self.outage.take() {
            let path = self.path.display();
            tracing::warn!(%path, buffered, lost, gone, "the store is written again");
            self.tell(Health::Restored { buffered, lost, gone, states });
        }
        Ok(())
    }

    /// The events of the batch are on disk at these places: say so to who waits for them, and find
    /// out whether all went as promised.
    fn settle(&mut self, batch: &mut Batch, places: Vec<Head>, head: Head, took: Duration) {
        let settled = self.shared.settle(head);
        let written = places.len() as u64;
        let mut overtaken = Vec::new();
        for (Pending { record, durable }, place) in batch.events.drain(..).zip(places) {
            if settled.overtaken.contains(&record.number) {
                overtaken.push(place.seq);
            }
            // Whoever asked may have stopped waiting.
            let _ = durable.send(place);
        }
        if self.outage.is_none() && (settled.lost > 0 || !overtaken.is_empty()) {
            let path = self.path.clone();
            self.degrade(StoreError::Slow { path, took, overtaken, lost: settled.lost });
        }
        if let Some(outage) = &mut self.outage {
            outage.buffered += written;
            outage.lost += settled.lost;
            outage.states.extend(settled.states);
        }
    }

    fn degrade(&mut self, error: StoreError) {
        if let StoreError::Damaged { .. } = error {
            self.damaged = Some((Files::of(&self.path), Instant::now()));
        }
        if self.outage.is_none() {
            self.outage = Some(Outage::default());
            let source = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(source, "{error}; events are kept in memory until it can be written");
            self.tell(Health::Degraded { error });
        }
    }

    fn tell(&self, health: Health) {
        // An engine that does not listen, or not any more, must not hold up the writing.
        let _ = self.health.try_send(health);
    }
}

/// However the thread ends, nobody waits for it in vain.
impl Drop for Thread {
    fn drop(&mut self) {
        // Closed first: who was waiting for the end finds one whole file.
        self.disk = None;
        self.shared.end();
    }
}

/// The workers that have an event in an incident, and when the last one was.
fn touched(batch: &Batch) -> BTreeMap<WorkerId, Timestamp> {
    let records = batch.events.iter().map(|pending| &pending.record);
    let of_incidents = records.filter(|record| record.incident.is_some());
    of_incidents.filter_map(|record| Some((record.worker()?, record.at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::record;

    /// A thread that does not run, and the ends that it speaks to.
    fn idle(path: &Path) -> (Thread, Writer, mpsc::Receiver<Health>) {
        let shared = Arc::new(Shared::default());
        let (sender, health) = mpsc::channel(HEALTH_CAPACITY);
        let thread = Thread {
            path: path.into(),
            retention: Duration::from_secs(1),
            shared: Arc::clone(&shared),
            health: sender,
            disk: None,
            doubt: Vec::new(),
            damaged: None,
            outage: None,
            prune_at: Instant::now(),
            retire_at: Instant::now() + RETIRE_PAUSE,
            dropped: 0,
        };
        (thread, Writer(shared), health)
    }

    #[test]
    fn a_failed_commit_that_landed_is_not_written_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let (mut thread, writer, _health) = idle(&path);
        let mut waiting: Vec<_> = (1..=3).map(|number| writer.append(record(number))).collect();
        // Two commits that failed: the first one (two events) is on disk, the second one is not.
        let records = [record(1), record(2), record(3)];
        let links = Head::default().extend(records.iter());
        let mut disk = Disk::open(&path, Duration::ZERO).unwrap();
        disk.write(&links[..2]).unwrap();
        drop(disk);
        thread.doubt = links.iter().map(|link| link.head.clone()).collect();
        waiting.push(writer.append(record(4)));

        let mut batch = thread.shared.next(None);
        thread.write(&mut batch).unwrap();
        let places: Vec<u64> =
            waiting.into_iter().map(|durable| durable.blocking_recv().unwrap().seq).collect();
        assert_eq!(places, [1, 2, 3, 4]);
        let whole = Reader::open(&path).unwrap().verify(None).unwrap().unwrap();
        assert_eq!(whole.events, 4);
    }

    #[test]
    fn an_event_that_was_overtaken_while_being_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (mut thread, writer, mut health) = idle(&folder.path().join("s.db"));
        let _waiting = [writer.append(record(11)), writer.append(record(12))];
        let mut batch = thread.shared.next(None);
        assert!(!writer.mark_late(12));
        thread.write(&mut batch).unwrap();
        let Ok(Health::Degraded { error }) = health.try_recv() else { panic!("not told") };
        assert!(
            matches!(&error, StoreError::Slow { overtaken, lost: 0, .. } if overtaken == &[2]),
            "{error}"
        );
        assert!(matches!(
            health.try_recv(),
            Ok(Health::Restored { buffered: 2, lost: 0, gone: 0, .. })
        ));
    }
}
