//! The memory of one worker, as the kernel counts and limits it.
//!
//! What is charged: the anonymous and shared memory of the worker, the page cache that it brought in,
//! and kernel memory on its behalf. The kernel takes page cache back before it calls a limit reached.
//!
//! Two things that the kernel offers are not used:
//! - Thresholds of `memory.usage_in_bytes` (v1, `cgroup.event_control`), to be told of the soft limit at
//!   once. They count page cache, which the soft limit does not: a worker that reads files would set one
//!   off again and again, and each time a sample would have to say whether it was true. All that can be
//!   gained is `memory.sample_interval`, before a replacement that takes as long as the server's start;
//!   and cgroup2 has nothing of the kind (`memory.high` throttles). The hard limit is the kernel's own.
//! - `anon` of `memory.stat` (`rss` in v1) in place of the shares of each process (`tree/usage.rs`). For
//!   nine processes that share 100 MiB (v1, Linux 6.18) both agree to 2 KiB of 112 MiB, and it takes 55 µs
//!   instead of 57 ms, but it can only be had where there is such a group: without a hard limit in v1,
//!   and by polling, the shares are needed all the same. A tree of one process needs neither.
//!
//! cgroup v1 has no `memory.oom.group`: there the OOM killer takes one process, and who is told of it
//! ([`OomWatch`]) kills the rest.
#![allow(unsafe_code)]

use super::CgroupError;
use super::place::{Folder, procs, remove_tree, write};
use crate::core::{OomKiller, WorkerId};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The memory of a worker's cgroup.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    version: Version,
    limited: bool,
    /// What was told of before.
    told: Counts,
}

#[derive(Debug)]
enum Version {
    /// A folder that is a worker's leaf; not ours to remove.
    Two,
    /// A folder of its own, with the counter of times that the limit could not be kept by reclaim.
    /// The folder above goes after it.
    One { at_limit: EventFd, _folder: Arc<Folder> },
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// The limit was reached and nothing could be taken back.
    at_limit: u64,
    /// Processes that the OOM killer took, for whatever limit.
    kills: u64,
}

impl MemoryGroup {
    /// Of a leaf in cgroup2. Memory and swap together are limited: what is over `limit_kib` is not
    /// swapped out. All processes go together.
    pub(super) fn in_leaf(
        worker: WorkerId,
        leaf: &Path,
        limit_kib: Option<u64>,
    ) -> Result<Self, CgroupError> {
        set(worker, leaf, "memory.oom.group", "1")?;
        let (path, version) = (leaf.to_owned(), Version::Two);
        let mut group = Self { path, version, limited: false, told: Counts::default() };
        if limit_kib.is_some() {
            group.set_limit(worker, limit_kib)?;
        }
        group.told = group.counts();
        Ok(group)
    }

    /// A group of its own in cgroup v1. Memory and swap together are limited, where the kernel accounts
    /// swap.
    pub(super) fn create_v1(
        worker: WorkerId,
        folder: &Arc<Folder>,
        limit_kib: u64,
    ) -> Result<Self, CgroupError> {
        let path = folder.path.join(format!("worker-{worker}"));
        fs::create_dir(&path).map_err(|source| CgroupError::Create {
            worker,
            path: path.clone(),
            source,
        })?;
        Self::limit_v1(worker, path.clone(), folder, limit_kib).inspect_err(|_| {
            let _ = fs::remove_dir(&path);
        })
    }

    /// The same for a group that is there.
    pub(super) fn limit_v1(
        worker: WorkerId,
        path: PathBuf,
        folder: &Arc<Folder>,
        limit_kib: u64,
    ) -> Result<Self, CgroupError> {
        let at_limit = eventfd_of_ooms(&path).map_err(|source| CgroupError::Limit {
            worker,
            path: path.join("cgroup.event_control"),
            source,
        });
        let version = Version::One { at_limit: at_limit?, _folder: Arc::clone(folder) };
        let mut group = Self { path, version, limited: false, told: Counts::default() };
        group.set_limit(worker, Some(limit_kib))?;
        group.told = group.counts();
        Ok(group)
    }

