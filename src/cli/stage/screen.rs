//! What is shown while it goes on: a picture that changes in place on a terminal, else lines.

use super::load::Tally;
use crate::cli::Failure;
use crate::cli::output::{Colour, Paint, clean};
use crate::core::Record;
use crate::wire::{Leak, Status, Worker};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Columns that every terminal has.
const COLUMNS: usize = 80;
/// Columns of the bar from nothing to the soft limit.
const BAR: usize = 12;
/// How many events stand under the picture.
const EVENTS: usize = 6;
/// Terminals break what is longer than a line, and then the way back up is longer too.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// One moment.
pub struct Moment<'a> {
    /// Since the load began.
    pub elapsed: Duration,
    /// What the supervisor says.
    pub status: &'a Status,
    /// What the visitors say.
    pub tally: &'a Tally,
    /// Of a worker.
    pub limit_kib: Option<u64>,
}

/// Where the live read-out goes.
pub enum Screen {
    /// Nowhere: the figures come at the end, as JSON.
    Silent,
    /// A line for each event, and one of figures now and then.
    Lines {
        /// From one line of figures to the next.
        every: Duration,
        /// When figures were printed last.
        printed: Option<Duration>,
    },
    /// A picture.
    Picture {
        /// Lines that the last one took.
        height: usize,
        /// The newest events, a line each.
        events: VecDeque<String>,
        /// Whether in colours.
        paint: Paint,
    },
}

impl Screen {
    /// The one that fits standard output; where it is no terminal, with figures `every` so often.
    pub fn new(silent: bool, every: Duration) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if silent {
            Screen::Silent
        } else if io::stdout().is_terminal() && !dumb {
            Screen::Picture { height: 0, events: VecDeque::new(), paint: Paint::of_stdout() }
        } else {
            Screen::Lines { every, printed: None }
        }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Screen::Silent => Ok(()),
            Screen::Lines { .. } | Screen::Picture { .. } => put(&format!("{text}\n")),
        }
    }

    /// Shows an event, `elapsed_s` after the load began.
    pub fn event(&mut self, elapsed_s: f64, record: &Record) -> Result<(), Failure> {
        let line = event_line(elapsed_s, record);
        match self {
            Screen::Silent => Ok(()),
            Screen::Lines { .. } => put(&format!("{line}\n")),
            Screen::Picture { events, .. } => {
                events.push_back(cut(&line, COLUMNS));
                if events.len() > EVENTS {
                    events.pop_front();
                }
                Ok(())
            }
        }
    }

    /// Shows how things stand.
    pub fn show(&mut self, moment: &Moment<'_>) -> Result<(), Failure> {
        match self {
            Screen::Silent => Ok(()),
            Screen::Lines { every, printed } => {
                if printed.is_some_and(|last| moment.elapsed < last + *every) {
                    return Ok(());
                }
                *printed = Some(moment.elapsed);
                put(&format!("{}\n", figures_line(moment)))
            }
            Screen::Picture { height, events, paint } => {
                let lines = picture(moment, events, *paint);
                let mut text = String::from(NO_WRAP);
                if *height > 0 {
                    text += &format!("\x1b[{height}A");
                }
                for line in &lines {
                    text += line;
                    text += "\x1b[K\n";
                }
                // What a longer picture left below.
                text += "\x1b[J";
                text += WRAP;
                *height = lines.len();
                put(&text)
            }
        }
    }
}

/// When nobody reads any more, or nobody can, it ends.
fn put(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => {
            Failure::Refused("nobody reads any more what is printed: it ended there".to_owned())
        }
        _ => Failure::Fault(format!("cannot write to standard output: {error}")),
    })
}

/// The picture, line by line.
pub fn picture(moment: &Moment<'_>, events: &VecDeque<String>, paint: Paint) -> Vec<String> {
    let memory = match moment.limit_kib {
        Some(limit_kib) => format!("MEMORY, of {}", mib(limit_kib as f64)),
        None => "MEMORY".to_owned(),
    };
    let heading = format!(
        "{:>4} {:>3}  {:<8} {:>4}  {:<20}  {:>5}  {}",
        "SLOT", "GEN", "STATE", "AGE", memory, "CONNS", "LEAK"
    );
    let mut lines = vec![paint.text(Colour::Bold, &heading)];
    let mut workers: Vec<&Worker> = moment.status.workers.iter().collect();
    workers.sort_by_key(|worker| (worker.slot, worker.generation));
    lines.extend(workers.into_iter().map(|worker| worker_line(worker, moment.limit_kib, paint)));
    lines.push(String::new());
    let failed = moment.tally.failed();
    let colour = if failed > 0 { Colour::Red } else { Colour::Green };
    lines.push(format!(
        "{}  {} answered, {}, {} reconnected{}",
        clock(moment.elapsed.as_secs_f64()),
        moment.tally.ok,
        paint.text(colour, &format!("{failed} failed")),
        moment.tally.reconnected,
        latencies(moment.tally)
    ));
    if let Some(error) = moment.tally.errors.first() {
        lines.push(paint.text(Colour::Red, &cut(&format!("       {}", clean(error)), COLUMNS)));
    }
    lines.push(String::new());
    lines.extend(events.iter().cloned());
    lines
}

