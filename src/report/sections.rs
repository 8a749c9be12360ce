//! The sections of a post-mortem, in the order in which people write them.

use super::chart::{memory, serving};
use super::condense::timeline;
use super::evidence::rows;
use super::replacements::{Replacement, replacements};
use super::ruled_out::{steepest, suspects};
use super::words::{between, both, count, series, size, span};
use super::{Block, Document, Dossier, Section, runbook};
use crate::core::{IncidentState, Kind, Record};

/// Writes the post-mortem of an incident.
pub fn post_mortem(dossier: &Dossier) -> Document {
    let replaced = replacements(dossier);
    let section = |title, blocks| Section { title, blocks };
    let sections = vec![
        section("Issue summary", summary(dossier, &replaced)),
        section("Impact", impact(dossier)),
        section("Root cause", root_cause(dossier, &replaced)),
        section("Evidence", evidence(dossier)),
        section("Timeline", timeline_blocks(dossier, &replaced)),
        section("What it was not", ruled_out(dossier)),
        section("Resolution", resolution(dossier, &replaced)),
        section("Corrective and preventative measures", measures(dossier, &replaced)),
    ];
    let title = format!("Post-mortem: {} ({})", subject(dossier), dossier.incident.id);
    Document { title, sections: sections.into_iter().filter(|s| !s.blocks.is_empty()).collect() }
}

