//! Single decisions of the core, on paper: when a draining worker is told to stop, when a restart is
//! seen not to help, what a pause is not, how a new worker comes into the traffic.

use jiff::Timestamp;
use stanch::core::evidence::Part;
use stanch::core::hooks::{Call, Hook};
use stanch::core::{
    Action, Captured, Command, Event, ExitStatus, Hold, Inquiry, Kind, Left, Legacy, Moment, Now,
    OomKiller, Past, Record, Sample, Settings, Severity, Slot, Succession, Supervisor, Survivor,
    Ticket, Weight, WorkerId,
};
use std::time::Duration;

/// Of those tests that are about it; without one in all others.
const SLOW_START: Duration = Duration::from_secs(3);
/// Half of `drain_timeout` is the longest that a stop signal waits for answers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

struct Paper {
    supervisor: Supervisor,
    /// What is asked about a worker is answered at once.
    answers: bool,
    now: Moment,
    generation: u64,
}

impl Paper {
    /// One worker, ready.
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.rolling.slow_start = Duration::ZERO;
        Self::with(settings)
    }

    /// One worker that has come through its slow start.
    fn warm() -> Self {
        let mut settings = Settings::default();
        settings.rolling.slow_start = SLOW_START;
        let mut paper = Self::with(settings);
        paper.now = paper.now + SLOW_START;
        paper.settle_now();
        paper
    }

    fn with(mut settings: Settings) -> Self {
        settings.workers = 1;
        settings.rolling.drain_timeout = DRAIN_TIMEOUT;
        let supervisor = Supervisor::new(settings, 1);
        let mut paper = Self { supervisor, answers: true, now: Moment::default(), generation: 1 };
        paper.supervisor.start(paper.reading());
        paper.becomes_ready(paper.worker());
        paper
    }

    fn reading(&self) -> Now {
        Now { mono: self.now, wall: Timestamp::from_second(1_800_000_000).unwrap() }
    }

    fn worker(&self) -> WorkerId {
        WorkerId::new(0, self.generation)
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let actions = self.supervisor.handle(event, self.reading());
        self.answer(actions)
    }

    /// The actions, and those that follow from the answers to what they ask.
    fn answer(&mut self, mut actions: Vec<Action>) -> Vec<Action> {
        let asked: Vec<Inquiry> =
            inquiries(&actions).into_iter().filter(|_| self.answers).collect();
        for inquiry in asked {
            actions.extend(self.captured(inquiry));
        }
        actions
    }

    fn captured(&mut self, inquiry: Inquiry) -> Vec<Action> {
        let Inquiry { worker, incident, part, .. } = inquiry;
        let outcome = Ok(Captured::default());
        self.tell(Event::EvidenceCaptured { worker, incident, part, outcome })
    }

    fn becomes_ready(&mut self, worker: WorkerId) {
        self.tell(Event::Spawned { worker, pid: 100, start_ticks: 0 });
        self.tell(Event::Ready { worker });
    }

    /// The worker is replaced; from here on it drains.
    fn roll(&mut self) -> WorkerId {
        let old = self.worker();
        self.generation += 1;
        let command = Command::Restart { slot: None };
        self.tell(Event::Command { ticket: Ticket(self.generation), by: "me".into(), command });
        self.becomes_ready(self.worker());
        old
    }

    /// A look at the draining worker; whether it is told to stop now.
    fn stops(&mut self, worker: WorkerId, queued: u64, awaiting: u64, connections: u64) -> bool {
        let left = Left { queued, awaiting, connections, orphaned: false };
        let actions = self.tell(Event::Draining { worker, left });
        actions.iter().any(|action| matches!(action, Action::Stop { .. }))
    }

    /// Time passes until the supervisor has something to do by itself; what it does.
    fn settle(&mut self) -> Vec<Action> {
        self.now = self.supervisor.poll_timeout().expect("there is a deadline");
        self.settle_now()
    }

    fn settle_now(&mut self) -> Vec<Action> {
        let actions = self.supervisor.handle_timeout(self.reading());
        self.answer(actions)
    }

    /// How long that takes, and whether it is the stop signal.
    fn waits(&mut self) -> (Duration, bool) {
        let before = self.now;
        let actions = self.settle();
        let stops = actions.iter().any(|action| matches!(action, Action::Stop { .. }));
        (self.now.since(before), stops)
    }

    fn command(&mut self, command: Command) {
        self.tell(Event::Command { ticket: Ticket(0), by: "me".into(), command });
    }

    /// Another program takes the supervisor's place.
    fn is_succeeded(&mut self, settings: Settings) {
        let succession = Succession {
            handover: self.supervisor.hand_over(),
            from: "1".to_owned(),
            to: "2".to_owned(),
            pause: Duration::ZERO,
            ticket: None,
            failure: None,
        };
        self.supervisor = Supervisor::new(settings, 1);
        let legacy = Legacy { succession: Some(succession), ..Legacy::default() };
        self.supervisor.recover(self.reading(), legacy);
    }

    /// The worker fails its probes until it is taken for hung; what follows at once.
    fn hangs(&mut self) -> Vec<Action> {
        let worker = self.worker();
        let failures = Settings::default().health.failures;
        let probes = (0..failures).map(|_| Event::Probed { worker, outcome: Err("500".into()) });
        probes.collect::<Vec<_>>().into_iter().flat_map(|probe| self.tell(probe)).collect()
    }

    /// Its replacement comes up, and it ends.
    fn is_replaced(&mut self) {
        let old = self.worker();
        self.generation += 1;
        self.becomes_ready(self.worker());
        self.ends(old, ExitStatus::Code(0));
    }

    fn ends(&mut self, worker: WorkerId, status: ExitStatus) {
        self.now = self.now + Duration::from_secs(1);
        self.tell(Event::Exited { worker, status });
        self.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    }
}