fn worker_line(worker: &Worker, limit_kib: Option<u64>, paint: Paint) -> String {
    let used = worker.anon_kib.zip(limit_kib);
    let part = used.map(|(kib, limit_kib)| kib as f64 / limit_kib.max(1) as f64);
    let filled = part.map_or(0, |part| ((part * BAR as f64).round() as usize).min(BAR));
    let colour = match part {
        Some(part) if part >= 0.8 => Colour::Red,
        Some(part) if part >= 0.5 => Colour::Yellow,
        Some(_) | None => Colour::Green,
    };
    let rest = if limit_kib.is_some() { "░" } else { " " };
    let bar = paint.text(colour, &"█".repeat(filled)) + &rest.repeat(BAR - filled);
    let state = format!("{:<8}", cut(&clean(&worker.state), 8));
    let state = match worker.state.as_str() {
        "ready" => state,
        _ => paint.text(Colour::Yellow, &state),
    };
    let verdict = cut(&leak(&worker.leak), 26);
    let verdict = match worker.leak.verdict.as_str() {
        "leak" => paint.text(Colour::Red, &verdict),
        "suspect" => paint.text(Colour::Yellow, &verdict),
        _ => paint.text(Colour::Dim, &verdict),
    };
    format!(
        "{:>4} {:>3}  {state} {:>4}  {bar} {:>7}  {:>5}  {verdict}",
        worker.slot,
        worker.generation,
        known(worker.age_s.map(|s| format!("{s:.0}s"))),
        known(worker.anon_kib.map(|kib| mib(kib as f64))),
        known(worker.connections),
    )
}

fn leak(leak: &Leak) -> String {
    let mut text = clean(&leak.verdict);
    if let ("leak" | "suspect", Some(slope)) = (leak.verdict.as_str(), leak.slope_kib_s) {
        text += &rate(slope / 1024.0);
        if let Some(eta) = leak.eta_s {
            text += &format!(", {eta:.0}s left");
        }
    }
    text
}

/// ` +2.1 MiB/s`, or what is slower by the minute.
fn rate(mib_s: f64) -> String {
    if mib_s >= 1.0 {
        format!(" +{mib_s:.1} MiB/s")
    } else {
        format!(" +{:.1} MiB/min", 60.0 * mib_s)
    }
}

/// The same in one line, for logs.
fn figures_line(moment: &Moment<'_>) -> String {
    let mut workers: Vec<&Worker> = moment.status.workers.iter().collect();
    workers.sort_by_key(|worker| (worker.slot, worker.generation));
    let memory: Vec<String> = workers
        .into_iter()
        .map(|worker| known(worker.anon_kib.map(|kib| format!("{:.0}", kib as f64 / 1024.0))))
        .collect();
    let limit = moment.limit_kib.map_or(String::new(), |kib| format!(" of {}", mib(kib as f64)));
    format!(
        "{}  memory {} MiB{limit}; {} answered, {} failed, {} reconnected{}",
        clock(moment.elapsed.as_secs_f64()),
        memory.join(" "),
        moment.tally.ok,
        moment.tally.failed(),
        moment.tally.reconnected,
        latencies(moment.tally)
    )
}

fn event_line(elapsed_s: f64, record: &Record) -> String {
    let worker = record.slot.map_or(String::new(), |slot| match record.generation {
        Some(generation) => format!(" {slot}.{generation}"),
        None => format!(" {slot}"),
    });
    format!("{}  {}{worker}: {}", clock(elapsed_s), record.kind, clean(&record.reason))
}

fn latencies(tally: &Tally) -> String {
    match (tally.latency_ms(0.5), tally.latency_ms(0.99)) {
        (Some(median), Some(p99)) => format!("; p50 {median:.1} ms, p99 {p99:.1} ms"),
        _ => String::new(),
    }
}

fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `61 MiB`.
pub fn mib(kib: f64) -> String {
    format!("{:.0} MiB", kib / 1024.0)
}

/// Minutes and seconds; before the load began it stands still.
fn clock(elapsed_s: f64) -> String {
    let whole = elapsed_s.max(0.0) as u64;
    format!("{:>2}:{:02}", whole / 60, whole % 60)
}

/// At most so many characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}
