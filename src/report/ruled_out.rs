//! What an incident was not: the suspects that cost people an hour, each with the fact that clears or
//! keeps it.

use super::replacements::figure;
use super::words::{between, both, count, size, span};
use super::{Curve, Dossier};
use crate::core::{Kind, Makeup, Record, Sample, WorkerId};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Growth by less than this part is called flat.
const FLAT: f64 = 0.15;

/// A suspect, whether it is cleared, and by what.
pub(super) fn suspects(dossier: &Dossier) -> Vec<Vec<String>> {
    let leak = dossier.incident.kind == "leak";
    let mut rows = made_of(dossier);
    rows.extend(release(dossier));
    if leak {
        rows.extend(restart(dossier));
        rows.extend(steepest(dossier).into_iter().flat_map(of_curve));
        rows.push(siblings(dossier));
    }
    rows.push(host(dossier));
    rows.into_iter().map(|row| row.into_iter().collect()).collect()
}

type Row = [String; 3];

fn row(suspect: &str, answer: &str, fact: String) -> Row {
    [suspect.to_owned(), answer.to_owned(), fact]
}

/// What the workers are started from: each part with its hash in `worker_started`.
const MADE_OF: [&str; 4] =
    ["stanch's configuration", "the program's files", "its environment", "the host"];

fn made_of(dossier: &Dossier) -> Vec<Row> {
    let started: Vec<&Record> = dossier
        .records
        .iter()
        .filter(|record| matches!(record.kind, Kind::WorkerStarted | Kind::WorkerHashed))
        .filter(|record| record.at <= dossier.incident.opened_at)
        .collect();
    let parts = Makeup::PARTS.iter().zip(MADE_OF);
    parts.filter_map(|(part, suspect)| unchanged(dossier, &started, part, suspect)).collect()
}

/// Whether a part changed in the time before the incident that is known, and since when it has not.
fn unchanged(dossier: &Dossier, started: &[&Record], part: &str, suspect: &str) -> Option<Row> {
    let hash =
        |record: &&Record| record.figures.get(&Makeup::key(part))?.as_str().map(str::to_owned);
    let known: Vec<(Timestamp, String)> =
        started.iter().filter_map(|record| Some((record.at, hash(record)?))).collect();
    let (_, now) = known.last()?;
    let other = known.iter().rposition(|(_, hash)| hash != now);
    if let Some((since, _)) = other.and_then(|other| known.get(other + 1)) {
        let ago = between(*since, dossier.incident.opened_at);
        let fact = format!("changed at {}, {ago} before", both(*since, &dossier.zone));
        return Some(row(suspect, "look at it", fact));
    }
    // The core remembers further back than a report reads.
    let told = dossier.own().find(|record| record.kind == Kind::LeakConfirmed);
    let told = told.and_then(|record| record.figures.get(&format!("{part}_since"))?.as_str());
    let since = told.and_then(|since| since.parse().ok()).unwrap_or(known.first()?.0);
    let fact = format!("unchanged since {} (hash {now})", both(since, &dossier.zone));
    Some(row(suspect, "no", fact))
}

/// The first release in which it was seen.
fn release(dossier: &Dossier) -> Option<Row> {
    let now = dossier.incident.release.as_deref()?;
    let seen: Vec<&str> = dossier.earlier.iter().filter_map(|i| i.release.as_deref()).collect();
    let fact = match seen.first() {
        None => format!("release {now} is the first with an incident of this kind in the store"),
        Some(first) if *first == now => format!("release {now} had it before: {}", {
            count(seen.iter().filter(|release| **release == now).count() as u64, "incident")
        }),
        Some(first) => format!("release {now} is not the first with it: {first} had it too"),
    };
    Some(row("the release", "look at it", fact))
}

/// The workers that leaked; others in the slots say nothing of the leak, whatever they did.
fn leaked(dossier: &Dossier) -> BTreeSet<WorkerId> {
    let confirmed = dossier.own().filter(|record| record.kind == Kind::LeakConfirmed);
    confirmed.filter_map(Record::worker).collect()
}

fn release_of(dossier: &Dossier, one: WorkerId) -> Option<&str> {
    let mut of_it = dossier.records.iter().filter(|record| record.worker() == Some(one));
    of_it.find_map(|record| record.release.as_deref())
}

