//! A virtual machine: Debian's cloud kernel (`tests/install` unpacks it), busybox, the programs under
//! test with their libraries, and a script that runs steps and tells their outcome over a serial line.
//!
//! Emulated (`-accel tcg`), so that it works where there is no KVM; it boots in some five seconds.

use crate::common::installed;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than all steps of a room take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// The guest's folder of steps.
const STEPS: &str = "steps";

/// A machine to be.
pub struct Machine {
    initramfs: Initramfs,
    memory_mib: u32,
    /// An image that the guest sees as `/dev/nvme0n1`.
    disk: Option<PathBuf>,
    /// Words for the guest's `/proc/cmdline`.
    words: String,
    /// Programs as they go into the guest.
    stripped: TempDir,
}

/// What a step said.
#[derive(Debug)]
struct Step {
    name: String,
    ok: bool,
    output: String,
}

impl Machine {
    /// One with busybox and the script that runs the steps.
    pub fn new() -> Self {
        let mut initramfs = Initramfs::default();
        for folder in
            ["bin", "dev", "proc", "sys", "run", "tmp", "mnt", "root", "etc", "lib", "lib64", STEPS]
        {
            initramfs.folder(folder);
        }
        initramfs.program("bin/busybox", Path::new(&installed("vm/busybox")));
        for (name, file) in [
            ("init", "init"),
            ("run-steps", "run-steps"),
            ("lib.sh", "lib.sh"),
            ("etc/passwd", "passwd"),
            ("etc/group", "group"),
        ] {
            initramfs.program(name, &folder().join("guest").join(file));
        }
        let stripped = tempfile::tempdir().expect("a temporary folder can be made");
        Self { initramfs, memory_mib: 512, disk: None, words: String::new(), stripped }
    }

    /// Has Debian's systemd as its first process, and a unit of it run the steps. systemd's journal is not
    /// there: services say what they say to files.
    pub fn with_systemd(&mut self) -> &mut Self {
        self.initramfs.tree(Path::new(&installed("systemd")));
        let unit = folder().join("guest/steps.service");
        self.initramfs.program("etc/systemd/system/steps.service", &unit);
        for module in ["inet_diag.ko", "tcp_diag.ko"] {
            let path = installed(&format!("vm/{module}"));
            self.initramfs.program(&format!("modules/{module}"), Path::new(&path));
        }
        self.words = "rdinit=/lib/systemd/systemd systemd.unit=steps.service \
                      systemd.unified_cgroup_hierarchy=1 systemd.mask=systemd-journald.service"
            .to_owned();
        self
    }

    /// Makes a symbolic link in the guest.
    pub fn link(&mut self, name: &str, target: &str) -> &mut Self {
        self.initramfs.entries.push((name.to_owned(), Entry::Link(PathBuf::from(target))));
        self
    }

    /// Puts a file of this machine in the guest.
    pub fn file(&mut self, name: &str, path: impl AsRef<Path>) -> &mut Self {
        self.initramfs.program(name, path.as_ref());
        self
    }

    /// Its memory.
    pub fn memory_mib(&mut self, mib: u32) -> &mut Self {
        self.memory_mib = mib;
        self
    }

    /// A new disk of so much, with an empty ext4 file system.
    pub fn disk(&mut self, path: &Path, mib: u64) -> &mut Self {
        let file = File::create(path).expect("the image can be made");
        file.set_len(mib << 20).expect("the image can be made");
        let path_of_root = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let made = Command::new("mkfs.ext4")
            .env("PATH", path_of_root)
            .args(["-q", "-F"])
            .arg(path)
            .status();
        assert!(made.expect("mkfs.ext4 is there: tests/install installs it").success());
        self.disk = Some(path.to_owned());
        self
    }

    /// Says something to the guest on its command line.
    pub fn tell(&mut self, words: &str) -> &mut Self {
        self.words = words.to_owned();
        self
    }

