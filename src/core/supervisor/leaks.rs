//! Leaks: what a change of mind about a trend leads to.
//!
//! | rung | what is known | what is done |
//! | --- | --- | --- |
//! | observe | no leak, or too little | nothing |
//! | suspect | it climbs | told, once a worker |
//! | confirmed | it leaks | an incident; replaced at a quiet moment or when it is its turn (`turn`) |
//! | urgent | the forecast leaves no more than `leak.lead_time` | replaced now |
//!
//! Confirmed is what the detector has confirmed, or what it suspects of a release of which it has
//! confirmed enough; where such a climb has ended in another worker it is no more than suspect, as long as
//! there is time (`siblings`). For how long replacing helps is reckoned with each confirmation (`holding`).

use super::super::holding::Outlook;
use super::super::incidents::{Sighting, Topic};
use super::super::leak::{Dial, Judgement, Quantity, Verdict};
use super::super::trend::{Bounds, Trend};
use super::super::turn::{self, Calm, Rung, Waiting};
use super::super::worker::{Cause, Due, State, Worker};
use super::super::{Action, Figures, IncidentId, Kind, LeakAction, Moment, Now, Sample, WorkerId};
use super::{About, Supervisor, figures};
use std::time::Duration;

/// A slope that a restart brought down below this part was worth it.
const HELPED: f64 = 0.5;

