//! Links that a deploy makes to lead elsewhere (`current` → `releases/42`): followed once, when the configuration
//! is read, or else warned of.
//!
//! | a link | in | is |
//! | --- | --- | --- |
//! | to a folder | `app.directory`, `app.environment_file`; a word of the command that is a path as a whole and has a slash; an absolute path in any word | followed once |
//! | to a folder | a relative path in a part of a word (`sh -c "exec python3 current/server.py"`), a name without a slash | warned of |
//! | to a file | the command | warned of: what it is called by may matter (`venv/bin/python`) |
//! | of the system, or to a file of it | | left alone |
//! | in a folder that was come to by a link | | the release's own |

use crate::config::{Config, Pins, parts};
use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// Where links are made by the system and its packages.
const OF_SYSTEM: [&str; 5] = ["/usr", "/etc", "/dev", "/proc", "/sys"];

/// Where the links lead that are followed once; all are of one moment.
pub fn pins(config: &Config) -> Pins {
    let app = &config.app;
    let mut pins = Pins::default();
    let directory = app.directory.clone().unwrap_or_default();
    pins.home = follow(&mut pins, &directory).unwrap_or(directory);
    let whole = app.command.iter().filter_map(|word| pins.path(word));
    let absolute = app.command.iter().flat_map(|word| parts(word)).map(PathBuf::from);
    let absolute = absolute.filter(|path| path.is_absolute());
    let paths: Vec<PathBuf> = whole.chain(absolute).chain(app.environment_file.clone()).collect();
    for path in paths {
        // What is not there yet has a way to it.
        let folder = path.ancestors().find(|folder| folder.is_dir());
        if let Some(folder) = folder.filter(|folder| links_to(folder).next().is_some()) {
            let _ = follow(&mut pins, folder);
        }
    }
    pins
}

/// Follows the links on the way to a folder, each once; `None` if there is no such folder.
fn follow(pins: &mut Pins, folder: &Path) -> Option<PathBuf> {
    let (mut named, mut real) = (PathBuf::new(), PathBuf::new());
    let mut found = Vec::new();
    // Without the dots and slashes that say nothing.
    let folder = if folder == Path::new("") { Path::new(".") } else { folder };
    for part in std::path::absolute(folder).ok()?.components() {
        named.push(part);
        let known = pins.links.iter().find(|(link, _)| *link == named);
        real = match known {
            Some((_, real)) => real.clone(),
            None => real.join(part).canonicalize().ok()?,
        };
        if known.is_none() && named != real {
            found.push((named.clone(), real.clone()));
        }
    }
    pins.links.extend(found);
    pins.links.sort_by_key(|(link, _)| Reverse(link.components().count()));
    Some(real)
}

/// The links on the way to a file or folder that may be made to lead elsewhere: those of the system (`/bin`,
/// `/usr/bin/python3`) and to its files (`venv/bin/python`) are no release's.
fn links_to(path: &Path) -> impl Iterator<Item = &Path> {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    let of_system = |path: &Path| OF_SYSTEM.iter().any(|folder| path.starts_with(folder));
    ways.into_iter().filter(move |way| {
        let folder = way.parent().and_then(|folder| folder.canonicalize().ok());
        let there = folder.is_none_or(|folder| folder == Path::new("/") || of_system(&folder));
        let leads = || way.canonicalize().is_ok_and(|real| of_system(&real));
        way.is_symlink() && !there && !leads()
    })
}

/// The links in a command that was pinned, which each start of a worker follows anew.
pub fn unpinned(config: &Config, pins: &Pins) -> Vec<PathBuf> {
    // Without a slash the program is one of PATH.
    let program = |(at, path): &(usize, &str)| *at > 0 || path.contains('/');
    let words = config.app.command.iter().enumerate();
    let named = words.flat_map(|(at, word)| {
        [word.as_str()].into_iter().chain(parts(word)).map(move |path| (at, path))
    });
    let own = |link: &Path| pins.links.iter().any(|(_, real)| link.starts_with(real));
    let mut links: Vec<PathBuf> = Vec::new();
    for (_, path) in named.filter(program) {
        let path = pins.home.join(path);
        let link = links_to(&path).find(|link| !own(link)).map(Path::to_owned);
        links.extend(link.filter(|link| !links.contains(link)));
    }
    links
}

#[cfg(test)]
mod tests {
    use super::super::place::with_release;
    use super::*;

