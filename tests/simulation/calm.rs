//! A world without accidents: workers start, do as their curve says, and end when told to. What is
//! left to see is what the supervisor makes of the curves.

use jiff::Timestamp;
use stanch::core::{
    Action, Alert, Captured, Event, ExitStatus, Incident, IncidentId, Inquiry, Kind, Left, Moment,
    Now, Record, Sample, Settings, Supervisor, WorkerId,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a worker takes to be ready, and to end.
pub const START_S: u64 = 2;
const END_S: u64 = 1;

/// What a worker uses, by its age and by the time of the world, in seconds.
pub type Curve = Box<dyn Fn(WorkerId, f64, f64) -> Sample>;

enum Due {
    Tell(Event),
    Sample(WorkerId),
}

pub struct Calm {
    now: Moment,
    supervisor: Supervisor,
    curve: Curve,
    /// From one sample to the next, in seconds.
    step_s: u64,
    born: BTreeMap<WorkerId, Moment>,
    agenda: BTreeMap<(Moment, u64), Due>,
    sequence: u64,
    pub records: Vec<(f64, Record)>,
    pub incidents: BTreeMap<IncidentId, Incident>,
    pub alerts: Vec<(f64, Alert)>,
    /// Suspects that were looked at.
    pub looks: Vec<WorkerId>,
}

impl Calm {
    /// A world that begins at midnight.
    pub fn new(settings: Settings, step_s: u64, curve: Curve) -> Self {
        let mut calm = Self {
            now: Moment::default(),
            supervisor: Supervisor::new(settings, 1),
            curve,
            step_s,
            born: BTreeMap::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            records: Vec::new(),
            incidents: BTreeMap::new(),
            alerts: Vec::new(),
            looks: Vec::new(),
        };
        let actions = calm.supervisor.start(calm.reading());
        calm.act(actions);
        calm
    }

    fn reading(&self) -> Now {
        let midnight = 1_800_000_000 / 86_400 * 86_400;
        Now { mono: self.now, wall: Timestamp::from_second(midnight).unwrap() + self.now.0 }
    }

    pub fn tell(&mut self, event: Event) {
        let actions = self.supervisor.handle(event, self.reading());
        self.act(actions);
    }

    pub fn run_until(&mut self, seconds: f64) {
        let end = Moment(Duration::from_secs_f64(seconds));
        loop {
            let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let timeout = self.supervisor.poll_timeout().map(|at| at.max(self.now));
            let next = [due, timeout].into_iter().flatten().min().filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.now = next;
            if due == Some(next) {
                match self.agenda.pop_first().unwrap().1 {
                    Due::Tell(event) => self.happens(event),
                    Due::Sample(worker) => self.sample(worker),
                }
            } else {
                let actions = self.supervisor.handle_timeout(self.reading());
                self.act(actions);
            }
        }
        self.now = end;
    }

    fn happens(&mut self, event: Event) {
        if let Event::Gone { worker, .. } = &event {
            self.born.remove(worker);
        }
        self.tell(event);
    }

    fn sample(&mut self, worker: WorkerId) {
        let Some(born) = self.born.get(&worker) else { return };
        let age_s = self.now.since(*born).as_secs_f64();
        let sample = (self.curve)(worker, age_s, self.now.as_secs_f64());
        self.after(self.step_s, Due::Sample(worker));
        self.tell(Event::Sampled { worker, sample });
    }

    fn after(&mut self, seconds: u64, due: Due) {
        self.sequence += 1;
        self.agenda.insert((self.now + Duration::from_secs(seconds), self.sequence), due);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(record) => {
                    if let Some(incident) = &record.state {
                        self.incidents.insert(incident.id.clone(), (**incident).clone());
                    }
                    self.records.push((self.now.as_secs_f64(), record));
                }
                Action::Alert(alert) => self.alerts.push((self.now.as_secs_f64(), *alert)),
                Action::TakeLook { worker } => self.looks.push(worker),
                Action::Start { worker } => {
                    self.born.insert(worker, self.now);
                    self.after(0, Due::Tell(Event::Spawned { worker, pid: 7, start_ticks: 0 }));
                    self.after(START_S, Due::Tell(Event::Ready { worker }));
                    self.after(1, Due::Sample(worker));
                }
                Action::Divert { worker, drain: true } => {
                    let left = Left { queued: 0, connections: 0, awaiting: 0, orphaned: false };
                    self.after(0, Due::Tell(Event::Draining { worker, left }));
                }
                Action::Stop { worker, .. } | Action::Kill { worker, .. } => {
                    let status = ExitStatus::Code(0);
                    self.after(END_S, Due::Tell(Event::Exited { worker, status }));
                    let gone = Event::Gone { worker, stragglers: 0, connections_cut: None };
                    self.after(END_S, Due::Tell(gone));
                }
                Action::CaptureEvidence(inquiry) => {
                    let Inquiry { worker, incident, part, .. } = *inquiry;
                    let outcome = Ok(Captured::default());
                    let event = Event::EvidenceCaptured { worker, incident, part, outcome };
                    self.after(0, Due::Tell(event));
                }
                _ => {}
            }
        }
    }

    /// Since the world began.
    pub fn seconds(&self) -> f64 {
        self.now.as_secs_f64()
    }

    /// A worker ends unasked.
    pub fn crash(&mut self, worker: WorkerId, status: ExitStatus) {
        self.tell(Event::Exited { worker, status });
        self.happens(Event::Gone { worker, stragglers: 0, connections_cut: None });
    }

    /// The records of a kind with their times in seconds.
    pub fn of(&self, kind: Kind) -> Vec<&(f64, Record)> {
        self.records.iter().filter(|(_, record)| record.kind == kind).collect()
    }

    /// When the first workers of slots were told to go, one each.
    pub fn went(&self) -> Vec<f64> {
        self.of(Kind::DrainStarted).iter().map(|(at, _)| *at).collect()
    }
}

/// A worker that has so much and does such work a second (CPU ticks).
pub fn uses(kib: f64, age_s: f64, ticks_s: f64) -> Sample {
    Sample {
        rss_anon_kib: Some(kib as u64),
        processes: Some(1),
        cpu_ticks: Some((age_s * ticks_s) as u64),
        ..Sample::default()
    }
}
