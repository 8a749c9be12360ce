//! The audit log's lines: `stanch incidents events`, and `export` for other programs.

use super::super::Failure;
use super::super::output::{Cell, Paint, Stop, Table, clean, print};
use super::{Part, day, kind, millisecond, name};
use crate::core::{Figures, Kind, Slot, WorkerId};
use crate::store::{Entry, EventFilter, Reader, StoreError};
use jiff::Timestamp;
use serde::Deserialize;
use std::io::{self, Write};
use std::time::Duration;

/// Between looks for new events: SQLite tells no other process of a commit.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// Which events.
#[derive(clap::Args)]
pub(super) struct Which {
    /// Only of this kind
    #[arg(long, value_parser = kind())]
    kind: Option<Kind>,
    /// Only of this slot
    #[arg(long)]
    pub slot: Option<u32>,
    /// Only of this incident: its name, the beginning of it, or `last`
    #[arg(long, value_name = "ID")]
    pub incident: Option<String>,
    #[command(flatten)]
    part: Part,
    /// Go on with each new event, until interrupted
    #[arg(long)]
    follow: bool,
}

/// How events are written.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line
    Json,
    /// Comma-separated, with a header; the figures are JSON in one column
    Csv,
    /// A table for people; line by line when it goes on
    #[value(skip)]
    Table,
}

/// Prints them.
pub(super) fn events(reader: &Reader, which: Which, format: Format) -> Result<(), Failure> {
    let Which { kind, slot, incident, part: Part { last, since }, follow } = which;
    let incident = incident.map(|id| name(reader, &id)).transpose()?;
    let mut filter =
        EventFilter { incident, kind, slot: slot.map(Slot), since, last, ..EventFilter::default() };
    print(|out| {
        if !follow && matches!(format, Format::Table) {
            return table(out, reader, &filter);
        }
        if matches!(format, Format::Csv) {
            out.write_all(&csv_line(COLUMNS)?)?;
        }
        loop {
            let mut seen = filter.after;
            reader.events::<Stop>(&filter, |entry| {
                seen = Some(entry.seq);
                line(out, &entry, format)
            })?;
            if !follow {
                return Ok(());
            }
            out.flush()?;
            if reader.is_replaced() {
                return Err(Stop::Failed(Failure::Refused(
                    "the store that was followed is not at its place any more; what is there now begins anew: \
                     follow that"
                        .to_owned(),
                )));
            }
            std::thread::sleep(FOLLOW_PAUSE);
            filter = EventFilter { after: seen, last: None, ..filter };
        }
    })
}

fn table(out: &mut dyn Write, reader: &Reader, filter: &EventFilter) -> Result<(), Stop> {
    let mut table = Table::new(&["SEQ", "AT (UTC)", "KIND", "WORKER", "PID", "REASON"]);
    reader.events::<StoreError>(filter, |entry| {
        table.row(cells(&entry));
        Ok(())
    })?;
    Ok(table.write(out, Paint::of_stdout())?)
}

fn line(out: &mut dyn Write, entry: &Entry, format: Format) -> Result<(), Stop> {
    match format {
        Format::Json => writeln!(out, "{}", entry.json())?,
        Format::Csv => out.write_all(&csv_line(row(entry))?)?,
        Format::Table => {
            let line = Line::of(entry);
            let at =
                line.at.map_or_else(|| "?".into(), |at| format!("{} {}", day(at), millisecond(at)));
            let (kind, reason) = (clean(&line.kind), clean(&line.reason));
            writeln!(out, "{at}  {kind}{}  {reason}", line.place())?;
        }
    }
    Ok(())
}

fn csv_line<T: AsRef<[u8]>>(cells: impl IntoIterator<Item = T>) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(cells)?;
    csv.into_inner().map_err(|error| error.into_error())
}

/// The keys of an event, in their order.
const COLUMNS: [&str; 12] = [
    "seq",
    "at",
    "kind",
    "incident",
    "slot",
    "pid",
    "generation",
    "release",
    "cause",
    "reason",
    "figures",
    "hash",
];

fn row(entry: &Entry) -> [String; 12] {
    let event: serde_json::Value = serde_json::from_str(&entry.json()).unwrap_or_default();
    COLUMNS.map(|key| match &event[key] {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

fn cells(entry: &Entry) -> Vec<Cell> {
    let line = Line::of(entry);
    let at = line.at.map_or_else(|| "?".into(), |at| format!("{} {}", day(at), millisecond(at)));
    vec![
        Cell::figure(Some(entry.seq)),
        Cell::text(at),
        Cell::text(&line.kind),
        Cell::figure(line.worker()),
        Cell::figure(line.pid),
        Cell::text(&line.reason),
    ]
}

/// What people see of an event. Looser than a [`crate::core::Record`], so that an event of a newer
/// stanch, or a forged one, is still shown.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    pub at: Option<Timestamp>,
    pub kind: String,
    slot: Option<u32>,
    pub pid: Option<i32>,
    generation: Option<u64>,
    release: Option<String>,
    cause: Option<String>,
    pub reason: String,
    pub figures: Figures,
}

impl Line {
    pub fn of(entry: &Entry) -> Line {
        serde_json::from_str(&entry.body).unwrap_or_else(|error| Line {
            kind: "?".into(),
            reason: format!("not an event ({error}): {}", entry.body),
            ..Line::default()
        })
    }

    fn worker(&self) -> Option<String> {
        let slot = self.slot?;
        Some(match self.generation {
            Some(generation) => WorkerId::new(slot, generation).to_string(),
            None => slot.to_string(),
        })
    }

    pub fn place(&self) -> String {
        let mut place = String::new();
        if let Some(cause) = &self.cause {
            place += &format!(" ({})", clean(cause));
        }
        if let Some(worker) = self.worker() {
            place += &format!("  worker {worker}");
        }
        if let Some(pid) = self.pid {
            place += &format!("  pid {pid}");
        }
        if let Some(release) = &self.release {
            place += &format!("  release {}", clean(release));
        }
        place
    }

    pub fn evidence(&self) -> String {
        if self.figures.is_empty() { String::new() } else { figures(&self.figures) }
    }
}

/// `key=value`, the units are in the keys.
pub(super) fn figures(figures: &Figures) -> String {
    let figure = |(key, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => format!("{}={}", clean(key), clean(text)),
        value => format!("{}={value}", clean(key)),
    };
    figures.iter().map(figure).collect::<Vec<_>>().join(", ")
}
