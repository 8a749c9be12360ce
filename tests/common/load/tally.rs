//! What became of the requests.

use std::time::{Duration, Instant};

/// How many failures are kept word for word.
const ERRORS_KEPT: usize = 32;
/// A bucket is at most 1/64 of its values wide.
const PRECISION_BITS: u32 = 6;
const SUB_BUCKETS: usize = 1 << PRECISION_BITS;

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listened.
    Refused,
    /// The connection ended before the first byte of the answer.
    Reset,
    /// The connection ended within the answer.
    Partial,
    /// A whole answer with another status than 2xx.
    Status,
    /// No whole answer in time.
    Timeout,
    /// Anything else: no HTTP, or no connection for a reason on the client's side.
    Other,
}

/// Counts of requests that have ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered well.
    pub ok: u64,
    pub refused: u64,
    pub reset: u64,
    pub partial: u64,
    pub bad_status: u64,
    pub timeout: u64,
    pub other: u64,
    /// Sent again because a reused connection had been closed; not a failure.
    pub retried: u64,
    /// Of the requests answered well.
    pub latency: Histogram,
    /// When the last one was answered well.
    pub last_answer: Option<Instant>,
    /// The first few failures, in words.
    pub errors: Vec<String>,
}

impl Tally {
    /// All that was not answered well.
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.partial + self.bad_status + self.timeout + self.other
    }

    /// A request that was due at this moment has been answered well.
    pub fn answered(&mut self, due: Instant) {
        let now = Instant::now();
        self.ok += 1;
        self.latency.record(now.duration_since(due));
        self.last_answer = Some(now);
    }

    /// A request failed; the details say where, and with which error.
    pub fn fail(&mut self, failure: Failure, details: &str) {
        *match failure {
            Failure::Refused => &mut self.refused,
            Failure::Reset => &mut self.reset,
            Failure::Partial => &mut self.partial,
            Failure::Status => &mut self.bad_status,
            Failure::Timeout => &mut self.timeout,
            Failure::Other => &mut self.other,
        } += 1;
        if self.errors.len() < ERRORS_KEPT {
            // The wall clock, to be laid beside the log of a supervisor.
            let now = jiff::Timestamp::now();
            self.errors.push(format!("{now:.3} {failure:?} {details}"));
        }
    }
}

/// Durations in microseconds, in buckets whose width grows with their value.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    max: u64,
}

impl Histogram {
    /// Adds one.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.max = self.max.max(micros);
    }

    /// The value in microseconds that this fraction of the durations does not exceed, rounded up to
    /// the end of its bucket; none of nothing.
    pub fn quantile(&self, fraction: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().sum();
        let rank = (fraction * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(bucket_end(bucket).min(self.max))
    }

    /// The longest, in microseconds.
    pub fn max(&self) -> u64 {
        self.max
    }
}

/// Below 128 each value has a bucket of its own; then each power of two has 64.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION_BITS + 1);
    shift as usize * SUB_BUCKETS + (value >> shift) as usize
}

/// The largest value in a bucket.
fn bucket_end(bucket: usize) -> u64 {
    let shift = (bucket / SUB_BUCKETS).saturating_sub(1);
    ((bucket - shift * SUB_BUCKETS) as u64 + 1).saturating_mul(1 << shift) - 1
}
