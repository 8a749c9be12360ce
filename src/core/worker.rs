//! The life of one worker: one generation of one slot.
//!
//! State × event. Every pair is written out here and in `supervisor/lifecycle.rs` and `leaving.rs`; `-` is "nothing to
//! do: it came late". A worker leaves the table with `Gone`, which comes exactly once for each start.
//!
//! | | starting | ready | draining | stopping | exited |
//! | --- | --- | --- | --- | --- | --- |
//! | `Spawned` | note the pid | note the pid | - | - | - |
//! | `SpawnFailed` | start failed → exited | - | - | gone soon → exited | - |
//! | `Ready` | → ready, admit | - | - | - | - |
//! | `Probed` ok | - | streak ends, admit | - | - | - |
//! | `Probed` failed | - | divert; at the limit: hung, abandon if not answered, replace | - | - | - |
//! | `Unreachable` | - | hung: -; else as a failed probe | - | - | - |
//! | `Pinged` | note | note; no longer silent, admit | - | - | - |
//! | `Described` | note | note | note | note | note |
//! | `Leaving` | - | divert | - | - | - |
//! | `Draining` | - | - | when it can be told to stop, and neither evidence nor a hook is awaited: stop signal → stopping | leader gone, no connection left: kill → exited | - |
//! | `Exited` | start failed → exited | crashed → exited | retired → exited | retired → exited; waits while the rest of the tree has connections | - |
//! | `Gone` | start failed, remove | crashed, remove | retired, remove | retired, remove | remove |
//! | `OomKilled` at its limit | kill → stopping | kill → stopping | kill → stopping | kill → stopping; once killed - | - |
//! | `OomKilled` by the host | note | note | note | note | - |
//! | `EvidenceCaptured` | note | note | note; stop signal → stopping, if that was all | note | note |
//! | `HookEnded` | - | note; the one it replaces may go | note; stop signal → stopping, if that was all | note | note |
//! | `Sampled` | hard limit; its curve begins | judge: limits, leak | hard limit | hard limit | - |
//! | deadline | not ready in time: kill → stopping | silent, or said to be leaving and still there: hung, abandon, replace | stop signal or hang up → stopping | asked: hang up; then kill, again every 5 s | - |
//! | retire | evidence or a hook awaited: → draining; else stop signal → stopping | divert → draining, a second at most if it hangs and does not answer or nobody else serves its slot | - | - | - |
//! | kill | → stopping | → stopping | → stopping | again | - |
//!
//! A slot without a live worker waits in `backoff` or is `held`; that is the slot's state, not a
//! worker's (`core/slot.rs`).

use super::evidence::Evidence;
use super::leak::Quantity;
use super::trend::{Bounds, Trend};
use super::{ExitStatus, IncidentId, Intent, Left, Makeup, Moment, Sample, Weight, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Readings that are remembered for the evidence.
const SAMPLES: usize = 60;

/// Where a worker stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its command was asked for and is not yet verified ready.
    Starting {
        /// Not ready by then is a failed start.
        deadline: Moment,
    },
    /// It serves.
    Ready {
        /// Since when.
        since: Moment,
    },
    /// It gets no new connections and works off those that wait for it.
    Draining {
        /// Why.
        intent: Intent,
        /// The stop signal is sent by then, whatever is awaited but evidence (`core/evidence.rs`) and
        /// hooks (`core/hooks.rs`).
        stop_at: Moment,
        /// Its connections are hung up then.
        hang_up_at: Moment,
    },
    /// It was told to end.
    Stopping {
        /// Why.
        intent: Intent,
        /// The next and harder way is taken then.
        until: Moment,
        /// How it was told.
        told: Told,
    },
    /// Its leader is gone; what is left of the tree is being killed.
    Exited,
}

/// How a worker was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By the stop signal.
    Asked,
    /// By half-closing every connection that does not wait for an answer.
    HungUp,
    /// By a kill of the whole tree.
    Killed,
}

