//! The picture of health probes: which worker of an incident answered them when.

use super::super::words::second;
use super::super::{Block, Dossier, sign_of};
use super::frame::Frame;
use super::{LINES, clock, seconds, shortened};
use crate::core::{Kind, Record, WorkerId};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// At least so much is shown of the time before the first that failed.
const BEFORE: SignedDuration = SignedDuration::from_secs(10);

/// What is known of one worker: stretches of time in which it answered, or did not.
#[derive(Default)]
struct Life {
    stretches: Vec<(Timestamp, Timestamp, bool)>,
    /// Since when, and whether it answers.
    present: Option<(Timestamp, bool)>,
}

impl Life {
    /// It answers since then or does not, or is not asked any more.
    fn turn(&mut self, at: Timestamp, answers: Option<bool>) {
        let before = std::mem::replace(&mut self.present, answers.map(|answers| (at, answers)));
        self.stretches.extend(before.map(|(since, answered)| (since, at, answered)));
    }
}

/// Which of its workers answered their probes when; none if nothing tells that one failed.
pub(in crate::report) fn probes(dossier: &Dossier) -> Option<Block> {
    let (began, end) = (dossier.began(), dossier.over());
    let before = BEFORE.max(end.duration_since(began) / 10);
    let from = began.checked_sub(before).unwrap_or(began);
    let mut lives = lives(dossier, from, end);
    if lives.iter().all(|(_, life)| life.stretches.iter().all(|(.., answered)| *answered)) {
        return None;
    }
    let lines = lives.iter().map(|(worker, life)| {
        let failing = life.stretches.iter().filter(|(.., answered)| !answered);
        let failing: Vec<String> = failing
            .map(|(since, until, _)| {
                let [since, until] = [since, until].map(|at| second(*at, &dossier.zone));
                format!(" from {since} to {until}")
            })
            .collect();
        let told = match failing.is_empty() {
            true => "answered".to_owned(),
            false => format!("did not answer{}", failing.join(" and")),
        };
        format!("worker {:<6} {told}", worker.to_string())
    });
    let lines = shortened(lines.collect());
    if lives.len() > LINES {
        lives.drain(LINES / 2..lives.len() - LINES / 2);
    }
    let title = "Health probes: who answered (thin), and who did not (thick)".to_owned();
    let rows = lives.len() as f64;
    let frame =
        Frame { from_s: seconds(from), to_s: seconds(end).max(seconds(from) + 1.0), top: rows };
    let level = |nth: usize| rows - nth as f64 - 0.5;
    let names = lives.iter().enumerate().map(|(nth, (worker, _))| (level(nth), worker.to_string()));
    let mut svg = Frame::open(&title, &[]);
    frame.axes(&mut svg, &names.collect::<Vec<_>>(), &clock(&frame, &dossier.zone));
    for (nth, (_, life)) in lives.iter().enumerate() {
        for (since, until, answered) in &life.stretches {
            let class = if *answered { "answers" } else { "fails" };
            let points = [since, until].map(|at| (seconds(*at), level(nth)));
            frame.curve(&mut svg, class, &points);
        }
    }
    Some(Block::Chart { title, svg: Frame::close(svg), lines })
}

/// The workers in the slots of the incident, in the order of their names.
fn lives(dossier: &Dossier, from: Timestamp, end: Timestamp) -> Vec<(WorkerId, Life)> {
    let mut lives: BTreeMap<WorkerId, Life> = BTreeMap::new();
    for record in dossier.records.iter().filter(|record| record.at <= end) {
        if matches!(record.kind, Kind::SupervisorStarted | Kind::SupervisorStopped) {
            // Nobody asks; those that live are adopted, and told so.
            let at = record.at.clamp(from, end);
            lives.values_mut().for_each(|life| life.turn(at, None));
        }
        let Some(worker) = record.worker() else { continue };
        let Some((at, answers)) = turn(record) else { continue };
        if dossier.incident.slots.contains(&worker.slot) {
            // Of whom nothing was said before it had answered since before.
            let life = lives.entry(worker).or_insert_with(|| Life {
                present: (answers != Some(true)).then_some((from, true)),
                ..Life::default()
            });
            life.turn(at.clamp(from, end), answers);
        }
    }
    for life in lives.values_mut() {
        life.turn(end, None);
        life.stretches.retain(|(since, until, _)| since < until);
    }
    lives.into_iter().filter(|(_, life)| !life.stretches.is_empty()).collect()
}

/// Since when a worker answers its probes or does not, or is asked no more.
fn turn(record: &Record) -> Option<(Timestamp, Option<bool>)> {
    match record.kind {
        // Who is adopted in an incident hung before.
        Kind::WorkerAdopted => Some((record.at, Some(record.incident.is_none()))),
        Kind::WorkerReady => Some((record.at, Some(true))),
        // Others hang by what they say of themselves.
        Kind::WorkerHung => Some((sign_of(record)?, Some(false))),
        Kind::DrainStarted
        | Kind::WorkerCrashed
        | Kind::WorkerRetired
        | Kind::UnrecordedAction
        | Kind::MemoryHardLimit
        | Kind::MemoryOomKilled => Some((record.at, None)),
        _ => None,
    }
}
