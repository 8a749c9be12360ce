//! The timeline: each event a line, but the steps of one replacement together.

use super::Dossier;
use super::replacements::Replacement;
use super::words::{between, count, second, size, span};
use crate::core::{Kind, Record};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Of more lines of a sort than twice this the middle ones become one.
const ENDS: usize = 8;

/// When, and what.
type Line = (Timestamp, String);

/// When, in the operator's zone and in UTC, and what.
pub(super) fn timeline(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Vec<String>> {
    let is_alert = |record: &&Record| matches!(record.kind, Kind::AlertSent | Kind::AlertFailed);
    let (alerts, others): (Vec<&Record>, Vec<&Record>) = dossier
        .own()
        .chain(dossier.omens())
        .filter(|record| !is_step(record, replaced))
        .partition(is_alert);
    let replaced = replaced.iter().map(|one| (one.at, told(one))).collect();
    let mut lines: Vec<Line> =
        others.into_iter().map(|record| (record.at, sentence(record))).collect();
    lines.extend(dossier.first_sign().map(|(at, record)| (at, sign(record))));
    lines.extend(folded(replaced, "replacements", dossier));
    lines.extend(folded(of_alerts(&alerts, dossier), "alerts", dossier));
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(at, what)| vec![second(at, &dossier.zone), clock(at), what]).collect()
}

/// The first and the last lines of a sort, and one for those between.
fn folded(mut lines: Vec<Line>, sort: &str, dossier: &Dossier) -> Vec<Line> {
    let hidden = lines.len().saturating_sub(2 * ENDS);
    if hidden > 1 {
        let (from, until) = (lines[ENDS].0, lines[ENDS + hidden - 1].0);
        let until = second(until, &dossier.zone);
        let line = (from, format!("{hidden} more {sort} like these, until {until}"));
        lines.splice(ENDS..ENDS + hidden, [line]);
    }
    lines
}

/// A line for what a receiver was told on one occasion, however often it was tried.
fn of_alerts(alerts: &[&Record], dossier: &Dossier) -> Vec<Line> {
    let word = |record: &Record, key| {
        record.figures.get(key).and_then(|word| word.as_str().map(str::to_owned))
    };
    let matter = |record: &Record| (word(record, "to"), word(record, "what"));
    let mut matters: Vec<Vec<&Record>> = Vec::new();
    for record in alerts {
        match matters.iter_mut().find(|tries| matter(tries[0]) == matter(record)) {
            Some(tries) => tries.push(record),
            None => matters.push(vec![record]),
        }
    }
    let line = |tries: Vec<&Record>| {
        let (first, last) = (tries[0], tries[tries.len() - 1]);
        let before = match tries.len() {
            1 => String::new(),
            n => format!(
                " ({} since {})",
                count(n as u64 - 1, "failure"),
                second(first.at, &dossier.zone)
            ),
        };
        (last.at, format!("{}{before}", sentence(last)))
    };
    let mut lines: Vec<Line> = matters.into_iter().map(line).collect();
    lines.sort_by_key(|(at, _)| *at);
    lines
}

fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S").to_string()
}

/// What a line about the replacement tells already.
fn is_step(record: &Record, replaced: &[Replacement]) -> bool {
    match record.kind {
        Kind::WorkerStarted | Kind::WorkerReady | Kind::RollStarted | Kind::RollFinished => {
            !replaced.is_empty()
        }
        Kind::IncidentChanged => record.cause.as_deref() != Some("worse"),
        Kind::DrainStarted
        | Kind::WorkerRetired
        | Kind::DrainCutConnections
        | Kind::EvidenceCaptured
        | Kind::MemoryHardLimit => {
            let of = record.worker();
            replaced.iter().any(|one| Some(one.worker) == of)
        }
        _ => false,
    }
}

/// What nobody knew yet when it happened.
fn sign(record: &Record) -> String {
    let what = match record.kind {
        Kind::WorkerHung => "fails its first probe",
        _ => "begins to grow, as was reckoned later",
    };
    match record.worker() {
        Some(worker) => format!("worker {worker} {what}"),
        None => format!("a worker {what}"),
    }
}

fn sentence(record: &Record) -> String {
    let who = match (record.worker(), record.slot) {
        (Some(worker), _) => format!("worker {worker}: "),
        (None, Some(slot)) => format!("slot {slot}: "),
        (None, None) => String::new(),
    };
    format!("{} — {who}{}", record.kind.as_str().replace('_', " "), record.reason)
}

fn told(one: &Replacement) -> String {
    let had: Vec<String> =
        [one.growth_kib.map(size), one.age_s.map(|age| format!("{} old", span(age)))]
            .into_iter()
            .flatten()
            .collect();
    let had = if had.is_empty() { String::new() } else { format!(" ({})", had.join(", ")) };
    if one.killed {
        let when = if one.drained { "as it drained " } else { "" };
        return format!("worker {}{had} was killed {when}over its hard limit", one.worker);
    }
    let came = match one.start_s {
        Some(start) => format!("replaced by a new one, ready after {}", span(start)),
        None => "retired".to_owned(),
    };
    let left = one.ended_at.map(|end| format!("; drained in {}", between(one.at, end)));
    let cut = match one.cut {
        0 => ", no connection cut".to_owned(),
        cut => format!(", {} cut at the end of the drain", count(cut, "connection")),
    };
    format!("worker {}{had} was {came}{}{cut}", one.worker, left.unwrap_or_default())
}
