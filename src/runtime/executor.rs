//! Carries out what the core decided. No policy here: an `if` about whether to act belongs in core.

use super::alerts::Alerts;
use super::children::Children;
use super::command::Started;
use super::drainer::Drain;
use super::evidence::{Baseline, Collector, Errand, prepare};
use super::handover::Candidate;
use super::hooks;
use super::host::OomKills;
use super::launch::Surroundings;
use super::lock::lock;
use super::message::{LaunchFailure, Message};
use super::recovery::Finds;
use super::reload::{self, Releases};
use super::roster::{Live, Roster};
use super::sampler::{Holds, Sampler};
use super::starts::Starts;
use super::tail::Tail;
use crate::config::Config;
use crate::core::evidence::{Inquiry, Part};
use crate::core::hooks::Call;
use crate::core::words::chain;
use crate::core::{
    Action, Event, Intent, Kind, OomKiller, Record, Refusal, Reply, Ticket, WorkerId,
};
use crate::linux::bounds::bounds;
use crate::linux::cgroup::{CgroupError, Leaf, Leaves, Limits, MemoryGroup};
use crate::linux::launch::Plan;
use crate::linux::plane::Plane;
use crate::linux::pressure;
use crate::linux::procfs::Procfs;
use crate::linux::sockdiag;
use crate::linux::spawn::{self, Launcher, Launching, Output, SpawnError};
use crate::linux::tree::{Orphans, Tree};
use crate::store::{Durable, Life, Writer};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long an action waits for its record to be on disk.
const INTENT_PATIENCE: Duration = Duration::from_millis(50);

/// How long the answer to an operator does: nothing else waits for that.
const REPLY_PATIENCE: Duration = Duration::from_secs(1);

/// The hands of the engine.
pub(super) struct Executor {
    pub surroundings: Surroundings,
    pub launcher: Launcher,
    pub procfs: Procfs,
    pub orphans: Orphans,
    pub leaves: Option<Leaves>,
    pub limits: Limits,
    pub oom_kills: OomKills,
    /// The workers' `oom_score_adj`.
    pub workers_oom_score: Option<i32>,
    pub sampler: Sampler,
    pub evidence: Collector,
    pub store: Writer,
    /// Why the store cannot be written, while it cannot.
    pub store_problem: Option<String>,
    pub roster: Roster,
    pub starts: Starts,
    /// Those that are no workers.
    pub children: Children,
    /// What lives of a dead supervisor's workers, until the core says what is to become of it.
    pub finds: Finds,
    pub replies: HashMap<Ticket, oneshot::Sender<Reply>>,
    /// Records that an action may yet wait for.
    pub durables: BTreeMap<u64, Durable>,
    pub alerts: Alerts,
    /// The configuration that the core is being asked about.
    pub candidate: Option<reload::Candidate>,
    pub releases: Releases,
    /// Tells tasks of each configuration that comes into force.
    pub news: watch::Sender<Arc<Config>>,
    /// Programs that were tried, until the core says what becomes of them.
    pub candidates: BTreeMap<Ticket, Candidate>,
    /// The one that takes the place of this one as soon as nothing is under way.
    pub leaving: Option<Candidate>,
    /// Has them closed.
    pub close_faces: Option<oneshot::Sender<()>>,
    pub finished: bool,
}

