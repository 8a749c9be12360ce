//! The control API on a real Unix socket, with a fake engine behind the handle.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use stanch::core::reload::Then;
use stanch::core::{self, Refusal, Slot};
use stanch::http::{self, Closing, SocketError};
use stanch::runtime::{Handle, Request};
use stanch::wire::{Leak, Memory, Status, Worker};
use tokio::sync::oneshot;

/// The longest that any answer may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(30);

fn status() -> Status {
    let worker = Worker {
        slot: 0,
        pid: Some(77),
        generation: 1,
        state: "ready".into(),
        release: None,
        age_s: Some(5.0),
        rss_kib: Some(2048),
        anon_kib: None,
        threads: None,
        fds: None,
        cpu_percent: None,
        connections: None,
        restarts: 0,
        leak: Leak {
            verdict: "unjudged".into(),
            slope_kib_s: None,
            eta_s: None,
            confidence: None,
            reason: "warms up".into(),
        },
        status_text: None,
        due: None,
    };
    Status {
        app: "shop".into(),
        config: None,
        release: None,
        release_before: None,
        state: "running".into(),
        uptime_s: 5.0,
        listeners: Vec::new(),
        memory: Memory {
            total_kib: None,
            total_limit_kib: None,
            enforced_by: "polling".into(),
            hard_limit_compares: String::new(),
        },
        workers: vec![worker],
        store: stanch::wire::Store::default(),
        incidents_open: 0,
    }
}

type Seen = Arc<Mutex<Vec<(String, core::Command)>>>;

/// Answers like an engine: restarts are done at once, slot 9 does not exist, a drain takes for ever,
/// and after a stop the engine is gone. The supervisor shuts down at a stop, and the answer to it
/// comes when the server has already begun to end.
async fn engine(
    path: PathBuf,
    mut requests: tokio::sync::mpsc::Receiver<Request>,
    seen: Seen,
    shutdown: oneshot::Sender<()>,
) {
    let mut draining = Vec::new();
    while let Some(request) = requests.recv().await {
        match request {
            Request::Status(reply) => drop(reply.send(status())),
            Request::Reload { then: Then::Roll, reply, .. } => {
                drop(reply.send(Ok("in force: leak.action: restart → alert".into())));
            }
            Request::Reload { then: Then::Keep, reply, .. } => {
                drop(reply.send(Err(Refusal::Wrong("a.toml:1:1: app.nmae: unknown key".into()))));
            }
            Request::Reload { then: Then::Deploy, reply, .. } => {
                drop(reply.send(Err(Refusal::No("release 42 was given up".into()))));
            }
            // Its successor has only the connection.
            Request::Upgrade { connection, reply, .. } => {
                drop(reply);
                let (told, answer) = oneshot::channel();
                let _ = told.send(Ok("version 2 has taken the place of 1".into()));
                if let Some(connection) = connection {
                    http::answer_late(connection, answer).await.unwrap();
                }
            }
            Request::Command { by, command, reply } => {
                seen.lock().unwrap().push((by, command.clone()));
                match command {
                    core::Command::Restart { slot: Some(Slot(9)) } => {
                        drop(reply.send(Err(Refusal::No("there is no slot 9".into()))));
                    }
                    core::Command::Drain { .. } => draining.push(reply),
                    core::Command::Stop => {
                        let _ = shutdown.send(());
                        let ending = async {
                            while UnixStream::connect(&path).is_ok() {
                                tokio::task::yield_now().await;
                            }
                        };
                        tokio::time::timeout(DEADLINE, ending).await.unwrap();
                        drop(reply.send(Ok("stopped, 1 worker drained".into())));
                        return;
                    }
                    other => drop(reply.send(Ok(format!("done: {other:?}")))),
                }
            }
        }
    }
}