impl State {
    /// The word in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Starting { .. } => "starting",
            State::Ready { .. } => "ready",
            State::Draining { .. } => "draining",
            State::Stopping { .. } => "stopping",
            State::Exited => "exited",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a worker must be replaced; the more urgent, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cause {
    /// Its supervisor died: what it binds from now on fails.
    Adopted,
    /// It is older than `rolling.max_age`.
    MaxAge,
    /// It leaks, and the forecast leaves no more than the lead time.
    Leak,
    /// All workers together are over the total limit, and it has grown most.
    TotalLimit,
    /// The host is short of memory, and it leaks most.
    HostPressure,
    /// It is over the soft limit.
    SoftLimit,
    /// It does not answer.
    Hang,
    /// It is over the hard limit; killed, not rolled.
    HardLimit,
}

impl Cause {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Adopted => "adopted",
            Cause::MaxAge => "max_age",
            Cause::Leak => "leak",
            Cause::TotalLimit => "total_limit",
            Cause::HostPressure => "host_pressure",
            Cause::SoftLimit => "soft_limit",
            Cause::Hang => "hang",
            Cause::HardLimit => "hard_limit",
        }
    }
}

/// A replacement that is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Due {
    /// Why.
    pub cause: Cause,
    /// In which incident.
    pub incident: Option<IncidentId>,
    /// The same for people.
    pub reason: String,
}

/// The end of a leader that was asked to end while it had connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Connections that it took along unanswered, if no process is left that has them.
    pub cut: u64,
}

/// One generation of one slot.
#[derive(Debug)]
pub struct Worker {
    /// Its name.
    pub id: WorkerId,
    /// The release that it was started with.
    pub release: Option<String>,
    /// The number of that release, of those that this supervisor had in force: labels need not differ.
    pub edition: u64,
    /// Its leader, once it runs.
    pub pid: Option<i32>,
    /// Where it stands.
    pub state: State,
    /// When its start was asked for, or it was adopted.
    pub started: Moment,
    /// How long it had lived by then.
    pub lived_before: Duration,
    /// It was adopted, and its filter asks a supervisor that is dead.
    pub deaf: bool,
    /// It was adopted, and is not of the release that the configuration names.
    pub stale: bool,
    /// It was adopted, and what it says of itself goes to a socket that ended with its supervisor.
    pub unheard: bool,
    /// It listens where its replacement must, and not for us: none can start before it is gone.
    pub in_the_way: bool,
    /// The incident in which it is retired, if it is in one.
    pub goes_in: Option<IncidentId>,
    /// The incident that led to its start, if any.
    pub incident: Option<IncidentId>,
    /// What it was started from, as far as known.
    pub makeup: Makeup,
    /// What stood in the way of its becoming ready, when last heard.
    pub obstacle: Option<String>,
    /// How far it is in its slow start.
    pub warmth: Weight,
    /// With what weight it gets new connections, if it does.
    pub admitted: Option<Weight>,
    /// Failed liveness probes in a row.
    pub failed_probes: u32,
    /// When the first of them failed.
    pub failing_since: Option<Moment>,
    /// The last one was answered, well or not.
    pub answers: bool,
    /// Until then another worker of its slot served.
    pub covered_until: Moment,
    /// How long it may keep silent; it was told when it was started.
    pub watchdog: Option<Duration>,
    /// When it last said that it lives.
    pub pinged: Option<Moment>,
    /// It is hung because its pings stopped, or because it is still there long after it said goodbye.
    pub silent: bool,
    /// When it said that it is about to end.
    pub leaving_since: Option<Moment>,
    /// What it says that it does.
    pub status_text: Option<String>,
    /// When it got the stop signal, and on how many connections an answer was awaited then.
    pub asked: Option<(Moment, u64)>,
    /// What it had when last looked at while it drains, before its leader ended …
    pub left: Option<Left>,
    /// … and how many connections the rest of its tree had after that.
    pub remains: Option<u64>,
    /// The leader's end, while the rest of its tree may still answer.
    pub ended: Option<Ended>,
    /// Why it must be replaced, if it must.
    pub due: Option<Due>,
    /// The most that it was seen to use, or that the kernel charged to it.
    pub peak_kib: Option<u64>,
    /// The kernel holds its hard limit.
    pub limit_held: bool,
    /// What it used at the first reading after it had become ready.
    pub settled_kib: Option<u64>,
    /// The host's OOM killer took a process of it.
    pub host_oom: bool,
    /// The newest reading, and the CPU use since the one before (100 is one processor).
    pub sample: Option<(Moment, Sample)>,
    /// The last ones, at most [`SAMPLES`].
    pub samples: VecDeque<(Moment, Sample)>,
    /// CPU use between the last two readings.
    pub cpu_percent: Option<f64>,
    /// CPU time used between them, in clock ticks.
    pub ticks: Option<u64>,
    /// What it may have of what is counted.
    pub bounds: Bounds,
    /// What of it is judged: memory, and counts that come near their limit.
    pub trends: Vec<Trend>,
    /// The most urgent cause for which it would be gone, were automatic action not paused.
    pub withheld: Option<Cause>,
    /// It has been ready, and who is told of workers was told of it.
    pub introduced: bool,
    /// What is being learned of it before it goes.
    pub evidence: Evidence,
}

