//! The counters of a process's cgroups (cgroups(7), the kernel's admin-guide/cgroup-v2 and cgroup-v1).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

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
