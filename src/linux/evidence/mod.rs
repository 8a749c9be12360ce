//! A look at a process tree for the one who has to find out afterwards what it did: which mappings
//! hold its memory, what its descriptors are, what its threads are called and wait for, its limits and
//! the counters of its cgroups.
//!
//! Only what is safe to keep: names, kinds, states and sizes. Never what is *in* the memory, never
//! `environ`, and never `cmdline` or a title, in which passwords are handed over often enough; a process is
//! told by the name of its program's file, and so is a thread that has its process's title from it.
//!
//! # What it costs
//!
//! `smaps` walks the page tables, some 10 ms for 1 GiB, and holds the lock of the memory map for
//! reading: threads of the worker go on, but one that maps or unmaps memory waits. A descriptor costs
//! 2 µs. A [`Budget`] ends a look that takes too long with what it has; what was left out is said in
//! [`Look::incomplete`]. The texts are read as streams: a look at a large worker takes no large memory.

mod cgroups;
mod descriptors;
mod growth;
mod mappings;

pub use growth::growth;
pub use mappings::{Kind, Mapping};

use super::cgroup::memory_folders;
use super::procfs::{ProcessId, Procfs, Stat};
use mappings::Mappings;
use nix::unistd::Pid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Threads whose names and waits are read, of each process; 20 µs each.
const THREADS_MAX: usize = 1024;
/// Mappings that are told by name, the largest ones, and kinds of descriptors; the rest together.
const NAMED_MAX: usize = 100;

/// All that a look finds; sizes in KiB. What the kernel does not tell is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Look {
    /// Each live process of the tree.
    pub processes: Vec<Process>,
    /// The sums of `smaps` over the tree, as `smaps_rollup` has them: `Rss`, `Pss`, `Pss_Anon` …, KiB.
    pub memory_kib: BTreeMap<String, u64>,
    /// What the memory is, the largest first.
    pub mappings: Vec<Mapping>,
    /// How many descriptors of which kind.
    pub descriptors: BTreeMap<String, u64>,
    /// The limits of the first process: soft, hard, unit, as in `/proc/PID/limits`.
    pub limits: BTreeMap<String, String>,
    /// The counters of its cgroups, by folder and file.
    pub cgroups: BTreeMap<PathBuf, BTreeMap<String, String>>,
    /// What could not be read, or not in time.
    pub incomplete: Vec<String>,
}

/// A process of the tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// The name of its program's file; empty where that is not to be seen.
    pub name: String,
    /// The state of its first thread, see proc(5).
    pub state: char,
    /// Its threads.
    pub threads: u64,
    /// How many threads of which name.
    pub thread_names: BTreeMap<String, u64>,
    /// How many threads in which state, and asleep in which function of the kernel: `S futex_do_wait`.
    pub thread_states: BTreeMap<String, u64>,
    /// Its part of the memory, with what is swapped out.
    pub pss_kib: Option<u64>,
    /// Its open descriptors.
    pub descriptors: u64,
}

/// Until when a look may go on.
#[derive(Clone, Copy, Debug)]
pub struct Budget(Instant);

