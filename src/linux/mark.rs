//! The mark that every process of a worker inherits in its environment: whose it is, also after the
//! death of the supervisor that started it.
//!
//! `SLOT.GENERATION:SUPERVISOR:APP:STORE`: the supervisor's pid tells two lives of a supervisor apart,
//! the path of the audit log two applications of one name. A program may overwrite its environment
//! (nginx does, for its title); the leader is then known by the log, and the others by kinship.

use super::procfs::{Procfs, Stat};
use crate::core::WorkerId;
use std::fmt;
use std::path::Path;

/// The environment variable that holds it.
pub const MARK_VARIABLE: &str = "STANCH_MARK";

/// Whose a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which worker's.
    pub worker: WorkerId,
    /// The supervisor that started it.
    pub supervisor: i32,
    /// The application's name, which has no colon.
    pub app: String,
    /// The supervisor's audit log.
    pub store: String,
}

impl Mark {
    /// The mark of a worker of this supervisor.
    pub fn new(worker: WorkerId, supervisor: i32, app: &str, store: &Path) -> Self {
        let store = store.to_string_lossy().into_owned();
        Self { worker, supervisor, app: app.to_owned(), store }
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let mut parts = text.splitn(4, ':');
        let worker = parts.next()?.parse().ok()?;
        let supervisor = parts.next()?.parse().ok()?;
        Some(Self { worker, supervisor, app: parts.next()?.into(), store: parts.next()?.into() })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worker, supervisor, app, store } = self;
        write!(f, "{worker}:{supervisor}:{app}:{store}")
    }
}

/// Every live process that carries a mark and whose supervisor is dead. Walks all of `/proc`: for the
/// start of a supervisor only. Processes that may not be looked into are not found.
///
/// A supervisor lives if its pid is of a process that is no younger than what it started.
pub fn orphans(procfs: &Procfs) -> Vec<(Stat, Mark)> {
    let marked = procfs.pids().into_iter().filter_map(|pid| {
        let before = procfs.stat(pid).filter(Stat::is_alive)?;
        let mark = Mark::parse(&procfs.environment(pid, MARK_VARIABLE)?)?;
        let stat = procfs.stat(pid).filter(|stat| stat.id == before.id)?;
        let supervisor = procfs.identify(nix::unistd::Pid::from_raw(mark.supervisor));
        let lives = supervisor.is_some_and(|it| it.start_time_ticks <= stat.id.start_time_ticks);
        (!lives).then_some((stat, mark))
    });
    marked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn mark(supervisor: i32) -> Mark {
        Mark::new(WorkerId::new(3, 41), supervisor, "shop", Path::new("/var/lib/a:b/shop.db"))
    }

    #[test]
    fn what_was_written_is_read() {
        let text = mark(7).to_string();
        assert_eq!(text, "3.41:7:shop:/var/lib/a:b/shop.db");
        assert_eq!(Mark::parse(text.as_bytes()), Some(mark(7)));
        for other in ["", "3.41", "3.41:7:shop", "3:7:shop:/s", "a.b:7:shop:/s", "3.41:x:shop:/s"] {
            assert_eq!(Mark::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn an_orphan_is_one_whose_supervisor_is_gone_or_another_process() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: i32, started: u64, state: char, environment: &str| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            let stat =
                format!("{pid} (app) {state} 1 9 9 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 {started} 9 9");
            fs::write(folder.join("stat"), stat).unwrap();
            fs::write(folder.join("environ"), environment).unwrap();
        };
        let marked = |supervisor| format!("A=b\0{MARK_VARIABLE}={}\0", mark(supervisor));
        process(100, 50, 'S', "");
        process(101, 900, 'S', "");
        process(200, 60, 'S', &marked(100));
        process(201, 60, 'S', &marked(99));
        process(202, 60, 'S', &marked(101));
        process(203, 60, 'Z', &marked(99));
        process(204, 60, 'S', "A=b\0");
        let procfs = Procfs::new(proc.path());
        let mut found: Vec<i32> =
            orphans(&procfs).iter().map(|(stat, _)| stat.id.pid.as_raw()).collect();
        found.sort();
        assert_eq!(found, [201, 202], "a live supervisor's, a zombie and a stranger are none");
    }
}
