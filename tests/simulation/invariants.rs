//! What must hold after every single action.

use crate::alerts::Alerts;
use crate::hooks::Hooks;
use crate::ledger::Ledger;
use crate::releases::Releases;
use stanch::core::evidence::Part;
use stanch::core::reload::{Reload, Then};
use stanch::core::{
    Action, Command, IncidentId, Kind, Moment, Past, Record, Settings, Slot, Ticket, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub struct Invariants {
    pub seed: u64,
    pub kinds: BTreeMap<Kind, u64>,
    pub alerts: Alerts,
    pub hooks: Hooks,
    pub ledger: Ledger,
    releases: Releases,
    settings: Settings,
    records: BTreeMap<u64, Record>,
    live: BTreeSet<WorkerId>,
    started: BTreeSet<WorkerId>,
    /// Those that serve as far as the supervisor can know: told ready, not known to be hung, not ended.
    serving: BTreeSet<WorkerId>,
    /// Those that would serve, were they not known to be hung.
    hung: BTreeSet<WorkerId>,
    /// Those that did not answer their last probe.
    failing: BTreeSet<WorkerId>,
    /// Those that said that they end.
    going: BTreeSet<WorkerId>,
    /// Those that were told to end.
    leaving: BTreeSet<WorkerId>,
    /// Those that get new connections.
    admitted: BTreeSet<WorkerId>,
    held: BTreeMap<Slot, Moment>,
    drained: BTreeSet<Slot>,
    rolls: i64,
    /// The roll under way is an operator's, who wants held slots started too.
    operators_roll: bool,
    stopping: bool,
    unanswered: BTreeSet<Ticket>,
    /// Evidence that was asked for, and until when it may keep a worker.
    awaited: BTreeMap<(WorkerId, Part, IncidentId), Moment>,
    asked: BTreeSet<WorkerId>,
    /// What was wanted before the last command, in case it is refused.
    before: Option<Before>,
}

struct Before {
    ticket: Ticket,
    releases: Releases,
    settings: Settings,
    drained: BTreeSet<Slot>,
    held: BTreeMap<Slot, Moment>,
}

impl Invariants {
    pub fn new(seed: u64, settings: &Settings) -> Self {
        Self {
            seed,
            kinds: BTreeMap::new(),
            alerts: Alerts::new(seed, settings),
            hooks: Hooks::new(seed),
            ledger: Ledger::default(),
            releases: Releases::new(settings.release.clone()),
            settings: settings.clone(),
            records: BTreeMap::new(),
            live: BTreeSet::new(),
            started: BTreeSet::new(),
            serving: BTreeSet::new(),
            hung: BTreeSet::new(),
            failing: BTreeSet::new(),
            going: BTreeSet::new(),
            leaving: BTreeSet::new(),
            admitted: BTreeSet::new(),
            held: BTreeMap::new(),
            drained: BTreeSet::new(),
            rolls: 0,
            operators_roll: false,
            stopping: false,
            unanswered: BTreeSet::new(),
            awaited: BTreeMap::new(),
            asked: BTreeSet::new(),
            before: None,
        }
    }

    /// Those of the next supervisor, that finds these workers alive, and this in the log.
    pub fn reborn(
        before: &Self,
        settings: &Settings,
        alive: impl Iterator<Item = WorkerId>,
        past: &Past,
    ) -> Self {
        let (kinds, started) = (before.kinds.clone(), before.started.clone());
        let (live, rolls) = (alive.collect(), past.rolling.into());
        let releases = before.releases.reborn(settings.release.clone(), past.deploying);
        Self { kinds, started, live, rolls, releases, ..Self::new(before.seed, settings) }
    }

    /// Another program has taken over: it numbers its records anew, and tells anew who is in the traffic.
    pub fn succeeded(&mut self) {
        self.records.clear();
        self.admitted.clear();
        self.awaited.clear();
        self.alerts = Alerts::new(self.seed, &self.settings);
    }

    /// What was last reloaded.
    pub fn in_force(&self) -> Settings {
        self.settings.clone()
    }

    /// Nothing is left of other workers.
    pub fn forget_others(&mut self, known: &BTreeSet<WorkerId>) {
        self.started.retain(|worker| known.contains(worker));
    }

    pub fn asked(&mut self, ticket: Ticket, command: &Command) {
        self.unanswered.insert(ticket);
        let held = self.held.clone();
        let (settings, drained) = (self.settings.clone(), self.drained.clone());
        let releases = self.releases.clone();
        self.before = Some(Before { ticket, releases, settings, drained, held });
        match command {
            Command::Restart { slot: Some(slot) } => {
                self.held.remove(slot);
                self.drained.remove(slot);
            }
            Command::Restart { slot: None } => self.held.clear(),
            Command::Drain { slot } if slot.0 < self.settings.workers => {
                self.drained.insert(*slot);
                self.held.remove(slot);
            }
            Command::Scale { workers } if *workers > 0 => {
                self.drained.clear();
                self.held.retain(|slot, _| slot.0 < *workers);
                self.settings.workers = *workers;
            }
            Command::Stop => {
                self.stopping = true;
                self.alerts.stopping();
            }
            Command::Reload(Reload { found: Ok(found), then }) => {
                let workers = found.workers.unwrap_or(self.settings.workers);
                if found.workers.is_some() {
                    self.drained.clear();
                    self.held.retain(|slot, _| slot.0 < workers);
                }
                if *then != Then::Keep {
                    self.held.clear();
                }
                self.releases.comes(found.settings.release.clone());
                self.settings = Settings { workers, ..found.settings.clone() };
            }
            Command::Reload(Reload { found: Err(_), .. })
            | Command::Drain { .. }
            | Command::Scale { .. }
            | Command::Acknowledge { .. }
            | Command::Upgrade { .. }
            | Command::Pause
            | Command::Resume => {}
        }
    }

    /// The command was not refused at once.
    pub fn command_taken(&mut self) {
        self.before = None;
    }

    pub fn ready(&mut self, worker: WorkerId) {
        // It may have been told to end meanwhile; and who hangs is handed over as that.
        if !self.leaving.contains(&worker) && !self.hung.contains(&worker) {
            self.serving.insert(worker);
        }
    }

    pub fn unwell(&mut self, worker: WorkerId) {
        self.hung.remove(&worker);
        self.serving.remove(&worker);
    }

    pub fn leaves(&mut self, worker: WorkerId) {
        self.going.insert(worker);
    }

    pub fn probed(&mut self, worker: WorkerId, answers: bool) {
        match answers {
            true => self.failing.remove(&worker),
            false => self.failing.insert(worker),
        };
    }

    pub fn captured(&mut self, worker: WorkerId, part: Part, incident: IncidentId) {
        self.awaited.remove(&(worker, part, incident));
    }

    pub fn gone(&mut self, worker: WorkerId) {
        self.live.remove(&worker);
        self.hung.remove(&worker);
        self.serving.remove(&worker);
        self.admitted.remove(&worker);
    }

    /// Time passes.
    pub fn pass(&mut self, span: Duration) {
        let well =
            |worker: &&WorkerId| !self.failing.contains(worker) && !self.going.contains(worker);
        let serving = self.serving.iter().filter(well).map(|worker| worker.slot);
        let serving: BTreeSet<Slot> = serving.collect();
        let wanted = (0..self.settings.workers).map(Slot);
        if !self.stopping && wanted.into_iter().any(|slot| !serving.contains(&slot)) {
            self.ledger.below(span);
        }
    }

    /// After all actions of one event.
    pub fn check_traffic(&self) {
        assert!(
            self.serving.is_empty() || !self.admitted.is_empty(),
            "seed {}: nobody gets connections, and {:?} could",
            self.seed,
            self.serving
        );
    }

    pub fn check(&mut self, now: Moment, action: &Action) {
        let seed = self.seed;
        self.releases.check(action);
        match action {
            Action::Record(record) => {
                self.check_record(now, record);
                if let Some(incident) = &record.state {
                    self.alerts.incident(now, incident);
                    self.ledger.incident(incident);
                }
            }
            Action::Start { worker } => {
                assert!(self.started.insert(*worker), "seed {seed}: {worker} started twice");
                self.live.insert(*worker);
                assert!(!self.stopping, "seed {seed}: {worker} started while stopping");
                if let Some(until) = self.held.remove(&worker.slot) {
                    assert!(
                        now >= until || self.operators_roll,
                        "seed {seed}: held slot {} was started",
                        worker.slot
                    );
                }
            }
            Action::Stop { worker, intent }
            | Action::HangUp { worker, intent }
            | Action::Kill { worker, intent } => {
                self.check_ours(*worker);
                self.leaving.insert(*worker);
                let record = self.records.get(&intent.number());
                let record =
                    record.unwrap_or_else(|| panic!("seed {seed}: {worker}: no record before"));
                assert_eq!(record.slot, Some(worker.slot), "seed {seed}: {record:?}");
                assert_eq!(record.generation, Some(worker.generation), "seed {seed}: {record:?}");
                let record = record.clone();
                if matches!(action, Action::Stop { .. }) {
                    self.check_evidence(now, *worker, &record);
                    self.hooks.check_none(now, *worker);
                }
                self.check_floor(*worker, &record);
                self.hung.remove(worker);
            }
            Action::Divert { worker, drain } => {
                self.check_ours(*worker);
                self.admitted.remove(worker);
                if *drain {
                    // Its record is the newest one.
                    let record = self.records.values().next_back().cloned();
                    self.check_floor(*worker, &record.expect("a record before"));
                    self.hung.remove(worker);
                }
            }
            Action::Admit { worker, .. } => {
                self.check_ours(*worker);
                self.admitted.insert(*worker);
            }
            Action::Abandon { worker }
            | Action::Reclaim { worker }
            | Action::TakeBaseline { worker }
            | Action::TakeLook { worker } => {
                self.check_ours(*worker);
            }
            Action::CaptureEvidence(inquiry) => {
                self.check_ours(inquiry.worker);
                assert!(!self.stopping, "seed {seed}: {inquiry:?} while stopping");
                let key = (inquiry.worker, inquiry.part, inquiry.incident.clone());
                self.awaited.insert(key, now + inquiry.within + Duration::from_secs(1));
                self.asked.insert(inquiry.worker);
            }
            Action::RunHook(call) => self.hooks.begun(now, call),
            Action::Reply { ticket, reply } => {
                let before =
                    self.before.take_if(|before| before.ticket == *ticket && reply.is_err());
                if let Some(Before { releases, settings, drained, held, .. }) = before {
                    self.releases = releases;
                    self.settings = settings;
                    self.drained = drained;
                    self.held = held;
                }
                assert!(self.unanswered.remove(ticket), "seed {seed}: {ticket:?} answered twice");
            }
            Action::HandOver { ticket } => {
                assert_eq!(self.rolls, 0, "seed {seed}: in the middle of a roll");
                let others = self.unanswered.iter().filter(|other| *other != ticket).count();
                assert_eq!(others, 0, "seed {seed}: somebody waits for another answer");
            }
            Action::Alert(alert) => self.alerts.alert(alert),
            Action::Adopt { .. }
            | Action::CloseListeners
            | Action::Reconfigure { .. }
            | Action::RollBack
            | Action::RollForward
            | Action::Finish => {}
        }
    }

    /// A worker that goes in an incident was looked at, and neither sooner nor later told to stop than
    /// that allows.
    fn check_evidence(&self, now: Moment, worker: WorkerId, record: &Record) {
        let seed = self.seed;
        if self.stopping {
            return;
        }
        let looked = self.asked.contains(&worker);
        assert!(record.incident.is_none() || looked, "seed {seed}: {worker} was not looked at");
        for ((of, part, incident), until) in &self.awaited {
            assert!(
                *of != worker || *part == Part::Remains || *until <= now,
                "seed {seed}: {worker} was told to stop while {part} of {incident} was awaited"
            );
        }
    }

    fn check_ours(&self, worker: WorkerId) {
        assert!(self.live.contains(&worker), "seed {}: action on {worker}, not ours", self.seed);
    }

    /// A worker that serves goes only if its slot is served by another, or the floor allows it, or an
    /// operator or the hard limit wants it.
    fn check_floor(&mut self, worker: WorkerId, record: &Record) {
        let served = self.serving.remove(&worker);
        let exempt = self.stopping
            || self.drained.contains(&worker.slot)
            || worker.slot.0 >= self.settings.workers
            || matches!(record.kind, Kind::MemoryHardLimit | Kind::MemoryOomKilled)
            || record.cause.as_deref() == Some("recovery")
            || record.cause.as_deref() == Some("hang") && self.hung.contains(&worker)
            || record.reason.contains("stopped before its replacement starts");
        if !served || exempt {
            return;
        }
        let slots: BTreeSet<Slot> = self.serving.iter().map(|worker| worker.slot).collect();
        let wanted = self.settings.workers as usize - self.drained.len();
        let floor = wanted.saturating_sub(self.settings.rolling.max_unavailable as usize);
        assert!(
            slots.contains(&worker.slot) || slots.len() >= floor,
            "seed {}: {worker} was taken away below the floor of {floor}: {record:?}",
            self.seed
        );
    }

    fn check_record(&mut self, now: Moment, record: &Record) {
        let seed = self.seed;
        if std::env::var_os("STANCH_SEED").is_some() {
            eprintln!("{:?} {record:?}", now.0);
        }
        *self.kinds.entry(record.kind).or_default() += 1;
        let last = self.records.last_key_value().map_or(0, |(number, _)| *number);
        assert_eq!(record.number, last + 1, "seed {seed}: records are numbered without gaps");
        self.records.insert(record.number, record.clone());
        self.releases.check_record(seed, record, &self.serving);
        match record.kind {
            Kind::DrainStarted => {
                // One that still starts does not come to serve any more.
                self.leaving.extend(record.worker());
                // A hung one may wait for evidence before it is told to stop.
                self.hung.retain(|worker| {
                    Some(worker.slot) != record.slot || Some(worker.generation) != record.generation
                });
            }
            Kind::RollStarted => {
                self.rolls += 1;
                self.operators_roll = record.slot.is_none();
            }
            Kind::RollFinished | Kind::RollAborted => self.rolls -= 1,
            // It hung before its supervisor died.
            Kind::WorkerAdopted if record.incident.is_some() => {
                let worker = record.worker().unwrap();
                self.serving.remove(&worker);
                self.hung.insert(worker);
            }
            // It gave a sign of life.
            Kind::WorkerReady => {
                let worker = record.worker().unwrap();
                if self.hung.remove(&worker) {
                    self.serving.insert(worker);
                }
            }
            Kind::WorkerHung => {
                let worker = record.worker().unwrap();
                if self.serving.remove(&worker) {
                    self.hung.insert(worker);
                }
            }
            Kind::WorkerHeld => {
                let pause: Duration = self.settings.restart.held_pause;
                self.held.insert(record.slot.unwrap(), now + pause);
            }
            _ => {}
        }
        assert!((0..=1).contains(&self.rolls), "seed {seed}: {} rolls at once", self.rolls);
    }

    pub fn check_end(&self, fakes: usize) {
        let seed = self.seed;
        assert_eq!(fakes, 0, "seed {seed}: processes were left");
        assert!(self.live.is_empty(), "seed {seed}: {:?} were never reaped", self.live);
        assert!(self.unanswered.is_empty(), "seed {seed}: {:?} unanswered", self.unanswered);
        assert_eq!(self.rolls, 0, "seed {seed}: a roll did not end");
        self.releases.check_end(seed);
        self.ledger.check(seed);
    }
}
