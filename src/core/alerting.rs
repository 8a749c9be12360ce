//! Who is told what, and when.
//!
//! | occasion | who is told |
//! | --- | --- |
//! | opened, or become bad enough for a rule | the rule's first target |
//! | raised, third intervention, acknowledged, renewed, resolved | all who were told of the incident |
//! | not acknowledged in time, third intervention, the last one cannot be told | the next target of each rule |
//!
//! Each occasion comes once an incident and target at most, however often its workers are acted on;
//! an incident gathers whatever has the same cause (`incidents`), so this is also the grouping. Once
//! it is acknowledged nobody new is told but by a rule that the incident had not been bad enough for. That
//! holds for what was acknowledged: another cause or slot that joins the incident later renews it. All who were
//! told hear of that, and who is next when nobody acknowledges that either.

use super::units::Period;
use super::{AlertRule, Incident, IncidentId, Moment, Occasion, Severity};
use std::collections::{BTreeMap, BTreeSet};

/// So many interventions for one cause say that intervening does not end it.
const MANY: u64 = 3;
const THIRD: &str = "third intervention for one cause";
/// Lines of evidence that are kept of an incident; the store has all.
const EVIDENCE: usize = 10;

/// Somebody shall be told of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Who.
    pub to: String,
    /// On what occasion.
    pub what: Occasion,
    /// Why now.
    pub why: String,
    /// How bad they were told it is, before it was raised.
    pub before: Option<Severity>,
    /// After how many acknowledgements, where that makes it another one: [`AlertId`](super::AlertId).
    pub times: u32,
}

/// Who was told of the incidents that are not over.
#[derive(Debug, Default)]
pub struct Alerting {
    matters: BTreeMap<IncidentId, Matter>,
}

#[derive(Debug)]
struct Matter {
    /// Who, on what occasion, at which severity, after how many acknowledgements.
    told: BTreeSet<(String, Occasion, Severity, u32)>,
    /// As it was told last.
    severity: Severity,
    /// The third intervention was told.
    repeated: bool,
    /// Somebody looks at all of it.
    acknowledged: bool,
    /// By rule.
    ladders: BTreeMap<usize, Ladder>,
    evidence: Vec<String>,
}

/// How far up a rule's targets a matter has come.
#[derive(Debug)]
struct Ladder {
    /// So many of them were told.
    height: usize,
    /// The next one is told then.
    next_at: Moment,
    /// The last one cannot be told.
    failed: Option<String>,
}

impl Matter {
    fn new(severity: Severity) -> Self {
        Self {
            told: BTreeSet::new(),
            severity,
            repeated: false,
            acknowledged: false,
            ladders: BTreeMap::new(),
            evidence: Vec::new(),
        }
    }
}

impl Alerting {
    /// Looks at an incident, which may just have been resolved, and says who is told.
    pub fn review(
        &mut self,
        now: Moment,
        rules: &[AlertRule],
        incident: &Incident,
    ) -> Vec<Decision> {
        let id = &incident.id;
        // Reviewed at every turn of the engine: what goes on costs a look, and nothing is copied.
        if !self.matters.contains_key(id) {
            if !rules.iter().any(|rule| rule.covers(incident)) {
                return Vec::new();
            }
            self.matters.insert(id.clone(), Matter::new(incident.severity));
        }
        let Some(matter) = self.matters.get_mut(id) else { return Vec::new() };
        let many = incident.interventions >= MANY;
        let newly_many = many && !std::mem::replace(&mut matter.repeated, many);
        let decisions = Vec::new();
        let mut telling = Telling { now, incident, newly_many, renewed: false, matter, decisions };
        if let Some(end) = incident.resolved_at {
            let lasted = end.duration_since(incident.opened_at).as_secs();
            telling.all(Occasion::Resolved, &format!("it is over, after {lasted} s"));
            let decisions = telling.decisions;
            self.matters.remove(id);
            return decisions;
        }
        telling.changes();
        rules.iter().enumerate().for_each(|(at, rule)| telling.climb(at, rule));
        telling.decisions
    }

