//! What the kernel says in files: of a process, of the host, of cgroups. One of them says something else
//! than it should, the others are as found.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use stanch::core::WorkerId;
use stanch::linux::cgroup::{Around, Leaf, memory_folders, pids_max};
use stanch::linux::evidence::{Budget, Look};
use stanch::linux::mark::Mark;
use stanch::linux::pressure;
use stanch::linux::procfs::{ProcessId, Procfs};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

const PID: i32 = 42;
/// Below the folder that stands for /proc, but those of the cgroup; `@` is that folder.
const FILES: &[(&str, &str)] = &[
    (
        "42/stat",
        "42 (no) de) S 1 42 42 0 -1 4194304 120 0 0 0 7 3 0 0 20 0 11 0 5000 1048576 2560 184467 1 1",
    ),
    (
        "42/status",
        "Name:\tnode\nVmRSS:\t 10240 kB\nRssAnon:\t 8192 kB\nRssFile:\t 2048 kB\nThreads:\t11\nSigCgt:\t0000000000004000\n",
    ),
    ("42/statm", "2560 1024 512 1 0 2 0"),
    ("42/environ", "HOME=/root\0STANCH_WORKER=1.1\0"),
    ("42/task/42/children", "43 44 "),
    (
        "42/smaps_rollup",
        "5600-7fff ---p 00000000 00:00 0 [rollup]\nRss: 10240 kB\nPss: 8192 kB\nPss_Anon: 7000 kB\nSwapPss: 0 kB\n",
    ),
    (
        "42/smaps",
        "55d0a000-55d0b000 rw-p 00000000 00:00 0 [heap]\nSize: 4 kB\nRss: 4 kB\nPrivate_Dirty: 4 kB\nSwap: 0 kB\nVmFlags: rd wr\n",
    ),
    (
        "42/limits",
        "Limit Soft Limit Hard Limit Units\nMax open files            1024                 1048576              files\n",
    ),
    ("42/cgroup", "0::/stanch-shop.7/worker-1.1\n"),
    ("42/oom_score_adj", "-500\n"),
    (
        "42/net/tcp",
        "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1\n",
    ),
    ("self/cgroup", "0::/stanch-shop.7/supervisor\n"),
    ("self/mountinfo", "30 23 0:26 / @/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"),
    ("self/status", "CapEff:\t000001ffffffffff\n"),
    ("meminfo", "MemTotal: 16384 kB\nMemAvailable: 8192 kB\nSwapFree: 0 kB\n"),
    ("vmstat", "oom_kill 3\npgfault 7\n"),
    ("uptime", "5000.50 9000.10\n"),
    ("sys/kernel/random/boot_id", "8c1f0d8e-0000-4000-8000-000000000000\n"),
    ("cgroup/memory.max", "268435456\n"),
    ("cgroup/memory.current", "1048576\n"),
    ("cgroup/memory.stat", "anon 1048576\nfile 4096\ninactive_file 4096\n"),
    ("cgroup/pids.max", "max\n"),
    ("cgroup/stanch-shop.7/worker-1.1/cgroup.procs", "42\n43\n"),
    ("cgroup/stanch-shop.7/worker-1.1/cgroup.events", "populated 1\nfrozen 0\n"),
    ("cgroup/stanch-shop.7/worker-1.1/memory.max", "max\n"),
    ("cgroup/stanch-shop.7/worker-1.1/memory.events", "low 0\nhigh 0\nmax 1\noom 1\noom_kill 1\n"),
    ("cgroup/stanch-shop.7/worker-1.1/memory.stat", "anon 1048576\nfile 4096\n"),
];

struct World {
    folder: PathBuf,
    procfs: Procfs,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder can be made").keep();
    let world = World { procfs: Procfs::new(&folder), folder };
    for (name, text) in FILES {
        let path = world.folder.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        world.write(name, &world.usual(text));
    }
    fs::create_dir_all(world.folder.join("42/fd")).expect("it can be made");
    std::os::unix::fs::symlink("socket:[77]", world.folder.join("42/fd/3"))
        .expect("it can be made");
    world
});

impl World {
    fn write(&self, name: &str, text: &[u8]) {
        fs::write(self.folder.join(name), text).expect("it can be written");
    }

    fn usual(&self, text: &str) -> Vec<u8> {
        text.replace('@', &self.folder.to_string_lossy()).into_bytes()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, text)) = input.split_first() else { return };
    let (name, usual) = FILES[usize::from(*first) % FILES.len()];
    WORLD.write(name, text);
    read(&WORLD.procfs);
    WORLD.write(name, &WORLD.usual(usual));
    let _ = Mark::parse(text);
});

fn read(procfs: &Procfs) {
    let (pid, worker) = (Pid::from_raw(PID), WorkerId::new(1, 1));
    let _ = (procfs.pids(), procfs.boot_id(), procfs.children(pid), procfs.children_of_single(pid));
    let _ = (procfs.catches(pid, Signal::SIGTERM), procfs.has_program(pid), procfs.sockets(pid));
    let _ = (procfs.share(pid), procfs.environment(pid, "STANCH_WORKER"));
    if let Some(id) = procfs.identify(pid) {
        let _ = procfs.age(id);
    }
    if let Some(files) = procfs.open(pid) {
        let _ = (files.stat(), files.memory(), files.fd_count());
    }
    let _ = (pressure::available_kib(procfs), pressure::swap_kib(procfs));
    let _ = (pressure::oom_kills(procfs), pressure::oom_score_adj(procfs, pid));
    let around = Around::supervisor(procfs);
    let _ = (around.limit_kib(), around.room_kib());
    let _ = (memory_folders(procfs, pid), pids_max(procfs, pid));
    if let Some(leaf) = Leaf::adopt(procfs, pid, worker) {
        let _ = (leaf.procs(), leaf.populated());
    }
    let tree = [ProcessId { pid, start_time_ticks: 5000 }];
    let look = Look::take(procfs, &tree, Budget::of(Duration::from_secs(5)));
    let _ = stanch::linux::evidence::growth(&look, &look);
}
