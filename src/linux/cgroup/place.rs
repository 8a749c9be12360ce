//! Where the supervisor stands in a hierarchy of cgroups, and the folder that it makes there.

use super::Unavailable;
use crate::core::WorkerId;
use crate::linux::procfs::{Procfs, numbers};
use nix::sys::stat::stat;
use nix::unistd::{Pid, getpid};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The supervisor's own leaf in its folder, see [`Folder::hand_on_memory`].
const SUPERVISOR: &str = "supervisor";

/// Where systemd runs the commands of a unit beside its main process, if its cgroup is delegated.
const CONTROL: &str = ".control";

/// Which tree of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// cgroup2.
    Unified,
    /// The memory controller of cgroup v1.
    Memory,
    /// The pids controller of cgroup v1.
    Pids,
}

/// The cgroup of a process in a hierarchy, nearly always the supervisor's own.
#[derive(Debug)]
pub(super) struct Own {
    pub path: PathBuf,
    /// The topmost cgroup that can be seen: a container's own root, or that of the host.
    mount_point: PathBuf,
}

impl Own {
    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`. If an earlier stanch had moved the
    /// processes of this cgroup to its own leaf (see [`Folder::hand_on_memory`]), the one above.
    pub fn find(procfs: &Procfs, hierarchy: Hierarchy) -> Result<Self, Unavailable> {
        Self::of(procfs, "self", hierarchy)
    }

    /// That of any process, in the supervisor's sight.
    pub fn of(procfs: &Procfs, pid: &str, hierarchy: Hierarchy) -> Result<Self, Unavailable> {
        let not_mounted = Unavailable::NotMounted { hierarchy: hierarchy.words() };
        // Mount points of other file systems need not be UTF-8.
        let read = |pid, name| {
            let text = fs::read(procfs.root().join(pid).join(name));
            text.map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        let (Ok(cgroup), Ok(mountinfo)) = (read(pid, "cgroup"), read("self", "mountinfo")) else {
            return Err(not_mounted);
        };
        let Some(own) = cgroup.lines().find_map(|line| hierarchy.path_in(line)) else {
            return Err(not_mounted);
        };
        let mounts: Vec<_> = mountinfo.lines().filter_map(|line| hierarchy.mount(line)).collect();
        for (number, (root, mount_point)) in mounts.iter().enumerate() {
            // A later mount on the same folder covers it.
            if mounts[number + 1..].iter().any(|(_, later)| later == mount_point) {
                continue;
            }
            // A path above the root of the cgroup namespace begins with `/..`.
            if let Ok(below) = Path::new(own).strip_prefix(root)
                && !below.starts_with("..")
            {
                let below = without_supervisor(below);
                // Without a slash at its end.
                let path = mount_point.iter().chain(below).collect();
                return Ok(Self { path, mount_point: mount_point.clone() });
            }
        }
        Err(match mounts.is_empty() {
            false => Unavailable::OutOfSight { own: own.to_owned() },
            true => not_mounted,
        })
    }

    /// Whether nothing above it can be seen.
    pub fn is_topmost(&self) -> bool {
        self.path == self.mount_point
    }

    /// It and those above it, up to the topmost that can be seen.
    pub fn upwards(&self) -> impl Iterator<Item = &Path> {
        self.path.ancestors().take_while(|path| path.starts_with(&self.mount_point))
    }

    /// Whether it is the root of the whole hierarchy, which may have processes and children at once.
    fn is_root(&self) -> bool {
        self.is_topmost() && !self.path.join("cgroup.type").exists()
    }
}

/// Where the worker of a dead supervisor is that this process belongs to.
pub(super) fn of_worker(
    procfs: &Procfs,
    pid: Pid,
    hierarchy: Hierarchy,
    worker: WorkerId,
) -> Option<PathBuf> {
    let found = Own::of(procfs, &pid.to_string(), hierarchy).ok()?;
    let name = format!("worker-{worker}");
    let own = found.upwards().find(|path| path.file_name() == Some(OsStr::new(&name)))?;
    own.parent().is_some_and(is_ours).then(|| own.to_owned())
}

/// `A` for `A/stanch-NAME.PID/supervisor`.
fn without_supervisor(path: &Path) -> &Path {
    let folder = path.parent().filter(|_| path.file_name() == Some(OsStr::new(SUPERVISOR)));
    folder.filter(|folder| is_ours(folder)).and_then(Path::parent).unwrap_or(path)
}

/// Whether a supervisor made the folder.
fn is_ours(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("stanch-"))
}

impl Hierarchy {
    fn words(self) -> &'static str {
        match self {
            Hierarchy::Unified => "cgroup2",
            Hierarchy::Memory => "cgroup v1 memory",
            Hierarchy::Pids => "cgroup v1 pids",
        }
    }

    /// The path in a line `hierarchy-ID:controllers:path`, if it is of this one; cgroup2 has ID 0 and
    /// no controllers (cgroups(7)).
    fn path_in(self, line: &str) -> Option<&str> {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let fits = match self {
            Hierarchy::Unified => id == "0" && controllers.is_empty(),
            Hierarchy::Memory => has_word(controllers, ',', "memory"),
            Hierarchy::Pids => has_word(controllers, ',', "pids"),
        };
        fits.then_some(path)
    }

    /// Root and mount point of a mountinfo line, if it is one of this hierarchy
    /// (proc_pid_mountinfo(5)): `41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2
    /// rw`, with any number of optional fields before the dash.
    fn mount(self, line: &str) -> Option<(PathBuf, PathBuf)> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (file_system, options) = (kind.next()?, kind.next_back().unwrap_or_default());
        let fits = match self {
            Hierarchy::Unified => file_system == "cgroup2",
            Hierarchy::Memory => file_system == "cgroup" && has_word(options, ',', "memory"),
            Hierarchy::Pids => file_system == "cgroup" && has_word(options, ',', "pids"),
        };
        let mut fields = mount.split(' ').skip(3);
        fits.then_some((unescape(fields.next()?), unescape(fields.next()?)))
    }
}

