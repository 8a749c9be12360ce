//! What needs a process of its own: a full disk, a read-only one, a kill. The test runs itself again
//! with one of the `child_*` functions, which do nothing when they are run without that.

use super::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const FOLDER: &str = "STANCH_TEST_FOLDER";

fn start(child: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("store::tests::child::{child}"))
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(child: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = start(child, folder.path()).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A file system of 1 MiB on the folder, in a mount namespace that ends with this process. False
/// without the right to make one.
fn own_file_system(folder: &Path) -> bool {
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return false;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(none, folder, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
    true
}

/// Fills the disk with events until the store says so, goes on for a while, makes room, and expects
/// every single event on disk, in order.
async fn fill_and_free(path: &Path, expected: i32, make_room: impl FnOnce()) {
    break_and_mend(path, expected, || (), make_room).await;
}

/// The same with a disk that breaks once the store is open.
async fn break_and_mend(
    path: &Path,
    expected: i32,
    break_it: impl FnOnce(),
    make_room: impl FnOnce(),
) {
    let mut store = Store::open(path, RETENTION).unwrap();
    let writer = store.writer();
    break_it();
    let mut waiting = Vec::new();
    let long = |number| Record { reason: "x".repeat(2_000), ..record(number) };
    let error = loop {
        let mut durable = writer.append(long(waiting.len() as u64 + 1));
        let told = tokio::select! {
            _ = &mut durable => None,
            Some(told) = store.health() => Some(told),
        };
        waiting.push(durable);
        if let Some(Health::Degraded { error }) = told {
            break error;
        }
        assert!(waiting.len() < 1_000, "the disk does not get full");
    };
    let StoreError::Write { source: rusqlite::Error::SqliteFailure(said, _), .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(said.extended_code, expected, "{error:?}");
    for number in 0..20 {
        waiting.push(writer.append(record(number)));
    }
    make_room();
    let Health::Restored { buffered, lost, gone: 0, .. } = health(&mut store).await else {
        panic!()
    };
    assert_eq!((buffered, lost), (21, 0));
    let head = written(waiting.pop().unwrap()).await;
    assert_eq!(head.seq, waiting.len() as u64 + 1);
    assert_eq!(verify(path, Some(&head.hash)).unwrap().events, head.seq);
}

#[test]
fn a_full_file_system_costs_no_event() {
    run("child_full_file_system");
}

#[test]
#[ignore = "run by a_full_file_system_costs_no_event"]
fn child_full_file_system() {
    let Some(folder) = folder() else { return };
    if !own_file_system(&folder) {
        eprintln!("not allowed to mount: only the file size limit is tested");
        return;
    }
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 600 << 10]).unwrap();
    let make_room = || fs::remove_file(&ballast).unwrap();
    let full = rusqlite::ffi::SQLITE_FULL;
    runtime().block_on(fill_and_free(&folder.join("s.db"), full, make_room));
}

/// A limit of the file's size is no full disk to SQLite: `write` fails with EFBIG, and any error but
/// ENOSPC is an I/O error (`unixWrite` in os_unix.c). So this is the way that EIO takes, without a disk
/// that breaks.
#[test]
fn an_io_error_costs_no_event() {
    run("child_file_size_limit");
}

#[test]
#[ignore = "run by an_io_error_costs_no_event"]
fn child_file_size_limit() {
    let Some(folder) = folder() else { return };
    // The kernel sends a signal beside the error; SIGXFSZ would end the process.
    let signal = nix::libc::SIGXFSZ;
    let taken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal, taken).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 300 << 10, hard).unwrap();
    let make_room = || setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    let io = rusqlite::ffi::SQLITE_IOERR_WRITE;
    runtime().block_on(fill_and_free(&folder.join("s.db"), io, make_room));
}

/// A disk (a loop device) that is suddenly shorter: what lies beyond fails with EIO, and `fsync` with it.
#[test]
fn a_disk_that_breaks_costs_no_event() {
    run("child_broken_disk");
}

