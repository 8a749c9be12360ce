//! Memory: what a reading leads to. Soft limit: replace with overlap. Hard limit: kill now, then
//! replace. Total limit: replace the one that has grown most. For the trend see `leaks`.

use super::super::incidents::{Sighting, Topic};
use super::super::worker::{Cause, Due, State, Told};
use super::super::{Figures, IncidentId, Kind, Now, OomKiller, Sample, WorkerId};
use super::leaks::reason;
use super::{About, Phase, Supervisor, figures};

impl Supervisor {
    pub(super) fn on_sampled(&mut self, now: Now, id: WorkerId, sample: Sample) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.note_sample(now.mono, sample);
        match worker.state {
            State::Ready { .. } | State::Starting { .. } => {
                if self.over_hard_limit(now, id) {
                    return;
                }
            }
            State::Draining { .. } | State::Stopping { told: Told::Asked | Told::HungUp, .. } => {
                // It leaves already; the hard limit holds until it has.
                self.over_hard_limit(now, id);
                return;
            }
            State::Stopping { told: Told::Killed, .. } | State::Exited => return,
        }
        self.observe_trend(now, id, &sample);
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.ready_since().is_some()
        {
            worker.settled_kib = worker.settled_kib.or(sample.growth_kib());
            self.judge_trend(now, id);
            self.judge_soft_limit(now, id);
        }
    }

    fn over_hard_limit(&mut self, now: Now, id: WorkerId) -> bool {
        let Some(limit_kib) = self.settings.memory.hard_limit_kib else { return false };
        let worker = self.workers.get(&id).filter(|worker| !worker.limit_held);
        let Some(worker) = worker else { return false };
        let Some(growth_kib) = worker.growth_kib().filter(|growth| *growth > limit_kib) else {
            return false;
        };
        let reason = format!("uses {}, over the hard limit of {}", mib(growth_kib), mib(limit_kib));
        if self.phase == Phase::Paused {
            self.withhold(now, id, Cause::HardLimit, None, &reason);
            return false;
        }
        let reason = format!("{reason}: killed");
        let figures =
            figures([("growth_kib", growth_kib.into()), ("hard_limit_kib", limit_kib.into())]);
        self.end_at_hard_limit(now, id, Kind::MemoryHardLimit, &reason, figures);
        true
    }

    /// The kernel held the hard limit: what it left of the tree goes too. What the host's OOM killer
    /// took is only noted: the end of the leader tells whether the worker went with it.
    pub(super) fn on_oom_killed(
        &mut self,
        now: Now,
        id: WorkerId,
        by: OomKiller,
        peak_kib: Option<u64>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.peak_kib = worker.peak_kib.max(peak_kib);
        match (by, worker.state) {
            (OomKiller::Host, _) => worker.host_oom = true,
            (OomKiller::Limit, State::Stopping { told: Told::Killed, .. } | State::Exited) => {}
            (
                OomKiller::Limit,
                State::Starting { .. }
                | State::Ready { .. }
                | State::Draining { .. }
                | State::Stopping { told: Told::Asked | Told::HungUp, .. },
            ) => {
                let limit_kib = self.settings.memory.hard_limit_kib;
                let reason = format!(
                    "was at the hard limit of {} and needed more: killed by the kernel, peak {}",
                    limit_kib.map_or("its cgroup".to_owned(), mib),
                    peak_kib.map_or("unknown".to_owned(), mib)
                );
                let figures = figures([
                    ("peak_kib", peak_kib.into()),
                    ("hard_limit_kib", limit_kib.into()),
                    ("growth_kib", worker.growth_kib().into()),
                ]);
                self.end_at_hard_limit(now, id, Kind::MemoryOomKilled, &reason, figures);
            }
        }
    }

    /// Kills the tree of a worker that may not have more memory, and has it replaced.
    fn end_at_hard_limit(
        &mut self,
        now: Now,
        id: WorkerId,
        kind: Kind,
        reason: &str,
        figures: Figures,
    ) {
        let Some(worker) = self.workers.get(&id) else { return };
        let was_ready = worker.ready_since().is_some();
        let was_current = worker.is_current();
        let words = format!("worker {} {reason}", id.slot);
        let incident = self.see_limit(now, id, Cause::HardLimit, &words);
        // That of one which drains in this incident counts already.
        let counted = self.workers.get(&id).and_then(|worker| worker.due.as_ref());
        let counted = counted.is_some_and(|due| due.incident.as_ref() == Some(&incident));
        if was_current || !counted {
            self.book.intervened(now, &incident, id.slot);
        }
        self.book.add_impact(now, &incident, "workers_killed", 1);
        let about = About::Worker(id, Some("hard_limit"));
        let some = Some(incident.clone());
        let intent = self.record(now, kind, about, some, reason, figures);
        self.look_at_remains(now, id, &incident);
        let some = Some(incident.clone());
        self.make_due(id, Due { cause: Cause::HardLimit, incident: some, reason: reason.into() });
        self.kill(now, id, intent);
        if was_current {
            self.lost(now, id, incident, was_ready, reason);
        }
    }

    fn judge_soft_limit(&mut self, now: Now, id: WorkerId) {
        let Some(limit_kib) = self.settings.memory.soft_limit_kib else { return };
        let Some(worker) = self.workers.get(&id) else { return };
        let said = worker.due.as_ref().is_some_and(|due| due.cause >= Cause::SoftLimit);
        let Some(growth_kib) = worker.growth_kib().filter(|growth| *growth > limit_kib) else {
            return;
        };
        if said {
            return;
        }
        let reason = format!("uses {}, over the soft limit of {}", mib(growth_kib), mib(limit_kib));
        let words = format!("worker {} {reason}", id.slot);
        let incident = self.see_limit(now, id, Cause::SoftLimit, &words);
        let figures =
            figures([("growth_kib", growth_kib.into()), ("soft_limit_kib", limit_kib.into())]);
        let about = About::Worker(id, Some("soft_limit"));
        self.record(now, Kind::MemorySoftLimit, about, Some(incident.clone()), &reason, figures);
        self.make_due(id, Due { cause: Cause::SoftLimit, incident: Some(incident), reason });
    }

    /// Notes that a limit was reached. By a worker that leaks it belongs to the leak's incident, which
    /// goes on telling the forecast; that the leak was not held before the hard limit is another form of it.
    fn see_limit(&mut self, now: Now, id: WorkerId, limit: Cause, words: &str) -> IncidentId {
        let worker = self.workers.get(&id);
        let leak = worker.and_then(|worker| worker.trends.iter().find(|trend| trend.is_leaking()));
        let (topic, form, words) = match leak {
            Some(trend) => {
                let form = match limit {
                    Cause::HardLimit => limit.as_str(),
                    _ => trend.quantity.as_str(),
                };
                (Topic::Leak, form, format!("{words}; {}", reason(trend, now)))
            }
            None => (Topic::MemoryLimit, limit.as_str(), words.to_owned()),
        };
        self.see(now, &Sighting { topic, form, worker: id, after: None, words: &words })
    }

    /// Once for all samples of a moment: it takes a look at every worker.
    pub(super) fn settle_total_limit(&mut self, now: Now) {
        let Some(limit_kib) = self.settings.memory.total_limit_kib else { return };
        let total_kib = self.total_growth_kib();
        if total_kib <= limit_kib {
            self.over_total = false;
            return;
        }
        let pending = self.workers.values().any(|worker| {
            worker.is_current() && worker.due.as_ref().is_some_and(|d| d.cause >= Cause::TotalLimit)
        });
        if pending || self.roll.is_some() || now.mono < self.next_roll {
            return;
        }
        let largest = self
            .workers
            .values()
            .filter(|worker| matches!(worker.state, State::Ready { .. }))
            .max_by_key(|worker| (worker.is_leaking(), worker.growth_kib()));
        let Some((id, growth_kib)) = largest.map(|worker| (worker.id, worker.growth_kib())) else {
            return;
        };
        self.over_total = true;
        let reason = format!(
            "all workers together use {}, over the total limit of {}; worker {} has grown most",
            mib(total_kib),
            mib(limit_kib),
            id.slot
        );
        let incident = self.see_limit(now, id, Cause::TotalLimit, &reason);
        let figures = figures([
            ("total_kib", total_kib.into()),
            ("total_limit_kib", limit_kib.into()),
            ("growth_kib", growth_kib.into()),
        ]);
        let about = About::Worker(id, Some("total_limit"));
        self.record(now, Kind::MemoryTotalLimit, about, Some(incident.clone()), &reason, figures);
        self.make_due(id, Due { cause: Cause::TotalLimit, incident: Some(incident), reason });
    }

    /// Anonymous + shared + swapped memory of all live workers.
    pub(super) fn total_growth_kib(&self) -> u64 {
        self.workers.values().filter_map(|worker| worker.growth_kib()).sum()
    }

    pub(super) fn make_due(&mut self, id: WorkerId, due: Due) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.make_due(due);
        }
    }
}

pub(super) fn mib(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
