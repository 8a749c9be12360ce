//! `stanch upgrade`, until all is at rest: the program that is to take the place of this one is tried,
//! with what it will be told, in the environment that it will have.
//!
//! It is run as a child, `stanch __upgrade-trial` with the arguments of this supervisor and what that
//! would leave at this moment on standard input. It answers with a line of JSON, or says on standard
//! error why it will not do. Whatever else it does (it hangs, crashes, is no program, or one from before
//! there were upgrades) is a no, and changes nothing here.

use super::children::Children;
use super::engine::Engine;
use super::handover::Candidate;
use super::lock::lock;
use super::message::Message;
use super::reload::ReadConfig;
use crate::config::{Config, difference};
use crate::core::{Command, Event, ExitStatus, Reply};
use crate::linux::handover::{Luggage, Parcel, Program, own_path};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long a program may take to say whether it will do.
const TRIAL: Duration = Duration::from_secs(10);
/// So much of what it says is kept, in bytes.
const SAID_MAX: u64 = 4096;

/// What a program answers that will do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fit {
    /// Its version.
    pub version: String,
}

/// How this supervisor was started, and so how another one will be.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Where its program is, or a newer one.
    pub program: Option<PathBuf>,
    /// What it was called with, beginning with its own name and `run`.
    pub arguments: Vec<OsString>,
    /// The file that its configuration is read from.
    pub config: Option<PathBuf>,
}

impl Origin {
    /// As this process was, with this configuration.
    pub fn of_process(config: Option<PathBuf>) -> Self {
        Self { program: own_path(), arguments: std::env::args_os().collect(), config }
    }
}

/// A program that was tried.
#[derive(Debug)]
pub(super) struct Tried {
    by: String,
    outcome: Result<(Program, String), String>,
    connection: Option<OwnedFd>,
    reply: oneshot::Sender<Reply>,
}

impl Engine {
    /// Begins to try the program; goes on with [`Self::on_tried`].
    pub fn upgrade(&self, by: String, connection: Option<OwnedFd>, reply: oneshot::Sender<Reply>) {
        let events = self.executor.surroundings.events.clone();
        let children = self.executor.children.clone();
        let config = Arc::clone(&self.executor.surroundings.config);
        let (read, origin) = (self.read_config.clone(), self.origin.clone());
        let problem = self.executor.store_problem.as_ref();
        let parcel = match problem {
            _ if self.executor.leaving.is_some() => Err("another upgrade is under way".to_owned()),
            Some(problem) => Err(format!(
                "the audit log cannot be written ({problem}), and what waits for it would be lost"
            )),
            None => self.sample().map_err(|error| format!("nothing can be handed over: {error}")),
        };
        tokio::spawn(async move {
            let trial = async {
                unchanged(config, read).await?;
                attempt(&origin, &parcel?, &children).await
            };
            let outcome = trial.await;
            let tried = Tried { by, outcome, connection, reply };
            // An engine that has ended answers no more.
            let _ = events.send(Message::Tried(Box::new(tried))).await;
        });
    }

    /// What would be handed over now, for a trial.
    fn sample(&self) -> std::io::Result<Parcel> {
        let mut luggage = Luggage::default();
        let plane = &self.executor.surroundings.plane;
        let estate = {
            let plane = lock(plane);
            self.estate(&plane, &mut luggage)?
        };
        Parcel::pack(&estate, Luggage::default())
    }

    /// Has the core decide, now that it is known whether the program will do.
    pub async fn on_tried(&mut self, tried: Tried) {
        let Tried { by, outcome, connection, reply } = tried;
        let ticket = self.ticket(Some(reply));
        let tried = outcome.map(|(program, version)| {
            self.executor.candidates.insert(ticket, Candidate { program, connection });
            version
        });
        self.tell_all(vec![Event::Command { ticket, by, command: Command::Upgrade { tried } }])
            .await;
    }
}

/// The successor will read the configuration again: it must be the one that is in force.
async fn unchanged(config: Arc<Config>, read: Option<ReadConfig>) -> Result<(), String> {
    let Some(read) = read else { return Ok(()) };
    let found = spawn_blocking(move || read()).await;
    let mut found = found.map_err(|error| format!("a fault of stanch: {error}"))??;
    found.settings.memory.host_kib = config.settings.memory.host_kib;
    let difference = difference(&config, &found);
    let changes: Vec<&str> = difference.0.iter().map(|change| change.text.as_str()).collect();
    match changes[..] {
        [] => Ok(()),
        _ => Err(format!(
            "the config file says something else than what is in force; `stanch reload` first (`stanch \
             deploy`, if it names a release that was rolled back), or restart stanch where that says so: {}",
            changes.join("; ")
        )),
    }
}

/// Tries the program; gives it, and its version.
async fn attempt(
    origin: &Origin,
    parcel: &Parcel,
    children: &Children,
) -> Result<(Program, String), String> {
    let path = origin.program.as_deref().ok_or("where stanch's program is cannot be told")?;
    let failed = |what: &str, error: std::io::Error| format!("{what} {}: {error}", path.display());
    let program = Program::at(path).map_err(|error| failed("cannot find", error))?;
    let (child, exit, [said, complained]) = start(path, &origin.arguments, parcel, children)
        .map_err(|error| failed("cannot run", error))?;
    let listen = async { tokio::join!(hear(said), hear(complained), exit) };
    let Ok((said, complained, status)) = timeout(TRIAL, listen).await else {
        // Not reaped, or only just: the group is still its own.
        let _ = killpg(Pid::from_raw(child), Signal::SIGKILL);
        let patience = TRIAL.as_secs();
        return Err(format!(
            "{} did not say within {patience} s whether it will do",
            path.display()
        ));
    };
    let fit = serde_json::from_str::<Fit>(&said);
    match (status, fit) {
        (Ok(ExitStatus::Code(0)), Ok(fit)) => Ok((program, fit.version)),
        (status, _) => {
            let ended = status.map_or_else(|_| "unseen".to_owned(), |status| status.to_string());
            let complaint = complained.trim();
            let complaint = if complaint.is_empty() { "it does not say why" } else { complaint };
            Err(format!("{} will not do ({ended}): {complaint}", path.display()))
        }
    }
}

type Running = (i32, super::children::Exit, [PipeReader; 2]);

fn start(
    path: &Path,
    arguments: &[OsString],
    parcel: &Parcel,
    children: &Children,
) -> std::io::Result<Running> {
    let (said, says) = std::io::pipe()?;
    let (complained, complains) = std::io::pipe()?;
    let mut process = Process::new(path);
    process
        .arg("__upgrade-trial")
        // Behind its name and `run`.
        .args(arguments.iter().skip(2))
        .stdin(Stdio::from(parcel.document()?))
        .stdout(says)
        .stderr(complains)
        .process_group(0);
    let (child, exit) = children.spawn(&mut process)?;
    Ok((child.id().cast_signed(), exit, [said, complained]))
}

/// What it says, as far as it is kept.
async fn hear(pipe: PipeReader) -> String {
    let mut text = Vec::new();
    if let Ok(pipe) = pipe::Receiver::from_owned_fd(pipe.into()) {
        // What was read before an error is what there is.
        let _ = pipe.take(SAID_MAX).read_to_end(&mut text).await;
    }
    String::from_utf8_lossy(&text).into_owned()
}
