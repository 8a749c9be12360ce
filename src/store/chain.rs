//! The hash chain: what makes a change to the past visible.

use super::rows::digest;
use crate::core::{IncidentId, Record};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// A place in the chain: an event's number and hash. The default (`seq` 0, empty hash) is the place
/// before the first event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The event's number, from 1 without gaps.
    pub seq: u64,
    /// 64 lowercase hexadecimal digits, or empty before the first event.
    pub hash: String,
}

/// An event as it stands in the store: its place and its JSON, and the row of its incident that is
/// written with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub head: Head,
    pub body: String,
    pub row: Option<(IncidentId, String)>,
}

/// Two lowercase digits a byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Head {
    /// The place of the event with this body, if it comes next.
    pub(super) fn after(&self, body: &str) -> Head {
        let digest = Sha256::new().chain_update(&self.hash).chain_update(body).finalize();
        Head { seq: self.seq + 1, hash: hexadecimal(&digest) }
    }

    /// The records as the next links of the chain.
    pub(super) fn extend<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Vec<Link> {
        let mut head = self.clone();
        records
            .map(|record| {
                let row = record.state.as_ref().map(|state| (state.id.clone(), json(state)));
                let body = body(head.seq + 1, record, row.as_ref().map(|(_, row)| digest(row)));
                head = head.after(&body);
                Link { head: head.clone(), body, row }
            })
            .collect()
    }
}

/// The event's JSON, keys in the order of the documentation.
fn body(seq: u64, record: &Record, incident_sha256: Option<String>) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        seq: u64,
        #[serde(flatten)]
        record: &'a Record,
        #[serde(skip_serializing_if = "Option::is_none")]
        incident_sha256: Option<String>,
    }
    json(&Body { seq, record, incident_sha256 })
}

fn json(what: &impl Serialize) -> String {
    serde_json::to_string(what).expect(
        "records and incidents hold nothing that JSON cannot: keys are strings, times valid",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Figures, Generation, IncidentId, Kind, Slot};

    #[test]
    fn body_and_hash_are_the_documented_ones() {
        let mut figures = Figures::new();
        figures.insert("slope_kib_s".into(), 12.5.into());
        let record = Record {
            number: 77,
            at: "2026-11-21T15:30:12.1204Z".parse().unwrap(),
            kind: Kind::LeakConfirmed,
            incident: Some(IncidentId("20261121T153012Z".into())),
            slot: Some(Slot(1)),
            pid: Some(4242),
            generation: Some(Generation(3)),
            release: None,
            cause: None,
            reason: "grows \"steadily\"".into(),
            figures,
            state: None,
        };
        let first = Head::default().extend([&record].into_iter()).remove(0);
        assert_eq!(
            first.body,
            r#"{"seq":1,"at":"2026-11-21T15:30:12.120Z","kind":"leak_confirmed","incident":"20261121T153012Z","slot":1,"pid":4242,"generation":3,"release":null,"cause":null,"reason":"grows \"steadily\"","figures":{"slope_kib_s":12.5}}"#
        );
        // Known answers of SHA-256 (FIPS 180-2): of "abc", and of the same split over both inputs.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Head::default().after("abc"), Head { seq: 1, hash: abc.into() });
        assert_eq!(
            Head { seq: 4, hash: "a".into() }.after("bc"),
            Head { seq: 5, hash: abc.into() }
        );
    }
}