    /// Takes over who an earlier supervisor had told of an incident that goes on: `told` are targets and
    /// occasions from its log, with whether they cannot be told. The time for an acknowledgement begins
    /// anew, unless it is told too ([`Self::go_on`]).
    pub fn adopt(
        &mut self,
        now: Moment,
        rules: &[AlertRule],
        incident: &Incident,
        told: &[(String, Occasion, bool)],
    ) {
        if told.is_empty() {
            return;
        }
        let mut matter = Matter::new(incident.severity);
        matter.repeated = incident.interventions >= MANY;
        matter.acknowledged = incident.is_looked_at();
        for (to, what, _) in told {
            matter.told.insert((to.clone(), *what, incident.severity, times(*what, incident)));
        }
        for (at, rule) in rules.iter().enumerate() {
            let was_told = |name: &str| told.iter().any(|(to, ..)| to == name);
            let Some(last) = rule.to.iter().rposition(|target| was_told(&target.name)) else {
                continue;
            };
            let name = &rule.to[last].name;
            let gave_up = told.iter().any(|(to, _, given_up)| to == name && *given_up);
            let failed = gave_up.then(|| format!("{name} could not be told"));
            let next_at = now + rule.escalate_after;
            matter.ladders.insert(at, Ladder { height: last + 1, next_at, failed });
        }
        self.matters.insert(incident.id.clone(), matter);
    }

    /// When the next one is told of each incident, by the number of the rule.
    pub fn escalations(&self) -> Vec<(IncidentId, usize, Moment)> {
        let of = |(id, matter): (&IncidentId, &Matter)| {
            let ladders = matter.ladders.iter();
            ladders.map(|(at, ladder)| (id.clone(), *at, ladder.next_at)).collect::<Vec<_>>()
        };
        self.matters.iter().flat_map(of).collect()
    }

    /// Takes over the times of an earlier supervisor, which had the same rules.
    pub fn go_on(&mut self, escalations: Vec<(IncidentId, usize, Moment)>) {
        for (id, at, next_at) in escalations {
            let ladder = self.matters.get_mut(&id).and_then(|matter| matter.ladders.get_mut(&at));
            if let Some(ladder) = ladder {
                ladder.next_at = next_at;
            }
        }
    }

    /// The rules are others: who was told by one that stays is on its ladder where he was, and those of
    /// the others are left.
    pub fn follow(&mut self, old: &[AlertRule], new: &[AlertRule]) {
        for matter in self.matters.values_mut() {
            let mut ladders = std::mem::take(&mut matter.ladders);
            let kept = new.iter().enumerate().filter_map(|(at, rule)| {
                let before = old.iter().position(|old| old == rule)?;
                Some((at, ladders.remove(&before)?))
            });
            matter.ladders = kept.collect();
            // Who cannot be reached any more is told nothing.
            let reached = |name: &String| {
                new.iter().flat_map(|rule| &rule.to).any(|target| target.name == *name)
            };
            matter.told.retain(|(name, ..)| reached(name));
        }
    }

    /// Evidence was captured in an incident.
    pub fn evidence(&mut self, id: &IncidentId, line: &str) {
        if let Some(matter) = self.matters.get_mut(id)
            && matter.evidence.len() < EVIDENCE
        {
            matter.evidence.push(line.to_owned());
        }
    }

    /// What was captured so far.
    pub fn evidence_of(&self, id: &IncidentId) -> Vec<String> {
        self.matters.get(id).map(|matter| matter.evidence.clone()).unwrap_or_default()
    }

    /// Somebody could not be told and never will be: the next one need not wait.
    pub fn failed(&mut self, rules: &[AlertRule], id: &IncidentId, to: &str) {
        let Some(matter) = self.matters.get_mut(id) else { return };
        for (at, ladder) in &mut matter.ladders {
            let last = rules.get(*at).and_then(|rule| rule.to.get(ladder.height.checked_sub(1)?));
            if last.is_some_and(|target| target.name == to) {
                ladder.failed = Some(format!("{to} could not be told"));
            }
        }
    }