/// A served control socket.
struct Rig {
    folder: tempfile::TempDir,
    path: PathBuf,
    seen: Seen,
    end: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/shop.sock");
        let control = http::bind(&path).unwrap();
        let seen = Seen::default();
        let (end, ended) = oneshot::channel();
        let (log, place) = (seen.clone(), path.clone());
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async move {
                let (handle, requests) = Handle::new(8);
                let (stop, stopped) = oneshot::channel();
                tokio::spawn(engine(place, requests, log, stop));
                let shutdown = async {
                    tokio::select! {
                        Ok(()) = stopped => {}
                        _ = ended => {}
                    }
                    Closing::ForGood
                };
                http::serve(control, handle, shutdown).await.unwrap();
            });
            runtime.shutdown_background();
        });
        Self { folder, path, seen, end: Some(end), server: Some(server) }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// The code and the JSON of the answer.
    fn ask(&self, method: &str, route: &str, body: &str) -> (u16, Value) {
        let mut stream = self.connect();
        send(&mut stream, method, route, body);
        receive(stream)
    }

    fn post(&self, route: &str, body: Value) -> (u16, Value) {
        self.ask("POST", route, &body.to_string())
    }

    fn cli(&self, words: &[&str]) -> Output {
        cli(words, &self.path)
    }

    /// Waits until the server has ended by itself.
    fn join(&mut self) {
        self.server.take().unwrap().join().unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(server) = self.server.take()
            && server.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

fn send(stream: &mut UnixStream, method: &str, route: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "{method} {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses a large body may close before it has all of it.
    let _ = stream.write_all(body.as_bytes());
}

fn receive(mut stream: UnixStream) -> (u16, Value) {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, serde_json::from_str(body).unwrap_or_else(|_| panic!("not JSON: {text}")))
}

fn cli(words: &[&str], socket: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stanch"))
        .args(words)
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn who_closes_the_sending_side_still_hears_the_answer() {
    let rig = Rig::new();
    let mut stream = rig.connect();
    send(&mut stream, "POST", "/v1/restart", "{\"slot\": 3}");
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(stream).0, 200);
}

#[test]
fn status_and_commands() {
    let rig = Rig::new();
    let (code, body) = rig.ask("GET", "/v1/status", "");
    assert_eq!(code, 200);
    assert_eq!(serde_json::from_value::<Status>(body).unwrap(), status());

    let (code, body) = rig.post("/v1/restart", json!({"slot": 3}));
    assert_eq!((code, &body["ok"]), (200, &json!(true)), "{body}");
    assert_eq!(rig.post("/v1/restart", json!({"slot": 9})).0, 409);
    assert_eq!(
        rig.post("/v1/restart", json!({"slot": 9})).1,
        json!({"ok": false, "message": "there is no slot 9"})
    );
    assert_eq!(rig.ask("POST", "/v1/restart", "").0, 200, "no body means all slots");
    assert_eq!(rig.post("/v1/drain", json!({"slot": 1, "wait": false})).0, 202);
    assert_eq!(rig.post("/v1/scale", json!({"workers": 4})).0, 200);
    assert_eq!(rig.ask("POST", "/v1/pause", "").0, 200);
    assert_eq!(rig.ask("POST", "/v1/resume", "{}").0, 200);

    let seen = rig.seen.lock().unwrap();
    let commands: Vec<_> = seen.iter().map(|(_, command)| command.clone()).collect();
    assert_eq!(
        commands,
        [
            core::Command::Restart { slot: Some(Slot(3)) },
            core::Command::Restart { slot: Some(Slot(9)) },
            core::Command::Restart { slot: Some(Slot(9)) },
            core::Command::Restart { slot: None },
            core::Command::Drain { slot: Slot(1) },
            core::Command::Scale { workers: 4 },
            core::Command::Pause,
            core::Command::Resume,
        ]
    );
    let me = format!("uid {} (pid {})", nix::unistd::geteuid(), std::process::id());
    assert!(seen.iter().all(|(by, _)| *by == me), "{seen:?}");
}

