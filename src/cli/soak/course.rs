//! What the server does while it is asked: its samples, and what the detector makes of them.

use super::super::Failure;
use super::super::stage::Folder;
use super::super::trace;
use super::{Args, WARM_UPS};
use crate::core::leak::{Detector, Dial, Judgement, Quantity, Verdict};
use crate::core::{Moment, WorkerId};
use crate::linux::evidence::{Budget, Look, growth};
use crate::linux::mark::Mark;
use crate::linux::procfs::{ProcessId, Procfs};
use crate::linux::tree::{Orphans, Tree};
use crate::wire::{Leak, Status};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Samples in a soak of ten minutes and less; a longer one has one a second.
const SAMPLES: u32 = 600;
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// After so many warm-ups what later looks are compared with is taken.
const BASELINE: u32 = 2;
/// From one quarter to the next more than this part of the memory, and more than so many KiB, is growth.
const STILL_PART: u64 = 20;
const STILL_KIB: u64 = 2048;
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(2);
/// Of what grew so many are told.
const TOLD: usize = 4;

/// A server being watched.
pub struct Course {
    procfs: Procfs,
    tree: Tree,
    leader: ProcessId,
    memory: Detector,
    counts: [Detector; 3],
    /// The first leak that was found.
    leak: Option<Judgement>,
    began: Instant,
    /// How old the server was then.
    age: Duration,
    length: Duration,
    step: Duration,
    warm_up: Duration,
    /// When the last sample was taken, and how many requests had been answered.
    last: Option<(Instant, Option<u64>)>,
    baseline: Option<Look>,
    sizes: Sizes,
    limit_kib: Option<u64>,
    trace: Option<(PathBuf, BufWriter<File>)>,
}

/// What the server used of memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub first_kib: Option<u64>,
    pub last_kib: Option<u64>,
    pub most_kib: Option<u64>,
    /// The least in each quarter of the soak.
    floors_kib: [Option<u64>; 4],
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first leak; else a suspicion; else what is thought of the memory.
    pub judgement: Judgement,
    pub sizes: Sizes,
}

impl Sizes {
    /// Of a moment when this part (0 to 1) of the time was over.
    pub fn note(&mut self, part: f64, growth_kib: u64) {
        self.first_kib.get_or_insert(growth_kib);
        self.last_kib = Some(growth_kib);
        self.most_kib = self.most_kib.max(self.last_kib);
        if let Some(floor) = self.floors_kib.get_mut((4.0 * part) as usize) {
            *floor = Some(floor.unwrap_or(growth_kib).min(growth_kib));
        }
    }

    /// The floors of the last two quarters, if the last is clearly above the one before.
    pub fn still_grows(&self) -> Option<(u64, u64)> {
        let [_, _, before, last] = self.floors_kib;
        let (before, last) = (before?, last?);
        (last > before + (before / STILL_PART).max(STILL_KIB)).then_some((before, last))
    }
}

impl Course {
    /// Begins to watch the only worker of this supervisor.
    pub fn begin(
        args: &Args,
        folder: &Folder,
        supervisor: i32,
        status: &Status,
    ) -> Result<Self, Failure> {
        let procfs = Procfs::default();
        let known = status.workers.first().and_then(|worker| {
            let leader = procfs.identify(Pid::from_raw(worker.pid?))?;
            Some((worker, leader))
        });
        let Some((worker, leader)) = known else {
            return Err(Failure::Refused("the server ended as soon as it was ready".to_owned()));
        };
        let id = WorkerId::new(worker.slot, worker.generation);
        let mark = Mark::new(id, supervisor, &status.app, &folder.store()).to_string();
        let tree = Tree::new(procfs.clone(), Orphans::default(), leader, mark, None);
        let age = worker.age_s.map(Duration::from_secs_f64).unwrap_or_default();
        let warm_up = args.length / WARM_UPS;
        let judges = |quantity, limit| Detector::of(quantity, limit, warm_up, Moment::default());
        let counts = [Quantity::Fds, Quantity::Threads, Quantity::Processes];
        let trace = match &args.trace {
            Some(path) => Some((path.clone(), begin_trace(path.clone())?)),
            None => None,
        };
        Ok(Self {
            procfs,
            tree,
            leader,
            memory: judges(Quantity::Memory, args.limit),
            counts: counts.map(|quantity| judges(quantity, None)),
            leak: None,
            began: Instant::now(),
            age,
            length: args.length,
            step: (args.length / SAMPLES).min(LONGEST_STEP),
            warm_up,
            last: None,
            baseline: None,
            sizes: Sizes::default(),
            limit_kib: args.limit,
            trace,
        })
    }

