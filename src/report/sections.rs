//! The sections of a post-mortem, in the order in which people write them.

use super::chart::{memory, probes, serving};
use super::condense::timeline;
use super::evidence::{is_kept, rows};
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
    let say = |at| both(at, &dossier.zone);
    let over = dossier.over();
    let since = dossier.over_at().map_or(String::new(), |at| format!(" since {}", say(at)));
    let end = match (incident.state, dossier.stopped_at()) {
        (IncidentState::Resolved, _) => say(over),
        (IncidentState::Mitigated, None) => {
            format!("not closed: its slots have served{since}, and it may come again")
        }
        (IncidentState::Mitigated, Some(stopped)) => {
            format!("not seen: its slots served{since}, its supervisor ended at {}", say(stopped))
        }
        (IncidentState::Open, None) => "not yet: it is open".to_owned(),
        (IncidentState::Open, Some(stopped)) => {
            format!("not seen: it was open when its supervisor ended, at {}", say(stopped))
        }
    };
    let duration = match incident.state {
        IncidentState::Resolved => between(dossier.began(), over),
        IncidentState::Mitigated => format!("{} until then", between(dossier.began(), over)),
        IncidentState::Open => format!("{} so far", between(dossier.began(), over)),
    };
    let closed = incident.resolved_at.filter(|closed| *closed > over).map(|closed| {
        ("Closed", format!("{}, {} after the last sign of it", say(closed), between(over, closed)))
    });
    let slots: Vec<String> = incident.slots.iter().map(ToString::to_string).collect();
    let acted = match replaced.iter().filter(|one| one.killed).count() as u64 {
        0 => format!("{} replaced", count(replaced.len() as u64, "worker")),
        killed => format!(
            "{} replaced, {killed} of them killed over the hard limit",
            count(replaced.len() as u64, "worker")
        ),
    };
    let acted = match incident.interventions.saturating_sub(replaced.len() as u64) {
        0 => acted,
        again => format!("{acted}, {} started again", count(again, "worker")),
    };
    let facts = [("Began", say(dossier.began()))].into_iter().chain(minds(dossier));
    let facts = facts.chain([("Ended", end), ("Duration", duration)]);
    let rest = [
        ("Severity", incident.severity.to_string()),
        ("Release", incident.release.clone().unwrap_or_else(|| "not told".to_owned())),
        ("Slots", series(&slots)),
        ("Interventions", acted),
    ];
    let facts = Block::Facts(facts.chain(closed).chain(rest).collect());
    let missing = missing(dossier).map(Block::Text);
    [Block::Text(incident.summary.clone())].into_iter().chain(missing).chain([facts]).collect()
}

/// When a leak was first suspected, and when it was confirmed: it begins with the growth, before both.
fn minds(dossier: &Dossier) -> Vec<(&'static str, String)> {
    let first = |kind| {
        let all = dossier.own().chain(dossier.omens()).filter(move |record| record.kind == kind);
        all.map(|record| record.at).min().map(|at| both(at, &dossier.zone))
    };
    let minds =
        [("Suspected", first(Kind::LeakSuspected)), ("Confirmed", first(Kind::LeakConfirmed))];
    minds.into_iter().filter_map(|(name, at)| Some((name, at?))).collect()
}

/// That the log does not tell how it began.
fn missing(dossier: &Dossier) -> Option<String> {
    let opened = both(dossier.incident.opened_at, &dossier.zone);
    let held = match dossier.begins_late()? {
        Some(first) => format!("nothing of it before {}", both(first.at, &dossier.zone)),
        None => "no event of it".to_owned(),
    };
    Some(format!(
        "Its beginning is missing: it was opened at {opened}, and the audit log holds {held}. What had been \
         written until then went with an earlier file, was retired, or could not be written. The sections \
         below tell of the rest only."
    ))
}

/// What is said of time below capacity that is not the incident's.
const ELSEWHERE: &str = "while its slots did not serve, that was not for this: it counts in another incident, \
                         or in none where an operator wished it";

fn impact(dossier: &Dossier) -> Vec<Block> {
    let figure = |key: &str| dossier.incident.impact.get(key).and_then(|f| f.as_u64()).unwrap_or(0);
    // As the supervisor counted it, and as `incidents list` tells it.
    let below_s = figure("below_capacity_ms") as f64 / 1000.0;
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
    let serving = serving(dossier);
    // What it has cost until now is counted once a minute.
    let lasts = dossier.incident.state == IncidentState::Open && dossier.stopped_at().is_none();
    let uncounted = lasts && serving.is_some();
    if told.is_empty() && below_s == 0.0 && !uncounted {
        let unserved = match &serving {
            None => "none of its slots was without a worker",
            Some(_) => ELSEWHERE,
        };
        blocks.push(Block::Text(format!(
            "None that stanch can see: no connection was cut, refused or dropped, and {unserved}."
        )));
    } else {
        let below = match (below_s > 0.0, uncounted) {
            (false, false) if serving.is_some() => ELSEWHERE.to_owned(),
            (false, false) => "no slot was without a worker at any time".to_owned(),
            (false, true) => {
                "fewer workers serve than shall; the time is counted each minute".to_owned()
            }
            (true, false) => format!("fewer workers served than shall, for {}", span(below_s)),
            (true, true) => format!(
                "fewer workers serve than shall, for {} when that was last counted, which is each minute",
                span(below_s)
            ),
        };
        blocks.push(Block::List(told.into_iter().chain([below]).collect()));
    }
    blocks.extend(serving);
    blocks.extend(probes(dossier));
    blocks
}