/// Whether it helped to restart: how fast a worker that leaked grew, and how fast its successor of the same
/// release does.
fn restart(dossier: &Dossier) -> Option<Row> {
    let leaked = leaked(dossier);
    let pairs: Vec<(&Curve, f64, f64)> = dossier
        .curves
        .iter()
        .filter(|old| leaked.contains(&old.worker))
        .filter_map(|old| {
            let next = WorkerId { generation: old.worker.generation.next(), ..old.worker };
            if release_of(dossier, next) != release_of(dossier, old.worker) {
                return None;
            }
            let new = dossier.curves.iter().find(|curve| curve.worker == next)?;
            Some((old, rate(old)?, rate(new)?))
        })
        .collect();
    let mean =
        |of: fn(&(&Curve, f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let (old, ..) = pairs.first()?;
    let (before, after) = (mean(|pair| pair.1), mean(|pair| pair.2));
    let answer = if after < before / 2.0 { "perhaps" } else { "no: a restart does not help" };
    let which = match pairs.len() {
        1 => format!("worker {} and its successor", old.worker),
        n => format!("{n} replaced workers and their successors"),
    };
    Some(row("a state that a restart clears", answer, {
        format!("{which} grow by {} and {} a minute", size(60.0 * before), size(60.0 * after))
    }))
}

/// KiB/s over the second half of what is known of a worker's life, lest its start count; `None` when
/// that is too short to say.
fn rate(curve: &Curve) -> Option<f64> {
    let level = |(at, sample): &(Timestamp, Sample)| Some((*at, sample.growth_kib()? as f64));
    let all: Vec<(Timestamp, f64)> = curve.samples.iter().filter_map(level).collect();
    let peak = all.iter().map(|point| point.1).fold(0.0, f64::max);
    // What follows the peak is its drain.
    let until = all.iter().rposition(|point| point.1 >= peak)?;
    let late = &all[until / 2..=until];
    let ((from, low), (to, high)) = (late.first()?, late.last()?);
    let seconds = to.duration_since(*from).as_secs_f64();
    (late.len() >= 5 && seconds > 0.0).then(|| (high - low) / seconds)
}

fn siblings(dossier: &Dossier) -> Row {
    let slots = dossier.incident.slots.len() as u64;
    let began = dossier.records.iter().rev().find(|r| r.kind == Kind::SupervisorStarted);
    let all = began.and_then(|began| figure(began, "workers")).map(|all| all as u64);
    match all {
        Some(all) if slots >= all => {
            row("one broken worker", "no", format!("all {all} slots have it"))
        }
        Some(all) => {
            row("one broken worker", "look at it", format!("{slots} of {all} slots have it"))
        }
        None => row("one broken worker", "look at it", count(slots, "slot")),
    }
}

fn host(dossier: &Dossier) -> Row {
    let (from, to) = (dossier.incident.opened_at, dossier.over());
    let pressure = dossier.records.iter().filter(|record| {
        record.kind == Kind::HostMemoryPressure && (from..=to).contains(&record.at)
    });
    match pressure.count() as u64 {
        0 => row("the host's memory", "no", "no pressure was seen during the incident".to_owned()),
        n => {
            row("the host's memory", "look at it", format!("under pressure: {}", count(n, "event")))
        }
    }
}

/// The worker that leaked most.
pub(super) fn steepest(dossier: &Dossier) -> Option<&Curve> {
    let leaked = leaked(dossier);
    let gain = |curve: &&Curve| {
        let level = |sample: Option<&(Timestamp, Sample)>| sample?.1.growth_kib();
        level(curve.samples.last())
            .zip(level(curve.samples.first()))
            .map(|(b, a)| b.saturating_sub(a))
    };
    dossier.curves.iter().filter(|curve| leaked.contains(&curve.worker)).max_by_key(gain)
}

/// What else that worker did while it grew: the first third of its life beside the last.
fn of_curve(curve: &Curve) -> Vec<Row> {
    let third = curve.samples.len() / 3;
    if third < 3 {
        return Vec::new();
    }
    let (early, late) = (&curve.samples[..third], &curve.samples[curve.samples.len() - third..]);
    let over = format!("in worker {} over {}", curve.worker, {
        span(
            curve.samples[curve.samples.len() - 1]
                .0
                .duration_since(curve.samples[0].0)
                .as_secs_f64(),
        )
    });
    let mut rows = Vec::new();
    if let (Some(before), Some(after)) = (processor(early), processor(late)) {
        rows.push(row("traffic", answer(before, after), {
            format!("processor time {before:.1} → {after:.1}% {over}")
        }));
    }
    let mean = |part, of| mean(part, of).unwrap_or(0.0);
    for (suspect, unit, of) in COUNTED {
        let (before, after) = (mean(early, *of), mean(late, *of));
        if before > 0.0 || after > 0.0 {
            rows.push(row(suspect, answer(before, after), {
                format!("{before:.0} → {after:.0} {unit} {over}")
            }));
        }
    }
    let (before, after) = (mean(early, |s| s.rss_file_kib), mean(late, |s| s.rss_file_kib));
    if before > 0.0 {
        rows.push(row("page cache and mapped files", answer(before, after), {
            format!("{} → {} {over}", size(before), size(after))
        }));
    }
    rows
}

type Figure = fn(&Sample) -> Option<u64>;
const COUNTED: &[(&str, &str, Figure)] = &[
    ("connections", "open at a time", |s| s.connections),
    ("threads", "threads", |s| s.threads),
    ("file descriptors", "open files", |s| s.fds),
    ("child processes", "processes", |s| s.processes),
];

fn answer(before: f64, after: f64) -> &'static str {
    if after > before * (1.0 + FLAT) + 1.0 { "grew too: look at it" } else { "no" }
}

fn mean(part: &[(Timestamp, Sample)], of: Figure) -> Option<f64> {
    let values: Vec<f64> =
        part.iter().filter_map(|(_, s)| of(s)).map(|value| value as f64).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Percent of one processor.
fn processor(part: &[(Timestamp, Sample)]) -> Option<f64> {
    let told = || part.iter().filter_map(|(at, sample)| Some((*at, sample.cpu_ticks?)));
    let ((from, first), (to, last)) = (told().next()?, told().next_back()?);
    let seconds = to.duration_since(from).as_secs_f64();
    // A tick is a hundredth of a second.
    (seconds > 0.0).then(|| last.saturating_sub(first) as f64 / seconds)
}