impl Budget {
    /// So long from now.
    pub fn of(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    fn is_spent(self) -> bool {
        Instant::now() >= self.0
    }
}

impl Look {
    /// Looks at these processes, the first of which is the leader. It blocks.
    pub fn take(procfs: &Procfs, tree: &[ProcessId], budget: Budget) -> Self {
        let mut look = Look::default();
        if let Some(leader) = tree.first() {
            let folder = procfs.root().join(leader.pid.to_string());
            look.limits = limits(&fs::read_to_string(folder.join("limits")).unwrap_or_default());
            look.cgroups = cgroups::counters(memory_folders(procfs, leader.pid));
        }
        let mut mappings = Mappings::default();
        let mut open = descriptors::Descriptors::default();
        for (nth, id) in tree.iter().enumerate() {
            if budget.is_spent() {
                let left = tree.len() - nth;
                look.incomplete.push(format!("{left} of {} processes: no time", tree.len()));
                break;
            }
            let Some(stat) = procfs.stat(id.pid).filter(|stat| stat.id == *id) else { continue };
            let folder = procfs.root().join(id.pid.to_string());
            let mut problems = Vec::new();
            let pss_kib = mappings.read(&folder.join("smaps"), budget).unwrap_or_else(|error| {
                problems.push(format!("mappings: {error}"));
                None
            });
            let count = open.read(&folder.join("fd"), budget).unwrap_or_else(|error| {
                problems.push(format!("descriptors: {error}"));
                0
            });
            look.processes.push(process(&folder, stat, pss_kib, count, budget));
            let who = |problem| format!("process {}: {problem}", id.pid);
            look.incomplete.extend(problems.into_iter().map(who));
        }
        if let Some(leader) = tree.first() {
            let net = procfs.root().join(leader.pid.to_string()).join("net");
            look.descriptors = open.kinds(&net, budget);
        }
        (look.memory_kib, look.mappings) = mappings.into_parts(NAMED_MAX);
        look
    }

    /// What the cgroups of an earlier look say now: they outlive their processes for a moment.
    pub fn counters_of(earlier: &Look) -> BTreeMap<PathBuf, BTreeMap<String, String>> {
        cgroups::counters(earlier.cgroups.keys().cloned())
    }

    /// What is needed to say later what grew since: a few KiB for as long as the worker lives.
    pub fn into_baseline(mut self) -> Self {
        self.processes = Vec::new();
        self.limits = BTreeMap::new();
        self.memory_kib = BTreeMap::new();
        self.cgroups.values_mut().for_each(BTreeMap::clear);
        self.mappings.shrink_to_fit();
        self
    }
}

fn process(
    folder: &Path,
    stat: Stat,
    pss_kib: Option<u64>,
    descriptors: u64,
    budget: Budget,
) -> Process {
    let (mut thread_names, mut thread_states) = (BTreeMap::new(), BTreeMap::new());
    // The first thread's `comm` is what the process calls itself, and its threads begin with that.
    let (title, name) = (comm(folder), program(folder));
    let tasks = fs::read_dir(folder.join("task")).into_iter().flatten().flatten();
    for task in tasks.take(THREADS_MAX).take_while(|_| !budget.is_spent()) {
        let task = task.path();
        let own = comm(&task);
        *thread_names.entry(if own == title { name.clone() } else { own }).or_default() += 1;
        if let Some(state) = thread_state(&task) {
            *thread_states.entry(state).or_default() += 1;
        }
    }
    Process {
        pid: stat.id.pid.as_raw(),
        parent: stat.parent.as_raw(),
        name,
        state: stat.state,
        threads: stat.threads,
        thread_names,
        thread_states,
        pss_kib,
        descriptors,
    }
}

fn program(folder: &Path) -> String {
    let file = fs::read_link(folder.join("exe")).unwrap_or_default();
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Of one that was replaced since.
    name.strip_suffix(" (deleted)").map_or(name.clone(), str::to_owned)
}

fn comm(folder: &Path) -> String {
    let text = fs::read(folder.join("comm")).unwrap_or_default();
    String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned()
}

/// The state letter, and where in the kernel it sleeps; `wchan` is 0 for one that runs, and for all
/// where the kernel does not let us.
fn thread_state(task: &Path) -> Option<String> {
    let name = task.file_name()?.to_str()?.parse().ok()?;
    let state = Procfs::new(task.parent()?).stat(Pid::from_raw(name))?.state;
    let wchan = fs::read_to_string(task.join("wchan")).unwrap_or_default();
    Some(match wchan.trim() {
        "" | "0" => state.to_string(),
        function => format!("{state} {function}"),
    })
}

/// The lines of `/proc/PID/limits` by name; the columns are separated by two spaces at least.
fn limits(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let (name, values) = line.split_once("  ")?;
            let values: Vec<&str> = values.split_ascii_whitespace().collect();
            Some((name.to_owned(), values.join(" ")))
        })
        .collect()
}

#[cfg(test)]
mod tests;
