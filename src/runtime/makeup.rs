//! Hashes of what workers are started from, see [`Makeup`].
//!
//! SHA-256, cut to 64 bits: enough to tell two things apart that nobody forges. Each is salted with a
//! random number of the store's, because an environment holds secrets and a hash of a short one, in a log
//! that is handed around, could be guessed back. Files are hashed by content, once for each state that
//! they are in (device, inode, size, times of change).
//!
//! The program is the files that the command names: its first word, the arguments that are files, and in an
//! argument of several words (`sh -c "exec node app.js"`) each word that is a file or a command. The words
//! themselves are configuration. What depends on where stanch was started from is no part of anything: a
//! worker's folder shows in the files that its command names there.
//!
//! Limits: libraries and modules that the program loads by itself are not looked at, nor what a shell would
//! make of a word with a variable in it, and a file of more than [`WHOLE`] counts as changed when its size
//! or time does.

use super::lock::lock;
use crate::config::{Config, ListenMode};
use crate::core::Makeup;
use crate::linux::launch::Plan;
use crate::store::hexadecimal;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::Mutex as Turn;
use tokio::task::spawn_blocking;

/// Larger files are not read: 256 MiB take a fifth of a second.
const WHOLE: u64 = 256 * 1024 * 1024;

/// Variables that differ from start to start, or from slot to slot, with nothing changed: what systemd,
/// shells and stanch say of a single run. And the name of the release, which is a suspect of its own.
const PASSING: &[&str] = &[
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "STANCH_RELEASE",
    "SYSTEMD_EXEC_PID",
    "_",
];

/// What ends a word in a script, beside blanks.
const SCRIPT_MARKS: &[char] = &['\'', '"', ';', '&', '|', '(', ')', '<', '>', '=', '`'];

/// Makes the hashes.
#[derive(Debug)]
pub(super) struct Hasher {
    /// Without one, of a store that cannot be read, nothing is said of the environment.
    salt: Option<String>,
    configuration: String,
    host: String,
    port_mode: bool,
    files: Mutex<HashMap<PathBuf, (State, [u8; 32])>>,
    turn: Turn<()>,
}

/// What tells whether a file may have changed.
type State = (u64, u64, u64, (i64, i64), (i64, i64));

impl Hasher {
    pub fn new(config: &Config, salt: Option<String>) -> Self {
        let processors = std::thread::available_parallelism().ok();
        let memory_kib = config.settings.memory.host_kib;
        let kernel = nix::sys::utsname::uname().ok();
        let kernel = kernel.as_ref().map(|name| name.release());
        let mut hasher = Self {
            salt,
            configuration: String::new(),
            host: String::new(),
            port_mode: config.listen.mode == ListenMode::Port,
            files: Mutex::default(),
            turn: Turn::default(),
        };
        let mut unnamed = config.clone();
        unnamed.settings.release = None;
        hasher.configuration = hasher.short([format!("{unnamed:?}").as_bytes()]);
        hasher.host =
            hasher.short([format!("{kernel:?} {memory_kib:?} {processors:?}").as_bytes()]);
        hasher
    }

    /// The same for another configuration; what is known of files is kept.
    pub fn reconfigured(&self, config: &Config) -> Self {
        let files = lock(&self.files).clone();
        Self { files: Mutex::new(files), ..Self::new(config, self.salt.clone()) }
    }

    /// Of a worker that is started so; `None` when the runtime ends. One after the other: workers that are
    /// started together have the same files, and who comes second finds them hashed.
    pub async fn in_turn(self: Arc<Self>, plan: Plan) -> Option<Makeup> {
        let _turn = self.turn.lock().await;
        let this = Arc::clone(&self);
        spawn_blocking(move || this.of(&plan)).await.ok()
    }

    /// Reads the files of its command: not for an async task.
    fn of(&self, plan: &Plan) -> Makeup {
        Makeup {
            configuration: Some(self.configuration.clone()),
            program: self.program(plan),
            environment: self.salt.is_some().then(|| self.environment(plan)),
            host: Some(self.host.clone()),
        }
    }

    fn program(&self, plan: &Plan) -> Option<String> {
        let directory = plan.directory.as_ref().map(Path::new).unwrap_or(Path::new(""));
        let path = plan.environment.get("PATH");
        let mut files = vec![found(&plan.program, directory, path)?];
        for argument in &plan.arguments {
            let whole = directory.join(argument);
            match whole.is_file() {
                true => files.push(whole),
                false => files.extend(named(argument, directory, path)),
            }
        }
        let hashes: io::Result<Vec<_>> = files.iter().map(|file| self.file(file)).collect();
        Some(self.short(hashes.ok()?.iter().map(|hash| hash.as_slice())))
    }

    fn environment(&self, plan: &Plan) -> String {
        let passing = |name: &OsStr| PASSING.iter().any(|other| name == *other);
        let of_slot = |name: &OsStr| self.port_mode && name == "PORT";
        let all = plan.environment.iter();
        let mut lasting: Vec<_> =
            all.filter(|(name, _)| !passing(name) && !of_slot(name)).collect();
        lasting.sort();
        self.short(lasting.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]))
    }

    fn file(&self, path: &Path) -> io::Result<[u8; 32]> {
        let file = fs::metadata(path)?;
        let state = state(&file);
        let files = || lock(&self.files);
        if let Some((_, hash)) = files().get(path).filter(|(known, _)| *known == state) {
            return Ok(*hash);
        }
        let mut hash = Sha256::new();
        if file.len() <= WHOLE {
            io::copy(&mut File::open(path)?, &mut Hashed(&mut hash))?;
        } else {
            hash.update(format!("{state:?}"));
        }
        let hash: [u8; 32] = hash.finalize().into();
        files().insert(path.to_owned(), (state, hash));
        Ok(hash)
    }

    /// Of parts, each with its length, so that no two lists give the same bytes.
    fn short<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut hash = Sha256::new();
        hash.update(self.salt.as_deref().unwrap_or_default());
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hexadecimal(&hash.finalize()[..8])
    }
}

