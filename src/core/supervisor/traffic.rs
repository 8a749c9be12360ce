//! Which workers get new connections.
//!
//! A ready worker that said that it is about to end gets none. One whose last probe failed gets none
//! either, from the first failure on, until a probe succeeds: its queue would only grow. But what fails the probes of most workers (a database that is
//! down) is not theirs, and to send everything to the last one that answers would take that one down
//! as well. So while fewer than half of the ready workers answer, all get connections again, but
//! those that are taken for hung; and those too when there is nobody else. (Envoy's panic threshold.)
//!
//! A worker that has just become ready begins with a small part of the connections (`core::weight`),
//! and until it takes its full part the old worker of its slot stays. When all are new there is nobody
//! to spare them.

use super::super::worker::{State, Worker};
use super::super::{Action, Moment, Now, Weight};
use super::Supervisor;

impl Supervisor {
    /// Brings the traffic up to date.
    pub(super) fn settle_traffic(&mut self, now: Now) {
        let slow_start = self.settings.rolling.slow_start;
        for worker in self.workers.values_mut() {
            if let Some(since) = worker.ready_since() {
                worker.warmth = Weight::after(now.mono.since(since), slow_start);
            }
        }
        let wanted = self.in_traffic();
        let warm = |worker: &Worker| worker.warmth == Weight::FULL;
        let any_warm = self.workers.values().any(|w| is_ready(w) && wanted(w) && warm(w));
        for worker in self.workers.values_mut() {
            if !is_ready(worker) {
                // Whoever took it out of that state diverted it.
                worker.admitted = None;
                continue;
            }
            let weight = if any_warm { worker.warmth } else { Weight::FULL };
            let admit = wanted(worker).then_some(weight);
            if admit != worker.admitted {
                worker.admitted = admit;
                self.actions.push(match admit {
                    Some(weight) => Action::Admit { worker: worker.id, weight },
                    None => Action::Divert { worker: worker.id, drain: false },
                });
            }
        }
    }

    /// When the weight of a worker grows.
    pub(super) fn warmth_deadline(&self, worker: &Worker) -> Option<Moment> {
        let since = worker.ready_since()?;
        Some(since + worker.warmth.ends_at(self.settings.rolling.slow_start)?)
    }

    /// Which of the ready workers get connections.
    fn in_traffic(&self) -> fn(&Worker) -> bool {
        let not_hung = |worker: &Worker| !worker.is_hung();
        let answers = |worker: &Worker| {
            !worker.is_hung() && worker.failed_probes == 0 && worker.leaving_since.is_none()
        };
        let count = |fits: fn(&Worker) -> bool| {
            self.workers.values().filter(|worker| is_ready(worker) && fits(worker)).count()
        };
        match (count(not_hung), count(answers)) {
            (0, _) => |_| true,
            (not_hung, answering) if answering * 2 >= not_hung => answers,
            _ => not_hung,
        }
    }
}

fn is_ready(worker: &Worker) -> bool {
    matches!(worker.state, State::Ready { .. })
}
