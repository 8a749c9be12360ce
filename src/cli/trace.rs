//! The trace CSV: a header line, then a sample a line. It is read with columns in any order, those of
//! others passed over; a byte order mark, CRLF and quoted fields as spreadsheets write them.

use crate::core::Sample;
use std::io::{self, BufRead, Write};
use std::time::Duration;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{file}: cannot be opened")]
    Open { file: String, source: std::io::Error },
    #[error("{file}, line {line}: cannot be read")]
    Read { file: String, line: u64, source: std::io::Error },
    #[error("{file}: is empty; the first line must name the columns, t_s and a memory column")]
    Empty { file: String },
    #[error("{file}, line 1: no column t_s; the first line must name the columns")]
    NoTime { file: String },
    #[error("{file}, line 1: no memory column; one of rss_anon_kib and rss_kib is needed")]
    NoMemory { file: String },
    #[error("{file}, line 1, column {at}: {name} is named twice")]
    Twice { file: String, at: usize, name: String },
    #[error("{file}, line {line}, column {at}: the quote is not closed on its line")]
    OpenQuote { file: String, line: u64, at: usize },
    #[error("{file}, line {line}: {found} fields, but the header names {expected}")]
    Fields { file: String, line: u64, found: usize, expected: usize },
    #[error(
        "{file}, line {line}, column {at}: {name} is {text:?}, which is not a number of 0 or more"
    )]
    NotANumber { file: String, line: u64, at: usize, name: &'static str, text: String },
}

macro_rules! columns {
    ($($variant:ident => $name:literal,)*) => {
        /// The columns that matter.
        #[derive(Clone, Copy)]
        enum Column { $($variant,)* }

        const COLUMNS: &[&str] = &[$($name,)*];
    };
}

columns! {
    Time => "t_s",
    Rss => "rss_kib",
    Anon => "rss_anon_kib",
    File => "rss_file_kib",
    Shmem => "rss_shmem_kib",
    Swap => "vm_swap_kib",
    Threads => "threads",
    Fds => "fds",
    Cpu => "cpu_ticks",
    Load => "load_rps",
    Processes => "processes",
    Limit => "limit_kib",
    WarmUp => "warm_up_s",
}

/// Writes the names of the columns.
pub fn write_header(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", COLUMNS.join(","))
}

/// Writes a sample; what the verdict was given by stands in the first row, so that `stanch replay` needs no
/// options.
pub fn write_row(
    out: &mut dyn Write,
    t_s: f64,
    sample: &Sample,
    judged_by: Option<(Option<u64>, Duration)>,
) -> io::Result<()> {
    let text = |figure: Option<u64>| figure.map(|f| f.to_string()).unwrap_or_default();
    write!(out, "{t_s}")?;
    for figure in [
        sample.rss_kib,
        sample.rss_anon_kib,
        sample.rss_file_kib,
        sample.rss_shmem_kib,
        sample.vm_swap_kib,
        sample.threads,
        sample.fds,
        sample.cpu_ticks,
    ] {
        write!(out, ",{}", text(figure))?;
    }
    let load_rps = sample.load_rps.map(|load| load.to_string()).unwrap_or_default();
    write!(out, ",{load_rps},{}", text(sample.processes))?;
    match judged_by {
        Some((limit_kib, warm_up)) => {
            writeln!(out, ",{},{}", text(limit_kib), warm_up.as_secs_f64())
        }
        None => writeln!(out, ",,"),
    }
}

/// A line.
#[derive(Debug)]
pub struct Row {
    /// Seconds; never goes back.
    pub t_s: f64,
    pub sample: Sample,
    /// What the live supervisor judged by from here on, where the trace says so.
    pub limit_kib: Option<u64>,
    pub warm_up: Option<Duration>,
}

/// A trace being read.
pub struct Trace<R> {
    file: String,
    source: R,
    line: u64,
    text: String,
    /// The fields of the line, each with the character that it begins at, from 1.
    fields: Vec<(usize, String)>,
    width: usize,
    /// Which field holds each of [`COLUMNS`].
    places: Vec<Option<usize>>,
    last_s: Option<f64>,
    step_s: f64,
    shift_s: f64,
    /// How often time went back.
    pub went_back: u64,
    /// Rows that name no memory.
    pub without_memory: u64,
}

impl<R: BufRead> Trace<R> {
    /// Reads the header.
    pub fn open(file: &str, source: R) -> Result<Self, TraceError> {
        let file = file.to_owned();
        let mut trace = Trace {
            file,
            source,
            line: 0,
            text: String::new(),
            fields: Vec::new(),
            width: 0,
            places: Vec::new(),
            last_s: None,
            step_s: 0.0,
            shift_s: 0.0,
            went_back: 0,
            without_memory: 0,
        };
        if !trace.read_line()? {
            return Err(TraceError::Empty { file: trace.file });
        }
        for name in COLUMNS {
            let mut places = (0..trace.fields.len()).filter(|at| trace.fields[*at].1 == *name);
            trace.places.push(places.next());
            if let Some(second) = places.next() {
                let (at, name) = trace.fields.swap_remove(second);
                return Err(TraceError::Twice { file: trace.file, at, name });
            }
        }
        let has = |column: Column| trace.places[column as usize].is_some();
        if !has(Column::Time) {
            return Err(TraceError::NoTime { file: trace.file });
        }
        if !has(Column::Rss) && !has(Column::Anon) {
            return Err(TraceError::NoMemory { file: trace.file });
        }
        trace.width = trace.fields.len();
        Ok(trace)
    }

