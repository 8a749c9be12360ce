//! `stanch upgrade`: when the time for it has come, what is handed over, and the beginning with it.

use super::super::handover::{Handover, Resident, Succession};
use super::super::leak::Quantity;
use super::super::slot::Wait;
use super::super::trend::Trend;
use super::super::worker::{State, Worker};
use super::super::{Action, Hung, Kind, Moment, Now, Refusal, Ticket};
use super::commands::{Until, Waiter};
use super::{About, Phase, Supervisor, figures};
use std::time::Duration;

/// How long an upgrade waits for what is under way.
const PATIENCE: Duration = Duration::from_secs(120);

impl Supervisor {
    /// What is under way that a change of the program must not meet, in words; `None` at rest.
    pub fn underway(&self) -> Option<String> {
        if self.is_stopping() {
            return Some("stanch is stopping".to_owned());
        }
        if let Some(what) = self.rolls() {
            return Some(format!("{what} is under way"));
        }
        let unready = self.workers.values().find(|worker| worker.ready_since().is_none());
        if let Some(worker) = unready {
            return Some(format!("worker {} is {}", worker.id, worker.state));
        }
        let observed =
            self.workers.values().find(|worker| worker.evidence.awaited_until().is_some());
        if let Some(worker) = observed {
            return Some(format!("evidence of worker {} is being taken", worker.id));
        }
        if !self.hooks.is_empty() {
            return Some("a hook is running".to_owned());
        }
        self.waiters
            .iter()
            .any(|waiter| !waiter.is_for_rest())
            .then(|| "another command is being carried out".to_owned())
    }

    /// What the program that takes this one's place must know. To be asked at rest.
    pub fn hand_over(&self) -> Handover {
        let residents = self.workers.values().filter_map(|worker| {
            Some(Resident {
                id: worker.id,
                release: worker.release.clone(),
                pid: worker.pid,
                started: worker.started,
                lived_before: worker.lived_before,
                ready_since: worker.ready_since()?,
                deaf: worker.deaf,
                unheard: worker.unheard,
                watchdog: worker.watchdog,
                pinged: worker.pinged,
                leaving_since: worker.leaving_since,
                status_text: worker.status_text.clone(),
                peak_kib: worker.peak_kib,
                settled_kib: worker.settled_kib,
                withheld: worker.withheld,
                hung: worker.due.clone().filter(|_| worker.is_hung()),
                failed_probes: worker.failed_probes,
                failing_since: worker.failing_since,
                answers: worker.answers,
                silent: worker.silent,
                leaks_since: worker
                    .trend(Quantity::Memory)
                    .filter(|trend| trend.is_leaking())
                    .and_then(|trend| trend.confirmed),
            })
        });
        Handover {
            paused: self.phase == Phase::Paused,
            workers: self.settings.workers,
            slots: self.slots.values().cloned().collect(),
            residents: residents.collect(),
            next_roll: self.next_roll,
            next_hang: self.next_hang,
            futile_hangs: self.futile_hangs,
            aborted_rolls: self.aborted_rolls,
            to_retry: self.to_retry.clone(),
            counted: self.outages.counted,
            refused: self.outages.refused.clone(),
            escalations: self.alerting.escalations(),
            finishes: self.finishes,
        }
    }

    /// An operator wants another program in this one's place: `tried` is its version, or why it will not
    /// do.
    pub(super) fn upgrade(&mut self, now: Now, ticket: Ticket, tried: Result<String, String>) {
        match tried {
            Err(why) => self.reply(ticket, Err(Refusal::No(why))),
            Ok(_) if self.waiters.iter().any(Waiter::is_for_rest) => {
                self.reply(ticket, Err(Refusal::No("another upgrade is under way".to_owned())));
            }
            Ok(_) => {
                let (until, edition) = (now.mono + PATIENCE, self.edition);
                self.wait(ticket, Until::Rest { until, edition });
            }
        }
    }

    /// Tells who waits for rest that it has come, or that it has not.
    pub(super) fn settle_rest(&mut self, now: Now) {
        let Some(at) = self.waiters.iter().position(Waiter::is_for_rest) else { return };
        let (ticket, until) = (self.waiters[at].ticket(), self.waiters[at].deadline());
        let why = match self.underway() {
            // It would begin with what the file says, and that need not be what is in force now.
            _ if self.waiters[at].edition() != Some(self.edition) => {
                "a deploy, a rollback or a reload has changed what workers are started from since the new \
                 program was tried; try again"
                    .to_owned()
            }
            None => {
                self.end_capacity(now);
                self.write_costs(now, Moment(Duration::MAX));
                self.actions.push(Action::HandOver { ticket });
                self.waiters.remove(at);
                return;
            }
            Some(what) if until <= Some(now.mono) => {
                format!("{what}, and was for {} s; try again later", PATIENCE.as_secs())
            }
            Some(_) => return,
        };
        let reason = format!("upgrade refused: {why}");
        let about = About::Matter("refused");
        self.record(now, Kind::OperatorCommand, about, None, &reason, figures([]));
        self.reply(ticket, Err(Refusal::No(why)));
        self.waiters.remove(at);
    }

