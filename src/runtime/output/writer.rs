//! The thread that writes: each line to where the configuration that is in force says.
//!
//! A reload changes the [`Rules`], which whoever handles a line looks at. The writer has some things to
//! do when they change: it does them before the next line, in its own time, so that a reload never waits
//! for a disk.

use super::super::lock::lock;
use super::file::LogFile;
use super::journal::Journal;
use super::{Item, Source, Stream};
use crate::config::{Config, Log, LogFormat, Rotate, WorkerOutput};
use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Where to with the workers' output.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// Where the supervisor's own goes.
    Pass,
    /// Into a file.
    File {
        /// This one.
        path: PathBuf,
        /// When it is set aside.
        rotate: Rotate,
    },
    /// systemd's journal, under the name of the application; where there is none, as `Pass`.
    Journal {
        /// The name.
        app: String,
    },
}

impl Destination {
    /// What the configuration says, with the audit log in this file.
    ///
    /// # Errors
    /// The two would be the same file, in words for who wrote it.
    pub fn of(config: &Config, store: &Path) -> Result<Self, String> {
        match config.log.worker_output {
            WorkerOutput::Pass => Ok(Self::Pass),
            WorkerOutput::Journal => Ok(Self::Journal { app: config.app.name.clone() }),
            WorkerOutput::Files => match config.log.file(store) {
                path if path == store => Err(format!(
                    "{} is the audit log; the workers' output needs another file: set log.path",
                    path.display()
                )),
                path => Ok(Self::File { path, rotate: config.log.rotate }),
            },
        }
    }
}

/// What is in force, and what the writer has yet to do about it.
#[derive(Debug)]
pub(super) struct Rules {
    is_json: AtomicBool,
    flood_limit: AtomicU32,
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    /// Lines go there from now on.
    destination: Option<Destination>,
    /// The file is to be opened anew.
    reopen: bool,
    /// Whether they go to a file, or will when that is done.
    to_file: bool,
}

impl Rules {
    pub fn of(log: &Log, destination: Destination) -> Arc<Self> {
        let rules = Self {
            is_json: AtomicBool::default(),
            flood_limit: AtomicU32::default(),
            orders: Mutex::default(),
        };
        rules.set(log, destination);
        Arc::new(rules)
    }

    /// Puts others into force.
    pub fn set(&self, log: &Log, destination: Destination) {
        self.is_json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        self.flood_limit.store(log.flood_limit, Ordering::Relaxed);
        let mut orders = lock(&self.orders);
        orders.to_file = matches!(destination, Destination::File { .. });
        orders.destination = Some(destination);
    }

    pub fn format(&self) -> LogFormat {
        if self.is_json.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Human }
    }

    /// Lines of one stream of a worker within a second; 0: any number.
    pub fn flood_limit(&self) -> u32 {
        self.flood_limit.load(Ordering::Relaxed)
    }

    /// Has the file opened anew; false without one.
    pub fn reopen(&self) -> bool {
        let mut orders = lock(&self.orders);
        orders.reopen = true;
        orders.to_file
    }
}

/// What the writer thread has.
pub(super) struct Writer {
    rules: Arc<Rules>,
    sink: Sink,
}

/// Where the workers' lines go.
enum Sink {
    Pass,
    File(Box<LogFile>),
    Journal(Journal),
}

impl Sink {
    fn to(destination: Destination, missing: fn(u64) -> String) -> Self {
        match destination {
            Destination::Pass => Sink::Pass,
            Destination::File { path, rotate } => {
                Sink::File(Box::new(LogFile::new(path, rotate, missing)))
            }
            Destination::Journal { app } => match Journal::open(&app) {
                Ok(Some(journal)) => Sink::Journal(journal),
                Ok(None) => {
                    tracing::warn!(
                        "there is no journal here; the workers' output goes where this does"
                    );
                    Sink::Pass
                }
                Err(error) => {
                    tracing::error!(
                        %error,
                        "the journal cannot be spoken to; the workers' output goes where this does"
                    );
                    Sink::Pass
                }
            },
        }
    }

