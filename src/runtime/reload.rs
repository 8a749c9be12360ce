//! A configuration that is read again: judged against the present one, and put into force.
//!
//! It is read beside the engine, because a disk may hang. The core decides; what it takes is in
//! [`Executor::candidate`] until its action comes.

use super::engine::Engine;
use super::executor::{Executor, without_limit};
use super::launch::Surroundings;
use super::message::Message;
use super::output::Destination;
use super::sampler::{Holds, Pace};
use crate::config::{Config, difference};
use crate::core::reload::{Holds as When, Reconfiguration, Reload, Start, Then};
use crate::core::words::chain;
use crate::core::{Command, Event, Refusal, Reply};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

/// Reads the configuration that the supervisor was started with again; the error lists all that is wrong
/// with it.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// A configuration that was read again.
#[derive(Debug)]
pub(super) struct Reread {
    by: String,
    then: Then,
    reply: Option<oneshot::Sender<Reply>>,
    found: Result<Config, Refusal>,
}

/// A configuration that the core is being asked about.
#[derive(Debug)]
pub(super) struct Candidate {
    config: Config,
    destination: Destination,
    /// It names the release that was rolled back, and comes without.
    rolled_back: bool,
}

/// Releases that are not in force.
#[derive(Debug, Default)]
pub(super) struct Releases {
    /// The one before.
    before: Option<Config>,
    /// One that was gone back from: it is not taken again but by a deploy.
    rolled_back: Option<Config>,
}

impl Engine {
    /// Begins to read the configuration again; goes on with [`Self::on_reread`].
    pub fn reload(&self, by: String, then: Then, reply: Option<oneshot::Sender<Reply>>) {
        self.service.reloading();
        let read = self.read_config.clone();
        let events = self.executor.surroundings.events.clone();
        tokio::spawn(async move {
            let found = match read {
                None => Err(Refusal::No(
                    "stanch was started without --config, so there is nothing to reload".to_owned(),
                )),
                Some(read) => match spawn_blocking(move || read()).await {
                    Ok(found) => found.map_err(Refusal::Wrong),
                    Err(error) => Err(Refusal::No(format!("a fault of stanch: {error}"))),
                },
            };
            let reread = Reread { by, then, reply, found };
            // An engine that has ended answers no more.
            let _ = events.send(Message::Reread(Box::new(reread))).await;
        });
    }

    /// Has the core decide; what it takes is in force when this returns.
    pub async fn on_reread(&mut self, reread: Reread) {
        let Reread { by, then, reply, found } = reread;
        let found = found.and_then(|mut new| {
            let Surroundings { config: old, store, .. } = &self.executor.surroundings;
            new.settings.memory.host_kib = old.settings.memory.host_kib;
            let new = new.in_mode_of(old);
            let mut difference = difference(old, &new);
            let mut config = new.in_place_of(old);
            let given_up = self.executor.releases.rolled_back.as_ref();
            let rolled_back = then != Then::Deploy
                && given_up.is_some_and(|given_up| given_up.is_same_release(&config));
            if rolled_back {
                config = config.with_release_of(old);
                difference.put_off(When::InNewWorkers, When::WithDeploy);
            }
            let (start, proof) = (config.start_against(old), config.proof());
            let before = self.executor.releases.before.as_ref();
            let start_before = before.map_or(Start::Alike, |before| config.start_against(before));
            let destination = Destination::of(&config, store).map_err(Refusal::Wrong)?;
            let (was, is) = (old.settings.workers, config.settings.workers);
            let workers = (was != is).then_some(is);
            let settings = config.settings.clone();
            self.executor.candidate = Some(Candidate { config, destination, rolled_back });
            let found =
                Reconfiguration { settings, workers, difference, start, start_before, proof };
            Ok(Box::new(found))
        });
        self.command(by, Command::Reload(Reload { found, then }), reply).await;
        self.executor.candidate = None;
        self.service.reloaded();
    }
}

impl Executor {
    /// Puts the candidate into force.
    pub fn reconfigure(&mut self, remember: bool) -> Vec<Event> {
        let Some(Candidate { config, destination, rolled_back }) = self.candidate.take() else {
            return Vec::new();
        };
        let (old, new) = self.put_into_force(config);
        if remember {
            self.releases.before = Some(Config::clone(&old));
        }
        self.releases.rolled_back.take_if(|_| !rolled_back);
        self.sampler.set_pace(Pace::of(&new));
        self.evidence.set_keep(new.evidence.keep.0);
        if old.log != new.log {
            self.surroundings.output.follow(&new.log, destination);
        }
        if old.settings.alerts != new.settings.alerts {
            self.alerts.follow(&self.surroundings);
        }
        let hard_limit_kib = new.settings.memory.hard_limit_kib;
        if old.settings.memory.hard_limit_kib == hard_limit_kib {
            return Vec::new();
        }
        self.limit_anew(hard_limit_kib)
    }

    /// Has workers started as in the release before.
    pub fn roll_back(&mut self) {
        let Some(before) = self.releases.before.take() else { return };
        let config = Config::clone(&self.surroundings.config).with_release_of(&before);
        let (given_up, _) = self.put_into_force(config);
        self.releases.rolled_back = Some(Config::clone(&given_up));
    }

    /// And again as in the one that was gone back from.
    pub fn roll_forward(&mut self) {
        let Some(given_up) = self.releases.rolled_back.take() else { return };
        let config = Config::clone(&self.surroundings.config).with_release_of(&given_up);
        self.put_into_force(config);
    }

    /// Gives the configuration of before, and the one of now.
    fn put_into_force(&mut self, config: Config) -> (Arc<Config>, Arc<Config>) {
        let new = Arc::new(config);
        let old = std::mem::replace(&mut self.surroundings.config, Arc::clone(&new));
        self.surroundings.hasher = Arc::new(self.surroundings.hasher.reconfigured(&new));
        self.news.send_replace(Arc::clone(&new));
        (old, new)
    }

    /// Has the kernel hold another hard limit, of those that live as well: one whose group cannot, or
    /// who has none, is looked at often enough instead.
    fn limit_anew(&mut self, hard_limit_kib: Option<u64>) -> Vec<Event> {
        let app = &self.surroundings.config.app.name;
        if let Err(why) = self.limits.set_hard_limit(&self.procfs, app, hard_limit_kib) {
            tracing::warn!(why = chain(&why), "the kernel will not hold hard limits; polling does");
        }
        let mut events = Vec::new();
        for (worker, live) in self.roster.iter_mut() {
            let held = live.memory.as_mut().is_some_and(|memory| {
                let outcome = memory.set_limit(worker, hard_limit_kib);
                outcome.inspect_err(|error| drop(without_limit(worker, error))).is_ok()
                    && memory.is_limited()
            });
            self.sampler.set_holds(worker, Holds::by_kernel(held));
            events.extend(held.then_some(Event::LimitHeld { worker }));
        }
        events
    }
}
