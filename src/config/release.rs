//! What of a configuration belongs to a release: that by which workers are started.

use super::checked::{App, Config, Evidence, Health};
use super::difference::difference;
use crate::core::reload::{Holds, Start};
use crate::core::{HealthSettings, Settings};
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Config {
    /// This configuration with the release of another one: all keys that hold in new workers.
    pub fn with_release_of(self, other: &Config) -> Self {
        let other = other.clone();
        Config {
            app: App { name: self.app.name, ..other.app },
            ready: other.ready,
            health: Health { path: other.health.path, ..self.health },
            limits: other.limits,
            evidence: Evidence { log_lines: other.evidence.log_lines, ..self.evidence },
            settings: Settings {
                release: other.settings.release,
                ready_timeout: other.settings.ready_timeout,
                health: HealthSettings {
                    watchdog: other.settings.health.watchdog,
                    ..self.settings.health
                },
                ..self.settings
            },
            ..self
        }
    }

    /// Whether another one has its workers started in the same way, and under the same label.
    pub fn is_same_release(&self, other: &Config) -> bool {
        difference(self, other).count(Holds::InNewWorkers) == 0
    }

    /// Whether it has them started in the same way, whatever the label.
    pub fn starts_alike(&self, other: &Config) -> bool {
        let mut unlabelled = self.clone();
        unlabelled.settings.release = other.settings.release.clone();
        unlabelled.is_same_release(other)
    }

    /// How it has them started, against another one.
    pub fn start_against(&self, other: &Config) -> Start {
        let (these, those) = (&self.app, &other.app);
        match () {
            () if self.starts_alike(other) => Start::Alike,
            () if these.directory == those.directory && these.command == those.command => {
                Start::InPlace
            }
            () => Start::Otherwise,
        }
    }

    /// How long it takes until a worker that hangs is found out by its probes or its silence; ten seconds at
    /// least, as long as Nomad's `min_healthy_time`.
    pub fn proof(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(10);
        let HealthSettings { failures, watchdog } = self.settings.health;
        let probes = (self.health.interval + self.health.timeout) * failures;
        LEAST.max(probes).max(watchdog.unwrap_or_default())
    }

    /// The same with where links led in the place of the links: in the directory, and in paths of the command
    /// and the environment (`current/bin/shop`, `--root=/srv/shop/current`, entries of a search path).
    /// So workers are started from the same files until a configuration is read again, wherever the links of
    /// deploys (`current` → `releases/42`) lead meanwhile.
    pub fn pinned(mut self, pins: &Pins) -> Self {
        for word in &mut self.app.command {
            *word = pins.whole(word).unwrap_or_else(|| pins.text(word));
        }
        for value in self.app.environment.0.values_mut() {
            // What it is relative to is known to who reads it.
            let whole = Some(&*value).filter(|value| Path::new(value).is_absolute());
            *value = whole.and_then(|path| pins.whole(path)).unwrap_or_else(|| pins.text(value));
        }
        for path in [&mut self.app.directory, &mut self.app.environment_file].into_iter().flatten()
        {
            if let Some(there) = pins.moved(path) {
                *path = there;
            }
        }
        self
    }
}

/// What a shell does not take for a part of a path.
const SHELL_MARKS: &str = "'\";&|()<>`";

/// Whether a word is several, and so for a shell (`sh -c "exec node app.js"`).
fn is_script(word: &str) -> bool {
    word.contains(char::is_whitespace)
}

/// What ends a path in a word: `--root=PATH`, `PATH:PATH`, and what a shell reads.
fn is_mark(in_script: bool, c: char) -> bool {
    "=:".contains(c) || in_script && (c.is_whitespace() || SHELL_MARKS.contains(c))
}

/// The parts of a word that may be paths, if it is none as a whole.
pub fn parts(word: &str) -> impl Iterator<Item = &str> {
    let in_script = is_script(word);
    word.split(move |c| is_mark(in_script, c)).filter(|part| !part.is_empty())
}

/// Where links led at one moment.
#[derive(Debug, Default)]
pub struct Pins {
    /// Where relative words of the command begin, without a link: the workers' directory.
    pub home: PathBuf,
    /// A path, and the same without a link; the longest first.
    pub links: Vec<(PathBuf, PathBuf)>,
}

impl Pins {
    /// Where a path leads that begins with one of them.
    pub fn moved(&self, path: &Path) -> Option<PathBuf> {
        self.links.iter().find_map(|(link, real)| {
            let rest = path.strip_prefix(link).ok()?;
            // Joined to nothing it would end with a slash.
            Some(if rest.as_os_str().is_empty() { real.clone() } else { real.join(rest) })
        })
    }

    /// The path that a word may be as a whole: a name without a slash may be anything.
    pub fn path(&self, word: &str) -> Option<PathBuf> {
        word.contains('/').then(|| self.home.join(word))
    }

    fn whole(&self, word: &str) -> Option<String> {
        let several =
            is_script(word) && parts(word).any(|part| self.moved(Path::new(part)).is_some());
        let path = self.path(word).filter(|_| !several)?;
        self.moved(&path)?.into_os_string().into_string().ok()
    }

