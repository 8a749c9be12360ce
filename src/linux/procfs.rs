//! What the kernel tells about one process: readers of `/proc/PID` (proc(5)).
//!
//! Every reader takes its root, so that tests hand in a folder with real kernel text. A process that
//! is gone, a file that may not be read and a field that this kernel does not have are all `None`,
//! never zero.
//!
//! Kernel facts that the code rests on (the times are from Linux 6.18):
//! - Opening a `/proc` file costs as much as reading it: `status` takes 6 µs through a descriptor
//!   kept open and 10 µs when reopened. [`ProcessFiles`] keeps them open for the sampler.
//! - `status` is by far the longest of the texts, and most workers stand still from one sample to the
//!   next: what `stat` says of page faults tells whether it is worth reading ([`Paging`]).
//! - A descriptor below `/proc/PID` belongs to that very process: once it is reaped, reads fail with
//!   ESRCH, also when the pid has been given to another. So a kept descriptor needs no identity check.
//! - `stat` and `status` are single-record files: one `read` into a buffer that is large enough gives
//!   the whole text. Lists (`cgroup.procs`) come in whole lines, so a read may leave some of the buffer.
//! - `comm` in `stat` is whatever the program chose, with spaces, parentheses and newlines: the fields
//!   begin after the *last* `)`.
//! - The size that `stat(2)` reports of `/proc/PID/fd` is the number of open descriptors since Linux
//!   6.2 (commit f1f1f2569901) and zero before; it needs no right to list the folder.
//! - `task/TID/children` lists by forking *thread*, so all threads have to be asked. When
//!   children come or end while it is read, one may be skipped (proc(5)); who must not miss one asks
//!   again.
//!   It needs CONFIG_PROC_CHILDREN, which all large distributions set.
//! - `smaps_rollup` walks the page tables (10.7 ms for 1 GiB) and holds the memory map's lock: it is
//!   for a slow rate only. It and `environ` need the right to ptrace the process.

use nix::sys::signal::Signal;
use nix::sys::stat::stat;
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// More of an environment than this is not searched; a program may point the kernel anywhere.
const ENVIRON_MAX_BYTES: u64 = 1 << 20;

/// The unit of times in `stat` (`USER_HZ`) is the same on all architectures that stanch runs on.
const TICKS_PER_S: f64 = 100.0;

/// A bit of `flags` in `stat` (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// Names one process for good: a pid is given to another process when it is free, but not with the
/// same start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Its pid.
    pub pid: Pid,
    /// When it was started, in clock ticks (100 a second) after boot. `execve` does not change it.
    pub start_time_ticks: u64,
}

/// Parts of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whose.
    pub id: ProcessId,
    /// `R` running, `S` sleeping, `D` in the kernel, `T` stopped, `t` traced, `Z` zombie, `X` dead.
    pub state: char,
    /// The parent.
    pub parent: Pid,
    /// The session, named by the pid of the process that began it.
    pub session: Pid,
    /// User + system time of the process and of the children that it waited for, in clock ticks (100
    /// a second).
    pub cpu_ticks: u64,
    /// Its threads.
    pub threads: u64,
    /// What its memory has been through.
    pub paging: Paging,
    /// Its first thread has begun to end: the kernel gives up memory (with the environment), files and
    /// children, in that order, and only then shows `Z`.
    pub is_exiting: bool,
}

/// Resident pages, and page faults so far. Pages do not become resident without a fault, nor go without
/// being counted: while both stand still, so does all that `status` says of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    resident: u64,
    faults: u64,
}

/// A process's environment, `NAME=VALUE` with a zero byte behind each. It may hold secrets.
pub struct Environ(Vec<u8>);

impl Environ {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.0
            .split(|&byte| byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .map(<[u8]>::to_vec)
    }

