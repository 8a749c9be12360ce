//! What was typed: every key of the file and every flag, read but not yet judged together.

use super::address::Named;
use super::checked::{ListenMode, LogFormat, ReadyWhen, Rlimit, WorkerOutput};
use super::error::{ConfigError, Place, Problems};
use super::overrides::Overrides;
use super::reader::{Document, FromText, Section, Typed, read_text};
use super::values::{CountLimit, HttpPath, Port, SizeLimit, StopSignal, Umask};
use crate::core::units::{Bytes, Period};
use crate::core::{Format, Given, LeakAction, LeakingRelease, QuietWindow, Severity, Topic};
use nix::sys::resource::Resource;
use std::path::PathBuf;

/// The keys; `None` is "not given, or not readable", and then a problem says so.
#[derive(Default)]
pub(super) struct Raw {
    pub app: App,
    pub release: Release,
    pub listen: Listen,
    pub ready: Ready,
    pub health: Health,
    pub memory: Memory,
    pub leak: Leak,
    pub rolling: Rolling,
    pub restart: Restart,
    pub evidence: Evidence,
    pub hooks: Hooks,
    pub limits: Vec<Rlimit>,
    pub log: Log,
    pub store_path: Option<Typed<PathBuf>>,
    pub store_retention: Option<Typed<Period>>,
    pub control_socket: Option<Typed<PathBuf>>,
    pub alerts: Vec<Alert>,
}

/// `[app]`
#[derive(Default)]
pub(super) struct App {
    pub name: Option<Typed<String>>,
    pub command: Option<Typed<Vec<String>>>,
    pub workers: Option<Typed<u32>>,
    pub directory: Option<Typed<PathBuf>>,
    pub environment: Vec<Typed<(String, String)>>,
    pub environment_file: Option<Typed<PathBuf>>,
    pub user: Option<Typed<String>>,
    pub group: Option<Typed<String>>,
    pub release: Option<Typed<String>>,
    pub umask: Option<Typed<Umask>>,
    pub stop_signal: Option<Typed<StopSignal>>,
}

/// `[release]`
#[derive(Default)]
pub(super) struct Release {
    pub file: Option<Typed<PathBuf>>,
    pub on_leak: Option<Typed<LeakingRelease>>,
}

/// `[listen]`
#[derive(Default)]
pub(super) struct Listen {
    pub address: Option<Typed<Vec<Typed<Named>>>>,
    pub ignore_ports: Option<Typed<Vec<Typed<Port>>>>,
    pub mode: Option<Typed<ListenMode>>,
    pub backlog: Option<Typed<u32>>,
}

/// `[ready]`
#[derive(Default)]
pub(super) struct Ready {
    pub when: Option<Typed<ReadyWhen>>,
    pub path: Option<Typed<HttpPath>>,
    pub timeout: Option<Typed<Period>>,
}

/// `[health]`
#[derive(Default)]
pub(super) struct Health {
    pub path: Option<Typed<HttpPath>>,
    pub interval: Option<Typed<Period>>,
    pub timeout: Option<Typed<Period>>,
    pub failures: Option<Typed<u32>>,
    pub watchdog: Option<Typed<Period>>,
}

/// `[memory]`
#[derive(Default)]
pub(super) struct Memory {
    pub soft_limit: Option<Typed<Bytes>>,
    pub hard_limit: Option<Typed<Bytes>>,
    pub total_limit: Option<Typed<Bytes>>,
    pub sample_interval: Option<Typed<Period>>,
}

/// `[leak]`
#[derive(Default)]
pub(super) struct Leak {
    pub action: Option<Typed<LeakAction>>,
    pub warm_up: Option<Typed<Period>>,
    pub lead_time: Option<Typed<Period>>,
    pub quiet_window: Option<Typed<QuietWindow>>,
}

/// `[rolling]`
#[derive(Default)]
pub(super) struct Rolling {
    pub surge: Option<Typed<bool>>,
    pub slow_start: Option<Typed<Period>>,
    pub max_unavailable: Option<Typed<u32>>,
    pub drain_timeout: Option<Typed<Period>>,
    pub cooldown: Option<Typed<Period>>,
    pub max_age: Option<Typed<Period>>,
}

/// `[evidence]`
#[derive(Default)]
pub(super) struct Evidence {
    pub command: Option<Typed<Vec<String>>>,
    pub timeout: Option<Typed<Period>>,
    pub max_size: Option<Typed<Bytes>>,
    pub keep: Option<Typed<Bytes>>,
    pub log_lines: Option<Typed<u32>>,
}

/// `[hooks]`
#[derive(Default)]
pub(super) struct Hooks {
    pub on_ready: Option<Typed<Vec<String>>>,
    pub on_drain: Option<Typed<Vec<String>>>,
    pub on_retired: Option<Typed<Vec<String>>>,
    pub timeout: Option<Typed<Period>>,
}

/// `[log]`
#[derive(Default)]
pub(super) struct Log {
    pub format: Option<Typed<LogFormat>>,
    pub worker_output: Option<Typed<WorkerOutput>>,
    pub path: Option<Typed<PathBuf>>,
    pub size: Option<Typed<Bytes>>,
    pub age: Option<Typed<Period>>,
    pub keep: Option<Typed<u32>>,
    pub flood_limit: Option<Typed<u32>>,
}

