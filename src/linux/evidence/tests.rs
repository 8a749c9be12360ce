use super::*;
use crate::core::Grown;
use nix::unistd::getpid;
use proptest::prelude::*;
use std::os::unix::fs::symlink;

const SMAPS: &str = "\
55e0c5a00000-55e0c5a2a000 r--p 00000000 fe:01 1049 /usr/bin/node with space
Size:                168 kB
KernelPageSize:        4 kB
Rss:                 168 kB
Pss:                  84 kB
Anonymous:             0 kB
SwapPss:               0 kB
VmFlags: rd mr mw me sd
55e0c6000000-55e0c6100000 rw-p 00000000 00:00 0                          [heap]
Size:               1024 kB
Rss:                 900 kB
Pss:                 900 kB
Anonymous:           900 kB
SwapPss:             100 kB
7f0000000000-7f0000400000 rw-p 00000000 00:00 0 \nSize:               4096 kB
Rss:                4000 kB
Pss:                4000 kB
Anonymous:          4000 kB
7f0001000000-7f0001400000 rw-p 00000000 00:00 0
Size:               4096 kB
Pss:                   4 kB
7f0002000000-7f0002400000 rw-s 00000000 00:01 7 /dev/shm/psm_x (deleted)
Size:               4096 kB
Pss:                 512 kB
7f0003000000-7f0003400000 rw-p 00000000 00:00 0 [anon:v8 code]
Pss:                  64 kB
7ffd5a000000-7ffd5a021000 rw-p 00000000 00:00 0                          [stack]
Pss:                  16 kB
7ffd5a1fe000-7ffd5a200000 r-xp 00000000 00:00 0                          [vdso]
Pss:                   1 kB
";

const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 102 1 0 20 4 30 10 -1
   2: 0100007F:C002 0A00000A:1538 08 00000000:00000000 00:00000000 00000000     0        0 103 1 0 20 4 30 10 -1
   3: 0100007F:C004 0A00000A:1538 01 00000000:00000000 00:00000000 00000000     0        0 999 1 0 20 4 30 10 -1
";

const UNIX: &str = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 104 /run/app.sock
0000000000000000: 00000003 00000000 00000000 0001 03 105
";

fn budget() -> Budget {
    Budget::of(Duration::from_secs(60))
}

/// A process on paper, with children that are only numbers.
struct Paper(tempfile::TempDir);

