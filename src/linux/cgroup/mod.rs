//! A cgroup of its own for each worker: its processes, and where the kernel lets us, its memory.
//!
//! # Processes
//!
//! Even without any controller (a hybrid host, where memory belongs to cgroup v1) a cgroup knows the
//! processes of a worker for certain, whatever they fork, daemonize or overwrite, and can kill them
//! all at once. [`Leaves`] makes them in the cgroup2 hierarchy.
//!
//! The layout is `OWN/stanch-NAME.PID/worker-SLOT.GENERATION`, where PID is the supervisor's (two of
//! them may have applications of the same name) and OWN is the supervisor's own cgroup:
//! the `0::` line of `/proc/self/cgroup`, found in the file system by the `cgroup2` line of
//! `/proc/self/mountinfo`. This works as root, in a container whose cgroup file system is writable,
//! and below a unit with `Delegate=yes`. Else [`Leaves::open`] says why not, and the tree is known by
//! kinship only.
//!
//! # Memory
//!
//! [`Limits`] chooses who holds the hard limit of the workers, the strongest that can be had:
//! 1. cgroup2, if its memory controller reaches OWN. "No internal processes": a cgroup that hands a
//!    controller to its children may have no processes. So the supervisor, alone in OWN (a unit with
//!    `Delegate=yes`) or with others in a container's own root, moves them to
//!    `OWN/stanch-NAME.PID/supervisor`, and back at its end. Where it is not alone (a shell of root's)
//!    the folder is made beside OWN, if the cgroup above hands the controller down.
//! 2. cgroup v1, in a folder of the same name in the memory hierarchy.
//! 3. Polling: the supervisor samples the workers, more often the nearer they are (`core::pace`).
//!
//! # Kernel facts
//!
//! Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst:
//! - A worker is born in its leaf ([`spawn`](super::spawn)). Where the kernel cannot do that it is
//!   moved before it runs: the launcher waits for its plan meanwhile. Both need the right to write
//!   `cgroup.procs` of the target and of the common ancestor. cgroup v1 always moves, which takes up
//!   to 20 ms (see `spawn/fork.rs`), so groups of v1 are made only when there is a limit to hold.
//! - `cgroup.procs` lists no zombies, and it is unordered. In the subtree of a threaded cgroup reading
//!   it fails with EOPNOTSUPP; the processes are then listed by the threaded domain above.
//! - Writing `1` to `cgroup.kill` (Linux 5.14) kills the whole subtree and holds against concurrent
//!   forks.
//! - `rmdir` removes a cgroup without live processes and children, its files notwithstanding; EBUSY
//!   otherwise. A worker that is root can make cgroups of its own below its leaf.
//! - A process may leave its leaf when it has the rights: `pam_systemd` moves what `su -` starts.

mod around;
mod limits;
mod memory;
mod place;

pub use around::{Around, memory_folders, pids_max};
pub use limits::{Enforcement, Limits};
pub use memory::{MemoryGroup, OomWatch};
pub use place::take_back;

use super::procfs::{Procfs, read_whole};
use crate::core::WorkerId;
use nix::unistd::Pid;
use place::{Folder, Hierarchy, Own, nested, of_worker, pids, procs, remove_tree, write};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Why workers get no cgroup of their own, or none that counts memory.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// There is no such hierarchy.
    #[error("no {hierarchy} file system is mounted here")]
    NotMounted {
        /// Which.
        hierarchy: &'static str,
    },
    /// The mount shows another part of the hierarchy.
    #[error("the supervisor's own cgroup {own} is outside of what is mounted")]
    OutOfSight {
        /// As `/proc/self/cgroup` has it.
        own: String,
    },
    /// Not allowed to make cgroups, or to have controllers in them.
    #[error("cannot make or write {}", path.display())]
    NotWritable {
        /// The folder or file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The memory controller does not reach the supervisor's cgroup.
    #[error("the cgroup2 {} has no memory controller to hand on", path.display())]
    NoController {
        /// The folder.
        path: PathBuf,
    },
    /// Other processes live in the supervisor's cgroup.
    #[error(
        "the cgroup2 {} has {others} processes beside stanch, so it cannot hand on its memory \
         controller",
        path.display()
    )]
    Shared {
        /// The folder.
        path: PathBuf,
        /// How many.
        others: usize,
    },
}

impl Unavailable {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Unavailable::NotMounted { .. } => {
                "boot with cgroup2 (systemd.unified_cgroup_hierarchy=1), or mount it into the container"
            }
            Unavailable::OutOfSight { .. } => {
                "start the container with a cgroup namespace of its own (docker run \
                 --cgroupns=private)"
            }
            Unavailable::NotWritable { .. } => {
                "set Delegate=yes in the systemd unit; in a container make /sys/fs/cgroup writable \
                 (podman run --security-opt unmask=/sys/fs/cgroup, docker run --privileged)"
            }
            Unavailable::NoController { .. } => {
                "set Delegate=yes in the systemd unit; where cgroup v1 has the memory controller, boot \
                 with systemd.unified_cgroup_hierarchy=1"
            }
            Unavailable::Shared { .. } => {
                "run stanch as a systemd unit of its own with Delegate=yes, or try it with \
                 systemd-run --user --scope -p Delegate=yes stanch run ..."
            }
        }
    }
}