    /// Puts a program of this machine in the guest's path, with the libraries that it needs.
    pub fn program(&mut self, name: &str, path: impl AsRef<Path>) -> &mut Self {
        let path = path.as_ref();
        // What a debugger needs is three quarters of it, and all of it would be unpacked and hashed there.
        let stripped = self.stripped.path().join(name);
        let done =
            Command::new("strip").args(["--strip-debug", "-o"]).arg(&stripped).arg(path).status();
        assert!(done.expect("strip is there: tests/install installs it").success());
        self.initramfs.program(&format!("bin/{name}"), &stripped);
        let ldd = Command::new("ldd").arg(path).output().expect("ldd runs");
        let listed = String::from_utf8_lossy(&ldd.stdout).into_owned();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            self.initramfs.program(library.trim_start_matches('/'), Path::new(library));
        }
        self
    }

    /// Boots it, runs the steps of a folder in the order of their names, and fails the test unless all
    /// are well.
    #[track_caller]
    pub fn run_steps(&mut self, room: &str) {
        let scripts = self.add_steps(room);
        let place = tempfile::tempdir().expect("a temporary folder can be made");
        let (console, said) = (place.path().join("console"), place.path().join("said"));
        let mut guest = self.boot(place.path(), &console, &said);
        let ended = wait(&mut guest);
        let said = fs::read(said).unwrap_or_default();
        let (steps, complete) = parse(&String::from_utf8_lossy(&said));
        for step in &steps {
            println!("{} {}", if step.ok { "ok    " } else { "FAILED" }, step.name);
        }
        if let Some(failed) = steps.iter().find(|step| !step.ok) {
            panic!("{} failed in the machine:\n{}", failed.name, failed.output);
        }
        if !ended || !complete || steps.len() != scripts {
            let console =
                String::from_utf8_lossy(&fs::read(console).unwrap_or_default()).into_owned();
            panic!("{} of {scripts} steps were run; the console:\n{console}", steps.len());
        }
    }

    /// Boots it and runs the steps of a folder until enough is said on the second serial line; then its
    /// power goes. Gives what was said.
    #[track_caller]
    pub fn run_until(&mut self, room: &str, enough: impl Fn(&str) -> bool) -> String {
        self.add_steps(room);
        let place = tempfile::tempdir().expect("a temporary folder can be made");
        let (console, path) = (place.path().join("console"), place.path().join("said"));
        let mut guest = self.boot(place.path(), &console, &path);
        let deadline = Instant::now() + PATIENCE;
        let said = loop {
            let said = fs::read(&path).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).into_owned();
            let ended = guest.try_wait().expect("it is our child").is_some();
            if enough(&said) || ended || Instant::now() > deadline {
                break said;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        guest.kill().expect("it is our child");
        guest.wait().expect("it is our child");
        if !enough(&said) {
            let console = fs::read(console).unwrap_or_default();
            panic!(
                "it said only:\n{said}\nand the console:\n{}",
                String::from_utf8_lossy(&console)
            );
        }
        said
    }

    /// How many there are.
    fn add_steps(&mut self, room: &str) -> usize {
        let mut scripts: Vec<PathBuf> = fs::read_dir(folder().join(room))
            .expect("the room is there")
            .map(|entry| entry.expect("can be read").path())
            .collect();
        scripts.sort();
        for script in &scripts {
            let name = script.file_name().expect("a name").to_string_lossy();
            self.initramfs.program(&format!("{STEPS}/{name}"), script);
        }
        scripts.len()
    }

    fn boot(&self, place: &Path, console: &Path, said: &Path) -> Child {
        let initramfs = place.join("initramfs");
        self.initramfs.write(&initramfs).expect("it can be written");
        let serial = |path: &Path| format!("file:{}", path.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        if let Some(disk) = &self.disk {
            // NVMe, because Debian's kernel for clouds has its driver built in.
            qemu.args(["-device", "nvme,drive=disk,serial=disk", "-drive"])
                .arg(format!("if=none,id=disk,format=raw,file={}", disk.display()));
        }
        qemu.args(["-accel", "tcg,thread=multi", "-smp", "2", "-nodefaults", "-display", "none"])
            .args(["-no-reboot", "-m", &self.memory_mib.to_string()])
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 {}", self.words)])
            .args(["-serial", &serial(console), "-serial", &serial(said)])
            .arg("-kernel")
            .arg(installed("vm/vmlinuz"))
            .arg("-initrd")
            .arg(&initramfs)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 starts: tests/install installs it")
    }
}

/// Waits for the end of the guest, and makes one when it takes too long; whether it came by itself.
fn wait(guest: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if guest.try_wait().expect("it is our child").is_some() {
            return true;
        }
        if Instant::now() > deadline {
            guest.kill().expect("it is our child");
            guest.wait().expect("it is our child");
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The steps in what `guest/init` said, and whether it came to its end.
fn parse(said: &str) -> (Vec<Step>, bool) {
    let mut steps: Vec<Step> = Vec::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), steps.last_mut()) {
            (["###", "end"], _) => return (steps, true),
            (["###", name, outcome], _) => steps.push(Step {
                name: (*name).to_owned(),
                ok: *outcome == "ok",
                output: String::new(),
            }),
            (_, Some(step)) => step.output += &format!("{line}\n"),
            (_, None) => {}
        }
    }
    (steps, false)
}