    /// Without any variable: so it looks too in the middle of an exec, between the old program's memory
    /// and the new one's.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Stat {
    /// Whether anything of it still runs. A process whose first thread has ended shows `Z` although
    /// the others go on.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x') || self.threads > 1
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let pid = text.split(|&byte| byte == b' ').next()?;
        let pid = std::str::from_utf8(pid).ok()?.parse().ok()?;
        let comm_end = text.iter().rposition(|&byte| byte == b')')?;
        let rest = std::str::from_utf8(text.get(comm_end + 1..)?).ok()?;
        // proc(5) numbers the fields from 1; `state` is the third, the resident pages the last one here.
        let mut fields = [""; 22];
        let mut words = rest.split_ascii_whitespace();
        for field in &mut fields {
            *field = words.next()?;
        }
        let number = |at: usize| fields[at - 3].parse::<u64>().ok();
        let other_pid = |at: usize| Some(Pid::from_raw(fields[at - 3].parse().ok()?));
        Some(Self {
            id: ProcessId { pid: Pid::from_raw(pid), start_time_ticks: number(22)? },
            state: fields[0].chars().next()?,
            parent: other_pid(4)?,
            session: other_pid(6)?,
            cpu_ticks: number(14)? + number(15)? + number(16)? + number(17)?,
            threads: number(20)?,
            paging: Paging { resident: number(24)?, faults: number(10)? + number(12)? },
            is_exiting: number(9)? & PF_EXITING != 0,
        })
    }
}

/// Memory of one process from `/proc/PID/status`. All are `None` for a process that has no memory
/// of its own any more: a zombie, or one that is just exiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, `VmRSS`.
    pub rss_kib: Option<u64>,
    /// Resident anonymous, `RssAnon`.
    pub rss_anon_kib: Option<u64>,
    /// Resident file mappings, `RssFile`.
    pub rss_file_kib: Option<u64>,
    /// Resident shared memory and tmpfs, `RssShmem`.
    pub rss_shmem_kib: Option<u64>,
    /// Anonymous and swapped out, `VmSwap`.
    pub vm_swap_kib: Option<u64>,
}

impl Memory {
    fn parse(text: &[u8]) -> Self {
        let mut memory = Self::default();
        for (key, kib) in sizes(text) {
            match key {
                b"VmRSS" => memory.rss_kib = Some(kib),
                b"RssAnon" => memory.rss_anon_kib = Some(kib),
                b"RssFile" => memory.rss_file_kib = Some(kib),
                b"RssShmem" => memory.rss_shmem_kib = Some(kib),
                b"VmSwap" => {
                    memory.vm_swap_kib = Some(kib);
                    // The last one, halfway through the text.
                    break;
                }
                _ => {}
            }
        }
        memory
    }
}

/// A process's proportional share of memory, from `smaps_rollup`: a page that n processes map counts
/// 1/n in each, so that a sum over all of them counts it once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Anonymous, `Pss_Anon` (Linux 5.2).
    pub anon_kib: Option<u64>,
    /// Shared memory, `Pss_Shmem` (Linux 5.2).
    pub shmem_kib: Option<u64>,
    /// Swapped out, `SwapPss`.
    pub swap_kib: Option<u64>,
}

impl Share {
    fn parse(text: &[u8]) -> Self {
        let mut share = Self::default();
        for (key, kib) in sizes(text) {
            match key {
                b"Pss_Anon" => share.anon_kib = Some(kib),
                b"Pss_Shmem" => share.shmem_kib = Some(kib),
                b"SwapPss" => share.swap_kib = Some(kib),
                _ => {}
            }
        }
        share
    }
}

/// The place where processes are read from.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

impl Default for Procfs {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl Procfs {
    /// Reads below `root`; [`Procfs::default`] is `/proc`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it reads.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The pids of all processes.
    pub fn pids(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        entries.flatten().filter_map(pid).map(Pid::from_raw).collect()
    }

    /// Names this run of the kernel: start times count from its boot.
    pub fn boot_id(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.join("sys/kernel/random/boot_id")).ok()?;
        Some(text.trim().to_owned())
    }

    /// How long ago the process was started, to a hundredth of a second.
    pub fn age(&self, id: ProcessId) -> Option<Duration> {
        let text = fs::read_to_string(self.root.join("uptime")).ok()?;
        let uptime_s: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        let started_s = id.start_time_ticks as f64 / TICKS_PER_S;
        Duration::try_from_secs_f64((uptime_s - started_s).max(0.0)).ok()
    }

    /// The full name of the process that has this pid now.
    pub fn identify(&self, pid: Pid) -> Option<ProcessId> {
        Some(self.stat(pid)?.id)
    }

    /// State, parent, session, CPU time, threads and start time.
    pub fn stat(&self, pid: Pid) -> Option<Stat> {
        Stat::parse(&self.read(pid, "stat")?)
    }