impl Paper {
    fn new() -> Self {
        let paper = Self(tempfile::tempdir().unwrap());
        paper.write("7/stat", "7 (node) S 1 7 7 0 -1 0 0 0 0 0 1 1 0 0 20 0 2 0 77 9 9");
        paper.write("7/task/7/stat", "7 (node) S 1 7 7 0 -1 0 0 0 0 0 1 1 0 0 20 0 2 0 77 9 9");
        paper.write("7/task/8/stat", "8 (libuv) R 1 7 7 0 -1 0 0 0 0 0 1 1 0 0 20 0 2 0 77 9 9");
        // It calls itself as it likes, and its second thread has that from it.
        paper.write("7/task/7/comm", "shop hunter2\n");
        paper.write("7/task/9/comm", "shop hunter2\n");
        std::os::unix::fs::symlink("/usr/bin/node (deleted)", paper.0.path().join("7/exe"))
            .unwrap();
        paper.write("7/task/8/comm", "libuv-worker\n");
        paper.write("7/task/7/wchan", "ep_poll");
        paper.write("7/task/8/wchan", "0");
        paper.write("7/comm", "shop hunter2\n");
        paper.write("7/environ", "TOKEN=hunter2\0");
        paper.write("7/cmdline", "node\0--password=hunter2\0");
        paper.write("7/smaps", SMAPS);
        paper.write("7/limits", "Limit                     Soft Limit           Hard Limit           Units\nMax open files            1024                 524288               files     \n");
        paper.write("7/cgroup", "4:memory:/app\n2:cpu:/app\n0::/app/leaf\n");
        let cgroups = paper.0.path().join("cgroup");
        let cgroups = cgroups.display();
        let mounts = format!(
            "41 31 0:38 / {cgroups} rw - cgroup2 cgroup2 rw\n35 31 0:32 / {cgroups}/memory rw - cgroup cgroup rw,memory\n"
        );
        paper.write("self/mountinfo", &mounts);
        paper.write("7/net/tcp", TCP);
        paper.write("7/net/unix", UNIX);
        paper.write("cgroup/app/leaf/memory.stat", "anon 4096\nfile 0\n");
        paper.write("cgroup/memory/app/memory.failcnt", "3\n");
        std::fs::create_dir(paper.0.path().join("7/fd")).unwrap();
        let links = [
            "socket:[101]",
            "socket:[102]",
            "socket:[103]",
            "socket:[104]",
            "socket:[105]",
            "socket:[777]",
            "pipe:[1]",
            "pipe:[1]",
            "anon_inode:[eventpoll]",
            "/memfd:jit (deleted)",
            "/dev/null",
            "/var/log/app/a.log",
            "/var/log/app/b.log",
            "/tmp/x (deleted)",
        ];
        for (fd, target) in links.iter().enumerate() {
            symlink(target, paper.0.path().join(format!("7/fd/{fd}"))).unwrap();
        }
        paper
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn look(&self, budget: Budget) -> Look {
        let procfs = Procfs::new(self.0.path());
        let id = procfs.identify(Pid::from_raw(7)).unwrap();
        Look::take(&procfs, &[id], budget)
    }
}

#[test]
fn memory_is_told_by_kind_and_name() {
    let look = Paper::new().look(budget());
    let told: Vec<(String, u64)> =
        look.mappings.iter().map(|mapping| (mapping.words(), mapping.held_kib())).collect();
    let told: Vec<(&str, u64)> = told.iter().map(|(what, kib)| (what.as_str(), *kib)).collect();
    assert_eq!(
        told,
        [
            ("anonymous memory", 4004),
            ("heap", 1000),
            ("shared memory /dev/shm/psm_x (deleted)", 512),
            ("/usr/bin/node with space", 84),
            ("anonymous memory v8 code", 64),
            ("stack", 16),
            ("the kernel's pages", 1),
        ]
    );
    assert_eq!(look.mappings[0].count, 2);
    assert_eq!(look.memory_kib["Rss"], 168 + 900 + 4000);
    assert!(!look.memory_kib.contains_key("KernelPageSize"));
    assert_eq!(look.processes[0].pss_kib, Some(84 + 1000 + 4004 + 512 + 64 + 16 + 1));
}

#[test]
fn descriptors_are_told_by_kind_and_state() {
    let look = Paper::new().look(budget());
    let told: Vec<(&str, u64)> =
        look.descriptors.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(
        told,
        [
            ("deleted file in /tmp", 1),
            ("device /dev/null", 1),
            ("eventpoll", 1),
            ("file in /var/log/app", 2),
            ("memfd jit", 1),
            ("pipe", 2),
            ("socket", 1),
            ("tcp close_wait to port 5432", 1),
            ("tcp established on port 8080", 1),
            ("tcp listening on 8080", 1),
            ("unix stream", 1),
            ("unix stream listening", 1),
        ]
    );
}

#[test]
fn threads_limits_and_counters_are_told_and_no_secrets() {
    let look = Paper::new().look(budget());
    let process = &look.processes[0];
    assert_eq!(process.name, "node");
    assert_eq!(process.thread_names["libuv-worker"], 1);
    assert_eq!(process.thread_names["node"], 2);
    assert_eq!(process.thread_states["S ep_poll"], 1);
    assert_eq!(process.thread_states["R"], 1);
    assert_eq!(look.limits["Max open files"], "1024 524288 files");
    let counters: BTreeMap<&str, &str> = look
        .cgroups
        .values()
        .flatten()
        .map(|(file, text)| (file.as_str(), text.as_str()))
        .collect();
    assert_eq!(
        counters,
        BTreeMap::from([("memory.failcnt", "3"), ("memory.stat", "anon 4096\nfile 0"),])
    );
    assert_eq!(look.incomplete, [""; 0]);
    let text = serde_json::to_string(&look).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn what_grew_is_told_the_most_first() {
    let paper = Paper::new();
    let then = paper.look(budget()).into_baseline();
    paper.write(
        "7/smaps",
        &SMAPS
            .replace("Pss:                4000 kB", "Pss:   90000 kB")
            .replace("Pss:                  84 kB", "Pss:   1084 kB"),
    );
    for fd in 100..150 {
        symlink("pipe:[9]", paper.0.path().join(format!("7/fd/{fd}"))).unwrap();
    }
    let grew = growth(&then, &paper.look(budget()));
    let told: Vec<_> = grew.iter().map(|growth| (growth.what.as_str(), growth.by)).collect();
    assert_eq!(
        told,
        [("anonymous memory", 86_000), ("/usr/bin/node with space", 1000), ("pipe", 50)]
    );
    assert_eq!(grew[2].grown, Grown::Descriptors);
    assert!(growth(&then, &then).is_empty());
}

#[test]
fn a_look_without_time_says_so() {
    let look = Paper::new().look(Budget::of(Duration::ZERO));
    assert_eq!(look.incomplete, ["1 of 1 processes: no time"]);
}

#[test]
fn this_process_is_seen() {
    let procfs = Procfs::default();
    let id = procfs.identify(getpid()).unwrap();
    let look = Look::take(&procfs, &[id], budget());
    assert!(look.mappings.iter().any(|mapping| mapping.kind == Kind::Anonymous), "{look:?}");
    assert!(look.memory_kib["Rss"] > 100 && look.incomplete.is_empty(), "{look:?}");
    assert!(!look.descriptors.is_empty() && !look.limits.is_empty());
}

#[test]
fn many_names_are_told_together() {
    let mut mappings = Mappings::default();
    for number in 0..5000 {
        let text =
            format!("{number:x}-{:x} r--p 0 0 0 /f{number}\nPss: {} kB\n", number + 1, number);
        mappings.add(text.as_bytes(), budget()).unwrap();
    }
    let (_, told) = mappings.into_parts(NAMED_MAX);
    assert_eq!(told.len(), NAMED_MAX);
    let sum: u64 = told.iter().map(Mapping::held_kib).sum();
    assert_eq!(sum, (0..5000u64).sum::<u64>());
}

/// What a look costs; `cargo test --release --lib cost_of_a_look -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_look() {
    let memory = vec![1u8; 1 << 30];
    let open: Vec<_> = (0..900).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let procfs = Procfs::default();
    let id = procfs.identify(getpid()).unwrap();
    let mut took: Vec<Duration> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            Look::take(&procfs, &[id], budget());
            begun.elapsed()
        })
        .collect();
    took.sort();
    let (mib, descriptors) = (memory.len() >> 20, open.len());
    println!("{mib} MiB, {descriptors} descriptors: median {:?}, most {:?}", took[10], took[19]);
}

