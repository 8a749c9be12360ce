//! The supervisor: every event comes in here with the time, every decision leaves as an action.
//!
//! `handle` and `handle_timeout` change the state and queue actions; `settle` then does whatever has
//! become due (deadlines, the next step of a roll, ends of commands and incidents), so that no order
//! of events can leave something undone. `poll_timeout` says when to call again if nothing happens.

mod alerts;
mod capacity;
mod commands;
mod evidence;
mod handover;
mod hangs;
mod hooks;
mod host;
mod incidents;
mod leaks;
mod leaving;
mod lifecycle;
mod memory;
mod recovery;
mod releases;
mod reload;
mod rolling;
mod traffic;
mod view;
mod watchdog;
mod withheld;

pub use view::{DueView, LeakView, SlotView, View};

use super::alerting::Alerting;
use super::departed::Departed;
use super::deploy::{Aside, Deploy};
use super::evidence::Evidence;
use super::holding::{Costs, Holding};
use super::hooks::Calls;
use super::incidents::Book;
use super::leak::Quantity;
use super::makeup::Constancy;
use super::quiet::Workload;
use super::roll::Roll;
use super::siblings::Siblings;
use super::slot::{Desired, SlotEntry, Wait};
use super::trend::{Bounds, Trend};
use super::worker::{State, Worker};
use super::{
    Action, Event, Figures, Generation, Incident, IncidentId, Intent, Kind, Makeup, Moment, Now,
    Record, Settings, Slot, Ticket, Weight, WorkerId,
};
use commands::Waiter;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Whether the supervisor acts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// By an operator: it watches and writes down, and touches nothing.
    Paused,
    /// Workers are told to end.
    Stopping,
    /// Nothing more will happen.
    Finished,
}

/// All state and every decision.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    phase: Phase,
    slots: BTreeMap<Slot, SlotEntry>,
    workers: BTreeMap<WorkerId, Worker>,
    departed: Departed,
    roll: Option<Roll>,
    deploy: Option<Deploy>,
    /// What can be gone back to from the present release: it has served.
    before: Option<Aside>,
    /// Whether a worker of the release in force has been ready.
    has_served: bool,
    /// The number of the release in force: it grows whenever workers are to be started in another way.
    edition: u64,
    /// No automatic roll before.
    next_roll: Moment,
    /// No replacement of a worker that fails its probes before.
    next_hang: Moment,
    /// Such replacements that failed their probes too, since the matter was over.
    futile_hangs: u32,
    /// Rolls aborted since the last success.
    aborted_rolls: u32,
    /// The incident of the one that is to be tried again.
    to_retry: Option<IncidentId>,
    over_total: bool,
    constancy: Constancy,
    outages: capacity::Outages,
    /// Leaks that were confirmed, by release.
    siblings: Siblings,
    /// The generations of the present leaks, by release.
    holdings: BTreeMap<(Option<String>, Quantity), Holding>,
    costs: Costs,
    workload: Workload,
    /// When a leaking worker was last replaced.
    last_turn: Option<Moment>,
    host: host::Host,
    /// The last worker that got the stop signal while answers were awaited gave them before it ended.
    finishes: bool,
    /// When it was last found to have stood still.
    awake_since: Moment,
    hooks: Calls,
    book: Book,
    alerting: Alerting,
    waiters: Vec<Waiter>,
    /// How the answers to some commands begin.
    prefaces: BTreeMap<Ticket, String>,
    actions: Vec<Action>,
    records: u64,
    jitter: u64,
}