#[test]
fn bad_requests_are_explained() {
    let rig = Rig::new();
    let cases = [
        ("/v1/drain", json!({}), "slot"),
        ("/v1/drain", json!({"slot": "one"}), "slot"),
        ("/v1/drain", json!({"slot": -1}), "slot"),
        ("/v1/restart", json!({"slut": 1}), "slut"),
        ("/v1/scale", json!({"workers": 4, "wait": "no"}), "wait"),
    ];
    for (route, body, field) in cases {
        let (code, answer) = rig.post(route, body.clone());
        assert_eq!(code, 400, "{route} {body}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains(field), "{route} {body}: {answer}");
    }
    assert_eq!(rig.ask("POST", "/v1/stop", "{").0, 400);
    assert_eq!(rig.ask("POST", "/v1/stop", &" ".repeat(65 * 1024)).0, 413);

    for (method, route, expected) in [("GET", "/", 404), ("GET", "/v1/restart", 405)] {
        let (code, answer) = rig.ask(method, route, "");
        assert_eq!(code, expected);
        let routes = answer["routes"].as_array().unwrap();
        assert!(routes.contains(&json!("POST /v1/restart")), "{answer}");
        for route in routes {
            let (method, path) = route.as_str().unwrap().split_once(' ').unwrap();
            let (code, _) = rig.ask(method, path, "not JSON");
            assert_eq!(code, if method == "GET" { 200 } else { 400 }, "{route} is listed");
        }
    }
    assert!(rig.seen.lock().unwrap().is_empty(), "nothing of this reaches the engine");
}

#[test]
fn another_program_answers_on_the_same_connection() {
    let rig = Rig::new();
    let (code, answer) = rig.post("/v1/upgrade", json!({}));
    assert_eq!((code, &answer["ok"]), (200, &true.into()), "{answer}");
    assert_eq!(answer["message"], "version 2 has taken the place of 1");
    let (code, _) = rig.post("/v1/upgrade", json!({ "wait": false }));
    assert_eq!(code, 202, "nobody waits");
    let upgraded = rig.cli(&["upgrade", "--json"]);
    assert_eq!(upgraded.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&upgraded.stdout).unwrap();
    assert_eq!(answer["ok"], true);
}

#[test]
fn clients_that_hang_do_not_stop_others() {
    let rig = Rig::new();
    // As many as are served at once: some silent, some in the middle of a head or of a body, and one
    // that waits for a drain without end.
    let mut hanging: Vec<UnixStream> = (0..64).map(|_| rig.connect()).collect();
    for stream in &mut hanging[..20] {
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHo").unwrap();
    }
    for stream in &mut hanging[20..40] {
        stream.write_all(b"POST /v1/stop HTTP/1.1\r\nContent-Length: 9\r\n\r\n{").unwrap();
    }
    send(&mut hanging[63], "POST", "/v1/drain", r#"{"slot": 1}"#);
    assert_eq!(rig.ask("GET", "/v1/status", "").0, 200);
    // They were turned out, not waited for; the one that waits rightly still does.
    for stream in &mut hanging[..20] {
        assert_eq!(stream.read(&mut [0; 512]).unwrap(), 0);
    }
    let late = hanging.remove(20);
    assert_eq!(receive(late).0, 408);
    let waiting = hanging.pop().unwrap();
    waiting.set_nonblocking(true).unwrap();
    let error = (&waiting).read(&mut [0; 512]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn stop_is_answered_before_the_end() {
    let mut rig = Rig::new();
    let idle = rig.connect();
    let (code, body) = rig.ask("POST", "/v1/stop", "");
    assert_eq!((code, body["message"].as_str()), (200, Some("stopped, 1 worker drained")));
    rig.join();
    assert!(!rig.path.exists(), "the socket file is gone");
    drop(idle);
    let again = http::bind(&rig.path).unwrap();
    assert_eq!(again.path(), rig.path);
}

#[test]
fn an_engine_that_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");
    let control = http::bind(&path).unwrap();
    let (handle, requests) = Handle::new(1);
    drop(requests);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(http::serve(control, handle, std::future::pending()));
    for (method, route) in [("GET", "/v1/status"), ("POST", "/v1/restart")] {
        let mut stream = UnixStream::connect(&path).unwrap();
        send(&mut stream, method, route, "");
        let (code, body) = receive(stream);
        assert_eq!((code, body["ok"].as_bool()), (503, Some(false)), "{body}");
    }
    let output = cli(&["status"], &path);
    assert_eq!(code(&output), 3, "{output:?}");
    runtime.shutdown_background();
}

#[test]
fn foreign_users_are_refused_even_if_the_mode_lets_them_in() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let rig = Rig::new();
    // A copy of the command that everybody can reach, wherever the build folder is. Copied by another
    // process: a file that a fork of this one still holds open for writing cannot be executed.
    let command = rig.folder.path().join("stanch");
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_stanch")).arg(&command).status();
    assert!(copied.unwrap().success());
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    open(rig.folder.path(), 0o755);
    open(&command, 0o755);
    let as_nobody = || {
        use std::os::unix::process::CommandExt;
        let mut call = Command::new(&command);
        call.args(["stop", "--socket"]).arg(&rig.path).uid(65534).gid(65534);
        call.output().unwrap()
    };
    for mode in [0o600, 0o666] {
        open(&rig.path, mode);
        let output = as_nobody();
        assert_eq!(code(&output), 3, "mode {mode:o}: {output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("belongs to root (uid 0)"), "mode {mode:o}: {said}");
    }
    assert!(rig.seen.lock().unwrap().is_empty());
    assert_eq!(rig.ask("GET", "/v1/status", "").0, 200, "the owner is still served");
}

#[test]
fn the_command_line() {
    let mut rig = Rig::new();
    let shown = rig.cli(&["status"]);
    assert_eq!(code(&shown), 0, "{shown:?}");
    assert!(text(&shown.stdout).starts_with("shop: running, up 5s"), "{shown:?}");
    let json = rig.cli(&["status", "--json"]);
    assert_eq!(serde_json::from_slice::<Status>(&json.stdout).unwrap(), status());

    let done = rig.cli(&["scale", "4"]);
    assert_eq!((code(&done), text(&done.stdout)), (0, "done: Scale { workers: 4 }\n"));
    let refused = rig.cli(&["restart", "9"]);
    assert_eq!((code(&refused), text(&refused.stderr)), (1, "stanch: there is no slot 9\n"));
    assert_eq!(code(&rig.cli(&["drain", "1", "--no-wait"])), 0);
    assert_eq!(code(&rig.cli(&["drain", "one"])), 2);
    assert_eq!(code(&rig.cli(&["pause"])), 0);
    assert_eq!(code(&rig.cli(&["resume"])), 0);

    let stopped = rig.cli(&["stop"]);
    assert_eq!((code(&stopped), text(&stopped.stdout)), (0, "stopped, 1 worker drained\n"));
    assert!(!rig.path.exists(), "the way is free for the next one");
    rig.join();
    let gone = rig.cli(&["status"]);
    assert_eq!(code(&gone), 3);
    assert!(text(&gone.stderr).contains("there is no such socket"), "{gone:?}");
}

#[test]
fn the_socket_is_for_its_owner_alone_whatever_the_umask() {
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/shop.sock");
    let control = http::bind(&path);
    nix::sys::stat::umask(before);
    let control = control.unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o022, 0);
    drop(control);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "stale");
    let control = http::bind(&path).unwrap();

    let error = http::bind(&path).unwrap_err();
    let me = std::process::id() as i32;
    assert!(matches!(error, SocketError::InUse { pid: Some(pid), .. } if pid == me), "{error:?}");
    assert!(error.to_string().contains(&format!("(pid {me})")), "{error}");

    // The lock file was removed by hand: the live socket still says no.
    std::fs::remove_file(folder.path().join("shop.sock.lock")).unwrap();
    let error = http::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::InUse { pid: Some(pid), .. } if pid == me), "{error:?}");
    UnixStream::connect(&path).unwrap();

    // Somebody else's socket under our name stays when ours ends.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(control);
    assert!(path.exists());
    drop(other);
}

