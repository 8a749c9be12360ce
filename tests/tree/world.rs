//! The supervisor's side of the tests: it starts workers, talks with them, and cleans up.

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::wait;
use nix::unistd::{Pid, getpid};
use stanch::core::WorkerId;
use stanch::linux::cgroup::Leaves;
use stanch::linux::mark::MARK_VARIABLE;
use stanch::linux::procfs::{ProcessId, Procfs};
use stanch::linux::tree::{Orphans, Tree};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the scripts share. `say` names a process in a file that appears whole; `heard` waits for a
/// word of the test.
const PRELUDE: &str = r#"
import os, sys, time, threading, signal
folder = os.environ["FOLDER"]
def say(name):
    with open(f"{folder}/.{name}", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{folder}/.{name}", f"{folder}/{name}")
def heard(word):
    while not os.path.exists(f"{folder}/{word}"):
        time.sleep(0.005)
def pause():
    while True:
        signal.pause()
def child(run):
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    return pid
def daemon(run):
    def first():
        os.setsid()
        child(run)
    os.waitpid(child(first), 0)
def close_all():
    os.closerange(0, 1024)
"#;

/// The supervisor's side of a test: sub-reaper, workers, and a place for them to talk.
pub struct World {
    pub folder: tempfile::TempDir,
    pub leaves: Option<Leaves>,
    orphans: Orphans,
    workers: u64,
}

impl World {
    /// Without cgroups.
    pub fn plain() -> Self {
        Self::new(None)
    }

    fn new(leaves: Option<Leaves>) -> Self {
        set_child_subreaper(true).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { folder, leaves, orphans: Orphans::default(), workers: 0 }
    }

    /// With cgroups; `None`, and a word why, on a host that has none to give.
    pub fn with_cgroups() -> Option<Self> {
        match Leaves::open(&Procfs::default(), &app()) {
            Ok(leaves) => Some(Self::new(Some(leaves))),
            Err(why) => {
                eprintln!("not tested with a cgroup: {why}");
                None
            }
        }
    }

    /// Reaps whatever ends, as the supervisor does.
    pub fn reap(&self) {
        std::thread::spawn(|| {
            loop {
                if wait() == Err(Errno::ECHILD) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        });
    }

    /// Starts a python worker and its tree.
    pub fn start(&mut self, script: &str) -> Worker {
        self.workers += 1;
        let mark = format!("test:0.{}", self.workers);
        let leaf = self
            .leaves
            .as_ref()
            .map(|leaves| leaves.create(WorkerId::new(0, self.workers)).unwrap());
        // It waits for a line before it goes on, so that its whole life is in the cgroup. Zombies
        // are for `reap`, or go with the test.
        #[expect(clippy::zombie_processes)]
        let mut process = Command::new("setsid")
            .args(["sh", "-c", r#"read -r go; exec "$@""#, "sh", "python3", "-c"])
            .arg(format!("{PRELUDE}\n{script}"))
            .env(MARK_VARIABLE, &mark)
            .env("FOLDER", self.folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let leader = Pid::from_raw(process.id() as i32);
        if let Some(leaf) = &leaf {
            leaf.add(leader).unwrap();
        }
        let leader = Procfs::default().identify(leader).unwrap();
        process.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let (procfs, orphans) = (Procfs::default(), self.orphans.clone());
        Worker { leader, tree: Tree::new(procfs, orphans, leader, mark, leaf) }
    }

    /// Waits until a process has said this, and names it.
    pub fn said(&self, name: &str) -> Pid {
        let path = self.folder.path().join(name);
        until(&format!("{name} is said"), || path.exists());
        Pid::from_raw(std::fs::read_to_string(&path).unwrap().parse().unwrap())
    }

    pub fn tell(&self, word: &str) {
        std::fs::write(self.folder.path().join(word), "").unwrap();
    }

    /// The cgroup of worker 0.`generation`.
    pub fn leaf_folder(&self, generation: u64) -> PathBuf {
        let own = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = own.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let mount = mount.split(' ').nth(4).unwrap().to_owned();
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        PathBuf::from(mount).join(own).join(format!(
            "stanch-{}.{}/worker-0.{generation}",
            app(),
            getpid()
        ))
    }
}

/// Tests run side by side, a process each.
fn app() -> String {
    format!("test-{}", getpid())
}

pub struct Worker {
    pub leader: ProcessId,
    pub tree: Tree,
}

impl Worker {
    pub fn pids(&mut self) -> BTreeSet<Pid> {
        self.tree.members().into_iter().map(|id| id.pid).collect()
    }
}

/// No test leaves a process behind, also when it fails: all are children of this one in the end.
impl Drop for World {
    fn drop(&mut self) {
        let procfs = Procfs::default();
        // Several rounds: the children of a dead one become ours after the list was read.
        let mut rounds_without_life = 0;
        while rounds_without_life < 10 {
            rounds_without_life += 1;
            for pid in living_children() {
                let _ = kill(pid, Signal::SIGKILL);
                rounds_without_life = 0;
            }
        }
        if self.leaves.take().is_some() {
            // Sweeps.
            let _ = Leaves::open(&procfs, &app());
        }
    }
}

pub fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_alive(pid: Pid) -> bool {
    Procfs::default().stat(pid).is_some_and(|stat| stat.is_alive())
}

/// Orphans included.
pub fn living_children() -> Vec<Pid> {
    Procfs::default().children(getpid()).into_iter().filter(|&pid| is_alive(pid)).collect()
}
