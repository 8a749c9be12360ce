//! Each stage can fail, and says on what and what to do.

use crate::harness::*;
use stanch::linux::launch::{Credentials, Limit, Plan, Stage, Takeover};
use stanch::linux::spawn::{Launcher, Listener, Output, SpawnError};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

/// The stage, the kernel's error number, and the words.
async fn refusal(plan: &Plan) -> (Stage, i32, String) {
    refused(finish(spawn(), plan).await)
}

fn refused(outcome: Result<Vec<u8>, SpawnError>) -> (Stage, i32, String) {
    let error = outcome.unwrap_err();
    let words = error.to_string();
    match error {
        SpawnError::Refused { stage, source, .. } => (stage, source.raw_os_error().unwrap(), words),
        other => panic!("{other:?}"),
    }
}

/// Fails unless the launch is refused at this stage, with this error, in words that hold these.
macro_rules! assert_refused {
    ($refusal:expr, $stage:ident, $errno:ident, $($words:expr),+) => {
        let (stage, errno, words) = $refusal;
        assert_eq!((stage, errno), (Stage::$stage, nix::libc::$errno), "{words}");
        $(assert!(words.contains($words), "{words:?} has no {:?}", $words);)+
    };
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can become nobody");
    }
    root
}

fn limit(name: &str, soft: u64, hard: u64) -> Limit {
    Limit { name: name.into(), soft: Some(soft), hard: Some(hard) }
}

#[tokio::test]
async fn session() {
    let leader = disguised("os.setpgid(0, 0)");
    let outcome = finish(leader.spawn(), &plan("/bin/true", &[])).await;
    assert_refused!(refused(outcome), Session, EPERM, "session");
}

#[tokio::test]
async fn plan_that_cannot_be_received() {
    // Room for the three of stdio, the program and one more, but not for four more.
    let narrow = disguised("resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener { name: "http", socket: socket.as_fd() };
    let outcome = finish_with(narrow.spawn(), &plan("/bin/true", &[]), &[listener; 3]).await;
    assert_refused!(refused(outcome), Plan, ENOBUFS, "limit of open files");
}

#[tokio::test]
async fn environment() {
    let words = plan("/bin/true", &["fine", "not\0fine"]);
    assert_refused!(refusal(&words).await, Environment, EINVAL, "argument 2", "NUL");
    let mut value = plan("/bin/true", &[]);
    value.environment.set("TOKEN", "se\0cret");
    let refusal = refusal(&value).await;
    assert!(!refusal.2.contains("cret"), "{}", refusal.2);
    assert_refused!(refusal, Environment, EINVAL, "TOKEN", "NUL");
    let mut name = plan("/bin/true", &[]);
    name.environment.set("A=B", "");
    assert_refused!(self::refusal(&name).await, Environment, EINVAL, "A=B");
}

#[tokio::test]
async fn limits() {
    let mut plan = plan("/bin/true", &[]);
    plan.limits = vec![limit("nofile", 20, 10)];
    assert_refused!(refusal(&plan).await, Limits, EINVAL, "nofile", "soft 20, hard 10", "above");
    plan.limits = vec![limit("nofiles", 1, 1)];
    assert_refused!(refusal(&plan).await, Limits, EINVAL, "\"nofiles\"");
    let lowered = disguised(
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\nif os.geteuid() == 0: nobody()",
    );
    plan.limits = vec![limit("nofile", 200, 200)];
    let outcome = finish(lowered.spawn(), &plan).await;
    assert_refused!(refused(outcome), Limits, EPERM, "nofile", "own hard limit is 100");
}

#[tokio::test]
async fn priority() {
    let unprivileged = disguised("if os.geteuid() == 0: nobody()");
    let mut plan = plan("/bin/true", &[]);
    plan.nice = Some(-5);
    let outcome = finish(unprivileged.spawn(), &plan).await;
    assert_refused!(refused(outcome), Priority, EACCES, "niceness to -5");
}

#[tokio::test]
async fn filter() {
    let unprivileged = disguised("if os.geteuid() == 0: nobody()");
    let mut plan = plan("/bin/true", &[]);
    plan.takeover = Takeover::Privileged;
    let outcome = finish(unprivileged.spawn(), &plan).await;
    assert_refused!(refused(outcome), Filter, EACCES, "takeover filter", "stanch doctor");
}

#[tokio::test]
async fn user() {
    let unprivileged = disguised("if os.geteuid() == 0: nobody()");
    let mut plan = plan("/bin/true", &[]);
    plan.credentials = Some(Credentials { uid: 1, gid: 1, groups: vec![1] });
    let outcome = finish(unprivileged.spawn(), &plan).await;
    assert_refused!(refused(outcome), User, EPERM, "groups [1]", "run stanch as root");
}

#[tokio::test]
async fn user_without_a_change_needs_no_privilege() {
    if !root() {
        return;
    }
    let unprivileged = disguised("nobody()");
    let mut plan = plan("/bin/echo", &["yes"]);
    plan.credentials = Some(Credentials { uid: 65534, gid: 65534, groups: vec![65534, 1] });
    assert_eq!(finish(unprivileged.spawn(), &plan).await.unwrap(), b"yes\n");
}

#[tokio::test]
async fn directory() {
    let mut plan = plan("/bin/true", &[]);
    plan.directory = Some("/no/such/place".into());
    assert_refused!(refusal(&plan).await, Directory, ENOENT, "/no/such/place", "create it");
    plan.directory = Some("/etc/passwd".into());
    assert_refused!(refusal(&plan).await, Directory, ENOTDIR, "/etc/passwd", "not a directory");
    if !root() {
        return;
    }
    // Root could enter it, the worker could not work in it.
    let private = private_folder();
    plan.directory = Some(private.path().into());
    plan.credentials = Some(Credentials { uid: 65534, gid: 65534, groups: vec![65534] });
    assert_refused!(refusal(&plan).await, Directory, EACCES, "user 65534");
}

#[tokio::test]
async fn listeners() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = Listener { name: "http", socket: socket.as_fd() };
    let mut plan = plan("/bin/true", &[]);
    plan.limits = vec![limit("nofile", 4, 4)];
    let outcome = finish_with(spawn(), &plan, &[listener; 2]).await;
    assert_refused!(refused(outcome), Listeners, EBADF, "descriptor 4", "nofile");
}

