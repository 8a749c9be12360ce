//! What a supervisor that died has left, looked up before anything is decided (by
//! `core::supervisor::recovery`).
//!
//! A process is a worker's if the log names it (pid, start time, boot), or if it carries our mark and
//! its supervisor is dead; what those two have started is found by kinship and by cgroup
//! (`linux::tree`). A mark is ours if it names this application and this audit log. One that names
//! another log may be of another application of the same name: it is ours if the process listens on a
//! configured address, and else only told.

use super::output::Remainder;
use crate::config::{Config, ListenMode};
use crate::core::words::chain;
use crate::core::{Hold, Kind, Legacy, Occasion, Past, Record, Survivor, WorkerId};
use crate::linux::cgroup::Leaf;
use crate::linux::mark::{self, Mark};
use crate::linux::plane::{Listening, Plane};
use crate::linux::procfs::{ProcessId, Procfs, Stat};
use crate::linux::tree::{Orphans, Tree};
use crate::store::{EventFilter, Found, Reader, StoreError};
use jiff::Timestamp;
use nix::unistd::Pid;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What lives of one worker.
pub(super) struct Remnant {
    pub leader: Option<ProcessId>,
    pub tree: Tree,
    pub age: Duration,
    /// What is known of it because its supervisor did not die.
    pub kept: Option<Kept>,
}

/// What a supervisor has handed over of a worker.
pub(super) struct Kept {
    /// What its samples are kept under.
    pub life_started: Timestamp,
    /// Whether this process is its parent.
    pub child: bool,
    pub pipes: Vec<Remainder>,
}

/// All that lives, by worker.
pub(super) type Finds = BTreeMap<WorkerId, Remnant>;

/// Reads the log, finds the processes and takes their sockets back into `plane`.
pub(super) fn look(
    config: &Config,
    procfs: &Procfs,
    orphans: &Orphans,
    store: &Path,
    log: Option<&Reader>,
    plane: &mut Plane,
) -> (Legacy, Finds) {
    let read = log.map(read).transpose().unwrap_or_else(|error| {
        let error = chain(&error);
        tracing::error!(error, "what an earlier supervisor did is not known; its workers are");
        None
    });
    let read = read.unwrap_or_default();
    let listening = Listening::now().inspect_err(|error| {
        tracing::warn!(%error, "who listens cannot be seen");
    });
    let listening = listening.ok();
    let mut search =
        Search { config, procfs, orphans, store, plane, listening, finds: Finds::new() };
    let boot_id = procfs.boot_id();
    let past = read.past.as_ref();
    search.by_mark(past);
    if let Some(past) = past.filter(|past| past.boot_id == boot_id) {
        search.by_log(past);
    }
    let survivors = search.survivors(past);
    let finds = search.finds;
    (Legacy { boot_id, survivors, ..read }, finds)
}

fn read(reader: &Reader) -> Result<Legacy, StoreError> {
    let mut past = Past::default();
    reader.newest_first(|entry| match entry.record() {
        Ok(record) => past.note(&record),
        // Of a kind that this version does not know.
        Err(_) => std::ops::ControlFlow::Continue(()),
    })?;
    Ok(Legacy { past: Some(past), ..incidents(reader)? })
}

/// What the log and the table say of the incidents that are not over, and of who was told of them.
pub(super) fn incidents(reader: &Reader) -> Result<Legacy, StoreError> {
    // Every incident that the log names has its row: they are written together.
    let last_incident = reader.highest_incident()?;
    let Found { incidents, damaged } = reader.unresolved()?;
    let altered = damaged.iter().map(|error| (error.incident(), chain(error))).collect();
    let mut told = Vec::new();
    for incident in &incidents {
        let id = Some(incident.id.clone());
        reader.events(&EventFilter { incident: id, ..EventFilter::default() }, |entry| {
            let alert = entry.record().ok().and_then(|record| told_in(&record));
            told.extend(alert.map(|told| (incident.id.clone(), told)));
            Ok::<(), StoreError>(())
        })?;
    }
    Ok(Legacy { incidents, told, last_incident, altered, ..Legacy::default() })
}

/// Who was told by an alert, on what occasion, and whether they cannot be. What was tried once and is not given
/// up is in the spool, so it counts as told.
fn told_in(record: &Record) -> Option<(String, Occasion, bool)> {
    if !matches!(record.kind, Kind::AlertSent | Kind::AlertFailed) {
        return None;
    }
    let word = |key| record.figures.get(key)?.as_str();
    let what = Occasion::ALL.iter().copied().find(|one| Some(one.as_str()) == word("what"))?;
    let given_up = record.figures.get("given_up") == Some(&true.into());
    Some((word("to")?.to_owned(), what, given_up))
}

struct Search<'a> {
    config: &'a Config,
    procfs: &'a Procfs,
    orphans: &'a Orphans,
    store: &'a Path,
    plane: &'a mut Plane,
    listening: Option<Listening>,
    finds: Finds,
}

