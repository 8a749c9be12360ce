//! The samples of one worker as a trace that `stanch replay` judges as it was judged live.

use super::super::Failure;
use super::super::output::Stop;
use super::super::trace;
use super::name;
use crate::core::{Generation, Kind, Slot, WorkerId};
use crate::store::{EventFilter, Life, Reader, StoreError, StoredSample};
use jiff::Timestamp;
use std::io::Write;
use std::sync::Arc;

/// Of which worker; a trace is the recording of one, two would not make one curve.
pub(super) struct Of {
    /// Of the worker that this incident was opened for.
    pub incident: Option<String>,
    /// Of this slot; needed where samples of several are kept.
    pub slot: Option<u32>,
    /// Of this life of the slot; the newest if absent.
    pub generation: Option<u64>,
}

impl Of {
    fn fits(&self, worker: WorkerId) -> bool {
        self.slot.is_none_or(|slot| worker.slot == Slot(slot))
            && self.generation.is_none_or(|generation| worker.generation == Generation(generation))
    }
}

/// The life of a worker that is meant.
pub(super) fn choose(reader: &Reader, of: &Of) -> Result<Arc<Life>, Failure> {
    let lives = reader.lives()?;
    if let Some(id) = &of.incident {
        return of_incident(reader, &lives, id, of);
    }
    let fitting: Vec<&Life> = lives.iter().filter(|life| of.fits(life.worker)).collect();
    match fitting.last() {
        Some(newest) if fitting.iter().all(|life| life.worker.slot == newest.worker.slot) => {
            Ok(Arc::new((*newest).clone()))
        }
        Some(_) => Err(Failure::Usage(format!(
            "choose one of several workers with --slot and --generation, or --incident; samples are \
             kept of SLOT.GENERATION {}",
            names(&fitting)
        ))),
        None if lives.is_empty() => {
            Err(Failure::Refused("there are no samples in the store".into()))
        }
        None => Err(Failure::Refused(format!(
            "there are no samples of that worker; there are of SLOT.GENERATION {}",
            names(&lives.iter().collect::<Vec<_>>())
        ))),
    }
}

fn names(lives: &[&Life]) -> String {
    let mut workers: Vec<WorkerId> = lives.iter().map(|life| life.worker).collect();
    workers.sort();
    workers.dedup();
    workers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The worker whose leak was confirmed first in the incident, else the first that it names.
fn of_incident(reader: &Reader, lives: &[Life], id: &str, of: &Of) -> Result<Arc<Life>, Failure> {
    let incident = name(reader, id)?;
    let mut named: Vec<(bool, WorkerId, Timestamp)> = Vec::new();
    let filter = EventFilter { incident: Some(incident.clone()), ..EventFilter::default() };
    reader.events(&filter, |entry| {
        // An event that cannot be understood names no worker.
        if let Ok(record) = entry.record()
            && let Some(worker) = record.worker()
        {
            let later = record.kind != Kind::LeakConfirmed;
            named.push((later, worker, record.at));
        }
        Ok::<(), StoreError>(())
    })?;
    let first = named.into_iter().filter(|(_, worker, _)| of.fits(*worker)).min_by_key(|it| it.0);
    let Some((_, worker, at)) = first else {
        return Err(Failure::Refused(format!("incident {incident} names no such worker")));
    };
    // Of several lives of that name the one that had begun.
    let mut begun = lives.iter().filter(|life| life.worker == worker && life.started <= at);
    begun.next_back().cloned().map(Arc::new).ok_or_else(|| {
        Failure::Refused(format!(
            "the samples of worker {worker}, of {incident}, are not kept any more"
        ))
    })
}

/// Writes the trace; `t_s` is the age of the worker, as the detector counts it. What the verdict was
/// given by stands in the first row, so that `stanch replay` needs no options.
pub(super) fn samples(out: &mut dyn Write, reader: &Reader, life: Arc<Life>) -> Result<(), Stop> {
    trace::write_header(out)?;
    let mut first = Some(&*life);
    reader.samples(&life, |StoredSample { at, sample, .. }| {
        let t_s = at.duration_since(life.started).as_secs_f64().max(0.0);
        let judged_by = first.take().map(|life| (life.limit_kib, life.warm_up));
        Ok(trace::write_row(out, t_s, &sample, judged_by)?)
    })
}
