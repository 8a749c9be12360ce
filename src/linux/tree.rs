//! The process tree of a worker: who belongs to it, what it uses, and its end.
//!
//! # Membership
//!
//! The leader is a direct child of the supervisor and leads a session of its own. The supervisor is a
//! child sub-reaper (PR_SET_CHILD_SUBREAPER(2const)), so what daemonizes out of a worker becomes the
//! supervisor's child and not that of PID 1. A process belongs to the tree if
//! - it is in the worker's cgroup, where it has one (certain), or
//! - its parent belongs to the tree, or
//! - it is an orphan (a child of the supervisor, or of whoever is the leader's parent now, for a worker
//!   taken over from a dead supervisor) and its environment carries the worker's mark; or it carries no
//!   mark at all and is of the leader's session, or
//! - it was a member before: programs overwrite their environment and change session and parent, but
//!   not pid and start time.
//!
//! Without a cgroup one can get away: a process that, between two looks, forks twice, begins a session
//! and executes with a cleared environment (or is just executing: its environment is empty then for a
//! moment). With a cgroup only one that may leave it can, and kinship, which is looked at as well, finds
//! that one while its parent lives.
//!
//! Every look reads a pid first and the process behind it later, when the pid may have been given to
//! another. So what made a process a member is always confirmed by a second reading after its start
//! time is known.
//!
//! # The end of a tree
//!
//! Killing one by one loses against a tree that forks: the children of a dead parent lose the kinship
//! by which they are known. So all are stopped first, until looks bring no news, and then killed:
//! SIGKILL, unlike SIGSTOP, also ends a fork that has begun. And then one looks again, because the other
//! threads of a process may still run when its first one is stopped. Where `cgroup.kill` exists it comes
//! on top, because it holds against concurrent forks.

mod connections;
mod orphans;
mod usage;

pub use orphans::Orphans;

use super::cgroup::Leaf;
use super::mark::MARK_VARIABLE;
use super::pidfd;
use super::procfs::{Memory, Paging, ProcessFiles, ProcessId, Procfs, Stat};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use usage::{Excess, Usage};

/// The files of members beyond this are opened for each reading: a fork bomb must not use up the
/// supervisor's descriptors (two a member).
const KEPT_OPEN_MAX: usize = 32;

/// Ancestors that a [`lineage`] goes back; nothing that serves is nested deeper.
const LINEAGE_MAX: usize = 64;

/// Looks in one [`Tree::kill_all`], so that it comes to an end whatever the tree does.
const LOOKS_MAX: u32 = 200;

/// Looks in a row without news before all are believed to be found: a list of children that is read
/// while others end can skip one.
const QUIET_LOOKS: u32 = 2;

/// The processes of one worker.
#[derive(Debug)]
pub struct Tree {
    procfs: Procfs,
    leader: ProcessId,
    mark: Vec<u8>,
    leaf: Option<Leaf>,
    /// With the zombies, whose CPU time their parents do not have yet.
    members: BTreeMap<Pid, Member>,
    /// The parent that the leader had when last seen; it inherits orphans.
    leader_parent: Pid,
    orphans: Orphans,
    news: News,
    usage: Usage,
}

/// Whether a look met anybody new: a new member, or a process that had ended before it could be told
/// whose it was. After such a look there may be more: of a tree whose processes fork and end faster
/// than one looks, each parent is dead when it is asked, and each child unborn when the list is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    None,
    Some,
}

/// A process and its ancestors, as far as children of the supervisor: what it takes to tell a stranger
/// by a few readings, and without a look at every worker. Empty when the process is gone.
pub fn lineage(procfs: &Procfs, pid: Pid) -> Vec<Stat> {
    let mut line: Vec<Stat> = Vec::new();
    let mut next = procfs.stat(pid);
    while let Some(stat) = next {
        // A pid that was given to another, after the parent had died.
        let is_parent =
            line.last().is_none_or(|child| stat.id.start_time_ticks <= child.id.start_time_ticks);
        if !is_parent || line.len() == LINEAGE_MAX {
            break;
        }
        line.push(stat);
        next = (stat.parent != getpid()).then(|| procfs.stat(stat.parent)).flatten();
    }
    line
}

