//! stanch's own log: what is told to `tracing`, in the format that is in force at that moment.

use super::Output;
use super::writer::Rules;
use crate::config::LogFormat;
use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Has all that stanch says go the same way as the workers' output: a standard error that nobody reads
/// must not stop the engine. `STANCH_LOG` says how much.
pub fn trace(output: Output) {
    let asked = std::env::var("STANCH_LOG").ok().and_then(|text| text.parse().ok());
    let filter = asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let entries = Entries {
        rules: Arc::clone(&output.rules),
        human: Format::default().with_target(false),
        // Of spans, which there are none of, the fields would be written for people.
        json: Format::default()
            .with_target(false)
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false),
    };
    // An error here means that a subscriber is set already, and then that one is right.
    let _ = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || output.log())
        .with_ansi(colours)
        .event_format(entries)
        .finish()
        .with(filter)
        .try_init();
}

struct Entries {
    rules: Arc<Rules>,
    human: Format<Full>,
    json: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for Entries
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.rules.format() {
            LogFormat::Human => self.human.format_event(context, writer, event),
            LogFormat::Json => self.json.format_event(context, writer, event),
        }
    }
}
