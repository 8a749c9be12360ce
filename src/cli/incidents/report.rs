//! `stanch incidents report`: the post-mortem of an incident, from the store alone.

use super::super::Failure;
use super::super::output::print;
use super::find;
use crate::core::Incident;
use crate::report::{Curve, Dossier, html, markdown, post_mortem};
use crate::store::{EventFilter, IncidentFilter, Reader, StoreError};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// How far back from its beginning the log is read.
const BEFORE: SignedDuration = SignedDuration::from_hours(24);
/// How long before the beginning of an incident a worker may have ended whose memory is shown.
const JUST: SignedDuration = SignedDuration::from_mins(1);
/// Curves of a report: of more workers the first and the last ones.
const CURVES: usize = 24;

/// How a report is set.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// Markdown
    Md,
    /// One HTML file with its pictures
    Html,
}

/// Prints the report.
pub(super) fn report(reader: &Reader, id: &str, format: Format) -> Result<(), Failure> {
    let document = post_mortem(&dossier(reader, find(reader, id)?)?);
    let text = match format {
        Format::Md => markdown(&document),
        Format::Html => html(&document),
    };
    print(|out| Ok(out.write_all(text.as_bytes())?))
}

fn dossier(reader: &Reader, incident: Incident) -> Result<Dossier, Failure> {
    let made_at = Timestamp::now();
    let (opened, end) = (incident.opened_at, incident.resolved_at.unwrap_or(made_at));
    let since = opened.checked_sub(BEFORE).unwrap_or(Timestamp::MIN);
    let mut records = Vec::new();
    let filter = EventFilter { since: Some(since), until: Some(end), ..EventFilter::default() };
    reader.events(&filter, |entry| {
        // What a newer stanch wrote and this one cannot read is left out.
        records.extend(entry.record().ok());
        Ok::<(), StoreError>(())
    })?;
    // One that cannot be read is none that this one could be compared with.
    let mut earlier = reader.incidents(&IncidentFilter::default())?.incidents;
    earlier.retain(|other| other.kind == incident.kind && other.opened_at < opened);
    let zone = TimeZone::system();
    let mut dossier = Dossier { incident, records, curves: Vec::new(), earlier, made_at, zone };
    dossier.curves = curves(reader, &dossier)?;
    Ok(dossier)
}

/// The memory of the workers that were in the slots of the incident before it was over, of those too that
/// ended just before it: the first one may have led to it.
fn curves(reader: &Reader, dossier: &Dossier) -> Result<Vec<Curve>, Failure> {
    let (incident, over, end) = (&dossier.incident, dossier.over(), dossier.end());
    let since = incident.opened_at.checked_sub(JUST).unwrap_or(Timestamp::MIN);
    let mut lives: Vec<_> = reader
        .lives()?
        .into_iter()
        .filter(|life| incident.slots.contains(&life.worker.slot) && life.started <= over)
        .map(Arc::new)
        .collect();
    lives.sort_by_key(|life| life.started);
    let mut curves = Vec::new();
    for life in lives {
        let mut samples = Vec::new();
        reader.samples(&life, |stored| {
            if stored.at <= end {
                samples.push((stored.at, stored.sample));
            }
            Ok::<(), StoreError>(())
        })?;
        if samples.last().is_some_and(|(at, _)| *at >= since) {
            curves.push(Curve { worker: life.worker, limit_kib: life.limit_kib, samples });
        }
    }
    if curves.len() > CURVES {
        curves.drain(CURVES / 2..curves.len() - CURVES / 2);
    }
    Ok(curves)
}
