//! The engine and what surrounds it: executor, sampler, prober, log pipes.
//!
//! One task owns the state ([`run`]). Everything that may take time is outside of it and tells it
//! through one bounded queue: the sampler, the store and alerts have a thread each, a worker's launch, its
//! takeover and its probes are tasks. The engine itself waits for the disk only, before an
//! intervention and before it answers an operator, and 50 ms at most.

mod adoption;
mod alerts;
mod children;
mod clock;
mod command;
mod connections;
mod drainer;
mod early;
mod engine;
mod evidence;
mod executor;
mod handle;
mod handover;
mod hooks;
mod host;
mod launch;
mod lock;
mod makeup;
mod message;
mod notices;
mod output;
mod prober;
mod recovery;
mod reload;
mod repeats;
mod roster;
mod sampler;
mod service;
mod starts;
mod status;
mod tail;
mod upgrade;

pub use early::EarlySignals;
pub use engine::End;
pub use handle::{Ended, Handle, Request};
pub use handover::{Departure, Estate, Inheritance};
pub use output::{Destination, Output, open_aside, set_aside, trace};
pub use reload::ReadConfig;
pub use upgrade::{Fit, Origin};

use crate::config::{Config, ListenAddress, ListenMode};
use crate::core::words::chain;
use crate::core::{Kind, Makeup, Supervisor};
use crate::linux::cgroup::{Around, Enforcement, Leaves, Limits, Unavailable};
use crate::linux::fdstore::Kept;
use crate::linux::launch::Takeover;
use crate::linux::plane::{Address, Plane};
use crate::linux::pressure;
use crate::linux::procfs::Procfs;
use crate::linux::spawn::Launcher;
use crate::linux::tree::Orphans;
use crate::store::{EventFilter, Reader, Store, StoreError};
use alerts::Alerts;
use children::Children;
use engine::Engine;
use evidence::Collector;
use executor::Executor;
use host::OomKills;
use launch::Surroundings;
use makeup::Hasher;
use nix::unistd::getpid;
use notices::Notices;
use reload::Releases;
use sampler::Sampler;
use service::Service;
use signal_hook_tokio::Signals;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

/// Messages that may wait for the engine.
const QUEUE: usize = 1024;