/// `[restart]`
#[derive(Default)]
pub(super) struct Restart {
    pub backoff_initial: Option<Typed<Period>>,
    pub backoff_max: Option<Typed<Period>>,
    pub restarts: Option<Typed<u32>>,
    pub within: Option<Typed<Period>>,
}

/// One `[[alert]]`
pub(super) struct Alert {
    pub place: Place,
    pub severity: Option<Typed<Severity>>,
    pub kinds: Option<Typed<Vec<Typed<Topic>>>>,
    pub to: Option<Vec<AlertTarget>>,
    pub escalate_after: Option<Typed<Period>>,
}

/// One table of an alert's `to`
pub(super) struct AlertTarget {
    pub place: Place,
    pub name: Option<Typed<String>>,
    pub webhook: Option<Typed<Given>>,
    pub format: Option<Typed<Format>>,
    pub token: Option<Typed<Given>>,
    pub routing_key: Option<Typed<Given>>,
    pub command: Option<Typed<Vec<String>>>,
    pub timeout: Option<Typed<Period>>,
}

impl Raw {
    /// Reads the whole document.
    pub fn read(document: &mut Document<'_>) -> Self {
        let mut raw = Raw {
            app: document.section("app", App::read),
            release: document.section("release", |s| Release {
                file: s.text("file"),
                on_leak: s.text("on_leak"),
            }),
            listen: document.section("listen", |s| Listen {
                address: s.list("address"),
                ignore_ports: s.list("ignore_ports"),
                mode: s.text("mode"),
                backlog: s.integer("backlog"),
            }),
            ready: document.section("ready", |s| Ready {
                when: s.text("when"),
                path: s.text("path"),
                timeout: s.text("timeout"),
            }),
            health: document.section("health", |s| Health {
                path: s.text("path"),
                interval: s.text("interval"),
                timeout: s.text("timeout"),
                failures: s.integer("failures"),
                watchdog: s.text("watchdog"),
            }),
            memory: document.section("memory", Memory::read),
            leak: document.section("leak", Leak::read),
            rolling: document.section("rolling", |s| Rolling {
                surge: s.boolean("surge"),
                slow_start: s.text("slow_start"),
                max_unavailable: s.integer("max_unavailable"),
                drain_timeout: s.text("drain_timeout"),
                cooldown: s.text("cooldown"),
                max_age: s.text("max_age"),
            }),
            restart: document.section("restart", Restart::read),
            evidence: document.section("evidence", |s| Evidence {
                command: s.command("command"),
                timeout: s.text("timeout"),
                max_size: s.text("max_size"),
                keep: s.text("keep"),
                log_lines: s.integer("log_lines"),
            }),
            hooks: document.section("hooks", |s| Hooks {
                on_ready: s.command("on_ready"),
                on_drain: s.command("on_drain"),
                on_retired: s.command("on_retired"),
                timeout: s.text("timeout"),
            }),
            limits: document.section("limits", limits),
            log: document.section("log", Log::read),
            ..Raw::default()
        };
        document.section("store", |s| {
            raw.store_path = s.text("path");
            raw.store_retention = s.text("retention");
        });
        document.section("control", |s| {
            raw.control_socket = s.text("socket");
            s.later("http");
        });
        raw.alerts = document.sections("alert", Alert::read);
        raw
    }

    /// Puts the flags in the place of what the file says.
    pub fn apply(&mut self, flags: &Overrides, problems: &mut Problems) {
        if let Some(value) = flags.command.clone() {
            let (key, place) = ("app.command".to_owned(), Place::Flag("-- COMMAND"));
            self.app.command = Some(Typed { value, key, place });
        }
        if let Some(value) = flags.workers {
            let (key, place) = ("app.workers".to_owned(), Place::Flag("--workers"));
            self.app.workers = Some(Typed { value, key, place });
        }
        if let Some(texts) = &flags.listen {
            let (key, flag) = ("listen.address", "--listen");
            let read: Vec<_> =
                texts.iter().map(|text| read_flag(text, key, flag, problems)).collect();
            if let Some(value) = read.into_iter().collect() {
                let (key, place) = (key.to_owned(), Place::Flag(flag));
                self.listen.address = Some(Typed { value, key, place });
            }
        }
        let mut flag = Flag { problems };
        flag.set(&mut self.app.name, &flags.name, "app.name", "--name");
        flag.set(&mut self.listen.mode, &flags.mode, "listen.mode", "--mode");
        flag.set(&mut self.app.directory, &flags.directory, "app.directory", "--directory");
        flag.set(&mut self.app.user, &flags.user, "app.user", "--user");
        flag.set(&mut self.app.release, &flags.release, "app.release", "--release");
        let memory = &mut self.memory;
        flag.set(&mut memory.soft_limit, &flags.soft_limit, "memory.soft_limit", "--soft-limit");
        flag.set(&mut memory.hard_limit, &flags.hard_limit, "memory.hard_limit", "--hard-limit");
        flag.set(
            &mut memory.total_limit,
            &flags.total_limit,
            "memory.total_limit",
            "--total-limit",
        );
        flag.set(&mut self.ready.path, &flags.ready_path, "ready.path", "--ready-path");
        flag.set(&mut self.health.path, &flags.health_path, "health.path", "--health-path");
        flag.set(&mut self.store_path, &flags.store, "store.path", "--store");
        flag.set(&mut self.control_socket, &flags.socket, "control.socket", "--socket");
    }
}

