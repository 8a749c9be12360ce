//! What is meant: a configuration that was judged whole and is ready to use.
//!
//! The defaults live in the `Default` impls here and in [`Settings`]; `config/stanch.toml` documents
//! them, and a test compares the two.

use super::address::ListenAddress;
use crate::core::hooks::Hook;
use crate::core::units::Bytes;
use crate::core::{Settings, Slot};
use nix::sys::resource::Resource;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A checked configuration. A relative path of the file was made relative to the file's folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What runs, and how it is started.
    pub app: App,
    /// Where its release is told.
    pub release: Release,
    /// Where it listens.
    pub listen: Listen,
    /// When a worker is ready.
    pub ready: Ready,
    /// How a worker is probed; how many failures make it hung is in [`Settings::health`].
    pub health: Health,
    /// How memory is sampled; the limits are in [`Settings::memory`].
    pub memory: Memory,
    /// Resource limits of the workers, at most one of a resource; others are inherited.
    pub limits: Vec<Rlimit>,
    /// What is kept of a worker that goes in an incident.
    pub evidence: Evidence,
    /// Commands that tell others of a worker's life.
    pub hooks: Hooks,
    /// What is written while running.
    pub log: Log,
    /// The audit store.
    pub store: Store,
    /// The control socket.
    pub control: Control,
    /// What the decisions depend on; also `app.workers`, `app.release`, `release.on_leak`, `ready.timeout`
    /// and `health.failures`.
    pub settings: Settings,
}

impl Config {
    /// Puts this configuration in the place of another, with what only a restart of stanch changes as
    /// it was there: see [`difference`](super::difference()).
    pub fn in_place_of(self, old: &Config) -> Self {
        let old = old.clone();
        let app = App { name: old.app.name, ..self.app };
        let Config { listen, store, control, .. } = old;
        Config { app, listen, store, control, ..self }
    }

    /// The same without what only follows from another `listen.mode`: that holds after a restart.
    pub fn in_mode_of(mut self, old: &Config) -> Self {
        if self.listen.mode != old.listen.mode {
            self.settings.rolling = old.settings.rolling.clone();
            self.settings.health = old.settings.health.clone();
            self.health = old.health.clone();
            self.ready = old.ready.clone();
        }
        self
    }
}

/// What runs.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Names the control socket, the store and the cgroup: letters, digits, `.`, `_`, `-`, at most 64.
    pub name: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Where workers run; stanch's own current directory when absent.
    pub directory: Option<PathBuf>,
    /// Added to the inherited environment.
    pub environment: Environment,
    /// A file of `NAME=VALUE` lines, read at each start of a worker, below `environment`.
    pub environment_file: Option<PathBuf>,
    /// As whom workers run: a name or a number.
    pub user: Option<String>,
    /// Their group, in place of the user's own: a name or a number.
    pub group: Option<String>,
    /// Bits that their new files do not get; inherited when absent.
    pub umask: Option<u32>,
    /// Asks a worker to end.
    pub stop_signal: Signal,
}

impl Default for App {
    fn default() -> Self {
        Self {
            name: String::new(),
            command: Vec::new(),
            directory: None,
            environment: Environment::default(),
            environment_file: None,
            user: None,
            group: None,
            umask: None,
            stop_signal: Signal::SIGTERM,
        }
    }
}

/// Where the release is told that serves; what it does when it leaks is in
/// [`Settings::leaking_release`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Release {
    /// Its first line is the label, read with the configuration.
    pub file: Option<PathBuf>,
}

/// Variables for the workers. `Debug` shows the names and never the values, which may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Where the application listens.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// The supervised addresses. None in mode `takeover`: `auto`, the TCP ports that the workers
    /// bind. In mode `none` they are only probed.
    pub addresses: Vec<ListenAddress>,
    /// Ports that `auto` leaves to the workers.
    pub ignore_ports: Vec<u16>,
    /// How workers get their sockets.
    pub mode: ListenMode,
    /// Connections that may wait; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
}

impl Listen {
    /// In mode `port`, the address that is the slot's alone; `None` also where the ports end.
    pub fn own_address(&self, slot: Slot) -> Option<SocketAddr> {
        match (self.mode, self.addresses.first()) {
            (ListenMode::Port, Some(ListenAddress::Tcp(first))) => {
                let port = first.port().checked_add(u16::try_from(slot.0).ok()?)?;
                Some(SocketAddr::new(first.ip(), port))
            }
            _ => None,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            // node's inspector: a debugger wants one process, and no process of a server serves
            // there. Other debuggers have no port that no server has as its own (5678 is debugpy's
            // and n8n's).
            ignore_ports: vec![9229],
            mode: ListenMode::Takeover,
            backlog: 4096,
        }
    }
}

/// How workers get their listening sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    /// stanch answers the workers' own `bind`; they need not know.
    Takeover,
    /// Handed over as systemd does (`LISTEN_FDS`).
    Inherit,
    /// Each slot binds a port of its own, named by `PORT`: the address's port plus the slot.
    Port,
    /// Not at all: memory and restarts only.
    None,
}

impl ListenMode {
    /// All of them.
    pub const ALL: [ListenMode; 4] =
        [ListenMode::Takeover, ListenMode::Inherit, ListenMode::Port, ListenMode::None];

