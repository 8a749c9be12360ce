//! `stanch replay`: recorded memory traces through the leak detector, sample by sample, exactly as
//! the live supervisor would feed it.

mod plot;

use super::Failure;
use super::output::{Stop, print};
use super::trace::{Row, Trace, TraceError};
use crate::core::Moment;
use crate::core::leak::{Detector, DetectorSettings, Dial, Judgement, Verdict};
use crate::core::units::{Bytes, Period};
use crate::core::words::chain;
use serde::Serialize;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Tell each change of the verdict with its reason
    #[arg(long)]
    explain: bool,
    /// Draw series, floors, trend, limit and verdicts; of several files FILE-NAME.svg for each
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
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
    let plots = plots(&args)?;
    let (mut leak, mut faults) = (false, Vec::new());
    for (file, plot) in args.files.iter().zip(plots) {
        let seen = match open(file).and_then(|source| watch(file, source, wishes)) {
            Ok(seen) => seen,
            Err(error) => {
                faults.push(chain(&error));
                continue;
            }
        };
        let report = Report::of(file, &seen);
        leak |= report.verdict == Verdict::Leak.as_str();
        if args.json {
            let changes = || seen.changes.iter().map(Change::told).collect();
            let told = Told { report: &report, changes: args.explain.then(changes) };
            let line = serde_json::to_string(&told)
                .map_err(|error| Failure::Fault(format!("no JSON for {file}: {error}")))?;
            print(|out| Ok(writeln!(out, "{line}")?))?;
        } else {
            print(|out| {
                writeln!(out, "{}", report.line())?;
                let changes = if args.explain { &*seen.changes } else { &[] };
                changes.iter().try_for_each(|change| explain(out, change))
            })?;
        }
        if let Some(path) = plot {
            std::fs::write(&path, plot::draw(&report.title(), &report.reason, &seen)).map_err(
                |error| Failure::Usage(format!("cannot write {}: {error}", path.display())),
            )?;
        }
    }
    if !faults.is_empty() {
        return Err(Failure::Usage(faults.join("\nstanch: ")));
    }
    if leak && args.fail_on_leak { Err(Failure::No) } else { Ok(()) }
}

/// Where the picture of each file goes.
fn plots(args: &Args) -> Result<Vec<Option<PathBuf>>, Failure> {
    let Some(path) = &args.plot else { return Ok(vec![None; args.files.len()]) };
    if args.files.len() == 1 {
        return Ok(vec![Some(path.clone())]);
    }
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let base = stem(path).unwrap_or_default();
    let mut seen: Vec<Option<PathBuf>> = Vec::new();
    for file in &args.files {
        let name = if file == "-" { Some("stdin".to_owned()) } else { stem(Path::new(file)) };
        let name = format!("{base}-{}.svg", name.unwrap_or_default());
        let plot = Some(path.with_file_name(&name));
        if seen.contains(&plot) {
            return Err(Failure::Usage(format!(
                "two of the files would be drawn in {name}; draw them one by one"
            )));
        }
        seen.push(plot);
    }
    Ok(seen)
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
    fn of(file: &str, seen: &Seen) -> Self {
        let mut report = Report {
            file: file.to_owned(),
            verdict: Verdict::Unjudged.as_str(),
            detected_at_s: None,
            slope_kib_s: None,
            eta_s: None,
            kind: None,
            reason: "no samples".to_owned(),
        };
        if let Some(judgement) = seen.first_leak.or(seen.last) {
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
        if seen.went_back > 0 {
            report.reason.push_str(&format!(" (time went back {} times)", seen.went_back));
        }
        if seen.without_memory > 0 {
            report.reason.push_str(&format!(" ({} rows without memory)", seen.without_memory));
        }
        report
    }

    fn line(&self) -> String {
        format!("{}: {}", self.title(), self.reason)
    }

    fn title(&self) -> String {
        let at = self.detected_at_s.map(|at| format!(" at t+{at:.0}s")).unwrap_or_default();
        let kind = self.kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
        format!("{}: {}{kind}{at}", self.file, self.verdict)
    }
}

/// What `--json` prints, with the changes where `--explain` wants them.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<ToldChange>>,
}

