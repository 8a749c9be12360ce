//! The counters of a process's cgroups (cgroups(7), the kernel's admin-guide/cgroup-v2 and cgroup-v1).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Of cgroup v2, then of v1; short texts of names and numbers.
const FILES: [&str; 15] = [
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.high",
    "memory.swap.current",
    "memory.stat",
    "memory.events",
    "pids.current",
    "pids.max",
    "cpu.stat",
    "memory.pressure",
    "memory.usage_in_bytes",
    "memory.max_usage_in_bytes",
    "memory.limit_in_bytes",
    "memory.failcnt",
];

/// The folders of a process: `0::/a/b` is of v2, `4:memory:/a/b` that of a controller of v1.
pub(super) fn of(process: &Path, root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let folder = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let below = path.trim_start_matches('/');
        // Above the root of the cgroup namespace nothing can be seen.
        if below.starts_with("..") {
            return None;
        }
        match controllers {
            "" => Some(root.join(below)),
            "memory" => Some(root.join("memory").join(below)),
            _ => None,
        }
    };
    text.lines().filter_map(folder).collect()
}

/// What is in them now. A folder that is gone has no counters.
pub(super) fn counters(
    folders: impl IntoIterator<Item = PathBuf>,
) -> BTreeMap<PathBuf, BTreeMap<String, String>> {
    let read = |folder: PathBuf| {
        let file = |name: &&str| {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            Some(((*name).to_owned(), text.trim_end().to_owned()))
        };
        let counters: BTreeMap<String, String> = FILES.iter().filter_map(file).collect();
        (folder, counters)
    };
    folders.into_iter().map(read).collect()
}
