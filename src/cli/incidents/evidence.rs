//! `stanch incidents evidence`: what is kept of workers that had to go; lists and extracts it.

use super::super::Failure;
use super::super::output::{Cell, Paint, Stop, Table, clean, print};
use super::events::Line;
use super::{day, name, second};
use crate::core::units::Bytes;
use crate::core::{Incident, IncidentId, Kind};
use crate::store::{Entry, Kept, KeptFile, Reader, kept};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Of what, and where to.
#[derive(clap::Args)]
pub(super) struct Of {
    /// Only of this incident: its name, the beginning of it, or `last`
    id: Option<String>,
    /// Write the files, uncompressed, below this folder
    #[arg(long, value_name = "FOLDER")]
    extract: Option<PathBuf>,
    /// One JSON object a part of the evidence
    #[arg(long)]
    json: bool,
}

/// Lists the evidence beside the store, and extracts it if asked to.
pub(super) fn run(reader: &Reader, store: &Path, of: &Of) -> Result<(), Failure> {
    let incident = of.id.as_deref().map(|id| name(reader, id)).transpose()?;
    let parts = parts(store, incident.as_ref())?;
    let folders = match &of.extract {
        Some(folder) => parts.iter().map(|part| extract(part, folder)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    print(|out| match of.json {
        true => parts.iter().try_for_each(|part| Ok(writeln!(out, "{}", told(part))?)),
        false => list(out, &parts, &folders),
    })
}

/// How much there is, as the events tell; some of it may have made room for newer.
pub(super) fn of_events(incident: &Incident, events: &[Entry]) -> String {
    let saved: Vec<Line> = events
        .iter()
        .map(Line::of)
        .filter(|line| line.kind == Kind::EvidenceCaptured.as_str())
        .collect();
    let sum = |key: &str| -> u64 {
        saved.iter().filter_map(|line| line.figures.get(key)?.as_u64()).sum()
    };
    match sum("files") {
        0 => "none".to_owned(),
        files => format!(
            "{files} file(s), {:.1}; `stanch incidents evidence {}` lists them",
            Bytes(sum("bytes")),
            incident.id
        ),
    }
}

/// What is kept, of one incident or of all.
fn parts(store: &Path, incident: Option<&IncidentId>) -> Result<Vec<Kept>, Failure> {
    let mut parts = kept(store).map_err(|error| {
        Failure::Fault(format!("cannot read the evidence beside {}: {error}", store.display()))
    })?;
    parts.retain(|part| incident.is_none_or(|incident| part.incident == *incident));
    Ok(parts)
}

fn extract(part: &Kept, folder: &Path) -> Result<PathBuf, Failure> {
    part.extract(folder).map_err(|error| {
        let (incident, worker, part) = (&part.incident, &part.worker, &part.part);
        Failure::Fault(format!(
            "cannot extract {incident}/{worker}/{part} into {}: {error}",
            folder.display()
        ))
    })
}

fn told(part: &Kept) -> serde_json::Value {
    let file = |file: &KeptFile| json!({ "name": file.name, "bytes": file.bytes, "stored_bytes": file.stored_bytes });
    json!({
        "incident": part.incident,
        "worker": part.worker,
        "part": part.part,
        "at": format!("{:.3}", part.at),
        "stored_bytes": part.stored_bytes(),
        "files": part.files.iter().map(file).collect::<Vec<_>>(),
    })
}

fn list(out: &mut dyn Write, parts: &[Kept], folders: &[PathBuf]) -> Result<(), Stop> {
    let mut table = Table::new(&["INCIDENT", "WORKER", "PART", "AT (UTC)", "STORED", "FILES"]);
    for part in parts {
        let names: Vec<String> = part
            .files
            .iter()
            .map(|file| format!("{} ({:.1})", file.name, Bytes(file.bytes)))
            .collect();
        table.row(vec![
            Cell::text(&part.incident.0),
            Cell::text(&part.worker),
            Cell::text(&part.part),
            Cell::text(format!("{} {}", day(part.at), second(part.at))),
            Cell::figure(Some(format!("{:.1}", Bytes(part.stored_bytes())))),
            Cell::text(names.join(", ")),
        ]);
    }
    table.write(out, Paint::of_stdout())?;
    for folder in folders {
        writeln!(out, "extracted to {}", clean(&folder.to_string_lossy()))?;
    }
    Ok(())
}