impl Worker {
    /// Whether it can still serve or come to serve: starting or ready.
    pub fn is_current(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Ready { .. })
    }

    /// Whether it is verified ready and answering.
    pub fn is_serving(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && !self.is_hung()
    }

    /// The replacement that it waits for.
    pub fn awaits(&self) -> Option<&Due> {
        self.due.as_ref().filter(|_| self.is_current())
    }

    /// Whether it stopped answering.
    pub fn is_hung(&self) -> bool {
        self.due.as_ref().is_some_and(|due| due.cause == Cause::Hang)
    }

    /// Since when its slot is not served for its sake, as far as is known: it does not answer its probes, or
    /// said that it ends, and there is no other.
    pub fn failing_since(&self) -> Option<Moment> {
        let since = [self.failing_since, self.leaving_since].into_iter().flatten().min();
        since.map(|since| since.max(self.covered_until))
    }

    /// Whether it gets no new connections because it said that it ends.
    pub fn is_leaving(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.leaving_since.is_some()
    }

    /// The incident in which it ends.
    pub fn ends_in(&self) -> Option<IncidentId> {
        self.due.as_ref().and_then(|due| due.incident.clone()).or(self.goes_in.clone())
    }

    /// Makes it due for replacement, unless a more urgent cause stands.
    pub fn make_due(&mut self, due: Due) {
        if self.due.as_ref().is_none_or(|old| old.cause < due.cause) {
            self.due = Some(due);
        }
    }

    /// How long it has lived.
    pub fn age(&self, now: Moment) -> Duration {
        self.lived_before + now.since(self.started)
    }

    /// Since when it has been ready, if it is.
    pub fn ready_since(&self) -> Option<Moment> {
        match self.state {
            State::Ready { since } => Some(since),
            State::Starting { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Exited => None,
        }
    }

    /// When something is due without any event; `hooks` is when those of it will have ended.
    pub fn deadline(&self, hooks: Option<Moment>) -> Option<Moment> {
        match self.state {
            State::Starting { deadline } => Some(deadline),
            State::Draining { stop_at, .. } => Some(
                self.evidence
                    .awaited_until()
                    .max(hooks)
                    .map_or(stop_at, |until| until.max(stop_at)),
            ),
            State::Stopping { until, .. } => Some(until),
            State::Ready { .. } | State::Exited => None,
        }
    }

    /// Notes a reading and the CPU use that it shows.
    pub fn note_sample(&mut self, at: Moment, sample: Sample) {
        const TICKS_PER_S: f64 = 100.0;
        let since = self.sample.and_then(|(before, old)| {
            let ticks = sample.cpu_ticks?.saturating_sub(old.cpu_ticks?);
            Some((at.since(before).as_secs_f64(), ticks))
        });
        self.ticks = since.map(|(_, ticks)| ticks);
        self.cpu_percent = since
            .filter(|(elapsed_s, _)| *elapsed_s > 0.0)
            .map(|(elapsed_s, ticks)| 100.0 * ticks as f64 / TICKS_PER_S / elapsed_s);
        self.sample = Some((at, sample));
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((at, sample));
        self.peak_kib = self.peak_kib.max(sample.growth_kib());
    }

    /// The last readings by its age in seconds.
    pub fn last_samples(&self) -> Vec<(f64, Sample)> {
        let aged = |(at, sample): &(Moment, Sample)| (self.age(*at).as_secs_f64(), *sample);
        self.samples.iter().map(aged).collect()
    }

    /// Whether anything of it leaks, as far as is known.
    pub fn is_leaking(&self) -> bool {
        self.trends.iter().any(Trend::is_leaking)
    }

    /// How a quantity is followed, if it is.
    pub fn trend(&self, quantity: Quantity) -> Option<&Trend> {
        self.trends.iter().find(|trend| trend.quantity == quantity)
    }

    /// So much it has of a quantity, by the newest reading.
    pub fn level(&self, quantity: Quantity) -> Option<u64> {
        self.sample.and_then(|(_, sample)| quantity.of(&sample))
    }

    /// What limits are compared with, by the newest reading.
    pub fn growth_kib(&self) -> Option<u64> {
        self.level(Quantity::Memory)
    }
}
