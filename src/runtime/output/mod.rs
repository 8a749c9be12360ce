//! What goes to the supervisor's standard output and error: the workers' output, line by line and
//! tagged with the slot, and the supervisor's own log. The workers' output goes to a file or the journal
//! instead where the configuration says so, and elsewhere as soon as that says something else.
//!
//! Nothing here can grow or block for ever. Lines wait in one bounded queue for one writer thread. When
//! it is full (the terminal, the pipe or the disk behind it is slower than the workers) a reader waits
//! for a moment, which makes the worker wait; then it drops lines and counts them, and says how many as
//! soon as a line gets through again. A worker that prints more lines in a second than the flood limit
//! does not wait: the rest of that second is dropped and counted. A line longer than [`LINE_MAX`] is cut
//! into several.

mod file;
mod journal;
mod own;
mod writer;

use super::lock::lock;
use super::tail::TailWriter;
use crate::config::Log as LogConfig;
use crate::core::WorkerId;
use crate::linux::spawn;
pub use file::{open_aside, set_aside};
use jiff::Timestamp;
pub use own::trace;
use std::future::pending;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
pub use writer::Destination;
use writer::{Rules, Writer};

/// The longest line passed on whole, in bytes.
const LINE_MAX: usize = 16 * 1024;
/// Lines that wait for the writer; with [`LINE_MAX`] 8 MiB at most.
const QUEUE: usize = 512;
/// How long a worker waits for a slow reader before its lines are dropped.
const PATIENCE: Duration = Duration::from_millis(100);
/// A worker that falls silent after lines of it were dropped has that said after this long.
const SILENCE: Duration = Duration::from_secs(1);
/// How long the end of the supervisor waits for a slow reader.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    fn write(self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            Stream::Stderr => io::stderr().write_all(bytes),
        }
    }
}

/// Where a line comes from.
#[derive(Clone, Copy, Debug)]
struct Source {
    worker: WorkerId,
    stream: Stream,
}

enum Item {
    Line {
        at: Timestamp,
        source: Source,
        text: Vec<u8>,
    },
    Dropped {
        source: Source,
        lines: u64,
    },
    /// Of the supervisor's own log; with how many were dropped before.
    Log {
        text: Vec<u8>,
        dropped: u64,
    },
    /// The rules have changed.
    Orders,
    Flush(std::sync::mpsc::SyncSender<()>),
}

/// Where everybody puts their lines.
#[derive(Clone, Debug)]
pub struct Output {
    queue: mpsc::Sender<Item>,
    log_dropped: Arc<AtomicU64>,
    rules: Arc<Rules>,
    /// Those that read a worker's pipe, and what has them stop.
    relays: Arc<Mutex<Vec<JoinHandle<Option<Remainder>>>>>,
    halted: Arc<watch::Sender<bool>>,
}

/// A pipe that is not read any more, to be read on by somebody else.
#[derive(Debug)]
pub(super) struct Remainder {
    pub worker: WorkerId,
    pub stream: Stream,
    pub pipe: OwnedFd,
    /// The beginning of a line.
    pub text: Vec<u8>,
    /// Lines dropped and not told.
    pub dropped: u64,
}

impl Output {
    /// Starts the writer thread, which ends when the last clone is dropped.
    pub fn start(config: &LogConfig, destination: Destination) -> io::Result<Self> {
        let (queue, mut items) = mpsc::channel(QUEUE);
        let rules = Rules::of(config, destination);
        let mut writer = Writer::new(Arc::clone(&rules));
        std::thread::Builder::new().name("stanch-output".into()).spawn(move || {
            while let Some(item) = items.blocking_recv() {
                // There is nobody to tell when the standard error is gone.
                let _ = writer.write(item);
            }
        })?;
        Ok(Self {
            queue,
            log_dropped: Arc::default(),
            rules,
            relays: Arc::default(),
            halted: Arc::new(watch::Sender::new(false)),
        })
    }

    /// Has lines that come from now on written as this says.
    pub(super) fn follow(&self, config: &LogConfig, destination: Destination) {
        self.rules.set(config, destination);
        // So that a file is let go of though nobody prints. If there is no room, lines wait that do it.
        let _ = self.queue.try_send(Item::Orders);
    }

    /// Has the file of the workers' output opened anew, which somebody has moved away; false without
    /// one.
    pub(super) fn reopen(&self) -> bool {
        self.rules.reopen()
    }

    /// A writer for the supervisor's own log; never blocks, each `write` is one entry.
    pub fn log(&self) -> impl Write + use<> {
        Log(self.clone())
    }

