//! From the configuration to a running worker.

use super::command;
use super::lock::lock;
use super::makeup::Hasher;
use super::message::{LaunchFailure, Message};
use super::notices::Notices;
use super::output::{Output, Stream};
use super::prober::Prober;
use super::tail::Tail;
use crate::config::{Config, ListenAddress, ListenMode, variables};
use crate::core::words::chain;
use crate::core::{Event, Slot, WorkerId};
use crate::linux::launch::{Environment, Limit, Plan, Takeover};
use crate::linux::mark::Mark;
use crate::linux::plane::{Address, Calls, Plane, PlaneEvent};
use crate::linux::spawn::{self, Launching, Progress};
use nix::errno::Errno;
use nix::unistd::getpid;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

/// How long a worker's start waits for the hashes of its files. They are kept, so it is only the first one
/// that comes later: node's program alone has 100 MB.
const MAKEUP_PATIENCE: Duration = Duration::from_millis(20);

/// What the tasks of a worker share.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub config: Arc<Config>,
    /// Each configuration that comes into force.
    pub news: watch::Receiver<Arc<Config>>,
    pub plane: Arc<Mutex<Plane>>,
    pub events: mpsc::Sender<Message>,
    pub output: Output,
    pub takeover: Takeover,
    pub hasher: Arc<Hasher>,
    /// The path of the audit log, absolute.
    pub store: Arc<Path>,
    pub notices: Notices,
}

fn failure(stage: &str, error: impl Into<String>) -> LaunchFailure {
    LaunchFailure { stage: stage.to_owned(), error: error.into() }
}

impl From<spawn::SpawnError> for LaunchFailure {
    fn from(error: spawn::SpawnError) -> Self {
        failure(error.stage(), chain(&error))
    }
}

impl Surroundings {
    /// Where a worker of `slot` listens, as far as known.
    pub fn addresses_of(&self, slot: Slot) -> Vec<SocketAddr> {
        let mut addresses = self.addresses();
        addresses.extend(self.config.listen.own_address(slot));
        addresses
    }

