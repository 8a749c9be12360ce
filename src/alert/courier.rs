//! Takes letters and sees them delivered, on a thread of its own.

use super::attempt::{Refusal, attempt};
use super::command::{Start, Surroundings};
use super::letter::{Letter, cut};
use super::spool::{self, CAPACITY, Spool};
use crate::core::{AlertFailure, AlertId, Event, Target};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Letters that the engine may be ahead of the spool.
const QUEUE: usize = 256;
/// The first pause after a failure; the next ones double.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// A receiver that asks for a longer pause is asked again all the same.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Who was not told within a day need not be told any more.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// What a courier needs.
pub struct Setup {
    /// Another one that is ending; the spool is its own until it has.
    pub predecessor: Option<JoinHandle<()>>,
    /// Who can be told.
    pub targets: Vec<Target>,
    /// The spool's folder; made when it is needed.
    pub spool: PathBuf,
    /// The environment of commands.
    pub environment: Vec<(OsString, OsString)>,
    /// Starts commands.
    pub start: Start,
    /// Gets an [`Event::Alerted`] for each first failure and each end.
    pub events: mpsc::Sender<Event>,
}

/// The engine's end; it never waits.
#[derive(Debug)]
pub struct Courier {
    letters: mpsc::Sender<Letter>,
    thread: JoinHandle<()>,
}

impl Courier {
    /// Begins, with the letters that an earlier life left.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let (letters, queue) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            let mut setup = setup;
            if let Some(predecessor) = setup.predecessor.take() {
                // One that panicked has ended too.
                let _ = predecessor.join();
            }
            runtime.block_on(async { Sorter::new(setup).run(queue).await });
        };
        let thread = std::thread::Builder::new().name("stanch-alerts".to_owned()).spawn(work)?;
        Ok(Self { letters, thread })
    }

    /// Ends it: what it has not delivered stays in the spool.
    pub fn end(self) -> JoinHandle<()> {
        self.thread
    }

    /// Takes a letter, or gives it back: then so many wait that the spool does not keep up.
    pub fn send(&self, letter: Letter) -> Result<(), Box<Letter>> {
        self.letters.try_send(letter).map_err(|error| Box::new(error.into_inner()))
    }
}

/// A letter, and where it is kept.
type Item = (Letter, Option<PathBuf>);

/// Puts letters into the spool, then into the lane of their target.
struct Sorter {
    spool: Spool,
    lanes: BTreeMap<String, mpsc::Sender<Item>>,
    events: mpsc::Sender<Event>,
}

impl Sorter {
    fn new(setup: Setup) -> Self {
        let Setup { predecessor: _, targets, spool, environment, start, events } = setup;
        let surroundings = Arc::new(Surroundings { environment, start });
        let mut lanes = BTreeMap::new();
        for target in targets {
            let (sender, queue) = mpsc::channel(CAPACITY);
            let name = target.name.clone();
            let lane =
                Lane { target, surroundings: Arc::clone(&surroundings), events: events.clone() };
            // Several rules may name the same target.
            lanes.entry(name).or_insert_with(|| {
                tokio::spawn(lane.run(queue));
                sender
            });
        }
        Self { spool: Spool::new(spool), lanes, events }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Letter>) {
        match self.spool.load() {
            Ok(items) => {
                for (path, letter) in items {
                    self.sort(letter, Some(path)).await;
                }
            }
            Err(error) => tracing::warn!(%error, "alerts of an earlier life cannot be read"),
        }
        while let Some(letter) = queue.recv().await {
            let kept = self.spool.put(&letter).inspect_err(|error| {
                let id = letter.id();
                tracing::warn!(id, %error, "an alert is not spooled: a restart would lose it");
            });
            self.sort(letter, kept.ok()).await;
        }
    }

    async fn sort(&mut self, letter: Letter, path: Option<PathBuf>) {
        let id = letter.alert.id.clone();
        let error = match self.lanes.get(&id.to) {
            None => format!("no alert in the configuration is to {} any more", id.to),
            Some(lane) => match lane.try_send((letter, path.clone())) {
                Ok(()) => return,
                Err(_) => format!("{CAPACITY} alerts wait for {} already", id.to),
            },
        };
        report(&self.events, id, 0, Err(AlertFailure { error, given_up: true })).await;
        if let Some(path) = path {
            spool::remove(&path);
        }
    }
}

/// The letters of one target, one by one.
struct Lane {
    target: Target,
    surroundings: Arc<Surroundings>,
    events: mpsc::Sender<Event>,
}

impl Lane {
    async fn run(self, mut queue: mpsc::Receiver<Item>) {
        while let Some((letter, path)) = queue.recv().await {
            self.deliver(&letter).await;
            if let Some(path) = path {
                spool::remove(&path);
            }
        }
    }

    /// Tries until it is told or given up.
    async fn deliver(&self, letter: &Letter) {
        let id = &letter.alert.id;
        let report = |attempts, outcome| report(&self.events, id.clone(), attempts, outcome);
        for attempts in 1.. {
            let refusal = match attempt(&self.target, letter, &self.surroundings).await {
                Ok(said) => return report(attempts, Ok(cut(&said, 200))).await,
                Err(refusal) => refusal,
            };
            let Refusal { error, after, final_word } = refusal;
            let given_up =
                final_word || Timestamp::now().duration_since(letter.alert.at) > PATIENCE;
            if given_up || attempts == 1 {
                report(attempts, Err(AlertFailure { error, given_up })).await;
            } else {
                tracing::debug!(to = id.to, attempts, error, "an alert is not told yet");
            }
            if given_up {
                return;
            }
            let random = RandomState::new().hash_one(attempts) as f64 / u64::MAX as f64;
            sleep(pause(attempts, after, random)).await;
        }
    }
}

async fn report(
    events: &mpsc::Sender<Event>,
    alert: AlertId,
    attempts: u32,
    outcome: Result<String, AlertFailure>,
) {
    // An engine that has ended writes nothing down any more.
    let _ = events.send(Event::Alerted { alert, attempts, outcome }).await;
}

/// The pause after the nth failure; `random` is from 0 to 1.
fn pause(attempts: u32, asked: Option<Duration>, random: f64) -> Duration {
    let doubled = PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(PAUSE_MAX);
    // Many stanches that lost the same receiver do not come back to it at once.
    let jittered = doubled.mul_f64(0.5 + random / 2.0);
    jittered.max(asked.unwrap_or_default().min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_keep_to_what_is_asked() {
        let s = |attempts, asked: Option<u64>, random| {
            pause(attempts, asked.map(Duration::from_secs), random).as_secs_f64()
        };
        assert_eq!([s(1, None, 0.0), s(1, None, 1.0)], [0.5, 1.0]);
        assert_eq!([s(4, None, 0.0), s(4, None, 1.0)], [4.0, 8.0]);
        assert_eq!(s(u32::MAX, None, 1.0), 300.0);
        assert_eq!(s(1, Some(30), 0.0), 30.0);
        assert_eq!(s(9, Some(30), 1.0), 256.0);
        assert_eq!(s(1, Some(1_000_000), 0.0), 3600.0);
    }
}