fn inquiries(actions: &[Action]) -> Vec<Inquiry> {
    let inquiry = |action: &Action| match action {
        Action::CaptureEvidence(inquiry) => Some((**inquiry).clone()),
        _ => None,
    };
    actions.iter().filter_map(inquiry).collect()
}

fn starts(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Start { .. }))
}

fn drains(actions: &[Action], old: WorkerId) -> bool {
    actions.iter().any(|a| matches!(a, Action::Divert { worker, drain: true } if *worker == old))
}

fn abandons(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Abandon { .. }))
}

#[test]
fn a_pause_is_none_for_a_crashed_worker() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    let worker = paper.worker();
    paper.now = Moment(Duration::from_secs(3600));
    let mut actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(11) });
    actions.extend(paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None }));
    assert!(starts(&actions), "{actions:?}");
}

#[test]
fn what_a_pause_holds_back_is_written_down_once() {
    let mut paper = limited();
    paper.command(Command::Pause);
    let actions = reading(&mut paper, 210_000);
    let told = record(&actions, Kind::ActionWithheld).expect("it is said");
    assert!(told.reason.contains("would be killed and replaced"), "{}", told.reason);
    assert!(!kills(&actions));
    assert!(record(&reading(&mut paper, 211_000), Kind::ActionWithheld).is_none());
    paper.hangs();
    paper.command(Command::Resume);
    assert!(kills(&reading(&mut paper, 212_000)));
}

#[test]
fn a_restart_that_does_not_help_is_noticed() {
    let mut paper = Paper::new();
    let actions = paper.hangs();
    assert!(starts(&actions) && abandons(&actions), "the first is replaced at once: {actions:?}");
    let mut before = Duration::ZERO;
    for _ in 0..4 {
        paper.is_replaced();
        let hung_at = paper.now;
        let actions = paper.hangs();
        assert!(!starts(&actions) && !abandons(&actions), "{actions:?}");
        let critical = |action: &Action| matches!(action, Action::Record(record) if record.state.as_ref().is_some_and(|incident| incident.severity == Severity::Critical));
        assert!(actions.iter().any(critical) || before > Duration::ZERO, "{actions:?}");
        while !starts(&paper.settle()) {}
        let waited = paper.now.since(hung_at);
        assert!(waited > before, "the pause grows: {waited:?} after {before:?}");
        before = waited;
    }
}

#[test]
fn one_that_answers_again_is_not_replaced() {
    let mut paper = Paper::new();
    paper.hangs();
    paper.is_replaced();
    paper.hangs();
    let worker = paper.worker();
    paper.tell(Event::Probed { worker, outcome: Ok(()) });
    // Long after every pause.
    paper.now = paper.now + Duration::from_secs(100_000);
    assert!(!starts(&paper.settle_now()));
}

#[test]
fn who_nears_the_hard_limit_does_not_wait_for_the_cooldown() {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(100_000);
    settings.memory.hard_limit_kib = Some(200_000);
    settings.rolling.cooldown = Duration::from_secs(1000);
    settings.rolling.slow_start = Duration::ZERO;
    let mut paper = Paper::with(settings);
    let grown = |paper: &mut Paper, kib: u64| {
        let sample = Sample { rss_anon_kib: Some(kib), ..Sample::default() };
        let worker = paper.worker();
        starts(&paper.tell(Event::Sampled { worker, sample }))
    };
    assert!(grown(&mut paper, 110_000), "the first");
    paper.is_replaced();
    assert!(!grown(&mut paper, 110_000), "the cooldown");
    assert!(grown(&mut paper, 160_000), "nearer to the hard limit");
}

