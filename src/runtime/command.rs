//! Commands of the operator that are run for a worker: started as a worker is (a session of their own, the
//! worker's user, nothing inherited but what they shall have), and nothing of them survives.

use super::children::Exit;
use crate::config::Config;
use crate::core::WorkerId;
use crate::linux::launch::{Account, Environment, Plan};
use crate::linux::spawn::Launching;
use crate::linux::tree::Tree;
use std::sync::{Arc, Mutex, PoisonError};

/// A command that is being started.
pub(super) struct Started {
    pub launching: Launching,
    /// All that it starts.
    pub tree: Arc<Mutex<Tree>>,
    /// Its end, from who reaps the supervisor's children.
    pub exit: Exit,
}

impl Started {
    /// Ends it with all that it has started.
    pub fn kill_off(&self) {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner).kill_all();
    }
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
    let mut environment = Environment::inherited();
    // Its user may look into it.
    config.settings.alert_variables().for_each(|name| environment.remove(name));
    if let Some(account) = &account {
        environment.set_account(account);
    }
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
