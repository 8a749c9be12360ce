//! The commands that speak to a running supervisor over its control socket.

pub(super) mod call;
mod table;
mod target;
#[cfg(test)]
mod tests;

use super::{Failure, place};
use crate::wire::{self, Answer, Status};
use call::CallError;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use target::Target;

/// Show the workers, their memory and what the leak detector says of them
///
/// With several supervisors running and none chosen, shows them all.
#[derive(clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON: one object a supervisor, one a line
    #[arg(long)]
    json: bool,
}

/// Replace one worker, or all of them one by one, without dropping a request
#[derive(clap::Args)]
pub struct RestartArgs {
    /// The slot of the worker; all workers when absent
    slot: Option<u32>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: Patience,
}

/// Retire the worker of a slot and leave the slot empty until `stanch restart SLOT`
#[derive(clap::Args)]
pub struct DrainArgs {
    /// The slot of the worker
    slot: u32,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: Patience,
}

/// Change the number of workers
#[derive(clap::Args)]
pub struct ScaleArgs {
    /// The new number of workers
    workers: u32,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: Patience,
}

/// Read the config file of the supervisor again and put it into force
///
/// The answer says what holds at once, what holds for workers started from now on, and what needs a
/// restart of stanch. With an error in the file everything stays as it was (exit code 2). SIGHUP does
/// the same, without an answer.
#[derive(clap::Args)]
pub struct ReloadArgs {
    /// Replace all workers afterwards, one by one, so that everything holds for them
    #[arg(long)]
    roll: bool,
    #[command(flatten)]
    target: Target,
}

/// Put the release that the config file names now into service, or stay with the one before
///
/// The config file is read again, then all workers are replaced, one by one. When one of the new ones
/// does not start, crashes or hangs, until all have served for as long as it takes to find out that one
/// hangs, workers are as before again: the same command, environment and user, in the folder that
/// `app.directory` led to then. Exit code 1 says so. What else is new in the file stays in force, as with
/// `reload`.
#[derive(clap::Args)]
pub struct DeployArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: Patience,
}

/// Let the stanch program that is installed now take over, in the same process; workers go on
///
/// The program that stanch was started from is tried first, with what it will be told; if it will not
/// do, everything stays as it was (exit code 1). Then what is under way is waited for, two minutes at
/// most: a roll, a worker that starts or drains, evidence, a hook. The config file must say
/// what is in force. Workers, their sockets and queues, waiting connections and the control socket
/// stay; commands that come meanwhile wait.
#[derive(clap::Args)]
pub struct UpgradeArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: Patience,
    /// Print the answer as a JSON object
    #[arg(long)]
    json: bool,
}

/// Drain all workers and end the supervisor
#[derive(clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    patience: Patience,
}

/// Stop all automatic action but the restart of crashed workers; nor are limits, but a hard
/// limit that the kernel holds (enforced_by cgroup2 or cgroup1)
#[derive(clap::Args)]
pub struct PauseArgs {
    #[command(flatten)]
    target: Target,
}

/// Allow automatic action again
#[derive(clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Patience {
    /// Return as soon as the supervisor has taken the command on
    #[arg(long)]
    no_wait: bool,
}

/// Runs `stanch status`.
pub fn status(args: StatusArgs) -> Result<(), Failure> {
    let sockets = args.target.all(&place::sockets())?;
    let mut failure = None;
    for (index, socket) in sockets.iter().enumerate() {
        match call::status(socket) {
            Ok(status) => print(&shown(&status, args.json, index > 0)?)?,
            // The others are shown all the same.
            Err(error) => {
                if let Some(Failure::Unreachable(earlier)) = failure.replace(error.into()) {
                    eprintln!("stanch: {earlier}");
                }
            }
        }
    }
    if args.target.is_any() {
        for socket in place::sockets().left() {
            eprintln!(
                "stanch: nobody listens on {}: its supervisor was killed, and its workers may serve on; \
                 `stanch run` takes them over",
                socket.display()
            );
        }
    }
    failure.map_or(Ok(()), Err)
}