    /// Opens the files of the hot path; `None` when the process is gone.
    pub fn open(&self, pid: Pid) -> Option<ProcessFiles> {
        let folder = self.folder(pid);
        Some(ProcessFiles {
            stat: File::open(folder.join("stat")).ok()?,
            status: File::open(folder.join("status")).ok()?,
            fd: folder.join("fd"),
        })
    }

    /// The children of all threads of a process; none when it is gone.
    pub fn children(&self, pid: Pid) -> Vec<Pid> {
        let Ok(threads) = std::fs::read_dir(self.folder(pid).join("task")) else {
            return Vec::new();
        };
        threads.flatten().flat_map(|thread| children_of_thread(&thread.path())).collect()
    }

    /// The same of a process with one thread only, in a third of the time.
    pub fn children_of_single(&self, pid: Pid) -> Vec<Pid> {
        children_of_thread(&self.folder(pid).join("task").join(pid.to_string()))
    }

    /// Whether a process has a handler for a signal: bit n-1 of `SigCgt` (proc_pid_status(5)).
    pub fn catches(&self, pid: Pid, signal: Signal) -> bool {
        let caught = self.mask(&pid.to_string(), "SigCgt");
        caught.is_some_and(|caught| caught & (1 << (signal as i32 - 1)) != 0)
    }

    /// A mask of bits in the status of a process, which is named by its number or `self`.
    pub fn mask(&self, process: &str, name: &str) -> Option<u64> {
        let status = fs::read(self.root.join(process).join("status")).ok()?;
        let status = String::from_utf8_lossy(&status);
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        let (_, hex) = lines.find(|(field, _)| *field == name)?;
        u64::from_str_radix(hex.trim(), 16).ok()
    }

    /// The value of a variable in the environment that the process was started with. `None` also
    /// when the program has overwritten that memory (nginx and postgres do, for their titles).
    pub fn environment(&self, pid: Pid, name: &str) -> Option<Vec<u8>> {
        self.environ(pid)?.get(name)
    }

    /// The environment that the process was started with, as far as it is to be seen now.
    pub fn environ(&self, pid: Pid) -> Option<Environ> {
        let file = File::open(self.folder(pid).join("environ")).ok()?;
        let mut text = Vec::new();
        file.take(ENVIRON_MAX_BYTES).read_to_end(&mut text).ok()?;
        Some(Environ(text))
    }

    /// Whether the process has a program: kernel threads and zombies have none.
    pub fn has_program(&self, pid: Pid) -> bool {
        fs::read_link(self.folder(pid).join("exe")).is_ok()
    }

    /// The inodes of the sockets that a process has open, by descriptor; empty when it is gone or may
    /// not be looked into. A readlink a descriptor: not for the hot path of a process with thousands.
    pub fn sockets(&self, pid: Pid) -> HashMap<RawFd, u64> {
        let inode = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode =
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, inode))
        };
        let Ok(fds) = fs::read_dir(self.folder(pid).join("fd")) else { return HashMap::new() };
        fds.flatten().filter_map(inode).collect()
    }

    /// The proportional share; slow, see the module's documentation.
    pub fn share(&self, pid: Pid) -> Option<Share> {
        Some(Share::parse(&self.read(pid, "smaps_rollup")?))
    }

    fn folder(&self, pid: Pid) -> PathBuf {
        self.root.join(pid.to_string())
    }

    fn read(&self, pid: Pid, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder(pid).join(name)).ok()
    }
}

