//! A supervisor with one worker and no world: it is told what happens, and says what to do about it.

use jiff::Timestamp;
use stanch::core::reload::{Change, Difference, Holds, Reconfiguration, Reload, Start, Then};
use stanch::core::{
    Action, Captured, Command, Event, ExitStatus, Hold, Incident, IncidentId, IncidentState,
    Inquiry, Kind, Left, Legacy, Moment, Now, Occasion, Past, Record, Sample, Settings, Succession,
    Supervisor, Survivor, Ticket, View, WorkerId,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Of those tests that are about it; without one in all others.
pub const SLOW_START: Duration = Duration::from_secs(3);
/// Half of `drain_timeout` is the longest that a stop signal waits for answers.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Paper {
    pub supervisor: Supervisor,
    /// What is asked about a worker is answered at once.
    pub answers: bool,
    pub now: Moment,
    pub generation: u64,
    /// What was written down, oldest first.
    pub log: Vec<Record>,
    /// Who was told of what.
    told: Vec<(IncidentId, (String, Occasion, bool))>,
}

impl Paper {
    /// One worker, ready.
    pub fn new() -> Self {
        let mut settings = Settings::default();
        settings.rolling.slow_start = Duration::ZERO;
        Self::with(settings)
    }

    /// One worker that has come through its slow start.
    pub fn warm() -> Self {
        let mut settings = Settings::default();
        settings.rolling.slow_start = SLOW_START;
        let mut paper = Self::with(settings);
        paper.now = paper.now + SLOW_START;
        paper.settle_now();
        paper
    }

    pub fn with(mut settings: Settings) -> Self {
        settings.workers = 1;
        settings.rolling.drain_timeout = DRAIN_TIMEOUT;
        let supervisor = Supervisor::new(settings, 1);
        let mut paper = Self {
            supervisor,
            answers: true,
            now: Moment::default(),
            generation: 1,
            log: Vec::new(),
            told: Vec::new(),
        };
        paper.supervisor.start(paper.reading());
        paper.becomes_ready(paper.worker());
        paper
    }

    pub fn reading(&self) -> Now {
        Now { mono: self.now, wall: Timestamp::from_second(1_800_000_000).unwrap() }
    }

    pub fn view(&self) -> View {
        self.supervisor.view(self.reading())
    }

    pub fn worker(&self) -> WorkerId {
        WorkerId::new(0, self.generation)
    }

