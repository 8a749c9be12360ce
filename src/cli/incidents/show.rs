//! Incidents for people: the list of them, and one with all its events.

use super::super::Failure;
use super::super::output::{Cell, Colour, Paint, Stop, Table, clean, wrap};
use super::events::{Line, figures};
use super::{day, evidence, millisecond, second};
use crate::core::{Acknowledged, Incident, IncidentState, Kind, Severity};
use crate::report::runbook;
use crate::store::Entry;
use jiff::SignedDuration;
use std::io::Write;

pub(super) fn list(out: &mut dyn Write, incidents: &[Incident], json: bool) -> Result<(), Stop> {
    if json {
        for incident in incidents {
            writeln!(out, "{}", json_of(incident)?)?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        "ID", "KIND", "SEVERITY", "STATE", "OPENED", "LASTED", "SLOTS", "ACTED", "BY", "SUMMARY",
    ]);
    for incident in incidents {
        table.row(vec![
            Cell::text(&incident.id.0),
            Cell::text(&incident.kind),
            Cell::text(incident.severity.as_str()).coloured(severity_colour(incident.severity)),
            Cell::text(incident.state.as_str()).coloured(Some(state_colour(incident.state))),
            Cell::text(format!("{} {}", day(incident.opened_at), second(incident.opened_at))),
            Cell::figure(handled_after(incident)),
            Cell::text(slots(incident)),
            Cell::figure(Some(incident.interventions)),
            Cell::text(looked_at(incident).map_or("-".into(), |by| clean(&by.by))),
            Cell::text(&incident.summary),
        ]);
    }
    Ok(table.write(out, Paint::of_stdout())?)
}

pub(super) fn show(
    out: &mut dyn Write,
    incident: &Incident,
    events: &[Entry],
    json: bool,
) -> Result<(), Stop> {
    if json {
        let incident = json_of(incident)?;
        let open = incident.strip_suffix('}').unwrap_or(&incident);
        let events: Vec<String> = events.iter().map(Entry::json).collect();
        return Ok(writeln!(out, "{open},\"events\":[{}]}}", events.join(","))?);
    }
    let paint = Paint::of_stdout();
    writeln!(out, "{}", paint.text(Colour::Bold, &format!("Incident {}", incident.id)))?;
    let at = |at| format!("{} {} UTC", day(at), second(at));
    let handled = match (incident.handled_at.or(incident.resolved_at), handled_after(incident)) {
        (Some(end), Some(after)) => format!("{}, after {after}", at(end)),
        _ => "not yet".into(),
    };
    let severity = severity_colour(incident.severity)
        .map_or(incident.severity.to_string(), |c| paint.text(c, incident.severity.as_str()));
    let state = paint.text(state_colour(incident.state), incident.state.as_str());
    for (name, value) in [
        ("kind", clean(&incident.kind)),
        ("severity", severity),
        ("state", state),
        ("opened", format!("{}{}", at(incident.opened_at), lost_beginning(events))),
        ("handled", handled),
        ("resolved", incident.resolved_at.map_or("not yet".into(), at)),
        (
            "looked at",
            incident.acknowledged.as_ref().map_or("by nobody yet".into(), |by| {
                let news = match incident.news().join(", ") {
                    none if none.is_empty() => none,
                    news => format!("; by nobody yet at what is new: {}", clean(&news)),
                };
                format!("by {} since {}{news}", clean(&by.by), at(by.at))
            }),
        ),
        ("release", incident.release.as_deref().map_or("-".into(), clean)),
        ("slots", slots(incident)),
        ("workers", format!("{} acted on", incident.interventions)),
        ("impact", figures(&incident.impact)),
        ("evidence", evidence::of_events(incident, events)),
        ("summary", clean(&incident.summary)),
    ] {
        let mut lines = wrap(&value, 80 - 12).into_iter();
        writeln!(out, "  {name:<10}{}", lines.next().unwrap_or_else(|| "-".into()))?;
        for line in lines {
            writeln!(out, "  {:10}{line}", "")?;
        }
    }
    let mut date = String::new();
    for line in events.iter().map(Line::of) {
        let today = line.at.map_or_else(|| "unknown day".into(), day);
        if today != date {
            writeln!(out, "\n{}", paint.text(Colour::Dim, &today))?;
            date = today;
        }
        let time = line.at.map_or_else(|| "?".into(), millisecond);
        let kind = paint.text(Colour::Bold, &clean(&line.kind));
        writeln!(out, "{time:<12}  {kind}{}", line.place())?;
        let text = clean(&line.reason);
        for text in wrap(&text, 80 - 14).into_iter().chain(wrap(&line.evidence(), 80 - 14)) {
            writeln!(out, "{:14}{text}", "")?;
        }
    }
    advise(out, incident, paint)
}

/// Who looks at all of it.
fn looked_at(incident: &Incident) -> Option<&Acknowledged> {
    incident.acknowledged.as_ref().filter(|_| incident.is_looked_at())
}

/// That the store does not hold the beginning, if so.
fn lost_beginning(events: &[Entry]) -> &'static str {
    let opening = |entry: &Entry| Line::of(entry).kind == Kind::IncidentOpened.as_str();
    match events.iter().any(opening) {
        true => "",
        false => "; the events of its beginning are not in this store",
    }
}

/// What the page of the kind of incident says.
fn advise(out: &mut dyn Write, incident: &Incident, paint: Paint) -> Result<(), Stop> {
    let Some(page) = runbook::of(&incident.kind) else { return Ok(()) };
    for heading in runbook::LISTS {
        writeln!(out, "\n{}", paint.text(Colour::Dim, heading))?;
        for item in runbook::items(page, heading) {
            for (nth, line) in wrap(&item, 80 - 4).into_iter().enumerate() {
                writeln!(out, "  {} {line}", if nth == 0 { '-' } else { ' ' })?;
            }
        }
    }
    Ok(())
}

fn slots(incident: &Incident) -> String {
    let slots: Vec<_> = incident.slots.iter().map(ToString::to_string).collect();
    if slots.is_empty() { "-".into() } else { slots.join(",") }
}

fn json_of(incident: &Incident) -> Result<String, Failure> {
    serde_json::to_string(incident).map_err(|error| Failure::Fault(error.to_string()))
}

/// How long it lasted, to the second, as people say it: `1h 2m 3s`. The quiet time until it was resolved is no
/// part of it; none while it is open.
fn handled_after(incident: &Incident) -> Option<String> {
    let end = incident.handled_at.or(incident.resolved_at)?;
    let lasted = end.duration_since(incident.opened_at).as_secs();
    Some(format!("{:#}", SignedDuration::from_secs(lasted)))
}

fn severity_colour(severity: Severity) -> Option<Colour> {
    match severity {
        Severity::Minor => None,
        Severity::Major => Some(Colour::Yellow),
        Severity::Critical => Some(Colour::Red),
    }
}

fn state_colour(state: IncidentState) -> Colour {
    match state {
        IncidentState::Open => Colour::Red,
        IncidentState::Mitigated => Colour::Yellow,
        IncidentState::Resolved => Colour::Green,
    }
}