fn root_cause(dossier: &Dossier, replaced: &[Replacement]) -> Vec<Block> {
    let first = match dossier.incident.kind.as_str() {
        "leak" => own(dossier, Kind::LeakConfirmed).next(),
        "memory_limit" => own(dossier, Kind::MemoryOomKilled)
            .chain(own(dossier, Kind::MemoryHardLimit))
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
    let mut told = "Taken before each worker went, or as it was found dead".to_owned();
    told += &match is_kept(dossier) {
        true => format!("; the whole of it: stanch incidents evidence {}.", dossier.incident.id),
        false => "; nothing more could be kept.".to_owned(),
    };
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
            let quiet = "It is over: nothing of it was seen after that, and its slots served.";
            vec![quiet.to_owned()]
        }
        IncidentState::Mitigated if dossier.stopped_at().is_some() => {
            vec!["It was held, not mended, when its supervisor ended: its slots served.".to_owned()]
        }
        IncidentState::Mitigated if rolled_back(dossier).is_some() => {
            vec!["It is over as long as the release before serves, not mended.".to_owned()]
        }
        IncidentState::Mitigated => vec![
            "It is held, not mended: its slots serve, and stanch goes on replacing what needs it."
                .to_owned(),
        ],
        IncidentState::Open if replaced.is_empty() => vec!["It is not handled yet.".to_owned()],
        IncidentState::Open => {
            let (is, when) = match dossier.stopped_at() {
                Some(_) => ("was", "when its supervisor ended"),
                None => ("is", "when this was written"),
            };
            vec![format!("It {is} held by replacing workers, not mended: it still went on {when}.")]
        }
    };
    let minds = |record: &&Record| matches!(record.kind, Kind::LeakConfirmed | Kind::LeakCleared);
    let last_mind = dossier.own().filter(minds).last();
    if let Some(cleared) = last_mind.filter(|record| record.kind == Kind::LeakCleared) {
        let at = both(cleared.at, &dossier.zone);
        told.push(format!("At {at} the growth had ended: {}.", cleared.reason));
    }
    if let Some(unsustainable) = own(dossier, Kind::LeakUnsustainable).last() {
        told.push(format!("Holding it will not do for long: {}.", unsustainable.reason));
    }
    if let Some(back) = own(dossier, Kind::ReleaseRolledBack).last() {
        let at = both(back.at, &dossier.zone);
        let went = if back.cause.is_none() { "stanch went " } else { "" };
        told.push(format!("At {at} {went}{}.", back.reason));
    }
    let starts: Vec<f64> = replaced.iter().filter_map(|one| one.start_s).collect();
    if !starts.is_empty() {
        let mean = starts.iter().sum::<f64>() / starts.len() as f64;
        let longest = starts.iter().fold(0.0f64, |a, b| a.max(*b));
        let until_then = match replaced.iter().filter(|one| one.overlapped).count() {
            0 => String::new(),
            all if all == starts.len() => ", and the old one served until then".to_owned(),
            some => format!(", and {some} of {} old ones served until then", starts.len()),
        };
        told.push(format!(
            "A new worker took {} to come up (at most {}){until_then}.",
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
    let back = rolled_back(dossier);
    if let Some(back) = back {
        let [from, to] = ["from", "to"].map(|key| back.figures.get(key).and_then(|it| it.as_str()));
        let name = |label: Option<&str>| label.unwrap_or("without a label").to_owned();
        let what = format!(
            "roll back: stanch went from release {} back to release {}; the configuration still names the \
             former where nobody has changed that",
            name(from),
            name(to)
        );
        tasks.push((true, what));
    }
    if let Some(page) = runbook::of(&dossier.incident.kind) {
        let items = runbook::LISTS.into_iter().flat_map(|heading| runbook::items(page, heading));
        let items = items.filter(|item| back.is_none() || !item.starts_with("Roll back"));
        tasks.extend(items.map(|item| (false, item)));
    }
    vec![Block::Tasks(tasks)]
}

/// The rollback in this incident, if what was gone back to did come up.
fn rolled_back(dossier: &Dossier) -> Option<&Record> {
    own(dossier, Kind::ReleaseRolledBack).last().filter(|back| back.cause.is_none())
}

fn own(dossier: &Dossier, kind: Kind) -> impl Iterator<Item = &Record> {
    dossier.own().filter(move |record| record.kind == kind)
}
