//! Who is told: what must hold of alerts in every world, and what one leak leads to.

use crate::calm::{Calm, uses};
use crate::random::Random;
use stanch::core::{
    Alert, AlertFailure, AlertRule, Command, Event, ExitStatus, Incident, IncidentId, Kind, Moment,
    Occasion, Settings, Severity, Target, Ticket, Topic, Way, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Rules drawn at random; often none.
pub fn rules(random: &mut Random) -> Vec<AlertRule> {
    let names = ["operations", "developers", "boss", "robot"];
    let rule = |random: &mut Random| {
        let first = random.below(3) as usize;
        let last = first + 1 + random.below(3) as usize;
        AlertRule {
            severity: Severity::ALL[random.below(3) as usize],
            kinds: if random.chance(0.5) { Vec::new() } else { vec![Topic::Crash, Topic::Leak] },
            to: names[first..last.min(names.len())].iter().map(|name| target(name)).collect(),
            escalate_after: Duration::from_secs(random.below(400)),
        }
    };
    (0..random.below(4)).map(|_| rule(random)).collect()
}

fn target(name: &str) -> Target {
    let way = Way::Command(vec!["tell".to_owned()]);
    Target { name: name.to_owned(), way, timeout: Duration::from_secs(1) }
}

/// What must hold after every single action.
pub struct Alerts {
    seed: u64,
    rules: Vec<AlertRule>,
    incidents: BTreeMap<IncidentId, Known>,
    stopping: bool,
}

struct Known {
    incident: Incident,
    since: Moment,
    told: Vec<(String, Occasion)>,
    /// All that were about it in one of its forms: it may get worse.
    rules: BTreeSet<usize>,
}

impl Alerts {
    pub fn new(seed: u64, settings: &Settings) -> Self {
        let rules = settings.alerts.clone();
        Self { seed, rules, incidents: BTreeMap::new(), stopping: false }
    }

    pub fn stopping(&mut self) {
        self.stopping = true;
    }

    pub fn incident(&mut self, now: Moment, incident: &Incident) {
        let known = self.incidents.entry(incident.id.clone()).or_insert_with(|| Known {
            incident: incident.clone(),
            since: now,
            told: Vec::new(),
            rules: BTreeSet::new(),
        });
        let about = self.rules.iter().enumerate().filter(|(_, rule)| rule.covers(incident));
        known.rules.extend(about.map(|(at, _)| at));
        known.incident = incident.clone();
    }

    pub fn alert(&mut self, alert: &Alert) {
        let (seed, id) = (self.seed, &alert.id);
        let known = self.incidents.get_mut(&id.incident);
        let known = known.unwrap_or_else(|| panic!("seed {seed}: {id} of nothing"));
        let about = known.rules.iter().map(|at| &self.rules[*at]);
        let mut names = about.flat_map(|rule| &rule.to).map(|target| &target.name);
        let told = known.told.iter().any(|(name, _)| *name == id.to);
        let over =
            known.told.iter().any(|(name, what)| *name == id.to && *what == Occasion::Resolved);
        assert!(!over, "seed {seed}: {id} after its end");
        match id.what {
            Occasion::Opened => assert!(!told, "seed {seed}: {id} a second time"),
            Occasion::Escalated => {
                let acknowledged = &alert.incident.acknowledged;
                let looked_at = alert.incident.is_looked_at();
                assert!(!looked_at, "seed {seed}: {id} in spite of {acknowledged:?}");
            }
            Occasion::Raised
            | Occasion::Repeated
            | Occasion::Acknowledged
            | Occasion::Renewed
            | Occasion::Resolved => {
                assert!(told, "seed {seed}: {id} to somebody who knows nothing of it");
            }
        }
        assert!(told || names.any(|name| *name == id.to), "seed {seed}: {id} is nobody's business");
        known.told.push((id.to.clone(), id.what));
        let renewed = (id.what == Occasion::Renewed).then_some(&alert.incident.acknowledged);
        assert!(renewed != Some(&None), "seed {seed}: {id}, and nobody had acknowledged it");
        // Opened or escalated, both, raised twice, repeated, resolved; acknowledged and renewed, each time.
        let times = alert.incident.acknowledged.as_ref().map_or(0, |by| by.times as usize);
        let count = known.told.iter().filter(|(name, _)| *name == id.to).count();
        assert!(count <= 6 + 2 * times, "seed {seed}: a storm: {:?}", known.told);
    }

    /// After all actions of one event: no incident without its alert.
    pub fn check_told(&self) {
        for (id, known) in self.incidents.iter().filter(|_| !self.stopping) {
            let covering = self.rules.iter().filter(|rule| rule.covers(&known.incident));
            for rule in covering {
                let first = &rule.to[0].name;
                assert!(
                    known.told.iter().any(|(name, _)| name == first),
                    "seed {}: {id}, since {:?}: {first} was not told: {:?}",
                    self.seed,
                    known.since,
                    known.told
                );
            }
            if known.incident.resolved_at.is_some() {
                let told: BTreeSet<_> = known.told.iter().map(|(name, _)| name).collect();
                let ends =
                    known.told.iter().filter(|(_, what)| *what == Occasion::Resolved).count();
                assert_eq!(ends, told.len(), "seed {}: {id}: {:?}", self.seed, known.told);
            }
        }
    }
}

fn leaking(escalate_after_s: u64) -> Calm {
    let mut settings = Settings { workers: 2, ..Settings::default() };
    settings.memory.soft_limit_kib = Some(500 * 1024);
    settings.alerts = vec![AlertRule {
        severity: Severity::Major,
        kinds: vec![Topic::Leak],
        to: vec![target("operations"), target("developers")],
        escalate_after: Duration::from_secs(escalate_after_s),
    }];
    let curve = |_, age_s, _| uses(102_400.0 + 30.0 * age_s, age_s, 50.0);
    Calm::new(settings, 5, Box::new(curve))
}

fn told(calm: &Calm) -> Vec<(&str, Occasion)> {
    calm.alerts.iter().map(|(_, alert)| (alert.id.to.as_str(), alert.id.what)).collect()
}

#[test]
fn a_leak_that_nobody_looks_at_goes_to_the_developers_with_its_forecast() {
    let mut calm = leaking(900);
    calm.run_until(6000.0);
    let opened = calm.of(Kind::IncidentOpened)[0].0;
    assert_eq!(
        told(&calm),
        [("operations", Occasion::Opened), ("developers", Occasion::Escalated)]
    );
    assert_eq!(calm.alerts[0].0, opened);
    assert_eq!(calm.alerts[1].0, opened + 900.0);
    let developers = &calm.alerts[1].1;
    assert_eq!(developers.why, "not acknowledged within 15m");
    let forecast = developers.forecast.as_ref().expect("a leak has a forecast");
    let left = forecast.limit_at.duration_since(developers.at).as_secs_f64();
    assert!((1000.0..20_000.0).contains(&left), "{forecast:?}");
}

#[test]
fn who_acknowledges_has_silence() {
    let mut calm = leaking(900);
    let mut at = 0.0;
    while calm.alerts.is_empty() {
        at += 60.0;
        calm.run_until(at);
    }
    let command = Command::Acknowledge { incident: "last".to_owned(), by: Some("ada".to_owned()) };
    calm.tell(Event::Command { ticket: Ticket(1), by: "uid 0 (pid 7)".to_owned(), command });
    calm.run_until(at + 4000.0);
    assert!(!told(&calm).contains(&("developers", Occasion::Escalated)), "{:?}", told(&calm));
    let record = &calm.of(Kind::IncidentAcknowledged)[0].1;
    assert_eq!(
        (&record.figures["by"], &record.figures["from"]),
        (&"ada".into(), &"uid 0 (pid 7)".into())
    );
    let incident = calm.incidents.values().next().unwrap();
    assert_eq!(incident.acknowledged.as_ref().map(|by| by.by.as_str()), Some("ada"));
}

/// The same going on is silence, and what is new is told to those who know, with whom it comes after.
#[test]
fn an_acknowledgement_is_of_what_was_there() {
    let mut settings = Settings { workers: 3, ..Settings::default() };
    settings.alerts = vec![AlertRule {
        severity: Severity::Minor,
        kinds: Vec::new(),
        to: vec![target("operations"), target("developers")],
        escalate_after: Duration::from_secs(300),
    }];
    let mut calm = Calm::new(settings, 5, Box::new(|_, age_s, _| uses(1024.0, age_s, 1.0)));
    calm.run_until(60.0);
    calm.crash(WorkerId::new(0, 1), ExitStatus::Signal(11));
    let command = Command::Acknowledge { incident: "last".to_owned(), by: Some("ada".to_owned()) };
    calm.tell(Event::Command { ticket: Ticket(1), by: "uid 0".to_owned(), command });
    calm.run_until(200.0);
    calm.crash(WorkerId::new(0, 2), ExitStatus::Signal(11));
    let silence = [("operations", Occasion::Opened), ("operations", Occasion::Acknowledged)];
    assert_eq!(told(&calm), silence);
    calm.run_until(300.0);
    calm.crash(WorkerId::new(1, 1), ExitStatus::Signal(11));
    // That it is the third intervention as well is told to whom it was told.
    let news = [("operations", Occasion::Renewed), ("operations", Occasion::Repeated)];
    assert_eq!(told(&calm)[2..], news);
    let renewed = calm.alerts[2].1.clone();
    assert_eq!(renewed.why, "after the acknowledgement by ada: slot 1");
    // Another end is another matter.
    calm.crash(WorkerId::new(2, 1), ExitStatus::Code(3));
    assert_eq!(told(&calm)[4..], [("operations", Occasion::Opened)]);
    assert_ne!(calm.alerts[4].1.incident.id, renewed.incident.id);
    calm.run_until(300.0 + 299.0);
    assert_eq!(told(&calm).len(), 5, "{:?}", told(&calm));
    calm.run_until(300.0 + 301.0);
    let escalated = ("developers", Occasion::Escalated);
    assert_eq!(told(&calm)[5..], [escalated, escalated], "nobody looks at either");
}

#[test]
fn operations_that_cannot_be_told_are_passed_over() {
    let mut calm = leaking(900);
    let mut at = 0.0;
    while calm.alerts.is_empty() {
        at += 60.0;
        calm.run_until(at);
    }
    let alert = calm.alerts[0].1.id.clone();
    for given_up in [false, true] {
        let outcome = Err(AlertFailure { error: "404 Not Found".to_owned(), given_up });
        calm.tell(Event::Alerted { alert: alert.clone(), attempts: 1, outcome });
        assert_eq!(told(&calm).len(), 1 + usize::from(given_up));
    }
    assert_eq!(told(&calm)[1], ("developers", Occasion::Escalated));
    assert_eq!(calm.alerts[1].1.why, "operations could not be told");
    assert_eq!(calm.of(Kind::AlertFailed).len(), 2);
}