    /// Its absolute paths are moved: what others are relative to is not known in a script. Nor is one there that a
    /// shell would read otherwise.
    fn text(&self, word: &str) -> String {
        let in_script = is_script(word);
        let is_plain = |c: char| c.is_alphanumeric() || "/._-+@,%".contains(c);
        let part = |part: &str| {
            let path = self.moved(Path::new(part))?.into_os_string().into_string().ok()?;
            (!in_script || path.chars().all(is_plain)).then_some(path)
        };
        let ends = |c| is_mark(in_script, c);
        let parts = word.split_inclusive(ends).map(|text| {
            let path = text.trim_end_matches(ends);
            part(path).unwrap_or_else(|| path.to_owned()) + &text[path.len()..]
        });
        parts.collect()
    }
}

/// It stands in each event.
const LABEL_MAX: usize = 200;

/// The label of a release, as a file has it: its first line.
///
/// # Errors
/// What is wrong with it.
pub fn label(text: &[u8]) -> Result<String, &'static str> {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text")?.trim();
    check_label(line).map(|()| line.to_owned())
}

/// Whether this can be the label of a release.
pub(super) fn check_label(label: &str) -> Result<(), &'static str> {
    if label.trim().is_empty() || label.chars().any(char::is_control) {
        return Err("is empty or has control characters");
    }
    if label.len() > LABEL_MAX { Err("is longer than 200 bytes") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_release_is_where_its_link_led() {
        let mut config = Config::default();
        config.app.directory = Some(PathBuf::from("/srv/shop/current/app"));
        let words = [
            "/srv/shop/current/bin/shop",
            "--root=/srv/shop/current",
            "/srv/shop/currently",
            "a:b=c",
            "/usr/bin:/srv/shop/current/bin:",
            "/srv/shop/current/work/pid",
            "../bin/shop",
            "current",
            "cd /srv/shop/current; exec '/srv/shop/current/my app' ../bin/shop",
        ];
        config.app.command = words.map(String::from).to_vec();
        config.app.environment.0.insert("LIB".into(), "/srv/shop/current/lib".into());
        config.app.environment_file = Some(PathBuf::from("/srv/shop/current/.env"));
        let pin = |link: &str, real: &str| (PathBuf::from(link), PathBuf::from(real));
        let pins = Pins {
            home: PathBuf::from("/srv/shop/releases/41/app"),
            links: vec![
                pin("/srv/shop/releases/41/app/../bin", "/srv/shop/shared/bin"),
                pin("/srv/shop/current/work", "/srv/shop/shared/work"),
                pin("/srv/shop/current", "/srv/shop/releases/41"),
            ],
        };
        let App { command, directory, environment, environment_file, .. } =
            config.pinned(&pins).app;
        assert_eq!(
            command,
            [
                "/srv/shop/releases/41/bin/shop",
                "--root=/srv/shop/releases/41",
                words[2],
                words[3],
                "/usr/bin:/srv/shop/releases/41/bin:",
                "/srv/shop/shared/work/pid",
                "/srv/shop/shared/bin/shop",
                "current",
                "cd /srv/shop/releases/41; exec '/srv/shop/releases/41/my app' ../bin/shop",
            ]
        );
        assert_eq!(directory, Some(PathBuf::from("/srv/shop/releases/41/app")));
        assert_eq!(environment.0["LIB"], "/srv/shop/releases/41/lib");
        assert_eq!(environment_file, Some(PathBuf::from("/srv/shop/releases/41/.env")));
    }

    #[test]
    fn what_a_shell_would_read_otherwise_stays_in_its_text() {
        let (link, real) = (PathBuf::from("/srv/current"), PathBuf::from("/srv/it; is $1"));
        let pins = Pins { home: PathBuf::from("/"), links: vec![(link, real)] };
        let mut config = Config::default();
        config.app.command =
            ["/srv/current/a", "-r=/srv/current", "/srv/current/a b"].map(String::from).to_vec();
        let words = config.pinned(&pins).app.command;
        assert_eq!(words, ["/srv/it; is $1/a", "-r=/srv/it; is $1", "/srv/current/a b"]);
    }

    #[test]
    fn a_release_is_proved_when_a_hang_would_have_been_found_out() {
        let mut config = Config::default();
        assert_eq!(config.proof(), Duration::from_secs(45));
        config.health.interval = Duration::from_secs(1);
        config.health.timeout = Duration::from_secs(1);
        assert_eq!(config.proof(), Duration::from_secs(10));
        config.settings.health.watchdog = Some(Duration::from_secs(60));
        assert_eq!(config.proof(), Duration::from_secs(60));
    }

    #[test]
    fn a_label_is_the_first_line_of_its_file() {
        assert_eq!(label(b"2026-11-22.1 \nby \xff\n").as_deref(), Ok("2026-11-22.1"));
        let wrong: [&[u8]; 5] = [b"\n42", b"", b"a\x07", b"\xff", &[b'a'; 201]];
        assert!(wrong.iter().all(|text| label(text).is_err()));
    }
}