    /// Waits until what was queued is written, for a second at most; blocks.
    pub fn flush(&self) {
        let (done, wait) = std::sync::mpsc::sync_channel(1);
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(LAST_PATIENCE);
        }
    }

    /// Passes on what a worker writes to one of its pipes, until the last writer has closed it.
    pub(super) fn attach(&self, worker: WorkerId, stream: Stream, pipe: OwnedFd, tail: TailWriter) {
        self.read_on(Remainder { worker, stream, pipe, text: Vec::new(), dropped: 0 }, tail);
    }

    /// The same, from where somebody else [stopped](Self::halt).
    pub(super) fn read_on(&self, remainder: Remainder, tail: TailWriter) {
        let Remainder { worker, stream, pipe, text, dropped } = remainder;
        let source = Source { worker, stream };
        let second = Second { begun: Instant::now(), lines: 0 };
        let waiting = spawn::waiting(&pipe);
        let (queue, rules) = (self.queue.clone(), Arc::clone(&self.rules));
        let halted = self.halted.subscribe();
        let relay = Relay { source, queue, rules, text, dropped, second, waiting, tail, halted };
        match pipe::Receiver::from_owned_fd(pipe) {
            Ok(pipe) => {
                let mut relays = self.relays();
                relays.retain(|relay| !relay.is_finished());
                relays.push(tokio::spawn(relay.run(pipe)));
            }
            Err(error) => tracing::warn!(%worker, %error, "cannot read the output of a worker"),
        }
    }

    /// Reads no more, and gives what is left of each pipe. What was read is written or in the queue.
    pub(super) async fn halt(&self) -> Vec<Remainder> {
        self.halted.send_replace(true);
        let relays = std::mem::take(&mut *self.relays());
        let mut remainders = Vec::new();
        for relay in relays {
            if let Ok(Ok(remainder)) = timeout(LAST_PATIENCE, relay).await {
                remainders.extend(remainder);
            }
        }
        // Whoever takes over may be this very program.
        self.halted.send_replace(false);
        remainders
    }

    fn relays(&self) -> MutexGuard<'_, Vec<JoinHandle<Option<Remainder>>>> {
        lock(&self.relays)
    }
}

struct Log(Output);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let dropped = self.0.log_dropped.swap(0, Ordering::Relaxed);
        if self.0.queue.try_send(Item::Log { text: text.to_vec(), dropped }).is_err() {
            self.0.log_dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes one pipe on.
struct Relay {
    source: Source,
    queue: mpsc::Sender<Item>,
    rules: Arc<Rules>,
    /// The beginning of a line.
    text: Vec<u8>,
    /// Lines dropped and not yet told.
    dropped: u64,
    second: Second,
    /// Bytes that were printed before anybody read, at whatever rate.
    waiting: usize,
    tail: TailWriter,
    halted: watch::Receiver<bool>,
}

/// How many lines have come within a second.
struct Second {
    begun: Instant,
    lines: u32,
}

impl Second {
    /// Counts a line; whether it is one too many. With a limit of 0 none is.
    fn is_over(&mut self, limit: u32) -> bool {
        let now = Instant::now();
        if now.duration_since(self.begun) >= Duration::from_secs(1) {
            (self.begun, self.lines) = (now, 0);
        }
        self.lines = self.lines.saturating_add(1);
        limit > 0 && self.lines > limit
    }
}

impl Relay {
    /// Until the end of the pipe, or until it is halted: then what is left.
    async fn run(mut self, pipe: pipe::Receiver) -> Option<Remainder> {
        // Two for each worker, for as long as it lives: an eighth of what a pipe holds.
        let mut pipe = BufReader::with_capacity(8 * 1024, pipe);
        let mut text = std::mem::take(&mut self.text);
        let mut cut = false;
        loop {
            let quiet = self.dropped == 0;
            let silence = async { if quiet { pending().await } else { sleep(SILENCE).await } };
            let halted = async { self.halted.wait_for(|halted| *halted).await.is_ok() };
            let all_read = pipe.buffer().is_empty();
            let filled = tokio::select! {
                biased;
                true = halted, if all_read => {
                    return self.remainder(pipe.into_inner(), text);
                }
                filled = pipe.fill_buf() => filled,
                () = silence => {
                    self.tell_dropped();
                    continue;
                }
            };
            // A pipe that cannot be read has ended.
            let buffer = filled.unwrap_or_default();
            let ended = buffer.is_empty();
            let room = LINE_MAX - text.len();
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(buffer.len(), |at| at + 1).min(room);
            text.extend_from_slice(&buffer[..taken]);
            pipe.consume(taken);
            let whole = text.last() == Some(&b'\n') || text.len() >= LINE_MAX;
            if whole || (ended && !text.is_empty()) {
                let complete = text.last() == Some(&b'\n');
                if complete {
                    text.pop();
                }
                // Of a line that was cut at its end nothing but that is left.
                let is_rest = std::mem::replace(&mut cut, !complete);
                if !(is_rest && text.is_empty()) {
                    self.pass_on(std::mem::take(&mut text)).await;
                }
            }
            self.waiting = self.waiting.saturating_sub(taken);
            if ended {
                break;
            }
        }
        if self.dropped > 0 {
            let last = Item::Dropped { source: self.source, lines: self.dropped };
            let _ = self.queue.send_timeout(last, PATIENCE).await;
        }
        None
    }

    fn remainder(&self, pipe: pipe::Receiver, text: Vec<u8>) -> Option<Remainder> {
        let Source { worker, stream } = self.source;
        let pipe = pipe.into_nonblocking_fd().ok()?;
        Some(Remainder { worker, stream, pipe, text, dropped: self.dropped })
    }

    async fn pass_on(&mut self, text: Vec<u8>) {
        self.tail.push(self.source.stream, &text);
        if self.waiting == 0 && self.second.is_over(self.rules.flood_limit()) {
            self.dropped += 1;
            return;
        }
        let line = Item::Line { at: Timestamp::now(), source: self.source, text };
        if self.dropped > 0 {
            // Once lines are being dropped, waiting for each would only slow the worker down.
            self.tell_dropped();
            if self.dropped > 0 || self.queue.try_send(line).is_err() {
                self.dropped += 1;
            }
            return;
        }
        if let Err(TrySendError::Full(line)) = self.queue.try_send(line)
            && self.queue.send_timeout(line, PATIENCE).await.is_err()
        {
            self.dropped = 1;
        }
    }

    fn tell_dropped(&mut self) {
        let item = Item::Dropped { source: self.source, lines: self.dropped };
        if self.queue.try_send(item).is_ok() {
            self.dropped = 0;
        }
    }
}
