//! The status for people: a head and a row a worker, plain text.

use crate::wire::{Due, Leak, Status, Worker};

const HEADINGS: [&str; 12] = [
    "SLOT", "PID", "GEN", "STATE", "RELEASE", "AGE", "RSS", "ANON", "CPU", "CONNS", "RESTARTS",
    "LEAK",
];
/// Columns of words; numbers stand on the right.
const WORDS: [&str; 3] = ["STATE", "RELEASE", "LEAK"];
/// What is not known.
const UNKNOWN: &str = "-";

/// The whole read-out of one supervisor, with a line end at its end.
pub(super) fn render(status: &Status) -> String {
    let mut workers: Vec<&Worker> = status.workers.iter().collect();
    workers.sort_by_key(|worker| (worker.slot, worker.generation));
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(workers.iter().copied().map(row));
    head(status) + &aligned(&rows) + &notes(&workers)
}

fn head(status: &Status) -> String {
    let release = status.release.as_ref().map(|release| format!(" {release}"));
    let mut text = format!(
        "{}{}: {}, up {}, ",
        status.app,
        release.unwrap_or_default(),
        status.state,
        span(status.uptime_s)
    );
    text += &match status.incidents_open {
        0 => "no open incident\n".to_owned(),
        1 => "1 open incident\n".to_owned(),
        many => format!("{many} open incidents\n"),
    };
    let memory = &status.memory;
    text += &format!("memory {}", known(memory.total_kib, size));
    if let Some(limit) = memory.total_limit_kib {
        text += &format!(" of {}", size(limit));
    }
    text += &format!(", limits enforced by {}\n", memory.enforced_by);
    for listener in &status.listeners {
        text += &format!("listening on {} ({})", listener.address, listener.mode);
        if let Some(queued) = listener.queued.filter(|queued| *queued > 0) {
            text += &format!(", {queued} waiting to be accepted");
        }
        if let Some(dropped) = listener.dropped.filter(|dropped| *dropped > 0) {
            text += &format!(", {dropped} turned away");
        }
        text += "\n";
    }
    if let Some(why) = &status.store.why {
        let waiting = match status.store.waiting {
            0 => "what comes waits in memory".to_owned(),
            1 => "1 event waits in memory".to_owned(),
            several => format!("{several} events wait in memory"),
        };
        text += &format!("the audit log is not written ({waiting}): {why}\n");
    }
    text + "\n"
}

fn row(worker: &Worker) -> [String; HEADINGS.len()] {
    [
        worker.slot.to_string(),
        known(worker.pid, |pid| pid.to_string()),
        worker.generation.to_string(),
        worker.state.clone(),
        worker.release.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        known(worker.age_s, span),
        known(worker.rss_kib, size),
        known(worker.anon_kib, size),
        known(worker.cpu_percent, |percent| format!("{percent:.0}%")),
        known(worker.connections, |count| count.to_string()),
        worker.restarts.to_string(),
        leak(&worker.leak),
    ]
}

/// Which workers are to be replaced, which leak and why, and what they say that they do, below the table: it may
/// be long.
fn notes(workers: &[&Worker]) -> String {
    let mut text = String::new();
    for worker in workers {
        let name = format!("worker {}.{}", worker.slot, worker.generation);
        if let Some(Due { reason, in_s, .. }) = &worker.due {
            let when = in_s.map(|in_s| format!(", in {} at the earliest", span(in_s)));
            let when = when.unwrap_or_default();
            text += &format!("\n{name} is to be replaced{when}: {reason}");
        } else {
            match worker.leak.verdict.as_str() {
                "leak" => text += &format!("\n{name} leaks: {}", worker.leak.reason),
                "suspect" => text += &format!("\n{name} may leak: {}", worker.leak.reason),
                _ => {}
            }
        }
        if let Some(said) = &worker.status_text {
            text += &format!("\n{name} says: {said}");
        }
    }
    if text.is_empty() { text } else { text + "\n" }
}

fn leak(leak: &Leak) -> String {
    let mut text = leak.verdict.clone();
    if text == "healthy" || text == "unjudged" {
        return text;
    }
    if let Some(slope) = leak.slope_kib_s {
        text += &format!(" +{}/min", size((slope * 60.0).max(0.0) as u64));
    }
    if let Some(eta) = leak.eta_s {
        text += &format!(", limit in {}", span(eta));
    }
    text
}

fn known<T>(value: Option<T>, words: impl Fn(T) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), words)
}

fn aligned(rows: &[[String; HEADINGS.len()]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if WORDS.contains(&HEADINGS[column]) {
                line += &format!("{cell:<width$}  ");
            } else {
                line += &format!("{cell:>width$}  ");
            }
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

/// KiB in the largest unit that leaves a whole part; one decimal where that part has one digit.
fn size(kib: u64) -> String {
    let mut amount = kib as f64;
    let mut unit = "KiB";
    for larger in ["MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit != "KiB" && amount < 10.0 {
        format!("{amount:.1} {unit}")
    } else {
        format!("{amount:.0} {unit}")
    }
}

/// Seconds in the two largest units that fit: `42s`, `5m 7s`, `3h 12m`, `2d 4h`.
fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}s"),
        (0, 0, _) => format!("{minutes}m {}s", whole % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}
