//! What a process may have of what is counted: descriptors, threads, processes.
//!
//! `RLIMIT_NOFILE` holds for each process. `RLIMIT_NPROC` counts the threads of a user (and does not bind
//! root), `pids.max` those of a cgroup, `kernel.threads-max` those of the host (getrlimit(2), the
//! kernel's admin-guide/cgroup-v2, proc_sys_kernel(5)): the least of them is what all workers together
//! run into.

use super::cgroup::pids_max;
use super::procfs::Procfs;
use crate::core::Bounds;
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// Reads them. What is unlimited or cannot be read is `None`.
pub fn bounds(procfs: &Procfs, pid: Pid) -> Bounds {
    let limits = procfs.root().join(pid.to_string()).join("limits");
    let limits = fs::read_to_string(limits).unwrap_or_default();
    let threads = number(&procfs.root().join("sys/kernel/threads-max"));
    let tasks = [soft(&limits, "Max processes"), threads, pids_max(procfs, pid)];
    Bounds { fds: soft(&limits, "Max open files"), tasks: tasks.into_iter().flatten().min() }
}

/// The soft limit in a line of `/proc/PID/limits`: name, soft, hard, unit.
fn soft(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &str =
        "Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max processes             96365                96365                processes 
Max open files            1024                 524288               files     
Max pending signals       unlimited            96365                signals   
";

    #[test]
    fn the_least_of_what_can_be_read_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let procfs = Procfs::new(root.path().join("proc"));
        let read = || bounds(&procfs, Pid::from_raw(7));
        assert_eq!(read(), Bounds::default());
        write("proc/7/limits", LIMITS);
        assert_eq!(read(), Bounds { fds: Some(1024), tasks: Some(96_365) });
        write("proc/sys/kernel/threads-max", "50000\n");
        assert_eq!(read().tasks, Some(50_000));
        let mount = format!("41 31 0:38 / {}/cg rw - cgroup2 cgroup2 rw\n", root.path().display());
        write("proc/self/mountinfo", &mount);
        write("proc/7/cgroup", "3:cpu:/x\n0::/system.slice/app.service\n");
        write("cg/system.slice/pids.max", "4915\n");
        assert_eq!(read().tasks, Some(4915));
        write("proc/7/limits", &LIMITS.replace("1024 ", "unlimited "));
        assert_eq!(read().fds, None);
    }

    #[test]
    fn this_kernel_agrees() {
        let (soft, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        let read = bounds(&Procfs::default(), nix::unistd::getpid());
        assert_eq!(read.fds, Some(soft));
        assert!(read.tasks.is_some());
    }
}
