//! The children of those who inherit orphans: read once for all trees.
//!
//! Each tree looks for orphans of its own among them, and most of them are leaders of other workers.
//! Did every tree ask every one by itself, a thousand workers would ask a million times. Whose a child
//! is does not change while it lives, and a child lives while it is listed without a break (its pid
//! could only be given away between two looks). What is said here is a hint all the same: a tree
//! confirms it before it admits a process.

use super::{MARK_VARIABLE, News};
use crate::linux::procfs::{Procfs, Stat};
use nix::unistd::Pid;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the trees of a supervisor.
#[derive(Clone, Debug, Default)]
pub struct Orphans(Arc<Mutex<HashMap<Pid, Family>>>);

/// The children of one who inherits orphans.
#[derive(Debug, Default)]
struct Family {
    looked: Option<Instant>,
    children: HashMap<Pid, Child>,
}

/// What a child has told.
#[derive(Debug)]
struct Child {
    session: Pid,
    mark: Option<Vec<u8>>,
    /// Nothing else will come of it: it carries a mark, or it is dead.
    settled: bool,
}

impl Orphans {
    /// This child of `parent` is known to carry the mark; it need not be asked.
    pub(super) fn claim(&self, stat: &Stat, mark: &[u8]) {
        let child = Child { session: stat.session, mark: Some(mark.to_vec()), settled: true };
        self.with(stat.parent, |family| family.children.insert(stat.id.pid, child));
    }

    /// The children of `reaper` that carry the mark, or none while they are of the session; and whether
    /// a look that was made for it met anybody of whom it could not be told. A look that is younger than
    /// `age_max` is not made again, and members of the tree that asks are not asked.
    pub(super) fn of(
        &self,
        procfs: &Procfs,
        reaper: Pid,
        (mark, session): (&[u8], Pid),
        is_member: impl Fn(Pid) -> bool,
        age_max: Duration,
    ) -> (Vec<Pid>, News) {
        self.with(reaper, |family| {
            let fresh = family.looked.is_some_and(|looked| looked.elapsed() < age_max);
            let news = if fresh { News::None } else { family.look(procfs, reaper, &is_member) };
            let ours = |child: &Child| match &child.mark {
                Some(other) => other == mark,
                None => child.session == session,
            };
            let ours = family.children.iter().filter(|(_, child)| ours(child));
            (ours.map(|(pid, _)| *pid).filter(|pid| !is_member(*pid)).collect(), news)
        })
    }

    fn with<T>(&self, reaper: Pid, work: impl FnOnce(&mut Family) -> T) -> T {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(families.entry(reaper).or_default())
    }
}

impl Family {
    fn look(&mut self, procfs: &Procfs, reaper: Pid, is_member: impl Fn(Pid) -> bool) -> News {
        let mut news = News::None;
        let list = || -> HashSet<Pid> { procfs.children(reaper).into_iter().collect() };
        let (mut listed, again) = (list(), list());
        if listed != again {
            // Somebody was reaped while the list was made, and the next in it may have been skipped.
            news = News::Some;
            listed.extend(again);
        }
        self.children.retain(|pid, child| child.settled && listed.contains(pid));
        for pid in listed {
            if self.children.contains_key(&pid) || is_member(pid) {
                continue;
            }
            let Some((stat, mark)) = ask(procfs, pid).filter(|(stat, _)| stat.parent == reaper)
            else {
                news = News::Some;
                continue;
            };
            let dead = !stat.is_alive();
            if mark.is_none() && (dead || stat.is_exiting) {
                // Its environment is gone. It may have been of the tree that asks; and a child of its
                // own has become the reaper's after the list was made, or will yet.
                news = News::Some;
            }
            let settled = mark.is_some() || dead;
            self.children.insert(pid, Child { session: stat.session, mark, settled });
        }
        self.looked = Some(Instant::now());
        news
    }
}

/// Who has this pid now, and its mark; `None` if it changed hands meanwhile.
pub(super) fn ask(procfs: &Procfs, pid: Pid) -> Option<(Stat, Option<Vec<u8>>)> {
    let before = procfs.stat(pid)?;
    let mark = procfs.environment(pid, MARK_VARIABLE);
    let stat = procfs.stat(pid)?;
    (stat.id == before.id).then_some((stat, mark))
}
