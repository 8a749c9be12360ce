//! What the workers say of themselves (`sd_notify(3)`), to one socket of the supervisor.
//!
//! A datagram counts for the worker whose tree its sender belongs to, by the credentials that the kernel
//! attests; those of strangers are counted and dropped, and never reach the engine. `MAINPID=` changes
//! nothing: a worker is its whole tree, and ends with the leader that stanch started.

use super::lock::lock;
use super::message::Message;
use crate::core::{Event, WorkerId};
use crate::linux::notify::{Inbox, Letter, Notice};
use crate::linux::procfs::{Procfs, Stat};
use crate::linux::tree::{Tree, lineage};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// So many datagrams are taken at once; then there is a pause, so that a flood keeps nobody busy. Who
/// sends more waits: the kernel's queue is short.
const BURST: usize = 32;
const PAUSE: Duration = Duration::from_millis(10);

/// Who may speak, and what they said of being ready. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    inbox: Arc<Inbox>,
    /// Held while one is being listened to.
    turn: Arc<tokio::sync::Mutex<()>>,
    speakers: Arc<Mutex<BTreeMap<WorkerId, Speaker>>>,
}

#[derive(Clone, Debug)]
struct Speaker {
    tree: Arc<Mutex<Tree>>,
    ready: watch::Sender<bool>,
}

impl Speaker {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }
}

impl Notices {
    /// Opens the socket, unless it was `inherited`, and listens to it.
    pub fn start(
        inherited: Option<OwnedFd>,
        procfs: Procfs,
        events: mpsc::Sender<Message>,
    ) -> io::Result<Self> {
        let inbox = Arc::new(inherited.map_or_else(Inbox::open, Inbox::again)?);
        let readable = Arc::clone(&inbox).registered()?;
        let notices = Self { inbox, turn: Arc::default(), speakers: Arc::default() };
        tokio::spawn(notices.clone().listen(readable, procfs, events));
        Ok(notices)
    }

    /// The socket.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Listens to nobody as long as the guard lives; `None` while somebody is being listened to.
    pub fn pause(&self) -> Option<impl Sized + use<>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// What `NOTIFY_SOCKET` of a worker shall be.
    pub fn address(&self) -> &OsStr {
        self.inbox.address()
    }

    /// Listens to the processes of this tree from now on.
    pub fn listen_to(&self, worker: WorkerId, tree: Arc<Mutex<Tree>>) {
        let (ready, _) = watch::channel(false);
        self.speakers().insert(worker, Speaker { tree, ready });
    }

    /// No more.
    pub fn forget(&self, worker: WorkerId) {
        self.speakers().remove(&worker);
    }

    /// Waits until the worker says that it is ready; whether it did before it was forgotten. One that
    /// was adopted is never heard.
    pub async fn said_ready(&self, worker: WorkerId) -> bool {
        let ready = self.speakers().get(&worker).map(|speaker| speaker.ready.subscribe());
        match ready {
            Some(mut ready) => ready.wait_for(|ready| *ready).await.is_ok(),
            None => false,
        }
    }

    async fn listen(
        self,
        inbox: AsyncFd<Arc<Inbox>>,
        procfs: Procfs,
        events: mpsc::Sender<Message>,
    ) {
        let mut strangers: u64 = 0;
        loop {
            let Ok(mut readable) = inbox.readable().await else { return };
            let mut idle = false;
            for _ in 0..BURST {
                // To the end: what is taken out of the queue reaches the engine.
                let _turn = self.turn.lock().await;
                let letter = match inbox.get_ref().peek() {
                    Ok(Some(letter)) => letter,
                    Ok(None) => {
                        readable.clear_ready();
                        idle = true;
                        break;
                    }
                    Err(errno) => {
                        tracing::error!(error = errno.desc(), "cannot read notifications");
                        break;
                    }
                };
                let worker = self.take_in(&procfs, &letter);
                // Its sender may wait for that, and be gone then.
                if let Err(errno) = inbox.get_ref().discard() {
                    tracing::error!(error = errno.desc(), "cannot read notifications");
                }
                let Some(worker) = worker else {
                    strangers += 1;
                    if strangers.is_power_of_two() {
                        let pid = letter.sender.map(|pid| pid.as_raw());
                        tracing::warn!(
                            pid,
                            strangers,
                            "dropped a notification of no worker's process"
                        );
                    }
                    continue;
                };
                for event in events_of(worker, letter.notice) {
                    let _ = events.send(event.into()).await;
                }
            }
            if !idle {
                sleep(PAUSE).await;
            }
        }
    }

    /// Whose word it is.
    fn take_in(&self, procfs: &Procfs, letter: &Letter) -> Option<WorkerId> {
        let line = lineage(procfs, letter.sender?);
        let (worker, speaker) = self.speaker(&line)?;
        if letter.notice.ready {
            speaker.ready.send_replace(true);
        }
        if let Some(pid) = letter.notice.main_pid {
            if speaker.tree().finds(&lineage(procfs, pid)) {
                tracing::debug!(%worker, %pid, "MAINPID is not followed: the leader stays the leader");
            } else {
                tracing::warn!(%worker, %pid, "MAINPID refused: it is no process of the worker");
            }
        }
        Some(worker)
    }

    fn speaker(&self, line: &[Stat]) -> Option<(WorkerId, Speaker)> {
        let speakers: Vec<_> =
            self.speakers().iter().map(|(worker, speaker)| (*worker, speaker.clone())).collect();
        let known = speakers.iter().find(|(_, speaker)| speaker.tree().knows(line));
        if let Some(known) = known {
            return Some(known.clone());
        }
        // A descendant of the supervisor that no tree knows may be an orphan of one.
        let own = nix::unistd::getpid();
        if line.last().is_none_or(|eldest| eldest.parent != own) {
            return None;
        }
        speakers.into_iter().find(|(_, speaker)| speaker.tree().finds(line))
    }

    fn speakers(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Speaker>> {
        lock(&self.speakers)
    }
}

fn events_of(worker: WorkerId, notice: Notice) -> impl Iterator<Item = Event> {
    let Notice { ping, status, stopping, .. } = notice;
    let ping = ping.then_some(Event::Pinged { worker });
    let status = status.map(|status| Event::Described { worker, status });
    let stopping = stopping.then_some(Event::Leaving { worker });
    [ping, status, stopping].into_iter().flatten()
}
