//! What of a configuration belongs to a release: that by which workers are started.

use super::checked::{App, Config, Evidence, Health};
use super::difference::difference;
use crate::core::reload::Holds;
use crate::core::{HealthSettings, Settings};
use std::path::Path;

impl Config {
    /// This configuration with the release of another one: all keys that hold in new workers.
    pub fn with_release_of(self, other: &Config) -> Self {
        let other = other.clone();
        Config {
            app: App { name: self.app.name, ..other.app },
            health: Health { path: other.health.path, ..self.health },
            limits: other.limits,
            evidence: Evidence { log_lines: other.evidence.log_lines, ..self.evidence },
            settings: Settings {
                release: other.settings.release,
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

    /// The same with its release pinned to the files of when it was read: `app.directory` is where it led
    /// then, and so is what of the command and the environment begins with it. Links of deploys
    /// (`current` → `releases/42`) may lead elsewhere by now.
    pub fn pinned(mut self) -> Self {
        let (Some(link), Some(real)) = (&self.app.directory, &self.app.leads_to) else {
            return self;
        };
        let moved = |path: &Path| Some(real.join(path.strip_prefix(link).ok()?));
        let text = |word: &str| Some(moved(Path::new(word))?.to_str()?.to_owned());
        let words = self.app.command.iter_mut().chain(self.app.environment.0.values_mut());
        words.for_each(|word| {
            if let Some(there) = text(word) {
                *word = there;
            }
        });
        if let Some(there) = self.app.environment_file.as_deref().and_then(moved) {
            self.app.environment_file = Some(there);
        }
        self.app.directory = self.app.leads_to.take();
        self
    }
}

/// The label of a release, as a file has it: its first line.
pub fn label(text: &str) -> Result<String, &'static str> {
    let line = text.lines().next().unwrap_or_default().trim();
    check_label(line).map(|()| line.to_owned())
}

/// Whether this can be the label of a release.
pub(super) fn check_label(label: &str) -> Result<(), &'static str> {
    match label.trim().is_empty() || label.chars().any(char::is_control) {
        true => Err("is empty or has control characters"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_pinned_release_is_where_its_link_led() {
        let mut config = Config::default();
        config.app.directory = Some(PathBuf::from("/srv/shop/current"));
        config.app.leads_to = Some(PathBuf::from("/srv/shop/releases/41"));
        let words =
            ["/srv/shop/current/bin/shop", "--root=/srv/shop/current", "/srv/shop/currently"];
        config.app.command = words.map(String::from).to_vec();
        config.app.environment.0.insert("LIB".into(), "/srv/shop/current/lib".into());
        config.app.environment_file = Some(PathBuf::from("/srv/shop/current/.env"));
        let App { command, directory, environment, environment_file, .. } = config.pinned().app;
        assert_eq!(command, ["/srv/shop/releases/41/bin/shop", words[1], words[2]]);
        assert_eq!(directory, Some(PathBuf::from("/srv/shop/releases/41")));
        assert_eq!(environment.0["LIB"], "/srv/shop/releases/41/lib");
        assert_eq!(environment_file, Some(PathBuf::from("/srv/shop/releases/41/.env")));
    }

    #[test]
    fn a_label_is_the_first_line_of_its_file() {
        assert_eq!(label("2026-11-22.1 \nby ci\n").as_deref(), Ok("2026-11-22.1"));
        assert!(label("\n42").is_err() && label("").is_err() && label("a\u{7}").is_err());
    }
}