    /// Has the kernel hold another limit, or none. Under a lower one the kernel takes back what it can,
    /// and the OOM killer the rest; cgroup v1 refuses it instead (EBUSY), and then nothing is held here.
    pub fn set_limit(
        &mut self,
        worker: WorkerId,
        limit_kib: Option<u64>,
    ) -> Result<(), CgroupError> {
        self.limited = false;
        let set = |name: &str, value: &str| set(worker, &self.path, name, value);
        let bytes = limit_kib.map(|kib| kib.saturating_mul(1024));
        match self.version {
            Version::Two => {
                set("memory.max", &bytes.map_or("max".to_owned(), |bytes| bytes.to_string()))?;
                unless_missing(set("memory.swap.max", bytes.map_or("max", |_| "0")))?;
            }
            Version::One { .. } => {
                let limit = bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
                let memory = || set("memory.limit_in_bytes", &limit);
                let with_swap = || unless_missing(set("memory.memsw.limit_in_bytes", &limit));
                // The limit of both must never be the lower one.
                if bytes.unwrap_or(u64::MAX) > self.bytes("memory.limit_in_bytes").unwrap_or(0) {
                    with_swap()?;
                    memory()?;
                } else {
                    memory()?;
                    with_swap()?;
                }
            }
        }
        self.limited = limit_kib.is_some();
        Ok(())
    }

    /// Counts a process here from now on. In cgroup2 it must be in the leaf already.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        let added = match self.version {
            Version::Two => match procs(&self.path) {
                Some(procs) if procs.contains(&pid) => Ok(()),
                _ => Err(ErrorKind::NotFound.into()),
            },
            Version::One { .. } => {
                write(&self.path.join("cgroup.procs"), pid.to_string().as_bytes())
            }
        };
        added.map_err(|source| CgroupError::Add { pid, path: self.path.clone(), source })
    }

    /// Whether the kernel holds a limit here.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Whether the OOM killer came since this was last asked, and whose.
    pub fn oom(&mut self) -> Option<OomKiller> {
        let (now, told) = (self.counts(), self.told);
        self.told = now;
        if now.at_limit > told.at_limit {
            Some(OomKiller::Limit)
        } else {
            (now.kills > told.kills).then_some(OomKiller::Host)
        }
    }

    /// The most that was ever charged.
    pub fn peak_kib(&self) -> Option<u64> {
        let name = match self.version {
            // Linux 5.19.
            Version::Two => "memory.peak",
            Version::One { .. } => "memory.max_usage_in_bytes",
        };
        Some(self.bytes(name)? / 1024)
    }

    fn bytes(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.path.join(name)).ok()?.trim().parse().ok()
    }

    /// Tells when it is time to ask [`oom`](Self::oom). Needs a tokio runtime with I/O.
    pub fn watch(&self) -> io::Result<OomWatch> {
        let (fd, interest) = match &self.version {
            Version::Two => {
                (OwnedFd::from(File::open(self.path.join("memory.events"))?), Interest::PRIORITY)
            }
            Version::One { at_limit, .. } => {
                (at_limit.as_fd().try_clone_to_owned()?, Interest::READABLE)
            }
        };
        // SAFETY: the descriptor is owned by what is registered, which never replaces it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, interest) };
        Ok(OomWatch { fd: fd?, interest })
    }

    fn counts(&self) -> Counts {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
                .unwrap_or(0)
        };
        match &self.version {
            Version::Two => Counts {
                at_limit: field("memory.events", "oom"),
                kills: field("memory.events", "oom_kill"),
            },
            Version::One { at_limit, .. } => Counts {
                // Reading takes what came since the last time.
                at_limit: self.told.at_limit + at_limit.read().unwrap_or(0),
                kills: field("memory.oom_control", "oom_kill"),
            },
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if let Version::One { .. } = self.version {
            let _ = remove_tree(&self.path);
        }
    }
}

/// Wakes when the OOM killer may have come.
#[derive(Debug)]
pub struct OomWatch {
    fd: AsyncFd<OwnedFd>,
    interest: Interest,
}

impl OomWatch {
    /// Waits for the next time; may wake for nothing.
    pub async fn notified(&self) -> io::Result<()> {
        // Both kinds of file tell each new event by an edge, read or not.
        self.fd.ready(self.interest).await?.clear_ready();
        Ok(())
    }
}

fn set(worker: WorkerId, group: &Path, name: &str, value: &str) -> Result<(), CgroupError> {
    let path = group.join(name);
    write(&path, value.as_bytes()).map_err(|source| CgroupError::Limit { worker, path, source })
}

/// Without swap in the kernel, or without accounting of it, there is nothing to limit.
fn unless_missing(outcome: Result<(), CgroupError>) -> Result<(), CgroupError> {
    match outcome {
        Err(CgroupError::Limit { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Has the kernel count there how often a group of v1 called the OOM killer.
fn eventfd_of_ooms(group: &Path) -> io::Result<EventFd> {
    let eventfd = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = File::open(group.join("memory.oom_control"))?;
    let line = format!("{} {}", eventfd.as_fd().as_raw_fd(), control.as_raw_fd());
    write(&group.join("cgroup.event_control"), line.as_bytes())?;
    Ok(eventfd)
}