#[derive(Debug)]
struct Member {
    stat: Stat,
    files: Option<ProcessFiles>,
    memory: Memory,
    /// What the memory was read at.
    read_at: Option<Paging>,
    /// Unknown until the first sample that sees the member.
    excess: Option<Excess>,
}

impl Tree {
    /// The tree of a worker with this leader, whose environment has [`MARK_VARIABLE`] set to `mark`.
    /// `leader` comes from [`Procfs::identify`] while the caller has not reaped it yet.
    /// `orphans` is shared by all trees of the supervisor.
    pub fn new(
        procfs: Procfs,
        orphans: Orphans,
        leader: ProcessId,
        mark: String,
        leaf: Option<Leaf>,
    ) -> Self {
        let mut tree = Self {
            procfs,
            leader,
            mark: mark.into_bytes(),
            leaf,
            members: BTreeMap::new(),
            leader_parent: getpid(),
            orphans,
            news: News::None,
            usage: Usage::default(),
        };
        if let Some(stat) = tree.procfs.stat(leader.pid)
            && stat.id == leader
        {
            tree.leader_parent = stat.parent;
            tree.orphans.claim(&stat, &tree.mark);
            tree.admit(stat);
        }
        tree
    }

    /// What its processes have in their environment.
    pub fn mark(&self) -> String {
        String::from_utf8_lossy(&self.mark).into_owned()
    }

    /// The members as of the last look, with those that have ended.
    pub fn known(&self) -> impl Iterator<Item = ProcessId> {
        self.members.values().map(|member| member.stat.id)
    }

    /// Takes in a process that is known to be of the worker, for one that was found in another way.
    pub fn know(&mut self, id: ProcessId) {
        if let Some(stat) = self.procfs.stat(id.pid).filter(|stat| stat.id == id) {
            self.admit(stat);
        }
    }

    /// The live processes of the tree, the zombies left out.
    pub fn members(&mut self) -> Vec<ProcessId> {
        self.look_everywhere();
        self.live().map(|stat| stat.id).collect()
    }

    /// The live processes as of the last look, which also [`sample`](Self::sample) takes.
    pub fn last_seen(&self) -> Vec<Pid> {
        self.live().map(|stat| stat.id.pid).collect()
    }

    /// Whether no process of the tree lives. False also while that is uncertain, because somebody
    /// came or ended during the look: ask again.
    pub fn is_empty(&mut self) -> bool {
        (0..QUIET_LOOKS)
            .all(|_| self.look_everywhere() == News::None && self.live().next().is_none())
    }

    /// Whether one of these processes, a [`lineage`], was a member at the last look.
    pub fn knows(&self, lineage: &[Stat]) -> bool {
        let is_member = |stat: &Stat| {
            self.members.get(&stat.id.pid).is_some_and(|member| member.stat.id == stat.id)
        };
        lineage.iter().any(is_member)
    }

    /// The same after a look at everybody, which also finds orphans.
    pub fn finds(&mut self, lineage: &[Stat]) -> bool {
        self.knows(lineage) || {
            self.look_everywhere();
            self.knows(lineage)
        }
    }

    /// The state letter of the leader, see [`Stat::state`]; `None` when it was reaped.
    pub fn leader_state(&self) -> Option<char> {
        let stat = self.procfs.stat(self.leader.pid)?;
        (stat.id == self.leader).then_some(stat.state)
    }

    /// Whether the leader is on its way out or gone: from then on it may have closed what it had open,
    /// long before it is a zombie that can be waited for.
    pub fn leader_has_ended(&self) -> bool {
        let stat = self.procfs.stat(self.leader.pid).filter(|stat| stat.id == self.leader);
        stat.is_none_or(|stat| stat.is_exiting || !stat.is_alive())
    }

    /// Sends a signal to the leader if it has a handler for it; whether it has.
    pub fn signal_leader(&self, signal: Signal) -> bool {
        self.procfs.catches(self.leader.pid, signal)
            && pidfd::send(&self.procfs, self.leader, signal)
    }

    /// Sends a signal to every live process of the tree; how many got it.
    pub fn signal_all(&mut self, signal: Signal) -> usize {
        self.members().into_iter().filter(|&id| pidfd::send(&self.procfs, id, signal)).count()
    }

