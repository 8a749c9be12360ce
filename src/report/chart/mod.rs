//! The pictures of a report: memory by worker, the slots that served, health probes.

pub mod frame;
mod probes;

pub(super) use probes::probes;

use super::replacements::Replacement;
use super::words::{second, size};
use super::{Block, Curve, Dossier, sign_of};
use crate::core::{Kind, Record, Slot, WorkerId};
use frame::{Frame, LEFT, WIDTH, amounts, stretches, ticks};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Characters of a curve where no picture can be.
const CHARACTERS: f64 = 60.0;
/// Lines of them: of more workers the first and the last ones.
const LINES: usize = 12;
/// Colours of slots.
const COLOURS: u32 = 6;

/// Memory by worker, with the interventions; none without samples.
pub(super) fn memory(dossier: &Dossier, replaced: &[Replacement]) -> Option<Block> {
    let curves: Vec<(&Curve, Vec<(f64, f64)>)> = dossier
        .curves
        .iter()
        .map(|curve| (curve, points(curve)))
        .filter(|(_, p)| p.len() > 1)
        .collect();
    let limit = curves.iter().filter_map(|(curve, _)| curve.limit_kib).max().map(|kib| kib as f64);
    let frame = Frame::around(curves.iter().flat_map(|(_, points)| points.iter().copied()), limit)?;
    let title = "Memory of each worker, with the moments at which one was replaced".to_owned();
    let mut svg = Frame::open(&title, &[]);
    frame.axes(&mut svg, &amounts(frame.top), &clock(&frame, &dossier.zone));
    limit.into_iter().for_each(|limit| frame.limit(&mut svg, limit));
    for one in replaced {
        let at = seconds(one.at);
        if (frame.from_s..=frame.to_s).contains(&at) {
            frame.mark(&mut svg, at);
        }
    }
    for (curve, points) in &curves {
        let seen: Vec<(f64, f64)> = stretches(points, WIDTH).into_iter().flatten().collect();
        frame.curve(&mut svg, &format!("slot{}", curve.worker.slot.0 % COLOURS), &seen);
    }
    legend(&mut svg, &curves.iter().map(|(curve, _)| curve.worker.slot).collect());
    let lines = curves.iter().map(|(curve, points)| sparkline(curve, points, frame.top)).collect();
    Some(Block::Chart { title, svg: Frame::close(svg), lines: shortened(lines) })
}

fn points(curve: &Curve) -> Vec<(f64, f64)> {
    let point = |(at, sample): &(Timestamp, crate::core::Sample)| {
        Some((seconds(*at), sample.growth_kib()? as f64))
    };
    curve.samples.iter().filter_map(point).collect()
}

fn legend(svg: &mut String, slots: &BTreeSet<Slot>) {
    for (nth, slot) in slots.iter().take(12).enumerate() {
        let x = LEFT + 70.0 * nth as f64;
        let _ = write!(
            svg,
            "<line class=\"slot{}\" x1=\"{x}\" x2=\"{}\" y1=\"72\" y2=\"72\" stroke-width=\"3\"/>\n\
             <text x=\"{}\" y=\"76\">slot {slot}</text>\n",
            slot.0 % COLOURS,
            x + 16.0,
            x + 21.0
        );
    }
}

/// Times for the axis, in the zone.
fn clock(frame: &Frame, zone: &TimeZone) -> Vec<(f64, String)> {
    let span = frame.to_s - frame.from_s;
    let name = |t_s: f64| {
        let at = Timestamp::from_millisecond((t_s * 1000.0) as i64).unwrap_or_default();
        let format = if span > 2.0 * 86_400.0 { "%m-%d %H:%M" } else { "%H:%M:%S" };
        at.to_zoned(zone.clone()).strftime(format).to_string()
    };
    ticks(span).into_iter().map(|t_s| (frame.from_s + t_s, name(frame.from_s + t_s))).collect()
}

