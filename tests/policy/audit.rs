//! What is written down when the audit log can be written again.

use crate::paper::Paper;
use stanch::core::{Action, Command, Event, Incident, Kind};

#[test]
fn a_log_that_begins_anew_has_what_is_open() {
    let mut paper = Paper::new();
    paper.command(Command::Pause);
    paper.hangs();
    paper.command(Command::Acknowledge { incident: "last".to_owned(), by: None });
    let mut restored = |gone| -> Vec<Incident> {
        let event = Event::StoreRestored { buffered: 1, lost: 0, gone, states: Vec::new() };
        let written = paper.tell(event).into_iter().filter_map(|action| match action {
            Action::Record(record) if record.kind == Kind::IncidentChanged => record.state,
            _ => None,
        });
        written.map(|state| *state).collect()
    };
    assert_eq!(restored(0), []);
    let [hang] = &restored(7)[..] else { panic!("one is open") };
    assert_eq!(hang.kind, "hang");
    assert!(hang.acknowledged.is_some(), "{hang:?}");
}
