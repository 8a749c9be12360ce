//! What the server does while it is asked: its samples, and what the detector makes of them.

use super::super::Failure;
use super::super::stage::Folder;
use super::super::trace;
use super::floors::Floors;
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
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Samples in a soak of ten minutes and less; a longer one has one a second.
const SAMPLES: u32 = 600;
const LONGEST_STEP: Duration = Duration::from_secs(1);
/// After so many warm-ups what later looks are compared with is taken.
const BASELINE: u32 = 2;
/// Growth by less is none: of memory, in KiB, and of descriptors, threads and processes.
const GROWN_KIB: u64 = 2048;
const GROWN: u64 = 16;
/// Who takes less of a processor than this is not asked anything.
const IDLE_PART: f64 = 0.005;
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(2);
/// Of what grew so many are told.
const TOLD: usize = 4;

/// A server being watched.
pub struct Course {
    procfs: Procfs,
    tree: Tree,
    leader: ProcessId,
    /// Memory first.
    watched: [Watched; 4],
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
    /// CPU ticks when the first and the last sample were taken.
    ticks: Option<(u64, u64)>,
    trace: Option<Trace>,
    unwritten: Option<String>,
}

/// A quantity, and what it does.
struct Watched {
    quantity: Quantity,
    detector: Detector,
    floors: Floors,
}

/// Where the samples are written.
pub type Trace = (PathBuf, BufWriter<File>);

/// What the server used of memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub first_kib: Option<u64>,
    pub last_kib: Option<u64>,
    pub most_kib: Option<u64>,
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first leak; else a suspicion; else what is thought of the memory.
    pub judgement: Judgement,
    pub sizes: Sizes,
    /// What speaks against it being in order though no leak was found.
    pub doubt: Option<String>,
    /// Why the trace is not whole.
    pub unwritten: Option<String>,
}

impl Sizes {
    fn note(&mut self, growth_kib: u64) {
        self.first_kib.get_or_insert(growth_kib);
        self.last_kib = Some(growth_kib);
        self.most_kib = self.most_kib.max(self.last_kib);
    }
}

impl Course {
    /// Begins to watch the only worker of this supervisor.
    pub fn begin(
        args: &Args,
        folder: &Folder,
        supervisor: i32,
        status: &Status,
        trace: Option<Trace>,
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
        let watch = |quantity, limit, least| Watched {
            quantity,
            detector: Detector::of(quantity, limit, warm_up, Moment::default()),
            floors: Floors::new(least),
        };
        let watched = [
            watch(Quantity::Memory, args.limit, GROWN_KIB),
            watch(Quantity::Fds, None, GROWN),
            watch(Quantity::Threads, None, GROWN),
            watch(Quantity::Processes, None, GROWN),
        ];
        Ok(Self {
            procfs,
            tree,
            leader,
            watched,
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
            ticks: None,
            trace,
            unwritten: None,
        })
    }

    /// Takes a sample, if it is time; `answered` requests until now, where that is known.
    pub fn observe(&mut self, answered: Option<u64>) {
        let now = Instant::now();
        if self.last.is_some_and(|(last, _)| now - last < self.step) {
            return;
        }
        let mut sample = tokio::task::block_in_place(|| self.tree.sample());
        if let Some((last, before)) = self.last.replace((now, answered)) {
            let asked = answered.zip(before).map(|(now, before)| now - before);
            sample.load_rps = asked.map(|asked| asked as f64 / (now - last).as_secs_f64());
        }
        let age = self.age + (now - self.began);
        let Some(growth_kib) = sample.growth_kib() else { return };
        let begins = self.sizes.first_kib.is_none();
        self.sizes.note(growth_kib);
        if let Some(ticks) = sample.cpu_ticks {
            self.ticks = Some((self.ticks.map_or(ticks, |(first, _)| first), ticks));
        }
        if self.baseline.is_none() && now - self.began >= self.warm_up * BASELINE {
            self.baseline = Some(self.look());
        }
        if let Some((path, trace)) = &mut self.trace {
            let judged_by = begins.then_some((self.limit_kib, self.warm_up));
            if let Err(error) = trace::write_row(trace, age.as_secs_f64(), &sample, judged_by) {
                self.unwritten = Some(unwritten(path, &error));
                self.trace = None;
            }
        }
        let part = (now - self.began).as_secs_f64() / self.length.as_secs_f64();
        for Watched { quantity, detector, floors } in &mut self.watched {
            detector.observe(Moment(age), &sample);
            if let Some(level) = quantity.of(&sample) {
                floors.note(part, level);
            }
        }
        if self.leak.is_none() {
            let leak = self.judgements().find(|it| it.verdict == Verdict::Leak).copied();
            self.leak = leak;
        }
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

    fn judgements(&self) -> impl Iterator<Item = &Judgement> {
        self.watched.iter().map(|watched| watched.detector.judgement())
    }

    /// What is thought now.
    fn judgement(&self) -> Judgement {
        let suspect = self.judgements().find(|judgement| judgement.verdict == Verdict::Suspect);
        let [memory, ..] = &self.watched;
        *self.leak.as_ref().or(suspect).unwrap_or(memory.detector.judgement())
    }

    /// What speaks against it being in order though no leak was found.
    fn doubt(&self) -> Option<String> {
        let grown = |it: &Watched| Some((it.quantity, it.floors.still_grow()?));
        if let Some((quantity, (before, last))) = self.watched.iter().find_map(grown) {
            let [before, last] = [before, last].map(|level| quantity.amount(level as f64));
            return Some(format!(
                "it never had less than {last} in the last quarter, and {before} in the one before"
            ));
        }
        let (first, last) = self.ticks?;
        let worked_s = (last - first) as f64 / 100.0;
        let idle = worked_s < IDLE_PART * self.began.elapsed().as_secs_f64();
        idle.then(|| {
            format!("it worked for {worked_s:.2} s in all: nobody seems to ask it anything")
        })
    }

    /// The same as the supervisor would say it.
    pub fn verdict(&self) -> Leak {
        let judgement = self.judgement();
        Leak {
            verdict: judgement.verdict.as_str().to_owned(),
            slope_kib_s: judgement.slope_kib_s(),
            eta_s: judgement.eta.map(|eta| eta.as_secs_f64()),
            confidence: Some(judgement.confidence),
            reason: judgement.reason(Dial::Trace),
        }
    }

    /// Ends it, with the trace on disk.
    pub fn end(mut self) -> Outcome {
        if let Some((path, trace)) = &mut self.trace
            && let Err(error) = io::Write::flush(trace)
        {
            self.unwritten = Some(unwritten(path, &error));
        }
        Outcome {
            judgement: self.judgement(),
            sizes: self.sizes,
            doubt: self.doubt(),
            unwritten: self.unwritten,
        }
    }
}

/// Begins a trace, before there is anything to write.
pub fn begin_trace(path: &Path) -> Result<Trace, Failure> {
    let begun = File::create(path).map(BufWriter::new).and_then(|mut trace| {
        trace::write_header(&mut trace)?;
        Ok((path.to_owned(), trace))
    });
    begun.map_err(|error| Failure::Usage(unwritten(path, &error)))
}

fn unwritten(path: &Path, error: &io::Error) -> String {
    format!("cannot write the trace {}: {error}", path.display())
}
