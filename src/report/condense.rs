//! The timeline: each event a line, but the steps of one replacement together.

use super::Dossier;
use super::replacements::{Replacement, worker};
use super::words::{between, second, size, span};
use crate::core::{Kind, Record};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Of more replacements than twice this the middle ones become one line.
const ENDS: usize = 8;

/// When, in the operator's zone and in UTC, and what.
pub(super) fn timeline(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Vec<String>> {
    let mut lines: Vec<(Timestamp, String)> = dossier
        .own()
        .chain(dossier.omens())
        .filter(|record| !is_step(record, replaced))
        .map(|record| (record.at, sentence(record)))
        .collect();
    let hidden = replaced.len().saturating_sub(2 * ENDS);
    for (number, one) in replaced.iter().enumerate() {
        let after_first = number.checked_sub(ENDS);
        match after_first {
            Some(0) if hidden > 1 => {
                let last = &replaced[ENDS + hidden - 1];
                lines.push((one.at, {
                    format!("{hidden} more replacements like these, until {}", {
                        second(last.at, &dossier.zone)
                    })
                }));
            }
            Some(nth) if hidden > 1 && nth < hidden => {}
            _ => lines.push((one.at, told(one))),
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(at, what)| vec![second(at, &dossier.zone), clock(at), what]).collect()
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
            let of = worker(record);
            replaced.iter().any(|one| Some(one.worker) == of)
        }
        _ => false,
    }
}

fn sentence(record: &Record) -> String {
    let who = match (worker(record), record.slot) {
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
        return format!("worker {}{had} was killed over its hard limit", one.worker);
    }
    let came = match one.start_s {
        Some(start) => format!("replaced by a new one, ready after {}", span(start)),
        None => "retired".to_owned(),
    };
    let left = one.ended_at.map(|end| format!("; drained in {}", between(one.at, end)));
    let cut = match one.cut {
        0 => ", no connection cut".to_owned(),
        cut => format!(", {cut} connections cut at the end of the drain"),
    };
    format!("worker {}{had} was {came}{}{cut}", one.worker, left.unwrap_or_default())
}
