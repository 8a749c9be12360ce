//! A supervisor under test.

use super::{Output, PATIENCE, Place, process, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A client command of stanch that takes longer than this has hung.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A running `stanch run`. When a test fails, its log and status are printed; in any case all that
/// it started is killed.
pub struct Stanch {
    supervisor: Child,
    place: Place,
    output: Option<io::PipeReader>,
}

/// What a command of stanch answered.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Stanch {
    /// Starts one in a place of its own.
    pub fn start(config: &str) -> Self {
        Self::start_in(Place::new(), config, Output::Log)
    }

    /// Starts one in a place that was prepared.
    pub fn start_in(place: Place, config: &str, output: Output) -> Self {
        let config = place.write_config(config);
        let (mut command, output) = place.run(&config, output);
        let supervisor = command.spawn().expect("the stanch binary starts");
        Self { supervisor, place, output }
    }

    /// Starts it again, in the same place with the same configuration, after its end.
    pub fn restart(&mut self) {
        let (mut command, output) = self.place.run(&self.place.file("stanch.toml"), Output::Log);
        self.supervisor = command.spawn().expect("the stanch binary starts");
        self.output = output;
    }

    /// Its folder, with the paths of its files.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.supervisor.id()).expect("pids are positive")
    }

    /// Begins to read the output of one that was started with [`Output::Unread`]; it goes to the log.
    pub fn read_output(&mut self) {
        let mut from = self.output.take().expect("started with unread output");
        let to = std::fs::File::options().create(true).append(true).open(self.place.file("log"));
        let mut to = to.expect("the log can be written");
        std::thread::spawn(move || io::copy(&mut from, &mut to));
    }

    /// Runs a client command on it, `restart 1` as `&["restart", "1"]`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Answer {
        answer(self.place.stanch(arguments).arg("--socket").arg(self.place.socket()))
    }

    /// `status --json`; the error is what the command said.
    pub fn try_status(&self) -> Result<Value, String> {
        let answer = self.command(&["status", "--json"]);
        match answer.code {
            Some(0) => serde_json::from_str(&answer.stdout)
                .map_err(|error| format!("status is not JSON: {error}: {}", answer.stdout)),
            code => Err(format!("status: exit code {code:?}: {}", answer.stderr.trim())),
        }
    }

    /// `status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The workers of `status --json`.
    pub fn workers(&self) -> Vec<Value> {
        let status = self.try_status().unwrap_or_default();
        status["workers"].as_array().cloned().unwrap_or_default()
    }

    /// The ready worker of a slot that is younger than `generation`.
    pub fn ready_after(&self, slot: u64, generation: u64) -> Option<Value> {
        self.workers().into_iter().find(|worker| {
            worker["slot"] == slot
                && worker["state"] == "ready"
                && worker["generation"].as_u64() > Some(generation)
        })
    }

    /// `incidents events --json`, oldest first; empty while there is no store.
    pub fn events(&self) -> Vec<Value> {
        self.list("events")
    }

    /// `incidents list --json`, oldest first; empty while there is no store.
    pub fn incidents(&self) -> Vec<Value> {
        self.list("list")
    }

    /// `stanch incidents` with these arguments.
    pub fn ask_store(&self, arguments: &[&str]) -> Answer {
        let mut command = self.place.stanch(&["incidents"]);
        answer(command.args(arguments).arg("--store").arg(self.place.store()))
    }

    fn list(&self, what: &str) -> Vec<Value> {
        let answer = self.ask_store(&[what, "--json"]);
        let lines = answer.stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    /// The first event of one of these kinds that the rest of the question fits.
    pub fn event(&self, kinds: &[&str], fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let kind_fits = |event: &Value| kinds.iter().any(|kind| event["kind"] == *kind);
        self.events().into_iter().find(|event| kind_fits(event) && fits(event))
    }

    /// Waits for a state of the supervisor; fails at once when it has ended.
    #[track_caller]
    pub fn wait_until<T>(&mut self, what: &str, mut ask: impl FnMut(&Self) -> Option<T>) -> T {
        wait_until(PATIENCE, what, || {
            let answer = ask(&*self);
            if answer.is_none() {
                let ended = self.ended();
                assert!(ended.is_none(), "the supervisor ended ({ended:?}) before: {what}");
            }
            answer
        })
    }

    /// Waits until so many slots have a ready worker.
    #[track_caller]
    pub fn wait_ready(&mut self, workers: usize) {
        self.wait_until("all workers ready", |stanch| {
            let live = stanch.workers();
            (live.len() == workers && live.iter().all(|worker| worker["state"] == "ready"))
                .then_some(())
        });
        // Else "no process is left" would be true of processes that were never seen.
        let seen = self.place.processes().len();
        assert!(seen > workers, "only {seen} processes carry the mark of the test");
    }

    /// How the supervisor ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.supervisor.try_wait().expect("it is our child")
    }

    /// Waits until the supervisor has ended by itself.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_until(PATIENCE, "the supervisor has ended", || self.ended())
    }

    /// Stops it with SIGTERM and waits for its end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        process::kill(self.pid(), Signal::SIGTERM);
        self.wait_end()
    }

    /// Stops it; fails unless it ends well and leaves no process behind.
    #[track_caller]
    pub fn stop_clean(&mut self) {
        let status = self.stop();
        assert!(status.success(), "the supervisor ended with {status}");
        let left = self.place.processes();
        assert!(left.is_empty(), "processes that outlived the supervisor: {left:?}");
    }
}

impl Drop for Stanch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- status: {:#}", self.try_status().unwrap_or_else(Value::String));
            eprintln!("--- end of the log of the supervisor:");
            let log = self.place.log();
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(200)..] {
                eprintln!("{line}");
            }
        }
        // Before its workers, which it would start again. It may have ended already.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

/// Runs a command to its end; one that hangs fails the test.
#[track_caller]
pub fn answer(command: &mut Command) -> Answer {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the command starts");
    let pid = i32::try_from(child.id()).expect("pids are positive");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(COMMAND_TIMEOUT) else {
        process::kill(pid, Signal::SIGKILL);
        panic!("no end within {COMMAND_TIMEOUT:?}: {command:?}");
    };
    let output = output.expect("the output can be read");
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
