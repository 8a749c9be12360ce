//! Evidence of real workers: what grew is named, the command is kept to its time and size, no secret of
//! an environment is in it, and a kill does not wait.

mod common;

use common::*;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const REQUEST: Duration = Duration::from_secs(20);
const SECRET: &str = "hunter2-correct-horse";

/// One worker with a soft limit of 128 MiB.
fn start(app: &str, address: SocketAddr, more: &str) -> Stanch {
    let mut stanch = Stanch::start(&format!(
        r#"{app}
        SECRET_TOKEN = "{SECRET}"
        [listen]
        address = ["{address}"]
        [leak]
        action = "off"
        [memory]
        sample_interval = "100ms"
        soft_limit = "128MiB"
        [restart]
        backoff_initial = "10ms"
        [rolling]
        drain_timeout = "4s"
        slow_start = "0s"
        {more}
        "#
    ));
    stanch.wait_ready(1);
    stanch
}

fn node(more: &str) -> (Stanch, SocketAddr) {
    let address = free_address();
    (start(&Server::NodeHttp.app(address).toml("evidence", 1), address, more), address)
}

/// Has the worker keep so much.
fn grow(address: SocketAddr, mib: u64) {
    let mut connection = Connection::open(address, REQUEST).expect("connects");
    for _ in 0..mib / 16 {
        if connection.get("/leak?kib=16384").is_err() {
            break;
        }
    }
}

/// The event that tells of a look which knows that so much of this grew. On a busy machine a worker may have grown, or
/// be over the limit, before it was seen in good order: then it is the next one's.
fn look_that_knows(stanch: &mut Stanch, address: SocketAddr, figure: &str, least: u64) -> Value {
    stanch.wait_until(&format!("a look with {figure}"), |stanch| {
        grow(address, 160);
        stanch.event(&["evidence_captured"], |event| {
            event["cause"] == "look" && event["figures"][figure].as_u64() >= Some(least)
        })
    })
}

/// The event that tells of this part of the evidence of the first worker.
fn captured(stanch: &mut Stanch, part: &str) -> Value {
    stanch.wait_until(&format!("evidence: {part}"), |stanch| {
        stanch.event(&["evidence_captured"], |event| {
            event["cause"] == part && event["generation"] == 1
        })
    })
}

fn event(stanch: &mut Stanch, kind: &str) -> Value {
    stanch.wait_until(kind, |stanch| stanch.event(&[kind], |event| event["generation"] == 1))
}

/// `stanch incidents evidence` with these arguments.
fn evidence(stanch: &Stanch, arguments: &[&str]) -> String {
    let answer = stanch.ask_store(&[&["evidence"], arguments].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    answer.stdout
}

/// A file of a part, as it is kept; the text of it.
fn kept(stanch: &Stanch, part: &str, file: &str) -> String {
    let found = files(&stanch.place().file("store.evidence"));
    let wanted = format!("/{part}/{file}.gz");
    let path = found.iter().find(|path| path.to_string_lossy().ends_with(&wanted));
    let path = path.unwrap_or_else(|| panic!("no {wanted} among {found:?}"));
    let mut text = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.path() {
            folder if folder.is_dir() => files(&folder),
            file => vec![file],
        })
        .collect()
}