#[test]
fn a_newcomer_gets_its_full_part_step_by_step_and_the_old_one_stays_until_then() {
    let mut paper = Paper::warm();
    let old = paper.worker();
    paper.command(Command::Restart { slot: None });
    let new = WorkerId::new(0, 2);
    paper.tell(Event::Spawned { worker: new, pid: 101, start_ticks: 0 });
    let mut actions = paper.tell(Event::Ready { worker: new });
    let (ready, mut weights) = (paper.now, Vec::new());
    loop {
        weights.extend(actions.iter().filter_map(|action| match action {
            Action::Admit { worker, weight } if *worker == new => Some(*weight),
            _ => None,
        }));
        if drains(&actions, old) {
            break;
        }
        actions = paper.settle();
    }
    assert_eq!(paper.now.since(ready), SLOW_START);
    assert!(weights.is_sorted_by(|a, b| a < b), "{weights:?}");
    assert_eq!((weights.first(), weights.last()), (Some(&Weight::LEAST), Some(&Weight::FULL)));
    assert_eq!(weights.len(), usize::from(Weight::FULL.get()), "{weights:?}");
}

#[test]
fn when_all_are_new_nobody_spares_them() {
    let mut settings = Settings::default();
    settings.rolling.slow_start = SLOW_START;
    let mut supervisor = Supervisor::new(settings, 1);
    let now = Now { mono: Moment::default(), wall: Timestamp::UNIX_EPOCH };
    supervisor.start(now);
    let worker = WorkerId::new(0, 1);
    supervisor.handle(Event::Spawned { worker, pid: 100, start_ticks: 0 }, now);
    let actions = supervisor.handle(Event::Ready { worker }, now);
    assert!(actions.contains(&Action::Admit { worker, weight: Weight::FULL }), "{actions:?}");
}

#[test]
fn a_hung_worker_does_not_stay_for_its_replacements_slow_start() {
    let mut paper = Paper::warm();
    let old = paper.worker();
    paper.hangs();
    let new = WorkerId::new(0, 2);
    paper.tell(Event::Spawned { worker: new, pid: 101, start_ticks: 0 });
    let actions = paper.tell(Event::Ready { worker: new });
    let stops = |a: &Action| matches!(a, Action::Stop { worker, .. } if *worker == old);
    assert!(actions.iter().any(stops), "{actions:?}");
}

#[test]
fn the_stop_signal_waits_for_the_queue_and_for_answers() {
    let mut paper = Paper::new();
    let old = paper.roll();
    assert!(!paper.stops(old, 1, 0, 0), "one waits to be accepted");
    assert!(!paper.stops(old, 0, 1, 3), "one waits for its answer");
    assert!(paper.stops(old, 0, 0, 2), "two are kept, and nothing is awaited");
}

#[test]
fn answers_that_do_not_come_have_half_of_the_drain() {
    let mut paper = Paper::new();
    let old = paper.roll();
    assert!(!paper.stops(old, 0, 1, 1));
    assert_eq!(paper.waits(), (DRAIN_TIMEOUT / 2, true));
}

#[test]
fn one_that_was_seen_to_finish_is_not_made_to_wait() {
    let mut paper = Paper::new();
    let old = paper.roll();
    assert!(!paper.stops(old, 0, 2, 2));
    assert!(paper.waits().1, "told to stop while answers are awaited");
    paper.stops(old, 0, 0, 0);
    paper.ends(old, ExitStatus::Code(0));
    let old = paper.roll();
    assert!(!paper.stops(old, 1, 2, 2), "one waits to be accepted");
    assert!(paper.stops(old, 0, 2, 2), "it answers first, as the last one did");
    // This one does not.
    paper.ends(old, ExitStatus::Code(0));
    let old = paper.roll();
    assert!(!paper.stops(old, 0, 2, 2), "it might take them along, as the last one did");
}

#[test]
fn one_that_died_of_the_signal_proves_nothing() {
    let mut paper = Paper::new();
    for _ in 0..2 {
        let old = paper.roll();
        assert!(!paper.stops(old, 0, 2, 2));
        assert!(paper.waits().1);
        paper.ends(old, ExitStatus::Signal(15));
    }
}

/// A worker that is asked to stop while an answer is awaited, and what is recorded of its death by the
/// signal: `remains` are the looks at what it left, before and after the word of its end.
fn cut_by_death(before: &[u64], after: &[u64]) -> Option<u64> {
    let mut paper = Paper::new();
    let worker = paper.roll();
    assert!(!paper.stops(worker, 0, 1, 1));
    assert!(paper.waits().1);
    let look = |paper: &mut Paper, connections: &u64| {
        let left = Left { queued: 0, awaiting: 0, connections: *connections, orphaned: true };
        paper.tell(Event::Draining { worker, left });
    };
    before.iter().for_each(|connections| look(&mut paper, connections));
    paper.tell(Event::Exited { worker, status: ExitStatus::Signal(15) });
    after.iter().for_each(|connections| look(&mut paper, connections));
    let actions = paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    let next = paper.roll();
    assert!(!paper.stops(next, 0, 1, 1), "the last one did not finish");
    Some(record(&actions, Kind::DrainCutConnections)?.figures["connections_cut"].as_u64().unwrap())
}