impl Supervisor {
    /// What the worker may have of what is counted.
    pub(super) fn on_bounds(&mut self, id: WorkerId, bounds: Bounds) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.bounds = bounds;
        }
    }

    /// The limits are others, or for another number of workers: forecasts follow with the next look.
    pub(super) fn forecast_anew(&mut self) {
        let limit_kib = self.settings.forecast_limit_kib();
        for worker in self.workers.values_mut() {
            let memory = |trend: &&mut Trend| trend.quantity == Quantity::Memory;
            if let Some(trend) = worker.trends.iter_mut().find(memory) {
                trend.set_limit(limit_kib);
            }
        }
    }

    /// Shows the detectors a sample, from the first one on: what a worker gained until it was ready is
    /// part of its curve.
    pub(super) fn observe_trend(&mut self, now: Now, id: WorkerId, sample: &Sample) {
        if self.settings.leak.action == LeakAction::Off {
            return;
        }
        let (warm_up, workers) = (self.settings.leak.warm_up, self.settings.workers);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(ticks) = worker.ticks {
            self.workload.note(now.mono, ticks as f64);
        }
        let serves = worker.ready_since().is_some();
        for quantity in [Quantity::Fds, Quantity::Threads, Quantity::Processes] {
            let Some(limit) = worker.bounds.limit(quantity, sample, workers) else { continue };
            match worker.trends.iter_mut().find(|trend| trend.quantity == quantity) {
                Some(trend) => trend.set_limit(Some(limit)),
                None if quantity.of(sample).is_some_and(|level| Trend::is_worth(limit, level)) => {
                    let trend = Trend::new(quantity, Some(limit), warm_up, worker.started);
                    worker.trends.push(trend);
                }
                None => {}
            }
        }
        worker.trends.iter_mut().for_each(|trend| trend.observe(now.mono, sample, serves));
    }

    /// Judges the memory of a worker that was handed over by what it used before as well.
    pub(super) fn on_remembered(&mut self, id: WorkerId, samples: &[(Duration, Sample)]) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (started, lived_before) = (worker.started, worker.lived_before);
        let ready_since = worker.ready_since();
        let memory = |trend: &&mut Trend| trend.quantity == Quantity::Memory;
        let Some(trend) = worker.trends.iter_mut().find(memory) else { return };
        let mut whole =
            Trend::new(trend.quantity, trend.limit, self.settings.leak.warm_up, started);
        let before = samples
            .iter()
            .map(|(age, sample)| (started + age.saturating_sub(lived_before), sample));
        // Those that have come since; what is not newer than the last one is passed over.
        let since = worker.samples.iter().map(|(at, sample)| (*at, sample));
        for (at, sample) in before.chain(since) {
            whole.observe(at, sample, ready_since.is_some_and(|since| since <= at));
        }
        *trend = whole.knowing(trend.confirmed.filter(|_| trend.handed_over));
    }

    /// Follows the detectors' minds, once the worker serves.
    pub(super) fn judge_trend(&mut self, now: Now, id: WorkerId) {
        let count = self.workers.get(&id).map_or(0, |worker| worker.trends.len());
        for at in 0..count {
            let Some(worker) = self.workers.get_mut(&id) else { return };
            let trend = &mut worker.trends[at];
            let (before, judgement) = (trend.verdict, *trend.detector.judgement());
            trend.handed_over &= judgement.verdict == Verdict::Unjudged;
            if trend.handed_over {
                continue;
            }
            let quantity = trend.quantity;
            let vouched = match judgement.verdict {
                Verdict::Suspect if before != Verdict::Leak => {
                    self.siblings.vouch(id, &(worker.release.clone(), quantity), &judgement)
                }
                _ => Vec::new(),
            };
            let after = match judgement.verdict {
                Verdict::Suspect if before == Verdict::Leak || !vouched.is_empty() => Verdict::Leak,
                Verdict::Leak if before != Verdict::Leak && self.may_end(now.mono, id, at) => {
                    Verdict::Suspect
                }
                verdict => verdict,
            };
            if after != before {
                let change = Change { before, after, vouched, judgement };
                self.verdict_changed(now, id, at, &change);
            }
        }
        if self.workers.get(&id).is_some_and(Worker::is_leaking) {
            self.take_turns(now);
        }
    }

    /// Whether a climb that looks like a leak may end where that of another worker has, and there is time to see:
    /// as much as to replace all of them after that.
    fn may_end(&self, now: Moment, id: WorkerId, at: usize) -> bool {
        let Some(worker) = self.workers.get(&id) else { return false };
        let trend = &worker.trends[at];
        let all_take = self.replacement_takes() * self.settings.workers;
        let danger = |end: Moment| end <= now + self.settings.leak.lead_time + all_take;
        !trend.end().is_some_and(danger) && self.ends_like(worker, trend).is_some()
    }

    fn ends_like(&self, worker: &Worker, trend: &Trend) -> Option<WorkerId> {
        let level = worker.level(trend.quantity)?;
        self.siblings.may_end_like(worker.id, &(worker.release.clone(), trend.quantity), level)
    }

    fn verdict_changed(&mut self, now: Now, id: WorkerId, at: usize, change: &Change) {
        let company = self.company(id, change.judgement.quantity());
        let open = self.leak_of(id);
        let known = self.workers.get(&id);
        let like = known.and_then(|worker| self.ends_like(worker, &worker.trends[at]));
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let of = (worker.release.clone(), change.judgement.quantity());
        let age_s = worker.age(now.mono).as_secs_f64();
        let level = worker.level(of.1);
        let trend = &mut worker.trends[at];
        trend.verdict = change.after;
        let mut reason = reason(trend, now);
        let mut figures = evidence(trend, level, age_s);
        let about = About::Worker(id, Some(trend.quantity.as_str()));
        match (change.before, change.after) {
            (_, Verdict::Leak) => {
                trend.confirmed = Some(now.mono);
                reason += &company;
                self.leak_confirmed(now, id, at, change, reason, figures);
            }
            (_, Verdict::Suspect) => {
                if !std::mem::replace(&mut trend.suspicion_told, true) {
                    self.actions.push(Action::TakeLook { worker: id });
                    reason += &company;
                    if let Some(like) = like {
                        reason += &format!("; the climb of worker {like} was like this, and ended");
                    }
                    self.record(now, Kind::LeakSuspected, about, open, &reason, figures);
                }
            }
            (Verdict::Leak, Verdict::Healthy | Verdict::Unjudged) => {
                trend.relief_told = true;
                self.siblings.cleared(&of);
                self.spare(id);
                if let Some(open) = &open {
                    let what = change.judgement.quantity().as_str();
                    let words =
                        format!("worker {} leaked {what}, which has ended: {reason}", id.slot);
                    self.book.saw(now, open, &words);
                }
                self.record(now, Kind::LeakCleared, about, open, &reason, figures);
            }
            (Verdict::Suspect, Verdict::Healthy | Verdict::Unjudged) => {
                if trend.suspicion_told && !std::mem::replace(&mut trend.relief_told, true) {
                    figures.remove("eta_s");
                    self.record(now, Kind::LeakCleared, about, open, &reason, figures);
                }
            }
            (Verdict::Healthy | Verdict::Unjudged, Verdict::Healthy | Verdict::Unjudged) => {}
        }
        // What was confirmed as a leak may be at rest now.
        let trend = self.workers.get_mut(&id).map(|worker| &mut worker.trends[at]);
        if change.after == Verdict::Healthy
            && let (Some(_), Some(level)) = (trend.and_then(|trend| trend.confirmed.take()), level)
        {
            self.siblings.ended(id, of, level);
        }
    }

    fn leak_confirmed(
        &mut self,
        now: Now,
        id: WorkerId,
        at: usize,
        change: &Change,
        mut reason: String,
        mut figures: Figures,
    ) {
        let Some(worker) = self.workers.get(&id) else { return };
        self.actions.push(Action::TakeLook { worker: id });
        let (trend, judgement) = (&worker.trends[at], &change.judgement);
        let quantity = trend.quantity;
        if change.vouched.is_empty() {
            let level = worker.level(quantity).unwrap_or(0);
            self.siblings.confirmed(id, (worker.release.clone(), quantity), level, judgement);
        } else {
            let names: Vec<String> = change.vouched.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            reason += &format!("; no more is needed: workers {names} of this release leak like it");
            figures.insert("vouched_by".to_owned(), names.into());
        }
        let fills_in = trend.fills_in();
        let start = worker.ready_since().map(|ready| ready - worker.started).unwrap_or_default();
        let holding = self.holdings.entry((worker.release.clone(), quantity)).or_default();
        if let Some(slope) = judgement.slope_per_s {
            let (before, after) = holding.confirmed(id, slope);
            if let Some(before) = before {
                reason += &generations(quantity, before, after);
                let figure = figure_of(quantity, "slope_before");
                figures.insert(figure, super::round(before.into()));
            }
        }
        let takes = self.costs.expected().unwrap_or(start) + self.settings.rolling.cooldown;
        let outlook = fills_in.map(|every| holding.outlook(every, takes));
        figures.extend(outlook.iter().flat_map(outlook_figures));
        let mut summary = format!("worker {} leaks {}: {reason}", id.slot, quantity.as_str());
        // What gives way is not held, and what came after it was started from something else.
        let stays = self.gives_way(worker.release.as_deref()).is_none();
        let outlook = outlook.filter(|_| stays);
        let constancy = if stays { self.constancy.words() } else { String::new() };
        if let Some(outlook) = &outlook {
            summary += &format!("; {}", outlook.words());
        }
        if !constancy.is_empty() {
            summary += &format!("; {constancy}");
            // Told once in an incident.
            if self.leak_of(id).is_none() {
                reason += &format!("; {constancy}");
            }
        }
        if !constancy.is_empty() {
            figures.extend(self.constancy.figures());
        }
        let (topic, form) = (Topic::Leak, quantity.as_str());
        let sighting = Sighting { topic, form, worker: id, after: None, words: &summary };
        let incident = self.see(now, &sighting);
        let about = About::Worker(id, Some(quantity.as_str()));
        let some = Some(incident.clone());
        self.record(now, Kind::LeakConfirmed, about, some, &reason, figures);
        // One that is replaced is looked at before it goes.
        if self.settings.leak.action == LeakAction::Alert {
            self.look_at(now, id, Some(&incident));
        }
        if let Some(outlook) = outlook.filter(Outlook::is_alarming) {
            self.unsustainable(now, id, quantity, &outlook, incident);
        }
    }

    /// Replacing will not do for long: told once in an incident, before it fails.
    fn unsustainable(
        &mut self,
        now: Now,
        id: WorkerId,
        quantity: Quantity,
        outlook: &Outlook,
        incident: IncidentId,
    ) {
        let restarts = self.settings.leak.action == LeakAction::Restart;
        let release = self.workers.get(&id).and_then(|worker| worker.release.clone());
        let holding = self.holdings.entry((release, quantity)).or_default();
        if !restarts || std::mem::replace(&mut holding.told, true) {
            return;
        }
        self.escalate(now, &incident, "replacing workers will not do for long");
        let figures: Figures = outlook_figures(outlook).collect();
        let about = About::Worker(id, Some(quantity.as_str()));
        let some = Some(incident);
        self.record(now, Kind::LeakUnsustainable, about, some, &outlook.words(), figures);
    }

    /// The incident of the leak in the release of a worker.
    pub(super) fn leak_of(&self, id: WorkerId) -> Option<IncidentId> {
        let release = self.workers.get(&id)?.release.as_deref();
        Some(self.book.on(Topic::Leak, release)?.id.clone())
    }

    /// How the other workers of the release fare.
    fn company(&self, id: WorkerId, quantity: Quantity) -> String {
        let Some(worker) = self.workers.get(&id) else { return String::new() };
        let judged = |other: &&Worker| {
            let trend = other.trend(quantity);
            let known =
                trend.is_none_or(|trend| trend.detector.judgement().verdict != Verdict::Unjudged);
            other.id != id && other.release == worker.release && other.is_serving() && known
        };
        let others: Vec<&Worker> = self.workers.values().filter(judged).collect();
        let grows = |other: &&&Worker| other.trend(quantity).is_some_and(Trend::grows);
        let growing = others.iter().filter(grows).count();
        let all = others.len() + 1;
        match (others.is_empty(), growing) {
            (true, _) => String::new(),
            (false, 0) => format!("; it alone of {all} workers grows"),
            (false, _) => format!("; {} of {all} workers grow", growing + 1),
        }
    }

    /// What was thought a leak is none: if its replacement has not begun, it stays.
    fn spare(&mut self, id: WorkerId) {
        if self.step_old() != Some(id)
            && let Some(worker) = self.workers.get_mut(&id)
        {
            worker.due.take_if(|due| due.cause == Cause::Leak);
        }
    }

    /// Which of the leaking workers are replaced now.
    fn take_turns(&mut self, now: Now) {
        let LeakAction::Restart = self.settings.leak.action else { return };
        let lead_time = self.settings.leak.lead_time;
        let ready = |worker: &&Worker| matches!(worker.state, State::Ready { .. });
        let mut waiting: Vec<Waiting> = self
            .workers
            .values()
            .filter(ready)
            .filter(|worker| worker.due.as_ref().is_none_or(|due| due.cause < Cause::Leak))
            .filter_map(|worker| waiting(worker, lead_time))
            .collect();
        if waiting.is_empty() || self.is_stopping() {
            return;
        }
        let takes = self.replacement_takes();
        let calm = Calm {
            window: self.settings.leak.quiet_window,
            workload: &self.workload,
            wall: now.wall,
        };
        let leaking = waiting.len();
        let due = turn::due(&mut waiting, now.mono, self.last_turn, takes, &calm);
        // One at a time, but who cannot wait.
        let is_leak = |due: &Due| due.cause == Cause::Leak;
        let busy = self.workers.values().any(|worker| worker.due.as_ref().is_some_and(is_leak));
        for (id, rung) in due {
            if !busy || rung == Rung::Urgent {
                self.replace_leaking(now, id, rung, leaking);
            }
        }
    }

    /// How long a replacement is expected to take, with the pause after it.
    fn replacement_takes(&self) -> Duration {
        self.costs.expected().unwrap_or_default() + self.settings.rolling.cooldown
    }

    fn replace_leaking(&mut self, now: Now, id: WorkerId, rung: Rung, leaking: usize) {
        let Some(worker) = self.workers.get(&id) else { return };
        let soonest = worker.trends.iter().filter(|trend| trend.is_leaking());
        let Some(trend) = soonest.min_by_key(|trend| trend.end()) else { return };
        let why = match rung {
            Rung::Urgent => "replaced now: the limit is no further away than leak.lead_time",
            Rung::Turn if leaking > 1 => "replaced now: it is its turn of those that leak",
            Rung::Turn => "replaced now: it is time",
            Rung::Quiet => "replaced now: a quiet moment",
        };
        let reason = format!("{}; {why}", reason(trend, now));
        let incident = self.leak_of(id);
        self.make_due(id, Due { cause: Cause::Leak, incident, reason });
    }

    /// A replacement came to its end; a leak's next turn counts from now.
    pub(super) fn leak_replaced(&mut self, now: Moment, id: WorkerId, due: &Due) {
        let incident = due.incident.as_ref().and_then(|incident| self.book.get(incident));
        let Some(leak) = incident.filter(|incident| incident.kind == Topic::Leak.as_str()) else {
            return;
        };
        self.last_turn = Some(now);
        let holdings = self.holdings.iter_mut().filter(|(of, _)| of.0 == leak.release);
        holdings.for_each(|(_, holding)| holding.replaced(id.slot));
    }
}