#[test]
fn a_leak_is_named_and_no_secret_is_told() {
    let (mut stanch, address) = node("");
    let told = look_that_knows(&mut stanch, address, "grew_most_kib", 100 * 1024);
    let figures = &told["figures"];
    assert_eq!(figures["grew_most"], "anonymous memory", "{told}");
    assert!(told["incident"].is_string() && figures["files"].as_u64() >= Some(1), "{told}");
    assert!(figures.get("complete").is_none(), "{told}");
    // It was told to stop afterwards.
    let seq = |event: &Value| event["seq"].as_u64().expect("events are numbered");
    let of_it = |event: &Value| event["generation"] == told["generation"];
    let retired =
        stanch.wait_until("it is retired", |stanch| stanch.event(&["worker_retired"], of_it));
    assert!(seq(&retired) > seq(&told));

    let listed = evidence(&stanch, &["last", "--json"]);
    let worker = format!("0.{}", told["generation"]);
    let mut parts = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(parts.any(|part| part["part"] == "look" && part["worker"] == worker), "{listed}");
    let out = stanch.place().file("out");
    assert!(evidence(&stanch, &["last"]).contains("look.json"));
    evidence(&stanch, &["--extract", out.to_str().unwrap()]);
    let look = files(&out).into_iter().find(|path| path.ends_with("look.json")).expect("extracted");
    let look: Value = serde_json::from_str(&fs::read_to_string(look).unwrap()).unwrap();
    assert!(look["memory_kib"]["Pss"].as_u64() > Some(150 * 1024), "{look}");
    assert_eq!(look["processes"][0]["name"], "node");
    assert!(look["descriptors"]["eventpoll"].as_u64() >= Some(1), "{look}");
    assert!(look["limits"]["Max open files"].is_string(), "{look}");
    assert!(look["scene"]["sample"]["rss_kib"].as_u64() > Some(100 * 1024), "{look}");

    // Nobody else's business.
    for path in files(&stanch.place().file("store.evidence")) {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        let folder = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700, "{path:?}");
    }
    for path in files(&out) {
        let text = fs::read(&path).unwrap();
        let found = text.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!found, "the secret is in {path:?}");
    }
    let incident = told["incident"].as_str().unwrap();
    let report = stanch.ask_store(&["report", incident]).stdout;
    assert!(report.contains("## Evidence") && report.contains("anonymous memory by"), "{report}");
    stanch.stop_clean();
}

#[test]
fn descriptors_that_grew_and_the_last_lines_are_told() {
    let address = free_address();
    let script = format!(
        r#"
import os, sys, threading
sys.path.insert(0, {:?})
import server
kept = []
class Handler(server.Handler):
    def do_GET(self):
        kept.extend(os.pipe() for _ in range(100))
        print("a pipe too many", file=sys.stderr, flush=True)
        super().do_GET()
server.Handler = Handler
server.serve("127.0.0.1", {})
"#,
        servers().join("python-http"),
        address.port()
    );
    let app = App::new(["python3", "-c", &script]).toml("evidence", 1);
    let mut stanch = start(&app, address, "");
    let told = look_that_knows(&mut stanch, address, "descriptors_grew_most_by", 200);
    let figures = &told["figures"];
    assert_eq!(figures["descriptors_grew_most"], "pipe", "{told}");
    assert!(kept(&stanch, "look", "output.log").contains("stderr a pipe too many\n"));
    stanch.stop_clean();
}

/// A supervisor whose evidence command is this script of the shell; what was told of it.
fn with_script(script: &str, more: &str) -> (Stanch, Value) {
    let evidence = format!("[evidence]\ncommand = [\"sh\", \"-c\", {script:?}]\n{more}");
    let (mut stanch, address) = node(&evidence);
    grow(address, 160);
    let told = captured(&mut stanch, "command");
    event(&mut stanch, "worker_retired");
    (stanch, told)
}

#[test]
fn a_command_finds_its_worker_and_its_files_are_kept() {
    let script = "echo {pid} $STANCH_PID {slot}.{generation} $STANCH_INCIDENT; \
                  echo oops >&2; cat /proc/$STANCH_PID/comm > mine; echo x > {folder}/yours; \
                  ln -s /etc/passwd link";
    let (mut stanch, told) = with_script(script, "");
    let said = kept(&stanch, "command", "stdout.txt");
    let (pid, incident) = (&told["pid"], told["incident"].as_str().unwrap());
    assert_eq!(said, format!("{pid} {pid} 0.1 {incident}\n"));
    assert_eq!(kept(&stanch, "command", "stderr.txt"), "oops\n");
    assert_eq!(kept(&stanch, "command", "mine"), "node\n");
    assert_eq!(kept(&stanch, "command", "yours"), "x\n");
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains("link is not a plain file"), "{told}");
    assert_eq!(told["figures"]["files"], 4, "{told}");
    stanch.stop_clean();
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let script = "echo begun; sleep 1000 & (setsid sleep 1001 &); sleep 1002";
    let (mut stanch, told) = with_script(script, "timeout = \"300ms\"");
    assert!(told["reason"].as_str().unwrap().contains("killed after 0.3 s"), "{told}");
    assert_eq!(told["figures"]["complete"], false);
    assert_eq!(kept(&stanch, "command", "stdout.txt"), "begun\n");
    let retired = event(&mut stanch, "worker_retired");
    assert!(retired["reason"].as_str().unwrap().starts_with("ended as asked"), "{retired}");
    stanch.stop_clean();
}