/// What a file of the kernel holds. It says of itself that it is empty, and makes its text anew for each
/// read: so it is asked for as much as it gives at once.
pub fn contents(path: &Path) -> io::Result<String> {
    let mut text = String::with_capacity(8 * 1024);
    // Without a look at the size.
    File::open(path)?.take(u64::MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The files of one process that are read at every sample, kept open; two descriptors.
#[derive(Debug)]
pub struct ProcessFiles {
    stat: File,
    status: File,
    // By path: a third descriptor for each process would save 1 µs.
    fd: PathBuf,
}

impl ProcessFiles {
    /// State, parent, session, CPU time, threads and start time; `None` when the process is gone.
    pub fn stat(&self) -> Option<Stat> {
        read_whole(&self.stat, Stat::parse)?
    }

    /// Memory; `None` when the process is gone.
    pub fn memory(&self) -> Option<Memory> {
        read_whole(&self.status, Memory::parse)
    }

    /// Open descriptors.
    pub fn fd_count(&self) -> Option<u64> {
        match stat(&self.fd).ok()?.st_size {
            0 => Some(std::fs::read_dir(&self.fd).ok()?.count() as u64),
            count => u64::try_from(count).ok(),
        }
    }
}

/// Reads a file of the kernel's from its start, whatever was read of it before, and hands its text on.
/// Nearly all fit into the buffer; a list may be cut short of its end by less than one pid (seq_file).
pub(super) fn read_whole<T>(file: &File, parse: impl FnOnce(&[u8]) -> T) -> Option<T> {
    const LONGEST_PID: usize = 16;
    let mut buffer = [0; 4096];
    let mut len = file.read_at(&mut buffer, 0).ok()?;
    if len + LONGEST_PID < buffer.len() {
        return Some(parse(&buffer[..len]));
    }
    let mut text = buffer.to_vec();
    loop {
        match file.read_at(&mut text[len..], len as u64).ok()? {
            0 if len < text.len() => return Some(parse(&text[..len])),
            0 => text.resize(2 * len, 0),
            read => len += read,
        }
    }
}

fn children_of_thread(folder: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(folder.join("children")).unwrap_or_default();
    numbers(&text).map(Pid::from_raw).collect()
}

/// The `Key:  123 kB` lines of a text.
fn sizes(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b" kB")?;
        let colon = line.iter().position(|&byte| byte == b':')?;
        let kib = std::str::from_utf8(&line[colon + 1..]).ok()?.trim_ascii().parse().ok()?;
        Some((&line[..colon], kib))
    })
}

