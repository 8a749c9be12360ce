use super::*;
use nix::unistd::getpid;

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
fn what_a_dead_supervisor_handed_on_is_taken_back_in_its_unit_only() {
    let fixture = Fixture::new("0::/system.slice/app.service/.control\n", HYBRID);
    let unit = fixture.path("system.slice/app.service");
    let folders = ["", ".control", "stanch-app.7", "stanch-app.7/worker-0.1"];
    for folder in folders {
        fs::create_dir_all(unit.join(folder)).unwrap();
        fs::write(unit.join(folder).join("cgroup.subtree_control"), "memory pids\n").unwrap();
    }
    let handed_on = |folder: &str| {
        fs::read_to_string(unit.join(folder).join("cgroup.subtree_control")).unwrap()
    };
    assert!(take_back(&fixture.procfs).unwrap());
    // A file of a file system keeps what is beyond the end of what is written to it.
    assert_eq!(
        folders.map(|folder| handed_on(folder).starts_with('-')),
        [true, false, true, false]
    );
    assert!(handed_on("").starts_with("-memory -pids"));
    fs::write(fixture.folder.path().join("proc/self/cgroup"), "0::/system.slice/app.service\n")
        .unwrap();
    fs::write(unit.join("cgroup.subtree_control"), "memory\n").unwrap();
    assert!(!take_back(&fixture.procfs).unwrap());
    assert_eq!(handed_on(""), "memory\n");
}

#[test]
fn a_mount_that_shows_a_part_is_followed() {
    let part = "41 31 0:38 /system.slice {mount} rw - cgroup2 cgroup2 rw\n";
    let fixture = Fixture::new("0::/system.slice/system.slice/app.service\n", part);
    assert_eq!(
        Own::find(&fixture.procfs, Hierarchy::Unified).unwrap().path,
        fixture.path("system.slice/app.service")
    );
}

#[test]
fn a_mount_that_another_covers_is_not_looked_at() {
    let covered = HYBRID.replace("{mount}", "/sys/fs/cgroup");
    let part = "42 31 0:38 /system.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let fixture = Fixture::new("0::/system.slice\n", &format!("{covered}{part}"));
    let own = Own::find(&fixture.procfs, Hierarchy::Unified).unwrap();
    assert_eq!((own.path.clone(), own.is_topmost()), (PathBuf::from("/sys/fs/cgroup"), true));
}

#[test]
fn who_was_moved_to_the_leaf_of_an_earlier_supervisor_is_at_home_above() {
    let cgroup = "4:memory:/box\n0::/system.slice/app.service/stanch-shop.7/supervisor\n";
    let fixture = Fixture::new(cgroup, HYBRID);
    let own = Own::find(&fixture.procfs, Hierarchy::Unified).unwrap();
    assert_eq!(
        (own.path.clone(), own.is_topmost()),
        (fixture.path("system.slice/app.service"), false)
    );
    let v1 = Own::find(&fixture.procfs, Hierarchy::Memory).unwrap();
    assert_eq!(v1.path, PathBuf::from("/sys/fs/cgroup/memory/box"));
}

#[test]
fn why_memory_cannot_be_handed_on_is_told() {
    let fixture = Fixture::new(OWN, HYBRID);
    let leaves = Leaves::open(&fixture.procfs, "app").unwrap();
    assert!(matches!(leaves.without_memory(), Some(Unavailable::NoController { .. })));
    drop(leaves);
    let own = fixture.path("system.slice/app.service");
    fs::write(own.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    fs::write(own.join("cgroup.subtree_control"), "\n").unwrap();
    fs::write(own.join("cgroup.procs"), format!("1\n{}\n3\n", getpid())).unwrap();
    let leaves = Leaves::open(&fixture.procfs, "app").unwrap();
    assert!(matches!(leaves.without_memory(), Some(Unavailable::Shared { others: 2, .. })));
}

#[test]
fn why_there_can_be_no_leaves_is_told() {
    let refuse = |cgroup: &str, mountinfo: &str| {
        let fixture = Fixture::new(cgroup, mountinfo);
        Leaves::open(&fixture.procfs, "app").unwrap_err()
    };
    let v1 = "35 31 0:32 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory\n";
    assert!(matches!(refuse(OWN, v1), Unavailable::NotMounted { .. }));
    assert!(matches!(refuse("4:memory:/x\n", HYBRID), Unavailable::NotMounted { .. }));
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
    let stat = "98 (stanch) S 1 98 98 0 -1 0 0 0 0 0 1 1 0 0 20 0 1 0 98 9 9";
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
    let leaf = Leaf { path: path.clone(), procs: OnceLock::new(), _folder: None };
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
