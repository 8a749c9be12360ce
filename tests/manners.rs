//! Small manners of `stanch run`: a dry run, the limit of open files, and what is read of a program.

mod common;

use common::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Child;

/// Executes its arguments with other limits of open files than ours.
const FEW_FILES: &str = r#"
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 900))
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn configure(place: &Place, address: SocketAddr, more: &str) -> String {
    // Not node, which raises its own soft limit.
    let app = Server::PythonHttp.app(address).toml("manners", 1);
    let text = format!("{app}\n[listen]\naddress = [\"{address}\"]\n{more}");
    place.write_config(&text).to_string_lossy().into_owned()
}

/// One that ends with the test.
struct Running<'a>(Child, &'a Place);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.1.log());
        }
    }
}

fn ask(place: &Place, arguments: &[&str]) -> Option<String> {
    let answer = answer(place.stanch(arguments).arg("--socket").arg(place.socket()));
    (answer.code == Some(0)).then_some(answer.stdout)
}

fn ready(place: &Place) -> Option<Value> {
    let status: Value = serde_json::from_str(&ask(place, &["status", "--json"])?).ok()?;
    let worker = status["workers"][0].clone();
    (worker["state"] == "ready").then_some(worker)
}

fn event(place: &Place, kind: &str) -> Option<Value> {
    let mut events = place.stanch(&["incidents", "events", "--json", "--kind", kind, "--store"]);
    let listed = answer(events.arg(place.store())).stdout;
    serde_json::from_str(listed.lines().next()?).ok()
}

#[test]
fn a_dry_run_says_what_it_would_do_until_it_is_told_to_do_it() {
    let (place, address) = (Place::new(), free_address());
    let config = configure(&place, address, "[memory]\nsoft_limit = \"1MiB\"\n");
    let run = place.stanch(&["run", "--dry-run", "--config", &config]).spawn();
    let _running = Running(run.expect("it starts"), &place);
    let worker = wait_until(PATIENCE, "a worker is ready", || ready(&place));
    let told = wait_until(PATIENCE, "it says so", || event(&place, "action_withheld"));
    assert_eq!((&told["cause"], &told["pid"]), (&"soft_limit".into(), &worker["pid"]), "{told}");
    assert!(told["reason"].as_str().unwrap().contains("would be replaced"), "{told}");
    assert!(told["incident"].is_string(), "{told}");
    assert_eq!(event(&place, "roll_started"), None);
    let by = event(&place, "operator_command").expect("who paused it is written down");
    assert!(by["reason"].as_str().unwrap().contains("--dry-run"), "{by}");
    ask(&place, &["resume"]).expect("it obeys");
    wait_until(PATIENCE, "it is replaced", || event(&place, "roll_started"));
}

#[test]
fn stanch_may_open_more_files_than_its_workers() {
    let (place, address) = (Place::new(), free_address());
    let config = configure(&place, address, "");
    let run = place.stanch_in(FEW_FILES, &["run", "--config", &config]).spawn();
    let running = Running(run.expect("it starts"), &place);
    let worker = wait_until(PATIENCE, "a worker is ready", || ready(&place));
    let limits = |pid: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut words = line.unwrap().split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    let both = |soft: &str, hard: &str| (soft.to_owned(), hard.to_owned());
    assert_eq!(limits(&running.0.id().to_string()), both("900", "900"));
    assert_eq!(limits(&worker["pid"].to_string()), both("512", "900"));
}

#[test]
fn a_program_is_read_once_however_many_workers_start_from_it() {
    const WORKERS: u64 = 8;
    const SIZE: u64 = 64 * 1024 * 1024;
    let place = Place::new();
    let program = place.file("shell");
    fs::copy("/bin/sh", &program).expect("can be copied");
    // What lies beyond the program in its file is nothing to the kernel.
    fs::File::options().write(true).open(&program).unwrap().set_len(SIZE).unwrap();
    let app =
        App::new([program.to_str().unwrap(), "-c", "sleep 1000"]).toml("manners", WORKERS as u32);
    let mut stanch =
        Stanch::start_in(place, &format!("{app}\n[listen]\nmode = \"none\"\n"), Output::Log);
    stanch.wait_until("all are hashed", |stanch| {
        let hashed = |event: &Value| event["figures"]["program_hash"].is_string();
        let slots = stanch.events().into_iter().filter(hashed);
        let slots: BTreeSet<u64> = slots.filter_map(|event| event["slot"].as_u64()).collect();
        (slots.len() as u64 == WORKERS).then_some(())
    });
    let counts = fs::read_to_string(format!("/proc/{}/io", stanch.pid())).expect("it lives");
    let read: u64 =
        counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    assert!((SIZE..2 * SIZE).contains(&read), "{read} bytes were read");
    stanch.stop_clean();
}
