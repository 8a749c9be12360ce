//! stanch as a service of systemd, where `NOTIFY_SOCKET` says that it is one: ready, alive, what it does; and
//! what is to outlive it.
//!
//! All is said by the engine task itself, in its turn: a heart that beats in a task of its own would go
//! on when the engine is stuck. What could not be said is said again with the next beat.

use super::lock::lock;
use crate::core::{SlotView, Supervisor, View};
use crate::linux::fdstore::Kept;
use crate::linux::notify::{self, Manager};
use crate::linux::plane::Plane;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// From one beat to the next, where the watchdog does not ask for more.
const BEAT: Duration = Duration::from_secs(1);

/// What the service manager is told, and was told.
#[derive(Debug)]
pub(super) struct Service {
    manager: Option<Manager>,
    watched: bool,
    beat: Interval,
    ready: bool,
    stopping: bool,
    status: String,
    /// The names of what it keeps.
    kept: BTreeSet<String>,
}

impl Service {
    /// As the environment says; with what the manager kept.
    pub fn of_environment(kept: &[Kept]) -> Self {
        let variable = |name| env::var(name).ok();
        let manager = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let manager = Manager::at(&name);
            manager.inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET is of no use")).ok()
        });
        let watchdog = notify::watchdog(
            variable("WATCHDOG_USEC").as_deref(),
            variable("WATCHDOG_PID").as_deref(),
        );
        let period = watchdog.map_or(BEAT, |watchdog| BEAT.min(watchdog / 2));
        let mut beat = interval(period.max(Duration::from_millis(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let service = Self {
            manager,
            watched: watchdog.is_some(),
            beat,
            ready: false,
            stopping: false,
            status: String::new(),
            kept: kept.iter().map(|kept| kept.name.clone()).collect(),
        };
        // The engine has the first turn later; after an upgrade the program before has said it last.
        service.alive();
        service
    }

    /// Whether there is anybody to tell.
    pub fn is_managed(&self) -> bool {
        self.manager.is_some()
    }

    /// Waits for the next beat.
    pub async fn tick(&mut self) {
        self.beat.tick().await;
    }

    /// Says that it lives, and what it does if that has changed.
    pub fn beat(&mut self, view: &View) {
        self.alive();
        let status = status(view);
        if status != self.status && self.tell(&format!("STATUS={status}")) {
            self.status = status;
        }
    }

    /// Has the manager keep what listens, as long as this is not about to end, and nothing else.
    pub fn keep(&mut self, plane: &Plane) {
        let Some(manager) = &self.manager else { return };
        let worth = if self.stopping { BTreeMap::new() } else { plane.worth_keeping() };
        let told = |name: &str, outcome: io::Result<()>| {
            outcome.inspect_err(|error| tracing::debug!(%error, name, "not kept, or not forgotten"))
        };
        self.kept
            .retain(|name| worth.contains_key(name) || told(name, manager.forget(name)).is_err());
        for (name, socket) in worth {
            if !self.kept.contains(&name) && told(&name, manager.keep(&name, socket)).is_ok() {
                self.kept.insert(name);
            }
        }
    }

    /// Says what happens once: that all workers have come to be ready, and that they are told to end.
    pub fn follow(&mut self, supervisor: &Supervisor, plane: &Mutex<Plane>) {
        if !self.is_managed() {
            return;
        }
        if !self.ready && supervisor.is_up() {
            self.ready = self.tell("READY=1");
        }
        if !self.stopping && supervisor.is_stopping() {
            self.stopping = self.tell("STOPPING=1");
            // Else who connects after the end of the workers would wait for nobody.
            self.keep(&lock(plane));
        }
    }

    /// Says that the configuration is being read again, by this program or the one that takes its place:
    /// that may take a while, and its watchdog begins anew.
    pub fn reloading(&self) {
        self.alive();
        match notify::reloading() {
            Ok(lines) => drop(self.tell(&lines)),
            Err(error) => tracing::debug!(%error, "the service manager was not told of the reload"),
        }
    }

    /// Says that it was read, whatever came of it.
    pub fn reloaded(&self) {
        if self.ready {
            self.tell("READY=1");
        }
    }

    fn alive(&self) {
        if self.watched {
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, lines: &str) -> bool {
        let told = self.manager.as_ref().map(|manager| manager.tell(lines));
        match told {
            Some(Err(error)) => {
                tracing::debug!(%error, lines, "the service manager was not told");
                false
            }
            Some(Ok(())) => true,
            None => false,
        }
    }
}

/// One line.
fn status(view: &View) -> String {
    let mut slots: Vec<_> = view.slots.iter().map(|row| row.slot).collect();
    slots.dedup();
    let serves = |row: &SlotView| row.state == "ready" && !row.hangs();
    let ready = |slot| view.slots.iter().any(|row| row.slot == slot && serves(row));
    let serving = slots.iter().filter(|slot| ready(**slot)).count();
    let incidents = match view.incidents_open {
        0 => String::new(),
        1 => "; 1 open incident".to_owned(),
        many => format!("; {many} open incidents"),
    };
    format!("{}: {serving} of {} workers ready{incidents}", view.state, slots.len())
}
