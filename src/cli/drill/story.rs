//! What a drill has shown so far, put together from the audit log and the status.

use crate::core::{Kind, Record};
use crate::wire::Status;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A verdict on a worker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sighting {
    /// Since the load began.
    pub after_s: f64,
    /// The worker's slot.
    pub slot: u32,
    /// What the worker used then.
    pub memory_kib: Option<f64>,
    /// Its growth.
    pub slope_kib_s: Option<f64>,
    /// Until the limit, as forecast then.
    pub eta_s: Option<f64>,
}

/// The story of a leak: what was seen when, and what was done about it.
#[derive(Clone, Debug)]
pub(super) struct Story {
    began: Timestamp,
    slots: u32,
    limit_kib: u64,
    /// First suspicion.
    pub suspected: Option<Sighting>,
    /// The first confirmed leak of each slot.
    pub confirmed: BTreeMap<u32, Sighting>,
    /// When the first leaking worker had left, and when the last slot had its first replacement.
    pub first_replaced_s: Option<f64>,
    pub all_replaced_s: Option<f64>,
    /// Workers that left because they leaked.
    pub workers_replaced: u64,
    slots_replaced: BTreeSet<u32>,
    /// Rolls for the leak that came to their end.
    pub rolls_finished: u64,
    /// One of them before any worker was over the limit.
    pub in_time: bool,
    /// A roll for the leak is under way.
    rolling: bool,
    /// When a worker went over the soft or the hard limit.
    pub limit_reached_s: Option<f64>,
    /// Crashes, failed starts, aborted rolls: what a drill should not show.
    pub troubles: Vec<String>,
    /// The highest that any worker came.
    pub peak_kib: Option<u64>,
    /// The incident of the leak.
    pub incident: Option<String>,
}

impl Story {
    /// The story of `slots` workers under load since `began`.
    pub fn new(began: Timestamp, slots: u32, limit_kib: u64) -> Self {
        Self {
            began,
            slots,
            limit_kib,
            suspected: None,
            confirmed: BTreeMap::new(),
            first_replaced_s: None,
            all_replaced_s: None,
            workers_replaced: 0,
            slots_replaced: BTreeSet::new(),
            rolls_finished: 0,
            in_time: false,
            rolling: false,
            limit_reached_s: None,
            troubles: Vec::new(),
            peak_kib: None,
            incident: None,
        }
    }

    /// The soft limit of a worker.
    pub fn limit_kib(&self) -> u64 {
        self.limit_kib
    }

    /// Takes an event.
    pub fn note(&mut self, record: &Record) {
        let after_s = self.after_s(record.at);
        let slot = record.slot.map(|slot| slot.0);
        let cause = record.cause.as_deref();
        match record.kind {
            Kind::LeakSuspected => {
                if let (None, Some(slot)) = (&self.suspected, slot) {
                    self.suspected = Some(sighting(record, after_s, slot));
                }
            }
            Kind::LeakConfirmed => {
                self.incident =
                    self.incident.take().or(record.incident.as_ref().map(|i| i.0.clone()));
                if let Some(slot) = slot {
                    let sighting = || sighting(record, after_s, slot);
                    self.confirmed.entry(slot).or_insert_with(sighting);
                }
            }
            Kind::RollStarted if cause == Some("leak") => self.rolling = true,
            Kind::RollFinished if self.rolling => {
                self.rolling = false;
                self.rolls_finished += 1;
                self.in_time |= self.limit_reached_s.is_none();
            }
            // Without its incident it left for another reason.
            Kind::WorkerRetired if record.incident.is_some() => {
                self.workers_replaced += 1;
                self.first_replaced_s.get_or_insert(after_s);
                self.slots_replaced.extend(slot);
                if self.slots_replaced.len() >= self.slots as usize {
                    self.all_replaced_s.get_or_insert(after_s);
                }
            }
            Kind::MemorySoftLimit | Kind::MemoryHardLimit | Kind::MemoryOomKilled => {
                self.limit_reached_s.get_or_insert(after_s);
                self.trouble(record);
            }
            Kind::RollAborted => {
                self.rolling = false;
                self.trouble(record);
            }
            Kind::WorkerCrashed
            | Kind::WorkerHung
            | Kind::WorkerHeld
            | Kind::WorkerStartFailed
            | Kind::DrainCutConnections
            | Kind::StoreDegraded => self.trouble(record),
            _ => {}
        }
    }

    /// Takes a status.
    pub fn look(&mut self, status: &Status) {
        let highest = status.workers.iter().filter_map(|worker| worker.anon_kib).max();
        self.peak_kib = self.peak_kib.max(highest);
    }

    /// Slots whose first worker was replaced because it leaked.
    pub fn slots_replaced(&self) -> u32 {
        self.slots_replaced.len() as u32
    }

    /// Every slot has had a replacement, and nothing is under way.
    pub fn complete(&self) -> bool {
        self.slots_replaced() >= self.slots && !self.rolling && self.rolls_finished > 0
    }

    /// The confirmed leak that came first.
    pub fn first_confirmed(&self) -> Option<&Sighting> {
        self.confirmed.values().min_by(|a, b| a.after_s.total_cmp(&b.after_s))
    }

    /// When each slot would have reached the limit, had nobody done anything: earliest first, in
    /// seconds of load. Only slots whose leak was confirmed.
    pub fn without_stanch_s(&self) -> Vec<f64> {
        let end = |seen: &Sighting| Some(seen.after_s + seen.eta_s?);
        let mut ends: Vec<f64> = self.confirmed.values().filter_map(end).collect();
        ends.sort_by(f64::total_cmp);
        ends
    }

    /// What part of the way to the limit this is, in percent.
    pub fn percent(&self, kib: f64) -> f64 {
        100.0 * kib / self.limit_kib.max(1) as f64
    }

    /// Seconds of load until then.
    pub fn after_s(&self, at: Timestamp) -> f64 {
        at.duration_since(self.began).as_secs_f64()
    }

    fn trouble(&mut self, record: &Record) {
        let worker = record.slot.map_or(String::new(), |slot| format!(" (worker {slot})"));
        self.troubles.push(format!("{}{worker}: {}", record.kind, record.reason));
    }
}

fn sighting(record: &Record, after_s: f64, slot: u32) -> Sighting {
    let figure = |key| record.figures.get(key).and_then(serde_json::Value::as_f64);
    Sighting {
        after_s,
        slot,
        memory_kib: figure("growth_kib"),
        slope_kib_s: figure("slope_kib_s"),
        eta_s: figure("eta_s"),
    }
}