#[test]
fn what_a_death_by_the_signal_cuts_is_counted_whenever_the_remains_are_seen() {
    assert_eq!(cut_by_death(&[], &[]), Some(1));
    assert_eq!(cut_by_death(&[0], &[]), Some(1));
    assert_eq!(cut_by_death(&[], &[0]), Some(1));
    assert_eq!(cut_by_death(&[1], &[0]), None, "another process of the tree had it");
    assert_eq!(cut_by_death(&[], &[1, 0]), None, "another process of the tree had it");
}

/// The first record of a kind.
fn record(actions: &[Action], kind: Kind) -> Option<&Record> {
    actions.iter().find_map(|action| match action {
        Action::Record(record) if record.kind == kind => Some(record),
        _ => None,
    })
}

fn kills(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Kill { .. }))
}

fn limited() -> Paper {
    let mut settings = Settings::default();
    settings.memory.hard_limit_kib = Some(200_000);
    settings.memory.host_kib = Some(1_000_000);
    Paper::with(settings)
}

fn reading(paper: &mut Paper, kib: u64) -> Vec<Action> {
    let sample = Sample { rss_anon_kib: Some(kib), ..Sample::default() };
    let worker = paper.worker();
    paper.tell(Event::Sampled { worker, sample })
}

#[test]
fn a_limit_that_the_kernel_holds_is_not_held_twice() {
    let mut paper = limited();
    let worker = paper.worker();
    paper.tell(Event::LimitHeld { worker });
    let actions = reading(&mut paper, 210_000);
    assert!(!kills(&actions), "resident is not charged: {actions:?}");
    let kill = Event::OomKilled { worker, by: OomKiller::Limit, peak_kib: Some(200_000) };
    let actions = paper.tell(kill.clone());
    let oom = record(&actions, Kind::MemoryOomKilled).expect("it is told");
    assert_eq!(oom.figures["peak_kib"], 200_000);
    assert!(kills(&actions), "what the kernel left of the tree goes too");
    assert!(record(&paper.tell(kill), Kind::MemoryOomKilled).is_none(), "once");

    let mut paper = limited();
    assert!(kills(&reading(&mut paper, 210_000)), "without the kernel");
}

#[test]
fn whose_sigkill_it_was_is_told() {
    for (oom, cause) in [(true, "host_oom"), (false, "foreign_kill")] {
        let mut paper = limited();
        let worker = paper.worker();
        reading(&mut paper, 123_000);
        if oom {
            let actions =
                paper.tell(Event::OomKilled { worker, by: OomKiller::Host, peak_kib: None });
            assert!(!kills(&actions), "it may have been a child: {actions:?}");
        }
        let actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(9) });
        let crash = record(&actions, Kind::WorkerCrashed).expect("a crash");
        assert_eq!(crash.cause.as_deref(), Some(cause));
        assert_eq!(crash.figures["peak_kib"], 123_000);
    }
}

#[test]
fn a_surge_that_does_not_fit_becomes_stop_then_start() {
    for (available_kib, fits) in [(150_000, true), (90_000, false)] {
        let mut paper = limited();
        // What it has after its start is what its replacement will take.
        reading(&mut paper, 100_000);
        reading(&mut paper, 180_000);
        let available_kib = Some(available_kib);
        paper.tell(Event::HostMemory { available_kib, stalled: false });
        let command = Command::Restart { slot: None };
        let actions = paper.tell(Event::Command { ticket: Ticket(1), by: "me".into(), command });
        assert_eq!(starts(&actions), fits, "{actions:?}");
        let drain = record(&actions, Kind::DrainStarted);
        assert_eq!(drain.is_some(), !fits, "{actions:?}");
        if let Some(drain) = drain {
            assert!(drain.reason.contains("the host has 87.9 MiB"), "{}", drain.reason);
            let worker = paper.worker();
            let ended = paper.tell(Event::Exited { worker, status: ExitStatus::Code(0) });
            let gone = Event::Gone { worker, stragglers: 0, connections_cut: None };
            let ended = [ended, paper.tell(gone)].concat();
            assert!(starts(&ended), "{ended:?}");
        }
    }
}

#[test]
fn pressure_is_told_once_and_replaces_nobody_who_does_not_leak() {
    let mut paper = limited();
    reading(&mut paper, 100_000);
    let tell = |paper: &mut Paper, available, stalled| {
        let actions = paper.tell(Event::HostMemory { available_kib: Some(available), stalled });
        assert!(!starts(&actions), "{actions:?}");
        record(&actions, Kind::HostMemoryPressure).is_some()
    };
    assert!(!tell(&mut paper, 60_000, false));
    assert!(tell(&mut paper, 49_000, false), "a twentieth");
    assert!(!tell(&mut paper, 40_000, false), "once");
    assert!(!tell(&mut paper, 60_000, false), "not yet over");
    assert!(!tell(&mut paper, 40_000, false));
    assert!(!tell(&mut paper, 200_000, false), "over");
    assert!(tell(&mut paper, 200_000, true), "processes wait for memory");
}

