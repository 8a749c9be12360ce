//! The evidence: what grew in each worker that had to go.

use super::Dossier;
use super::replacements::figure;
use super::words::{second, size, span};
use crate::core::{Kind, Record};
use std::collections::BTreeSet;

/// Of more than twice this the middle ones are left out.
const ENDS: usize = 5;

/// When, of which worker, and what grew most; a row each look, or what was left of a worker that ended before
/// there was one.
pub(super) fn rows(dossier: &Dossier) -> Vec<Vec<String>> {
    let taken = |part| {
        let of_part = move |record: &&Record| record.cause.as_deref() == Some(part);
        dossier.own().filter(|record| record.kind == Kind::EvidenceCaptured).filter(of_part)
    };
    let looked_at: BTreeSet<_> = taken("look").map(Record::worker).collect();
    let remains = taken("remains").filter(|record| !looked_at.contains(&record.worker()));
    let mut taken: Vec<&Record> = taken("look").chain(remains).collect();
    taken.sort_by_key(|record| record.at);
    let mut rows: Vec<Vec<String>> = taken
        .into_iter()
        .map(|record| {
            let who = record.worker().map(|worker| worker.to_string()).unwrap_or_default();
            let age = figure(record, "baseline_age_s").map_or("not known".to_owned(), span);
            vec![second(record.at, &dossier.zone), who, grew(record), age]
        })
        .collect();
    let hidden = rows.len().saturating_sub(2 * ENDS);
    if hidden > 1 {
        let more = format!("{hidden} more");
        rows.splice(
            ENDS..ENDS + hidden,
            [vec!["…".to_owned(), String::new(), more, String::new()]],
        );
    }
    rows
}

/// Whether there is more of it than was said.
pub(super) fn is_kept(dossier: &Dossier) -> bool {
    dossier.own().filter_map(|record| figure(record, "files")).any(|files| files > 0.0)
}

fn grew(record: &Record) -> String {
    let name = |key: &str| record.figures.get(key).and_then(|name| name.as_str());
    let memory = name("grew_most").zip(figure(record, "grew_most_kib"));
    let descriptors = name("descriptors_grew_most").zip(figure(record, "descriptors_grew_most_by"));
    let told: Vec<String> = memory
        .map(|(what, kib)| format!("{what} by {}", size(kib)))
        .into_iter()
        .chain(descriptors.map(|(what, by)| format!("descriptors ({what}) by {by}")))
        .collect();
    if told.is_empty() { record.reason.clone() } else { told.join(", ") }
}