    pub fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.supervisor.handle(event, self.reading());
        self.answer(actions)
    }

    /// The actions, and those that follow from the answers to what they ask.
    pub fn answer(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        self.note(&actions);
        let asked: Vec<Inquiry> =
            inquiries(&actions).into_iter().filter(|_| self.answers).collect();
        for inquiry in asked {
            actions.extend(self.captured(inquiry));
        }
        actions
    }

    fn note(&mut self, actions: &[Action]) {
        let records = actions.iter().filter_map(|action| match action {
            Action::Record(record) => Some(record.clone()),
            _ => None,
        });
        self.log.extend(records);
        let told = actions.iter().filter_map(|action| match action {
            Action::Alert(alert) => {
                let id = &alert.id;
                Some((id.incident.clone(), (id.to.clone(), id.what, false)))
            }
            _ => None,
        });
        self.told.extend(told);
    }

    /// The newest form of each incident that is not over.
    pub fn incidents(&self) -> Vec<Incident> {
        let states = self.log.iter().filter_map(|record| record.state.as_deref());
        let newest: BTreeMap<_, _> = states.map(|state| (state.id.clone(), state)).collect();
        let open = |state: &&Incident| state.state != IncidentState::Resolved;
        newest.into_values().filter(open).cloned().collect()
    }

    fn last_incident(&self) -> Option<IncidentId> {
        self.log.iter().filter_map(|record| record.incident.clone()).max()
    }

    pub fn captured(&mut self, inquiry: Inquiry) -> Vec<Action> {
        let Inquiry { worker, incident, part, .. } = inquiry;
        let outcome = Ok(Captured::default());
        self.tell(Event::EvidenceCaptured { worker, incident, part, outcome })
    }

    pub fn becomes_ready(&mut self, worker: WorkerId) {
        self.tell(Event::Spawned { worker, pid: 100, start_ticks: 0 });
        self.tell(Event::Ready { worker });
    }

    /// The worker is replaced; from here on it drains.
    pub fn roll(&mut self) -> WorkerId {
        let old = self.worker();
        self.generation += 1;
        let command = Command::Restart { slot: None };
        self.tell(Event::Command { ticket: Ticket(self.generation), by: "me".into(), command });
        self.becomes_ready(self.worker());
        old
    }

    /// A look at the draining worker; whether it is told to stop now.
    pub fn stops(
        &mut self,
        worker: WorkerId,
        queued: u64,
        awaiting: u64,
        connections: u64,
    ) -> bool {
        let left = Left { queued, awaiting, connections, orphaned: false };
        let actions = self.tell(Event::Draining { worker, left });
        actions.iter().any(|action| matches!(action, Action::Stop { .. }))
    }

    /// Time passes until the supervisor has something to do by itself; what it does.
    pub fn settle(&mut self) -> Vec<Action> {
        self.now = self.supervisor.poll_timeout().expect("there is a deadline");
        self.settle_now()
    }

    pub fn settle_now(&mut self) -> Vec<Action> {
        let actions = self.supervisor.handle_timeout(self.reading());
        self.answer(actions)
    }

    /// Time passes until a worker is started.
    pub fn settle_until_a_start(&mut self) {
        let started = (0..1000).any(|_| starts(&self.settle()));
        assert!(started, "nobody is started: {:?}", self.view());
    }

    /// How long that takes, and whether it is the stop signal.
    pub fn waits(&mut self) -> (Duration, bool) {
        let before = self.now;
        let actions = self.settle();
        let stops = actions.iter().any(|action| matches!(action, Action::Stop { .. }));
        (self.now.since(before), stops)
    }

    pub fn command(&mut self, command: Command) {
        self.tell(Event::Command { ticket: Ticket(0), by: "me".into(), command });
    }

    /// Another program takes the supervisor's place.
    pub fn is_succeeded(&mut self, settings: Settings) -> Vec<Action> {
        let incidents = self.incidents();
        let succession = Succession {
            handover: self.supervisor.hand_over(),
            from: "1".to_owned(),
            to: "2".to_owned(),
            pause: Duration::ZERO,
            ticket: None,
            failure: None,
        };
        self.supervisor = Supervisor::new(settings, 1);
        let succession = Some(succession);
        let last_incident = self.last_incident();
        let told = self.told.clone();
        let legacy = Legacy { succession, incidents, told, last_incident, ..Legacy::default() };
        let actions = self.supervisor.recover(self.reading(), legacy);
        self.answer(actions)
    }

    /// The supervisor dies, and the next one, which only watches, finds the worker.
    pub fn is_reborn(&mut self, incidents: Vec<Incident>) -> Vec<Action> {
        let mut past = Past::default();
        past.died = true;
        for record in self.log.iter().rev() {
            if past.note(record).is_break() {
                break;
            }
        }
        let survivor = Survivor {
            worker: self.worker(),
            pid: Some(100),
            start_ticks: Some(0),
            release: None,
            age: Duration::from_secs(60),
            hold: Hold::Kept,
            deaf: false,
        };
        let (past, survivors) = (Some(past), vec![survivor]);
        let last_incident = self.last_incident();
        let legacy = Legacy { past, survivors, incidents, last_incident, ..Legacy::default() };
        self.supervisor = Supervisor::new(Settings::default(), 1);
        self.command(Command::Pause);
        let actions = self.supervisor.recover(self.reading(), legacy);
        self.answer(actions)
    }

    /// Another configuration is in force.
    pub fn is_reloaded(&mut self, settings: Settings) -> Vec<Action> {
        self.is_reconfigured(settings, Then::Keep, Start::Alike)
    }

    /// Another configuration is in force, which starts workers so against all before it.
    pub fn is_reconfigured(&mut self, settings: Settings, then: Then, start: Start) -> Vec<Action> {
        let text = "app.directory".to_owned();
        let change = Change { holds: Holds::InNewWorkers, text };
        let changes = if start == Start::Alike { vec![] } else { vec![change] };
        let found = Reconfiguration {
            settings,
            workers: None,
            difference: Difference(changes),
            start,
            start_before: start,
            proof: Duration::from_secs(10),
        };
        let command = Command::Reload(Reload { found: Ok(Box::new(found)), then });
        self.tell(Event::Command { ticket: Ticket(0), by: "me".into(), command })
    }

    /// The worker fails its probes until it is taken for hung; what follows at once.
    pub fn hangs(&mut self) -> Vec<Action> {
        self.fails_probes(self.worker())
    }

    pub fn fails_probes(&mut self, worker: WorkerId) -> Vec<Action> {
        let failures = Settings::default().health.failures;
        let probes = (0..failures).map(|_| Event::Probed {
            worker,
            outcome: Err("500".into()),
            answered: false,
        });
        probes.collect::<Vec<_>>().into_iter().flat_map(|probe| self.tell(probe)).collect()
    }

    /// Another one beside it.
    pub fn gets_another(&mut self) -> WorkerId {
        self.command(Command::Scale { workers: 2 });
        let other = WorkerId::new(1, 1);
        self.becomes_ready(other);
        other
    }

    /// Its replacement does not come up; what follows at once.
    pub fn newcomer_fails(&mut self) -> Vec<Action> {
        self.generation += 1;
        let (worker, status) = (self.worker(), ExitStatus::Code(1));
        let mut actions = self.tell(Event::Exited { worker, status });
        actions.extend(self.tell(Event::Gone { worker, stragglers: 0, connections_cut: None }));
        actions
    }

    /// Its replacement comes up, and it ends.
    pub fn is_replaced(&mut self) {
        let old = self.worker();
        self.generation += 1;
        self.becomes_ready(self.worker());
        self.ends(old, ExitStatus::Code(0));
    }

    pub fn ends(&mut self, worker: WorkerId, status: ExitStatus) {
        self.now = self.now + Duration::from_secs(1);
        self.tell(Event::Exited { worker, status });
        self.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    }
}