#[test]
fn under_pressure_a_leak_does_not_wait_for_its_forecast() {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(2_000_000);
    settings.memory.host_kib = Some(4_000_000);
    settings.leak.lead_time = Duration::from_secs(1);
    let mut paper = Paper::with(settings);
    let leaks = (0..3600).any(|second| {
        paper.now = Moment(Duration::from_secs(second));
        record(&reading(&mut paper, 100_000 + second * 500), Kind::LeakConfirmed).is_some()
    });
    assert!(leaks, "a straight line is a leak");
    let short = Event::HostMemory { available_kib: Some(190_000), stalled: false };
    let actions = paper.tell(short);
    assert!(starts(&actions), "{actions:?}");
    let roll = record(&actions, Kind::RollStarted).expect("a roll");
    assert_eq!(roll.cause.as_deref(), Some("host_pressure"));
}

/// One that is over its soft limit, with a replacement that is ready and warm. Nothing is answered.
fn over_the_soft_limit(command: Option<Duration>) -> (Paper, WorkerId, Vec<Action>) {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.memory.soft_limit_kib = Some(100_000);
    settings.evidence.command_timeout = command;
    let mut paper = Paper::with(settings);
    paper.answers = false;
    let old = paper.worker();
    let mut actions = reading(&mut paper, 110_000);
    assert!(starts(&actions), "{actions:?}");
    paper.generation += 1;
    let new = paper.worker();
    actions.extend(paper.tell(Event::Spawned { worker: new, pid: 101, start_ticks: 1 }));
    actions.extend(paper.tell(Event::Ready { worker: new }));
    (paper, old, actions)
}

fn told_to_stop(actions: &[Action], old: WorkerId) -> bool {
    actions.iter().any(|a| matches!(a, Action::Stop { worker, .. } if *worker == old))
}

#[test]
fn only_the_stop_signal_waits_for_the_look() {
    let (mut paper, old, actions) = over_the_soft_limit(None);
    let asked = inquiries(&actions);
    let [look] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((look.worker, look.part), (old, Part::Look));
    assert_eq!(look.scene.sample.rss_anon_kib, Some(110_000));
    assert!(drains(&actions, old), "its replacement is ready: {actions:?}");
    let left = Left { queued: 0, awaiting: 0, connections: 0, orphaned: false };
    let actions = paper.tell(Event::Draining { worker: old, left });
    assert!(!told_to_stop(&actions, old), "{actions:?}");
    let actions = paper.captured(look.clone());
    assert!(told_to_stop(&actions, old), "{actions:?}");
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    assert_eq!((record.slot, record.cause.as_deref()), (Some(old.slot), Some("look")));
}

#[test]
fn a_look_that_came_too_late_says_what_is_left() {
    let (mut paper, _, actions) = over_the_soft_limit(None);
    let Inquiry { worker, incident, part, .. } = inquiries(&actions).remove(0);
    let outcome = Ok(Captured { files: 2, too_late: true, ..Captured::default() });
    let actions = paper.tell(Event::EvidenceCaptured { worker, incident, part, outcome });
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    let reason = "it had ended before it could be looked at; its last output, readings and counters are saved";
    assert_eq!(record.reason, reason);
    assert_eq!((&record.figures["files"], &record.figures["complete"]), (&2.into(), &false.into()));
}

#[test]
fn a_look_that_never_answers_does_not_keep_the_worker() {
    let (mut paper, old, _) = over_the_soft_limit(None);
    let before = paper.now;
    paper.stops(old, 0, 0, 0);
    let actions = loop {
        let actions = paper.settle();
        if told_to_stop(&actions, old) {
            break actions;
        }
    };
    assert_eq!(paper.now.since(before), Duration::from_secs(3));
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    assert!(record.reason.contains("waits no longer"), "{}", record.reason);
    assert_eq!(record.figures["complete"], false);
}

#[test]
fn the_command_comes_when_nothing_is_awaited_and_takes_nothing_from_the_drain() {
    let (mut paper, old, actions) = over_the_soft_limit(Some(Duration::from_secs(40)));
    let look = inquiries(&actions).remove(0);
    paper.captured(look);
    let left = Left { queued: 0, awaiting: 1, connections: 1, orphaned: false };
    assert!(inquiries(&paper.tell(Event::Draining { worker: old, left })).is_empty());
    let left = Left { awaiting: 0, ..left };
    let asked = inquiries(&paper.tell(Event::Draining { worker: old, left }));
    assert_eq!((asked[0].part, asked[0].within), (Part::Command, Duration::from_secs(40)));
    // What comes meanwhile does not stop it.
    assert!(!paper.stops(old, 0, 0, 0));
    paper.now = paper.now + Duration::from_secs(35);
    let actions = paper.captured(asked[0].clone());
    assert!(told_to_stop(&actions, old), "{actions:?}");
    let until = loop {
        let actions = paper.settle();
        if actions.iter().any(|a| matches!(a, Action::HangUp { worker, .. } if *worker == old)) {
            break paper.now;
        }
    };
    assert!(until.0 > Duration::from_secs(35) + DRAIN_TIMEOUT / 2, "{until:?}");
}