    /// The word in the configuration and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            ListenMode::Takeover => "takeover",
            ListenMode::Inherit => "inherit",
            ListenMode::Port => "port",
            ListenMode::None => "none",
        }
    }
}

impl fmt::Display for ListenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When a worker is ready; by when it must be is [`Settings::ready_timeout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// The sign.
    pub when: ReadyWhen,
    /// Asked for when the sign is [`ReadyWhen::Http`].
    pub path: String,
}

impl Default for Ready {
    fn default() -> Self {
        Self { when: ReadyWhen::Listen, path: "/".to_owned() }
    }
}

/// The sign that a worker is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyWhen {
    /// It listens, and accepts a connection.
    Listen,
    /// It answers an HTTP GET with a status below 400.
    Http,
    /// It says so: `READY=1`, to `NOTIFY_SOCKET`.
    Notify,
}

impl ReadyWhen {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Listen, Self::Http, Self::Notify];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Http => "http",
            Self::Notify => "notify",
        }
    }
}

/// How a worker is probed while it serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Asked for by HTTP GET; without it, accepting a connection is enough.
    pub path: Option<String>,
    /// From one probe to the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { path: None, interval: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

/// How memory is sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// From one sample of a worker to the next, when it is far from any limit.
    pub sample_interval: Duration,
}

impl Default for Memory {
    fn default() -> Self {
        Self { sample_interval: Duration::from_secs(1) }
    }
}

/// A resource limit of the workers (setrlimit(2)); the unit is the resource's: bytes, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// In force; `None` is unlimited.
    pub soft: Option<u64>,
    /// How far a worker may raise the soft one; `None` is unlimited.
    pub hard: Option<u64>,
}

impl Rlimit {
    /// The resource's key: `nofile`.
    pub fn name(&self) -> String {
        format!("{:?}", self.resource).trim_start_matches("RLIMIT_").to_lowercase()
    }
}

/// What is kept of a worker that goes in an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Run with a worker that is about to be told to stop: the program and its arguments, with
    /// placeholders. Empty without one. How long it may take is in [`Settings::evidence`].
    pub command: Vec<String>,
    /// What the command may write: files and output together.
    pub max_size: Bytes,
    /// What all evidence may take on disk, compressed.
    pub keep: Bytes,
    /// Lines of a worker's output that are remembered, none with 0.
    pub log_lines: u32,
}

impl Default for Evidence {
    fn default() -> Self {
        let (max_size, keep) = (Bytes(256 << 20), Bytes(1 << 30));
        Self { command: Vec::new(), max_size, keep, log_lines: 100 }
    }
}

/// Commands that tell others of a worker's life: the program and its arguments, with placeholders; empty
/// without one. How long they may take is in [`Settings::hooks`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks {
    /// Run when a worker is ready.
    pub on_ready: Vec<String>,
    /// Run before a worker is told to stop.
    pub on_drain: Vec<String>,
    /// Run when nothing is left of a worker.
    pub on_retired: Vec<String>,
}

impl Hooks {
    /// The command of one.
    pub fn command(&self, hook: Hook) -> &[String] {
        match hook {
            Hook::Ready => &self.on_ready,
            Hook::Drain => &self.on_drain,
            Hook::Retired => &self.on_retired,
        }
    }
}

/// What is written while running.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Where to with what workers print.
    pub worker_output: WorkerOutput,
    /// The file for it, with [`WorkerOutput::Files`]; beside the store when absent.
    pub path: Option<PathBuf>,
    /// When the file is set aside.
    pub rotate: Rotate,
    /// Of more lines than this in a second of one stream of a worker the rest is dropped, and counted;
    /// 0: of none.
    pub flood_limit: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Human,
            worker_output: WorkerOutput::Pass,
            path: None,
            rotate: Rotate::default(),
            flood_limit: 10_000,
        }
    }
}

impl Log {
    /// The file for the workers' output, where the audit log is in this one.
    pub fn file(&self, store: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| store.with_extension("log"))
    }
}

/// Where to with what workers print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerOutput {
    /// Where stanch's own output goes.
    Pass,
    /// Into a file, which is rotated.
    Files,
    /// Into systemd's journal, where there is one; else as `Pass`.
    Journal,
}

impl WorkerOutput {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerOutput::Pass => "pass",
            WorkerOutput::Files => "files",
            WorkerOutput::Journal => "journal",
        }
    }
}

/// When a log file is set aside, and how many of those are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// As large as this.
    pub size: Bytes,
    /// Or begun so long ago.
    pub age: Duration,
    /// So many are kept, compressed, beside the one that is written.
    pub keep: u32,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { size: Bytes(64 << 20), age: Duration::from_secs(24 * 60 * 60), keep: 14 }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }
    }
}

/// The audit store.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Its file; a place that follows from the name when absent.
    pub path: Option<PathBuf>,
    /// Events and samples older than this are deleted.
    pub retention: Duration,
}

impl Default for Store {
    fn default() -> Self {
        Self { path: None, retention: Duration::from_secs(365 * 86_400) }
    }
}

/// How operators reach the supervisor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Control {
    /// The socket; a place that follows from the name when absent.
    pub socket: Option<PathBuf>,
}
