//! What the memory of a tree is, from `/proc/PID/smaps` (proc_pid_smaps(5)).

use super::Budget;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Names are cut here: a path can have 4096 bytes.
const NAME_MAX: usize = 256;

/// Different names that are counted apart while reading; a program can map as many files as it likes.
const NAMES_MAX: usize = 4096;

/// What kind of memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The classic heap, `[heap]`: what `brk` gave.
    Heap,
    /// Mapped without a file: larger allocations, the heaps of garbage collectors, stacks of threads.
    Anonymous,
    /// The stack of the first thread.
    Stack,
    /// Shared memory: System V, POSIX, memfd, anonymous and shared.
    Shared,
    /// A library or another file.
    File,
    /// The kernel's own pages: `[vdso]` and its like.
    Kernel,
    /// The smaller ones that are not told apart.
    Others,
}

/// All mappings of one name, over the whole tree; a page that n processes map counts 1/n in each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// Of which kind.
    pub kind: Kind,
    /// The file, or what the program called it; empty where it has no name.
    pub name: String,
    /// How many there are.
    pub count: u64,
    /// Address space.
    pub size_kib: u64,
    /// Resident, the proportional share.
    pub pss_kib: u64,
    /// Resident and no file's: what was written.
    pub anonymous_kib: u64,
    /// Swapped out, the proportional share.
    pub swap_kib: u64,
}

impl Mapping {
    /// What is compared: memory that somebody has to hold.
    pub fn held_kib(&self) -> u64 {
        self.pss_kib + self.swap_kib
    }

    /// In words: `anonymous memory`, `/usr/lib/libssl.so.3`, `shared memory /dev/shm/x`.
    pub fn words(&self) -> String {
        let kind = match self.kind {
            Kind::Heap => "heap",
            Kind::Anonymous => "anonymous memory",
            Kind::Stack => "stack",
            Kind::Shared => "shared memory",
            Kind::File if self.name.is_empty() => "files",
            Kind::File => return self.name.clone(),
            Kind::Kernel => "the kernel's pages",
            Kind::Others => "smaller mappings",
        };
        if self.name.is_empty() { kind.to_owned() } else { format!("{kind} {}", self.name) }
    }
}

/// The mappings of the processes read so far.
#[derive(Default)]
pub(super) struct Mappings {
    groups: BTreeMap<(Kind, String), Mapping>,
    sums_kib: BTreeMap<String, u64>,
}

impl Mappings {
    /// Adds those of a process; its share of memory, `None` for one that has none any more.
    pub fn read(&mut self, smaps: &Path, budget: Budget) -> io::Result<Option<u64>> {
        self.add(BufReader::new(File::open(smaps)?), budget)
    }

    pub fn add(&mut self, mut smaps: impl BufRead, budget: Budget) -> io::Result<Option<u64>> {
        let (mut line, mut held_kib, mut key) = (Vec::new(), None, None);
        let mut end = 0;
        while smaps.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\n');
            if let Some((from, to, kind, name)) = header(text) {
                // One that grows between two reads of the file is listed once more.
                if std::mem::replace(&mut end, to) > from {
                    key = None;
                    line.clear();
                    continue;
                }
                if budget.is_spent() {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no time for all of them"));
                }
                let mapping = self.group(kind, name);
                mapping.count += 1;
                key = Some((mapping.kind, mapping.name.clone()));
            } else if let Some((name, kib)) = figure(text)
                && let Some(mapping) = key.as_ref().and_then(|key| self.groups.get_mut(key))
            {
                let part = match name {
                    "Size" => &mut mapping.size_kib,
                    "Pss" => &mut mapping.pss_kib,
                    "Anonymous" => &mut mapping.anonymous_kib,
                    "SwapPss" => &mut mapping.swap_kib,
                    _ => &mut 0,
                };
                *part = part.saturating_add(kib);
                if matches!(name, "Pss" | "SwapPss") {
                    held_kib = Some(kib.saturating_add(held_kib.unwrap_or(0)));
                }
                // Page sizes and the like are no amounts.
                if !name.ends_with("PageSize") {
                    let sum = match self.sums_kib.get_mut(name) {
                        Some(sum) => sum,
                        None => self.sums_kib.entry(name.to_owned()).or_default(),
                    };
                    *sum = sum.saturating_add(kib);
                }
            }
            line.clear();
        }
        Ok(held_kib)
    }

    fn group(&mut self, kind: Kind, name: String) -> &mut Mapping {
        let known = self.groups.contains_key(&(kind, name.clone()));
        let (kind, name) = match known || self.groups.len() < NAMES_MAX {
            true => (kind, name),
            false => (Kind::Others, String::new()),
        };
        self.groups.entry((kind, name.clone())).or_insert_with(|| Mapping::new(kind, name))
    }

    /// The sums, and the `most` largest groups with the rest as one behind them.
    pub fn into_parts(self, most: usize) -> (BTreeMap<String, u64>, Vec<Mapping>) {
        let mut all: Vec<Mapping> = self.groups.into_values().collect();
        all.sort_by_key(|mapping| (std::cmp::Reverse(mapping.held_kib()), mapping.name.clone()));
        if all.len() > most {
            let mut others = Mapping::new(Kind::Others, String::new());
            for mapping in all.drain(most - 1..) {
                others.count += mapping.count;
                others.size_kib = others.size_kib.saturating_add(mapping.size_kib);
                others.pss_kib = others.pss_kib.saturating_add(mapping.pss_kib);
                others.anonymous_kib = others.anonymous_kib.saturating_add(mapping.anonymous_kib);
                others.swap_kib = others.swap_kib.saturating_add(mapping.swap_kib);
            }
            all.push(others);
        }
        (self.sums_kib, all)
    }
}

impl Mapping {
    fn new(kind: Kind, name: String) -> Self {
        let (count, size_kib, pss_kib, anonymous_kib, swap_kib) = (0, 0, 0, 0, 0);
        Self { kind, name, count, size_kib, pss_kib, anonymous_kib, swap_kib }
    }
}

/// `55d0-55d4 rw-p 00000000 00:00 0    [heap]`: the name is what stands behind the five fields, which
/// a single space separates.
fn header(line: &str) -> Option<(u64, u64, Kind, String)> {
    let mut fields = line.splitn(6, ' ');
    let (from, to) = fields.next()?.split_once('-')?;
    let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
    let shared = fields.next()?.ends_with('s');
    let name = fields.nth(3).unwrap_or("").trim_start();
    let (kind, name) = kind_of(name, shared);
    Some((from, to, kind, name))
}

fn kind_of(name: &str, shared: bool) -> (Kind, String) {
    let inside = |prefix: &str| name.strip_prefix(prefix)?.strip_suffix(']');
    let kind = match name {
        "" if shared => Kind::Shared,
        "" => Kind::Anonymous,
        "[heap]" => Kind::Heap,
        _ if name.starts_with("[stack") => Kind::Stack,
        _ if let Some(name) = inside("[anon:") => return (Kind::Anonymous, cut(name)),
        _ if let Some(name) = inside("[anon_shmem:") => return (Kind::Shared, cut(name)),
        _ if name.starts_with('[') => Kind::Kernel,
        _ if ["/memfd:", "/dev/shm/", "/SYSV", "/dev/zero"].iter().any(|p| name.starts_with(p)) => {
            return (Kind::Shared, cut(name));
        }
        _ => return (Kind::File, cut(name)),
    };
    (kind, String::new())
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_MAX).collect()
}

/// `Pss:   123 kB`.
fn figure(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.split_once(':')?;
    Some((name, value.strip_suffix(" kB")?.trim().parse().ok()?))
}