    /// Where the workers listen together, as far as known.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        if self.config.listen.mode == ListenMode::Port {
            return Vec::new();
        }
        let configured = self.config.listen.addresses.iter().filter_map(|address| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        });
        let plane = lock(&self.plane);
        let bound = plane.listeners().into_iter().filter_map(|address| match address {
            Address::Inet(address) => Some(address),
            Address::Unix(_) => None,
        });
        let mut addresses: Vec<SocketAddr> = bound.chain(configured).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// What its processes carry in their environment.
    pub fn mark(&self, worker: WorkerId) -> String {
        Mark::new(worker, getpid().as_raw(), &self.config.app.name, &self.store).to_string()
    }

    /// What the worker shall be.
    pub fn plan(&self, worker: WorkerId) -> Result<Plan, LaunchFailure> {
        let Config { app, listen, limits, settings, .. } = &*self.config;
        let (program, arguments) =
            app.command.split_first().ok_or_else(|| failure("exec", "there is no command"))?;
        let account =
            command::account(&self.config).map_err(|error| failure("user", chain(&error)))?;
        let mut environment = command::environment(&self.config, account.as_ref());
        environment.set("NOTIFY_SOCKET", self.notices.address());
        if let Some(watchdog) = settings.health.watchdog {
            environment.set("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        if let Some(path) = &app.environment_file {
            read_environment(path, &mut environment)?;
        }
        for (name, value) in &app.environment.0 {
            environment.set(name, value);
        }
        if listen.mode == ListenMode::Port {
            let address = listen.own_address(worker.slot).ok_or_else(|| {
                let what = "there is no port left for this slot: they end at 65535";
                failure("listen", what)
            })?;
            environment.set("PORT", address.port().to_string());
        }
        if let Some(release) = &settings.release {
            environment.set("STANCH_RELEASE", release);
        }
        let limit = |limit: &crate::config::Rlimit| Limit {
            name: limit.name(),
            soft: limit.soft,
            hard: limit.hard,
        };
        Ok(Plan {
            arguments: arguments.iter().map(Into::into).collect(),
            environment,
            directory: app.directory.as_ref().map(|path| path.as_os_str().to_owned()),
            credentials: account.map(|account| account.credentials),
            umask: app.umask,
            limits: limits.iter().map(limit).collect(),
            takeover: match listen.mode {
                ListenMode::Takeover => self.takeover,
                ListenMode::Inherit | ListenMode::Port | ListenMode::None => Takeover::Off,
            },
            mark: self.mark(worker),
            ..Plan::new(worker, program)
        })
    }

    /// Sees a launch through to its end and tells it; then probes the worker. Runs until aborted.
    /// `tail` remembers its last lines.
    pub async fn attend(
        self,
        worker: WorkerId,
        mut launching: Launching,
        plan: Plan,
        tail: Arc<Tail>,
    ) {
        let (hasher, events) = (Arc::clone(&self.hasher), self.events.clone());
        let hashed = tokio::spawn(async move {
            if let Some(makeup) = hasher.in_turn(plan).await {
                let _ = events.send(Event::MadeOf { worker, makeup }.into()).await;
            }
        });
        if let Some(pipes) = launching.take_pipes() {
            self.output.attach(worker, Stream::Stdout, pipes.stdout, tail.writer());
            self.output.attach(worker, Stream::Stderr, pipes.stderr, tail.writer());
        }
        let (said, bound) = watch::channel(false);
        let deadline = Instant::now() + self.config.settings.ready_timeout;
        let outcome = loop {
            match launching.next(deadline).await {
                Ok(Progress::Executing { notify: Some(notify) }) => {
                    let this = self.clone();
                    let said = said.clone();
                    match Calls::of(worker, notify, &self.plane) {
                        Ok(calls) => {
                            tokio::spawn(async move { this.answer(worker, calls, said).await });
                        }
                        Err(error) => {
                            tracing::error!(%worker, %error, "cannot wait for the worker's calls");
                        }
                    }
                }
                Ok(Progress::Executing { notify: None }) => {}
                Ok(Progress::Running) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        drop(said);
        let _ = timeout(MAKEUP_PATIENCE, hashed).await;
        let runs = outcome.is_ok();
        let _ = self.events.send(Message::Launched { worker, outcome }).await;
        if runs {
            let Surroundings { config, news, plane, events, notices, .. } = self;
            let reached = false;
            Prober { worker, config, news, plane, reached, bound, notices, events }.run().await;
        }
    }

    /// Answers the worker's trapped calls until no process with its filter is left.
    pub async fn answer(&self, worker: WorkerId, calls: Calls, bound: watch::Sender<bool>) {
        while let Some(told) = calls.next(&self.plane).await {
            match told {
                Ok(event) => self.on_plane_event(event, &bound).await,
                Err(error) => tracing::warn!(%worker, error = chain(&error), "takeover"),
            }
        }
    }

    async fn on_plane_event(&self, event: PlaneEvent, bound: &watch::Sender<bool>) {
        match event {
            PlaneEvent::Bound { worker, address, new, options_kept } => {
                if new {
                    tracing::info!(%worker, "supervises {address} from now on");
                } else {
                    tracing::debug!(%worker, %address, "has its address");
                }
                if new && !options_kept {
                    tracing::info!(
                        "takeover is limited: pidfd_getfd is refused here: options that the workers set on their sockets \
                         before bind are lost (`stanch doctor` tells the remedy)"
                    );
                }
                bound.send_replace(true);
            }
            PlaneEvent::Listening { worker } => tracing::debug!(%worker, "listens"),
            PlaneEvent::BindFailed { worker, address, errno, owner } => {
                let error = match owner {
                    Some(owner) => format!("{address} is in use by {owner}"),
                    None => format!("cannot listen on {address}: {}", errno.desc()),
                };
                tracing::warn!(%worker, %error, "bind failed");
                let _ = self.events.send(Event::Obstacle { worker, error }.into()).await;
            }
            PlaneEvent::LetThrough { worker, call, errno } => {
                let remedy = match errno {
                    Errno::EMFILE | Errno::ENFILE => {
                        "raise stanch's limit of open files (ulimit -n, LimitNOFILE=)"
                    }
                    _ => {
                        "set [listen] mode = \"inherit\" if the server knows LISTEN_FDS, or give \
                         stanch CAP_SYS_PTRACE"
                    }
                };
                tracing::warn!(
                    %worker,
                    "takeover does not work here: {call:?} could not be looked into ({}); the \
                     worker's replacement will find its port in use: {remedy}; `stanch doctor` tells \
                     more",
                    errno.desc()
                );
            }
        }
    }
}

fn read_environment(path: &Path, environment: &mut Environment) -> Result<(), LaunchFailure> {
    let failed = |what: String| failure("environment", format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let variables =
        variables(&text).map_err(|line| failed(format!("line {line}: not NAME=VALUE")))?;
    variables.into_iter().for_each(|(name, value)| environment.set(name, value));
    Ok(())
}