    /// When somebody is told next, if nothing happens.
    pub fn deadline(&self, rules: &[AlertRule]) -> Option<Moment> {
        let waiting = self.matters.values().filter(|matter| !matter.acknowledged);
        let ladders = waiting.flat_map(|matter| &matter.ladders);
        let higher =
            |at: usize, height: usize| rules.get(at).is_some_and(|rule| height < rule.to.len());
        ladders
            .filter(|(at, ladder)| higher(**at, ladder.height))
            .map(|(_, ladder)| ladder.next_at)
            .min()
    }
}

/// A look at one incident.
struct Telling<'a> {
    now: Moment,
    incident: &'a Incident,
    /// The third intervention was not told yet.
    newly_many: bool,
    /// Something has just come that nobody acknowledged.
    renewed: bool,
    matter: &'a mut Matter,
    decisions: Vec<Decision>,
}

impl Telling<'_> {
    /// What those who were told need to know.
    fn changes(&mut self) {
        let incident = self.incident;
        let before = std::mem::replace(&mut self.matter.severity, incident.severity);
        let raised = incident.severity > before;
        let looked_at = incident.is_looked_at();
        let was_looked_at = std::mem::replace(&mut self.matter.acknowledged, looked_at);
        self.renewed = was_looked_at && !looked_at;
        if raised && !self.renewed {
            self.all(Occasion::Raised, &format!("it was {before} before"));
        }
        match &incident.acknowledged {
            Some(by) if self.renewed => {
                let news = incident.news().join(", ");
                let why = format!("after the acknowledgement by {}: {news}", by.by);
                self.all(Occasion::Renewed, &why);
            }
            Some(by) if looked_at && !was_looked_at => {
                self.all(Occasion::Acknowledged, &format!("{} looks at it", by.by));
            }
            Some(_) | None => {}
        }
        if raised {
            self.decisions.iter_mut().for_each(|told| told.before = Some(before));
        }
        if self.newly_many {
            self.all(Occasion::Repeated, THIRD);
        }
    }

    /// The rule's first target, or its next one.
    fn climb(&mut self, at: usize, rule: &AlertRule) {
        let (now, matter) = (self.now, &mut *self.matter);
        let next_at = now + rule.escalate_after;
        let Some(ladder) = matter.ladders.get_mut(&at) else {
            if rule.covers(self.incident) {
                matter.ladders.insert(at, Ladder { height: 1, next_at, failed: None });
                self.first(rule);
            }
            return;
        };
        if self.renewed {
            // All who were told know; the time for another acknowledgement begins.
            *ladder = Ladder { height: ladder.height, next_at, failed: None };
            return;
        }
        let Some(next) = rule.to.get(ladder.height).filter(|_| !matter.acknowledged) else {
            return;
        };
        let why = match ladder.failed.take() {
            Some(failed) => failed,
            None if self.newly_many => THIRD.to_owned(),
            None if now >= ladder.next_at => {
                format!("not acknowledged within {}", Period(rule.escalate_after))
            }
            None => return,
        };
        ladder.height += 1;
        ladder.next_at = next_at;
        self.tell(&next.name, Occasion::Escalated, &why);
    }

    fn first(&mut self, rule: &AlertRule) {
        let Some(first) = rule.to.first() else { return };
        // Another rule may have told them.
        if !self.matter.told.iter().any(|(told, ..)| *told == first.name) {
            self.tell(&first.name, Occasion::Opened, "it began");
        }
    }

    /// Tells all who were told before.
    fn all(&mut self, what: Occasion, why: &str) {
        let mut told: Vec<String> =
            self.matter.told.iter().map(|(told, ..)| told.clone()).collect();
        told.dedup();
        for to in told {
            self.tell(&to, what, why);
        }
    }

    fn tell(&mut self, to: &str, what: Occasion, why: &str) {
        let times = times(what, self.incident);
        if self.matter.told.insert((to.to_owned(), what, self.incident.severity, times)) {
            let (to, why) = (to.to_owned(), why.to_owned());
            self.decisions.push(Decision { to, what, why, before: None, times });
        }
    }
}

