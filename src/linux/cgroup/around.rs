//! The cgroups around a process, from its own up to the topmost that can be seen: what they leave it.
//!
//! A container, or a unit with `MemoryMax=`, is short of memory long before the host is. What is left
//! there is the limit less the *working set*: what is charged but the inactive file pages, which the
//! kernel takes back first (as the kubelet and `docker stats` reckon it).

use super::place::{Hierarchy, Own};
use crate::linux::procfs::{Procfs, contents};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};

/// The cgroups that hold the supervisor and count memory.
#[derive(Clone, Debug)]
pub struct Around(Vec<Cgroup>);

#[derive(Clone, Debug)]
struct Cgroup {
    path: PathBuf,
    names: &'static Names,
}

/// What the two versions call it.
#[derive(Debug)]
struct Names {
    limit: &'static str,
    charged: &'static str,
    /// In `memory.stat`, of the whole subtree.
    inactive_file: &'static str,
}

const VERSION_1: Names = Names {
    limit: "memory.limit_in_bytes",
    charged: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
};

const VERSION_2: Names =
    Names { limit: "memory.max", charged: "memory.current", inactive_file: "inactive_file" };

/// cgroup v1 has no word for no limit but a number that is all that its counter holds, in whole pages.
const NO_LIMIT: u64 = 1 << 62;

impl Around {
    /// Those of now: the supervisor is rarely moved.
    pub fn supervisor(procfs: &Procfs) -> Self {
        let of = |hierarchy, names: &'static Names| {
            let own = Own::find(procfs, hierarchy).ok();
            let found = own.iter().flat_map(Own::upwards);
            let counting = found.filter(|path| path.join(names.charged).exists());
            counting.map(|path| Cgroup { path: path.to_owned(), names }).collect::<Vec<_>>()
        };
        Self([of(Hierarchy::Unified, &VERSION_2), of(Hierarchy::Memory, &VERSION_1)].concat())
    }

    /// The least of their limits; `None` if there is none.
    pub fn limit_kib(&self) -> Option<u64> {
        self.0.iter().filter_map(Cgroup::limit_kib).min()
    }

    /// The least that a limit leaves.
    pub fn room_kib(&self) -> Option<u64> {
        self.0.iter().filter_map(Cgroup::room_kib).min()
    }
}

impl Cgroup {
    fn limit_kib(&self) -> Option<u64> {
        let limit = number(&self.path.join(self.names.limit))?;
        (limit < NO_LIMIT).then_some(limit / 1024)
    }

    fn room_kib(&self) -> Option<u64> {
        let limit_kib = self.limit_kib()?;
        let charged_kib = number(&self.path.join(self.names.charged))? / 1024;
        let stat = contents(&self.path.join("memory.stat")).ok()?;
        let inactive = stat.lines().find_map(|line| {
            line.strip_prefix(self.names.inactive_file)?.strip_prefix(' ')?.parse::<u64>().ok()
        });
        let working_set_kib = charged_kib.saturating_sub(inactive? / 1024);
        Some(limit_kib.saturating_sub(working_set_kib))
    }
}

/// Where the counters of a process's memory stand: its cgroups of v2 and of v1.
pub fn memory_folders(procfs: &Procfs, pid: Pid) -> Vec<PathBuf> {
    let own = |hierarchy| Own::of(procfs, &pid.to_string(), hierarchy).ok().map(|own| own.path);
    [Hierarchy::Unified, Hierarchy::Memory].into_iter().filter_map(own).collect()
}

/// The least `pids.max` around a process.
pub fn pids_max(procfs: &Procfs, pid: Pid) -> Option<u64> {
    let least = |hierarchy| {
        let own = Own::of(procfs, &pid.to_string(), hierarchy).ok()?;
        own.upwards().filter_map(|path| number(&path.join("pids.max"))).min()
    };
    [Hierarchy::Unified, Hierarchy::Pids].into_iter().filter_map(least).min()
}

/// `None` also for `max`, which is none.
fn number(path: &Path) -> Option<u64> {
    contents(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MOUNTS: &str = "41 31 0:38 / {two} rw - cgroup2 cgroup2 rw\n\
        35 31 0:32 / {one} rw - cgroup cgroup rw,memory\n\
        36 31 0:33 / {pids} rw - cgroup cgroup rw,pids\n";

    /// A folder with `proc` and three hierarchies.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new(cgroup: &str) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            let mut mounts = MOUNTS.to_owned();
            for name in ["one", "two", "pids"] {
                let folder = host.0.path().join(name);
                mounts = mounts.replace(&format!("{{{name}}}"), folder.to_str().unwrap());
            }
            host.write("proc/self/mountinfo", &mounts);
            host.write("proc/self/cgroup", cgroup);
            host
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn procfs(&self) -> Procfs {
            Procfs::new(self.0.path().join("proc"))
        }

        fn figures(&self) -> (Option<u64>, Option<u64>) {
            let around = Around::supervisor(&self.procfs());
            (around.limit_kib(), around.room_kib())
        }
    }

    #[test]
    fn the_tightest_cgroup2_counts() {
        let host = Host::new("0::/pod/app\n");
        assert_eq!(host.figures(), (None, None));
        host.write("two/pod/app/memory.current", "8388608\n");
        host.write("two/pod/app/memory.max", "max\n");
        host.write("two/pod/memory.current", "104857600\n");
        host.write("two/pod/memory.max", "134217728\n");
        let stat = "anon 1\nactive_file 7\ninactive_file 31457280\n";
        host.write("two/pod/memory.stat", stat);
        assert_eq!(host.figures(), (Some(128 << 10), Some(58 << 10)));
        host.write("two/pod/app/memory.max", "12582912\n");
        host.write("two/pod/app/memory.stat", "inactive_file 0\n");
        assert_eq!(host.figures(), (Some(12 << 10), Some(4 << 10)));
        host.write("two/pod/app/memory.current", "99999999\n");
        assert_eq!(host.figures().1, Some(0), "over its limit");
    }

    #[test]
    fn cgroup_v1_has_other_names() {
        let host = Host::new("4:memory:/docker/7\n0::/\n");
        host.write("one/docker/7/memory.usage_in_bytes", "4194304\n");
        host.write("one/docker/7/memory.limit_in_bytes", "8388608\n");
        host.write("one/docker/7/memory.stat", "inactive_file 1\ntotal_inactive_file 1048576\n");
        host.write("one/memory.usage_in_bytes", "4194304\n");
        host.write("one/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(host.figures(), (Some(8 << 10), Some(5 << 10)));
        host.write("one/docker/7/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(host.figures(), (None, None));
    }

    #[test]
    fn the_least_number_of_processes_counts_wherever_it_is_mounted() {
        let host = Host::new("");
        host.write("proc/7/cgroup", "3:pids:/shop\n0::/system.slice/app.service\n");
        let read = || pids_max(&host.procfs(), Pid::from_raw(7));
        assert_eq!(read(), None);
        host.write("two/system.slice/app.service/pids.max", "max\n");
        host.write("two/system.slice/pids.max", "4915\n");
        assert_eq!(read(), Some(4915));
        host.write("pids/shop/pids.max", "100\n");
        assert_eq!(read(), Some(100));
    }
}
