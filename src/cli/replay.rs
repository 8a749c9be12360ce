//! `stanch replay`: recorded memory traces through the leak detector, sample by sample, exactly as
//! the live supervisor would feed it.

mod trace;

use super::Failure;
use crate::core::Moment;
use crate::core::leak::{Detector, DetectorSettings, Dial, Judgement, Verdict};
use crate::core::units::{Bytes, Period};
use serde::Serialize;
use std::io::{BufRead, BufReader};
use std::time::Duration;
use trace::{Row, Trace, TraceError};

/// Times beyond this (2001, in Unix time) are dates, not ages.
const DATES_S: f64 = 1e9;

/// As `leak.warm_up` is where nothing is said.
const WARM_UP: Duration = Duration::from_secs(60);

/// Run the leak detector over recorded memory traces.
///
/// A trace is CSV with a header: t_s and a memory column (rss_anon_kib or rss_kib), and where known
/// rss_shmem_kib, vm_swap_kib, cpu_ticks, load_rps. Empty means unknown; t_s counts from the start of
/// the process (or is Unix time). `stanch incidents export --samples` writes one, with the limit_kib
/// and warm_up_s that it was judged by.
#[derive(clap::Args)]
pub struct Args {
    /// One JSON object a file
    #[arg(long)]
    json: bool,
    /// Memory limit that the forecast is held against, e.g. 512MiB; default: what the trace says
    #[arg(long, value_name = "SIZE", value_parser = size_kib)]
    limit: Option<u64>,
    /// Age up to which a worker is expected to grow; default: what the trace says, else 60s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warm_up: Option<Duration>,
    /// Exit with 1 if a leak is found
    #[arg(long)]
    fail_on_leak: bool,
    /// Trace files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

/// Runs `stanch replay`. A file that cannot be read is told at the end; the others are judged.
pub fn run(args: Args) -> Result<(), Failure> {
    let wishes = Wishes { limit_kib: args.limit, warm_up: args.warm_up };
    let (mut leak, mut faults) = (false, Vec::new());
    for file in &args.files {
        match open(file).and_then(|source| judge(file, source, wishes)) {
            Ok(report) => {
                leak |= report.verdict == Verdict::Leak.as_str();
                if args.json {
                    let line = serde_json::to_string(&report)
                        .map_err(|error| Failure::Fault(format!("no JSON for {file}: {error}")))?;
                    println!("{line}");
                } else {
                    println!("{}", report.line());
                }
            }
            Err(error) => faults.push(describe(&error)),
        }
    }
    if !faults.is_empty() {
        return Err(Failure::Usage(faults.join("\nstanch: ")));
    }
    if leak && args.fail_on_leak { Err(Failure::No) } else { Ok(()) }
}

/// The error and what is behind it, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn open(file: &str) -> Result<Box<dyn BufRead>, TraceError> {
    if file == "-" {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    match std::fs::File::open(file) {
        Ok(source) => Ok(Box::new(BufReader::new(source))),
        Err(source) => Err(TraceError::Open { file: file.to_owned(), source }),
    }
}

/// What the command line says; the trace itself may know what it leaves open.
#[derive(Clone, Copy, Default)]
struct Wishes {
    limit_kib: Option<u64>,
    warm_up: Option<Duration>,
}

/// What is said of a file; the keys of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    verdict: &'static str,
    /// When the live supervisor would have confirmed it.
    detected_at_s: Option<f64>,
    /// As of then.
    slope_kib_s: Option<f64>,
    eta_s: Option<f64>,
    kind: Option<&'static str>,
    reason: String,
}

impl Report {
    fn line(&self) -> String {
        let at = self.detected_at_s.map(|at| format!(" at t+{at:.0}s")).unwrap_or_default();
        let kind = self.kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        format!("{}: {}{kind}{at}: {}", self.file, self.verdict, self.reason)
    }
}

/// Feeds a whole trace. The first confirmation counts; a later change of mind does not undo it.
fn judge(file: &str, source: impl BufRead, wishes: Wishes) -> Result<Report, TraceError> {
    let mut trace = Trace::open(file, source)?;
    let mut detector = None;
    let mut first_leak: Option<Judgement> = None;
    while let Some(Row { t_s, sample, limit_kib, warm_up }) = trace.next()? {
        let at = Moment(Duration::try_from_secs_f64(t_s).unwrap_or(Duration::MAX));
        let detector = detector.get_or_insert_with(|| {
            let born = if t_s < DATES_S { Moment::default() } else { at };
            let warm_up = wishes.warm_up.or(warm_up).unwrap_or(WARM_UP);
            Detector::new(DetectorSettings { limit_kib: wishes.limit_kib, warm_up }, born)
        });
        if wishes.limit_kib.is_none() && limit_kib.is_some() {
            detector.set_limit(limit_kib);
        }
        detector.observe(at, &sample);
        let judgement = detector.judgement();
        if first_leak.is_none() && judgement.verdict == Verdict::Leak {
            first_leak = Some(*judgement);
        }
    }
    let last = detector.as_ref().map(|detector| *detector.judgement());
    let mut report = Report {
        file: file.to_owned(),
        verdict: Verdict::Unjudged.as_str(),
        detected_at_s: None,
        slope_kib_s: None,
        eta_s: None,
        kind: None,
        reason: "no samples".to_owned(),
    };
    if let Some(judgement) = first_leak.or(last) {
        report.reason = judgement.reason(Dial::Trace);
        report.slope_kib_s = judgement.slope_per_s;
        report.eta_s = judgement.eta.map(|eta| eta.as_secs_f64());
        report.kind = judgement.kind.map(|kind| kind.as_str());
        match judgement.verdict {
            Verdict::Leak => {
                report.verdict = Verdict::Leak.as_str();
                report.detected_at_s = Some(judgement.at.as_secs_f64());
            }
            Verdict::Healthy => report.verdict = Verdict::Healthy.as_str(),
            // The trace ended before the suspicion was decided.
            Verdict::Suspect => report.reason.insert_str(0, "undecided at the end: "),
            Verdict::Unjudged => {}
        }
    }
    if trace.went_back > 0 {
        report.reason.push_str(&format!(" (time went back {} times)", trace.went_back));
    }
    if trace.without_memory > 0 {
        report.reason.push_str(&format!(" ({} rows without memory)", trace.without_memory));
    }
    Ok(report)
}

fn size_kib(text: &str) -> Result<u64, String> {
    match text.parse::<Bytes>().map(Bytes::kib) {
        Ok(0) => Err(format!("{text} is less than 1KiB")),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<Period>().map(|period| period.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