fn has_word(text: &str, separator: char, word: &str) -> bool {
    text.trim().split(separator).any(|part| part == word)
}

/// Undoes the kernel's octal escapes of space, tab, line end and backslash.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'\\', [a, b, c, ..]) => {
                let digits = [*a, *b, *c];
                std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok())
            }
            _ => None,
        };
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// `stanch-NAME.PID` in a cgroup, with the workers' leaves in it. Removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    pub path: PathBuf,
    /// The cgroup whose processes were moved to the supervisor's leaf, and go back there.
    emptied: Option<PathBuf>,
}

impl Folder {
    /// Makes it, and sweeps out what an earlier supervisor left empty beside it. A leaf in which
    /// processes live stays.
    pub fn make(procfs: &Procfs, above: &Path, app: &str) -> Result<Self, Unavailable> {
        let name = format!("stanch-{}", app.replace('/', "_"));
        sweep(procfs, above, &name);
        let path = above.join(format!("{name}.{}", getpid()));
        match fs::create_dir(&path) {
            // Workers of an earlier supervisor with this very pid live in it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Ok(()) => {}
            Err(source) => return Err(Unavailable::NotWritable { path, source }),
        }
        Ok(Self { path, emptied: None })
    }

    /// The one that a dead supervisor made for a worker's group: removed with its last. `None` if it is this
    /// process's own: the program that made it was another, before an upgrade.
    pub fn of_dead(group: &Path) -> Option<Self> {
        let path = group.parent().unwrap_or(group);
        let is_own = path.extension() == Some(OsStr::new(&getpid().to_string()));
        (!is_own).then(|| Self { path: path.to_owned(), emptied: None })
    }

    /// Hands the memory controller down to the leaves. The kernel allows that only in a cgroup without
    /// processes of its own: where the supervisor is alone, it moves to a leaf in this folder; so do
    /// all others in a container's root, where nobody else could make room.
    pub fn hand_on_memory(&mut self, own: &Own) -> Result<(), Unavailable> {
        if !offers(&own.path, "cgroup.controllers") {
            return Err(Unavailable::NoController { path: own.path.clone() });
        }
        if !offers(&own.path, "cgroup.subtree_control") && !own.is_root() {
            let procs = procs(&own.path).unwrap_or_default();
            let others = procs.iter().filter(|&&pid| pid != getpid()).count();
            if others > 0 && !own.is_topmost() {
                return Err(Unavailable::Shared { path: own.path.clone(), others });
            }
            self.emptied = Some(own.path.clone());
            let leaf = self.path.join(SUPERVISOR);
            let made = fs::create_dir(&leaf).or_else(|error| match error.kind() {
                ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            });
            let moved = made.and_then(|()| move_all(&own.path, &leaf));
            moved.map_err(|source| Unavailable::NotWritable { path: leaf, source })?;
        }
        // Done by the program before, in whose place this one is.
        if procs(&self.path.join(SUPERVISOR)).is_some_and(|procs| procs.contains(&getpid())) {
            self.emptied = Some(own.path.clone());
        }
        enable(&own.path)?;
        enable(&self.path)
    }

