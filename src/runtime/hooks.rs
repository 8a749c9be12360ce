//! Runs the operator's hooks: what they print goes where the worker's output goes, they are kept to their
//! time, and their end is told to the core, which may wait for it.

use super::command::{self, Started};
use super::launch::Surroundings;
use super::output::Stream;
use super::tail::Tail;
use crate::config::Config;
use crate::core::hooks::Call;
use crate::core::words::chain;
use crate::core::{Event, ExitStatus};
use crate::linux::launch::Plan;
use std::net::SocketAddr;
use tokio::time::{Instant, timeout_at};

/// What the command shall be, by the configuration of its worker.
pub(super) fn prepare(
    surroundings: &Surroundings,
    config: &Config,
    call: &Call,
) -> Result<Plan, String> {
    let app = &config.app;
    let account = command::account(config).map_err(|error| chain(&error))?;
    let pid = call.pid.map(|pid| pid.to_string()).unwrap_or_default();
    let addresses = surroundings.addresses_of(call.worker.slot);
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    let values = [
        ("hook", call.hook.as_str()),
        ("app", app.name.as_str()),
        ("pid", pid.as_str()),
        ("address", &addresses.join(",")),
    ];
    let command = config.hooks.command(call.hook);
    let plan = command::plan(config, account, call.worker, command, &values)?;
    Ok(Plan {
        // Not the worker's: what it uses is not the worker's use, and it does not go with it.
        mark: format!("{}-{}", call.hook, call.worker),
        directory: app.directory.as_ref().map(|path| path.as_os_str().to_owned()),
        umask: app.umask,
        ..plan
    })
}

/// Follows a command to its end; the core is told by a message.
pub(super) fn follow(surroundings: &Surroundings, call: Call, mut started: Started) {
    let Surroundings { events, output, .. } = surroundings.clone();
    let until = Instant::now() + call.within;
    if let Some(pipes) = started.launching.take_pipes() {
        // Nobody asks for its last words: they are in the log.
        let tail = Tail::new(0);
        output.attach(call.worker, Stream::Stdout, pipes.stdout, tail.writer());
        output.attach(call.worker, Stream::Stderr, pipes.stderr, tail.writer());
    }
    tokio::spawn(async move {
        let outcome = outcome(&call, &mut started, until).await;
        started.kill_off();
        let Call { worker, hook, .. } = call;
        let _ = events.send(Event::HookEnded { worker, hook, outcome }.into()).await;
    });
}

async fn outcome(call: &Call, started: &mut Started, until: Instant) -> Result<(), String> {
    started.runs(until).await?;
    match timeout_at(until, &mut started.exit).await {
        // Closed: nobody reaps any more, the supervisor ends.
        Ok(Ok(ExitStatus::Code(0)) | Err(_)) => Ok(()),
        Ok(Ok(status)) => Err(format!("ended with {status}; what it printed is in the log")),
        Err(_) => Err(format!("was killed after {} s", call.within.as_secs_f64())),
    }
}
