//! The engine: one task that owns the state. Events in, actions out, for ever.

use super::clock::Clock;
use super::executor::Executor;
use super::handle::Request;
use super::handover::{Candidate, Departure};
use super::lock::lock;
use super::message::Message;
use super::reload::ReadConfig;
use super::service::Service;
use super::status::{self, Frame};
use super::upgrade::Origin;
use crate::config::ListenMode;
use crate::core::reload::Then;
use crate::core::words::chain;
use crate::core::{Action, Command, Event, Legacy, Sample, Slot, Supervisor, Ticket, WorkerId};
use crate::linux::plane::Address;
use crate::store::{Health, Store};
use crate::wire;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// A tree that is being killed is looked at again this often, should a SIGCHLD say nothing of it.
const REMAINS_PAUSE: Duration = Duration::from_millis(200);

/// Signals that the engine acts upon, and those that would end it and orphan the workers: people send
/// them out of habit (log rotation, the reload of other servers).
pub(super) const SIGNALS: [i32; 8] =
    [SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM];

/// How supervision ended.
#[derive(Debug)]
pub enum End {
    /// Every worker has ended; the store is to be closed.
    Stopped(Store),
    /// Another program takes over.
    Leaving(Box<Departure>),
}

/// Everything that the loop owns.
pub(super) struct Engine {
    pub clock: Clock,
    pub supervisor: Supervisor,
    pub executor: Executor,
    pub store: Store,
    pub service: Service,
    pub signals: Signals,
    pub messages: mpsc::Receiver<Message>,
    pub requests: mpsc::Receiver<Request>,
    pub read_config: Option<ReadConfig>,
    /// How this supervisor was started.
    pub origin: Origin,
    pub tickets: u64,
    /// What another supervisor has left.
    pub legacy: Legacy,
    /// Signals that came before there was an engine.
    pub early: BTreeSet<i32>,
    /// No face asks any more.
    pub deserted: bool,
}

impl Engine {
    /// Supervises until told to stop, or until another program is to take over; gives the store back, so
    /// that it can be closed.
    pub async fn run(mut self) -> End {
        let legacy = std::mem::take(&mut self.legacy);
        let succeeds = legacy.succession.is_some();
        let actions = self.supervisor.recover(self.clock.now(), legacy);
        self.follow(actions).await;
        if succeeds {
            self.service.follow(&self.supervisor, &self.executor.surroundings.plane);
            self.executor.remember();
        }
        for signal in std::mem::take(&mut self.early) {
            self.on_signal(signal).await;
        }
        let mut store_lives = true;
        // Not made anew in each turn: who asks for the status often must not put it off for ever.
        let mut remains_look = interval(REMAINS_PAUSE);
        remains_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.executor.finished {
            let timeout = self.supervisor.poll_timeout().map(|at| self.clock.instant(at));
            let remains = self.executor.roster.has_remains();
            tokio::select! {
                Some(message) = self.messages.recv() => self.on_message(message).await,
                Some(signal) = self.signals.next() => self.on_signal(signal).await,
                request = self.requests.recv(), if !self.deserted => match request {
                    Some(request) => self.on_request(request).await,
                    None => self.deserted = true,
                },
                health = self.store.health(), if store_lives => match health {
                    Some(health) => self.on_health(health).await,
                    None => store_lives = false,
                },
                () = at(timeout), if timeout.is_some() => {
                    let actions = self.supervisor.handle_timeout(self.clock.now());
                    self.follow(actions).await;
                }
                _ = remains_look.tick(), if remains => {
                    let events = self.executor.look();
                    self.tell_all(events).await;
                }
                () = self.service.tick(), if self.service.is_managed() => {
                    self.service.beat(&self.supervisor.view(self.clock.now()));
                    self.service.keep(&lock(&self.executor.surroundings.plane));
                }
            }
            self.service.follow(&self.supervisor, &self.executor.surroundings.plane);
            if self.executor.leaving.is_some()
                && let Some((estate, luggage, Candidate { program, connection })) =
                    self.depart().await
            {
                let config = Arc::clone(&self.executor.surroundings.config);
                self.executor.go();
                let store = self.store;
                let departure = Departure { store, estate, luggage, program, connection, config };
                return End::Leaving(Box::new(departure));
            }
        }
        End::Stopped(self.store)
    }

    pub async fn on_message(&mut self, message: Message) {
        let events = match message {
            Message::Event(event) => vec![event],
            Message::Sampled(samples) => return self.on_samples(samples).await,
            Message::Launched { worker, outcome } => {
                let mut events = self.executor.launched(worker, outcome);
                // Its exit may have been held back.
                events.extend(self.executor.look());
                events
            }
            Message::Ended { worker } => self.executor.ended(worker),
            Message::Oom { worker } => self.executor.oom(worker).into_iter().collect(),
            Message::Reread(reread) => return self.on_reread(*reread).await,
            Message::Tried(tried) => return self.on_tried(*tried).await,
        };
        self.tell_all(events).await;
    }