/// The numbers of a list that is separated by spaces or line ends: `children`, `cgroup.procs`.
pub(super) fn numbers<T: FromStr>(text: &str) -> impl Iterator<Item = T> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A process named by its author to confuse readers of `stat`; the numbers are a real nginx's.
    const STAT: &[u8] = b"4242 (a) b (R 1 \n) S 4200 4242 4240 0 -1 4194560 1893 52011 0 12 31 17 \
        105 44 20 0 3 0 812345 73568256 2750 18446744073709551615 94325 94326 140723 0 0 0 0 \
        1073745920 402745863 0 0 0 17 1 0 0 0 0 0 94327 94328 94329 140724 140725 140726 140727 0\n";

    const STATUS: &[u8] = b"Name:\tVmRSS:\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\n\
        Groups:\t4 24 27 30 \nVmPeak:\t   71844 kB\nVmSize:\t   71844 kB\nVmHWM:\t   11000 kB\n\
        VmRSS:\t   10988 kB\nRssAnon:\t    4196 kB\nRssFile:\t    6792 kB\nRssShmem:\t       0 kB\n\
        VmData:\t   18120 kB\nVmStk:\t     132 kB\nThreads:\t3\nSigQ:\t0/96365\n";

    const SMAPS_ROLLUP: &[u8] = b"55e5e6e3a000-7ffe55914000 ---p 00000000 00:00 0      [rollup]\n\
        Rss:                1764 kB\nPss:                 354 kB\nPss_Dirty:           112 kB\n\
        Pss_Anon:            112 kB\nPss_File:            242 kB\nPss_Shmem:             3 kB\n\
        Anonymous:           200 kB\nSwap:                 90 kB\nSwapPss:              30 kB\n";

    struct Fixture {
        folder: tempfile::TempDir,
        procfs: Procfs,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let procfs = Procfs::new(folder.path());
            Self { folder, procfs }
        }

        fn write(&self, path: &str, text: &[u8]) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    const PID: Pid = Pid::from_raw(4242);

    #[test]
    fn stat_is_read_whatever_the_program_calls_itself() {
        let fixture = Fixture::new();
        fixture.write("4242/stat", STAT);
        let expected = Stat {
            id: ProcessId { pid: PID, start_time_ticks: 812_345 },
            state: 'S',
            parent: Pid::from_raw(4200),
            session: Pid::from_raw(4240),
            cpu_ticks: 31 + 17 + 105 + 44,
            threads: 3,
            paging: Paging { resident: 2750, faults: 1893 },
            is_exiting: false,
        };
        assert_eq!(fixture.procfs.stat(PID), Some(expected));
        assert_eq!(fixture.procfs.identify(PID), Some(expected.id));

        let text = String::from_utf8(STAT.to_vec()).unwrap().replace("4194560", "4194564");
        assert_eq!(Stat::parse(text.as_bytes()), Some(Stat { is_exiting: true, ..expected }));
    }

    #[test]
    fn a_text_that_is_cut_short_is_unknown() {
        let start_time = STAT.windows(6).position(|digits| digits == b"812345").unwrap();
        for length in 0..start_time {
            assert_eq!(Stat::parse(&STAT[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_zombie_is_dead_unless_other_threads_go_on() {
        let stat = Stat::parse(STAT).unwrap();
        assert!(stat.is_alive());
        assert!(Stat { state: 'Z', ..stat }.is_alive());
        assert!(!Stat { state: 'Z', threads: 1, ..stat }.is_alive());
        assert!(Stat { state: 'T', threads: 1, ..stat }.is_alive());
    }

    #[test]
    fn memory_fields_that_the_kernel_lacks_are_unknown() {
        let expected = Memory {
            rss_kib: Some(10_988),
            rss_anon_kib: Some(4196),
            rss_file_kib: Some(6792),
            rss_shmem_kib: Some(0),
            vm_swap_kib: None,
        };
        assert_eq!(Memory::parse(STATUS), expected);
    }

    #[test]
    fn kept_open_files_give_the_new_text_however_long() {
        let fixture = Fixture::new();
        fixture.write("4242/stat", STAT);
        fixture.write("4242/status", b"VmRSS:\t1 kB\n");
        let files = fixture.procfs.open(PID).unwrap();
        assert_eq!(files.memory().unwrap().rss_kib, Some(1));
        // A process of a great many groups: the line before the memory fields is long.
        let long = format!("Groups:\t{}\nVmRSS:\t2 kB\n", "65534 ".repeat(5000));
        fixture.write("4242/status", long.as_bytes());
        assert_eq!(files.memory().unwrap().rss_kib, Some(2));
        assert_eq!(files.stat(), fixture.procfs.stat(PID));
    }

    #[test]
    fn the_share_is_read_from_the_rollup() {
        let fixture = Fixture::new();
        fixture.write("4242/smaps_rollup", SMAPS_ROLLUP);
        let expected = Share { anon_kib: Some(112), shmem_kib: Some(3), swap_kib: Some(30) };
        assert_eq!(fixture.procfs.share(PID), Some(expected));
    }

    #[test]
    fn children_of_all_threads_are_found() {
        let fixture = Fixture::new();
        fixture.write("4242/task/4242/children", b"4300 4301 ");
        fixture.write("4242/task/4250/children", b"");
        fixture.write("4242/task/4251/children", b"4302 ");
        let mut children = fixture.procfs.children(PID);
        children.sort();
        assert_eq!(children, [4300, 4301, 4302].map(Pid::from_raw));
        let of_first = fixture.procfs.children_of_single(PID);
        assert_eq!(of_first, [4300, 4301].map(Pid::from_raw));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let fixture = Fixture::new();
        fixture
            .write("4242/environ", b"PATH=/bin\0XMARK=no\0MARKER=no\0MARK=app:0.1=x\0MARK=late\0");
        let value = |name| fixture.procfs.environment(PID, name);
        assert_eq!(value("MARK"), Some(b"app:0.1=x".to_vec()));
        assert_eq!(value("MAR"), None);
        fixture.write("4242/environ", b"nginx: worker process\0\0\0");
        assert_eq!(value("MARK"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_unknown() {
        let procfs = Fixture::new().procfs;
        assert_eq!(procfs.identify(PID), None);
        assert!(procfs.open(PID).is_none());
        assert_eq!(procfs.share(PID), None);
        assert_eq!(procfs.environment(PID, "MARK"), None);
        assert!(procfs.children(PID).is_empty());
    }

    #[test]
    fn this_kernel_agrees() {
        let procfs = Procfs::default();
        let me = nix::unistd::getpid();
        let stat = procfs.stat(me).unwrap();
        assert_eq!(stat.parent, nix::unistd::getppid());
        assert_eq!(stat.session, nix::unistd::getsid(None).unwrap());
        assert!(stat.is_alive());
        let files = procfs.open(me).unwrap();
        let memory = files.memory().unwrap();
        assert!(memory.rss_anon_kib.unwrap() <= memory.rss_kib.unwrap());
        assert!(procfs.share(me).unwrap().anon_kib.unwrap() > 0);
        let before = files.fd_count().unwrap();
        let _more = [(); 5].map(|()| fs::File::open("/dev/null").unwrap());
        assert_eq!(files.fd_count(), Some(before + 5));
    }
}
