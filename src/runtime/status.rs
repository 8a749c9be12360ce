//! From the core's view to what `status` shows.

use crate::core::{SlotView, View};
use crate::linux::cgroup::Enforcement;
use crate::linux::plane::{Address, Queue};
use crate::store::Writer;
use crate::wire;
use std::path::PathBuf;

/// What the core does not know of itself.
pub(super) struct Frame {
    pub app: String,
    pub config: Option<PathBuf>,
    pub enforcement: Enforcement,
    pub store: wire::Store,
    pub uptime_s: f64,
    pub listeners: Vec<wire::Listener>,
}

pub(super) fn status(view: View, frame: Frame) -> wire::Status {
    wire::Status {
        app: frame.app,
        config: frame.config,
        release: view.release,
        release_before: view.release_before,
        state: view.state.to_owned(),
        uptime_s: milli(frame.uptime_s),
        listeners: frame.listeners,
        memory: wire::Memory {
            total_kib: Some(view.total_kib),
            total_limit_kib: view.total_limit_kib,
            enforced_by: frame.enforcement.to_string(),
            hard_limit_compares: frame.enforcement.compares().to_owned(),
        },
        workers: view.slots.into_iter().map(worker).collect(),
        incidents_open: view.incidents_open,
        store: frame.store,
    }
}

pub(super) fn store(problem: Option<&str>, store: &Writer) -> wire::Store {
    wire::Store {
        state: if problem.is_none() { "well" } else { "degraded" }.to_owned(),
        why: problem.map(str::to_owned),
        waiting: store.waiting() as u64,
    }
}

pub(super) fn listener(address: &Address, mode: &str, queue: Option<Queue>) -> wire::Listener {
    wire::Listener {
        address: address.to_string(),
        mode: mode.to_owned(),
        queued: queue.map(|queue| queue.queued),
        queue_limit: queue.map(|queue| queue.limit),
        dropped: queue.map(|queue| queue.dropped),
    }
}

fn worker(view: SlotView) -> wire::Worker {
    wire::Worker {
        slot: view.slot.0,
        pid: view.pid,
        generation: view.generation,
        state: view.state.to_owned(),
        release: view.release,
        age_s: view.age_s.map(milli),
        rss_kib: view.sample.rss_kib,
        anon_kib: view.sample.rss_anon_kib,
        threads: view.sample.threads,
        fds: view.sample.fds,
        cpu_percent: view.cpu_percent.map(milli),
        connections: view.sample.connections,
        restarts: view.restarts,
        leak: wire::Leak {
            verdict: view.leak.verdict.as_str().to_owned(),
            slope_kib_s: view.leak.slope_kib_s.map(milli),
            eta_s: view.leak.eta_s.map(milli),
            confidence: view.leak.confidence.map(milli),
            reason: view.leak.reason,
        },
        status_text: view.status_text,
        due: view.due.map(|due| wire::Due {
            cause: due.cause.to_owned(),
            reason: due.reason,
            in_s: due.in_s.map(milli),
        }),
    }
}

/// Three digits after the point are enough for people and scripts.
fn milli(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