proptest! {
    #[test]
    fn garbage_does_no_harm(text in "(?s)([0-9a-f]{1,4}-[0-9a-f]{1,4} [rwxps-]{4} .{0,30}\n|[A-Z][a-z]{1,6}:.{0,20}kB\n|.{0,40}\n?){0,20}") {
        let mut mappings = Mappings::default();
        let _ = mappings.add(text.as_bytes(), budget());
        let _ = mappings.into_parts(3);
        let mut open = descriptors::Descriptors::default();
        text.lines().for_each(|line| open.add(line));
        let _ = limits(&text);
        let paper = Paper::new();
        for file in ["7/smaps", "7/limits", "7/cgroup", "7/net/tcp", "7/net/unix", "7/task/7/stat"] {
            paper.write(file, &text);
        }
        let _ = paper.look(budget());
    }
}

/// As the kernel lists it when it grows between two reads.
#[test]
fn a_mapping_that_is_listed_twice_counts_once() {
    let text = "1000-2000 rw-p 00000000 00:00 0 [heap]\nPss: 4 kB\nAnonymous: 4 kB\n\
                1000-4000 rw-p 00000000 00:00 0 [heap]\nPss: 12 kB\nAnonymous: 12 kB\n\
                4000-5000 rw-p 00000000 00:00 0 \nPss: 4 kB\nAnonymous: 4 kB\n";
    let mut mappings = mappings::Mappings::default();
    let held = mappings.add(text.as_bytes(), Budget::of(Duration::from_secs(9))).unwrap();
    assert_eq!(held, Some(8));
    let (sums, _) = mappings.into_parts(9);
    assert_eq!(sums["Anonymous"], 8);
}
