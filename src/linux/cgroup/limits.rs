//! Who holds the workers' hard limit: chosen once, by trying.

use super::memory::MemoryGroup;
use super::place::{Folder, Hierarchy, Own, of_worker};
use super::{CgroupError, Leaf, Leaves, Unavailable};
use crate::core::WorkerId;
use crate::linux::procfs::Procfs;
use nix::unistd::Pid;
use std::fmt;
use std::sync::Arc;

/// Who holds the hard limit of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The kernel, by `memory.max`.
    Cgroup2,
    /// The kernel, by `memory.limit_in_bytes`.
    Cgroup1,
    /// The supervisor, by looking often enough.
    Polling,
}

impl Enforcement {
    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Enforcement::Cgroup2 => "cgroup2",
            Enforcement::Cgroup1 => "cgroup1",
            Enforcement::Polling => "polling",
        }
    }

    /// What is compared with the limit, the word in `status`.
    pub fn compares(self) -> &'static str {
        match self {
            Enforcement::Cgroup2 | Enforcement::Cgroup1 => "charged",
            Enforcement::Polling => "anon_shmem_swap",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Makes the groups that hold it.
#[derive(Debug)]
pub struct Limits {
    enforcement: Enforcement,
    /// Where groups of cgroup v1 are made.
    folder: Option<Arc<Folder>>,
    hard_limit_kib: Option<u64>,
    not_v1: Option<Unavailable>,
}

impl Limits {
    /// The strongest way to be had here. `leaves` were opened before, if they could be.
    pub fn strongest(
        procfs: &Procfs,
        app: &str,
        leaves: Option<&Leaves>,
        hard_limit_kib: Option<u64>,
    ) -> Self {
        let by = |enforcement| Self { enforcement, folder: None, hard_limit_kib, not_v1: None };
        if leaves.is_some_and(|leaves| leaves.without_memory().is_none()) {
            return by(Enforcement::Cgroup2);
        }
        match folder_v1(procfs, app) {
            Ok(folder) => {
                // Without a limit it was made only to see that it can be.
                let folder = hard_limit_kib.map(|_| Arc::new(folder));
                Self { folder, ..by(Enforcement::Cgroup1) }
            }
            Err(why) => Self { not_v1: Some(why), ..by(Enforcement::Polling) },
        }
    }

    /// Has groups that are made from now on hold another limit. The error is why the first groups of
    /// cgroup v1 cannot be made any more.
    pub fn set_hard_limit(
        &mut self,
        procfs: &Procfs,
        app: &str,
        hard_limit_kib: Option<u64>,
    ) -> Result<(), Unavailable> {
        self.hard_limit_kib = hard_limit_kib;
        let wanted = self.enforcement == Enforcement::Cgroup1 && hard_limit_kib.is_some();
        if wanted && self.folder.is_none() {
            self.folder = Some(Arc::new(folder_v1(procfs, app)?));
        }
        Ok(())
    }

    /// Who holds it.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// Why not even cgroup v1 does.
    pub fn without_v1(&self) -> Option<&Unavailable> {
        self.not_v1.as_ref()
    }

    /// The group of a worker whose supervisor died, with the limit of now.
    pub fn adopt(
        &self,
        procfs: &Procfs,
        pid: Pid,
        worker: WorkerId,
    ) -> Result<Option<MemoryGroup>, CgroupError> {
        let find = |hierarchy| of_worker(procfs, pid, hierarchy, worker);
        match (self.enforcement, self.hard_limit_kib) {
            (Enforcement::Cgroup2, limit_kib) => find(Hierarchy::Unified)
                .map(|path| MemoryGroup::in_leaf(worker, &path, limit_kib))
                .transpose(),
            (Enforcement::Cgroup1, Some(limit_kib)) => find(Hierarchy::Memory)
                .zip(self.folder.as_ref())
                .map(|(path, own)| {
                    let folder = Folder::of_dead(&path).map_or_else(|| Arc::clone(own), Arc::new);
                    MemoryGroup::limit_v1(worker, path, &folder, limit_kib)
                })
                .transpose(),
            (Enforcement::Cgroup1, None) | (Enforcement::Polling, _) => Ok(None),
        }
    }

    /// The group of a worker whose leaf this is; `None` where memory is not counted by the kernel.
    pub fn group(
        &self,
        worker: WorkerId,
        leaf: Option<&Leaf>,
    ) -> Result<Option<MemoryGroup>, CgroupError> {
        match (self.enforcement, leaf, &self.folder, self.hard_limit_kib) {
            (Enforcement::Cgroup2, Some(leaf), _, limit_kib) => {
                MemoryGroup::in_leaf(worker, &leaf.path, limit_kib).map(Some)
            }
            (Enforcement::Cgroup1, _, Some(folder), Some(limit_kib)) => {
                MemoryGroup::create_v1(worker, folder, limit_kib).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn folder_v1(procfs: &Procfs, app: &str) -> Result<Folder, Unavailable> {
    let own = Own::find(procfs, Hierarchy::Memory)?;
    Folder::make(procfs, &own.path, app)
}