/// The title of the kind's page, as the end of a sentence.
fn subject(dossier: &Dossier) -> String {
    let kind = &dossier.incident.kind;
    let title = runbook::of(kind).map_or(kind.as_str(), runbook::title);
    let mut letters = title.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

fn summary(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Block> {
    let incident = &dossier.incident;
    let end = match (incident.resolved_at, incident.state) {
        (Some(end), _) => both(end, &dossier.zone),
        (None, _) if let Some(stopped) = dossier.stopped_at() => {
            format!(
                "not seen: the supervisor that saw it was gone by {}",
                both(stopped, &dossier.zone)
            )
        }
        (None, IncidentState::Open) => "not yet: it is open".to_owned(),
        (None, IncidentState::Mitigated | IncidentState::Resolved) => {
            "not yet: all slots serve, and the cause is still there or was seen lately".to_owned()
        }
    };
    let slots: Vec<String> = incident.slots.iter().map(ToString::to_string).collect();
    let acted = match replaced.iter().filter(|one| one.killed).count() as u64 {
        0 => format!("{} replaced", count(replaced.len() as u64, "worker")),
        killed => format!(
            "{} replaced, {killed} of them killed over the hard limit",
            count(replaced.len() as u64, "worker")
        ),
    };
    vec![
        Block::Text(incident.summary.clone()),
        Block::Facts(vec![
            ("Began", both(dossier.began(), &dossier.zone)),
            ("Ended", end),
            ("Duration", between(dossier.began(), dossier.end())),
            ("Severity", incident.severity.to_string()),
            ("Release", incident.release.clone().unwrap_or_else(|| "not told".to_owned())),
            ("Slots", series(&slots)),
            ("Interventions", acted),
        ]),
    ]
}

fn impact(dossier: &Dossier) -> Vec<Block> {
    let figure = |key: &str| dossier.incident.impact.get(key).and_then(|f| f.as_u64()).unwrap_or(0);
    let (chart, below_s) = serving(dossier);
    let rows = [
        (
            "requests that a crashed or killed worker had accepted",
            figure("workers_killed") + { own(dossier, Kind::WorkerCrashed).count() as u64 },
            "worker",
        ),
        ("connections cut at the end of a drain", figure("connections_cut"), "connection"),
        ("connections turned away by a full queue", figure("connections_dropped"), "attempt"),
        ("health probes that failed", figure("probes_failed"), "probe"),
    ];
    let told: Vec<String> = rows
        .into_iter()
        .filter(|(_, n, _)| *n > 0)
        .map(|(what, n, unit)| format!("{what}: {}", count(n, unit)))
        .collect();
    let mut blocks = Vec::new();
    if told.is_empty() && below_s == 0.0 {
        blocks.push(Block::Text(
            "None that stanch can see: no connection was cut, refused or dropped, and none of its \
             slots was without a worker."
                .to_owned(),
        ));
    } else {
        let below = match below_s {
            0.0 => "no slot was without a worker at any time".to_owned(),
            _ => format!("a slot of the incident was without a worker for {}", span(below_s)),
        };
        blocks.push(Block::List(told.into_iter().chain([below]).collect()));
    }
    blocks.extend(chart);
    blocks
}

fn root_cause(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Block> {
    let first = match dossier.incident.kind.as_str() {
        "leak" => own(dossier, Kind::LeakConfirmed).next(),
        "memory_limit" => own(dossier, Kind::MemoryHardLimit)
            .chain(own(dossier, Kind::MemorySoftLimit))
            .chain(own(dossier, Kind::MemoryTotalLimit))
            .next(),
        "hang" => own(dossier, Kind::WorkerHung).next(),
        "start_failure" => own(dossier, Kind::WorkerStartFailed).next(),
        "crash" | "crash_loop" => own(dossier, Kind::WorkerCrashed).next(),
        _ => own(dossier, Kind::RollAborted).next(),
    };
    let page = runbook::of(&dossier.incident.kind);
    let meaning = page.map(|page| runbook::paragraph(page, "What it means"));
    let mut blocks: Vec<Block> = meaning.map(Block::Text).into_iter().collect();
    if let Some(first) = first {
        let at = both(first.at, &dossier.zone);
        blocks.push(Block::Text(format!("The evidence, at {at}: {}.", first.reason)));
    }
    if let Some(curve) = steepest(dossier).filter(|_| dossier.incident.kind == "leak") {
        let levels = || curve.samples.iter().filter_map(|(_, sample)| sample.growth_kib());
        if let (Some(from), Some(to)) = (levels().next(), levels().max()) {
            let limit =
                curve.limit_kib.map(|limit| format!(", of {} that it may use", size(limit as f64)));
            blocks.push(Block::Text(format!(
                "Worker {} went from {} to {} of anonymous, shared and swapped memory in {}{}. Page \
                 cache is not in these figures.",
                curve.worker,
                size(from as f64),
                size(to as f64),
                between(curve.samples[0].0, curve.samples[curve.samples.len() - 1].0),
                limit.unwrap_or_default(),
            )));
        }
    }
    blocks.extend(memory(dossier, replaced));
    blocks
}

/// What grew, by what was seen of each worker before it went.
fn evidence(dossier: &Dossier) -> Vec<Block> {
    let rows = rows(dossier);
    if rows.is_empty() {
        return Vec::new();
    }
    let told = format!(
        "Taken before each worker went; the whole of it: stanch incidents evidence {}.",
        dossier.incident.id
    );
    let header = vec!["When", "Worker", "What grew most", "Within"];
    vec![Block::Table(header, rows), Block::Text(told)]
}

fn timeline_blocks(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Block> {
    let zone = dossier.incident.opened_at.to_zoned(dossier.zone.clone());
    let mut rows = timeline(dossier, replaced);
    if zone.offset().is_zero() {
        rows.iter_mut().for_each(|row| drop(row.remove(1)));
        return vec![Block::Table(vec!["UTC", "What"], rows)];
    }
    vec![
        Block::Text(format!("The first column is in {}.", zone.strftime("%Z (UTC%:z)"))),
        Block::Table(vec!["Here", "UTC", "What"], rows),
    ]
}

fn ruled_out(dossier: &Dossier) -> Vec<Block> {
    let rows = suspects(dossier);
    vec![Block::Table(vec!["Suspect", "Was it that?", "The fact"], rows)]
}

fn resolution(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Block> {
    let incident = &dossier.incident;
    let mut told = match incident.state {
        IncidentState::Resolved => {
            let quiet = "It is over: nothing of it has been seen since, and all slots serve.";
            vec![quiet.to_owned()]
        }
        IncidentState::Mitigated => vec![
            "It is held, not mended: all slots serve, and stanch goes on replacing what needs it."
                .to_owned(),
        ],
        IncidentState::Open if replaced.is_empty() => vec!["It is not handled yet.".to_owned()],
        IncidentState::Open => {
            let when = if dossier.stopped_at().is_some() {
                "when its supervisor ended"
            } else {
                "when this was written"
            };
            vec![format!("It is held by replacing workers, not mended: it still went on {when}.")]
        }
    };
    if let Some(unsustainable) = own(dossier, Kind::LeakUnsustainable).last() {
        told.push(format!("Holding it will not go on for ever: {}.", unsustainable.reason));
    }
    let starts: Vec<f64> = replaced.iter().filter_map(|one| one.start_s).collect();
    if !starts.is_empty() {
        let mean = starts.iter().sum::<f64>() / starts.len() as f64;
        let longest = starts.iter().fold(0.0f64, |a, b| a.max(*b));
        told.push(format!(
            "A new worker took {} to come up (at most {}), and the old one served until then.",
            span(mean),
            span(longest)
        ));
    }
    vec![Block::Text(told.join(" "))]
}

fn measures(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Block> {
    let mut tasks = Vec::new();
    if !replaced.is_empty() {
        let what = format!(
            "keep the site up: {} replaced by stanch, each with a record in the audit log",
            count(replaced.len() as u64, "worker")
        );
        tasks.push((true, what));
    }
    if own(dossier, Kind::IncidentAcknowledged).next().is_some() {
        tasks.push((true, "tell somebody: the incident was acknowledged".to_owned()));
    }
    if let Some(page) = runbook::of(&dossier.incident.kind) {
        let items = runbook::LISTS.into_iter().flat_map(|heading| runbook::items(page, heading));
        tasks.extend(items.map(|item| (false, item)));
    }
    vec![Block::Tasks(tasks)]
}

fn own(dossier: &Dossier, kind: Kind) -> impl Iterator<Item = &Record> {
    dossier.own().filter(move |record| record.kind == kind)
}
