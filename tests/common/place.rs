//! A temporary folder for one supervisor and all it touches.

use super::{process, world};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The variable by which the processes of one place are found again, whatever they did to their
/// group, session and parent.
const MARK: &str = "STANCH_TEST";

/// Where the output of a supervisor goes.
pub enum Output {
    /// To the log file of the place.
    Log,
    /// Into a pipe that nobody reads until [`super::Stanch::read_output`].
    Unread,
}

/// A folder with the config, socket, store and log of one supervisor; it and every process that was
/// started in it are gone when it is dropped.
pub struct Place {
    directory: TempDir,
    /// The world that its supervisor lives in.
    world: Option<&'static str>,
    /// Whether its supervisor is started from a link in the folder.
    own_program: bool,
    /// More variables for its commands.
    variables: Vec<(&'static str, String)>,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("stanch-").tempdir();
        let directory = directory.expect("a temporary folder can be made");
        Self { directory, world: None, own_program: false, variables: Vec::new() }
    }

    /// The same with a variable in the environment of all its commands.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// One whose supervisor lives in this [`world`], and is a copy of the program that this user can
    /// execute, to whom the folder belongs.
    pub fn confined(world: &'static str, user: u32) -> Self {
        let mut place = Self::new();
        place.world = Some(world);
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("it is ours");
        chown(place.path(), Some(user), Some(user)).expect("root can give it away");
        fs::copy(env!("CARGO_BIN_EXE_stanch"), place.file("stanch")).expect("can be copied");
        place
    }

    /// One whose supervisor is started from a link in the folder: it can lead elsewhere later.
    pub fn with_own_program() -> Self {
        let mut place = Self::new();
        place.own_program = true;
        place.link_program(env!("CARGO_BIN_EXE_stanch").as_ref());
        place
    }

    /// The program that its supervisor is started from.
    pub fn program(&self) -> PathBuf {
        self.file("stanch")
    }

    /// Has the link to that lead here, all at once.
    pub fn link_program(&self, to: &Path) {
        let link = self.file("stanch.new");
        std::os::unix::fs::symlink(to, &link).expect("a link can be made");
        fs::rename(link, self.program()).expect("it can be moved");
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.file("control.sock")
    }

    /// The audit store.
    pub fn store(&self) -> PathBuf {
        self.file("store.db")
    }

    /// What the supervisor wrote so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.file("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The `stanch` command with these arguments, marked as this place's.
    pub fn stanch(&self, arguments: &[&str]) -> Command {
        self.marked(Command::new(env!("CARGO_BIN_EXE_stanch")), arguments)
    }

    /// The same on a host that forbids something.
    pub fn stanch_in(&self, world: &str, arguments: &[&str]) -> Command {
        self.marked(world::confined(world, env!("CARGO_BIN_EXE_stanch")), arguments)
    }

    fn marked(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).stdin(Stdio::null());
        command.env(MARK, self.path()).env("NO_COLOR", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Writes the config file: the text, and this place's socket and store unless it names others.
    pub fn write_config(&self, text: &str) -> PathBuf {
        let mut text = text.to_owned();
        if !text.contains("[control]") {
            text += &format!("\n[control]\nsocket = {:?}\n", self.socket());
        }
        if !text.contains("[store]") {
            text += &format!("\n[store]\npath = {:?}\n", self.store());
        }
        let path = self.file("stanch.toml");
        fs::write(&path, text).expect("the config can be written");
        path
    }

    /// `stanch run` on a config file, with its output, and the reading end of that where unread.
    pub fn run(&self, config: &Path, output: Output) -> (Command, Option<io::PipeReader>) {
        let mut command = match self.world {
            Some(world) => self.marked(world::confined(world, self.file("stanch")), &[]),
            None if self.own_program => self.marked(Command::new(self.program()), &[]),
            None => self.stanch(&[]),
        };
        command.args(["run", "--config"]).arg(config).current_dir(self.path());
        match output {
            Output::Log => {
                let log = File::options().create(true).append(true).open(self.file("log"));
                let log = log.expect("the log can be written");
                command.stdout(log.try_clone().expect("a descriptor is free")).stderr(log);
                (command, None)
            }
            Output::Unread => {
                let (reader, writer) = io::pipe().expect("a pipe can be made");
                command.stdout(writer.try_clone().expect("a descriptor is free")).stderr(writer);
                (command, Some(reader))
            }
        }
    }

    /// The folders in it.
    pub fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).expect("the place is there");
        let paths = entries.map(|entry| entry.expect("it can be read").path());
        paths.filter(|path| path.is_dir()).collect()
    }

    /// The processes of this place.
    pub fn processes(&self) -> Vec<i32> {
        process::marked(MARK, &self.path().to_string_lossy())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        process::kill_marked(MARK, &self.path().to_string_lossy());
    }
}