impl Supervisor {
    /// A supervisor that has not begun. `seed` feeds the jitter of restart delays.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            phase: Phase::Running,
            slots: BTreeMap::new(),
            workers: BTreeMap::new(),
            departed: Departed::default(),
            roll: None,
            deploy: None,
            before: None,
            has_served: false,
            edition: 0,
            next_roll: Moment::default(),
            next_hang: Moment::default(),
            futile_hangs: 0,
            aborted_rolls: 0,
            to_retry: None,
            over_total: false,
            constancy: Constancy::default(),
            outages: capacity::Outages::default(),
            siblings: Siblings::default(),
            holdings: BTreeMap::new(),
            costs: Costs::default(),
            workload: Workload::default(),
            last_turn: None,
            host: host::Host::default(),
            finishes: false,
            awake_since: Moment::default(),
            hooks: Calls::default(),
            book: Book::default(),
            alerting: Alerting::default(),
            waiters: Vec::new(),
            prefaces: BTreeMap::new(),
            actions: Vec::new(),
            records: 0,
            jitter: seed,
        }
    }

    /// Before it begins: what a worker of an earlier supervisor was started from, oldest first.
    pub fn recall(&mut self, at: Timestamp, makeup: &Makeup) {
        self.constancy.note(at, makeup);
    }

    /// Takes in what happened and gives what to do about it.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Action> {
        self.handle_all([event], now)
    }

    /// The same for events of one moment: what follows from all of them is settled once, which takes a
    /// look at every worker.
    pub fn handle_all(&mut self, events: impl IntoIterator<Item = Event>, now: Now) -> Vec<Action> {
        self.note_cover(now);
        events.into_iter().for_each(|event| self.take_in(event, now));
        self.settle(now)
    }

    fn take_in(&mut self, event: Event, now: Now) {
        match event {
            Event::MadeOf { worker, makeup } => self.on_made_of(now, worker, makeup),
            Event::Spawned { worker, pid, start_ticks } => {
                self.on_spawned(now, worker, pid, start_ticks)
            }
            Event::SpawnFailed { worker, stage, error } => {
                self.on_spawn_failed(now, worker, &stage, &error)
            }
            Event::Obstacle { worker, error } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.obstacle = Some(error);
                }
            }
            Event::Ready { worker } => self.on_ready(now, worker),
            Event::Pinged { worker } => self.on_pinged(now, worker),
            Event::Described { worker, status } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.status_text = Some(status).filter(|status| !status.is_empty());
                }
            }
            Event::Leaving { worker } => self.on_leaving(now, worker),
            Event::Probed { worker, outcome, answered } => {
                self.on_probed(now, worker, outcome, answered)
            }
            Event::Unreachable { worker } => self.on_unreachable(now, worker),
            Event::Draining { worker, left } => self.on_draining(now, worker, left),
            Event::Exited { worker, status } => self.on_exited(now, worker, status),
            Event::Gone { worker, stragglers, connections_cut } => {
                self.on_gone(now, worker, stragglers, connections_cut)
            }
            Event::Bounds { worker, bounds } => self.on_bounds(worker, bounds),
            Event::HostMemory { available_kib, stalled } => {
                self.on_host_memory(now, available_kib, stalled);
            }
            Event::LimitHeld { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.limit_held = true;
                }
            }
            Event::OomKilled { worker, by, peak_kib } => {
                self.on_oom_killed(now, worker, by, peak_kib);
            }
            Event::EvidenceCaptured { worker, incident, part, outcome } => {
                self.on_evidence_captured(now, worker, incident, part, outcome);
            }
            Event::HookEnded { worker, hook, outcome } => {
                self.on_hook_ended(now, worker, hook, outcome);
            }
            Event::Sampled { worker, sample } => self.on_sampled(now, worker, sample),
            Event::Remembered { worker, samples } => self.on_remembered(worker, &samples),
            Event::ConnectionsDropped { attempts } => self.on_connections_dropped(now, attempts),
            Event::StoreDegraded { error } => {
                let reason = format!("the audit log is not kept as it should be: {error}");
                self.note(now, Kind::StoreDegraded, &reason, Figures::new());
            }
            Event::StoreRestored { buffered, lost, gone, states } => {
                self.on_store_restored(now, [buffered, lost, gone], states);
            }
            Event::StoreAltered { why } => {
                self.note(now, Kind::StoreAltered, &why, Figures::new());
            }
            Event::Alerted { alert, attempts, outcome } => {
                self.on_alerted(now, alert, attempts, outcome);
            }
            Event::Command { ticket, by, command } => self.on_command(now, ticket, &by, command),
        }
    }

    /// Does what has become due; called at or after [`Supervisor::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) -> Vec<Action> {
        self.note_cover(now);
        self.settle(now)
    }

    /// When `handle_timeout` is wanted, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let workers = self.workers.values().flat_map(|worker| {
            [
                self.deadline_of(worker),
                self.max_age_deadline(worker),
                self.healthy_deadline(worker),
                self.warmth_deadline(worker),
                self.watchdog_deadline(worker),
                self.baseline_deadline(worker),
            ]
        });
        let starts = self.restarts() && !self.is_obstructed();
        let slots = self.slots.values().map(|slot| match slot.wait {
            Wait::Backoff { until } | Wait::Held { until } if starts && self.is_free(slot.slot) => {
                Some(until)
            }
            Wait::None | Wait::Backoff { .. } | Wait::Held { .. } => None,
        });
        let roll = self.roll_deadline();
        let waiters = self.waiters.iter().filter_map(Waiter::deadline);
        let stopping = matches!(self.phase, Phase::Stopping | Phase::Finished);
        let book = if stopping { None } else { self.book.deadline() };
        let capacity = if stopping { None } else { self.capacity_deadline() };
        let alerts = if stopping { None } else { self.alerting.deadline(&self.settings.alerts) };
        let hooks = self.hooks.deadline();
        let timed = [roll, book, alerts, capacity, hooks, self.release_deadline()];
        workers.chain(slots).chain(timed).flatten().chain(waiters).min()
    }

    /// Whether each slot that shall have a worker has had a ready one.
    pub fn is_up(&self) -> bool {
        let mut wanted = self.slots.values().filter(|entry| entry.desired == Desired::Up);
        wanted.all(|entry| entry.been_ready)
    }

    /// Whether all workers are told to end, or have ended.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping | Phase::Finished)
    }

    /// Whether everything has ended.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Does all that is due and hands out the queued actions.
    fn settle(&mut self, now: Now) -> Vec<Action> {
        self.settle_hooks(now);
        self.settle_deadlines(now);
        self.settle_watchdogs(now);
        self.settle_baselines(now);
        self.settle_total_limit(now);
        self.settle_slots(now);
        // Before a roll takes the old one out, and after.
        self.settle_traffic(now);
        self.settle_withheld(now);
        self.settle_release(now);
        self.settle_roll(now);
        self.settle_traffic(now);
        // What was decided since.
        self.settle_hooks(now);
        self.settle_waiters(now);
        self.settle_incidents(now);
        self.settle_alerts(now);
        self.settle_finish(now);
        std::mem::take(&mut self.actions)
    }

    fn settle_finish(&mut self, now: Now) {
        if self.phase == Phase::Stopping && self.workers.is_empty() && self.hooks.is_empty() {
            self.phase = Phase::Finished;
            let reason = "all workers have ended";
            // Where the next one goes on counting.
            let generations = figures([("generations", self.generations().into())]);
            self.note(now, Kind::SupervisorStopped, reason, generations);
            self.answer_stopped();
            self.actions.push(Action::Finish);
        }
    }

    /// Starts the next generation of a slot.
    fn start_worker(
        &mut self,
        now: Now,
        slot: Slot,
        incident: Option<IncidentId>,
    ) -> Option<WorkerId> {
        let entry = self.slots.get_mut(&slot)?;
        entry.generation = entry.generation.next();
        entry.wait = Wait::None;
        let id = WorkerId { slot, generation: entry.generation };
        let state = State::Starting { deadline: now.mono + self.settings.ready_timeout };
        let worker = Worker { incident, ..self.fresh_worker(now, id, state) };
        self.workers.insert(id, worker);
        self.actions.push(Action::Start { worker: id });
        Some(id)
    }

    /// A worker of which nothing is known yet.
    fn fresh_worker(&self, now: Now, id: WorkerId, state: State) -> Worker {
        let (limit, warm_up) = (self.settings.forecast_limit_kib(), self.settings.leak.warm_up);
        Worker {
            id,
            release: self.settings.release.clone(),
            edition: self.edition,
            pid: None,
            state,
            started: now.mono,
            lived_before: Duration::ZERO,
            deaf: false,
            stale: false,
            unheard: false,
            in_the_way: false,
            goes_in: None,
            incident: None,
            makeup: Makeup::default(),
            obstacle: None,
            warmth: Weight::LEAST,
            admitted: None,
            asked: None,
            left: None,
            remains: None,
            ended: None,
            failed_probes: 0,
            failing_since: None,
            answers: false,
            covered_until: Moment::default(),
            watchdog: self.settings.health.watchdog,
            pinged: None,
            silent: false,
            leaving_since: None,
            status_text: None,
            due: None,
            sample: None,
            samples: VecDeque::new(),
            peak_kib: None,
            limit_held: false,
            settled_kib: None,
            host_oom: false,
            cpu_percent: None,
            ticks: None,
            bounds: Bounds::default(),
            trends: vec![Trend::new(Quantity::Memory, limit, warm_up, now.mono)],
            withheld: None,
            introduced: false,
            evidence: Evidence::default(),
        }
    }

    /// The live workers of a slot, the oldest first.
    fn in_slot(&self, slot: Slot) -> impl DoubleEndedIterator<Item = &Worker> {
        let id = |generation| WorkerId { slot, generation: Generation(generation) };
        self.workers.range(id(0)..=id(u64::MAX)).map(|(_, worker)| worker)
    }

    /// Whether a slot has a worker that serves, or shall have none.
    fn serves(&self, slot: Slot) -> bool {
        let wanted = self.slots.get(&slot).is_some_and(|entry| entry.desired == Desired::Up);
        !wanted || self.serving_in(slot).is_some()
    }

    fn nobody_serves(&self) -> bool {
        !self.workers.values().any(Worker::is_serving)
    }

    /// The live worker of a slot that serves, the newest if there are two.
    fn serving_in(&self, slot: Slot) -> Option<&Worker> {
        self.in_slot(slot).rev().find(|worker| worker.is_serving())
    }

    /// The newest worker of a slot that serves or may come to serve.
    fn current_in(&self, slot: Slot) -> Option<&Worker> {
        self.in_slot(slot).rev().find(|worker| worker.is_current())
    }

    /// Writes a line of the audit log.
    fn record(
        &mut self,
        now: Now,
        kind: Kind,
        about: About<'_>,
        incident: Option<IncidentId>,
        reason: &str,
        figures: Figures,
    ) -> Intent {
        let state = incident.as_ref().and_then(|id| self.book.write(id));
        self.write_down(now, kind, about, incident, reason, figures, state)
    }

    /// The same, with this state of the incident.
    #[allow(clippy::too_many_arguments, reason = "each is a key of the record")]
    fn write_down(
        &mut self,
        now: Now,
        kind: Kind,
        about: About<'_>,
        incident: Option<IncidentId>,
        reason: &str,
        figures: Figures,
        state: Option<Incident>,
    ) -> Intent {
        self.records += 1;
        if let (Kind::EvidenceCaptured, Some(id)) = (kind, &incident) {
            self.alerting.evidence(id, reason);
        }
        let (id, slot, cause) = match about {
            About::Supervisor => (None, None, None),
            About::Matter(cause) => (None, None, Some(cause)),
            About::Slot(slot, cause) => (None, Some(slot), cause),
            About::Worker(id, cause) => (Some(id), Some(id.slot), cause),
        };
        let worker = id.and_then(|id| self.workers.get(&id));
        let gone = id.and_then(|id| self.departed.get(id));
        let (pid, release) = match (worker, gone, &state) {
            (Some(worker), ..) => (worker.pid, &worker.release),
            (None, Some(gone), _) => (gone.pid, &gone.release),
            (None, None, Some(incident)) => (None, &incident.release),
            (None, None, None) => (None, &self.settings.release),
        };
        self.actions.push(Action::Record(Record {
            number: self.records,
            at: now.wall,
            kind,
            incident,
            slot,
            pid,
            generation: id.map(|id| id.generation),
            release: release.clone(),
            cause: cause.map(str::to_owned),
            reason: reason.to_owned(),
            figures,
            state: state.map(Box::new),
        }));
        Intent(self.records)
    }

    /// Writes a line that is about no worker and no incident.
    fn note(&mut self, now: Now, kind: Kind, reason: &str, figures: Figures) {
        self.record(now, kind, About::Supervisor, None, reason, figures);
    }

    /// Uniform in 0..1, from the seed (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
    fn next_jitter(&mut self) -> f64 {
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// What a record is about, with its one-word cause.
#[derive(Clone, Copy)]
enum About<'a> {
    Supervisor,
    /// An incident as such.
    Matter(&'a str),
    Slot(Slot, Option<&'a str>),
    Worker(WorkerId, Option<&'a str>),
}

/// Figures of a record; floating ones to three digits, more say nothing.
fn figures<const N: usize>(pairs: [(&str, serde_json::Value); N]) -> Figures {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), round(value))).collect()
}

fn round(value: serde_json::Value) -> serde_json::Value {
    match value.as_f64() {
        Some(float) if value.is_f64() => ((float * 1000.0).round() / 1000.0).into(),
        _ => value,
    }
}
