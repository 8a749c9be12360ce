//! The workers' output: read line by line, tagged with the slot, passed on to the supervisor's own
//! standard output and error.
//!
//! Nothing here can grow or block for ever. Lines wait in one bounded queue for one writer thread. When
//! it is full (the terminal, the pipe or the disk behind it is slower than the workers) a reader waits
//! for a moment, which makes the worker wait; then it drops lines and counts them, and says how many
//! before the next line that gets through. A line longer than [`LINE_MAX`] is cut into several.

use crate::config::LogFormat;
use crate::core::WorkerId;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// The longest line passed on whole, in bytes.
const LINE_MAX: usize = 16 * 1024;
/// Lines that wait for the writer; with [`LINE_MAX`] 8 MiB at most.
const QUEUE: usize = 512;
/// How long a worker waits for a slow reader before its lines are dropped.
const PATIENCE: Duration = Duration::from_millis(100);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

struct Line {
    worker: WorkerId,
    stream: Stream,
    text: Vec<u8>,
    dropped_before: u64,
}

/// Where the readers put their lines.
#[derive(Clone, Debug)]
pub(super) struct Output {
    lines: mpsc::Sender<Line>,
}

impl Output {
    /// Starts the writer thread, which ends when the last clone is dropped.
    pub fn start(format: LogFormat) -> std::io::Result<Self> {
        let (lines, mut queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("stanch-output".into()).spawn(move || {
            while let Some(line) = queue.blocking_recv() {
                write(&line, format);
            }
        })?;
        Ok(Self { lines })
    }

    /// Passes on what a worker writes to one of its pipes, until the last writer has closed it.
    pub fn attach(&self, worker: WorkerId, stream: Stream, pipe: OwnedFd) {
        let lines = self.lines.clone();
        match pipe::Receiver::from_owned_fd(pipe) {
            Ok(pipe) => drop(tokio::spawn(pass_on(worker, stream, pipe, lines))),
            Err(error) => tracing::warn!(%worker, %error, "cannot read the output of a worker"),
        }
    }
}

async fn pass_on(
    worker: WorkerId,
    stream: Stream,
    pipe: pipe::Receiver,
    lines: mpsc::Sender<Line>,
) {
    let mut pipe = BufReader::with_capacity(64 * 1024, pipe);
    let mut text = Vec::new();
    let mut dropped = 0;
    loop {
        let (taken, ended) = match pipe.fill_buf().await {
            Ok([]) => (0, true),
            Ok(buffer) => {
                let room = LINE_MAX - text.len();
                let newline = buffer.iter().position(|byte| *byte == b'\n');
                let taken = newline.map_or(buffer.len(), |at| at + 1).min(room);
                text.extend_from_slice(&buffer[..taken]);
                (taken, false)
            }
            Err(_) => (0, true),
        };
        pipe.consume(taken);
        let whole = text.last() == Some(&b'\n') || text.len() >= LINE_MAX;
        if whole || (ended && !text.is_empty()) {
            if text.last() == Some(&b'\n') {
                text.pop();
            }
            let line =
                Line { worker, stream, text: std::mem::take(&mut text), dropped_before: dropped };
            dropped = send(&lines, line, dropped).await;
        }
        if ended {
            break;
        }
    }
    if dropped > 0 {
        let last = Line { worker, stream, text: b"(end)".to_vec(), dropped_before: dropped };
        let _ = lines.send_timeout(last, PATIENCE).await;
    }
}

/// Queues a line; gives the number of lines dropped since the last that got through.
async fn send(lines: &mpsc::Sender<Line>, line: Line, dropped: u64) -> u64 {
    match lines.try_send(line) {
        Ok(()) => 0,
        // Once lines are being dropped, waiting for each would only slow the worker down.
        Err(TrySendError::Full(line)) if dropped == 0 => {
            if lines.send_timeout(line, PATIENCE).await.is_ok() { 0 } else { 1 }
        }
        Err(TrySendError::Full(_) | TrySendError::Closed(_)) => dropped + 1,
    }
}

/// Errors are passed over: there is nobody to tell when the standard error is gone.
fn write(line: &Line, format: LogFormat) {
    let text = String::from_utf8_lossy(&line.text);
    let mut out = String::with_capacity(text.len() + 64);
    if line.dropped_before > 0 {
        let note = format!("stanch: {} lines dropped", line.dropped_before);
        render(&mut out, line, &note, format);
    }
    render(&mut out, line, &text, format);
    let _ = match line.stream {
        Stream::Stdout => std::io::stdout().lock().write_all(out.as_bytes()),
        Stream::Stderr => std::io::stderr().lock().write_all(out.as_bytes()),
    };
    let _ = std::io::stdout().flush();
}

fn render(out: &mut String, line: &Line, text: &str, format: LogFormat) {
    use std::fmt::Write;
    let worker = line.worker;
    // Writing to a string cannot fail.
    let _ = match format {
        LogFormat::Human => writeln!(out, "[{}] {text}", worker.slot),
        LogFormat::Json => {
            let object = serde_json::json!({
                "slot": worker.slot,
                "generation": worker.generation,
                "stream": line.stream.as_str(),
                "line": text,
            });
            writeln!(out, "{object}")
        }
    };
}
