//! A cgroup of its own for each worker, in the cgroup2 hierarchy that the supervisor lives in.
//!
//! Even without any controller (a hybrid host, where memory belongs to cgroup v1) a cgroup knows the
//! processes of a worker for certain, whatever they fork, daemonize or overwrite, and can kill them
//! all at once.
//!
//! The layout is `OWN/stanch-NAME.PID/worker-SLOT.GENERATION`, where PID is the supervisor's (two of
//! them may have applications of the same name) and OWN is the supervisor's own cgroup:
//! the `0::` line of `/proc/self/cgroup`, found in the file system by the `cgroup2` line of
//! `/proc/self/mountinfo`. This works as root, in a container whose cgroup file system is writable,
//! and below a unit with `Delegate=yes`. Else [`Leaves::open`] says why not, and the tree is known by
//! kinship only.
//!
//! Kernel facts (Documentation/admin-guide/cgroup-v2.rst):
//! - "No internal processes" forbids a cgroup with processes to hand *controllers* to its children.
//!   Children without controllers are fine, so the supervisor stays in OWN beside its folder. Who
//!   wants to enable controllers here has to move the supervisor to a leaf of its own first.
//! - A worker is born in its leaf ([`spawn`](super::spawn)). Where the kernel cannot do that it is
//!   moved before it runs: the launcher waits for its plan meanwhile. Both need the right to write `cgroup.procs` of the
//!   target and of the common ancestor, which is OWN.
//! - `cgroup.procs` lists no zombies, and it is unordered. In the subtree of a threaded cgroup reading
//!   it fails with EOPNOTSUPP; the processes are then listed by the threaded domain above.
//! - Writing `1` to `cgroup.kill` (Linux 5.14) kills the whole subtree and holds against concurrent
//!   forks.
//! - `rmdir` removes a cgroup without live processes and children, its files notwithstanding; EBUSY
//!   otherwise. A worker that is root can make cgroups of its own below its leaf.
//! - A process may leave its leaf when it has the rights: `pam_systemd` moves what `su -` starts.

use super::procfs::{Procfs, numbers};
use crate::core::WorkerId;
use nix::unistd::{Pid, getpid};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why workers get no cgroup of their own.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// No cgroup2 at all.
    #[error("no cgroup2 file system is mounted here")]
    NotMounted,
    /// The mount shows another part of the hierarchy.
    #[error("the supervisor's own cgroup {own} is outside of what is mounted")]
    OutOfSight {
        /// As `/proc/self/cgroup` has it.
        own: String,
    },
    /// Not allowed to make cgroups.
    #[error("cannot make the cgroup {}", path.display())]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Unavailable {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Unavailable::NotMounted => {
                "boot with cgroup2 (systemd.unified_cgroup_hierarchy=1), or mount it into the container"
            }
            Unavailable::OutOfSight { .. } => {
                "start the container with a cgroup namespace of its own (docker run \
                 --cgroupns=private)"
            }
            Unavailable::NotWritable { .. } => {
                "set Delegate=yes in the systemd unit; in a container make /sys/fs/cgroup writable \
                 (podman run --security-opt unmask=/sys/fs/cgroup, docker run --privileged)"
            }
        }
    }
}

