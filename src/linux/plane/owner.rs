//! Who has the port that a worker wants.

use super::socket_inode;
use crate::linux::sockdiag;
use std::fmt;
use std::fs;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its pid.
    pub pid: i32,
    /// The name of its program, as in `/proc/PID/comm`.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The first process found that listens on `port`; `None` where that cannot be seen (another user's
/// process, another container). Walks all of `/proc`: for failures only.
pub(super) fn of_port(port: u16) -> Option<Owner> {
    let inodes = sockdiag::listeners(port).ok()?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let holds = fds
            .flatten()
            .filter_map(|fd| socket_inode(&fs::read_link(fd.path()).ok()?))
            .any(|inode| inodes.contains(&inode));
        let name = || fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        holds.then(name)?.map(|name| Owner { pid, name: name.trim_end().to_owned() })
    })
}