#[test]
fn a_command_that_writes_too_much_is_stopped() {
    for script in ["yes", "yes > file", "while :; do head -c 100000 /dev/zero > f$((i+=1)); done"] {
        let (mut stanch, told) = with_script(script, "max_size = \"1MiB\"");
        let reason = told["reason"].as_str().unwrap();
        // A single file meets its limit in the kernel, and the command with it.
        assert!(
            reason.contains("wrote more than 1MiB") || reason.contains("ended with"),
            "{script}: {told}"
        );
        let files = files(&stanch.place().file("store.evidence"));
        let command = files.iter().filter(|path| path.to_string_lossy().contains("/command/"));
        let bytes: u64 = command.map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes < 1 << 20, "{bytes}");
        stanch.stop_clean();
    }
}

#[test]
fn a_command_that_fails_is_told_and_keeps_nobody() {
    let (mut stanch, told) = with_script("echo no such heap >&2; exit 3", "");
    assert!(told["reason"].as_str().unwrap().contains("ended with exit code 3"), "{told}");
    assert_eq!(kept(&stanch, "command", "stderr.txt"), "no such heap\n");
    stanch.stop_clean();

    let (mut stanch, address) = node("[evidence]\ncommand = [\"./no-such-program\"]");
    grow(address, 160);
    let told = captured(&mut stanch, "command");
    assert!(told["reason"].as_str().unwrap().contains("could not be started"), "{told}");
    event(&mut stanch, "worker_retired");
    stanch.stop_clean();
}

#[test]
fn the_oldest_evidence_makes_room() {
    let script = "head -c 300000 /dev/urandom";
    let more = "max_size = \"512KiB\"\nkeep = \"512KiB\"";
    let (mut stanch, _) = with_script(script, more);
    let address = stanch.status()["listeners"][0]["address"].as_str().unwrap().parse().unwrap();
    stanch.wait_until("a second one", |stanch| stanch.ready_after(0, 1));
    grow(address, 160);
    let told = stanch.wait_until("room was made", |stanch| {
        stanch.event(&["evidence_captured"], |event| {
            event["figures"]["removed_parts"].as_u64() > Some(0)
        })
    });
    assert!(told["figures"]["removed_bytes"].as_u64() > Some(0), "{told}");
    let listed = evidence(&stanch, &["--json"]);
    assert!(!listed.contains("\"part\":\"command\",\"worker\":\"0.1\"") && !listed.is_empty());
    stanch.stop_clean();
}

#[test]
fn a_kill_over_the_hard_limit_waits_for_nothing() {
    // A command that would take all the time of the world, and is not even asked.
    let address = free_address();
    let app = Server::NodeHttp.app(address).toml("evidence", 1);
    let mut stanch = Stanch::start(&format!(
        r#"{app}
        [listen]
        address = ["{address}"]
        [leak]
        action = "off"
        [memory]
        sample_interval = "100ms"
        hard_limit = "128MiB"
        [evidence]
        command = ["sleep", "1000"]
        timeout = "15m"
        "#
    ));
    stanch.wait_ready(1);
    grow(address, 320);
    let over = stanch.wait_until("over the limit", |stanch| {
        stanch.event(&["memory_hard_limit", "memory_oom_killed"], |_| true)
    });
    let told = captured(&mut stanch, "remains");
    // The kill did not wait, so it is what was known before.
    let remains: Value = serde_json::from_str(&kept(&stanch, "remains", "remains.json")).unwrap();
    let samples = remains["scene"]["samples"].as_array().unwrap();
    let memory = |sample: &Value| sample[1]["rss_anon_kib"].as_u64();
    assert!(samples.len() > 1, "{remains}");
    assert!(samples.iter().map(memory).max() > samples.iter().map(memory).min(), "{remains}");
    let retired = event(&mut stanch, "worker_retired");
    assert_eq!(told["incident"], over["incident"]);
    assert_eq!(retired["cause"], "killed", "{retired}");
    assert!(stanch.event(&["evidence_captured"], |event| event["cause"] == "command").is_none());
    stanch.wait_until("its replacement", |stanch| stanch.ready_after(0, 1));
    stanch.stop_clean();
}

