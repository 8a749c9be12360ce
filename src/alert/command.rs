//! A command that tells somebody: the letter on standard input, in a process group of its own.

use super::attempt::Refusal;
use super::letter::{Letter, cut};
use super::secret::masked;
use crate::core::ExitStatus;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// So much of the end of what a command prints is kept, in bytes.
const TAIL: usize = 400;

/// How a child ended.
pub type Exit = oneshot::Receiver<ExitStatus>;

/// Starts a child so that its end is told: the engine reaps all children of the process.
pub type Start = Arc<dyn Fn(&mut Command) -> io::Result<(Child, Exit)> + Send + Sync>;

/// What commands run in.
#[derive(Clone)]
pub struct Surroundings {
    /// Their environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How they are started.
    pub start: Start,
}

/// Runs it to its end; gives the end of what it printed.
pub(super) async fn run(
    argv: &[String],
    letter: &Letter,
    patience: Duration,
    surroundings: &Surroundings,
) -> Result<String, Refusal> {
    let program = argv.first().map_or("", String::as_str);
    let failed = |error: io::Error| Refusal::later(format!("cannot run {program}: {error}"));
    let (mut child, exit, printed) = spawn(argv, letter, surroundings).map_err(failed)?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let input = child.stdin.take().map(OwnedFd::from).map(pipe::Sender::from_owned_fd);
    let input = input.transpose().map_err(failed)?;
    let mut output = pipe::Receiver::from_owned_fd(printed.into()).map_err(failed)?;
    let mut tail = Vec::new();
    let body = letter.json();
    let talk = async {
        let write = async {
            if let Some(mut input) = input {
                // A command that does not read it may know why.
                let _ = input.write_all(body.as_bytes()).await;
            }
        };
        tokio::join!(write, listen(&mut output, &mut tail));
        std::future::pending().await
    };
    // Its end counts, not that of its output: what it left in the background may hold that for ever.
    let outcome = timeout(patience, async {
        tokio::select! {
            status = exit => status.ok(),
            () = talk => None,
        }
    })
    .await;
    if outcome.is_err() {
        // The leader is not reaped, or only just: the group is still its own.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    rest(&output, &mut tail);
    let said = masked(&String::from_utf8_lossy(&tail), &[]);
    let error = match outcome {
        Ok(Some(ExitStatus::Code(0))) => return Ok(said),
        Ok(Some(status)) => format!("{program} ended with {status}"),
        Ok(None) => format!("how {program} ended was not seen"),
        Err(_) => format!("{program} was killed after {} s", patience.as_secs_f64()),
    };
    Err(Refusal::later(match said.is_empty() {
        true => error,
        false => format!("{error}: {}", cut(&said, TAIL)),
    }))
}

fn spawn(
    argv: &[String],
    letter: &Letter,
    surroundings: &Surroundings,
) -> io::Result<(Child, Exit, PipeReader)> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let incident = &letter.alert.incident;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(surroundings.environment.iter().map(|(name, value)| (name, value)))
        .env("STANCH_APP", &letter.app)
        .env("STANCH_WHAT", letter.alert.id.what.as_str())
        .env("STANCH_INCIDENT", &incident.id.0)
        .env("STANCH_KIND", &incident.kind)
        .env("STANCH_SEVERITY", incident.severity.as_str())
        .env("STANCH_TO", &letter.alert.id.to)
        .env("STANCH_SUBJECT", masked(&letter.subject(), &[]))
        .env("STANCH_TEXT", letter.text().replace('\0', " "))
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let (child, exit) = (surroundings.start)(&mut command)?;
    Ok((child, exit, reader))
}

async fn listen(output: &mut pipe::Receiver, tail: &mut Vec<u8>) {
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = output.read(&mut piece).await {
        keep(tail, &piece[..read]);
    }
}

/// What was printed and is not read yet, a pipe full at most. Asks the kernel: tokio's `try_read` knows
/// only of what its reactor has seen by now.
fn rest(output: &pipe::Receiver, tail: &mut Vec<u8>) {
    let mut piece = [0; 1024];
    for _ in 0..64 {
        match nix::unistd::read(output, &mut piece) {
            Ok(read @ 1..) => keep(tail, &piece[..read]),
            _ => return,
        }
    }
}

fn keep(tail: &mut Vec<u8>, piece: &[u8]) {
    tail.extend_from_slice(piece);
    tail.drain(..tail.len().saturating_sub(TAIL));
}
