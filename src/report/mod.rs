//! Post-mortems: what an incident was, told from the audit log in the form in which people write them.
//!
//! A [`Dossier`] is all that is known; [`post_mortem`] makes a [`Document`] of it, section by section, and
//! [`markdown()`] and [`html()`] set that. Nothing is told that the log does not hold: a section that has
//! nothing to say says so.

pub mod chart;
mod condense;
mod document;
mod evidence;
mod html;
mod markdown;
mod replacements;
mod ruled_out;
pub mod runbook;
mod sections;
#[cfg(test)]
mod tests;
mod words;

pub use document::{Block, Document, Section};
pub use html::html;
pub use markdown::markdown;
pub use sections::post_mortem;

use crate::core::{Incident, Kind, Record, Sample, WorkerId};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// All that is known of an incident.
#[derive(Clone, Debug)]
pub struct Dossier {
    /// The incident.
    pub incident: Incident,
    /// All events of the store up to its end, or up to now while it lasts; oldest first. Those of other
    /// incidents too: what was *not* the cause stands there.
    pub records: Vec<Record>,
    /// The memory of the workers in its slots until it was over, in order of their start; those that served then
    /// go on in the quiet time, where it shows whether it comes again.
    pub curves: Vec<Curve>,
    /// Every incident of the same kind before it, oldest first.
    pub earlier: Vec<Incident>,
    /// When the report is made, UTC.
    pub made_at: Timestamp,
    /// The operator's zone.
    pub zone: TimeZone,
}

/// The samples of one worker.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Which worker.
    pub worker: WorkerId,
    /// The limit that its forecast aimed at, in KiB.
    pub limit_kib: Option<u64>,
    /// When (UTC) and what, oldest first.
    pub samples: Vec<(Timestamp, Sample)>,
}

impl Dossier {
    /// The events of the incident itself.
    fn own(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.incident.as_ref() == Some(&self.incident.id))
    }

    /// When it began: with the first sign of it, not with what was enough to be sure.
    fn began(&self) -> Timestamp {
        let opened = self.incident.opened_at;
        self.first_sign().map_or(opened, |(first, _)| first.min(opened))
    }

    /// The first of what is known by now to have been it, and the event that tells so: of a hang the first of
    /// the probes that failed, of a leak the beginning of the growth.
    fn first_sign(&self) -> Option<(Timestamp, &Record)> {
        let sign = |record| Some((sign_of(record)?, record));
        self.own().chain(self.omens()).filter_map(sign).min_by_key(|(at, _)| *at)
    }

    /// The first event of the incident, if that is not its opening: what was before is gone.
    fn begins_late(&self) -> Option<Option<&Record>> {
        let opened = self.own().any(|record| record.kind == Kind::IncidentOpened);
        (!opened).then(|| self.own().next())
    }

    /// What was suspected, before there was an incident, of workers that it names.
    fn omens(&self) -> impl Iterator<Item = &Record> {
        let confirmed = |suspicion: &Record| {
            self.own().any(|record| {
                record.kind == Kind::LeakConfirmed
                    && record.at >= suspicion.at
                    && (record.slot, record.generation) == (suspicion.slot, suspicion.generation)
            })
        };
        self.records.iter().filter(move |record| {
            record.kind == Kind::LeakSuspected && record.incident.is_none() && confirmed(record)
        })
    }

    /// When it was over: from then on it kept no slot from serving and nothing of it showed. The quiet time until
    /// that is believed is no part of it, and while it lasts it may prove wrong.
    fn over_at(&self) -> Option<Timestamp> {
        self.incident.handled_at.or(self.incident.resolved_at)
    }

    /// The end of what is its own: when it was over, or as far as it is known.
    pub fn over(&self) -> Timestamp {
        self.over_at().unwrap_or_else(|| self.end())
    }

    /// The end of what is told: that of the incident, quiet time included, or of what is known of it.
    pub fn end(&self) -> Timestamp {
        self.incident.resolved_at.or(self.stopped_at()).unwrap_or(self.made_at)
    }

    /// When supervision ended before the incident did, and nobody has gone on with it since.
    fn stopped_at(&self) -> Option<Timestamp> {
        let mut newest_first = self.records.iter().rev();
        let ends = |kind| matches!(kind, Kind::SupervisorStarted | Kind::SupervisorStopped);
        let last = newest_first.find(|record| ends(record.kind))?;
        let stopped = last.kind == Kind::SupervisorStopped && last.at > self.incident.opened_at;
        stopped.then_some(last.at)
    }
}

/// Since when there had been what an event found out.
fn sign_of(record: &Record) -> Option<Timestamp> {
    let key = match record.kind {
        Kind::WorkerHung => "failing_s",
        Kind::LeakSuspected | Kind::LeakConfirmed => "growing_s",
        _ => return None,
    };
    let seconds = record.figures.get(key)?.as_f64()?;
    record.at.checked_sub(SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
}