#[test]
fn of_several_that_start_at_once_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");
    for round in 0..50 {
        // The last supervisor died.
        drop(UnixListener::bind(&path).unwrap());
        let gate = Arc::new(Barrier::new(4));
        let starters: Vec<_> = (0..4)
            .map(|_| {
                let (gate, path) = (gate.clone(), path.clone());
                std::thread::spawn(move || {
                    gate.wait();
                    let outcome = http::bind(&path);
                    gate.wait(); // nobody ends before all have tried
                    outcome.map(drop)
                })
            })
            .collect();
        let outcomes: Vec<_> =
            starters.into_iter().map(|starter| starter.join().unwrap()).collect();
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "round {round}: {outcomes:?}");
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(error, SocketError::InUse { .. }), "round {round}: {error:?}");
        }
        assert!(!path.exists());
    }
}

#[test]
fn paths_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.sock");

    std::fs::write(&path, "precious").unwrap();
    let error = http::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(matches!(http::bind(&path).unwrap_err(), SocketError::NotASocket { .. }));

    let name = |length: usize| {
        let taken = folder.path().as_os_str().len() + 1;
        folder.path().join("x".repeat(length - taken))
    };
    let error = http::bind(&name(108)).unwrap_err();
    assert!(matches!(error, SocketError::TooLong { length: 108, .. }), "{error:?}");
    assert!(error.to_string().contains("108 bytes"), "{error}");
    http::bind(&name(107)).unwrap();

    let error = http::bind(&folder.path().join("shop.sock.lock/x.sock")).unwrap_err();
    assert!(matches!(error, SocketError::Folder { .. }), "{error:?}");
}

#[test]
fn folders_in_which_others_could_replace_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    let mode =
        |mode| std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o777);
    let error = http::bind(&shared.join("shop.sock")).unwrap_err();
    assert!(matches!(error, SocketError::UnsafeFolder { .. }), "{error:?}");
    mode(0o1777);
    http::bind(&shared.join("shop.sock")).unwrap();
    if nix::unistd::geteuid().is_root() {
        mode(0o700);
        std::os::unix::fs::chown(&shared, Some(65534), None).unwrap();
        let error = http::bind(&shared.join("shop.sock")).unwrap_err();
        assert!(error.to_string().contains("belongs to uid 65534"), "{error}");
    }
}