struct Hashed<'a>(&'a mut Sha256);

impl io::Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn state(file: &Metadata) -> State {
    let (changed, modified) =
        ((file.ctime(), file.ctime_nsec()), (file.mtime(), file.mtime_nsec()));
    (file.dev(), file.ino(), file.len(), changed, modified)
}

/// The file of a command's first word, as `execvp` finds it.
fn found(program: &OsStr, directory: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return Some(directory.join(program));
    }
    let folders = std::env::split_paths(path?);
    folders.map(|folder| directory.join(folder).join(program)).find(|file| file.is_file())
}

/// The files that a script names; none in what is a single word.
fn named(script: &OsStr, directory: &Path, path: Option<&OsStr>) -> Vec<PathBuf> {
    let Some(script) = script.to_str().filter(|text| text.contains(char::is_whitespace)) else {
        return Vec::new();
    };
    let words = script.split(|c: char| c.is_whitespace() || SCRIPT_MARKS.contains(&c));
    let file = |word: &str| {
        let here = directory.join(word);
        if here.is_file() { Some(here) } else { found(word.as_ref(), directory, path) }
    };
    let files = words.filter(|word| !word.is_empty()).filter_map(file);
    files.filter(|file| file.is_file()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::WorkerId;

    fn plan(folder: &Path) -> Plan {
        let mut plan = Plan::new(WorkerId::new(0, 1), "server");
        plan.arguments = vec!["app.js".into(), "--port=80".into()];
        plan.directory = Some(folder.into());
        plan.environment.set("PATH", folder);
        plan.environment.set("TOKEN", "hunter2");
        plan.environment.set("PORT", "8000");
        plan
    }

    fn hasher(config: &Config) -> Hasher {
        Hasher::new(config, Some("salt".into()))
    }

    #[test]
    fn each_part_changes_with_what_it_is_made_of_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server", "app.js"] {
            fs::write(folder.path().join(name), "1").unwrap();
        }
        let mut config = Config::default();
        let hasher = hasher(&config);
        let plan = plan(folder.path());
        let first = hasher.of(&plan);
        assert!(first.parts().iter().all(|part| part.as_ref().unwrap().len() == 16), "{first:?}");
        assert_eq!(hasher.of(&plan), first);

        let mut passing = plan.clone();
        for name in ["INVOCATION_ID", "PWD", "NOTIFY_SOCKET", "STANCH_RELEASE"] {
            passing.environment.set(name, "77");
        }
        assert_eq!(hasher.of(&passing), first);
        let mut released = config.clone();
        released.settings.release = Some("77".into());
        assert_eq!(self::hasher(&released).of(&passing), first);
        let mut rotated = plan.clone();
        rotated.environment.set("TOKEN", "hunter3");
        let other = hasher.of(&rotated);
        assert_ne!(other.environment, first.environment);
        assert_eq!(
            Makeup { environment: None, ..other },
            Makeup { environment: None, ..first.clone() }
        );

        // An option is configuration.
        let mut flagged = plan.clone();
        flagged.arguments[1] = "--port=81".into();
        assert_eq!(hasher.of(&flagged).program, first.program);
        fs::write(folder.path().join("app.js"), "2").unwrap();
        assert_ne!(hasher.of(&plan).program, first.program);
        fs::remove_file(folder.path().join("server")).unwrap();
        assert_eq!(hasher.of(&plan).program, None);

        config.listen.backlog += 1;
        let reconfigured = hasher.reconfigured(&config).of(&plan);
        assert_ne!(reconfigured.configuration, first.configuration);
        assert_eq!(reconfigured.host, first.host);
    }

    #[test]
    fn what_a_script_of_the_shell_names_is_the_program() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["server", "app.js", "node", "settings"] {
            fs::write(folder.path().join(name), "1").unwrap();
        }
        let mut plan = plan(folder.path());
        plan.arguments = vec!["-c".into(), "exec node 'app.js' --settings=settings no-file".into()];
        let hasher = hasher(&Config::default());
        let mut last = hasher.of(&plan).program.unwrap();
        for name in ["app.js", "node", "settings"] {
            fs::write(folder.path().join(name), "22").unwrap();
            let next = hasher.of(&plan).program.unwrap();
            assert_ne!(next, last, "{name}");
            last = next;
        }
        plan.arguments[1] = "exec node 'app.js' --settings=settings no-such-file".into();
        assert_eq!(hasher.of(&plan).program, Some(last));
    }

    #[test]
    fn a_port_of_the_slot_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        let (one, mut other) = (plan(folder.path()), plan(folder.path()));
        other.environment.set("PORT", "8001");
        let environment = |config: &Config, plan| hasher(config).of(plan).environment;
        assert_ne!(environment(&config, &one), environment(&config, &other));
        config.listen.mode = ListenMode::Port;
        assert_eq!(environment(&config, &one), environment(&config, &other));
    }

    #[test]
    fn without_a_salt_nothing_is_said_of_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let hasher = Hasher::new(&Config::default(), None);
        assert_eq!(hasher.of(&plan(folder.path())).environment, None);
    }
}