#[test]
fn what_a_worker_said_before_it_died_is_kept_unless_that_is_off() {
    let last_words = |more: &str| {
        let address = free_address();
        let app = faulty("exit-at-once", address).toml("evidence", 1);
        let mut stanch =
            Stanch::start(&format!("{app}\n[listen]\naddress = [\"{address}\"]\n{more}"));
        let told = captured(&mut stanch, "remains");
        let found = files(&stanch.place().file("store.evidence"));
        let output = found.iter().any(|path| path.ends_with("remains/output.log.gz"));
        let text = output.then(|| kept(&stanch, "remains", "output.log"));
        stanch.stop_clean();
        (told, text)
    };
    let (told, text) = last_words("");
    assert_eq!(text.as_deref(), Some("stderr faulty: no database\n"), "{told}");
    let (told, text) = last_words("[evidence]\nlog_lines = 0");
    assert_eq!(text, None, "{told}");
}

/// A script of `config/evidence`.
fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/evidence").join(name);
    path.to_string_lossy().into_owned()
}

#[test]
fn the_recipe_for_node_takes_a_heap_snapshot() {
    let address = free_address();
    let mut app = Server::NodeHttp.app(address);
    app.command.insert(1, "--heapsnapshot-signal=SIGUSR2".to_owned());
    let command = format!("[evidence]\ncommand = [{:?}]", recipe("node-heap"));
    let mut stanch = start(&app.toml("evidence", 1), address, &command);
    grow(address, 160);
    let told = captured(&mut stanch, "command");
    assert!(told["figures"].get("complete").is_none(), "{told}");
    let listed = evidence(&stanch, &["--json"]);
    let name = listed.split('"').find(|word| word.ends_with(".heapsnapshot"));
    let name = name.unwrap_or_else(|| panic!("{listed}"));
    let snapshot: Value = serde_json::from_str(&kept(&stanch, "command", name)).expect("is whole");
    assert!(snapshot["snapshot"]["meta"]["node_types"].is_array());
    stanch.stop_clean();
}

#[test]
fn the_recipe_for_python_tells_where_it_is() {
    let address = free_address();
    let stacks = tempfile::tempdir().unwrap();
    let stacks = stacks.path().join("stacks");
    let script = format!(
        r#"
import faulthandler, os, signal, sys
faulthandler.register(signal.SIGUSR1, all_threads=True, file=open({:?} + f".{{os.getpid()}}", "w"))
sys.path.insert(0, {:?})
import server
server.serve("127.0.0.1", {})
"#,
        stacks,
        servers().join("python-http"),
        address.port()
    );
    let app = App::new(["python3", "-c", &script]).toml("evidence", 1);
    let command = format!("[evidence]\ncommand = [{:?}, {stacks:?}]", recipe("python-stacks"));
    let mut stanch = start(&app, address, &command);
    grow(address, 160);
    captured(&mut stanch, "command");
    let said = kept(&stanch, "command", "stdout.txt");
    assert!(said.contains("serve_forever") && said.contains("asked:"), "{said}");
    stanch.stop_clean();
}

#[test]
fn evidence_that_cannot_be_saved_harms_nobody() {
    let address = free_address();
    let place = Place::new();
    fs::write(place.file("store.evidence"), "not a folder").unwrap();
    let app = Server::NodeHttp.app(address).toml("evidence", 1);
    let config = format!(
        "{app}\n[listen]\naddress = [\"{address}\"]\n[memory]\nsoft_limit = \"128MiB\"\n\
         [leak]\naction = \"off\"\n[evidence]\ncommand = [\"true\"]"
    );
    let mut stanch = Stanch::start_in(place, &config, Output::Log);
    stanch.wait_ready(1);
    grow(address, 160);
    for part in ["look", "command"] {
        let told = captured(&mut stanch, part);
        assert!(told["reason"].as_str().unwrap().contains("could not be saved"), "{told}");
    }
    event(&mut stanch, "worker_retired");
    stanch.wait_until("its replacement", |stanch| stanch.ready_after(0, 1));
    stanch.stop_clean();
}