impl Executor {
    /// Carries out actions in their order; gives what is known of their effect at once.
    pub async fn carry_out(&mut self, actions: Vec<Action>) -> Vec<Event> {
        if actions.is_empty() {
            // Whatever ends by itself says so by SIGCHLD.
            return Vec::new();
        }
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::Record(record) => self.record(record),
                Action::Alert(alert) => events.extend(self.alerts.send(*alert)),
                Action::Start { worker } => {
                    if let Err(LaunchFailure { stage, error }) = self.start(worker) {
                        events.push(Event::SpawnFailed { worker, stage, error });
                        events.extend(self.dismiss(worker));
                    }
                }
                Action::Adopt { worker, verified, stale } => {
                    events.extend(self.adopt(worker, verified, stale));
                }
                Action::Admit { worker, weight } => {
                    self.steer("admit", worker, |plane, worker| plane.admit(worker, weight));
                }
                Action::Abandon { worker } => self.steer("abandon", worker, Plane::abandon),
                Action::Reclaim { worker } => self.steer("reclaim", worker, Plane::reclaim),
                Action::Divert { worker, drain } => {
                    self.steer("divert", worker, Plane::divert);
                    if drain {
                        self.drain(worker);
                    }
                }
                Action::Stop { worker, intent } => {
                    self.until_durable(intent).await;
                    self.stop(worker);
                }
                Action::HangUp { worker, intent } => {
                    self.until_durable(intent).await;
                    if let Some(Live { drain: Some(drain), .. }) = self.roster.get_mut(worker) {
                        drain.hang_up();
                    }
                }
                // A kill does not wait for its record.
                Action::Kill { worker, .. } => self.kill(worker),
                Action::CaptureEvidence(inquiry) => {
                    let Inquiry { worker, incident, part, .. } = (*inquiry).clone();
                    if let Err(error) = self.capture(*inquiry) {
                        let outcome = Err(error);
                        events.push(Event::EvidenceCaptured { worker, incident, part, outcome });
                    }
                }
                Action::RunHook(call) => {
                    let (worker, hook) = (call.worker, call.hook);
                    if let Err(error) = self.run_hook(call) {
                        events.push(Event::HookEnded { worker, hook, outcome: Err(error) });
                    }
                }
                Action::TakeBaseline { worker } => {
                    if let Some(live) = self.roster.get_mut(worker) {
                        self.evidence.take_baseline(worker, live.subject());
                    }
                }
                Action::TakeLook { worker } => {
                    if let Some(live) = self.roster.get_mut(worker) {
                        self.evidence.take_look(worker, live.subject());
                    }
                }
                Action::CloseListeners => {
                    if let Err(error) = self.plane().close() {
                        tracing::error!(error = chain(&error), "close failed");
                    }
                }
                Action::Reconfigure { remember } => events.extend(self.reconfigure(remember)),
                Action::RollBack => self.roll_back(),
                Action::RollForward => self.roll_forward(),
                Action::HandOver { ticket } => {
                    self.leaving = self.candidates.remove(&ticket);
                    // The successor answers.
                    self.replies.remove(&ticket);
                }
                Action::Reply { ticket, reply } => {
                    self.candidates.remove(&ticket);
                    if let Some(sender) = self.replies.remove(&ticket) {
                        self.answer(sender, reply);
                    }
                }
                Action::Finish => {
                    self.children.kill_bound();
                    self.finished = true;
                }
            }
        }
        // What no action waited for is the store's own business.
        self.durables.clear();
        events.extend(self.look());
        events
    }

    /// Reaps, and tells what ended.
    pub fn look(&mut self) -> Vec<Event> {
        self.roster.reap();
        // Whose SIGKILL it was comes first.
        let killed = self.roster.killed();
        let mut events: Vec<Event> =
            killed.into_iter().filter_map(|worker| self.oom(worker)).collect();
        let exits = self.roster.take_exits().into_iter();
        events.extend(exits.map(|(worker, status)| Event::Exited { worker, status }));
        // Those whose end is only being told now are looked at after the core has had its say.
        if events.is_empty() {
            for (worker, live) in self.roster.take_gone() {
                self.forget(worker);
                let hung_up = live.drain.as_ref().map(|drain| drain.hung_up().len() as u64);
                events.push(Event::Gone {
                    worker,
                    stragglers: live.stragglers,
                    connections_cut: live.connections_cut.or(hung_up.filter(|count| *count > 0)),
                });
            }
        }
        events
    }

    /// Whether the OOM killer came to the worker since this was last asked.
    pub fn oom(&mut self, worker: WorkerId) -> Option<Event> {
        let (by, peak_kib) = match &mut self.roster.get_mut(worker)?.memory {
            Some(memory) => (memory.oom()?, memory.peak_kib()),
            // All that can be said is that the host's came at the same time.
            None => (self.oom_kills.lately().then_some(OomKiller::Host)?, None),
        };
        Some(Event::OomKilled { worker, by, peak_kib })
    }

    /// A launch came to its end.
    pub fn launched(&mut self, worker: WorkerId, outcome: Result<(), LaunchFailure>) -> Vec<Event> {
        let Some(live) = self.roster.get_mut(worker) else { return Vec::new() };
        live.launching = false;
        match outcome {
            Ok(()) => {
                let (pid, start_ticks) = (live.pid, live.start_ticks);
                let mut events = vec![Event::Spawned { worker, pid, start_ticks }];
                events.extend(self.observe(worker));
                events
            }
            Err(LaunchFailure { stage, error }) => {
                // A launcher that failed ends by itself; one that hangs must be made to.
                live.tree().kill_all();
                vec![Event::SpawnFailed { worker, stage, error }]
            }
        }
    }

    /// Samples a worker from now on; gives what is known of its limits.
    pub fn observe(&mut self, worker: WorkerId) -> Vec<Event> {
        let Some(live) = self.roster.get_mut(worker) else { return Vec::new() };
        let (life, tree) = (Arc::clone(&live.life), Arc::clone(&live.tree));
        let held = live.memory.as_ref().is_some_and(MemoryGroup::is_limited);
        let limit = Holds::by_kernel(held);
        self.sampler.watch(life, live.started, tree, limit);
        let bounds = bounds(&self.procfs, Pid::from_raw(live.pid));
        let held = held.then_some(Event::LimitHeld { worker });
        [Event::Bounds { worker, bounds }].into_iter().chain(held).collect()
    }

    fn record(&mut self, record: Record) {
        log(&record);
        let number = record.number;
        let durable = self.store.append(record);
        self.durables.insert(number, durable);
    }

    /// Waits until the record is on disk, for 50 ms at most; a store that is known to be degraded is
    /// not waited for.
    async fn until_durable(&mut self, intent: Intent) {
        let Some(durable) = self.durables.remove(&intent.number()) else { return };
        if self.store_problem.is_some() || !is_durable(durable, INTENT_PATIENCE).await {
            self.store.mark_late(intent.number());
        }
    }

    /// Tells an operator that what he asked for was done. That it is written down is part of it, and only he
    /// waits for that.
    fn answer(&mut self, sender: oneshot::Sender<Reply>, reply: Reply) {
        // The last record of those that led to the answer; they reach the disk in their order.
        let last = self.durables.pop_last();
        let degraded = self.store_problem.is_some();
        tokio::spawn(async move {
            let late = match last {
                Some((_, last)) => degraded || !is_durable(last, REPLY_PATIENCE).await,
                None => false,
            };
            let _ = sender.send(if late { not_yet_on_disk(reply) } else { reply });
        });
    }

    fn start(&mut self, worker: WorkerId) -> Result<(), LaunchFailure> {
        let (life, started) = (Arc::new(self.life(worker)), Instant::now());
        self.starts.note(worker, &self.surroundings.config, &self.roster);
        let app = &self.surroundings.config.app.name;
        let title = format!("stanch: launching {app} slot {}", worker.slot);
        let leaf = self.leaf(worker);
        let memory = self.limits.group(worker, leaf.as_ref());
        let memory = memory.unwrap_or_else(|error| without_limit(worker, &error));
        let folder = leaf.as_ref().and_then(|leaf| leaf.folder().ok());
        let folder = folder.as_ref().map(AsFd::as_fd);
        let launching = self.launcher.spawn(&title, Output::Pipes, folder)?;
        let pid = Pid::from_raw(launching.pid());
        let leaf = leaf.filter(|leaf| {
            let added = if launching.placed() { Ok(()) } else { leaf.add(pid) };
            added.inspect_err(|error| without_leaf(worker, error)).is_ok()
        });
        let memory = memory.and_then(|memory| match memory.add(pid) {
            Ok(()) => Some(memory),
            Err(error) => without_limit(worker, &error),
        });
        let Some(leader) = self.procfs.identify(pid) else {
            let error = format!("the new process {pid} cannot be seen in /proc");
            return Err(LaunchFailure { stage: "spawn".to_owned(), error });
        };
        if let Some(score) = self.workers_oom_score
            && let Err(error) = pressure::set_oom_score_adj(&self.procfs, pid, score)
        {
            tracing::debug!(%worker, %error, "the worker keeps its oom_score_adj");
        }
        let (procfs, orphans) = (self.procfs.clone(), self.orphans.clone());
        let mark = self.surroundings.mark(worker);
        let tree = Tree::new(procfs, orphans, leader, mark, leaf);
        let tree = Arc::new(Mutex::new(tree));
        self.surroundings.notices.listen_to(worker, Arc::clone(&tree));
        let (plan, outcome) = match self.hand_over(worker, &launching) {
            Ok(plan) => (Some(plan), Ok(())),
            Err(failure) => (None, Err(failure)),
        };
        let tail = Tail::new(self.surroundings.config.evidence.log_lines);
        // Without a plan the launcher ends by itself.
        let task = plan.map(|plan| {
            let tail = Arc::clone(&tail);
            tokio::spawn(self.surroundings.clone().attend(worker, launching, plan, tail))
        });
        let oom_watch = memory.as_ref().and_then(|memory| self.watch_oom(worker, memory));
        let task = task.map(|task| task.abort_handle());
        let live = Live {
            pid: pid.as_raw(),
            start_ticks: leader.start_time_ticks,
            tree,
            life,
            stop_signal: self.surroundings.config.app.stop_signal,
            started,
            tasks: task.into_iter().chain(oom_watch).collect(),
            memory,
            tail,
            baseline: Baseline::default(),
            last_look: Baseline::default(),
            adopted: false,
            launching: outcome.is_ok(),
            exit: None,
            exit_told: false,
            stragglers: 0,
            drain: None,
            connections_cut: None,
        };
        self.roster.add(worker, live);
        outcome
    }

    /// What the worker's samples are kept under; its trend is judged from now on.
    pub fn life(&self, worker: WorkerId) -> Life {
        let settings = &self.surroundings.config.settings;
        let limit_kib = settings.forecast_limit_kib();
        let warm_up = settings.leak.warm_up;
        Life { worker, started: Timestamp::now(), limit_kib, warm_up }
    }

    fn leaf(&self, worker: WorkerId) -> Option<Leaf> {
        let leaf = self.leaves.as_ref()?.create(worker);
        leaf.inspect_err(|error| without_leaf(worker, error)).ok()
    }

    pub fn watch_oom(&self, worker: WorkerId, memory: &MemoryGroup) -> Option<AbortHandle> {
        let watch = memory
            .watch()
            .inspect_err(|error| tracing::warn!(%worker, %error, "cannot wait for the OOM killer"))
            .ok()?;
        let events = self.surroundings.events.clone();
        let task = tokio::spawn(async move {
            while watch.notified().await.is_ok()
                && events.send(Message::Oom { worker }).await.is_ok()
            {}
        });
        Some(task.abort_handle())
    }

    fn hand_over(&self, worker: WorkerId, launching: &Launching) -> Result<Plan, LaunchFailure> {
        use crate::config::ListenMode;
        let plan = self.surroundings.plan(worker)?;
        let sockets = match self.surroundings.config.listen.mode {
            ListenMode::Inherit => self.plane().inherit_fds(worker).map_err(|error| {
                LaunchFailure { stage: "listen".to_owned(), error: chain(&error) }
            })?,
            ListenMode::Takeover | ListenMode::Port | ListenMode::None => Vec::new(),
        };
        let listeners: Vec<spawn::Listener<'_>> = sockets
            .iter()
            .map(|(name, socket)| spawn::Listener { name, socket: socket.as_fd() })
            .collect();
        launching.proceed(&plan, &listeners)?;
        Ok(plan)
    }

    /// A start that failed before there was a process to wait for is over at once; else the reaper
    /// tells.
    fn dismiss(&mut self, worker: WorkerId) -> Option<Event> {
        if self.roster.get_mut(worker).is_some() {
            return None;
        }
        self.forget(worker);
        Some(Event::Gone { worker, stragglers: 0, connections_cut: None })
    }

    fn forget(&mut self, worker: WorkerId) {
        self.sampler.forget(worker);
        self.surroundings.notices.forget(worker);
        self.steer("release", worker, Plane::release);
    }

    /// The stop signal reaches the whole tree; SIGCONT behind it, because a stopped process does not
    /// even die of SIGTERM.
    fn stop(&mut self, worker: WorkerId) {
        self.steer("let go", worker, Plane::let_go);
        if let Some(live) = self.roster.get_mut(worker) {
            let mut tree = live.tree();
            tree.signal_all(live.stop_signal);
            tree.signal_all(Signal::SIGCONT);
        }
    }

    fn drain(&mut self, worker: WorkerId) {
        let surroundings = self.surroundings.clone();
        if let Some(live) = self.roster.get_mut(worker) {
            live.drain = Some(Drain::start(worker, Arc::clone(&live.tree), surroundings));
        }
    }

    /// Begins to take evidence; the error is why not.
    fn capture(&mut self, inquiry: Inquiry) -> Result<(), String> {
        let worker = inquiry.worker;
        let live = self.roster.get_mut(worker).ok_or("the worker is gone")?;
        if inquiry.part != Part::Command {
            self.evidence.take(inquiry, live.subject());
            return Ok(());
        }
        let mut pids: Vec<i32> = live.tree().last_seen().iter().map(|pid| pid.as_raw()).collect();
        pids.retain(|pid| *pid != live.pid);
        pids.insert(0, live.pid);
        let config = self.starts.config_for(worker, &self.surroundings.config);
        let (plan, terms) = prepare(&config, &inquiry, &pids)?;
        let command = self.command(&format!("stanch: evidence of worker {worker}"), &plan)?;
        self.evidence.run(inquiry, Errand { command, terms });
        Ok(())
    }

    /// Begins to run a hook; the error is why not.
    fn run_hook(&self, call: Call) -> Result<(), String> {
        let config = self.starts.config_for(call.worker, &self.surroundings.config);
        let plan = hooks::prepare(&self.surroundings, &config, &call)?;
        let title = format!("stanch: hooks.{} of worker {}", call.hook, call.worker);
        let started = self.command(&title, &plan)?;
        hooks::follow(&self.surroundings, call, started);
        Ok(())
    }

    /// Begins to start a command of the operator.
    fn command(&self, title: &str, plan: &Plan) -> Result<Started, String> {
        let started = self.children.start(|| {
            let launching = self.launcher.spawn(title, Output::Pipes, None)?;
            Ok((launching.pid(), launching))
        });
        let (launching, exit) = started.map_err(|error: SpawnError| chain(&error))?;
        let pid = Pid::from_raw(launching.pid());
        // Without a plan the launcher ends by itself.
        let leader = self.procfs.identify(pid).ok_or("it cannot be seen in /proc")?;
        let orphans = self.orphans.clone();
        let tree = Tree::new(self.procfs.clone(), orphans, leader, plan.mark.clone(), None);
        let tree = Arc::new(Mutex::new(tree));
        self.children.bind(pid.as_raw(), &tree);
        launching.proceed(plan, &[]).map_err(|error| chain(&error))?;
        Ok(Started { launching, tree, exit })
    }

    fn kill(&mut self, worker: WorkerId) {
        let addresses = self.surroundings.addresses_of(worker.slot);
        let Some(live) = self.roster.get_mut(worker) else { return };
        let hung_up = live.drain.as_ref().map(Drain::hung_up).unwrap_or_default();
        let mut tree = live.tree();
        let cut = sockdiag::connections(&addresses, &tree.sockets()).ok().map(|open| {
            let others = open.iter().filter(|connection| !hung_up.contains(&connection.inode));
            (others.count() + hung_up.len()) as u64
        });
        let killed = u32::try_from(tree.kill_all()).unwrap_or(u32::MAX);
        drop(tree);
        if live.exit.is_some() {
            live.stragglers += killed;
        }
        // A second kill of the same tree finds nothing left to count.
        if killed > 0 {
            live.connections_cut = live.connections_cut.max(cut);
        }
    }

    fn steer(
        &self,
        what: &str,
        worker: WorkerId,
        change: impl FnOnce(&mut Plane, WorkerId) -> Result<(), crate::linux::plane::PlaneError>,
    ) {
        if let Err(error) = change(&mut self.plane(), worker) {
            tracing::error!(%worker, error = chain(&error), "{what} failed");
        }
    }

    fn plane(&self) -> MutexGuard<'_, Plane> {
        lock(&self.surroundings.plane)
    }
}