/// The folder `tests/vm`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm")
}

/// The first file system of a guest: an archive in the format `newc` of cpio
/// (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Initramfs {
    entries: Vec<(String, Entry)>,
}

impl Initramfs {
    fn folder(&mut self, name: &str) {
        if !self.entries.iter().any(|(known, _)| known == name) {
            self.entries.push((name.to_owned(), Entry::Folder));
        }
    }

    fn program(&mut self, name: &str, path: &Path) {
        if self.entries.iter().any(|(known, _)| known == name) {
            return;
        }
        let above: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        for folder in above.iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            self.folder(&folder.to_string_lossy());
        }
        self.entries.push((name.to_owned(), Entry::File(path.to_owned())));
    }

    /// All that is below a folder.
    fn tree(&mut self, root: &Path) {
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("tests/install has unpacked it") {
                let path = entry.expect("can be read").path();
                let name = path.strip_prefix(root).expect("it is below").to_string_lossy();
                if path.is_symlink() {
                    let target = fs::read_link(&path).expect("can be read");
                    self.entries.push((name.into_owned(), Entry::Link(target)));
                } else if path.is_dir() {
                    self.folder(&name);
                    folders.push(path);
                } else {
                    self.program(&name, &path);
                }
            }
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut archive = io::BufWriter::new(File::create(path)?);
        for (number, (name, source)) in (1..).zip(&self.entries) {
            let (mode, contents) = match source {
                Entry::Folder => (0o040_755, Vec::new()),
                Entry::File(path) => (0o100_755, fs::read(path)?),
                Entry::Link(target) => (0o120_777, target.as_os_str().as_bytes().to_vec()),
            };
            entry(&mut archive, number, mode, name, &contents)?;
        }
        entry(&mut archive, 0, 0, "TRAILER!!!", b"")?;
        archive.flush()
    }
}

enum Entry {
    Folder,
    /// With the contents of this one.
    File(PathBuf),
    Link(PathBuf),
}

fn entry(
    to: &mut impl Write,
    inode: u32,
    mode: u32,
    name: &str,
    contents: &[u8],
) -> io::Result<()> {
    let (size, name_size) = (contents.len(), name.len() + 1);
    // Owner, group, links, time; then after the size the devices, and no checksum.
    write!(to, "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}", 0, 1)?;
    write!(to, "{0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}", 0)?;
    to.write_all(name.as_bytes())?;
    to.write_all(&vec![0; 1 + padding(110 + name_size)])?;
    to.write_all(contents)?;
    to.write_all(&vec![0; padding(size)])
}

/// Up to the next multiple of four.
fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}