#[test]
#[ignore = "run by a_disk_that_breaks_costs_no_event"]
fn child_broken_disk() {
    const WHOLE: u64 = 8 << 20;
    const BROKEN: u64 = 64 << 10;
    let Some(folder) = folder() else { return };
    let (image, mounted) = (folder.join("image"), folder.join("disk"));
    let command = |words: &[&std::ffi::OsStr]| {
        let output = Command::new(words[0]).args(&words[1..]).output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        output.status.success().then_some(text)
    };
    fs::File::create(&image).unwrap().set_len(WHOLE).unwrap();
    fs::create_dir(&mounted).unwrap();
    let made = command(&["mkfs.ext2".as_ref(), "-qF".as_ref(), image.as_ref()]);
    let device = made.and_then(|_| {
        command(&["losetup".as_ref(), "-f".as_ref(), "--show".as_ref(), image.as_ref()])
    });
    let Some(device) = device.filter(|_| unshare(CloneFlags::CLONE_NEWNS).is_ok()) else {
        eprintln!("no loop device here: only the file size limit is tested");
        return;
    };
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let mount = mount(Some(device.as_str()), &mounted, Some("ext2"), MsFlags::empty(), none);
    // From here on it goes with the mount, and that with this process.
    command(&["losetup".as_ref(), "-d".as_ref(), device.as_ref()]).unwrap();
    mount.unwrap();
    let resized = || command(&["losetup".as_ref(), "-c".as_ref(), device.as_ref()]).unwrap();
    let saved = std::cell::RefCell::new(Vec::new());
    let break_it = || {
        nix::unistd::sync();
        *saved.borrow_mut() = fs::read(&image).unwrap();
        fs::File::options().write(true).open(&image).unwrap().set_len(BROKEN).unwrap();
        resized();
    };
    let mend = || {
        fs::write(&image, &*saved.borrow()).unwrap();
        resized();
    };
    let io = rusqlite::ffi::SQLITE_IOERR_FSYNC;
    runtime().block_on(break_and_mend(&mounted.join("s.db"), io, break_it, mend));
}

#[test]
fn a_read_only_file_system_can_be_read_and_waited_for() {
    run("child_read_only");
}

#[test]
#[ignore = "run by a_read_only_file_system_can_be_read_and_waited_for"]
fn child_read_only() {
    let Some(folder) = folder() else { return };
    // Without the right to mount this is not root, and a mode of the folder is enough.
    let mounted = own_file_system(&folder);
    let read_only = |yes: bool| {
        if mounted {
            let flag = if yes { MsFlags::MS_RDONLY } else { MsFlags::empty() };
            mount(None::<&str>, &folder, None::<&str>, MsFlags::MS_REMOUNT | flag, None::<&str>)
                .unwrap();
        } else {
            use std::os::unix::fs::PermissionsExt;
            let mode = if yes { 0o555 } else { 0o755 };
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let path = folder.join("s.db");
    // What a killed writer leaves: a store and the log beside it.
    let unsettled = folder.join("u.db");
    let store = Store::open(&path, RETENTION).unwrap();
    drop(store.writer().append(record(1)).blocking_recv().unwrap());
    fs::copy(&path, &unsettled).unwrap();
    fs::copy(beside(&path, "-wal"), beside(&unsettled, "-wal")).unwrap();
    assert_eq!(store.close(DEADLINE), 0);
    read_only(true);

    assert_eq!(verify(&path, None).unwrap().events, 1);
    let error = Reader::open(&unsettled).unwrap_err();
    assert!(matches!(error, StoreError::Unsettled { .. }), "{error:?}");
    let error = Store::open(&path, RETENTION).unwrap_err();
    assert!(matches!(error, StoreError::Lock { .. }), "{error:?}");
    let mut store = Store::detached(&path, RETENTION, error).unwrap();
    let durable = store.writer().append(record(2));
    runtime().block_on(async {
        assert!(matches!(health(&mut store).await, Health::Degraded { .. }));
        read_only(false);
        assert_eq!(written(durable).await.seq, 2);
        assert!(matches!(
            health(&mut store).await,
            Health::Restored { buffered: 1, lost: 0, gone: 0, .. }
        ));
    });
    assert_eq!(verify(&unsettled, None).unwrap().events, 1);
}

#[test]
fn a_killed_writer_loses_nothing_that_was_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.db");
    for _ in 0..3 {
        let mut child = start("child_writer", folder.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = |line: std::io::Result<String>| {
            Some(line.ok()?.strip_prefix("durable ")?.split_once(' ')?.1.to_owned())
        };
        assert_eq!(lines.by_ref().filter_map(acknowledged).take(300).count(), 300);
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died; its last line may be torn.
        let head = lines.filter_map(acknowledged).filter(|hash| hash.len() == 64).last();
        let whole = verify(&path, head.as_deref()).unwrap();
        assert!(whole.events >= 300, "{whole:?}");
        store_with(&path, 1);
        assert_eq!(verify(&path, head.as_deref()).unwrap().events, whole.events + 1);
    }
}

#[test]
#[ignore = "run by a_killed_writer_loses_nothing_that_was_durable"]
fn child_writer() {
    let Some(folder) = folder() else { return };
    let store = Store::open(&folder.join("s.db"), RETENTION).unwrap();
    let writer = store.writer();
    loop {
        let waiting: Vec<Durable> = (0..20).map(|number| writer.append(record(number))).collect();
        for durable in waiting {
            let Head { seq, hash } = durable.blocking_recv().unwrap();
            println!("durable {seq} {hash}");
        }
    }
}
