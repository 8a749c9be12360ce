//! Which workers get new connections.
//!
//! A ready worker whose last probe failed gets none, from the first failure on, until a probe
//! succeeds: its queue would only grow. But what fails the probes of most workers (a database that is
//! down) is not theirs, and to send everything to the last one that answers would take that one down
//! as well. So while fewer than half of the ready workers answer, all get connections again, but
//! those that are taken for hung; and those too when there is nobody else. (Envoy's panic threshold.)

use super::super::worker::{State, Worker};
use super::super::{Action, WorkerId};
use super::Supervisor;

impl Supervisor {
    /// Brings the traffic up to date.
    pub(super) fn settle_traffic(&mut self) {
        let wanted = self.in_traffic();
        for worker in self.workers.values_mut() {
            if !matches!(worker.state, State::Ready { .. }) {
                // Whoever took it out of that state diverted it.
                worker.admitted = false;
                continue;
            }
            let admit = wanted.contains(&worker.id);
            if admit != worker.admitted {
                worker.admitted = admit;
                self.actions.push(match admit {
                    true => Action::Admit { worker: worker.id },
                    false => Action::Divert { worker: worker.id, drain: false },
                });
            }
        }
    }

    fn in_traffic(&self) -> Vec<WorkerId> {
        let ready = || self.workers.values().filter(|w| matches!(w.state, State::Ready { .. }));
        let ids = |fits: fn(&Worker) -> bool| -> Vec<WorkerId> {
            ready().filter(|worker| fits(worker)).map(|worker| worker.id).collect()
        };
        let not_hung = ids(|worker| !worker.is_hung());
        let answering = ids(|worker| !worker.is_hung() && worker.failed_probes == 0);
        if !not_hung.is_empty() && answering.len() * 2 >= not_hung.len() {
            answering
        } else if !not_hung.is_empty() {
            not_hung
        } else {
            ids(|_| true)
        }
    }
}
