//! `stanch incidents`: reads the audit store, whether or not a supervisor is running. `ack` speaks to
//! the supervisor.

mod events;
mod evidence;
mod export;
mod report;
mod show;

use super::output::{Colour, Paint, Stop, clean, print};
use super::{Failure, client, place};
use crate::core::words::chain;
use crate::core::{Incident, IncidentId, Kind};
use crate::store::{
    self, EventFilter, Found, IncidentFilter, Reader, StoreError, Verified, Vouched,
};
use crate::wire;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Subcommand};
use events::{Format, Which, events};
use export::{Of, choose, samples};
use jiff::{Span, SpanRelativeTo, Timestamp};
use std::path::{Path, PathBuf};

/// Read the audit log: incidents, events, memory samples
#[derive(ClapArgs)]
pub struct Args {
    /// The store to read
    #[arg(long, value_name = "PATH", global = true, conflicts_with = "config")]
    store: Option<PathBuf>,
    /// Read the store of this configuration
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    wish: Wish,
}

#[derive(Subcommand)]
enum Wish {
    #[command(flatten)]
    Read(Question),
    /// Say that somebody looks at an incident: nobody else is told of it
    ///
    /// Speaks to the running supervisor, which --config names, or --socket, or which is the only one.
    Ack {
        /// Its name, the beginning of it, or `last`
        id: String,
        /// Who looks at it [default: the user who runs this, by number]
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
        /// The control socket of the supervisor
        #[arg(long, value_name = "PATH", conflicts_with = "config")]
        socket: Option<PathBuf>,
        /// Of use to the other subcommands; refused with a reason, and not offered.
        #[arg(long, value_name = "PATH", hide = true)]
        store: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum Question {
    /// List incidents, oldest first
    List {
        #[command(flatten)]
        part: Part,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Tell one incident with all its events
    Show {
        /// Its name, the beginning of it, or `last`
        id: String,
        /// One JSON object, the events in `events`
        #[arg(long)]
        json: bool,
    },
    /// List events, oldest first
    Events {
        #[command(flatten)]
        which: Which,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Write the post-mortem of one incident
    Report {
        /// Its name, the beginning of it, or `last`
        id: String,
        /// How to set it
        #[arg(long, value_enum, default_value_t = report::Format::Md)]
        format: report::Format,
    },
    /// Check that no event and no incident was changed or removed; exit code 1 if one was
    Verify {
        /// A head hash noted earlier (they are in logs and alerts): shows a cut tail too
        #[arg(long, value_name = "HASH", value_parser = hash)]
        head: Option<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// List what is kept of workers that had to go, and extract it
    Evidence(evidence::Of),
    /// Write events for other programs, or the samples of one worker as CSV for `stanch replay`
    Export {
        /// How to write events
        #[arg(long, value_enum, default_value_t = Format::Json, conflicts_with = "samples")]
        format: Format,
        /// Samples instead of events: of the worker that `--incident` was opened for, or of `--slot`
        #[arg(long, conflicts_with_all = ["kind", "since", "last", "follow"])]
        samples: bool,
        /// With --samples, of this life of the slot; default: the newest
        #[arg(long, requires = "samples")]
        generation: Option<u64>,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(ClapArgs)]
struct Part {
    /// Only the newest N
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    /// Only from this time on: RFC 3339, or so long ago (`2h`, `1d 12h`)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
}

/// Runs `stanch incidents`.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.wish {
        Wish::Read(question) => {
            let store = store_path(args.store, args.config)?;
            answer(&Reader::open(&store)?, &store, question)
        }
        Wish::Ack { store, .. } if store.is_some() || args.store.is_some() => Err(Failure::Usage(
            "a store acknowledges nothing: name the supervisor by --config or --socket".into(),
        )),
        Wish::Ack { id, by, socket, .. } => {
            let order = wire::Acknowledge { incident: id, by };
            client::acknowledge(socket, args.config, &order)
        }
    }
}

fn answer(reader: &Reader, store: &Path, question: Question) -> Result<(), Failure> {
    match question {
        Question::List { part: Part { last, since }, json } => {
            let filter = IncidentFilter { since, last, ..IncidentFilter::default() };
            let Found { incidents, damaged } = reader.incidents(&filter)?;
            print(|out| show::list(out, &incidents, json))?;
            damaged.iter().for_each(|error| eprintln!("stanch: {}", clean(&chain(error))));
            if damaged.is_empty() { Ok(()) } else { Err(Failure::No) }
        }
        Question::Show { id, json } => tell(reader, &id, json),
        Question::Events { which, json } => {
            events(reader, which, if json { Format::Json } else { Format::Table })
        }
        Question::Report { id, format } => report::report(reader, &id, format),
        Question::Evidence(of) => evidence::run(reader, store, &of),
        Question::Verify { head, json } => verify(reader, head.as_deref(), json),
        Question::Export { samples: false, format, which, .. } => events(reader, which, format),
        Question::Export { samples: true, generation, which, .. } => {
            let Which { slot, incident, .. } = which;
            let life = choose(reader, &Of { incident, slot, generation })?;
            print(|out| samples(out, reader, life))
        }
    }
}

/// Prints an incident with all its events; `id` as in `stanch incidents show`.
pub(super) fn tell(reader: &Reader, id: &str, json: bool) -> Result<(), Failure> {
    let incident = find(reader, id)?;
    let mut events = Vec::new();
    let filter = EventFilter { incident: Some(incident.id.clone()), ..EventFilter::default() };
    reader.events(&filter, |entry| {
        events.push(entry);
        Ok::<(), StoreError>(())
    })?;
    print(|out| show::show(out, &incident, &events, json))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let text = chain(&error);
        match error {
            StoreError::Missing { .. }
            | StoreError::NotAStore { .. }
            | StoreError::Newer { .. }
            | StoreError::Look { .. }
            | StoreError::Unbegun { .. } => Failure::Usage(text),
            StoreError::Damaged { .. } | StoreError::Emptied { .. } | StoreError::Row { .. } => {
                Failure::Refused(text)
            }
            _ => Failure::Fault(text),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Failed(error.into())
    }
}

/// The store that is meant: this one, the one of this configuration, or the only one in the default
/// folders.
pub(super) fn store_path(
    store: Option<PathBuf>,
    config: Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    if let Some(path) = store {
        return Ok(path);
    }
    if let Some(path) = config {
        return store_of(&path);
    }
    let found = store::stores(|name| std::env::var_os(name));
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::Usage(format!(
            "no store found (the default place is {}); say which one with --store PATH or --config FILE",
            store::default_path("NAME", |name| std::env::var_os(name)).display()
        ))),
        several => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            let names = names.join(", ");
            Err(Failure::Usage(format!("several stores found ({names}); choose one with --store")))
        }
    }
}

/// The store that this configuration names.
fn store_of(config: &Path) -> Result<PathBuf, Failure> {
    Ok(place::store_path(&place::config_of(config)?))
}

fn since(text: &str) -> Result<Timestamp, String> {
    let ago = |text: &str| {
        // `2h ago` is a span of -2 hours.
        let span = text.parse::<Span>()?.abs();
        Timestamp::now().checked_sub(span.to_duration(SpanRelativeTo::days_are_24_hours())?)
    };
    text.parse().or_else(|_| ago(text)).map_err(|_| {
        "neither a time (2026-11-21T15:30:00Z) nor so long ago (90s, 30m, 2h, 1d 12h)".into()
    })
}

fn kind() -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str())).try_map(|word| {
        let found = Kind::ALL.iter().find(|kind| kind.as_str() == word);
        found.copied().ok_or("no such kind")
    })
}