/// The hooks that are to be run.
fn calls(actions: &[Action]) -> Vec<Call> {
    let call = |action: &Action| match action {
        Action::RunHook(call) => Some(call.clone()),
        _ => None,
    };
    actions.iter().filter_map(call).collect()
}

fn hooked() -> Paper {
    let mut settings = Settings::default();
    settings.hooks.set = Hook::ALL.to_vec();
    settings.rolling.slow_start = Duration::ZERO;
    Paper::with(settings)
}

impl Paper {
    fn hook_ends(&mut self, worker: WorkerId, hook: Hook) -> Vec<Action> {
        self.tell(Event::HookEnded { worker, hook, outcome: Ok(()) })
    }
}

#[test]
fn a_newcomer_is_announced_before_the_old_one_drains_and_that_is_told_before_the_stop_signal() {
    let mut paper = hooked();
    paper.hook_ends(paper.worker(), Hook::Ready);
    let (old, new) = (paper.worker(), WorkerId::new(0, 2));
    paper.command(Command::Restart { slot: None });
    paper.tell(Event::Spawned { worker: new, pid: 100, start_ticks: 0 });
    let actions = paper.tell(Event::Ready { worker: new });
    assert_eq!(calls(&actions)[0].hook, Hook::Ready);
    assert!(!drains(&actions, old), "{actions:?}");
    let actions = paper.hook_ends(new, Hook::Ready);
    assert!(drains(&actions, old), "{actions:?}");
    assert_eq!((calls(&actions)[0].worker, calls(&actions)[0].hook), (old, Hook::Drain));
    assert!(!paper.stops(old, 0, 0, 0));
    let actions = paper.hook_ends(old, Hook::Drain);
    assert!(told_to_stop(&actions, old), "{actions:?}");
    paper.tell(Event::Exited { worker: old, status: ExitStatus::Code(0) });
    let gone = Event::Gone { worker: old, stragglers: 0, connections_cut: None };
    let farewell = &calls(&paper.tell(gone))[0];
    assert_eq!((farewell.worker, farewell.hook, farewell.pid), (old, Hook::Retired, Some(100)));
}

#[test]
fn a_hook_without_an_end_keeps_nobody() {
    let mut paper = hooked();
    paper.hook_ends(paper.worker(), Hook::Ready);
    let old = paper.worker();
    let before = paper.now;
    paper.command(Command::Drain { slot: Slot(0) });
    paper.stops(old, 0, 0, 0);
    let (mut failed, mut told) = (None, false);
    while !told {
        let actions = paper.settle();
        failed = record(&actions, Kind::HookFailed).cloned().or(failed);
        told = told_to_stop(&actions, old);
    }
    let timeout = Settings::default().hooks.timeout;
    assert_eq!(paper.now.since(before), timeout + Duration::from_secs(1));
    let failed = failed.expect("it is written down");
    assert_eq!((failed.slot, failed.cause.as_deref()), (Some(old.slot), Some("on_drain")));
}

#[test]
fn the_end_waits_for_farewells_unless_it_is_told_twice() {
    for twice in [false, true] {
        let mut paper = hooked();
        let worker = paper.worker();
        paper.hook_ends(worker, Hook::Ready);
        paper.command(Command::Stop);
        if twice {
            paper.command(Command::Stop);
        } else {
            paper.hook_ends(worker, Hook::Drain);
        }
        paper.ends(worker, ExitStatus::Code(0));
        assert_eq!(paper.supervisor.is_finished(), twice);
        paper.hook_ends(worker, Hook::Retired);
        assert!(paper.supervisor.is_finished());
    }
}

#[test]
fn a_worker_that_was_never_ready_is_announced_to_nobody() {
    let mut settings = Settings::default();
    settings.hooks.set = Hook::ALL.to_vec();
    let mut supervisor = Supervisor::new(settings, 1);
    let now = Now { mono: Moment::default(), wall: Timestamp::from_second(1_800_000_000).unwrap() };
    let mut actions = supervisor.start(now);
    let worker = WorkerId::new(0, 1);
    for event in [
        Event::Spawned { worker, pid: 100, start_ticks: 0 },
        Event::Exited { worker, status: ExitStatus::Code(1) },
        Event::Gone { worker, stragglers: 0, connections_cut: None },
    ] {
        actions.extend(supervisor.handle(event, now));
    }
    assert_eq!(calls(&actions), []);
}

