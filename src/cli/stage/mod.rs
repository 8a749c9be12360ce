//! A stage for drills and soaks: a folder of its own with a real `stanch run` in it, visitors
//! ([`load`]), a look at what the supervisor says ([`watch`]), and a screen that shows it ([`screen`]).

pub mod load;
pub mod play;
pub mod screen;
#[cfg(test)]
mod tests;
pub mod watch;

use crate::cli::Failure;
use crate::core::words::chain;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the supervisor may take to end its workers and itself, before it is told to hurry.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take when hurried.
const HURRY_PATIENCE: Duration = Duration::from_secs(10);
/// Lines of its log that explain a failure.
const LOG_LINES: usize = 15;

/// Why the stage could not be set up or cleared.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("cannot make the folder {} (TMPDIR chooses another place)", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot find a free port on 127.0.0.1")]
    Port { source: io::Error },
    #[error("cannot tell where this program lies")]
    Program { source: io::Error },
    #[error("{} is not UTF-8; a configuration is", path.display())]
    NotText { path: PathBuf },
    #[error("cannot start {}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot wait for the supervisor, process {pid}")]
    Wait { pid: u32, source: io::Error },
    #[error("cannot start the threads of the load")]
    Threads { source: io::Error },
    #[error("cannot wait for Ctrl-C")]
    Signals { source: io::Error },
    #[error("the workers were not ready: {why}; the end of the supervisor's log:\n{log}")]
    NotReady { why: String, log: String },
    #[error(
        "the supervisor ended early with {status}{}; the end of its log:\n{log}",
        orphans(status)
    )]
    EndedEarly { status: ExitStatus, log: String },
    #[error(
        "the supervisor, process {pid}, did not end within {} s and was killed; its workers may \
         still run", (STOP_PATIENCE + HURRY_PATIENCE).as_secs()
    )]
    NotEnding { pid: u32 },
    #[error("cannot remove the folder {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

/// A supervisor that was killed leaves its workers serving, for its successor.
fn orphans(status: &ExitStatus) -> &'static str {
    match status.code() {
        Some(_) => "",
        None => " and left its workers behind",
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Folder { .. } | StageError::NotText { .. } => Failure::Usage(chain(&error)),
            _ => Failure::Fault(chain(&error)),
        }
    }
}

/// A folder for one supervisor, removed when dropped, unless kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes one for this purpose (a word of its name) that nobody else can look into.
    pub fn make(purpose: &str, keep: bool) -> Result<Self, StageError> {
        // In a container the pid is the same each time.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("stanch-{purpose}-{}-{}", std::process::id(), since.as_millis());
        let path = std::env::temp_dir().join(name);
        let path = std::path::absolute(&path).unwrap_or(path);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path, keep }),
            Err(source) => Err(StageError::Folder { path, source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn config(&self) -> PathBuf {
        self.path.join("stanch.toml")
    }

    pub fn store(&self) -> PathBuf {
        self.path.join("store.db")
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// The last lines of the supervisor's log.
    pub fn log_end(&self) -> String {
        let last = self.last_lines("");
        if last.is_empty() { "(it is empty)".to_owned() } else { last.join("\n") }
    }

    /// The last lines that a worker printed, without its name.
    pub fn last_words(&self) -> Vec<String> {
        self.last_lines("[0] ")
    }

    /// The last of the log's lines that begin so, without that.
    fn last_lines(&self, prefix: &str) -> Vec<String> {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix(prefix)).collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        last.iter().map(|line| (*line).to_owned()).collect()
    }

    /// Removes it now, unless it is kept.
    pub fn clear(mut self) -> Result<(), StageError> {
        if std::mem::replace(&mut self.keep, true) {
            return Ok(());
        }
        let path = self.path.clone();
        fs::remove_dir_all(&path).map_err(|source| StageError::Remove { path, source })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What it was for has failed already; what is left is in the temporary folder.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A text for a configuration, in quotes: JSON's strings are TOML's as well, but for one character.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// The same of a path.
pub fn quoted_path(path: &Path) -> Result<String, StageError> {
    path.to_str().map(quoted).ok_or_else(|| StageError::NotText { path: path.to_owned() })
}

/// This very program.
pub fn program() -> Result<PathBuf, StageError> {
    std::env::current_exe().map_err(|source| StageError::Program { source })
}

/// A loopback address that nobody listens on at the moment.
pub fn free_address() -> Result<SocketAddr, StageError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| StageError::Port { source })
}

/// `stanch run` that ends with its parent.
#[derive(clap::Args)]
pub struct StagedRun {
    /// Whom it ends with
    #[arg(long, value_name = "PID")]
    parent: i32,
    #[command(flatten)]
    run: super::run::Args,
}

/// Runs it. When who set up the stage is killed, it ends as by SIGTERM.
pub fn run(args: StagedRun) -> Result<(), Failure> {
    end_with(args.parent, Signal::SIGTERM)
        .map_err(|error| Failure::Fault(format!("cannot be bound to its parent: {error}")))?;
    super::run::run(args.run)
}

/// A parent that is killed can clear nothing away: this process gets the signal then.
pub fn end_with(parent: i32, signal: Signal) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(signal)?;
    // It may have ended before the kernel was told.
    match getppid() == Pid::from_raw(parent) {
        true => Ok(()),
        false => Err(io::Error::other("its parent has ended")),
    }
}

/// A running `stanch run`; stopped when dropped.
#[derive(Debug)]
pub struct Supervisor {
    child: Child,
}

impl Supervisor {
    /// Writes the configuration and starts the supervisor with it.
    pub fn start(folder: &Folder, config: &str) -> Result<Self, StageError> {
        let path = folder.config();
        fs::write(&path, config).map_err(|source| StageError::Write { path, source })?;
        let path = folder.log();
        let log = File::create(&path).and_then(|log| Ok((log.try_clone()?, log)));
        let (out, err) = log.map_err(|source| StageError::Write { path, source })?;
        let program = program()?;
        let child = Command::new(&program)
            .args(["__staged-run", "--parent", &std::process::id().to_string()])
            .arg("--config")
            .arg(folder.config())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is for this process, which then stops it in order.
            .process_group(0)
            .spawn()
            .map_err(|source| StageError::Start { program, source })?;
        Ok(Self { child })
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// An error if it runs no more.
    pub fn check(&mut self, folder: &Folder) -> Result<(), StageError> {
        match self.ended()? {
            Some(status) => Err(StageError::EndedEarly { status, log: folder.log_end() }),
            None => Ok(()),
        }
    }

    /// Has it stop its workers and itself, and waits for that.
    pub fn stop(&mut self) -> Result<(), StageError> {
        for patience in [STOP_PATIENCE, HURRY_PATIENCE] {
            if self.ended()?.is_some() {
                return Ok(());
            }
            // A pid has one owner until it was waited for, and only this waits.
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline {
                if self.ended()?.is_some() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let pid = self.child.id();
        let wait = |source| StageError::Wait { pid, source };
        self.child.kill().and_then(|()| self.child.wait()).map_err(wait)?;
        Err(StageError::NotEnding { pid })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, StageError> {
        let pid = self.child.id();
        self.child.try_wait().map_err(|source| StageError::Wait { pid, source })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Only on the way out of a failure, which is told; this one would be its consequence.
        let _ = self.stop();
    }
}