fn hash(text: &str) -> Result<String, &'static str> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.into())
    } else {
        Err("a hash has 64 hexadecimal digits")
    }
}

fn find(reader: &Reader, text: &str) -> Result<Incident, Failure> {
    let id = name(reader, text)?;
    let found = reader.incident(&id)?;
    found.ok_or_else(|| Failure::Refused(format!("incident {id} was removed just now")))
}

/// The whole name of an incident, whether or not its row can be read.
fn name(reader: &Reader, text: &str) -> Result<IncidentId, Failure> {
    if text == "last" {
        let none = || Failure::Refused("there is no incident in the store".into());
        return reader.last_incident()?.ok_or_else(none);
    }
    let mut found = reader.incidents_named(text)?;
    // The first incident of a second has a name that the others of that second begin with.
    if let Some(exact) = found.iter().position(|id| id.0 == text) {
        return Ok(found.swap_remove(exact));
    }
    match found.as_slice() {
        [_] => Ok(found.swap_remove(0)),
        [] => Err(Failure::Refused(format!(
            "there is no incident {text} (`stanch incidents list` names them)"
        ))),
        several => {
            let names: Vec<_> = several.iter().map(|id| id.0.as_str()).collect();
            Err(Failure::Refused(format!("{text} can be any of {}", names.join(", "))))
        }
    }
}

fn verify(reader: &Reader, head: Option<&str>, json: bool) -> Result<(), Failure> {
    let paint = Paint::of_stdout();
    match reader.verify(head)? {
        Ok(Verified { events, vouched: Vouched { incidents, unvouched }, altered, head }) => {
            print(|out| {
                if json {
                    let answer = serde_json::json!({
                        "ok": true, "events": events, "incidents": incidents,
                        "incidents_unvouched": unvouched, "altered": altered, "head": head.hash,
                    });
                    return Ok(writeln!(out, "{answer}")?);
                }
                let whole = paint.text(Colour::Green, "whole");
                let earlier = match unvouched {
                    0 => String::new(),
                    some => {
                        format!(
                            " ({some} more are an earlier stanch's: the chain does not cover them)"
                        )
                    }
                };
                writeln!(
                    out,
                    "{whole}: {events} events, {incidents} incidents{earlier}, head {}",
                    head.hash
                )?;
                if altered > 0 {
                    let says = "say that the store was once not as it was written: \
                            stanch incidents events --kind store_altered";
                    writeln!(
                        out,
                        "{} of them {says}",
                        paint.text(Colour::Yellow, &altered.to_string())
                    )?;
                }
                Ok(())
            })
        }
        Err(broken) => {
            print(|out| {
                if json {
                    let answer = serde_json::json!({
                        "ok": false, "seq": broken.seq, "incident": broken.incident,
                        "why": broken.why,
                    });
                    return Ok(writeln!(out, "{answer}")?);
                }
                let word = paint.text(Colour::Red, "broken");
                let place = [
                    broken.seq.map(|seq| format!(" at event {seq}")),
                    broken.incident.map(|id| format!(" in incident {}", clean(&id.0))),
                ];
                let place: String = place.into_iter().flatten().collect();
                Ok(writeln!(out, "{word}{place}: {}", clean(&broken.why))?)
            })?;
            Err(Failure::No)
        }
    }
}

fn day(at: Timestamp) -> String {
    format!("{at:.3}").chars().take(10).collect()
}

fn second(at: Timestamp) -> String {
    millisecond(at).chars().take(8).collect()
}

fn millisecond(at: Timestamp) -> String {
    format!("{at:.3}").chars().skip(11).take(12).collect()
}