    /// Kills every process of the tree, also of one that keeps forking; how many were killed. It does
    /// not wait for their end: ask [`Tree::is_empty`], and call again if it does not come true.
    pub fn kill_all(&mut self) -> usize {
        let mut killed = HashSet::new();
        let mut quiet_looks = 0;
        for _ in 0..LOOKS_MAX {
            let mut quiet = self.look_everywhere() == News::None;
            for stat in self.live() {
                if !killed.contains(&stat.id) && !matches!(stat.state, 'T' | 't') {
                    // Not only the new ones: a fork that has begun is still finished, and the kernel
                    // continues a stopped process group that has lost its parents.
                    pidfd::send(&self.procfs, stat.id, Signal::SIGSTOP);
                    quiet = false;
                }
            }
            quiet_looks = if quiet { quiet_looks + 1 } else { 0 };
            if quiet_looks < QUIET_LOOKS {
                continue;
            }
            if self.live().all(|stat| killed.contains(&stat.id)) {
                return killed.len();
            }
            self.kill_now(&mut killed);
            quiet_looks = 0;
        }
        // It outran the stopping, or hangs in the kernel and does not stop. The caller calls again.
        self.look_everywhere();
        self.kill_now(&mut killed);
        killed.len()
    }

    fn kill_now(&self, killed: &mut HashSet<ProcessId>) {
        if let Some(leaf) = &self.leaf {
            leaf.kill();
        }
        for stat in self.live() {
            if killed.insert(stat.id) {
                pidfd::send(&self.procfs, stat.id, Signal::SIGKILL);
            }
        }
    }

    fn live(&self) -> impl Iterator<Item = &Stat> {
        self.members.values().map(|member| &member.stat).filter(|stat| stat.is_alive())
    }

    /// Finds every member.
    fn look_everywhere(&mut self) -> News {
        self.look_everywhere_but(Duration::ZERO)
    }

    /// The same, with what was known of the orphans so long ago.
    fn look_everywhere_but(&mut self, orphans_age_max: Duration) -> News {
        self.news = News::None;
        self.look_at_members_and_leaf();
        // Children before orphans: who loses its parent in between shows up among the orphans.
        self.look_for_children(self.live().copied().collect());
        let orphans = self.look_for_orphans(orphans_age_max);
        self.look_for_children(orphans);
        self.news
    }

    /// Drops who left, and admits who is in the cgroup: the cheap part of a look.
    fn look_at_members_and_leaf(&mut self) {
        let before = self.members.len();
        self.members.retain(|&pid, member| {
            let stat = match &member.files {
                Some(files) => files.stat(),
                None => self.procfs.stat(pid),
            };
            match stat {
                Some(stat) if stat.id == member.stat.id => {
                    member.stat = stat;
                    true
                }
                _ => false,
            }
        });
        if self.members.len() < before {
            self.usage.tree_changed();
        }
        if let Some(leader) = self.members.get(&self.leader.pid) {
            self.leader_parent = leader.stat.parent;
        }

        let Some(leaf) = &self.leaf else { return };
        let mut listed = leaf.procs().unwrap_or_default();
        listed.retain(|pid| !self.members.contains_key(pid));
        if listed.is_empty() {
            return;
        }
        self.news = News::Some;
        let seen: Vec<Stat> = listed.iter().filter_map(|&pid| self.procfs.stat(pid)).collect();
        let still_there: HashSet<Pid> = leaf.procs().unwrap_or_default().into_iter().collect();
        for stat in seen {
            if still_there.contains(&stat.id.pid) {
                self.admit(stat);
            }
        }
    }

    /// Walks down from these members.
    fn look_for_children(&mut self, mut parents: Vec<Stat>) {
        while let Some(Stat { id: parent, threads, .. }) = parents.pop() {
            let mut listed = match threads {
                1 => self.procfs.children_of_single(parent.pid),
                _ => self.procfs.children(parent.pid),
            };
            listed.retain(|pid| !self.members.contains_key(pid));
            if listed.is_empty() {
                continue;
            }
            self.news = News::Some;
            let seen: Vec<Stat> = listed
                .iter()
                .filter_map(|&pid| self.procfs.stat(pid))
                .filter(|stat| stat.parent == parent.pid)
                .collect();
            if self.procfs.identify(parent.pid) != Some(parent) {
                continue;
            }
            for stat in seen {
                parents.push(stat);
                self.admit(stat);
            }
        }
    }

