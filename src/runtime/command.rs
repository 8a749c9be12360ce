//! Commands of the operator that are run for a worker: started as a worker is (a session of their own, the
//! worker's user, nothing inherited but what they shall have), and nothing of them survives.

use super::children::Exit;
use super::lock::lock;
use crate::config::Config;
use crate::core::WorkerId;
use crate::core::words::chain;
use crate::linux::launch::{Account, AccountError, Environment, Plan};
use crate::linux::spawn::{Launching, Progress};
use crate::linux::tree::Tree;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// A command that is being started.
pub(super) struct Started {
    pub launching: Launching,
    /// All that it starts.
    pub tree: Arc<Mutex<Tree>>,
    /// Its end, from who reaps the supervisor's children.
    pub exit: Exit,
}

impl Started {
    /// Sees the start through; the error says why it does not run.
    pub async fn runs(&mut self, until: Instant) -> Result<(), String> {
        loop {
            match self.launching.next(until).await {
                Ok(Progress::Executing { .. }) => {}
                Ok(Progress::Running) => return Ok(()),
                Err(error) => {
                    let stage = error.stage();
                    return Err(format!("could not be started: {stage}: {}", chain(&error)));
                }
            }
        }
    }

    /// Ends it with all that it has started.
    pub fn kill_off(&self) {
        lock(&self.tree).kill_all();
    }
}

/// As whom workers and commands run, where that is configured.
pub(super) fn account(config: &Config) -> Result<Option<Account>, AccountError> {
    Account::resolve(config.app.user.as_deref(), config.app.group.as_deref())
}

/// What workers and commands inherit, as that user. Without the secrets of alerts: the user may look into
/// it.
pub(super) fn environment(config: &Config, account: Option<&Account>) -> Environment {
    let mut environment = Environment::inherited();
    config.settings.alert_variables().for_each(|name| environment.remove(name));
    if let Some(account) = account {
        environment.set_account(account);
    }
    environment
}

/// What a command shall be. Each of `values` replaces its name in braces, and is in the environment:
/// `("pid", "7")` replaces `{pid}` and sets `STANCH_PID`. The launcher adds slot and generation there.
pub(super) fn plan(
    config: &Config,
    account: Option<Account>,
    worker: WorkerId,
    command: &[String],
    values: &[(&str, &str)],
) -> Result<Plan, String> {
    let (slot, generation) = (worker.slot.to_string(), worker.generation.to_string());
    let own = [("slot", slot.as_str()), ("generation", generation.as_str())];
    let replace = |word: &String| {
        let values = values.iter().chain(&own);
        values.fold(word.clone(), |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
    };
    let mut words = command.iter().map(replace);
    let program = words.next().ok_or("there is no command")?;
    let mut environment = environment(config, account.as_ref());
    for (name, value) in values {
        environment.set(format!("STANCH_{}", name.to_uppercase()), value);
    }
    if let Some(release) = &config.settings.release {
        environment.set("STANCH_RELEASE", release);
    }
    Ok(Plan {
        arguments: words.map(Into::into).collect(),
        environment,
        credentials: account.map(|account| account.credentials),
        ..Plan::new(worker, program)
    })
}
