//! Watches a worker that gets no new connections until it is gone, and closes its connections one by
//! one when the core says so.

use super::launch::Surroundings;
use super::lock::lock;
use super::message::Message;
use crate::core::words::chain;
use crate::core::{Event, Left, WorkerId};
use crate::linux::sockdiag;
use crate::linux::tree::Tree;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// From one look to the next, first and at most: a look walks the kernel's table of connections, and
/// the kernel tells nobody when a queue empties or a connection closes.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A look at a worker with thousands of connections takes milliseconds; the pause behind it is so many
/// times as long.
const PAUSE_TIMES: u32 = 10;

/// A handshake that was under way at the diversion has reached the queue after this long, or is not
/// worth waiting for (a lost SYN-ACK is sent again after 1 s).
const HANDSHAKE: Duration = Duration::from_millis(1200);

/// How a worker is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Connections may take their time.
    Patient,
    /// Each is closed as soon as it is answered.
    HangUp,
}

/// The drain of one worker, as the executor holds it.
#[derive(Debug)]
pub(super) struct Drain {
    manner: watch::Sender<Manner>,
    hung_up: Arc<Mutex<HashSet<u64>>>,
}

impl Drain {
    /// Begins to watch; ends with the worker's task.
    pub fn start(worker: WorkerId, tree: Arc<Mutex<Tree>>, surroundings: Surroundings) -> Self {
        let (manner, told) = watch::channel(Manner::Patient);
        let hung_up = Arc::default();
        let drainer = Drainer {
            worker,
            tree,
            surroundings,
            told,
            hung_up: Arc::clone(&hung_up),
            begun: Instant::now(),
        };
        tokio::spawn(drainer.run());
        Self { manner, hung_up }
    }

    /// Closes every connection that is answered, from now on.
    pub fn hang_up(&self) {
        self.manner.send_replace(Manner::HangUp);
    }

    /// The connections that were hung up.
    pub fn hung_up(&self) -> HashSet<u64> {
        lock(&self.hung_up).clone()
    }
}

struct Drainer {
    worker: WorkerId,
    tree: Arc<Mutex<Tree>>,
    surroundings: Surroundings,
    told: watch::Receiver<Manner>,
    hung_up: Arc<Mutex<HashSet<u64>>>,
    begun: Instant,
}

impl Drainer {
    async fn run(mut self) {
        let mut said = None;
        let mut pause = PAUSE;
        let mut shaken = false;
        loop {
            let manner = *self.told.borrow_and_update();
            let begun = Instant::now();
            match self.look(manner, &mut shaken) {
                Ok(left) if said != Some(left) => {
                    said = Some(left);
                    pause = PAUSE;
                    let event = Event::Draining { worker: self.worker, left };
                    let _ = self.surroundings.events.send(Message::Event(event)).await;
                }
                Ok(_) if manner == Manner::HangUp => pause = PAUSE,
                Ok(_) => pause = (pause * 2).min(PAUSE_MAX),
                // The core does not wait for ever.
                Err(error) => {
                    tracing::warn!(worker = %self.worker, %error, "cannot watch the drain");
                    return;
                }
            }
            // The sender is gone with the worker.
            let pause = pause.max(begun.elapsed() * PAUSE_TIMES);
            if let Ok(Err(_)) = timeout(pause, self.told.changed()).await {
                return;
            }
        }
    }

    fn look(&mut self, manner: Manner, shaken: &mut bool) -> io::Result<Left> {
        let addresses = self.surroundings.addresses_of(self.worker.slot);
        let mut queued = u64::from(self.waiting()?);
        if !*shaken {
            let mut handshakes = 0;
            for address in &addresses {
                handshakes += sockdiag::syn_recv(*address)?;
            }
            *shaken = handshakes == 0 || self.begun.elapsed() >= HANDSHAKE;
            queued += if *shaken { 0 } else { handshakes };
        }
        let mut tree = lock(&self.tree);
        let (orphaned, connections) = loop {
            let orphaned = tree.leader_has_ended();
            let connections = sockdiag::connections(&addresses, &tree.sockets())?;
            // Else it is neither a look at the worker nor one at what it left.
            if tree.leader_has_ended() == orphaned {
                break (orphaned, connections);
            }
        };
        if manner == Manner::HangUp {
            let answered = connections.iter().filter(|connection| connection.answered);
            let done = tree.hang_up(&answered.map(|connection| connection.inode).collect());
            lock(&self.hung_up).extend(done);
        }
        Ok(Left {
            queued,
            connections: connections.len() as u64,
            awaiting: connections.iter().filter(|connection| connection.awaits()).count() as u64,
            orphaned,
        })
    }

    /// Connections that the worker has not accepted.
    fn waiting(&self) -> io::Result<u32> {
        let plane = lock(&self.surroundings.plane);
        plane.waiting(self.worker).map_err(|error| io::Error::other(chain(&error)))
    }
}