/// What a worker's trend has come to, from what, and why.
struct Change {
    before: Verdict,
    after: Verdict,
    /// Who vouches for a suspicion.
    vouched: Vec<WorkerId>,
    judgement: Judgement,
}

fn waiting(worker: &Worker, lead_time: Duration) -> Option<Waiting> {
    let leaking = worker.trends.iter().filter(|trend| trend.is_leaking());
    let end = leaking.clone().filter_map(Trend::end).min()?;
    let confirmed = leaking.filter_map(|trend| trend.confirmed).min()?;
    let deadline = Moment(end.0.saturating_sub(lead_time));
    Some(Waiting { id: worker.id, deadline, confirmed })
}

/// The key of a figure, in the unit of what is judged.
fn figure_of(quantity: Quantity, what: &str) -> String {
    match quantity {
        Quantity::Memory => format!("{what}_kib_s"),
        Quantity::Fds | Quantity::Threads | Quantity::Processes => format!("{what}_per_s"),
    }
}

pub(super) fn reason(trend: &Trend, now: Now) -> String {
    let reason = trend.detector.judgement().reason(Dial::Utc(now));
    match (trend.quantity, trend.limit) {
        (Quantity::Memory, _) | (_, None) => reason,
        (quantity, Some(limit)) => format!("{}: {reason}, of {limit}", quantity.as_str()),
    }
}

