//! The live workers: their processes, their tasks, and when nothing is left of them.

use super::children::Children;
use super::drainer::Drain;
use super::evidence::{Baseline, Subject};
use super::lock::lock;
use super::tail::Tail;
use crate::core::{ExitStatus, WorkerId};
use crate::linux::cgroup::MemoryGroup;
use crate::linux::tree::Tree;
use crate::store::Life;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::task::AbortHandle;

/// One live worker.
#[derive(Debug)]
pub(super) struct Live {
    pub pid: i32,
    /// When that was started, in clock ticks after boot.
    pub start_ticks: u64,
    pub tree: Arc<Mutex<Tree>>,
    /// What its samples are kept under.
    pub life: Arc<Life>,
    /// What asks it to end.
    pub stop_signal: Signal,
    /// When its start was asked for.
    pub started: Instant,
    /// Its memory, where the kernel counts it.
    pub memory: Option<MemoryGroup>,
    /// Its last lines of output.
    pub tail: Arc<Tail>,
    /// What it was like in good order.
    pub baseline: Baseline,
    /// What it was like when it was suspected of a leak.
    pub last_look: Baseline,
    /// Attend to its launch or wait for its end, probe it, wait for the OOM killer to come to it.
    pub tasks: Vec<AbortHandle>,
    /// It is not our child.
    pub adopted: bool,
    /// The launch has not come to its end.
    pub launching: bool,
    /// The leader's end, once reaped.
    pub exit: Option<ExitStatus>,
    /// Whether the core knows of the leader's end.
    pub exit_told: bool,
    /// Processes killed after the leader's end.
    pub stragglers: u32,
    /// Its drain, once it is steered away for good.
    pub drain: Option<Drain>,
    /// Connections open at the hang-up or the kill.
    pub connections_cut: Option<u64>,
}

impl Live {
    pub fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// What evidence is taken of.
    pub fn subject(&self) -> Subject {
        let (tree, tail) = (Arc::clone(&self.tree), Arc::clone(&self.tail));
        let (baseline, last_look) = (Arc::clone(&self.baseline), Arc::clone(&self.last_look));
        Subject { pid: self.pid, tree, tail, baseline, last_look }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Roster {
    live: BTreeMap<WorkerId, Live>,
    others: Children,
}

impl Roster {
    /// An empty one; `others` are told of the ends of children that lead no worker.
    pub fn new(others: Children) -> Self {
        Self { live: BTreeMap::new(), others }
    }

    pub fn add(&mut self, worker: WorkerId, live: Live) {
        self.live.insert(worker, live);
    }

    pub fn get_mut(&mut self, worker: WorkerId) -> Option<&mut Live> {
        self.live.get_mut(&worker)
    }

    /// Whether it lives.
    pub fn has(&self, worker: WorkerId) -> bool {
        self.live.contains_key(&worker)
    }

    pub fn iter(&self) -> impl Iterator<Item = (WorkerId, &Live)> {
        self.live.iter().map(|(worker, live)| (*worker, live))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (WorkerId, &mut Live)> {
        self.live.iter_mut().map(|(worker, live)| (*worker, live))
    }

    /// Sends a signal to the leader of each worker that has a handler for it; how many have.
    pub fn pass_on(&self, signal: Signal) -> usize {
        self.live.values().filter(|live| live.tree().signal_leader(signal)).count()
    }

    /// Collects all children that have ended: leaders of workers, commands, and orphans that the
    /// sub-reaper inherited. Without it they would stay zombies.
    pub fn reap(&mut self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ExitStatus::Signal(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return,
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "cannot reap children");
                    return;
                }
            };
            // The pid of one that has ended may be another's by now, and an adopted one is no child.
            let is_leader =
                |live: &&mut Live| live.pid == pid.as_raw() && live.exit.is_none() && !live.adopted;
            match self.live.values_mut().find(is_leader) {
                Some(live) => live.exit = Some(status),
                None if self.others.ended(pid.as_raw(), status) => {}
                None => tracing::debug!(%pid, %status, "reaped an orphan"),
            }
        }
    }

    /// Those that a SIGKILL ended, or may have, and of whose end the core does not know yet.
    pub fn killed(&self) -> Vec<WorkerId> {
        let killed = |live: &Live| {
            matches!(live.exit, Some(ExitStatus::Signal(9) | ExitStatus::Unknown))
                && !live.exit_told
        };
        let killed = self.live.iter().filter(|(_, live)| killed(live));
        killed.map(|(worker, _)| *worker).collect()
    }

    /// Leaders whose end the core shall be told now: those whose launch has come to its end.
    pub fn take_exits(&mut self) -> Vec<(WorkerId, ExitStatus)> {
        let mut exits = Vec::new();
        for (worker, live) in &mut self.live {
            if let Some(status) = live.exit
                && !live.launching
                && !live.exit_told
            {
                live.exit_told = true;
                exits.push((*worker, status));
            }
        }
        exits
    }

    /// Takes out the workers of which no process is left.
    pub fn take_gone(&mut self) -> Vec<(WorkerId, Live)> {
        let ended: Vec<WorkerId> = self
            .live
            .iter()
            .filter(|(_, live)| live.exit_told && live.tree().is_empty())
            .map(|(worker, _)| *worker)
            .collect();
        ended.into_iter().filter_map(|id| Some((id, self.live.remove(&id)?))).collect()
    }

    /// Whether a leader has ended and its tree has not, as far as known.
    pub fn has_remains(&self) -> bool {
        self.live.values().any(|live| live.exit_told)
    }
}
