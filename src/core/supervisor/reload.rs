//! A new configuration: taken or refused, and what follows from it for workers that serve already.

use super::super::leak::Quantity;
use super::super::reload::{Holds, Reconfiguration, Reload, Start, Then};
use super::super::trend::Trend;
use super::super::worker::Cause;
use super::super::{Action, Kind, LeakAction, Now, Refusal, Settings, Ticket};
use super::releases::Back;
use super::{Supervisor, figures};
use std::fmt::Write;

impl Supervisor {
    pub(super) fn reload(&mut self, now: Now, ticket: Ticket, by: &str, reload: Reload) {
        let Reload { found, then } = reload;
        let found = match found {
            Ok(found) => *found,
            Err(refusal) => return self.refuse_config(now, ticket, by, refusal),
        };
        let Reconfiguration { settings, workers, difference, start, start_before, proof } = found;
        let other_release = difference.count(Holds::InNewWorkers) > 0;
        let replaces = then != Then::Keep || workers.is_some();
        if let Some(what) = self.rolls().filter(|_| replaces || self.deploy.is_some()) {
            let why = format!(
                "{what} is under way, and neither another one nor a new number of workers can begin before \
                 its end; try again then"
            );
            return self.refuse_config(now, ticket, by, Refusal::No(why));
        }
        let comes = workers.unwrap_or(0) > self.settings.workers;
        if then == Then::Deploy && self.slots_up().is_empty() && !comes {
            let why = "no slot shall have a worker, so there would be none to prove it by; `stanch restart \
                       SLOT` fills one that was drained, `stanch reload` keeps the configuration for it";
            return self.refuse_config(now, ticket, by, Refusal::No(why.to_owned()));
        }
        let counts = figures([
            ("by", by.into()),
            ("in_force", difference.count(Holds::Now).into()),
            ("in_new_workers", difference.count(Holds::InNewWorkers).into()),
            ("after_restart", difference.count(Holds::AfterRestart).into()),
        ]);
        self.note(now, Kind::ConfigReloaded, &difference.sentence(then), counts);
        let settings = Settings { workers: self.settings.workers, ..settings };
        let present = self.present_release();
        let old = std::mem::replace(&mut self.settings, settings);
        // What a reload changes under the same label is the same release, made better.
        let labelled = present.release.is_some() && present.release == self.settings.release;
        let same = start == Start::Alike || then != Then::Deploy && labelled;
        let back = self.way_back();
        let remember = back == Some(Back::Present) && !same;
        self.actions.push(Action::Reconfigure { remember });
        if remember {
            self.before = Some(present);
        }
        if other_release || then == Then::Deploy {
            // Those that are started anew are its workers, also where nothing else is different.
            self.edition += 1;
            self.has_served &= same;
        }
        self.follow_settings(now, &old);
        let mut preface = difference.lines(then);
        let way_back =
            match back.map(|back| if back == Back::Present { start } else { start_before }) {
                Some(way @ (Start::InPlace | Start::Otherwise)) => Ok(way),
                Some(Start::Alike) => Err("workers of before were started alike"),
                None => Err("of nothing that was in force before is it known that it has served"),
            };
        if let (Then::Deploy, Err(why)) = (then, way_back) {
            let _ = write!(preface, "\nthere is no way back: {why}");
        }
        self.prefaces.insert(ticket, preface);
        let until = workers.map(|workers| self.resize(now, workers));
        match (then, until) {
            (Then::Deploy, _) => self.deploy(now, ticket, &old, way_back, proof),
            (Then::Roll, _) => self.roll_all(now, ticket),
            (Then::Keep, Some(until)) => self.wait(ticket, until),
            (Then::Keep, None) => self.reply(ticket, Ok(String::new())),
        }
    }

    fn refuse_config(&mut self, now: Now, ticket: Ticket, by: &str, refusal: Refusal) {
        let why = refusal.to_string();
        let reason = format!("the configuration stays as it was: {}", why.replace('\n', "; "));
        self.note(now, Kind::ConfigRefused, &reason, figures([("by", by.into())]));
        self.reply(ticket, Err(refusal));
    }

    /// Has the workers that live judged by the settings that are in force now.
    fn follow_settings(&mut self, now: Now, old: &Settings) {
        let new = self.settings.clone();
        let (was, is) = (&old.memory, &new.memory);
        // Judged anew with the next reading; what is still true is found again.
        let moot = |cause| match cause {
            Cause::MaxAge => old.rolling.max_age != new.rolling.max_age,
            Cause::Leak => old.leak != new.leak || was != is,
            Cause::TotalLimit => was.total_limit_kib != is.total_limit_kib,
            Cause::SoftLimit => was.soft_limit_kib != is.soft_limit_kib,
            Cause::HostPressure => new.leak.action != LeakAction::Restart,
            // That one does not hang any more is said of each.
            Cause::Adopted | Cause::Hang | Cause::HardLimit => false,
        };
        let replaced = self.step_old();
        for worker in self.workers.values_mut() {
            if replaced != Some(worker.id) {
                worker.due.take_if(|due| moot(due.cause));
            }
            if new.health.failures == 0 {
                // No probe would ever bring it back into the traffic.
                worker.failed_probes = 0;
                worker.failing_since = None;
            }
            if was.hard_limit_kib != is.hard_limit_kib {
                // Told again of those in which the kernel holds the new one.
                worker.limit_held = false;
            }
            match new.leak.action {
                // What was found is not judged any more, nor is it when that is switched on again.
                LeakAction::Off => {
                    let (limit_kib, born) = (new.forecast_limit_kib(), worker.started);
                    let trend = Trend::new(Quantity::Memory, limit_kib, new.leak.warm_up, born);
                    worker.trends = vec![trend];
                }
                LeakAction::Restart | LeakAction::Alert => {
                    worker.trends.iter_mut().for_each(|trend| trend.set_warm_up(new.leak.warm_up));
                }
            }
        }
        if new.health.failures == 0 {
            let hung = self.workers.values().filter(|worker| worker.is_hung());
            for id in hung.map(|worker| worker.id).collect::<Vec<_>>() {
                self.recovered(now, id, "is not probed any more");
            }
        }
        self.over_total &= is.total_limit_kib.is_some();
        self.forecast_anew();
        if old.alerts != new.alerts {
            self.alerting.follow(&old.alerts, &new.alerts);
        }
    }
}