fn shown(status: &Status, json: bool, gap: bool) -> Result<String, Failure> {
    if !json {
        let gap = if gap { "\n" } else { "" };
        return Ok(format!("{gap}{}", table::render(status)));
    }
    match serde_json::to_string(status) {
        Ok(line) => Ok(line + "\n"),
        Err(error) => Err(Failure::Fault(format!("cannot write the status as JSON: {error}"))),
    }
}

/// Runs `stanch restart`.
pub fn restart(args: RestartArgs) -> Result<(), Failure> {
    let order = wire::Restart { slot: args.slot, wait: !args.patience.no_wait };
    send(&args.target, "/v1/restart", &order)
}

/// Runs `stanch drain`.
pub fn drain(args: DrainArgs) -> Result<(), Failure> {
    let order = wire::Drain { slot: args.slot, wait: !args.patience.no_wait };
    send(&args.target, "/v1/drain", &order)
}

/// Runs `stanch scale`.
pub fn scale(args: ScaleArgs) -> Result<(), Failure> {
    let order = wire::Scale { workers: args.workers, wait: !args.patience.no_wait };
    send(&args.target, "/v1/scale", &order)
}

/// Runs `stanch reload`.
pub fn reload(args: ReloadArgs) -> Result<(), Failure> {
    send(&args.target, "/v1/reload", &wire::Reload { roll: args.roll })
}

/// Runs `stanch deploy`.
pub fn deploy(args: DeployArgs) -> Result<(), Failure> {
    send(&args.target, "/v1/deploy", &wire::Plain { wait: !args.patience.no_wait })
}

/// Runs `stanch upgrade`.
pub fn upgrade(args: UpgradeArgs) -> Result<(), Failure> {
    let socket = args.target.one(&place::sockets())?;
    let order = wire::Plain { wait: !args.patience.no_wait };
    let answer = match call::order(&socket, "/v1/upgrade", &order) {
        Ok(message) => Answer { ok: true, message, routes: Vec::new() },
        Err(CallError::Refused(message)) if args.json => {
            Answer { ok: false, message, routes: Vec::new() }
        }
        Err(error) => return Err(error.into()),
    };
    if !args.json {
        return say(&answer.message);
    }
    say(&serde_json::json!(answer).to_string())?;
    if answer.ok { Ok(()) } else { Err(Failure::No) }
}

/// Runs `stanch stop`. Its socket is gone when this returns, so that the next `stanch run` finds the
/// way free.
pub fn stop(args: StopArgs) -> Result<(), Failure> {
    let socket = args.target.one(&place::sockets())?;
    let wait = !args.patience.no_wait;
    match call::order(&socket, "/v1/stop", &wire::Plain { wait }) {
        Ok(message) => {
            if wait {
                call::wait_until_gone(&socket);
            }
            say(&message)
        }
        // Killed or hurried while it stopped: what was asked for has happened.
        Err(CallError::Closed { .. } | CallError::Ending { .. })
            if call::wait_until_gone(&socket) =>
        {
            say("the supervisor has ended")
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs `stanch pause`.
pub fn pause(args: PauseArgs) -> Result<(), Failure> {
    send(&args.target, "/v1/pause", &wire::Plain { wait: true })
}

/// Runs `stanch resume`.
pub fn resume(args: ResumeArgs) -> Result<(), Failure> {
    send(&args.target, "/v1/resume", &wire::Plain { wait: true })
}

/// Runs `stanch incidents ack`.
pub(super) fn acknowledge(
    socket: Option<PathBuf>,
    config: Option<PathBuf>,
    order: &wire::Acknowledge,
) -> Result<(), Failure> {
    send(&Target { config, socket }, "/v1/incidents/ack", order)
}

fn send(target: &Target, route: &str, order: &impl Serialize) -> Result<(), Failure> {
    let socket: &Path = &target.one(&place::sockets())?;
    say(&call::order(socket, route, order)?)
}

fn say(message: &str) -> Result<(), Failure> {
    print(&format!("{message}\n"))
}

/// Prints on standard output; a reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Fault(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
