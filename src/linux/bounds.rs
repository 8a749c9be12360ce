//! What a process may have of what is counted: descriptors, threads, processes.
//!
//! `RLIMIT_NOFILE` holds for each process. `RLIMIT_NPROC` counts the threads of a user (and does not bind
//! root), `pids.max` those of a cgroup, `kernel.threads-max` those of the host (getrlimit(2), the
//! kernel's admin-guide/cgroup-v2, proc_sys_kernel(5)): the least of them is what all workers together
//! run into.

use crate::core::Bounds;
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// Reads them; `proc` is `/proc`, `cgroups` where cgroup v2 is mounted. What is unlimited or cannot be
/// read is `None`.
pub fn bounds(proc: &Path, cgroups: &Path, pid: Pid) -> Bounds {
    let folder = proc.join(pid.to_string());
    let limits = fs::read_to_string(folder.join("limits")).unwrap_or_default();
    let threads = number(&proc.join("sys/kernel/threads-max"));
    let tasks = [soft(&limits, "Max processes"), threads, pids_max(&folder, cgroups)];
    Bounds { fds: soft(&limits, "Max open files"), tasks: tasks.into_iter().flatten().min() }
}

/// The soft limit in a line of `/proc/PID/limits`: name, soft, hard, unit.
fn soft(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The least `pids.max` from the process's own cgroup up to the top that can be seen.
fn pids_max(folder: &Path, cgroups: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("cgroup")).ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let above = Path::new(own).ancestors();
    above.filter_map(|path| number(&cgroups.join(path).join("pids.max"))).min()
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
        let read = || bounds(&root.path().join("proc"), &root.path().join("cg"), Pid::from_raw(7));
        assert_eq!(read(), Bounds::default());
        write("proc/7/limits", LIMITS);
        assert_eq!(read(), Bounds { fds: Some(1024), tasks: Some(96_365) });
        write("proc/sys/kernel/threads-max", "50000\n");
        assert_eq!(read().tasks, Some(50_000));
        write("proc/7/cgroup", "3:cpu:/x\n0::/system.slice/app.service\n");
        write("cg/system.slice/app.service/pids.max", "max\n");
        write("cg/system.slice/pids.max", "4915\n");
        assert_eq!(read().tasks, Some(4915));
        write("proc/7/limits", &LIMITS.replace("1024 ", "unlimited "));
        assert_eq!(read().fds, None);
    }

    #[test]
    fn this_kernel_agrees() {
        let (soft, _) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        let read = bounds(Path::new("/proc"), Path::new("/sys/fs/cgroup"), nix::unistd::getpid());
        assert_eq!(read.fds, Some(soft));
        assert!(read.tasks.is_some());
    }
}