    /// Begins where another supervisor was at rest.
    pub(super) fn succeed(&mut self, now: Now, succession: Succession, boot_id: Option<&str>) {
        let Succession { handover, from, to, pause, ticket, failure } = succession;
        self.phase = if handover.paused { Phase::Paused } else { Phase::Running };
        self.settings.workers = handover.workers;
        self.slots = handover.slots.into_iter().map(|entry| (entry.slot, entry)).collect();
        for entry in self.slots.values_mut() {
            // One that was altered meanwhile is not gone on with.
            entry.incident.take_if(|incident| self.book.get(incident).is_none());
        }
        // Who waits for its next start does not serve because of this.
        for (slot, entry) in &self.slots {
            if let Some(incident) = entry.incident.as_ref().filter(|_| entry.wait != Wait::None) {
                self.book.takes(*slot, incident);
            }
        }
        self.next_roll = handover.next_roll;
        self.next_hang = handover.next_hang;
        self.futile_hangs = handover.futile_hangs;
        self.aborted_rolls = handover.aborted_rolls;
        self.to_retry = handover.to_retry;
        self.outages.counted = handover.counted;
        self.outages.refused = handover.refused;
        self.alerting.go_on(handover.escalations);
        self.finishes = handover.finishes;
        let kept = handover.residents.len();
        for resident in handover.residents {
            let id = resident.id;
            let hung = resident.hung.as_ref().and_then(|due| due.incident.clone());
            let fresh = self.fresh_worker(now, id, State::Ready { since: resident.ready_since });
            let limit = self.settings.forecast_limit_kib();
            let warm_up = self.settings.leak.warm_up;
            let trend = Trend::new(Quantity::Memory, limit, warm_up, resident.started)
                .knowing(resident.leaks_since);
            let mut worker = Worker {
                release: resident.release,
                pid: resident.pid,
                started: resident.started,
                lived_before: resident.lived_before,
                deaf: resident.deaf,
                unheard: resident.unheard,
                watchdog: resident.watchdog,
                pinged: resident.pinged,
                leaving_since: resident.leaving_since,
                status_text: resident.status_text,
                peak_kib: resident.peak_kib,
                settled_kib: resident.settled_kib,
                withheld: resident.withheld,
                due: resident.hung,
                failed_probes: resident.failed_probes,
                failing_since: resident.failing_since,
                answers: resident.answers,
                silent: resident.silent,
                introduced: true,
                trends: vec![trend],
                ..fresh
            };
            worker.evidence.baseline_at = Some(now.mono);
            self.has_served |= worker.release == self.settings.release;
            let silent = worker.silent;
            self.workers.insert(id, worker);
            self.actions.push(Action::Adopt { worker: id, verified: true, stale: false });
            match hung {
                Some(incident) if self.book.get(&incident).is_some() => {
                    self.book.takes(id.slot, &incident);
                }
                Some(incident) => drop(self.hangs_on(now, id, &Hung { incident, silent })),
                None => {}
            }
        }
        let pause_ms = pause.as_secs_f64() * 1e3;
        let reply = match failure {
            Some(why) => {
                let why =
                    format!("the new program could not be executed: {why}; version {from} goes on");
                let about = About::Matter("refused");
                let reason = format!("upgrade refused: {why}");
                let figures = figures([("pause_ms", pause_ms.into())]);
                self.record(now, Kind::OperatorCommand, about, None, &reason, figures);
                Err(Refusal::No(why))
            }
            None => {
                let reason = format!(
                    "version {to} has taken the place of {from}; {kept} worker(s) kept, {pause_ms:.0} ms"
                );
                let figures = figures([
                    ("from", from.into()),
                    ("to", to.into()),
                    ("pause_ms", pause_ms.into()),
                    ("workers_kept", kept.into()),
                    ("workers", self.settings.workers.into()),
                    ("boot_id", boot_id.into()),
                ]);
                self.note(now, Kind::SupervisorUpgraded, &reason, figures);
                Ok(reason)
            }
        };
        if let Some(ticket) = ticket {
            self.reply(ticket, reply);
        }
    }
}