#[derive(Serialize)]
struct ToldChange {
    t_s: f64,
    from: &'static str,
    to: &'static str,
    slope_kib_s: Option<f64>,
    slope_low_kib_s: Option<f64>,
    slope_high_kib_s: Option<f64>,
    eta_s: Option<f64>,
    confidence: f64,
    reason: String,
}

/// What came of a trace.
#[derive(Default)]
struct Seen {
    /// Seconds and KiB.
    points: Vec<(f64, f64)>,
    limit_kib: Option<u64>,
    changes: Vec<Change>,
    /// The first confirmation counts; a later change of mind does not undo it.
    first_leak: Option<Judgement>,
    last: Option<Judgement>,
    went_back: u64,
    without_memory: u64,
}

/// A change of the verdict.
struct Change {
    at_s: f64,
    from: Verdict,
    judgement: Judgement,
}

impl Change {
    fn told(&self) -> ToldChange {
        let Change { at_s, from, judgement } = self;
        ToldChange {
            t_s: *at_s,
            from: from.as_str(),
            to: judgement.verdict.as_str(),
            slope_kib_s: judgement.slope_per_s,
            slope_low_kib_s: judgement.slope_low_per_s,
            slope_high_kib_s: judgement.slope_high_per_s,
            eta_s: judgement.eta.map(|eta| eta.as_secs_f64()),
            confidence: judgement.confidence,
            reason: judgement.reason(Dial::Trace),
        }
    }
}

fn explain(out: &mut dyn Write, change: &Change) -> Result<(), Stop> {
    let Change { at_s, from, judgement } = change;
    let at = format!("t+{at_s:.0}s");
    let (from, to) = (from.as_str(), judgement.verdict.as_str());
    let reason = judgement.reason(Dial::Trace);
    write!(out, "  {at:>10}  {from} → {to}: {reason}; confidence {:.2}", judgement.confidence)?;
    if let (Some(low), Some(high)) = (judgement.eta_low, judgement.eta_high) {
        write!(out, ", limit in {:.0} to {:.0} s", low.as_secs_f64(), high.as_secs_f64())?;
    }
    Ok(writeln!(out)?)
}

/// Feeds a whole trace.
fn watch(file: &str, source: impl BufRead, wishes: Wishes) -> Result<Seen, TraceError> {
    let mut trace = Trace::open(file, source)?;
    let mut detector = None;
    let mut seen = Seen { limit_kib: wishes.limit_kib, ..Seen::default() };
    while let Some(Row { t_s, sample, limit_kib, warm_up }) = trace.next()? {
        let at = Moment(Duration::try_from_secs_f64(t_s).unwrap_or(Duration::MAX));
        let detector = detector.get_or_insert_with(|| {
            let born = if t_s < DATES_S { Moment::default() } else { at };
            let warm_up = wishes.warm_up.or(warm_up).unwrap_or(WARM_UP);
            Detector::new(DetectorSettings { limit_kib: wishes.limit_kib, warm_up }, born)
        });
        if wishes.limit_kib.is_none() && limit_kib.is_some() {
            detector.set_limit(limit_kib);
            seen.limit_kib = limit_kib;
        }
        let change = detector.observe(at, &sample);
        let judgement = *detector.judgement();
        seen.points.extend(sample.growth_kib().map(|kib| (t_s, kib as f64)));
        if let Some(change) = change {
            seen.changes.push(Change { at_s: t_s, from: change.from, judgement });
        }
        if seen.first_leak.is_none() && judgement.verdict == Verdict::Leak {
            seen.first_leak = Some(judgement);
        }
    }
    seen.last = detector.map(|detector| *detector.judgement());
    (seen.went_back, seen.without_memory) = (trace.went_back, trace.without_memory);
    Ok(seen)
}

pub(super) fn size_kib(text: &str) -> Result<u64, String> {
    match text.parse::<Bytes>().map(Bytes::kib) {
        Ok(0) => Err(format!("{text} is less than 1KiB")),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<Period>().map(|period| period.0).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
