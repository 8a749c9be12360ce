//! The host's memory: when it runs short the worst leaker goes first, and a replacement that would not
//! fit beside the old worker comes after it.

use super::super::worker::{Cause, Due, State, Worker};
use super::super::{Kind, LeakAction, Now, WorkerId};
use super::memory::mib;
use super::{About, Supervisor, figures};

/// What is known of the host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host {
    pub available_kib: Option<u64>,
    pub under_pressure: bool,
}

/// Short of memory is a host with less than this part of it available.
const SHORT: u64 = 20;
/// And it is so until more than this part is.
const ENOUGH: u64 = 10;
/// With this part of it available nobody waits for the host.
const PLENTY: u64 = 4;

impl Supervisor {
    pub(super) fn on_host_memory(&mut self, now: Now, available_kib: Option<u64>, stalled: bool) {
        let host_kib = self.settings.memory.host_kib;
        let below = |part: u64| {
            available_kib.zip(host_kib).is_some_and(|(available, host)| available < host / part)
        };
        let was = self.host.under_pressure;
        // Who waits at the limit of a cgroup of its own stalls as well, and takes nothing from the host.
        let plenty = available_kib.zip(host_kib).is_some_and(|(a, host)| a >= host / PLENTY);
        let stalled = stalled && !plenty;
        let is = stalled || below(if was { ENOUGH } else { SHORT });
        self.host = Host { available_kib, under_pressure: is };
        if is && !was {
            self.host_pressure_begins(now, stalled);
        }
        let worst = self.worst_leaker().filter(|_| is && self.roll.is_none());
        if let Some(id) = worst {
            let incident = self.leak_of(id);
            let reason = "leaks most while the host is short of memory".to_owned();
            self.make_due(id, Due { cause: Cause::HostPressure, incident, reason });
        }
    }

    fn host_pressure_begins(&mut self, now: Now, stalled: bool) {
        let why = if stalled { "processes wait for memory" } else { "little memory is available" };
        let available_kib = self.host.available_kib;
        let available = available_kib.map_or("unknown".to_owned(), mib);
        let worst = self.worst_leaker();
        let what = match worst {
            Some(id) => format!("worker {} leaks most and is replaced first", id.slot),
            None => "no worker leaks, so a replacement would not help".to_owned(),
        };
        let reason = format!("on the host {why} ({available} available); {what}");
        let figures = figures([
            ("available_kib", available_kib.into()),
            ("host_kib", self.settings.memory.host_kib.into()),
            ("total_kib", self.total_growth_kib().into()),
            ("stalled", stalled.into()),
        ]);
        let about = worst.map_or(About::Supervisor, |id| About::Worker(id, None));
        let incident = worst.and_then(|id| self.leak_of(id));
        self.record(now, Kind::HostMemoryPressure, about, incident, &reason, figures);
    }

    /// The one with a confirmed leak that has grown most.
    fn worst_leaker(&self) -> Option<WorkerId> {
        let ready = |worker: &&Worker| matches!(worker.state, State::Ready { .. });
        let may =
            |worker: &&Worker| self.settings.leak.action == LeakAction::Restart && ready(worker);
        let leaking = self.workers.values().filter(may).filter(|w| w.is_leaking());
        leaking.max_by_key(|worker| worker.growth_kib()).map(|worker| worker.id)
    }

    /// Why a replacement cannot stand beside the worker for a while, if the host has no room for both.
    /// It will take what this one took when it had become ready.
    pub(super) fn no_room_beside(&self, id: WorkerId) -> Option<String> {
        let available_kib = self.host.available_kib?;
        let needed_kib = self.workers.get(&id)?.settled_kib?;
        (needed_kib > available_kib).then(|| {
            format!(
                "stopped before its replacement starts, which needs about {}, and the host has {}",
                mib(needed_kib),
                mib(available_kib)
            )
        })
    }
}