impl Search<'_> {
    fn by_mark(&mut self, past: Option<&Past>) {
        let mut groups: BTreeMap<WorkerId, Vec<(Stat, Mark)>> = BTreeMap::new();
        for (stat, mark) in mark::orphans(self.procfs) {
            if mark.app == self.config.app.name {
                groups.entry(mark.worker).or_default().push((stat, mark));
            }
        }
        for (worker, mut group) in groups {
            let store = self.store.to_string_lossy();
            let (own, others): (Vec<_>, Vec<_>) =
                group.drain(..).partition(|(_, mark)| mark.store == store);
            let ids: Vec<ProcessId> = others.iter().map(|(stat, _)| stat.id).collect();
            let in_our_place = self
                .listening
                .as_ref()
                .is_some_and(|listening| self.plane.is_held_by(listening, self.procfs, &ids));
            let ours = match (own.is_empty(), in_our_place) {
                (true, true) => others,
                (true, false) => {
                    tell_stranger(&others);
                    continue;
                }
                (false, _) => own,
            };
            let known = past.and_then(|past| past.workers.get(&worker));
            let named = known.and_then(|trace| Some((trace.pid?, trace.start_ticks?)));
            let is_leader = |stat: &&Stat| match named {
                Some((pid, ticks)) => stat.id == process(pid, ticks),
                // The launcher leads a session, and what it started is younger.
                None => stat.session == stat.id.pid,
            };
            let leader = ours.iter().map(|(stat, _)| stat).filter(is_leader);
            let leader = leader.min_by_key(|stat| stat.id.start_time_ticks).map(|stat| stat.id);
            let members = ours.iter().map(|(stat, _)| stat.id).collect();
            self.add(worker, leader, members, ours[0].1.to_string());
        }
    }

    /// Those whose environment does not tell.
    fn by_log(&mut self, past: &Past) {
        for (worker, trace) in past.live() {
            let (Some(pid), Some(ticks)) = (trace.pid, trace.start_ticks) else { continue };
            let leader = process(pid, ticks);
            let stat = self.procfs.stat(leader.pid).filter(Stat::is_alive);
            if stat.is_none_or(|stat| stat.id != leader) {
                continue;
            }
            match self.finds.get_mut(&worker) {
                Some(found) if found.leader.is_some() => {}
                Some(found) => {
                    found.leader = Some(leader);
                    found.tree.know(leader);
                }
                None => {
                    let mark = Mark::new(worker, 0, &self.config.app.name, self.store).to_string();
                    self.add(worker, Some(leader), vec![leader], mark);
                }
            }
        }
    }

    fn add(
        &mut self,
        worker: WorkerId,
        leader: Option<ProcessId>,
        members: Vec<ProcessId>,
        mark: String,
    ) {
        let Some(first) = leader.or(members.first().copied()) else { return };
        let leaf = members.iter().find_map(|id| Leaf::adopt(self.procfs, id.pid, worker));
        let mut tree = Tree::new(self.procfs.clone(), self.orphans.clone(), first, mark, leaf);
        members.into_iter().for_each(|id| tree.know(id));
        let age = self.procfs.age(first).unwrap_or_default();
        self.finds.insert(worker, Remnant { leader, tree, age, kept: None });
    }

    /// For the core, with what became of their sockets.
    fn survivors(&mut self, past: Option<&Past>) -> Vec<Survivor> {
        let mut holds: BTreeMap<WorkerId, Hold> = BTreeMap::new();
        let mut youngest_first: Vec<_> = self.finds.iter_mut().collect();
        // Of two that share a socket the older one hangs.
        youngest_first.sort_by_key(|(worker, found)| (found.age, Reverse(**worker)));
        for (worker, found) in youngest_first {
            let hold = match (self.config.listen.mode, &self.listening) {
                (ListenMode::Port | ListenMode::None, _) => Hold::Kept,
                (ListenMode::Takeover | ListenMode::Inherit, None) => Hold::Refused,
                (ListenMode::Takeover | ListenMode::Inherit, Some(listening)) => {
                    let processes = found.tree.members();
                    self.plane.adopt(*worker, listening, self.procfs, &processes)
                }
            };
            holds.insert(*worker, hold);
        }
        let lost = self.plane.settle_adopted(self.listening.as_ref());
        holds.extend(lost.into_iter().map(|worker| (worker, Hold::Refused)));
        let survivor = |(worker, found): (&WorkerId, &Remnant)| {
            let trace = past.and_then(|past| past.workers.get(worker));
            let release = |leader: ProcessId| {
                let value = self.procfs.environment(leader.pid, "STANCH_RELEASE")?;
                String::from_utf8(value).ok()
            };
            Survivor {
                worker: *worker,
                pid: found.leader.map(|leader| leader.pid.as_raw()),
                start_ticks: found.leader.map(|leader| leader.start_time_ticks),
                release: if trace.is_none() { found.leader.and_then(release) } else { None },
                age: found.age,
                hold: holds.get(worker).copied().unwrap_or(Hold::Nothing),
                deaf: self.config.listen.mode == ListenMode::Takeover,
            }
        };
        self.finds.iter().map(survivor).collect()
    }
}

fn process(pid: i32, start_time_ticks: u64) -> ProcessId {
    ProcessId { pid: Pid::from_raw(pid), start_time_ticks }
}

fn tell_stranger(processes: &[(Stat, Mark)]) {
    if let Some((stat, mark)) = processes.first() {
        tracing::warn!(
            worker = %mark.worker,
            pid = %stat.id.pid,
            store = mark.store,
            "a worker of an application of this name lives whose supervisor is dead; it is another's \
             audit log, so it is left alone: start stanch with that [store] path to have it again, or \
             end it"
        );
    }
}
