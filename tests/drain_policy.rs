//! When a draining worker is told to stop: core alone, on paper.

use jiff::Timestamp;
use stanch::core::{
    Action, Command, Event, ExitStatus, Left, Moment, Now, Settings, Supervisor, Ticket, WorkerId,
};
use std::time::Duration;

/// Half of `drain_timeout` is the longest that a stop signal waits for answers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

struct Paper {
    supervisor: Supervisor,
    now: Moment,
    generation: u64,
}

impl Paper {
    /// One worker, ready.
    fn new() -> Self {
        let mut settings = Settings { workers: 1, ..Settings::default() };
        settings.rolling.drain_timeout = DRAIN_TIMEOUT;
        let supervisor = Supervisor::new(settings, 1);
        let mut paper = Self { supervisor, now: Moment::default(), generation: 1 };
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
        self.supervisor.handle(event, self.reading())
    }

    fn becomes_ready(&mut self, worker: WorkerId) {
        self.tell(Event::Spawned { worker, pid: 100 });
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
        let left = Left { queued, awaiting, connections };
        let actions = self.tell(Event::Draining { worker, left });
        actions.iter().any(|action| matches!(action, Action::Stop { .. }))
    }

    /// Time passes until the supervisor has something to do by itself; whether that is the stop signal.
    fn waits(&mut self) -> (Duration, bool) {
        let at = self.supervisor.poll_timeout().expect("there is a deadline");
        let waited = at.since(self.now);
        self.now = at;
        let actions = self.supervisor.handle_timeout(self.reading());
        (waited, actions.iter().any(|action| matches!(action, Action::Stop { .. })))
    }

    fn ends(&mut self, worker: WorkerId, status: ExitStatus) {
        self.now = self.now + Duration::from_secs(1);
        self.tell(Event::Exited { worker, status });
        self.tell(Event::Gone { worker, stragglers: 0, connections_cut: None });
    }
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
