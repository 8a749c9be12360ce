//! Another program takes the supervisor's place, with what it was handed.

use super::{Due, World, death};
use stanch::core::{Action, Handover, Legacy, Settings, Succession, Supervisor, Ticket, WorkerId};
use std::time::Duration;

impl World {
    /// Nobody dies, nothing is lost, and who asked is answered by the next one.
    pub(super) fn succeed(&mut self, ticket: Ticket) {
        let seed = self.invariants.seed;
        assert_eq!(self.supervisor.underway(), None, "seed {seed}: it is handed over at rest");
        let text = serde_json::to_string(&self.supervisor.hand_over()).unwrap();
        let handover: Handover = serde_json::from_str(&text).unwrap();
        self.log.close();
        self.invariants.succeeded();
        // Each adopted one gets a new pulse.
        self.agenda.retain(|_, due| !matches!(due, Due::Tick(_)));
        // The file says what it said when it was last read; how many workers there are is handed over.
        let settings = Settings { workers: self.settings.workers, ..self.invariants.in_force() };
        self.supervisor = Supervisor::new(settings, self.random.below(u64::MAX));
        let failure = self.random.chance(0.2).then(|| "no such file".to_owned());
        let succession = Succession {
            handover,
            from: "1".to_owned(),
            to: "2".to_owned(),
            pause: Duration::from_millis(30),
            ticket: Some(ticket),
            failure,
        };
        let legacy = Legacy { succession: Some(succession), ..death::legacy() };
        let actions = self.supervisor.recover(self.reading(), legacy);
        let adopted = actions.iter().filter_map(|action| match action {
            Action::Adopt { worker, verified: true, .. } => Some(*worker),
            _ => None,
        });
        let adopted: Vec<WorkerId> = adopted.collect();
        let all: Vec<WorkerId> = self.fakes.keys().copied().collect();
        assert_eq!(adopted, all, "seed {seed}: each is kept");
        self.act(actions);
    }
}