    async fn on_samples(&mut self, samples: Vec<(WorkerId, Sample)>) {
        let events = samples.into_iter().map(|(worker, sample)| Event::Sampled { worker, sample });
        let actions = self.supervisor.handle_all(events, self.clock.now());
        self.follow(actions).await;
    }

    async fn on_signal(&mut self, signal: i32) {
        match signal {
            SIGCHLD => {
                let events = self.executor.look();
                self.tell_all(events).await;
            }
            // Images of web servers ask for SIGQUIT as the stop signal of their containers.
            SIGTERM | SIGINT | SIGQUIT => {
                let name = Signal::try_from(signal).map_or("?", Signal::as_str);
                self.command(format!("signal {name}"), Command::Stop, None).await;
            }
            SIGHUP => self.reload("signal SIGHUP".to_owned(), Then::Keep, None),
            SIGUSR1 if self.executor.surroundings.output.reopen() => {
                tracing::info!("the file of the workers' output is opened anew with the next line");
            }
            SIGUSR1 => tracing::warn!("SIGUSR1 is ignored: stanch has no log file to reopen"),
            // What it means is the application's business; who does not catch it would die of it.
            SIGUSR2 => {
                let workers = self.executor.roster.pass_on(Signal::SIGUSR2);
                tracing::info!(workers, "SIGUSR2 was passed on to the workers that catch it");
            }
            other => tracing::warn!(signal = other, "the signal is ignored"),
        }
    }

    async fn on_request(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Request::Reload { by, then, reply } => self.reload(by, then, Some(reply)),
            Request::Upgrade { by, connection, reply } => self.upgrade(by, connection, reply),
            Request::Command { by, command, reply } => self.command(by, command, Some(reply)).await,
        }
    }

    async fn on_health(&mut self, health: Health) {
        let event = match health {
            Health::Degraded { error } => {
                let error = chain(&error);
                self.executor.store_problem = Some(error.clone());
                Event::StoreDegraded { error }
            }
            Health::Restored { buffered, lost, gone, states } => {
                self.executor.store_problem = None;
                Event::StoreRestored { buffered, lost, gone, states }
            }
            Health::Altered { why } => Event::StoreAltered { why },
        };
        self.tell_all(vec![event]).await;
    }

    pub async fn command(
        &mut self,
        by: String,
        command: Command,
        reply: Option<oneshot::Sender<crate::core::Reply>>,
    ) {
        let ticket = self.ticket(reply);
        self.tell_all(vec![Event::Command { ticket, by, command }]).await;
    }

    /// A number for a question, and who waits for the answer.
    pub fn ticket(&mut self, reply: Option<oneshot::Sender<crate::core::Reply>>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if let Some(reply) = reply {
            self.executor.replies.insert(ticket, reply);
        }
        ticket
    }

    /// Tells the core, one by one, and follows what it says, until there is nothing new.
    pub async fn tell_all(&mut self, events: Vec<Event>) {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            let actions = self.supervisor.handle(event, self.clock.now());
            events.extend(self.executor.carry_out(actions).await);
        }
    }

    async fn follow(&mut self, actions: Vec<Action>) {
        let events = self.executor.carry_out(actions).await;
        self.tell_all(events).await;
    }

    fn status(&self) -> wire::Status {
        let now = self.clock.now();
        let config = &self.executor.surroundings.config;
        let mode = config.listen.mode.to_string();
        let view = self.supervisor.view(now);
        let slots: BTreeSet<Slot> = view.slots.iter().map(|row| row.slot).collect();
        let surroundings = &self.executor.surroundings;
        let own = slots.into_iter().filter_map(|slot| surroundings.config.listen.own_address(slot));
        let plane = lock(&surroundings.plane);
        let addresses = match config.listen.mode {
            ListenMode::Port => own.map(Address::Inet).collect(),
            ListenMode::Takeover | ListenMode::Inherit | ListenMode::None => plane.listeners(),
        };
        let frame = Frame {
            app: config.app.name.clone(),
            config: self.origin.config.clone(),
            enforcement: self.executor.limits.enforcement(),
            store: status::store(self.executor.store_problem.as_deref(), &self.executor.store),
            uptime_s: now.mono.as_secs_f64(),
            listeners: addresses
                .into_iter()
                .map(|address| status::listener(&address, &mode, plane.queue(&address)))
                .collect(),
        };
        status::status(view, frame)
    }
}

async fn at(timeout: Option<Instant>) {
    if let Some(at) = timeout {
        sleep_until(at).await;
    }
}
