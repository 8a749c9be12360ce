//! The trace CSV: a header line, then a sample a line.

use crate::core::Sample;
use std::io::BufRead;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
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
    #[error("{file}, line {line}: {found} fields, but the header names {expected}")]
    Fields { file: String, line: u64, found: usize, expected: usize },
    #[error("{file}, line {line}: {column} is {text:?}, which is not a number of 0 or more")]
    NotANumber { file: String, line: u64, column: &'static str, text: String },
}

/// The columns that matter; others are passed over.
const COLUMNS: [&str; 10] = [
    "t_s",
    "rss_kib",
    "rss_anon_kib",
    "rss_shmem_kib",
    "vm_swap_kib",
    "threads",
    "fds",
    "cpu_ticks",
    "load_rps",
    "connections",
];

/// A trace being read.
pub(super) struct Trace<R> {
    file: String,
    source: R,
    line: u64,
    text: String,
    width: usize,
    /// Which field holds each of [`COLUMNS`].
    places: [Option<usize>; COLUMNS.len()],
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
            width: 0,
            places: [None; COLUMNS.len()],
            last_s: None,
            step_s: 0.0,
            shift_s: 0.0,
            went_back: 0,
            without_memory: 0,
        };
        if !trace.read_line()? {
            return Err(TraceError::Empty { file: trace.file });
        }
        let names: Vec<&str> =
            trace.text.trim_start_matches('\u{feff}').split(',').map(clean).collect();
        let place = |column: &str| names.iter().position(|name| *name == column);
        let places = COLUMNS.map(place);
        if places[0].is_none() {
            return Err(TraceError::NoTime { file: trace.file });
        }
        if places[1].is_none() && places[2].is_none() {
            return Err(TraceError::NoMemory { file: trace.file });
        }
        (trace.width, trace.places) = (names.len(), places);
        Ok(trace)
    }

    /// The next sample, with its time in seconds. Where time goes back, the clock is taken to have
    /// been set, and the sample to have come one step after the last.
    pub fn next(&mut self) -> Result<Option<(f64, Sample)>, TraceError> {
        while self.read_line()? {
            if self.text.trim().is_empty() {
                continue;
            }
            let found = self.text.split(',').count();
            if found != self.width {
                return Err(TraceError::Fields {
                    file: self.file.clone(),
                    line: self.line,
                    found,
                    expected: self.width,
                });
            }
            let Some(t_s) = self.number(0)? else {
                return Err(self.not_a_number(0, ""));
            };
            let whole = |value: Option<f64>| value.map(|value| value.round() as u64);
            let sample = Sample {
                rss_kib: whole(self.number(1)?),
                rss_anon_kib: whole(self.number(2)?),
                rss_shmem_kib: whole(self.number(3)?),
                vm_swap_kib: whole(self.number(4)?),
                threads: whole(self.number(5)?),
                fds: whole(self.number(6)?),
                cpu_ticks: whole(self.number(7)?),
                load_rps: self.number(8)?,
                connections: whole(self.number(9)?),
                ..Sample::default()
            };
            self.without_memory += u64::from(sample.growth_kib().is_none());
            return Ok(Some((self.forward(t_s), sample)));
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
        match self.source.read_line(&mut self.text) {
            Ok(read) => Ok(read > 0),
            Err(source) => {
                Err(TraceError::Read { file: self.file.clone(), line: self.line, source })
            }
        }
    }

    fn number(&self, column: usize) -> Result<Option<f64>, TraceError> {
        let Some(place) = self.places[column] else { return Ok(None) };
        let text = clean(self.text.split(',').nth(place).unwrap_or_default());
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Some(value)),
            _ => Err(self.not_a_number(column, text)),
        }
    }

    fn not_a_number(&self, column: usize, text: &str) -> TraceError {
        TraceError::NotANumber {
            file: self.file.clone(),
            line: self.line,
            column: COLUMNS[column],
            text: text.to_owned(),
        }
    }
}

fn clean(field: &str) -> &str {
    field.trim().trim_matches('"')
}
