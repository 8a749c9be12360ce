//! Workers that another supervisor has started: those of one that died, and those that one left to this
//! program. Watched over from the outside where they are no children.

use super::evidence::Baseline;
use super::executor::{Executor, without_limit};
use super::launch::Surroundings;
use super::message::Message;
use super::output::{Remainder, Stream};
use super::prober::Prober;
use super::recovery::{Kept, Remnant};
use super::roster::Live;
use super::tail::Tail;
use crate::config::ReadyWhen;
use crate::core::{Event, ExitStatus, WorkerId};
use crate::linux::pidfd::End;
use crate::linux::plane::Calls;
use crate::linux::procfs::ProcessId;
use crate::linux::spawn;
use jiff::Timestamp;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::AbortHandle;

impl Executor {
    /// Watches over what lives of a worker that another supervisor has started.
    pub fn adopt(&mut self, worker: WorkerId, verified: bool, stale: bool) -> Vec<Event> {
        let Some(Remnant { leader, tree, age, kept }) = self.finds.remove(&worker) else {
            return Vec::new();
        };
        let mut life = self.life(worker);
        let (child, pipes) = match kept {
            Some(Kept { life_started, child, pipes }) => {
                life.started = life_started;
                (child, pipes)
            }
            None => {
                life.started = Timestamp::now().checked_sub(age).unwrap_or(life.started);
                (false, Vec::new())
            }
        };
        let now = Instant::now();
        let group = |leader: ProcessId| {
            let group = self.limits.adopt(&self.procfs, leader.pid, worker);
            group.unwrap_or_else(|error| without_limit(worker, &error))
        };
        let memory = leader.and_then(group);
        let mut tasks = Vec::new();
        tasks.extend(memory.as_ref().and_then(|memory| self.watch_oom(worker, memory)));
        let tail = Tail::new(self.surroundings.config.evidence.log_lines);
        if let Some(leader) = leader {
            self.read_output(worker, leader, pipes, &tail);
            tasks.push(self.probe_adopted(worker, verified, stale));
            match child {
                // Whose end the reaper tells.
                true => self.answer_again(worker),
                false => tasks.push(self.await_end(worker, leader)),
            }
        }
        // Without a leader its end is nothing new.
        let exit = leader.is_none().then_some(ExitStatus::Unknown);
        let tree = Arc::new(Mutex::new(tree));
        if child {
            self.surroundings.notices.listen_to(worker, Arc::clone(&tree));
        }
        let live = Live {
            pid: leader.map_or(0, |leader| leader.pid.as_raw()),
            start_ticks: leader.map_or(0, |leader| leader.start_time_ticks),
            tree,
            life: Arc::new(life),
            stop_signal: self.surroundings.config.app.stop_signal,
            started: now.checked_sub(age).unwrap_or(now),
            memory,
            tasks,
            tail,
            baseline: Baseline::default(),
            last_look: Baseline::default(),
            adopted: !child,
            launching: false,
            exit_told: exit.is_some(),
            exit,
            stragglers: 0,
            drain: None,
            connections_cut: None,
        };
        self.roster.add(worker, live);
        if leader.is_some() { self.observe(worker) } else { Vec::new() }
    }

    /// Reads on what an adopted worker writes: from the pipes that were handed over, or else anew.
    fn read_output(
        &self,
        worker: WorkerId,
        leader: ProcessId,
        pipes: Vec<Remainder>,
        tail: &Arc<Tail>,
    ) {
        let output = &self.surroundings.output;
        for (number, stream) in [(1, Stream::Stdout), (2, Stream::Stderr)] {
            if pipes.iter().any(|pipe| pipe.stream == stream) {
                continue;
            }
            if let Some(pipe) = spawn::reopen(&self.procfs, leader, number) {
                output.attach(worker, stream, pipe, tail.writer());
            }
        }
        pipes.into_iter().for_each(|pipe| output.read_on(pipe, tail.writer()));
    }

    fn probe_adopted(&self, worker: WorkerId, verified: bool, stale: bool) -> AbortHandle {
        let Surroundings { config, news, plane, events, notices, .. } = &self.surroundings;
        let mut config = Arc::clone(config);
        if stale {
            // By which path it says that it is well is not known: that it accepts has to do.
            let config = Arc::make_mut(&mut config);
            config.health.path = None;
            if config.ready.when == ReadyWhen::Http {
                config.ready.when = ReadyWhen::Listen;
            }
        }
        let prober = Prober {
            worker,
            config,
            news: news.clone(),
            plane: Arc::clone(plane),
            notices: notices.clone(),
            reached: false,
            bound: watch::channel(true).1,
            events: events.clone(),
        };
        let probes =
            async move { if verified { prober.watch().await } else { prober.run().await } };
        tokio::spawn(probes).abort_handle()
    }

    /// Goes on answering the calls of a worker, if it has the filter.
    fn answer_again(&self, worker: WorkerId) {
        match Calls::again(worker, &self.surroundings.plane) {
            Ok(Some(calls)) => {
                let (surroundings, said) = (self.surroundings.clone(), watch::channel(true).0);
                tokio::spawn(async move { surroundings.answer(worker, calls, said).await });
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%worker, %error, "cannot wait for the worker's calls"),
        }
    }

    /// Waits for the end of one that is no child.
    fn await_end(&self, worker: WorkerId, leader: ProcessId) -> AbortHandle {
        let (events, end) = (self.surroundings.events.clone(), End::of(&self.procfs, leader));
        let waits = tokio::spawn(async move {
            match end {
                Ok(Some(end)) => end.wait().await,
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%worker, %error, "its end cannot be waited for");
                    return;
                }
            }
            let _ = events.send(Message::Ended { worker }).await;
        });
        waits.abort_handle()
    }

    /// The leader of an adopted worker has ended.
    pub fn ended(&mut self, worker: WorkerId) -> Vec<Event> {
        if let Some(live) = self.roster.get_mut(worker) {
            live.exit.get_or_insert(ExitStatus::Unknown);
        }
        self.look()
    }
}
