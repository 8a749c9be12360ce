//! The mark that every process of a worker inherits in its environment: whose it is, also after the
//! death of the supervisor that started it.
//!
//! `SLOT.GENERATION:SUPERVISOR:APP:STORE`: the supervisor's pid tells two lives of a supervisor apart,
//! the path of the audit log two applications of one name. A program may overwrite its environment
//! (nginx does, for its title); the leader is then known by the log, and the others by kinship.

use super::procfs::{Procfs, Stat};
use crate::core::WorkerId;
use nix::unistd::Pid;
use std::fmt;
use std::path::Path;
use std::time::Duration;

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

/// Looks at processes that are in the middle of an exec, and from one to the next: an exec takes some
/// microseconds, and who was started without any environment is not waited for longer.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Every live process that carries a mark and whose supervisor is dead. Walks all of `/proc`: for the
/// start of a supervisor only. Processes that may not be looked into are not found.
///
/// A supervisor lives if its pid is of a process that runs (a zombie whose parent has not noticed is as
/// dead as any) and is no younger than what it started.
pub fn orphans(procfs: &Procfs) -> Vec<(Stat, Mark)> {
    orphans_after(procfs, || std::thread::sleep(LOOK_PAUSE))
}

fn orphans_after(procfs: &Procfs, mut pause: impl FnMut()) -> Vec<(Stat, Mark)> {
    let (mut found, mut unclear) = (Vec::new(), procfs.pids());
    for look in 0..LOOKS {
        if look > 0 {
            pause();
        }
        let mut later = Vec::new();
        for pid in unclear {
            match ask(procfs, pid) {
                Some(Told::Orphan(stat, mark)) => found.push((stat, mark)),
                Some(Told::NotYet) => later.push(pid),
                None => {}
            }
        }
        unclear = later;
        if unclear.is_empty() {
            break;
        }
    }
    found
}

enum Told {
    Orphan(Stat, Mark),
    /// It is in the middle of an exec, or has no environment.
    NotYet,
}

/// None of one that is nobody's orphan.
fn ask(procfs: &Procfs, pid: Pid) -> Option<Told> {
    let before = procfs.stat(pid).filter(Stat::is_alive)?;
    let environ = procfs.environ(pid)?;
    if environ.is_empty() && procfs.has_program(pid) {
        return Some(Told::NotYet);
    }
    let mark = Mark::parse(&environ.get(MARK_VARIABLE)?)?;
    let stat = procfs.stat(pid).filter(|stat| stat.id == before.id)?;
    let supervisor = procfs.stat(Pid::from_raw(mark.supervisor)).filter(Stat::is_alive);
    let ticks = stat.id.start_time_ticks;
    let lives = supervisor.is_some_and(|it| it.id.start_time_ticks <= ticks);
    (!lives).then_some(Told::Orphan(stat, mark))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

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
        process(102, 50, 'Z', "");
        process(205, 60, 'S', &marked(102));
        // In the middle of an exec; one that ends in it; one that never had an environment.
        for pid in [206, 207, 208] {
            process(pid, 60, 'S', "");
            symlink("/bin/app", proc.path().join(format!("{pid}/exe"))).unwrap();
        }
        let procfs = Procfs::new(proc.path());
        let mut pauses = 0;
        let pause = || {
            pauses += 1;
            if pauses == 2 {
                fs::write(proc.path().join("206/environ"), marked(99)).unwrap();
                fs::remove_dir_all(proc.path().join("207")).unwrap();
            }
        };
        let found = orphans_after(&procfs, pause);
        let mut found: Vec<i32> = found.iter().map(|(stat, _)| stat.id.pid.as_raw()).collect();
        found.sort();
        let expected = [201, 202, 205, 206];
        assert_eq!(found, expected, "a live supervisor's, a zombie and a stranger are none");
        assert_eq!(pauses, LOOKS - 1, "one has no environment at all");
    }
}