pub fn inquiries(actions: &[Action]) -> Vec<Inquiry> {
    let inquiry = |action: &Action| match action {
        Action::CaptureEvidence(inquiry) => Some((**inquiry).clone()),
        _ => None,
    };
    actions.iter().filter_map(inquiry).collect()
}

pub fn starts(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Start { .. }))
}

pub fn drains(actions: &[Action], old: WorkerId) -> bool {
    actions.iter().any(|a| matches!(a, Action::Divert { worker, drain: true } if *worker == old))
}

pub fn abandons(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Abandon { .. }))
}

/// The first record of a kind.
pub fn record(actions: &[Action], kind: Kind) -> Option<&Record> {
    actions.iter().find_map(|action| match action {
        Action::Record(record) if record.kind == kind => Some(record),
        _ => None,
    })
}

pub fn kills(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Kill { .. }))
}

pub fn limited() -> Paper {
    let mut settings = Settings::default();
    settings.memory.hard_limit_kib = Some(200_000);
    settings.memory.host_kib = Some(1_000_000);
    Paper::with(settings)
}

pub fn reading(paper: &mut Paper, kib: u64) -> Vec<Action> {
    let sample = Sample { rss_anon_kib: Some(kib), ..Sample::default() };
    let worker = paper.worker();
    paper.tell(Event::Sampled { worker, sample })
}

pub fn told_to_stop(actions: &[Action], old: WorkerId) -> bool {
    actions.iter().any(|a| matches!(a, Action::Stop { worker, .. } if *worker == old))
}