fn evidence(trend: &Trend, level: Option<u64>, age_s: f64) -> Figures {
    let judgement = trend.detector.judgement();
    let [level_key, limit_key] = match trend.quantity {
        Quantity::Memory => ["growth_kib", "limit_kib"],
        Quantity::Fds | Quantity::Threads | Quantity::Processes => ["count", "limit"],
    };
    let slope = figure_of(trend.quantity, "slope");
    figures([
        (slope.as_str(), judgement.slope_per_s.into()),
        ("eta_s", judgement.eta.map(|eta| eta.as_secs_f64()).into()),
        ("confidence", judgement.confidence.into()),
        (level_key, level.into()),
        (limit_key, trend.limit.into()),
        ("growing_s", judgement.since.map(|at| judgement.at.since(at).as_secs_f64()).into()),
        ("age_s", age_s.into()),
    ])
}

fn outlook_figures(outlook: &Outlook) -> impl Iterator<Item = (String, serde_json::Value)> + use<> {
    let ends = outlook.ends.map(|(_, time)| time.as_secs_f64());
    figures([
        ("replace_every_s", outlook.every.as_secs_f64().into()),
        ("replacement_s", outlook.takes.as_secs_f64().into()),
        ("busy_part", outlook.busy.into()),
        ("slope_growth", outlook.growth.into()),
        // Null is for ever.
        ("held_for_s", ends.into()),
    ])
    .into_iter()
}

/// What the restart of the generation before has brought.
fn generations(quantity: Quantity, before: f64, after: f64) -> String {
    let rate = |slope: f64| format!("{}/min", quantity.amount(60.0 * slope));
    let (old, new) = (rate(before), rate(after));
    if after < HELPED * before {
        format!("; slower since the restart: {old} before it, {new} now")
    } else {
        format!("; the restart did not help: {old} before it, {new} now")
    }
}