#[tokio::test]
async fn stdio() {
    let mut plan = plan("/bin/true", &[]);
    plan.limits = vec![limit("nofile", 1, 1)];
    assert_refused!(refusal(&plan).await, Stdio, EMFILE, "/dev/null", "nofile");
}

#[tokio::test]
async fn exec_finds_nothing() {
    let mut named = plan("gunicorn-of-nobody", &[]);
    assert_refused!(refusal(&named).await, Exec, ENOENT, "gunicorn-of-nobody", "/usr/local/bin:");
    named.environment.set("PATH", "/nowhere:/etc/passwd");
    assert_refused!(
        refusal(&named).await,
        Exec,
        ENOENT,
        "PATH (/nowhere:/etc/passwd)",
        "full path"
    );
    let path = plan("./server", &[]);
    assert_refused!(refusal(&path).await, Exec, ENOENT, "./server does not exist", "directory");
    assert_refused!(refusal(&plan("", &[])).await, Exec, ENOENT, "the command is empty");
}

#[tokio::test]
async fn exec_finds_what_is_no_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        script(&path, text);
        path.into_os_string().into_string().unwrap()
    };
    let at = |path: &str| plan(path, &[]);
    assert_refused!(refusal(&at("/etc")).await, Exec, EACCES, "/etc is a directory");
    assert_refused!(refusal(&at("/etc/passwd")).await, Exec, EACCES, "not executable", "chmod +x");
    let missing = file("missing", "#!/no/such/python3 -u\n");
    assert_refused!(
        refusal(&at(&missing)).await,
        Exec,
        ENOENT,
        &missing,
        "exist: /no/such/python3"
    );
    let windows = file("windows", "#!/bin/sh\r\necho");
    assert_refused!(refusal(&at(&windows)).await, Exec, ENOENT, "Unix line ends");
    let bare = file("bare", "echo hello\n");
    assert_refused!(refusal(&at(&bare)).await, Exec, ENOEXEC, &bare, "no script with a #! line");
    let refused = file("refused", "#!/etc/passwd\n");
    assert_refused!(refusal(&at(&refused)).await, Exec, EACCES, "its interpreter /etc/passwd");
}

#[tokio::test]
async fn exec_finds_a_program_of_another_libc() {
    // A real program whose loader's name was changed.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign");
    let mut program = std::fs::read("/bin/true").unwrap();
    let loader = program.windows(6).position(|part| part == b"ld-lin").expect("has a loader");
    program[loader] = b'X';
    std::fs::write(&path, program).unwrap();
    // A copy, see `script`.
    let ready = folder.path().join("ready");
    let copy = std::process::Command::new("/bin/cp").args([&path, &ready]).status();
    assert!(copy.unwrap().success());
    std::fs::set_permissions(&ready, Permissions::from_mode(0o755)).unwrap();
    let plan = plan(ready.to_str().unwrap(), &[]);
    assert_refused!(refusal(&plan).await, Exec, ENOENT, "loader", "another C library");
}

/// Nobody but root may enter it.
fn private_folder() -> tempfile::TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap()
}

#[tokio::test]
async fn exec_as_a_user_who_may_not() {
    if !root() {
        return;
    }
    let private = private_folder();
    let path = private.path().join("server");
    script(&path, "#!/bin/sh\n");
    let mut plan = plan(path.to_str().unwrap(), &[]);
    plan.credentials = Some(Credentials { uid: 65534, gid: 65534, groups: vec![65534] });
    assert_refused!(refusal(&plan).await, Exec, EACCES, "user 65534", "enter (x)");
}

#[tokio::test]
async fn exec_with_too_much_to_say() {
    let mut plan = plan("/bin/true", &[]);
    plan.environment.set("BIG", "x".repeat(200_000));
    assert_refused!(refusal(&plan).await, Exec, E2BIG, "128 KiB");
}

#[tokio::test]
async fn no_launcher() {
    let launcher = Launcher::at("/no/such/stanch");
    let mut launching = launcher.spawn("title", Output::Pipes, None).unwrap();
    let error = launching.next(deadline()).await.unwrap_err();
    assert_eq!(error.stage(), "spawn");
    assert!(error.to_string().contains("/no/such/stanch"), "{error}");
}