#[test]
fn a_kill_waits_for_nothing_and_an_operator_gets_no_evidence() {
    let mut paper = limited();
    paper.answers = false;
    let actions = reading(&mut paper, 210_000);
    let kill = actions.iter().position(|action| matches!(action, Action::Kill { .. }));
    let asked = actions.iter().position(|a| matches!(a, Action::CaptureEvidence(_)));
    assert!(asked < kill && asked.is_some(), "{actions:?}");
    assert_eq!(inquiries(&actions)[0].part, Part::Remains);

    let mut paper = Paper::new();
    paper.answers = false;
    let old = paper.roll();
    assert!(paper.stops(old, 0, 0, 0));
}

#[test]
fn a_crash_leaves_its_remains() {
    let mut paper = Paper::new();
    paper.answers = false;
    let worker = paper.worker();
    let actions = paper.tell(Event::Exited { worker, status: ExitStatus::Signal(11) });
    assert_eq!(inquiries(&actions)[0].part, Part::Remains);
    paper.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    // The answer comes later than the end.
    let actions = paper.captured(inquiries(&actions).remove(0));
    let record = record(&actions, Kind::EvidenceCaptured).unwrap();
    assert_eq!(record.generation, Some(worker.generation));
    assert!(record.incident.is_some());
}

#[test]
fn a_worker_is_seen_in_good_order_when_ready_and_when_warm() {
    let mut paper = Paper::new();
    let warm_up = Settings::default().leak.warm_up;
    let baseline = |action: &Action| matches!(action, Action::TakeBaseline { .. });
    let mut taken = Vec::new();
    while paper.supervisor.poll_timeout().is_some() && taken.len() < 3 {
        let actions = paper.settle();
        taken.extend(actions.iter().filter(|a| baseline(a)).map(|_| paper.now.0));
    }
    // The first came with the readiness.
    assert_eq!(taken, [warm_up]);
}

/// One worker that shall ping at least so often.
fn watched() -> Paper {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.health.watchdog = Some(WATCHDOG);
    Paper::with(settings)
}

const WATCHDOG: Duration = Duration::from_secs(20);

fn hung(actions: &[Action]) -> Option<&Record> {
    actions.iter().find_map(|action| match action {
        Action::Record(record) if record.kind == Kind::WorkerHung => Some(record),
        _ => None,
    })
}

#[test]
fn a_worker_that_stops_pinging_is_replaced_as_one_that_fails_its_probes() {
    let mut paper = watched();
    let worker = paper.worker();
    for _ in 0..5 {
        paper.now = paper.now + WATCHDOG / 2;
        let actions = paper.tell(Event::Pinged { worker });
        assert_eq!(hung(&actions), None);
    }
    let heard = paper.now;
    let actions = loop {
        let actions = paper.settle();
        if hung(&actions).is_some() {
            break actions;
        }
    };
    assert_eq!(paper.now.since(heard), WATCHDOG);
    assert_eq!(hung(&actions).unwrap().reason, "did not ping (WATCHDOG=1) within 20 s");
    let next = WorkerId::new(0, 2);
    assert!(actions.contains(&Action::Start { worker: next }), "{actions:?}");
}

#[test]
fn nothing_follows_from_a_silence_while_the_supervisor_stood_still() {
    let mut paper = watched();
    paper.now = paper.now + WATCHDOG * 3;
    let actions = paper.settle_now();
    assert_eq!(hung(&actions), None, "the pings of that time are yet to be read");
    let awake = paper.now;
    let hung_at = loop {
        let actions = paper.settle();
        if hung(&actions).is_some() {
            break paper.now;
        }
    };
    assert_eq!(hung_at.since(awake), WATCHDOG);
}

#[test]
fn who_never_pings_is_hung_too_and_probes_do_not_make_up_for_it() {
    let mut paper = watched();
    let worker = paper.worker();
    // Its replacement waits, so that it could recover.
    paper.command(Command::Pause);
    paper.now = paper.now + WATCHDOG;
    let actions = paper.settle_now();
    assert!(hung(&actions).unwrap().reason.ends_with("it never did"), "{actions:?}");
    let recovers = |actions: &[Action]| {
        let ready = |a: &Action| matches!(a, Action::Record(r) if r.kind == Kind::WorkerReady);
        actions.iter().any(ready)
    };
    let probed = paper.tell(Event::Probed { worker, outcome: Ok(()) });
    assert!(!recovers(&probed), "{probed:?}");
    assert!(recovers(&paper.tell(Event::Pinged { worker })));
    // And the other way round: pings do not make up for failed probes.
    paper.hangs();
    assert!(!recovers(&paper.tell(Event::Pinged { worker })));
    assert!(recovers(&paper.tell(Event::Probed { worker, outcome: Ok(()) })));
}

