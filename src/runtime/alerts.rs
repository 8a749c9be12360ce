//! From the core's alerts to letters, and from what becomes of them to events.

use super::children::Children;
use super::launch::Surroundings;
use super::message::Message;
use crate::alert::{self, Courier, Letter, Setup, read_secret};
use crate::core::words::chain;
use crate::core::{Alert, AlertFailure, AlertId, Event, IncidentId, Occasion};
use crate::linux::launch::Environment;
use crate::report::runbook;
use crate::store::{self, Writer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Outcomes that may wait for the engine.
const QUEUE: usize = 64;

/// Sends alerts; costs nothing where none is configured.
pub(super) struct Alerts {
    courier: Option<Courier>,
    app: String,
    host: String,
    store: Writer,
    children: Children,
}

impl Alerts {
    /// Begins, if there is anybody to tell. Supervision goes on without, and says so.
    pub fn start(surroundings: &Surroundings, store: &Writer, children: &Children) -> Self {
        let config = &surroundings.config;
        let host = nix::unistd::gethostname().unwrap_or_else(|_| "localhost".into());
        Self {
            courier: courier(surroundings, children, None),
            app: config.app.name.clone(),
            host: host.to_string_lossy().into_owned(),
            store: store.clone(),
            children: children.clone(),
        }
    }

    /// Goes on with the alerts of the configuration that is in force now. What was on its way is tried
    /// again.
    pub fn follow(&mut self, surroundings: &Surroundings) {
        let predecessor = self.courier.take().map(Courier::end);
        self.courier = courier(surroundings, &self.children, predecessor);
    }

    /// Sends no more: what is not delivered stays in the spool. What is to be waited for.
    pub fn end(&mut self) -> Option<JoinHandle<()>> {
        self.courier.take().map(Courier::end)
    }

    /// Has somebody told; if that cannot even begin, says so.
    pub fn send(&self, alert: Alert) -> Option<Event> {
        let id = alert.id.clone();
        let page = runbook::of(&alert.incident.kind);
        let items = |heading| page.map(|page| runbook::items(page, heading)).unwrap_or_default();
        let letter = Letter {
            app: self.app.clone(),
            host: self.host.clone(),
            head: self.store.head().hash,
            runbook: runbook::LISTS.into_iter().flat_map(items).collect(),
            alert,
        };
        let error = match self.courier.as_ref().map(|courier| courier.send(letter)) {
            Some(Ok(())) => return None,
            Some(Err(_)) => "too many alerts at once".to_owned(),
            None => "the thread that sends alerts could not be started".to_owned(),
        };
        let outcome = Err(AlertFailure { error, given_up: true });
        Some(Event::Alerted { alert: id, attempts: 0, outcome })
    }
}

/// Who an earlier supervisor was about to tell, in the form of [`Legacy::told`](crate::core::Legacy::told): the
/// courier goes on with that, so they count as told.
pub(super) fn waiting(store: &Path) -> Vec<(IncidentId, (String, Occasion, bool))> {
    let waiting = alert::waiting(&spool(store)).unwrap_or_else(|error| {
        tracing::warn!(%error, "who was about to be told of incidents is not known");
        Vec::new()
    });
    let told = |AlertId { incident, what, to, .. }| (incident, (to, what, false));
    waiting.into_iter().map(told).collect()
}

fn spool(store: &Path) -> PathBuf {
    store::beside(store, ".alerts")
}

/// One that begins when its predecessor has ended; none without anybody to tell.
fn courier(
    surroundings: &Surroundings,
    children: &Children,
    predecessor: Option<JoinHandle<()>>,
) -> Option<Courier> {
    let config = &surroundings.config;
    if config.settings.alerts.is_empty() {
        return None;
    }
    let targets: Vec<_> = config.settings.alert_targets().cloned().collect();
    for secret in targets.iter().flat_map(|target| target.secrets()) {
        if let Err(error) = read_secret(secret) {
            tracing::warn!(error = chain(&error), "an alert could not be sent now");
        }
    }
    let mut environment = Environment::inherited();
    config.settings.alert_variables().for_each(|name| environment.remove(name));
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    let children = children.clone();
    let (events, outcomes) = mpsc::channel(QUEUE);
    tokio::spawn(forward(outcomes, surroundings.events.clone()));
    let setup = Setup {
        predecessor,
        targets,
        spool: spool(&surroundings.store),
        environment: environment.collect(),
        start: Arc::new(move |command: &mut Command| children.spawn(command)),
        events,
    };
    Courier::start(setup)
        .inspect_err(|error| tracing::error!(%error, "nobody will be told of incidents"))
        .ok()
}

async fn forward(mut outcomes: mpsc::Receiver<Event>, events: mpsc::Sender<Message>) {
    while let Some(outcome) = outcomes.recv().await {
        if events.send(outcome.into()).await.is_err() {
            return;
        }
    }
}
