//! The drills, and the leaking server that they run.

mod common;

use common::{Connection, PATIENCE, Place, free_address, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// The leaking server, listening.
fn leaky(place: &Place, session: &str) -> (Child, SocketAddr) {
    let address = free_address();
    let arguments = ["__leaky-server", "--address", &address.to_string(), "--session", session];
    let server = place.stanch(&arguments).spawn().expect("the stanch binary starts");
    wait_until(PATIENCE, "the server answers", || common::get(address, "/health", PATIENCE).ok());
    (server, address)
}

fn anon_kib(server: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let anon = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    anon.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).expect("RssAnon is told")
}

fn terminate(server: &Child) {
    common::kill(i32::try_from(server.id()).expect("pids are positive"), Signal::SIGTERM);
}

#[test]
fn the_server_leaks_a_session_a_visit_and_none_a_probe() {
    let place = Place::new();
    let (mut server, address) = leaky(&place, "64KiB");
    let ask = |path: &str| {
        let mut connection = Connection::open(address, PATIENCE).expect("it accepts");
        for _ in 0..400 {
            let response = connection.get(path).expect("it answers");
            assert_eq!(response.status, 200);
        }
    };
    let before = anon_kib(&server);
    ask("/health");
    let probed = anon_kib(&server);
    ask("/");
    let visited = anon_kib(&server);
    assert!(probed < before + 2 * 1024, "{before} KiB, then {probed}");
    let leaked = visited - probed;
    // A few pages come from what the server had freed before.
    assert!((400 * 63..400 * 80).contains(&leaked), "400 sessions of 64 KiB took {leaked} KiB");
    terminate(&server);
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn the_server_ends_with_every_request_answered() {
    let place = Place::new();
    let (mut server, address) = leaky(&place, "1KiB");
    let open = || Connection::open(address, PATIENCE).expect("it accepts");
    let mut silent = open();
    // Connections are accepted in order: when this one is answered, the silent one was accepted.
    let mut idle = open();
    idle.get("/").expect("it answers");
    terminate(&server);
    // It closes idle connections once it is ending.
    idle.receive().expect_err("nothing was asked");
    let response = silent.get("/").expect("it was accepted before the end");
    assert_eq!(response.status, 200);
    silent.receive().expect_err("the server has ended");
    assert!(server.wait().expect("it ends").success());
}

/// A drill with its temporary folder in `place`.
fn drill(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.stanch(&["drill"]);
    command.args(arguments).env("TMPDIR", place.path());
    command
}

fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {output:?}");
    })
}

#[test]
fn drills_are_listed_and_an_unknown_one_is_named() {
    let place = Place::new();
    let listed = drill(&place, &[]).output().expect("the stanch binary starts");
    assert!(listed.status.success());
    assert!(String::from_utf8_lossy(&listed.stdout).contains("leak "), "{listed:?}");
    let unknown = drill(&place, &["flood"]).output().expect("the stanch binary starts");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("\"flood\""), "{unknown:?}");
}

#[test]
fn drill_leak_replaces_every_worker_in_time_and_loses_no_request() {
    let place = Place::new();
    let output = drill(&place, &["leak", "--json"]).output().expect("the stanch binary starts");
    let figures = object(&output);
    assert_eq!(output.status.code(), Some(0), "{figures:#}");
    assert_eq!(figures["passed"], true);
    assert_eq!(figures["requests"]["failed"], 0);
    assert_eq!(figures["slots_replaced"], figures["workers"]);
    assert!(figures["confirmed"]["limit_percent"].as_f64() < Some(50.0), "{figures:#}");
    assert_eq!(figures["incident"]["kind"], "leak");
    assert_eq!(place.processes(), [0; 0]);
    assert_eq!(place.folders(), [] as [PathBuf; 0]);
}

#[test]
fn ctrl_c_ends_a_drill_and_all_that_it_started() {
    let place = Place::new();
    let mut child = drill(&place, &["leak", "--keep"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the stanch binary starts");
    // The drill, its supervisor and a worker at least.
    wait_until(PATIENCE, "the drill has workers", || (place.processes().len() >= 3).then_some(()));
    common::kill(i32::try_from(child.id()).expect("pids are positive"), Signal::SIGINT);
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert_eq!(place.processes(), [0; 0]);
    assert_eq!(place.folders().len(), 1, "--keep keeps the folder");
}

#[test]
fn a_supervisor_that_cannot_start_is_quoted() {
    let place = Place::new();
    // A socket's path has room for some hundred bytes.
    let deep = place.file(&"d".repeat(120));
    fs::create_dir(&deep).expect("the place can be written");
    let output = drill(&place, &["leak"]).env("TMPDIR", &deep).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("the supervisor ended early") && said.contains("sock"), "{said}");
    assert_eq!(place.processes(), [0; 0]);
    assert_eq!(fs::read_dir(&deep).expect("it is there").count(), 0, "nothing is left");
}