/// `worker 0.1  ▁▂▃▅▇  12 MiB → 160 MiB`: its floors, its first and its highest level.
fn sparkline(curve: &Curve, points: &[(f64, f64)], top_kib: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bars: String = stretches(points, CHARACTERS)
        .into_iter()
        .map(|[low, _]| BARS[((low.1 / top_kib * 8.0) as usize).min(7)])
        .collect();
    let first = points.first().map_or(0.0, |point| point.1);
    let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
    format!("worker {:<6} {bars}  {} → {}", curve.worker.to_string(), size(first), size(most))
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > LINES {
        let hidden = lines.len() - LINES;
        lines.splice(LINES / 2..LINES / 2 + hidden, [format!("… {hidden} more …")]);
    }
    lines
}

/// How many of its slots served at each moment of the incident; none if all did all the time.
pub(super) fn serving(dossier: &Dossier) -> Option<Block> {
    let end = dossier.over();
    let hung = dossier.own().filter(|record| record.kind == Kind::WorkerHung);
    let opened = hung.map(since).chain([dossier.incident.opened_at]).min()?;
    let full = dossier.incident.slots.len();
    let mut of_it: Vec<(Timestamp, &Record, WorkerId)> = dossier
        .records
        .iter()
        .filter_map(|record| Some((since(record), record, record.worker()?)))
        .filter(|(at, _, worker)| *at <= end && dossier.incident.slots.contains(&worker.slot))
        .collect();
    of_it.sort_by_key(|(at, ..)| *at);
    let came_up = |one: WorkerId| {
        of_it.iter().any(|(_, record, worker)| *worker == one && record.kind == Kind::WorkerReady)
    };
    // Who ended and did not come up in what the report reads had served since before.
    let from_before = of_it.iter().filter(|(_, record, worker)| ends(record) && !came_up(*worker));
    let mut serving: BTreeMap<Slot, u64> =
        from_before.map(|(.., worker)| (worker.slot, worker.generation.0)).collect();
    let mut within: Vec<(Timestamp, usize)> = vec![(opened, serving.len())];
    for (at, record, worker) in &of_it {
        if record.kind == Kind::WorkerReady {
            serving.insert(worker.slot, worker.generation.0);
        } else if ends(record) && serving.get(&worker.slot) == Some(&worker.generation.0) {
            serving.remove(&worker.slot);
        }
        match *at > opened {
            true => within.push((*at, serving.len())),
            false => within = vec![(opened, serving.len())],
        }
    }
    within.dedup_by_key(|step| step.1);
    if within.iter().all(|(_, now)| *now == full) {
        return None;
    }
    let lines =
        within.iter().map(|(at, n)| format!("{}  {n}", second(*at, &dossier.zone))).collect();
    let title = format!("Slots of the incident that served, of {full}");
    let frame = Frame {
        from_s: seconds(opened),
        to_s: seconds(end).max(seconds(opened) + 1.0),
        top: 1.08 * full as f64,
    };
    let mut svg = Frame::open(&title, &[]);
    let levels: Vec<(f64, String)> = (0..=full).map(|n| (n as f64, n.to_string())).collect();
    frame.axes(&mut svg, &levels, &clock(&frame, &dossier.zone));
    let mut stair: Vec<(f64, f64)> = Vec::new();
    for (at, now) in within {
        stair.extend(stair.last().map(|(_, before)| (seconds(at), *before)));
        stair.push((seconds(at), now as f64));
    }
    stair.extend(stair.last().map(|(_, now)| (seconds(end), *now)));
    frame.curve(&mut svg, "floor", &stair);
    Some(Block::Chart { title, svg: Frame::close(svg), lines: shortened(lines) })
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// When it was: a hang began with the first probe that failed.
fn since(record: &Record) -> Timestamp {
    let hung = (record.kind == Kind::WorkerHung).then(|| sign_of(record)).flatten();
    hung.unwrap_or(record.at)
}

/// What takes a worker out of service, unless it is an operator's wish.
fn ends(record: &Record) -> bool {
    match record.kind {
        Kind::DrainStarted => record.cause.as_deref() != Some("operator"),
        Kind::WorkerCrashed | Kind::WorkerHung | Kind::MemoryHardLimit | Kind::MemoryOomKilled => {
            true
        }
        _ => false,
    }
}