/// After how many acknowledgements somebody is told something, where that makes it another thing.
fn times(what: Occasion, incident: &Incident) -> u32 {
    match what {
        Occasion::Acknowledged | Occasion::Renewed => {
            incident.acknowledged.as_ref().map_or(0, |by| by.times)
        }
        Occasion::Opened
        | Occasion::Raised
        | Occasion::Repeated
        | Occasion::Escalated
        | Occasion::Resolved => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Acknowledged, Figures, IncidentState, Slot, Target, Topic, Way};
    use jiff::Timestamp;
    use std::time::Duration;

    const AFTER_S: u64 = 600;

    fn rule(severity: Severity, names: &[&str]) -> AlertRule {
        let target = |name: &&str| Target {
            name: (*name).to_owned(),
            way: Way::Command(Vec::new()),
            timeout: Duration::ZERO,
        };
        AlertRule {
            severity,
            kinds: vec![Topic::Leak],
            to: names.iter().map(target).collect(),
            escalate_after: Duration::from_secs(AFTER_S),
        }
    }

    fn leak(severity: Severity) -> Incident {
        Incident {
            id: IncidentId("i".to_owned()),
            kind: "leak".to_owned(),
            severity,
            state: IncidentState::Open,
            opened_at: Timestamp::UNIX_EPOCH,
            resolved_at: None,
            release: None,
            slots: vec![Slot(0)],
            interventions: 0,
            impact: Figures::new(),
            summary: String::new(),
            acknowledged: None,
            seen: String::new(),
            last_intervention: None,
            handled_at: None,
            causes: Vec::new(),
            period_s: None,
        }
    }

    fn by_ada(incident: &Incident, times: u32) -> Acknowledged {
        let (slots, causes) = (incident.slots.clone(), incident.causes.clone());
        Acknowledged { at: Timestamp::UNIX_EPOCH, by: "ada".to_owned(), slots, causes, times }
    }

    /// What is said at a second, as `occasion target`.
    fn said(alerting: &mut Alerting, rules: &[AlertRule], s: u64, of: &Incident) -> Vec<String> {
        let decisions = alerting.review(Moment(Duration::from_secs(s)), rules, of);
        // Nothing is said twice.
        assert!(alerting.review(Moment(Duration::from_secs(s)), rules, of).is_empty());
        decisions.iter().map(|told| format!("{} {}", told.what, told.to)).collect()
    }

    #[test]
    fn nobody_answers_and_everybody_learns_of_it() {
        let rules = [rule(Severity::Minor, &["ops", "dev", "boss"])];
        let (mut alerting, mut leak) = (Alerting::default(), leak(Severity::Major));
        assert_eq!(said(&mut alerting, &rules, 0, &leak), ["opened ops"]);
        assert_eq!(alerting.deadline(&rules), Some(Moment(Duration::from_secs(AFTER_S))));
        assert!(said(&mut alerting, &rules, AFTER_S - 1, &leak).is_empty());
        assert_eq!(said(&mut alerting, &rules, AFTER_S, &leak), ["escalated dev"]);
        leak.severity = Severity::Critical;
        assert_eq!(said(&mut alerting, &rules, 700, &leak), ["raised dev", "raised ops"]);
        assert_eq!(said(&mut alerting, &rules, 1200, &leak), ["escalated boss"]);
        assert_eq!(alerting.deadline(&rules), None);
        leak.resolved_at = Some(Timestamp::UNIX_EPOCH);
        let over = alerting.review(Moment::default(), &rules, &leak);
        assert_eq!(over.len(), 3);
        assert!(over.iter().all(|told| told.what == Occasion::Resolved), "{over:?}");
        assert!(alerting.matters.is_empty());
    }

    #[test]
    fn an_acknowledgement_stops_the_escalation() {
        let rules = [rule(Severity::Minor, &["ops", "dev"])];
        let (mut alerting, mut leak) = (Alerting::default(), leak(Severity::Major));
        said(&mut alerting, &rules, 0, &leak);
        leak.acknowledged = Some(by_ada(&leak, 1));
        assert_eq!(said(&mut alerting, &rules, 1, &leak), ["acknowledged ops"]);
        assert_eq!(alerting.deadline(&rules), None);
        leak.interventions = 3;
        assert_eq!(said(&mut alerting, &rules, 2 * AFTER_S, &leak), ["repeated ops"]);
        alerting.failed(&rules, &leak.id, "ops");
        assert!(said(&mut alerting, &rules, 3 * AFTER_S, &leak).is_empty());
    }

    #[test]
    fn what_is_new_after_an_acknowledgement_is_told_again() {
        let rules = [rule(Severity::Minor, &["ops", "dev"])];
        let (mut alerting, mut leak) = (Alerting::default(), leak(Severity::Major));
        leak.causes = vec!["leak: memory".to_owned()];
        said(&mut alerting, &rules, 0, &leak);
        leak.acknowledged = Some(by_ada(&leak, 1));
        said(&mut alerting, &rules, 1, &leak);
        // The same goes on.
        leak.interventions = 2;
        assert!(said(&mut alerting, &rules, 2 * AFTER_S, &leak).is_empty());
        leak.causes.push("leak: fds".to_owned());
        leak.severity = Severity::Critical;
        let now = Moment(Duration::from_secs(3 * AFTER_S));
        let told = alerting.review(now, &rules, &leak);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].what, told[0].before), (Occasion::Renewed, Some(Severity::Major)));
        assert_eq!(told[0].why, "after the acknowledgement by ada: leak: fds");
        // More of it says nothing more, and nobody looks at it: so the next one is told.
        leak.slots.push(Slot(1));
        assert!(said(&mut alerting, &rules, 4 * AFTER_S - 1, &leak).is_empty());
        assert_eq!(said(&mut alerting, &rules, 4 * AFTER_S, &leak), ["escalated dev"]);
        leak.acknowledged = Some(by_ada(&leak, 2));
        let twice = ["acknowledged dev", "acknowledged ops"];
        assert_eq!(said(&mut alerting, &rules, 5 * AFTER_S, &leak), twice);
        leak.slots.push(Slot(2));
        let names = ["renewed dev", "renewed ops"];
        assert_eq!(said(&mut alerting, &rules, 6 * AFTER_S, &leak), names);
    }

    #[test]
    fn the_third_intervention_escalates_once() {
        let rules = [rule(Severity::Minor, &["ops", "dev", "boss"])];
        let (mut alerting, mut leak) = (Alerting::default(), leak(Severity::Major));
        said(&mut alerting, &rules, 0, &leak);
        for (interventions, expected) in
            [(1, vec![]), (2, vec![]), (3, vec!["repeated ops", "escalated dev"]), (4, vec![])]
        {
            leak.interventions = interventions;
            assert_eq!(said(&mut alerting, &rules, interventions, &leak), expected);
        }
    }

    #[test]
    fn who_cannot_be_told_is_passed_over() {
        let rules = [rule(Severity::Minor, &["ops", "dev"])];
        let (mut alerting, leak) = (Alerting::default(), leak(Severity::Major));
        said(&mut alerting, &rules, 0, &leak);
        alerting.failed(&rules, &leak.id, "dev");
        assert!(said(&mut alerting, &rules, 1, &leak).is_empty());
        alerting.failed(&rules, &leak.id, "ops");
        assert_eq!(said(&mut alerting, &rules, 2, &leak), ["escalated dev"]);
    }

    #[test]
    fn a_rule_waits_until_it_is_bad_enough_and_tells_nobody_twice() {
        let rules = [
            rule(Severity::Minor, &["ops"]),
            rule(Severity::Critical, &["ops", "dev"]),
            rule(Severity::Critical, &["boss"]),
        ];
        let (mut alerting, mut leak) = (Alerting::default(), leak(Severity::Minor));
        assert_eq!(said(&mut alerting, &rules, 0, &leak), ["opened ops"]);
        leak.severity = Severity::Critical;
        assert_eq!(said(&mut alerting, &rules, 1, &leak), ["raised ops", "opened boss"]);
        assert_eq!(said(&mut alerting, &rules, 1 + AFTER_S, &leak), ["escalated dev"]);
        leak.kind = "crash".to_owned();
        leak.id = IncidentId("j".to_owned());
        assert!(said(&mut alerting, &rules, 2, &leak).is_empty());
    }
}
