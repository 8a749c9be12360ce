//! Fake workers that start, serve, leak, hang, crash and refuse to die.

mod death;
mod upgrade;

use crate::invariants::Invariants;
use crate::random::Random;
use death::Log;
use jiff::Timestamp;
use stanch::core::hooks::Call;
use stanch::core::reload::Reload;
use stanch::core::{
    Action, AlertFailure, AlertId, Captured, Command, Event, ExitStatus, Inquiry, Kind, Left,
    Moment, Now, OomKiller, Sample, Settings, Supervisor, Ticket, WorkerId,
};
use std::collections::BTreeMap;
use std::time::Duration;

const SIGTERM: i32 = 15;
const SIGSEGV: i32 = 11;

struct Fake {
    ready: bool,
    hung: bool,
    obeys_sigterm: bool,
    growth_kib: f64,
    slope_kib_s: f64,
    exited: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Due {
    Spawned(WorkerId),
    SpawnFailed(WorkerId),
    Ready(WorkerId),
    Tick(WorkerId),
    Look(WorkerId, Left),
    Exit(WorkerId, i32),
    Gone(WorkerId),
    Alerted(AlertId),
    Captured(Box<Inquiry>),
    Hooked(Call),
}

pub struct World {
    now: Moment,
    random: Random,
    settings: Settings,
    /// From one reading of a worker to the next.
    pace: Duration,
    supervisor: Supervisor,
    log: Log,
    fakes: BTreeMap<WorkerId, Fake>,
    agenda: BTreeMap<(Moment, u64), Due>,
    sequence: u64,
    tickets: u64,
    /// Another program is to take over, and answers this.
    leaving: Option<Ticket>,
    invariants: Invariants,
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            now: Moment::default(),
            random: Random::new(seed),
            invariants: Invariants::new(seed, &settings),
            supervisor: Supervisor::new(settings.clone(), seed),
            settings,
            pace: Duration::from_secs(1),
            log: Log::default(),
            fakes: BTreeMap::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            tickets: 0,
            leaving: None,
        }
    }

    /// Workers are read, and have a chance to fail, this often; a leak is as much slower.
    pub fn at_pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// What has passed of its time.
    pub fn age(&self) -> Duration {
        self.now.0
    }

    fn reading(&self) -> Now {
        Now {
            mono: self.now,
            wall: Timestamp::from_millisecond(1_800_000_000_000 + self.now.0.as_millis() as i64)
                .unwrap(),
        }
    }

    pub fn start(&mut self) {
        let actions = self.supervisor.recover(self.reading(), death::legacy());
        self.act(actions);
    }

    pub fn command(&mut self, command: Command) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.invariants.asked(ticket, &command);
        if let Command::Reload(Reload { found: Ok(found), .. }) = &command {
            // So the file is, whatever is made of it.
            let workers = found.workers.unwrap_or(self.settings.workers);
            self.settings = Settings { workers, ..found.settings.clone() };
        }
        self.tell(Event::Command { ticket, by: "the test".into(), command });
        self.invariants.command_taken();
        self.leave();
    }

    fn leave(&mut self) {
        if let Some(ticket) = self.leaving.take().filter(|_| !self.is_dead()) {
            self.succeed(ticket);
        }
    }

    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let timeout = self.supervisor.poll_timeout().map(|at| at.max(self.now));
            let Some(next) = [due, timeout].into_iter().flatten().min() else { break };
            if next > end || self.is_dead() {
                break;
            }
            self.invariants.pass(next.since(self.now));
            self.now = next;
            if due == Some(next) {
                let (_, due) = self.agenda.pop_first().unwrap();
                self.happen(due);
            } else {
                let actions = self.supervisor.handle_timeout(self.reading());
                let again = self.supervisor.poll_timeout();
                assert!(
                    again.is_none_or(|at| at > self.now) || !actions.is_empty(),
                    "seed {}: busy loop at {:?}",
                    self.invariants.seed,
                    self.now
                );
                self.act(actions);
            }
            self.leave();
        }
        if !self.is_dead() {
            self.invariants.pass(end.since(self.now));
            self.now = end;
        }
    }

    pub fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    pub fn check_end(&self) {
        assert!(self.supervisor.is_finished(), "seed {}: did not end", self.invariants.seed);
        self.invariants.check_end(self.fakes.len());
        self.check_log();
    }

    /// What the incidents account for, in milliseconds below capacity and in refused connections.
    pub fn told(&self) -> [u64; 2] {
        self.invariants.ledger.told()
    }

    pub fn kinds(&self) -> BTreeMap<Kind, u64> {
        self.invariants.kinds.clone()
    }

    fn after_ms(&mut self, ms: u64, due: Due) {
        self.sequence += 1;
        self.agenda.insert((self.now + Duration::from_millis(ms), self.sequence), due);
    }

    fn tell(&mut self, event: Event) {
        if self.is_dead() {
            return;
        }
        let actions = self.supervisor.handle(event, self.reading());
        self.act(actions);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Spawned(worker) => {
                if self.fakes.contains_key(&worker) {
                    let pid = 1000 + self.sequence as i32;
                    self.tell(Event::Spawned { worker, pid, start_ticks: 0 });
                }
            }
            Due::SpawnFailed(worker) => {
                self.tell(Event::SpawnFailed {
                    worker,
                    stage: "directory".into(),
                    error: "no such directory".into(),
                });
                self.after_ms(1, Due::Gone(worker));
            }
            Due::Ready(worker) => {
                if let Some(fake) = self.fakes.get_mut(&worker).filter(|fake| !fake.exited) {
                    fake.ready = true;
                    self.invariants.ready(worker);
                    self.tell(Event::Ready { worker });
                }
            }
            Due::Tick(worker) => self.tick(worker),
            Due::Alerted(alert) => {
                let given_up = self.random.chance(0.5);
                let failure = AlertFailure { error: "connection refused".into(), given_up };
                let outcome =
                    if self.random.chance(0.2) { Err(failure) } else { Ok(String::new()) };
                self.tell(Event::Alerted { alert, attempts: 1, outcome });
            }
            Due::Look(worker, mut left) => {
                if let Some(fake) = self.fakes.get(&worker) {
                    left.orphaned = fake.exited;
                    self.tell(Event::Draining { worker, left });
                }
            }
            Due::Exit(worker, signal) => self.exit(worker, signal),
            Due::Captured(inquiry) => {
                let Inquiry { worker, incident, part, .. } = *inquiry;
                let outcome = match self.random.chance(0.8) {
                    true => Ok(Captured { files: 2, bytes: 4096, ..Captured::default() }),
                    false => Err("no space left on the device".to_owned()),
                };
                self.invariants.captured(worker, part, incident.clone());
                self.tell(Event::EvidenceCaptured { worker, incident, part, outcome });
            }
            Due::Hooked(Call { worker, hook, .. }) => {
                let failure = Err("ended with exit code 1".to_owned());
                let outcome = if self.random.chance(0.8) { Ok(()) } else { failure };
                self.invariants.hooks.ended(worker, hook);
                self.tell(Event::HookEnded { worker, hook, outcome });
            }
            Due::Gone(worker) => {
                if self.fakes.remove(&worker).is_some() {
                    let cut = self.random.chance(0.2).then(|| self.random.below(9));
                    self.invariants.gone(worker);
                    self.tell(Event::Gone { worker, stragglers: 0, connections_cut: cut });
                }
            }
        }
    }

    fn tick(&mut self, worker: WorkerId) {
        let Some(fake) = self.fakes.get_mut(&worker).filter(|fake| !fake.exited) else { return };
        fake.growth_kib += fake.slope_kib_s;
        let growth_kib = fake.growth_kib as u64 + self.random.below(512);
        let (ready, mut hung) = (fake.ready, fake.hung);
        if ready && self.random.chance(0.000_5) {
            fake.hung = true;
            hung = true;
        }
        let crash = ready && self.random.chance(0.001);
        if !hung {
            self.tell(Event::Pinged { worker });
        }
        // Some say that they end and do; some never come to it.
        if ready && self.random.chance(0.000_5) {
            self.invariants.leaves(worker);
            self.tell(Event::Leaving { worker });
            if self.random.chance(0.7) {
                let ms = self.random.below(5000);
                self.after_ms(ms, Due::Exit(worker, SIGTERM));
            }
        }
        // Where the kernel holds the limit, no reading is over it.
        if self.random.chance(0.000_5) {
            let peak_kib = Some(growth_kib);
            self.tell(Event::OomKilled { worker, by: OomKiller::Limit, peak_kib });
        }
        if self.random.chance(0.01) {
            let attempts = 1 + self.random.below(9);
            self.invariants.ledger.refused(attempts);
            self.tell(Event::ConnectionsDropped { attempts });
        }
        if self.random.chance(0.003) {
            let available_kib = Some([5_000, 150_000, 1_000_000][self.random.below(3) as usize]);
            let stalled = self.random.chance(0.2);
            self.tell(Event::HostMemory { available_kib, stalled });
        }
        let sample = Sample { rss_anon_kib: Some(growth_kib), ..Sample::default() };
        self.after_ms(self.pace.as_millis() as u64, Due::Tick(worker));
        self.tell(Event::Sampled { worker, sample });
        if ready {
            let outcome = if hung { Err("timed out".to_owned()) } else { Ok(()) };
            self.invariants.probed(worker, outcome.is_ok());
            let answered = outcome.is_ok() || self.random.chance(0.3);
            self.tell(Event::Probed { worker, outcome, answered });
        }
        if crash {
            self.exit(worker, SIGSEGV);
        }
    }

    fn exit(&mut self, worker: WorkerId, signal: i32) {
        let Some(fake) = self.fakes.get_mut(&worker).filter(|fake| !fake.exited) else { return };
        fake.exited = true;
        self.invariants.unwell(worker);
        self.tell(Event::Exited { worker, status: ExitStatus::Signal(signal) });
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            if !self.survives(&action) {
                return;
            }
            self.invariants.check(self.now, &action);
            match action {
                Action::Start { worker } => self.start_fake(worker),
                Action::Adopt { worker, verified, .. } => self.adopt_fake(worker, verified),
                Action::Divert { worker, drain: true } => {
                    let mut left = Left { queued: 2, connections: 3, awaiting: 3, orphaned: false };
                    // Some never get rid of their connections.
                    let looks = self.random.below(4);
                    self.after_ms(0, Due::Look(worker, left));
                    for _ in 0..looks {
                        left.connections = left.connections.saturating_sub(left.queued);
                        left.awaiting = left.awaiting.saturating_sub(2).min(left.connections);
                        left.queued = left.queued.saturating_sub(2);
                        let ms = self.random.below(9000);
                        self.after_ms(ms, Due::Look(worker, left));
                    }
                }
                Action::Stop { worker, .. } => {
                    if self.fakes.get(&worker).is_some_and(|fake| fake.obeys_sigterm) {
                        let ms = self.random.below(4000);
                        self.after_ms(ms, Due::Exit(worker, SIGTERM));
                    }
                }
                Action::Kill { worker, .. } => {
                    // Sometimes a process sits in the kernel for a while.
                    let ms = if self.random.chance(0.05) { 12_000 } else { 5 };
                    self.after_ms(ms, Due::Exit(worker, 9));
                    self.after_ms(ms + 1, Due::Gone(worker));
                }
                Action::Alert(alert) => {
                    let ms = self.random.below(20_000);
                    self.after_ms(ms, Due::Alerted(alert.id));
                }
                Action::CaptureEvidence(inquiry) => {
                    // Some never answer, some too late.
                    if self.random.chance(0.9) {
                        let most = 2 * inquiry.within.as_millis() as u64;
                        let ms = self.random.below(most);
                        self.after_ms(ms, Due::Captured(inquiry));
                    }
                }
                Action::RunHook(call) => {
                    if self.random.chance(0.9) {
                        let ms = self.random.below(2 * call.within.as_millis() as u64);
                        self.after_ms(ms, Due::Hooked(call));
                    }
                }
                Action::HandOver { ticket } => self.leaving = Some(ticket),
                Action::Record(_)
                | Action::TakeBaseline { .. }
                | Action::TakeLook { .. }
                | Action::Admit { .. }
                | Action::Abandon { .. }
                | Action::Reclaim { .. }
                | Action::Divert { drain: false, .. }
                | Action::Reconfigure { .. }
                | Action::RollBack
                | Action::RollForward
                | Action::CloseListeners
                | Action::HangUp { .. }
                | Action::Reply { .. }
                | Action::Finish => {}
            }
        }
        self.invariants.check_traffic();
        self.invariants.alerts.check_told();
    }

    fn start_fake(&mut self, worker: WorkerId) {
        let broken = self.random.chance(0.06);
        let slope_kib_s = match self.random.below(4) {
            0 => 40.0 + self.random.below(2000) as f64,
            _ => 0.0,
        };
        let fake = Fake {
            ready: false,
            hung: false,
            obeys_sigterm: self.random.chance(0.9),
            growth_kib: 20_000.0,
            slope_kib_s,
            exited: false,
        };
        self.fakes.insert(worker, fake);
        if broken && self.random.chance(0.3) {
            self.after_ms(2, Due::SpawnFailed(worker));
            return;
        }
        self.after_ms(3, Due::Spawned(worker));
        self.after_ms(self.pace.as_millis() as u64, Due::Tick(worker));
        let start_ms = self.random.below(3000);
        match (broken, self.random.below(2)) {
            (true, 0) => self.after_ms(start_ms, Due::Exit(worker, SIGSEGV)),
            (true, _) => {}
            (false, _) => self.after_ms(start_ms, Due::Ready(worker)),
        }
    }
}