    /// The next row. Where time goes back, the clock is taken to have been set, and the sample to have
    /// come one step after the last.
    pub fn next(&mut self) -> Result<Option<Row>, TraceError> {
        while self.read_line()? {
            if self.text.trim().is_empty() {
                continue;
            }
            let found = self.fields.len();
            if found != self.width {
                let (file, line) = (self.file.clone(), self.line);
                return Err(TraceError::Fields { file, line, found, expected: self.width });
            }
            let Some(t_s) = self.number(Column::Time)? else {
                return Err(self.not_a_number(Column::Time));
            };
            let whole = |column| Ok(self.number(column)?.map(|value| value.round() as u64));
            let warm_up = self.number(Column::WarmUp)?;
            let sample = Sample {
                rss_kib: whole(Column::Rss)?,
                rss_anon_kib: whole(Column::Anon)?,
                rss_file_kib: whole(Column::File)?,
                rss_shmem_kib: whole(Column::Shmem)?,
                vm_swap_kib: whole(Column::Swap)?,
                threads: whole(Column::Threads)?,
                fds: whole(Column::Fds)?,
                processes: whole(Column::Processes)?,
                cpu_ticks: whole(Column::Cpu)?,
                load_rps: self.number(Column::Load)?,
                ..Sample::default()
            };
            let limit_kib = whole(Column::Limit)?;
            self.without_memory += u64::from(sample.growth_kib().is_none());
            let warm_up = warm_up.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            return Ok(Some(Row { t_s: self.forward(t_s), sample, limit_kib, warm_up }));
        }
        Ok(None)
    }

    fn forward(&mut self, t_s: f64) -> f64 {
        let mut at_s = t_s + self.shift_s;
        if let Some(last_s) = self.last_s {
            if at_s < last_s {
                self.went_back += 1;
                self.shift_s += last_s + self.step_s - at_s;
                at_s = last_s + self.step_s;
            } else if at_s > last_s {
                self.step_s = at_s - last_s;
            }
        }
        self.last_s = Some(at_s);
        at_s
    }

    fn read_line(&mut self) -> Result<bool, TraceError> {
        self.text.clear();
        self.line += 1;
        let read = self.source.read_line(&mut self.text).map_err(|source| TraceError::Read {
            file: self.file.clone(),
            line: self.line,
            source,
        })?;
        let line = self.text.trim_end_matches(['\n', '\r']);
        let line = if self.line == 1 { line.trim_start_matches('\u{feff}') } else { line };
        self.fields = split(line).map_err(|at| TraceError::OpenQuote {
            file: self.file.clone(),
            line: self.line,
            at,
        })?;
        Ok(read > 0)
    }

    fn field(&self, column: Column) -> Option<(usize, &str)> {
        let (at, text) = self.fields.get(self.places[column as usize]?)?;
        Some((*at, text))
    }

    fn number(&self, column: Column) -> Result<Option<f64>, TraceError> {
        let Some((_, text)) = self.field(column).filter(|(_, text)| !text.is_empty()) else {
            return Ok(None);
        };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Some(value)),
            _ => Err(self.not_a_number(column)),
        }
    }

    fn not_a_number(&self, column: Column) -> TraceError {
        let (at, text) = self.field(column).unwrap_or_default();
        TraceError::NotANumber {
            file: self.file.clone(),
            line: self.line,
            at,
            name: COLUMNS[column as usize],
            text: text.to_owned(),
        }
    }
}

/// The fields of a line (RFC 4180, but a field ends with its line); the error is where a quote opens
/// that is not closed.
fn split(line: &str) -> Result<Vec<(usize, String)>, usize> {
    let (mut fields, mut text) = (Vec::new(), String::new());
    let (mut begins, mut quote) = (1, None);
    let mut characters = line.chars().enumerate().peekable();
    while let Some((before, character)) = characters.next() {
        match character {
            '"' if quote.is_some() && characters.next_if(|(_, next)| *next == '"').is_some() => {
                text.push('"');
            }
            '"' if quote.is_some() => quote = None,
            '"' if text.trim().is_empty() => quote = Some(before + 1),
            ',' if quote.is_none() => {
                fields.push((begins, text.trim().to_owned()));
                text.clear();
                begins = before + 2;
            }
            other => text.push(other),
        }
    }
    fields.push((begins, text.trim().to_owned()));
    quote.map_or(Ok(fields), Err)
}