#[test]
fn without_a_watchdog_nobody_has_to_ping() {
    let mut paper = Paper::new();
    paper.now = paper.now + WATCHDOG * 1000;
    assert_eq!(hung(&paper.settle_now()), None);
}

#[test]
fn who_says_that_it_ends_is_steered_away_from_and_must_end() {
    let mut settings = Settings::default();
    settings.rolling.slow_start = Duration::ZERO;
    settings.workers = 2;
    let mut supervisor = Supervisor::new(settings, 1);
    let mut now = Now { mono: Moment::default(), wall: Timestamp::from_second(1).unwrap() };
    supervisor.start(now);
    for slot in 0..2 {
        assert!(!supervisor.is_up());
        let worker = WorkerId::new(slot, 1);
        supervisor.handle(Event::Spawned { worker, pid: 100 + slot as i32, start_ticks: 1 }, now);
        supervisor.handle(Event::Ready { worker }, now);
    }
    assert!(supervisor.is_up());
    let worker = WorkerId::new(1, 1);
    let actions = supervisor.handle(Event::Leaving { worker }, now);
    assert_eq!(actions, [Action::Divert { worker, drain: false }]);
    now.mono = now.mono + DRAIN_TIMEOUT;
    let actions = supervisor.handle_timeout(now);
    let reason = "said that it ends (STOPPING=1), and is still there after 30 s";
    assert_eq!(hung(&actions).unwrap().reason, reason);
    assert!(supervisor.is_up(), "it has been");
}

/// When a leak is confirmed whose supervisor hands over then; with or without what the store knows.
fn confirmed_at(handed_over: Option<(u64, bool)>) -> u64 {
    let mut settings = Settings::default();
    settings.memory.soft_limit_kib = Some(2_000_000);
    let mut paper = Paper::with(settings.clone());
    let mut samples = Vec::new();
    for second in 1..3600 {
        paper.now = Moment(Duration::from_secs(second));
        let growth_kib = 100_000 + second * 500;
        if record(&reading(&mut paper, growth_kib), Kind::LeakConfirmed).is_some() {
            return second;
        }
        let sample = Sample { rss_anon_kib: Some(growth_kib), ..Sample::default() };
        samples.push((Duration::from_secs(second), sample));
        if let Some((_, remembered)) = handed_over.filter(|(at, _)| *at == second) {
            paper.is_succeeded(settings.clone());
            if remembered {
                let worker = paper.worker();
                paper.tell(Event::Remembered { worker, samples: samples.clone() });
            }
        }
    }
    panic!("a straight line is a leak");
}

#[test]
fn who_hangs_does_for_the_next_program_as_well() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    let hung = paper.hangs();
    assert!(record(&hung, Kind::WorkerHung).is_some(), "{hung:?}");
    paper.is_succeeded(Settings::default());
    let worker = paper.worker();
    let well = paper.tell(Event::Probed { worker, outcome: Ok(()) });
    let ready = record(&well, Kind::WorkerReady).expect("it was hung until now");
    assert_eq!(ready.reason, "answers its probes again");
}

#[test]
fn who_hangs_does_after_the_death_of_the_supervisor_as_well() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    let hung = paper.hangs();
    let hung = record(&hung, Kind::WorkerHung).unwrap();
    let worker = paper.worker();
    let mut past = Past::default();
    past.died = true;
    let _ = past.note(hung);
    let survivor = Survivor {
        worker,
        pid: Some(100),
        start_ticks: Some(0),
        release: None,
        age: Duration::from_secs(60),
        hold: Hold::Kept,
        deaf: false,
    };
    let incidents = hung.state.iter().map(|incident| (**incident).clone()).collect();
    let legacy =
        Legacy { past: Some(past), survivors: vec![survivor], incidents, ..Legacy::default() };
    let incident = hung.incident.clone();
    paper.supervisor = Supervisor::new(Settings::default(), 1);
    let actions = paper.supervisor.recover(paper.reading(), legacy);
    let adopted = record(&actions, Kind::WorkerAdopted).unwrap();
    assert_eq!((&adopted.incident, adopted.reason.contains("serving")), (&incident, false));
    assert!(record(&actions, Kind::IncidentChanged).is_none(), "nothing was handled: {actions:?}");
    // What it says is known after the next death too.
    let mut again = Past::default();
    let _ = again.note(adopted);
    assert_eq!(again.workers[&worker].hung, incident);
}

#[test]
fn a_leak_is_seen_as_soon_when_the_supervisor_is_another_program_by_then() {
    let at = confirmed_at(None);
    let handed_over = at - 5;
    assert_eq!(confirmed_at(Some((handed_over, true))), at);
    let anew = confirmed_at(Some((handed_over, false)));
    assert!(anew > at + 10, "without its past it is seen later: {anew}, not {at}");
}