    /// Takes a sample, if it is time; `answered` requests until now, where that is known.
    pub fn observe(&mut self, answered: Option<u64>) -> Result<(), Failure> {
        let now = Instant::now();
        if self.last.is_some_and(|(last, _)| now - last < self.step) {
            return Ok(());
        }
        let mut sample = tokio::task::block_in_place(|| self.tree.sample());
        if let Some((last, before)) = self.last.replace((now, answered)) {
            let asked = answered.zip(before).map(|(now, before)| now - before);
            sample.load_rps = asked.map(|asked| asked as f64 / (now - last).as_secs_f64());
        }
        let age = self.age + (now - self.began);
        let Some(growth_kib) = sample.growth_kib() else { return Ok(()) };
        let begins = self.sizes.first_kib.is_none();
        let part = (now - self.began).as_secs_f64() / self.length.as_secs_f64();
        self.sizes.note(part, growth_kib);
        if self.baseline.is_none() && now - self.began >= self.warm_up * BASELINE {
            self.baseline = Some(self.look());
        }
        if let Some((path, trace)) = &mut self.trace {
            let judged_by = begins.then_some((self.limit_kib, self.warm_up));
            trace::write_row(trace, age.as_secs_f64(), &sample, judged_by)
                .map_err(|error| unwritten(path, &error))?;
        }
        for detector in std::iter::once(&mut self.memory).chain(&mut self.counts) {
            detector.observe(Moment(age), &sample);
            let judgement = detector.judgement();
            if self.leak.is_none() && judgement.verdict == Verdict::Leak {
                self.leak = Some(*judgement);
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Look {
        tokio::task::block_in_place(|| {
            let mut members = self.tree.members();
            members.sort_by_key(|id| *id != self.leader);
            Look::take(&self.procfs, &members, Budget::of(LOOK))
        })
    }

    /// What grew since the warm-up, in words.
    pub fn grew(&mut self) -> Option<String> {
        let then = self.baseline.take()?;
        let now = self.look();
        let words: Vec<String> =
            growth(&then, &now).iter().take(TOLD).map(|growth| growth.words()).collect();
        (!now.processes.is_empty() && !words.is_empty()).then(|| words.join(", "))
    }

    /// The first leak that was found.
    pub fn leak(&self) -> Option<&Judgement> {
        self.leak.as_ref()
    }

    /// What is thought now.
    fn judgement(&self) -> Judgement {
        let judgements =
            || std::iter::once(&self.memory).chain(&self.counts).map(Detector::judgement);
        let suspect = judgements().find(|judgement| judgement.verdict == Verdict::Suspect);
        *self.leak.as_ref().or(suspect).unwrap_or(self.memory.judgement())
    }

    /// The same as the supervisor would say it.
    pub fn verdict(&self) -> Leak {
        let judgement = self.judgement();
        let is_memory = judgement.quantity() == Quantity::Memory;
        Leak {
            verdict: judgement.verdict.as_str().to_owned(),
            slope_kib_s: judgement.slope_per_s.filter(|_| is_memory),
            eta_s: judgement.eta.map(|eta| eta.as_secs_f64()),
            confidence: Some(judgement.confidence),
            reason: judgement.reason(Dial::Trace),
        }
    }

    /// Ends it, with the trace on disk.
    pub fn end(mut self) -> Result<Outcome, Failure> {
        let outcome = Outcome { judgement: self.judgement(), sizes: self.sizes };
        if let Some((path, trace)) = &mut self.trace {
            io::Write::flush(trace).map_err(|error| unwritten(path, &error))?;
        }
        Ok(outcome)
    }
}

fn begin_trace(path: PathBuf) -> Result<BufWriter<File>, Failure> {
    let begun = File::create(&path).map(BufWriter::new).and_then(|mut trace| {
        trace::write_header(&mut trace)?;
        Ok(trace)
    });
    begun.map_err(|error| unwritten(&path, &error))
}

fn unwritten(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::Usage(format!("cannot write the trace {}: {error}", path.display()))
}