    /// Admits the orphans of the tree; which they are.
    fn look_for_orphans(&mut self, age_max: Duration) -> Vec<Stat> {
        let mut admitted = Vec::new();
        for reaper in BTreeSet::from([getpid(), self.leader_parent]) {
            let whose = (&self.mark[..], self.leader.pid);
            let is_member = |pid: Pid| self.members.contains_key(&pid);
            let (candidates, news) =
                self.orphans.of(&self.procfs, reaper, whose, is_member, age_max);
            self.news = self.news.max(news);
            for pid in candidates {
                self.news = News::Some;
                let asked = orphans::ask(&self.procfs, pid);
                let ours = asked.filter(|(stat, mark)| {
                    let ours = match mark {
                        Some(mark) => *mark == self.mark,
                        None => stat.session == self.leader.pid,
                    };
                    ours && stat.parent == reaper
                });
                if let Some((stat, _)) = ours {
                    self.orphans.claim(&stat, &self.mark);
                    admitted.push(stat);
                    self.admit(stat);
                }
            }
        }
        admitted
    }

    fn admit(&mut self, stat: Stat) {
        self.news = News::Some;
        let pid = stat.id.pid;
        let keep_open = self.members.len() < KEPT_OPEN_MAX;
        let files = if keep_open { self.procfs.open(pid) } else { None };
        let member = Member { stat, files, memory: Memory::default(), read_at: None, excess: None };
        self.members.insert(pid, member);
        self.usage.tree_changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process can have these (`PID_MAX_LIMIT` is 4,194,304), the test's own least of all.
    const LEADER: i32 = 5_000_000;
    const ORPHAN: i32 = 5_000_077;
    const PARENT_OF_LEADER: i32 = 1;
    const EXITING: u64 = 4;

    /// Processes on paper: the moments that real ones pass too quickly.
    struct Paper(tempfile::TempDir);

    impl Paper {
        fn write(&self, pid: i32, name: &str, text: &str) {
            let path = self.0.path().join(pid.to_string()).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn process(&self, pid: i32, parent: i32, state: char, flags: u64) {
            let stat = format!(
                "{pid} (app) {state} {parent} 9 9 0 -1 {flags} 0 0 0 0 1 1 0 0 20 0 1 0 {pid} 0 0"
            );
            self.write(pid, "stat", &stat);
            self.write(pid, "status", "");
        }

        fn children(&self, pid: i32, children: &[i32]) {
            let text: String = children.iter().map(|child| format!("{child} ")).collect();
            self.write(pid, "task/1/children", &text);
        }

        /// A tree whose leader is long gone.
        fn tree(&self) -> Tree {
            let leader = ProcessId { pid: Pid::from_raw(LEADER), start_time_ticks: LEADER as u64 };
            let procfs = Procfs::new(self.0.path());
            Tree::new(procfs, Orphans::default(), leader, "app:0.1".into(), None)
        }
    }

    fn paper() -> (Paper, i32) {
        (Paper(tempfile::tempdir().unwrap()), getpid().as_raw())
    }

    #[test]
    fn a_tree_is_not_empty_while_an_orphan_ends_that_cannot_be_told() {
        let (paper, supervisor) = paper();
        paper.children(supervisor, &[ORPHAN]);
        let mut tree = paper.tree();
        // Listed, and gone when asked.
        assert!(!tree.is_empty());
        // It has no environment any more and its children are not the supervisor's yet.
        paper.process(ORPHAN, supervisor, 'R', EXITING);
        assert!(!tree.is_empty());
        assert!(!tree.is_empty());
        // Now they are, but the list is older.
        paper.process(ORPHAN, supervisor, 'Z', EXITING);
        assert!(!tree.is_empty());
        assert!(tree.is_empty());
    }

    #[test]
    fn a_member_is_known_by_its_lineage_and_a_stranger_is_not() {
        let (paper, supervisor) = paper();
        let procfs = Procfs::new(paper.0.path());
        let pid = Pid::from_raw;
        paper.process(LEADER, supervisor, 'S', 0);
        paper.process(LEADER + 1, LEADER, 'S', 0);
        paper.process(LEADER + 2, LEADER + 1, 'S', 0);
        paper.process(PARENT_OF_LEADER, 0, 'S', 0);
        paper.process(ORPHAN, PARENT_OF_LEADER, 'S', 0);
        let tree = paper.tree();
        // Its child and grandchild have not been seen.
        assert!(tree.knows(&lineage(&procfs, pid(LEADER + 2))));
        assert!(!tree.knows(&lineage(&procfs, pid(ORPHAN))));
        assert!(!tree.knows(&lineage(&procfs, pid(ORPHAN + 1))));
        // The pid of its dead parent was given to a process of the worker.
        paper.process(LEADER - 1, LEADER + 2, 'S', 0);
        assert!(!tree.knows(&lineage(&procfs, pid(LEADER - 1))));
    }

    #[test]
    fn memory_is_read_again_when_pages_came_or_went() {
        let (paper, supervisor) = paper();
        let tell = |faults: u64, resident: u64, rss_anon_kib: u64| {
            let stat = format!(
                "{LEADER} (app) S {supervisor} 9 9 0 -1 0 {faults} 0 0 0 1 1 0 0 20 0 1 0 {LEADER} \
                 9 {resident}"
            );
            paper.write(LEADER, "stat", &stat);
            paper.write(LEADER, "status", &format!("RssAnon:\t{rss_anon_kib} kB\n"));
        };
        tell(7, 25, 100);
        let mut tree = paper.tree();
        let mut anon_kib = || tree.sample().rss_anon_kib.unwrap();
        assert_eq!(anon_kib(), 100);
        tell(7, 25, 101);
        assert_eq!(anon_kib(), 100, "the text is the same, had it been the kernel's");
        tell(8, 25, 102);
        assert_eq!(anon_kib(), 102, "one page for another");
        tell(8, 24, 98);
        assert_eq!(anon_kib(), 98, "a page was given back");
    }

    #[test]
    fn a_child_of_the_supervisor_without_a_mark_is_a_bystander() {
        let (paper, supervisor) = paper();
        paper.children(supervisor, &[ORPHAN]);
        paper.process(ORPHAN, supervisor, 'S', 0);
        paper.write(ORPHAN, "environ", "PATH=/bin\0");
        assert!(paper.tree().is_empty());
    }

    #[test]
    fn orphans_of_an_adopted_worker_are_found_at_its_parent() {
        let (paper, _) = paper();
        paper.process(LEADER, PARENT_OF_LEADER, 'S', 0);
        paper.children(PARENT_OF_LEADER, &[LEADER, ORPHAN]);
        paper.process(ORPHAN, PARENT_OF_LEADER, 'S', 0);
        paper.write(ORPHAN, "environ", "PATH=/bin\0STANCH_MARK=app:0.1\0");
        let mut tree = paper.tree();
        let pids: Vec<i32> = tree.members().iter().map(|id| id.pid.as_raw()).collect();
        assert_eq!(pids, [LEADER, ORPHAN]);

        // One more, after the leader's end.
        paper.write(LEADER, "stat", "");
        paper.children(PARENT_OF_LEADER, &[ORPHAN, ORPHAN + 1]);
        paper.process(ORPHAN + 1, PARENT_OF_LEADER, 'S', 0);
        paper.write(ORPHAN + 1, "environ", "STANCH_MARK=app:0.1\0");
        let pids: Vec<i32> = tree.members().iter().map(|id| id.pid.as_raw()).collect();
        assert_eq!(pids, [ORPHAN, ORPHAN + 1]);
    }

    #[test]
    fn a_pid_whose_parent_is_another_one_by_now_is_not_a_member() {
        let (paper, supervisor) = paper();
        paper.process(LEADER, supervisor, 'S', 0);
        paper.children(LEADER, &[ORPHAN]);
        paper.process(ORPHAN, PARENT_OF_LEADER, 'S', 0);
        assert_eq!(paper.tree().members().len(), 1);

        paper.children(LEADER, &[]);
        paper.children(supervisor, &[ORPHAN]);
        paper.write(ORPHAN, "environ", "STANCH_MARK=app:0.1\0");
        assert_eq!(paper.tree().members().len(), 1);
    }
}