/// What went wrong with a worker's leaf.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It could not be made.
    #[error("cannot make the cgroup {} of worker {worker}", path.display())]
    Create {
        /// Whose.
        worker: WorkerId,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A process could not be moved into it.
    #[error("cannot move process {pid} into the cgroup {}", path.display())]
    Add {
        /// Which process.
        pid: Pid,
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It could not be removed: processes still live in it.
    #[error("cannot remove the cgroup {}", path.display())]
    Remove {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The place below which the workers' leaves are made. Removed when it and all its leaves are dropped.
#[derive(Debug)]
pub struct Leaves {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

impl Leaves {
    /// Makes `stanch-APP.PID` in the supervisor's own cgroup and sweeps out what an earlier supervisor
    /// left empty there. A leaf in which processes live stays.
    pub fn open(procfs: &Procfs, app: &str) -> Result<Self, Unavailable> {
        let own = own_cgroup(procfs)?;
        let name = format!("stanch-{}", app.replace('/', "_"));
        sweep(procfs, &own, &name);
        let path = own.join(format!("{name}.{}", getpid()));
        match fs::create_dir(&path) {
            // Workers of an earlier supervisor with this very pid live in it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Ok(()) => {}
            Err(source) => return Err(Unavailable::NotWritable { path, source }),
        }
        Ok(Self { folder: Arc::new(Folder { path }) })
    }

    /// Makes the leaf of a worker. Fails if there is one, because foreign processes live in it.
    pub fn create(&self, worker: WorkerId) -> Result<Leaf, CgroupError> {
        let path = self.folder.path.join(format!("worker-{worker}"));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Leaf { path, _folder: Some(Arc::clone(&self.folder)) }),
            Err(source) => Err(CgroupError::Create { worker, path, source }),
        }
    }
}

/// The cgroup of one worker. Removed on drop, if it is empty then.
#[derive(Debug)]
pub struct Leaf {
    path: PathBuf,
    /// Goes after it: a field is dropped behind its struct.
    _folder: Option<Arc<Folder>>,
}

impl Leaf {
    /// Its folder, as `clone3` wants it.
    pub fn folder(&self) -> io::Result<OwnedFd> {
        fs::File::open(&self.path).map(OwnedFd::from)
    }

    /// Moves a process, with all its threads, into the leaf. Its children of before stay where they
    /// are.
    pub fn add(&self, pid: Pid) -> Result<(), CgroupError> {
        fs::write(self.path.join("cgroup.procs"), pid.to_string())
            .map_err(|source| CgroupError::Add { pid, path: self.path.clone(), source })
    }

    /// The live processes of the leaf and of the cgroups below it. `None` when it is gone.
    pub fn procs(&self) -> Option<Vec<Pid>> {
        let mut pids = read_procs(&self.path)?;
        for nested in nested(&self.path) {
            // Gone meanwhile, or threaded and so listed above.
            pids.extend(read_procs(&nested).unwrap_or_default());
        }
        Some(pids)
    }

    /// Has the kernel kill everything in it at once. False where it cannot (before Linux 5.14).
    pub fn kill(&self) -> bool {
        // Opened without creating: `fs::write` would ask for that and get EPERM instead of ENOENT.
        fs::OpenOptions::new()
            .write(true)
            .open(self.path.join("cgroup.kill"))
            .and_then(|mut file| io::Write::write_all(&mut file, b"1"))
            .is_ok()
    }

    /// Whether live processes are in it or below it; `None` when it is gone.
    pub fn populated(&self) -> Option<bool> {
        let events = fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        let value = events.lines().find_map(|line| line.strip_prefix("populated "))?;
        Some(value.trim() != "0")
    }

    /// Removes it with the empty cgroups that the worker made below it. Fails with EBUSY while a
    /// process lives in one of them.
    pub fn remove(&self) -> Result<(), CgroupError> {
        match remove_tree(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(CgroupError::Remove { path: self.path.clone(), source: error })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

fn read_procs(path: &Path) -> Option<Vec<Pid>> {
    let text = fs::read_to_string(path.join("cgroup.procs")).ok()?;
    // 0 stands for a process of another pid namespace.
    Some(numbers(&text).filter(|&pid| pid > 0).map(Pid::from_raw).collect())
}

/// All cgroups below one, parents before children.
fn nested(path: &Path) -> Vec<PathBuf> {
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
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_tree(path: &Path) -> io::Result<()> {
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
        // Busy ones hold the workers of an earlier supervisor.
        for leaf in child_folders(&folder) {
            let _ = remove_tree(&leaf);
        }
        let _ = fs::remove_dir(&folder);
    }
}

/// The folder of the supervisor's own cgroup.
fn own_cgroup(procfs: &Procfs) -> Result<PathBuf, Unavailable> {
    let folder = procfs.root().join("self");
    // Mount points of other file systems need not be UTF-8.
    let read = |name| match fs::read(folder.join(name)) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(_) => Err(Unavailable::NotMounted),
    };
    let cgroup = read("cgroup")?;
    // "hierarchy-ID:controllers:path"; cgroup2 has ID 0 and no controllers (cgroups(7)).
    let own =
        cgroup.lines().find_map(|line| line.strip_prefix("0::")).ok_or(Unavailable::NotMounted)?;
    let mountinfo = read("mountinfo")?;
    let mut mounted = false;
    for (root, mount_point) in mountinfo.lines().filter_map(cgroup2_mount) {
        mounted = true;
        // A path above the root of the cgroup namespace begins with `/..`.
        if let Ok(below) = Path::new(own).strip_prefix(&root)
            && !below.starts_with("..")
        {
            return Ok(mount_point.join(below));
        }
    }
    Err(match mounted {
        true => Unavailable::OutOfSight { own: own.to_owned() },
        false => Unavailable::NotMounted,
    })
}

/// Root and mount point of a mountinfo line, if it is one of cgroup2 (proc_pid_mountinfo(5)):
/// `41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw`, with any number of
/// optional fields before the dash.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next()? != "cgroup2" {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with systemd in hybrid mode.
    const HYBRID: &str = "23 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory\n\
        41 31 0:38 / {mount} rw,relatime shared:9 master:2 - cgroup2 cgroup2 rw\n";

    struct Fixture {
        folder: tempfile::TempDir,
        procfs: Procfs,
    }

    impl Fixture {
        fn new(cgroup: &str, mountinfo: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mount = folder.path().join("cgroup two");
            fs::create_dir_all(mount.join("system.slice/app.service")).unwrap();
            fs::create_dir_all(folder.path().join("proc/self")).unwrap();
            let escaped = mount.to_str().unwrap().replace(' ', "\\040");
            let mountinfo = mountinfo.replace("{mount}", &escaped);
            fs::write(folder.path().join("proc/self/cgroup"), cgroup).unwrap();
            fs::write(folder.path().join("proc/self/mountinfo"), mountinfo).unwrap();
            let procfs = Procfs::new(folder.path().join("proc"));
            Self { folder, procfs }
        }

        fn path(&self, below: &str) -> PathBuf {
            self.folder.path().join("cgroup two").join(below)
        }
    }

    const OWN: &str = "9:name=systemd:/elsewhere\n4:memory:/x\n0::/system.slice/app.service\n";

    #[test]
    fn leaves_are_made_in_the_own_cgroup() {
        let fixture = Fixture::new(OWN, HYBRID);
        let leaves = Leaves::open(&fixture.procfs, "shop/web").unwrap();
        let leaf = leaves.create(WorkerId::new(2, 17)).unwrap();
        let folder = format!("system.slice/app.service/stanch-shop_web.{}", getpid());
        let path = fixture.path(&folder).join("worker-2.17");
        assert!(path.is_dir());
        drop(leaf);
        drop(leaves);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn a_mount_that_shows_a_part_is_followed() {
        let part = "41 31 0:38 /system.slice {mount} rw - cgroup2 cgroup2 rw\n";
        let fixture = Fixture::new("0::/system.slice/system.slice/app.service\n", part);
        assert_eq!(own_cgroup(&fixture.procfs).unwrap(), fixture.path("system.slice/app.service"));
    }

    #[test]
    fn why_there_can_be_no_leaves_is_told() {
        let refuse = |cgroup: &str, mountinfo: &str| {
            let fixture = Fixture::new(cgroup, mountinfo);
            Leaves::open(&fixture.procfs, "app").unwrap_err()
        };
        let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory\n";
        assert!(matches!(refuse(OWN, v1), Unavailable::NotMounted));
        assert!(matches!(refuse("4:memory:/x\n", HYBRID), Unavailable::NotMounted));
        let other = "41 31 0:38 /docker {mount} rw - cgroup2 cgroup2 rw\n";
        assert!(matches!(refuse(OWN, other), Unavailable::OutOfSight { .. }));
        assert!(matches!(refuse("0::/../other\n", HYBRID), Unavailable::OutOfSight { .. }));
        assert!(matches!(refuse("0::/gone\n", HYBRID), Unavailable::NotWritable { .. }));
    }

    #[test]
    fn what_an_earlier_supervisor_left_is_swept_unless_it_is_busy() {
        let fixture = Fixture::new(OWN, HYBRID);
        let path = fixture.path("system.slice/app.service/stanch-app.99");
        let other = fixture.path("system.slice/app.service/stanch-app.98");
        fs::create_dir_all(&other).unwrap();
        fs::create_dir_all(fixture.folder.path().join("proc/98")).unwrap();
        let stat = "98 (stanch) S 1 98 98 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 98";
        fs::write(fixture.folder.path().join("proc/98/stat"), stat).unwrap();
        fs::create_dir_all(path.join("worker-0.1/own/deeper")).unwrap();
        fs::create_dir_all(path.join("worker-1.4")).unwrap();
        // Outside of the kernel a folder is busy when it holds a file.
        fs::write(path.join("worker-1.4/cgroup.procs"), "4242\n").unwrap();
        let leaves = Leaves::open(&fixture.procfs, "app").unwrap();
        assert!(!path.join("worker-0.1").exists());
        assert!(path.join("worker-1.4").exists());
        assert!(other.exists(), "its supervisor lives");
        let _ours = leaves.create(WorkerId::new(1, 4)).unwrap();
        let refused = leaves.create(WorkerId::new(1, 4)).unwrap_err();
        assert!(matches!(refused, CgroupError::Create { .. }));
    }

    #[test]
    fn the_files_of_a_leaf_are_read() {
        let fixture = Fixture::new(OWN, HYBRID);
        let path = fixture.path("leaf");
        fs::create_dir_all(path.join("own/deeper")).unwrap();
        let leaf = Leaf { path: path.clone(), _folder: None };
        assert_eq!(leaf.procs(), None);
        assert_eq!(leaf.populated(), None);
        assert!(!leaf.kill());
        fs::write(path.join("cgroup.procs"), "12\n0\n4242\n").unwrap();
        fs::write(path.join("own/deeper/cgroup.procs"), "77\n").unwrap();
        fs::write(path.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert_eq!(leaf.procs(), Some([12, 4242, 77].map(Pid::from_raw).to_vec()));
        assert_eq!(leaf.populated(), Some(true));
        fs::write(path.join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert_eq!(leaf.populated(), Some(false));
        fs::write(path.join("cgroup.kill"), "").unwrap();
        assert!(leaf.kill());
        assert_eq!(fs::read_to_string(path.join("cgroup.kill")).unwrap(), "1");
        assert!(matches!(leaf.remove(), Err(CgroupError::Remove { .. })));
    }
}