    /// Lines that it could not write, and has told nobody of.
    fn lost(&self) -> u64 {
        match self {
            Sink::Pass => 0,
            Sink::File(file) => file.lost(),
            Sink::Journal(journal) => journal.lost(),
        }
    }
}

impl Writer {
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, sink: Sink::Pass }
    }

    pub fn write(&mut self, item: Item) -> io::Result<()> {
        self.heed_orders();
        match item {
            Item::Line { at, source, text } => {
                self.write_line(at, source, &String::from_utf8_lossy(&text))
            }
            Item::Dropped { source, lines } => {
                let text = format!("stanch: {lines} lines of this worker were dropped");
                self.write_line(Timestamp::now(), source, &text)
            }
            Item::Log { text, dropped } => {
                if dropped > 0 {
                    let note = format!("stanch: {dropped} entries of this log were dropped\n");
                    Stream::Stderr.write(note.as_bytes())?;
                }
                Stream::Stderr.write(&text)
            }
            Item::Orders => Ok(()),
            Item::Flush(done) => {
                let told = self.tell_lost();
                let _ = done.try_send(());
                told
            }
        }
    }

    /// The last that is heard of lines that came to no file.
    fn tell_lost(&mut self) -> io::Result<()> {
        let Sink::File(file) = &mut self.sink else { return Ok(()) };
        let lost = file.settle();
        if lost == 0 {
            return Ok(());
        }
        let path = file.path().display();
        let note = format!("stanch: {lost} lines of the workers' output never came to {path}");
        let line = match self.rules.format() {
            LogFormat::Human => note + "\n",
            LogFormat::Json => as_json(&note),
        };
        Stream::Stderr.write(line.as_bytes())
    }

    fn heed_orders(&mut self) {
        let (destination, reopen) = {
            let mut orders = lock(&self.rules.orders);
            (orders.destination.take(), std::mem::take(&mut orders.reopen))
        };
        if let Some(destination) = destination {
            self.turn_to(destination);
        }
        if let (Sink::File(file), true) = (&mut self.sink, reopen) {
            file.close();
        }
    }

    fn turn_to(&mut self, destination: Destination) {
        let missing = match self.rules.format() {
            LogFormat::Human => missing_for_people,
            LogFormat::Json => missing_as_json,
        };
        match (&mut self.sink, destination) {
            (Sink::File(file), Destination::File { path, rotate }) if file.path() == path => {
                file.follow(rotate, missing);
            }
            (sink, destination) => {
                let lost = sink.lost();
                if lost > 0 {
                    tracing::warn!(
                        lost,
                        "lines of the workers' output never came to where it went"
                    );
                }
                *sink = Sink::to(destination, missing);
            }
        }
    }

    fn write_line(&mut self, at: Timestamp, source: Source, text: &str) -> io::Result<()> {
        if let Sink::Journal(journal) = &mut self.sink {
            journal.append(source, text.as_bytes());
            return Ok(());
        }
        let format = self.rules.format();
        let line = match format {
            LogFormat::Human => format!("[{}] {text}\n", source.worker.slot),
            LogFormat::Json => {
                let object = serde_json::json!({
                    "at": format!("{at:.3}"),
                    "slot": source.worker.slot,
                    "generation": source.worker.generation,
                    "stream": source.stream.as_str(),
                    "line": text,
                });
                format!("{object}\n")
            }
        };
        let Sink::File(file) = &mut self.sink else {
            return source.stream.write(line.as_bytes());
        };
        match format {
            LogFormat::Human => file.append(format!("{at:.3} {line}").as_bytes()),
            LogFormat::Json => file.append(line.as_bytes()),
        }
        Ok(())
    }
}

fn missing_for_people(lines: u64) -> String {
    format!("stanch: {lines} lines are missing here\n")
}

fn missing_as_json(lines: u64) -> String {
    as_json(&format!("stanch: {lines} lines are missing here"))
}

fn as_json(line: &str) -> String {
    let at = format!("{:.3}", Timestamp::now());
    format!("{}\n", serde_json::json!({ "at": at, "line": line }))
}