impl App {
    fn read(s: &mut Section<'_, '_>) -> Self {
        Self {
            name: s.text("name"),
            command: s.command("command"),
            workers: s.integer("workers"),
            directory: s.text("directory"),
            environment: s.secrets("environment"),
            environment_file: s.text("environment_file"),
            user: s.text("user"),
            group: s.text("group"),
            release: s.text("release"),
            umask: s.text("umask"),
            stop_signal: s.text("stop_signal"),
        }
    }
}

impl Memory {
    fn read(s: &mut Section<'_, '_>) -> Self {
        s.later("count_children");
        Self {
            soft_limit: s.text("soft_limit"),
            hard_limit: s.text("hard_limit"),
            total_limit: s.text("total_limit"),
            sample_interval: s.text("sample_interval"),
        }
    }
}

impl Leak {
    fn read(s: &mut Section<'_, '_>) -> Self {
        s.later("columns");
        Self {
            action: s.text("action"),
            warm_up: s.text("warm_up"),
            lead_time: s.text("lead_time"),
            quiet_window: s.text("quiet_window"),
        }
    }
}

impl Alert {
    fn read(s: &mut Section<'_, '_>, place: Place) -> Self {
        let when = s.table("when", |s| (s.text("severity"), s.list("kind")));
        let (severity, kinds) = when.unwrap_or_default();
        Self {
            place,
            severity,
            kinds,
            to: s.tables("to", AlertTarget::read),
            escalate_after: s.text("escalate_after"),
        }
    }
}

impl AlertTarget {
    fn read(s: &mut Section<'_, '_>, place: Place) -> Self {
        Self {
            place,
            name: s.text("name"),
            webhook: s.given("webhook"),
            format: s.text("format"),
            token: s.given("token"),
            routing_key: s.given("routing_key"),
            command: s.command("command"),
            timeout: s.text("timeout"),
        }
    }
}

impl Log {
    fn read(s: &mut Section<'_, '_>) -> Self {
        let rotate = s.table("rotate", |s| (s.text("size"), s.text("age"), s.integer("keep")));
        let (size, age, keep) = rotate.unwrap_or_default();
        Self {
            format: s.text("format"),
            worker_output: s.text("worker_output"),
            path: s.text("path"),
            size,
            age,
            keep,
            flood_limit: s.integer("flood_limit"),
        }
    }
}

impl Restart {
    fn read(s: &mut Section<'_, '_>) -> Self {
        let intensity = s.table("intensity", |s| (s.integer("restarts"), s.text("within")));
        let (restarts, within) = intensity.unwrap_or_default();
        Self {
            backoff_initial: s.text("backoff_initial"),
            backoff_max: s.text("backoff_max"),
            restarts,
            within,
        }
    }
}

/// `[limits]`: numbers of things, and sizes.
fn limits(s: &mut Section<'_, '_>) -> Vec<Rlimit> {
    let mut limits = Vec::new();
    for (key, resource) in [("nofile", Resource::RLIMIT_NOFILE), ("nproc", Resource::RLIMIT_NPROC)]
    {
        limits.extend(s.text::<CountLimit>(key).map(|limit| limit.value.0.of(resource)));
    }
    for (key, resource) in [
        ("core", Resource::RLIMIT_CORE),
        ("as", Resource::RLIMIT_AS),
        ("memlock", Resource::RLIMIT_MEMLOCK),
        ("stack", Resource::RLIMIT_STACK),
        ("fsize", Resource::RLIMIT_FSIZE),
    ] {
        limits.extend(s.text::<SizeLimit>(key).map(|limit| limit.value.0.of(resource)));
    }
    limits
}

struct Flag<'p> {
    problems: &'p mut Problems,
}

impl Flag<'_> {
    fn set<T: FromText>(
        &mut self,
        slot: &mut Option<Typed<T>>,
        text: &Option<String>,
        key: &str,
        flag: &'static str,
    ) {
        if let Some(text) = text
            && let Some(value) = read_flag(text, key, flag, self.problems)
        {
            *slot = Some(value);
        }
    }
}

fn read_flag<T: FromText>(
    text: &str,
    key: &str,
    flag: &'static str,
    problems: &mut Problems,
) -> Option<Typed<T>> {
    let place = Place::Flag(flag);
    match read_text(text) {
        Ok(value) => Some(Typed { value, key: key.to_owned(), place }),
        Err(wrong) => {
            let (message, suggestion) = (wrong.message, wrong.suggestion);
            problems.add(ConfigError { place, key: key.to_owned(), message, suggestion });
            None
        }
    }
}
