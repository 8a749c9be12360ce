//! A configuration that takes the place of another one while workers serve.

use super::{Refusal, Settings};
use std::fmt::Write;
use std::time::Duration;

/// What a reload asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// What the configuration is now, or why there is none to be had.
    pub found: Result<Box<Reconfiguration>, Refusal>,
    /// What becomes of the workers that serve.
    pub then: Then,
}

/// What becomes of the workers that serve when a configuration has come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// They serve on as they are.
    Keep,
    /// All are replaced, one by one.
    Roll,
    /// The same, and if that fails, workers are as before again.
    Deploy,
}

/// A configuration in the place of another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconfiguration {
    /// What decisions depend on from now on; of its number of slots see `workers`.
    pub settings: Settings,
    /// The new number of slots. `None` where the configuration says what it said before: then a number
    /// that an operator has set since stays.
    pub workers: Option<u32>,
    /// What is different, for people.
    pub difference: Difference,
    /// How workers are started, against the configuration in force …
    pub start: Start,
    /// … and against that of the release before it, if there is one.
    pub start_before: Start,
    /// How long it takes until a worker that hangs is found out, ten seconds at least.
    pub proof: Duration,
}

/// How workers of one configuration are started, against those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In the same way: going back from one to the other changes nothing.
    Alike,
    /// By the same command in the same directory, and otherwise in another way.
    InPlace,
    /// In another way, or from other files.
    Otherwise,
}

/// When a change is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// At once.
    Now,
    /// In workers that are started from now on.
    InNewWorkers,
    /// When stanch is started again; until then it is as it was.
    AfterRestart,
    /// With the next deploy: it belongs to a release that was gone back from.
    WithDeploy,
}

impl Holds {
    /// All of them.
    pub const ALL: [Holds; 4] =
        [Holds::Now, Holds::InNewWorkers, Holds::AfterRestart, Holds::WithDeploy];
}

/// One key that says something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it is in force.
    pub holds: Holds,
    /// `memory.soft_limit: 256MiB → 512MiB`; nothing that may be a secret.
    pub text: String,
}

/// What is different, in the order of the documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference(pub Vec<Change>);

impl Difference {
    /// How many changes hold then.
    pub fn count(&self, holds: Holds) -> usize {
        self.of(holds).count()
    }

    /// What would hold then does so at another time.
    pub fn put_off(&mut self, then: Holds, to: Holds) {
        let those = self.0.iter_mut().filter(|change| change.holds == then);
        those.for_each(|change| change.holds = to);
    }

    /// For the audit log: one line.
    pub fn sentence(&self, then: Then) -> String {
        let part = |holds| {
            let texts: Vec<&str> = self.of(holds).collect();
            (!texts.is_empty()).then(|| format!("{}: {}", heading(holds, then), texts.join(", ")))
        };
        let parts: Vec<String> = Holds::ALL.into_iter().filter_map(part).collect();
        if parts.is_empty() { UNCHANGED.to_owned() } else { parts.join("; ") }
    }

    /// For who asked: a line a change.
    pub fn lines(&self, then: Then) -> String {
        let mut lines = String::new();
        for holds in Holds::ALL.into_iter().filter(|holds| self.count(*holds) > 0) {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{}:", heading(holds, then));
            for text in self.of(holds) {
                let _ = writeln!(lines, "  {text}");
            }
        }
        if lines.is_empty() { UNCHANGED.to_owned() } else { lines.trim_end().to_owned() }
    }

    fn of(&self, holds: Holds) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |change| change.holds == holds).map(|change| change.text.as_str())
    }
}

const UNCHANGED: &str = "the configuration says what it said before";

fn heading(holds: Holds, then: Then) -> &'static str {
    match (holds, then) {
        (Holds::Now, _) => "in force",
        (Holds::InNewWorkers, Then::Roll | Then::Deploy) => {
            "in force with the replacement of the workers"
        }
        (Holds::InNewWorkers, Then::Keep) => {
            "in force for workers started from now on (`stanch reload --roll` replaces all)"
        }
        (Holds::AfterRestart, _) => "needs a restart of stanch, and stays as it was until then",
        (Holds::WithDeploy, _) => "rolled back, and not in force (`stanch deploy` tries it again)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_when_is_told_apart() {
        let change = |holds, text: &str| Change { holds, text: text.to_owned() };
        let difference = Difference(vec![
            change(Holds::AfterRestart, "app.name: a → b"),
            change(Holds::Now, "leak.action: restart → off"),
            change(Holds::InNewWorkers, "app.user: www → app"),
            change(Holds::Now, "app.workers: 1 → 2"),
        ]);
        assert_eq!(
            difference.lines(Then::Keep),
            "in force:\n  leak.action: restart → off\n  app.workers: 1 → 2\n\
             in force for workers started from now on (`stanch reload --roll` replaces all):\n  \
             app.user: www → app\n\
             needs a restart of stanch, and stays as it was until then:\n  app.name: a → b"
        );
        let sentence = difference.sentence(Then::Roll);
        assert!(sentence.contains("with the replacement of the workers: app.user"), "{sentence}");
        assert!(!sentence.contains('\n') && !sentence.contains("--roll"), "{sentence}");
        assert_eq!(Difference::default().lines(Then::Roll), UNCHANGED);
    }
}