/// Why supervision could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Signals cannot be received.
    #[error("cannot install the signal handlers")]
    Signals(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start the {0} thread")]
    Thread(&'static str, #[source] io::Error),
    /// Workers could not say that they are ready.
    #[error("cannot open the socket for what workers say of themselves (NOTIFY_SOCKET)")]
    Notices(#[source] io::Error),
    /// Orphans of workers would escape.
    #[error("cannot become the reaper of orphaned worker processes")]
    SubReaper(#[source] io::Error),
    /// What another supervisor handed over is not there.
    #[error("cannot take over what the program before handed over; the workers serve on")]
    Inheritance(#[source] io::Error),
}

/// What supervision begins with.
pub struct Begin {
    /// What is in force.
    pub config: Config,
    /// How a reload reads it again; `None` where it has no file.
    pub read_config: Option<ReadConfig>,
    /// Open, or trying to be.
    pub store: Store,
    /// Where lines go.
    pub output: Output,
    /// What the faces ask.
    pub requests: mpsc::Receiver<Request>,
    /// Told when the faces are to close, because another program takes over, and dropped at the end. The
    /// other one takes over when `requests` is closed.
    pub close_faces: oneshot::Sender<()>,
    /// How this supervisor was started.
    pub origin: Origin,
    /// What another supervisor left to this one.
    pub inheritance: Option<Inheritance>,
    /// Signals that came until now.
    pub early: Option<EarlySignals>,
    /// What the service manager has kept for this process.
    pub kept: Vec<Kept>,
}

/// Supervises until a signal or a command says stop, and returns when every worker has ended; or until
/// another program is to take over.
pub async fn run(begin: Begin) -> Result<End, RunError> {
    let Begin { config, read_config, store, output, requests, close_faces, origin, .. } = begin;
    let mut signals = Signals::new(engine::SIGNALS).map_err(RunError::Signals)?;
    let early = begin.early.map(|early| early.hand_to(&mut signals)).unwrap_or_default();
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| RunError::SubReaper(errno.into()))?;
    let mut config = config;
    let procfs = Procfs::default();
    let around = Around::supervisor(&procfs);
    config.settings.memory.host_kib = host_memory_kib(&around);
    let config = Arc::new(config);
    let (events, messages) = mpsc::channel(QUEUE);
    let writer = store.writer();
    let listen = config.listen.addresses.iter().map(|address| match address {
        ListenAddress::Tcp(address) => Address::Inet(*address),
        ListenAddress::Unix(path) => Address::Unix(path.clone()),
    });
    let mut plane = Plane::new(listen.collect(), Some(config.listen.backlog))
        .ignoring(config.listen.ignore_ports.clone());
    let leaves = Leaves::open(&procfs, &config.app.name)
        .inspect_err(|why| {
            tracing::info!(
                why = chain(why),
                "workers get no cgroups; their trees are known by kinship (`stanch doctor` tells the \
                 remedy)"
            );
        })
        .ok();
    let limits = Limits::strongest(
        &procfs,
        &config.app.name,
        leaves.as_ref(),
        config.settings.memory.hard_limit_kib,
    );
    tell_enforcement(&limits, leaves.as_ref().and_then(Leaves::without_memory));
    let takeover = Takeover::strongest(&procfs);
    if config.listen.mode == ListenMode::Takeover && takeover == Takeover::NoNewPrivileges {
        tracing::info!(
            "without CAP_SYS_ADMIN the workers run with no_new_privs: sudo and file \
                        capabilities do not work in them"
        );
    }
    let path: Arc<Path> =
        std::path::absolute(store.path()).unwrap_or_else(|_| store.path().to_owned()).into();
    let orphans = Orphans::default();
    let log = store.reader().inspect_err(|error| {
        // An empty one holds nothing from before, and why nothing is written to it is told elsewhere.
        if !matches!(error, StoreError::Unbegun { .. }) {
            tracing::error!(error = chain(error), "what was before cannot be read");
        }
    });
    let log = log.ok();
    let service = Service::of_environment(&begin.kept);
    if matches!(config.listen.mode, ListenMode::Takeover | ListenMode::Inherit) {
        plane.take_kept(begin.kept);
    }
    let beginning = begin.inheritance.map(|it| handover::begin(it, &procfs, &orphans, &mut plane));
    let mut beginning = beginning.transpose().map_err(RunError::Inheritance)?;
    let (mut legacy, finds) = match &mut beginning {
        Some(beginning) => beginning.look(&procfs, log.as_ref()),
        None => recovery::look(&config, &procfs, &orphans, &path, log.as_ref(), &mut plane),
    };
    legacy.told.extend(alerts::waiting(&path));
    let succeeds = legacy.succession.is_some();
    let handover::Beginning { clock, inbox, workers_oom_score, reply, .. } =
        beginning.unwrap_or_else(|| handover::Beginning::anew(|| oom_scores(&procfs)));
    let seed = RandomState::new().hash_one(std::process::id());
    let mut supervisor = Supervisor::new(config.settings.clone(), seed);
    let recall = |log| recall(log, &mut supervisor);
    let salt = log.as_ref().map(recall).transpose().unwrap_or_else(|error| {
        tracing::debug!(error = chain(&error), "what was before cannot be read");
        None
    });
    let salt = salt.flatten();
    drop(log);
    let hasher = Arc::new(Hasher::new(&config, salt));
    let plane = Arc::new(Mutex::new(plane));
    let notices = Notices::start(inbox, procfs.clone(), events.clone());
    let notices = notices.map_err(RunError::Notices)?;
    let (news, hears) = watch::channel(Arc::clone(&config));
    let surroundings = Surroundings {
        config,
        news: hears,
        plane,
        events,
        output,
        takeover,
        hasher,
        store: path,
        notices,
    };
    let sampler = Sampler::start(surroundings.clone(), procfs.clone(), writer.clone(), succeeds)
        .map_err(|error| RunError::Thread("sampler", error))?;
    let evidence = Collector::new(
        store.locker(surroundings.config.evidence.keep.0),
        procfs.clone(),
        surroundings.events.clone(),
    );
    let oom_kills = OomKills::new(&procfs);
    let events = surroundings.events.clone();
    tokio::spawn(host::watch(procfs.clone(), around, oom_kills.clone(), events));
    let children = Children::default();
    let alerts = Alerts::start(&surroundings, &writer, &children);
    let executor = Executor {
        surroundings,
        launcher: Launcher::default(),
        procfs,
        orphans,
        leaves,
        limits,
        oom_kills,
        workers_oom_score,
        sampler,
        evidence,
        store: writer,
        store_problem: None,
        roster: roster::Roster::new(children.clone()),
        starts: starts::Starts::default(),
        children,
        finds,
        replies: reply.into_iter().collect(),
        durables: BTreeMap::new(),
        alerts,
        candidate: None,
        releases: Releases::default(),
        news,
        candidates: BTreeMap::new(),
        leaving: None,
        close_faces: Some(close_faces),
        finished: false,
    };
    let engine = Engine {
        clock,
        supervisor,
        executor,
        store,
        service,
        signals,
        messages,
        requests,
        read_config,
        origin,
        tickets: 0,
        legacy,
        early,
        deserted: false,
    };
    Ok(engine.run().await)
}

/// How many starts of workers are looked back at.
const RECALLED: u32 = 1000;

/// Tells the core what workers were started from before; gives the salt of the store's hashes.
fn recall(reader: &Reader, supervisor: &mut Supervisor) -> Result<Option<String>, StoreError> {
    let started = Some(Kind::WorkerStarted);
    let filter = EventFilter { kind: started, last: Some(RECALLED), ..EventFilter::default() };
    reader.events(&filter, |entry| {
        if let Ok(record) = entry.record() {
            supervisor.recall(record.at, &Makeup::of(&record.figures));
        }
        Ok::<(), StoreError>(())
    })?;
    reader.salt()
}

/// Which promise this host allows.
fn tell_enforcement(limits: &Limits, not_v2: Option<&Unavailable>) {
    let enforced_by = limits.enforcement();
    let why = |why: Option<&Unavailable>| why.map(|why| tracing::field::display(chain(why)));
    let (not_cgroup2, not_cgroup1) = (why(not_v2), why(limits.without_v1()));
    let what = match enforced_by {
        Enforcement::Cgroup2 | Enforcement::Cgroup1 => "the kernel holds hard limits of memory",
        Enforcement::Polling => {
            "hard limits of memory are held by looking often enough (`stanch doctor` tells the remedy)"
        }
    };
    tracing::info!(%enforced_by, not_cgroup2, not_cgroup1, "{what}");
}

/// When the host runs out of memory, the supervisor shall be the last to go and its workers rather
/// than their neighbours: they are the ones that are started again. Gives the workers' score.
fn oom_scores(procfs: &Procfs) -> Option<i32> {
    /// Points are thousandths of all memory.
    const ABOVE: i32 = 100;
    const BELOW: i32 = 500;
    let own = pressure::oom_score_adj(procfs, getpid())?;
    if let Err(error) = pressure::set_oom_score_adj(procfs, getpid(), (own - BELOW).max(-999)) {
        tracing::debug!(%error, "the supervisor keeps its oom_score_adj");
    }
    Some((own + ABOVE).min(1000))
}

/// What the host, or the container, has.
fn host_memory_kib(around: &Around) -> Option<u64> {
    let host = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        system.total_memory() / 1024
    });
    host.filter(|total| *total > 0).into_iter().chain(around.limit_kib()).min()
}
