//! Children of the supervisor that are no workers: commands that save evidence or tell somebody.
//!
//! The engine reaps all children of the process, whoever started them, so who starts one says so here
//! and is told of its end.

use super::lock::lock;
use crate::core::ExitStatus;
use crate::linux::tree::Tree;
use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// How a child ended. Closed without a word: nobody reaps any more, the supervisor ends.
pub(super) type Exit = oneshot::Receiver<ExitStatus>;

/// All of them; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Children(Arc<Mutex<BTreeMap<i32, Child>>>);

#[derive(Debug)]
struct Child {
    exit: oneshot::Sender<ExitStatus>,
    /// What goes with the supervisor.
    tree: Option<Arc<Mutex<Tree>>>,
}

impl Children {
    /// Starts one; `start` gives its pid. Its end is not missed, however soon it comes: who reaps waits
    /// until it is known.
    pub fn start<T, E>(&self, start: impl FnOnce() -> Result<(i32, T), E>) -> Result<(T, Exit), E> {
        let mut children = self.lock();
        let (pid, started) = start()?;
        let (exit, end) = oneshot::channel();
        children.insert(pid, Child { exit, tree: None });
        Ok((started, end))
    }

    /// Starts one that is a plain process.
    pub fn spawn(&self, command: &mut Command) -> io::Result<(std::process::Child, Exit)> {
        self.start(|| command.spawn().map(|child| (child.id().cast_signed(), child)))
    }

    /// All that the child starts is killed when the supervisor ends.
    pub fn bind(&self, pid: i32, tree: &Arc<Mutex<Tree>>) {
        if let Some(child) = self.lock().get_mut(&pid) {
            child.tree = Some(Arc::clone(tree));
        }
    }

    /// One was reaped; false if it is none of these.
    pub fn ended(&self, pid: i32, status: ExitStatus) -> bool {
        let child = self.lock().remove(&pid);
        // Who started it may have stopped waiting.
        child.map(|child| child.exit.send(status)).is_some()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Nobody will wait for them.
    pub fn kill_bound(&self) {
        for tree in std::mem::take(&mut *self.lock()).into_values().filter_map(|child| child.tree) {
            lock(&tree).kill_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Child>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn an_end_that_comes_before_the_start_has_returned_is_told() {
        let children = Children::default();
        let (reaper, begun) = (children.clone(), Arc::new(Barrier::new(2)));
        let at = Arc::clone(&begun);
        let reaped = std::thread::spawn(move || {
            at.wait();
            reaper.ended(7, ExitStatus::Code(3))
        });
        let started = children.start(|| {
            begun.wait();
            Ok::<_, ()>((7, "it"))
        });
        let (it, exit) = started.unwrap();
        assert!(reaped.join().unwrap());
        assert_eq!((it, exit.blocking_recv()), ("it", Ok(ExitStatus::Code(3))));
        assert!(!children.ended(7, ExitStatus::Code(0)), "it ends once");
    }
}
