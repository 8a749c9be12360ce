//! The supervisor dies between any two of its actions, and another one takes over what it left: the
//! processes, and as much of its log as had reached the disk.

use super::{Due, Fake, World};
use crate::invariants::Invariants;
use stanch::core::{Action, Hold, Kind, Legacy, Past, Record, Supervisor, Survivor, WorkerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const BOOT: &str = "this boot";

/// What of a life is told to the next.
#[derive(Default)]
pub struct Log {
    /// Records of earlier lives that are on disk.
    past: Vec<Record>,
    /// Those of this life.
    present: Vec<Record>,
    /// So many of them are on disk for certain: an action waited for them.
    durable: usize,
    /// The supervisor dies before so many more actions.
    dies_in: Option<u64>,
    dead: bool,
}

impl Log {
    /// All of this life is on disk.
    pub(super) fn close(&mut self) {
        self.past.append(&mut self.present);
        self.durable = 0;
    }
}

/// What the first supervisor finds.
pub(super) fn legacy() -> Legacy {
    Legacy { boot_id: Some(BOOT.to_owned()), ..Legacy::default() }
}

impl World {
    /// The supervisor will die somewhere in its next actions.
    pub fn doom(&mut self) {
        self.log.dies_in = Some(self.random.below(40));
    }

    /// It will not, after all.
    pub fn spare(&mut self) {
        self.log.dies_in = None;
    }

    pub fn is_dead(&self) -> bool {
        self.log.dead
    }

    /// Notes an action that is about to be carried out; false if the supervisor dies before.
    pub(super) fn survives(&mut self, action: &Action) -> bool {
        let log = &mut self.log;
        match &mut log.dies_in {
            Some(0) => {
                log.dies_in = None;
                log.dead = true;
            }
            Some(more) => *more -= 1,
            None => {}
        }
        if log.dead {
            return false;
        }
        match action {
            Action::Record(record) => log.present.push(record.clone()),
            Action::Stop { intent, .. } | Action::HangUp { intent, .. } => {
                log.durable = log.durable.max(intent.number() as usize);
            }
            _ => {}
        }
        true
    }

    /// Some time later another one begins.
    pub fn reborn(&mut self) {
        let log = &mut self.log;
        let lost = self.random.below(6) as usize;
        let kept = log.present.len().saturating_sub(lost).max(log.durable);
        log.past.extend(log.present.drain(..).take(kept));
        (log.durable, log.dies_in, log.dead) = (0, None, false);
        self.leaving = None;
        self.pass_unwatched();
        let mut past = Past::default();
        let _ = self.log.past.iter().rev().try_for_each(|record| past.note(record));
        let refused = self.random.chance(0.05);
        let ids: Vec<WorkerId> = self.fakes.keys().copied().collect();
        let survivors: Vec<Survivor> = ids.iter().map(|id| self.survivor(*id, refused)).collect();
        self.invariants =
            Invariants::reborn(&self.invariants, &self.settings, ids.iter().copied(), &past);
        // A start that left no process and no record may have its number again.
        let named = self.log.past.iter().filter_map(Record::worker);
        let known: BTreeSet<WorkerId> = named.chain(ids).collect();
        self.invariants.forget_others(&known);
        self.supervisor = Supervisor::new(self.settings.clone(), self.random.below(u64::MAX));
        let legacy = Legacy { past: Some(past), survivors: survivors.clone(), ..legacy() };
        let actions = self.supervisor.recover(self.reading(), legacy);
        let mut adopted: Vec<WorkerId> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Adopt { worker, .. } => Some(*worker),
                _ => None,
            })
            .collect();
        adopted.sort();
        let found: Vec<WorkerId> = survivors.iter().map(|survivor| survivor.worker).collect();
        assert_eq!(adopted, found, "seed {}: each is adopted once", self.invariants.seed);
        self.act(actions);
    }

    /// Nobody watches for up to ten seconds: what was on its way to a process gets there.
    fn pass_unwatched(&mut self) {
        let end = self.now + Duration::from_millis(self.random.below(10_000));
        for ((at, sequence), due) in std::mem::take(&mut self.agenda) {
            match due {
                Due::Exit(worker, _) if at <= end => {
                    // Some leave children behind.
                    let strays = self.random.chance(0.2);
                    match self.fakes.get_mut(&worker).filter(|_| strays) {
                        Some(fake) => fake.exited = true,
                        None => drop(self.fakes.remove(&worker)),
                    }
                }
                Due::Gone(worker) if at <= end => drop(self.fakes.remove(&worker)),
                Due::Exit(..) | Due::Gone(_) => drop(self.agenda.insert((at, sequence), due)),
                // A launcher ends with its supervisor, most often.
                Due::Spawned(worker) if self.random.chance(0.7) => {
                    self.fakes.remove(&worker);
                }
                Due::SpawnFailed(worker) => drop(self.fakes.remove(&worker)),
                Due::Spawned(_)
                | Due::Ready(_)
                | Due::Tick(_)
                | Due::Look(..)
                | Due::Alerted(_)
                | Due::Captured(_)
                | Due::Hooked(_) => {}
            }
        }
        if let Some(first) = self.fakes.keys().next().copied()
            && self.random.chance(0.3)
        {
            self.fakes.remove(&first);
        }
        let fakes = &self.fakes;
        self.agenda.retain(|_, due| match due {
            Due::Exit(worker, _) | Due::Gone(worker) => fakes.contains_key(worker),
            _ => true,
        });
        self.now = end;
    }

    fn survivor(&mut self, worker: WorkerId, refused: bool) -> Survivor {
        let bound = self.random.chance(0.5);
        let fake = &self.fakes[&worker];
        let hold = match (refused, fake.ready || bound) {
            (true, true) => Hold::Refused,
            (false, true) => Hold::Kept,
            (_, false) => Hold::Nothing,
        };
        Survivor {
            worker,
            pid: (!fake.exited).then_some(1),
            start_ticks: Some(1),
            release: None,
            age: Duration::from_secs(7),
            hold,
            deaf: true,
        }
    }

    pub(super) fn adopt_fake(&mut self, worker: WorkerId, verified: bool) {
        let Some(Fake { exited: false, .. }) = self.fakes.get(&worker) else { return };
        // That it hangs the new one has yet to find out.
        if verified {
            self.invariants.ready(worker);
        }
        self.after_ms(1000, Due::Tick(worker));
        if !verified && self.random.chance(0.8) {
            let ms = self.random.below(3000);
            self.after_ms(ms, Due::Ready(worker));
        }
    }

    /// The log of all lives tells of everything how it began and how it ended.
    pub fn check_log(&self) {
        let seed = self.invariants.seed;
        let mut started: BTreeMap<WorkerId, bool> = BTreeMap::new();
        let (mut rolls, mut deploys) = (0, 0);
        let all_ended = |started: BTreeMap<WorkerId, bool>| {
            for (id, ended) in started {
                assert!(ended, "seed {seed}: the log does not tell what became of {id}");
            }
        };
        for record in self.log.past.iter().chain(&self.log.present) {
            match record.kind {
                Kind::RollStarted => rolls += 1,
                Kind::RollFinished | Kind::RollAborted => rolls -= 1,
                Kind::DeployStarted => deploys += 1,
                Kind::DeployFinished => deploys -= 1,
                Kind::SupervisorStopped => all_ended(std::mem::take(&mut started)),
                _ => {}
            }
            let Some(id) = record.worker() else { continue };
            match record.kind {
                // One that ended at once is told to have ended before.
                Kind::WorkerStarted => drop(started.entry(id).or_insert(false)),
                Kind::WorkerAdopted => drop(started.insert(id, false)),
                Kind::WorkerRetired
                | Kind::WorkerCrashed
                | Kind::WorkerStartFailed
                | Kind::UnrecordedAction => drop(started.insert(id, true)),
                _ => {}
            }
        }
        assert_eq!((rolls, deploys), (0, 0), "seed {seed}: rolls, deploys without an end");
        all_ended(started);
    }
}