    /// The same for a folder that was made where the supervisor is not.
    pub fn hand_on_memory_from(&self, above: &Path) -> Result<(), Unavailable> {
        match offers(above, "cgroup.subtree_control") {
            true => enable(&self.path),
            false => Err(Unavailable::NoController { path: above.to_owned() }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(own) = &self.emptied {
            // In this order: a cgroup whose children have the controller keeps it, and one that hands
            // it down takes no processes. Both fail rightly while another stanch is in it.
            let _ = write(&self.path.join("cgroup.subtree_control"), b"-memory");
            let _ = write(&own.join("cgroup.subtree_control"), b"-memory");
            let _ = move_all(&self.path.join(SUPERVISOR), own);
        }
        clear(&self.path);
    }
}

/// Takes back what a dead supervisor handed on, so that its service manager can start another one in the
/// same cgroup: a cgroup that hands on controllers takes no processes, and systemd puts the main process
/// of a unit into the unit's own. To be called where systemd runs a unit's `ExecStopPost=`, in the
/// `.control` below that; false anywhere else. The groups of workers that live on lose their limits.
pub fn take_back(procfs: &Procfs) -> Result<bool, Unavailable> {
    let here = Own::find(procfs, Hierarchy::Unified)?.path;
    let Some(unit) = here.parent().filter(|_| here.file_name() == Some(OsStr::new(CONTROL))) else {
        return Ok(false);
    };
    // From below: a controller that a child hands on cannot be taken from above.
    let ours = child_folders(unit).into_iter().filter(|folder| is_ours(folder));
    for cgroup in ours.chain([unit.to_owned()]) {
        let path = cgroup.join("cgroup.subtree_control");
        let handed_on = fs::read_to_string(&path).unwrap_or_default();
        let words: Vec<String> =
            handed_on.split_whitespace().map(|controller| format!("-{controller}")).collect();
        if !words.is_empty() {
            write(&path, words.join(" ").as_bytes())
                .map_err(|source| Unavailable::NotWritable { path, source })?;
        }
    }
    Ok(true)
}

/// Whether a list of controllers has memory.
fn offers(cgroup: &Path, list: &str) -> bool {
    let text = fs::read_to_string(cgroup.join(list)).unwrap_or_default();
    has_word(&text, ' ', "memory")
}

fn enable(cgroup: &Path) -> Result<(), Unavailable> {
    let path = cgroup.join("cgroup.subtree_control");
    write(&path, b"+memory").map_err(|source| Unavailable::NotWritable { path, source })
}

/// Moves every process from one cgroup to another, also those that are born meanwhile.
fn move_all(from: &Path, to: &Path) -> io::Result<()> {
    const ROUNDS: usize = 10;
    let target = to.join("cgroup.procs");
    for _ in 0..ROUNDS {
        let procs = procs(from).unwrap_or_default();
        if procs.is_empty() {
            return Ok(());
        }
        for pid in procs {
            match write(&target, pid.to_string().as_bytes()) {
                Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
    }
    Err(io::Error::other("processes are born in it faster than they can be moved"))
}

/// Writes to a file of the kernel's. `fs::write` would ask to create a missing one, and get EPERM
/// instead of ENOENT.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(path)?.write_all(text)
}

/// The live processes of a cgroup, without those below it; `None` when it is gone.
pub(super) fn procs(cgroup: &Path) -> Option<Vec<Pid>> {
    Some(pids(&fs::read(cgroup.join("cgroup.procs")).ok()?))
}

/// Those of a list; 0 stands for a process of another pid namespace.
pub(super) fn pids(list: &[u8]) -> Vec<Pid> {
    let list = str::from_utf8(list).unwrap_or_default();
    numbers(list).filter(|&pid| pid > 0).map(Pid::from_raw).collect()
}

/// All cgroups below one, parents before children.
pub(super) fn nested(path: &Path) -> Vec<PathBuf> {
    let mut found = child_folders(path);
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        let below = child_folders(folder);
        found.extend(below);
        next += 1;
    }
    found
}

fn child_folders(path: &Path) -> Vec<PathBuf> {
    // A folder has two links and one more for each folder in it (kernfs, `kernfs_refresh_inode`): one
    // call instead of five for the usual case, at each sample.
    if stat(path).is_ok_and(|folder| folder.st_nlink == 2) {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    for folder in nested(path).iter().rev() {
        fs::remove_dir(folder)?;
    }
    fs::remove_dir(path)
}

/// Removes what supervisors left that are no more.
fn sweep(procfs: &Procfs, own: &Path, name: &str) {
    for folder in child_folders(own) {
        let file_name = folder.file_name().and_then(OsStr::to_str);
        let pid = file_name
            .and_then(|file_name| file_name.strip_prefix(name)?.strip_prefix('.')?.parse().ok())
            .map(Pid::from_raw);
        if !pid.is_some_and(|pid| pid == getpid() || procfs.identify(pid).is_none()) {
            continue;
        }
        clear(&folder);
    }
}

/// Removes a folder with its leaves, but those that are busy: they hold the workers of an earlier
/// supervisor.
fn clear(folder: &Path) {
    for leaf in child_folders(folder) {
        let _ = remove_tree(&leaf);
    }
    let _ = fs::remove_dir(folder);
}