/// What went wrong with a worker's leaf.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It could not be made.
    #[error("cannot make the cgroup {} of worker {worker}", path.display())]
    Create {
        /// Whose.
        worker: WorkerId,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A process could not be moved into it.
    #[error("cannot move process {pid} into the cgroup {}", path.display())]
    Add {
        /// Which process.
        pid: Pid,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The limit could not be set.
    #[error("cannot set the memory limit of worker {worker} in {}", path.display())]
    Limit {
        /// Whose.
        worker: WorkerId,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It could not be removed: processes still live in it.
    #[error("cannot remove the cgroup {}", path.display())]
    Remove {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The place below which the workers' leaves are made. Removed when it and all its leaves are dropped.
#[derive(Debug)]
pub struct Leaves {
    folder: Arc<Folder>,
    /// Why the leaves do not count memory.
    no_memory: Option<Unavailable>,
}

impl Leaves {
    /// Makes `stanch-APP.PID` in the supervisor's own cgroup, or beside it, with the memory controller
    /// if that can be had, and sweeps out what an earlier supervisor left empty there. A leaf in which
    /// processes live stays.
    pub fn open(procfs: &Procfs, app: &str) -> Result<Self, Unavailable> {
        let own = Own::find(procfs, Hierarchy::Unified)?;
        let mut folder = Folder::make(procfs, &own.path, app)?;
        let no_memory = match folder.hand_on_memory(&own) {
            Ok(()) => None,
            Err(why) => match beside(procfs, &own, app) {
                Some(better) => {
                    folder = better;
                    None
                }
                None => Some(why),
            },
        };
        Ok(Self { folder: Arc::new(folder), no_memory })
    }

    /// Why the leaves do not count and limit memory, if they do not.
    pub fn without_memory(&self) -> Option<&Unavailable> {
        self.no_memory.as_ref()
    }

    /// The folder of the leaves.
    pub fn path(&self) -> &Path {
        &self.folder.path
    }

    /// Makes the leaf of a worker. Fails if there is one, because foreign processes live in it.
    pub fn create(&self, worker: WorkerId) -> Result<Leaf, CgroupError> {
        let path = self.folder.path.join(format!("worker-{worker}"));
        match fs::create_dir(&path) {
            Ok(()) => {
                let folder = Some(Arc::clone(&self.folder));
                Ok(Leaf { path, procs: OnceLock::new(), _folder: folder })
            }
            Err(source) => Err(CgroupError::Create { worker, path, source }),
        }
    }
}

/// The cgroup of one worker. Removed on drop, if it is empty then.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
    /// Kept open: it is read at every sample, and opening takes longer than reading.
    procs: OnceLock<fs::File>,
    /// Goes after it: a field is dropped behind its struct.
    _folder: Option<Arc<Folder>>,
}

/// A folder beside a cgroup that cannot hand on its memory controller because it has processes.
fn beside(procfs: &Procfs, own: &Own, app: &str) -> Option<Folder> {
    let above = own.path.parent().filter(|_| !own.is_topmost())?;
    let folder = Folder::make(procfs, above, app).ok()?;
    folder.hand_on_memory_from(above).ok()?;
    Some(folder)
}

impl Leaf {
    /// The leaf of a worker whose supervisor died, by one of its processes.
    pub fn adopt(procfs: &Procfs, pid: Pid, worker: WorkerId) -> Option<Self> {
        let path = of_worker(procfs, pid, Hierarchy::Unified, worker)?;
        let folder = Folder::of_dead(&path).map(Arc::new);
        Some(Self { path, procs: OnceLock::new(), _folder: folder })
    }

    /// Its folder, as `clone3` wants it.
    pub fn folder(&self) -> io::Result<OwnedFd> {
        fs::File::open(&self.path).map(OwnedFd::from)
    }

    /// Moves a process, with all its threads, into the leaf. Its children of before stay where they
    /// are.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        write(&self.path.join("cgroup.procs"), pid.to_string().as_bytes())
            .map_err(|source| CgroupError::Add { pid, path: self.path.clone(), source })
    }

    /// The live processes of the leaf and of the cgroups below it. `None` when it is gone.
    pub fn procs(&self) -> Option<Vec<Pid>> {
        let list = match self.procs.get() {
            Some(list) => list,
            None => {
                let list = fs::File::open(self.path.join("cgroup.procs")).ok()?;
                self.procs.get_or_init(|| list)
            }
        };
        let mut pids = read_whole(list, pids)?;
        for nested in nested(&self.path) {
            // Gone meanwhile, or threaded and so listed above.
            pids.extend(procs(&nested).unwrap_or_default());
        }
        Some(pids)
    }

    /// Has the kernel kill everything in it at once. False where it cannot (before Linux 5.14).
    pub fn kill(&self) -> bool {
        write(&self.path.join("cgroup.kill"), b"1").is_ok()
    }

    /// Whether live processes are in it or below it; `None` when it is gone.
    pub fn populated(&self) -> Option<bool> {
        let events = fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        let value = events.lines().find_map(|line| line.strip_prefix("populated "))?;
        Some(value.trim() != "0")
    }

    /// Removes it with the empty cgroups that the worker made below it. Fails with EBUSY while a
    /// process lives in one of them.
    pub fn remove(&self) -> Result<(), CgroupError> {
        match remove_tree(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CgroupError::Remove { path: self.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

#[cfg(test)]
mod tests;