fn without_leaf(worker: WorkerId, error: &CgroupError) {
    tracing::warn!(%worker, error = chain(error), "no cgroup of its own; known by kinship");
}

pub(super) fn without_limit(worker: WorkerId, error: &CgroupError) -> Option<MemoryGroup> {
    tracing::warn!(%worker, error = chain(error), "the kernel does not hold its limit; polling does");
    None
}

/// Whether a record is on disk by then.
async fn is_durable(durable: Durable, patience: Duration) -> bool {
    matches!(timeout(patience, durable).await, Ok(Ok(_)))
}

/// The same answer, of which the audit log does not know yet.
fn not_yet_on_disk(reply: Reply) -> Reply {
    let tell = |what: &str, words: &str| {
        format!("{what}; {words}not yet on disk (`stanch status` tells why)")
    };
    match reply {
        Ok(done) => Ok(tell(&done, "taken, ")),
        Err(Refusal::No(why)) => Err(Refusal::No(tell(&why, "written down, "))),
        // A list of errors, of which nothing came.
        Err(Refusal::Wrong(why)) => Err(Refusal::Wrong(why)),
    }
}

/// The log says what the audit log says.
fn log(record: &Record) {
    let Record { kind, slot, pid, generation, incident, reason, .. } = record;
    let field = |value: Option<String>| value.map(tracing::field::display);
    let slot = field(slot.map(|slot| slot.to_string()));
    let generation = field(generation.map(|generation| generation.to_string()));
    let pid = field(pid.map(|pid| pid.to_string()));
    let incident = field(incident.as_ref().map(ToString::to_string));
    match kind {
        Kind::WorkerStartFailed
        | Kind::WorkerCrashed
        | Kind::WorkerHung
        | Kind::MemorySoftLimit
        | Kind::MemoryHardLimit
        | Kind::MemoryOomKilled
        | Kind::HostMemoryPressure
        | Kind::MemoryTotalLimit
        | Kind::LeakSuspected
        | Kind::LeakConfirmed
        | Kind::DrainCutConnections
        | Kind::RollAborted
        | Kind::ConfigRefused
        | Kind::HookFailed
        | Kind::ActionWithheld
        | Kind::ReleaseRolledBack
        | Kind::AlertFailed => {
            tracing::warn!(slot, generation, pid, incident, "{kind}: {reason}");
        }
        Kind::WorkerHeld | Kind::StoreDegraded | Kind::StoreAltered | Kind::LeakUnsustainable => {
            tracing::error!(slot, generation, pid, incident, "{kind}: {reason}");
        }
        _ => tracing::info!(slot, generation, pid, incident, "{kind}: {reason}"),
    }
}
