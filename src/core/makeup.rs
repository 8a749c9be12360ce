//! What a worker is made of besides its code at work: the suspects that people turn to first when a
//! server misbehaves. A hash of each tells whether it changed, and since when it has not.

use super::Figures;
use jiff::Timestamp;

/// Hashes of what a worker was started from; equal text is an equal thing, `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Makeup {
    /// stanch's configuration in force, flags and defaults included.
    pub configuration: Option<String>,
    /// The files that the command names: the program, and the arguments that are files.
    pub program: Option<String>,
    /// The worker's environment.
    pub environment: Option<String>,
    /// The kernel's release, the memory and the processors.
    pub host: Option<String>,
}

impl Makeup {
    /// The words for the parts, in their order.
    pub const PARTS: [&str; 4] = ["configuration", "program", "environment", "host"];

    /// The parts, in the order of [`Makeup::PARTS`].
    pub fn parts(&self) -> [&Option<String>; 4] {
        [&self.configuration, &self.program, &self.environment, &self.host]
    }

    /// A part's key in the figures of `worker_started`.
    pub fn key(part: &str) -> String {
        format!("{part}_hash")
    }

    /// From the figures of a `worker_started`.
    pub fn of(figures: &Figures) -> Self {
        let part = |part| Some(figures.get(&Self::key(part))?.as_str()?.to_owned());
        let [configuration, program, environment, host] = Self::PARTS.map(part);
        Self { configuration, program, environment, host }
    }

    /// As figures of `worker_started`.
    pub(super) fn figures(&self) -> Figures {
        let known = Self::PARTS.iter().zip(self.parts());
        known.filter_map(|(part, hash)| Some((Self::key(part), hash.clone()?.into()))).collect()
    }
}

/// Since when each part has been as it is.
#[derive(Clone, Debug, Default)]
pub(super) struct Constancy([Option<(String, Timestamp)>; 4]);

impl Constancy {
    /// A worker was started from this.
    pub fn note(&mut self, at: Timestamp, makeup: &Makeup) {
        for (known, hash) in self.0.iter_mut().zip(makeup.parts()) {
            let Some(hash) = hash else { continue };
            if known.as_ref().is_none_or(|(known, _)| known != hash) {
                *known = Some((hash.clone(), at));
            }
        }
    }

    /// `configuration, environment and host are unchanged since 2026-11-21 14:03Z, program since …`;
    /// empty when nothing is known.
    pub fn words(&self) -> String {
        let mut groups: Vec<(Timestamp, Vec<&str>)> = Vec::new();
        for (part, since) in self.known() {
            match groups.iter_mut().find(|(other, _)| *other == since) {
                Some((_, parts)) => parts.push(part),
                None => groups.push((since, vec![part])),
            }
        }
        let mut words = String::new();
        for (since, parts) in groups {
            let (before, verb) = match (words.is_empty(), parts.len()) {
                (false, _) => (", ", ""),
                (true, 1) => ("", " is unchanged"),
                (true, _) => ("", " are unchanged"),
            };
            let parts = match parts.split_last() {
                Some((last, [])) => (*last).to_owned(),
                Some((last, others)) => format!("{} and {last}", others.join(", ")),
                None => continue,
            };
            words += &format!("{before}{parts}{verb} since {}", since.strftime("%Y-%m-%d %H:%MZ"));
        }
        words
    }

    /// Figures such as `configuration_since`, RFC 3339.
    pub fn figures(&self) -> Figures {
        let figure = |(part, since)| (format!("{part}_since"), format!("{since:.3}").into());
        self.known().map(figure).collect()
    }

    fn known(&self) -> impl Iterator<Item = (&'static str, Timestamp)> {
        let parts = Makeup::PARTS.into_iter().zip(&self.0);
        parts.filter_map(|(part, known)| Some((part, known.as_ref()?.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn makeup(program: &str) -> Makeup {
        let some = |text: &str| Some(text.to_owned());
        Makeup {
            configuration: some("c"),
            program: some(program),
            environment: None,
            host: some("h"),
        }
    }

    fn at(hour: i8) -> Timestamp {
        format!("2026-11-21T{hour:02}:03:00Z").parse().unwrap()
    }

    #[test]
    fn a_change_is_told_of_the_part_that_changed() {
        let mut constancy = Constancy::default();
        assert_eq!(constancy.words(), "");
        constancy.note(at(1), &makeup("a"));
        constancy.note(at(2), &makeup("a"));
        assert_eq!(
            constancy.words(),
            "configuration, program and host are unchanged since 2026-11-21 01:03Z"
        );
        constancy.note(at(3), &makeup("b"));
        // What could not be read this time is taken for what it was.
        constancy.note(at(4), &Makeup::default());
        assert_eq!(
            constancy.words(),
            "configuration and host are unchanged since 2026-11-21 01:03Z, program since \
             2026-11-21 03:03Z"
        );
        assert_eq!(constancy.figures()["program_since"], "2026-11-21T03:03:00.000Z");
        assert!(!constancy.figures().contains_key("environment_since"));
    }
}
