//! The last lines that a worker printed, for the evidence: a few, in memory, as long as it lives.

use super::lock::lock;
use super::output::Stream;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// All lines together, whatever their number: 16 workers take a quarter of a megabyte at most.
const BYTES_MAX: usize = 16 * 1024;
/// Of a longer line the beginning is kept.
const LINE_MAX: usize = 2 * 1024;

/// The last lines of one worker.
#[derive(Debug)]
pub(super) struct Tail {
    lines_max: usize,
    lines: Mutex<Lines>,
    /// Pipes that are still read.
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<(Stream, Box<[u8]>)>,
    bytes: usize,
}

/// As long as one lives, lines may come.
#[derive(Debug)]
pub(super) struct TailWriter(Arc<Tail>);

impl Tail {
    /// Keeps so many lines, of both streams together.
    pub fn new(lines_max: u32) -> Arc<Self> {
        let (open, _) = watch::channel(0);
        Arc::new(Self { lines_max: lines_max as usize, lines: Mutex::default(), open })
    }

    /// For the reader of a pipe.
    pub fn writer(self: &Arc<Self>) -> TailWriter {
        self.open.send_modify(|open| *open += 1);
        TailWriter(Arc::clone(self))
    }

    /// Waits until all pipes are read to their end; a child that nobody killed may keep one open.
    pub async fn ended(&self, at_most: Duration) {
        let mut open = self.open.subscribe();
        let _ = timeout(at_most, open.wait_for(|open| *open == 0)).await;
    }

    /// The lines, one a line with the name of the stream before it.
    pub fn text(&self) -> Vec<u8> {
        let lines = self.lock();
        let mut text = Vec::with_capacity(lines.bytes + 8 * lines.kept.len());
        for (stream, line) in &lines.kept {
            text.extend_from_slice(stream.as_str().as_bytes());
            text.extend_from_slice(b" ");
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        lock(&self.lines)
    }
}

impl TailWriter {
    /// Notes a line.
    pub fn push(&self, stream: Stream, line: &[u8]) {
        if self.0.lines_max == 0 {
            return;
        }
        let line = &line[..line.len().min(LINE_MAX)];
        let mut lines = self.0.lock();
        lines.bytes += line.len();
        lines.kept.push_back((stream, line.into()));
        while lines.kept.len() > self.0.lines_max || lines.bytes > BYTES_MAX {
            let Some((_, gone)) = lines.kept.pop_front() else { break };
            lines.bytes -= gone.len();
        }
    }
}

impl Drop for TailWriter {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_bounds() {
        let tail = Tail::new(3);
        let writer = tail.writer();
        for line in ["one", "two", "three", "four"] {
            writer.push(Stream::Stderr, line.as_bytes());
        }
        assert_eq!(tail.text(), b"stderr two\nstderr three\nstderr four\n");
        let tail = Tail::new(10_000);
        let writer = tail.writer();
        for _ in 0..100 {
            writer.push(Stream::Stdout, &[b'x'; 10_000]);
        }
        assert!(tail.text().len() <= BYTES_MAX + 100, "{}", tail.text().len());
        let none = Tail::new(0);
        none.writer().push(Stream::Stdout, b"secret");
        assert!(none.text().is_empty());
    }

    #[tokio::test]
    async fn the_end_of_all_pipes_is_waited_for() {
        let tail = Tail::new(1);
        let writers = [tail.writer(), tail.writer()];
        let begun = std::time::Instant::now();
        tail.ended(Duration::from_millis(20)).await;
        assert!(begun.elapsed() >= Duration::from_millis(20), "two are open");
        drop(writers);
        tail.ended(Duration::from_secs(60)).await;
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