    /// Whatever the spelling, and with every link on the way: that to the release, and those in it.
    #[test]
    fn a_release_is_where_links_led_when_it_was_read() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for label in ["1", "2"] {
            let release = root.join("releases").join(label);
            std::fs::create_dir_all(&release).unwrap();
            std::fs::write(release.join("REVISION"), label).unwrap();
            std::fs::create_dir_all(root.join("shared")).unwrap();
            symlink(root.join("shared"), release.join("work")).unwrap();
        }
        symlink("releases/1", root.join("current")).unwrap();
        let read = |directory: &str| {
            let mut config = Config::default();
            config.app.directory = Some(root.join(directory));
            config.app.command = vec![root.join("current/bin/shop").display().to_string()];
            config.release.file = Some(root.join("current/REVISION"));
            let Ok(config) = with_release(config) else { panic!("{directory}") };
            assert_eq!(config.settings.release.as_deref(), Some("1"), "{directory}");
            let program = root.join("releases/1/bin/shop").display().to_string();
            assert_eq!(config.app.command, [program], "{directory}");
            config.app.directory.unwrap()
        };
        for spelling in ["current", "current/", "current/.", "./current//", "current/../../current"]
        {
            assert_eq!(read(spelling), root.join("releases/1"), "{spelling}");
        }
        assert_eq!(read("current/work"), root.join("shared"));
    }

    /// A folder as a deploy leaves it: `current` leads to release 1.
    fn shop() -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let bin = root.join("releases/1/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("shop"), "").unwrap();
        symlink("shop", bin.join("other")).unwrap();
        symlink("/usr/bin/env", bin.join("python")).unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        (folder, root)
    }

    /// The command that is started, and the links that it goes through still.
    fn read(root: &Path, directory: &str, words: &[&str]) -> (Vec<String>, Vec<String>) {
        let mut config = Config::default();
        config.app.directory = Some(root.join(directory));
        let word = |word: &&str| word.replace("ROOT", root.to_str().unwrap());
        config.app.command = words.iter().map(word).collect();
        let pins = pins(&config);
        let config = config.pinned(&pins);
        let short = |text: &str| text.replace(root.to_str().unwrap(), "ROOT");
        let links = unpinned(&config, &pins);
        let links = links.iter().map(|link| short(link.to_str().unwrap())).collect();
        (config.app.command.iter().map(|word| short(word)).collect(), links)
    }

    #[test]
    fn paths_of_a_command_are_followed_once_and_the_rest_is_told() {
        let (_folder, root) = shop();
        let still: [&str; 0] = [];
        let absolute = ["sh", "-c", "cd ROOT/current && exec 'ROOT/current/bin/shop' $HOME/x"];
        let script = ["sh", "-c", "cd ROOT/releases/1 && exec 'ROOT/releases/1/bin/shop' $HOME/x"];
        for (directory, words, started, told) in [
            (
                "current",
                &["bin/shop", "tmp/pid", "x"][..],
                &["bin/shop", "tmp/pid", "x"][..],
                &still[..],
            ),
            (".", &["x", "current/bin/shop"], &["x", "ROOT/releases/1/bin/shop"], &still),
            (".", &["./current/tmp/none"], &["ROOT/releases/1/tmp/none"], &still),
            (".", &["current"], &["current"], &still),
            (".", &["x", "current"], &["x", "current"], &["ROOT/current"]),
            (
                ".",
                &["sh", "-c", "exec current/bin/shop"],
                &["sh", "-c", "exec current/bin/shop"],
                &["ROOT/current"],
            ),
            (".", &absolute, &script, &still),
            ("current", &absolute, &script, &still),
            ("releases", &["../current/bin/shop"], &["ROOT/releases/1/bin/shop"], &still),
            // A virtual environment's is the system's, and what a release has in it is its own.
            (
                "releases/1",
                &["bin/python", "bin/other"],
                &["bin/python", "bin/other"],
                &["ROOT/releases/1/bin/other"],
            ),
            ("current", &["bin/python", "bin/other"], &["bin/python", "bin/other"], &still),
            ("current", &["/bin/sh", "/dev/stdin"], &["/bin/sh", "/dev/stdin"], &still),
        ] {
            let (command, links) = read(&root, directory, words);
            assert_eq!(command, started, "{directory}");
            assert_eq!(links, told, "{directory} {words:?}");
        }
    }
}
