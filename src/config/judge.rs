//! From what was typed to what is meant: defaults, ranges, and values that contradict each other.

mod alerts;
mod listen;

use super::address::ListenAddress;
use super::checked::{
    App, Config, Control, Environment, Evidence, Health, Hooks, Listen, ListenMode, Log, Memory,
    Ready, ReadyWhen, Release, Rotate, Store,
};
use super::error::{ConfigError, Place, Problems};
use super::name;
use super::raw::{self, Raw};
use super::reader::{At, Typed};
use super::release::check_label;
use crate::core::hooks::{Hook, HookSettings};
use crate::core::units::{Bytes, Period};
use crate::core::{
    EvidenceSettings, LeakAction, LeakSettings, LeakingRelease, MemorySettings, RestartSettings,
    RollingSettings, Settings,
};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// More slots than any host should have, and far below what the steering program can tell apart.
const WORKERS: RangeInclusive<u32> = 1..=Settings::WORKERS_MAX;
/// Sampling costs some microseconds a process; rarer than a minute, no leak is seen in time.
const SAMPLE_INTERVAL: RangeInclusive<Period> =
    Period(Duration::from_millis(50))..=Period(Duration::from_secs(60));
/// A heap snapshot of a gigabyte takes about so long.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// They are kept in memory, of each worker.
const LOG_LINES: RangeInclusive<u32> = 0..=10_000;
/// A few seconds of a flood, and what still can be opened.
const LOG_SIZE: RangeInclusive<Bytes> = Bytes(64 << 10)..=Bytes(1 << 40);
/// A year has 365 of them.
const LOG_AGE: RangeInclusive<Period> =
    Period(Duration::from_secs(60))..=Period(Duration::from_secs(366 * 24 * 60 * 60));
/// All are listed each time that one is set aside.
const LOG_FILES: RangeInclusive<u32> = 0..=1000;
/// A roll takes as long for each worker, and cannot be undone meanwhile.
const SLOW_START_MOST: Duration = Duration::from_secs(600);
/// A worker that pings in time must not be late by what a busy host does to it.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(100);
/// No process of a server lives in less.
const SMALLEST_LIMIT: Bytes = Bytes(1 << 20);

/// Judges the whole; what it returns means something only if no problem was found. Relative paths of
/// the file become relative to `folder`.
pub(super) fn judge(raw: Raw, folder: &Path, problems: &mut Problems) -> Config {
    let mut judge = Judge { folder, problems };
    let defaults = Config::default();
    let mut settings = defaults.settings;

    settings.workers = judge.within(&raw.app.workers, &WORKERS, settings.workers);
    settings.release = judge.label(&raw.app.release);
    let release = judge.release(&raw.release, &raw.app.release);
    settings.leaking_release = given(&raw.release.on_leak).unwrap_or(settings.leaking_release);
    let listen = judge.listen(&raw.listen, settings.workers);
    settings.ready_timeout = judge.positive(&raw.ready.timeout, settings.ready_timeout);
    settings.health.failures = given(&raw.health.failures).unwrap_or(settings.health.failures);
    let probed = may_probe(&listen, settings.workers);
    if !probed {
        settings.health.failures = 0;
    }
    settings.health.watchdog = judge.watchdog(&raw.health);
    settings.memory = judge.memory_limits(&raw.memory);
    settings.leak = judge.leak(&raw.leak, &raw.rolling, settings.leak);
    settings.rolling = judge.rolling(&raw.rolling, settings.workers, &listen, settings.rolling);
    settings.restart = judge.restart(&raw.restart, settings.restart);
    settings.alerts = judge.alerts(raw.alerts);
    let evidence;
    (settings.evidence, evidence) = judge.evidence(&raw.evidence);
    let hooks;
    (settings.hooks, hooks) = judge.hooks(raw.hooks);
    let sampled = Period(defaults.memory.sample_interval);
    let sampled = judge.within(&raw.memory.sample_interval, &SAMPLE_INTERVAL, sampled);
    Config {
        app: judge.app(raw.app, listen.mode),
        release,
        ready: judge.ready(&raw.ready, probed),
        health: judge.health(&raw.health, probed),
        memory: Memory { sample_interval: sampled.0 },
        limits: raw.limits,
        evidence,
        hooks,
        log: judge.log(&raw.log),
        store: Store {
            path: judge.path(&raw.store_path),
            retention: judge.positive(&raw.store_retention, defaults.store.retention),
        },
        control: Control { socket: judge.path(&raw.control_socket) },
        listen,
        settings,
    }
}

struct Judge<'a> {
    folder: &'a Path,
    problems: &'a mut Problems,
}

impl Judge<'_> {
    fn app(&mut self, raw: raw::App, mode: ListenMode) -> App {
        let defaults = App::default();
        let command = self.command(raw.command);
        let name = match raw.name {
            Some(typed) => {
                if let Err(wrong) = name::check(&typed.value) {
                    let (place, key) = (typed.place, typed.key);
                    let (message, suggestion) = (wrong.message, wrong.suggestion);
                    self.problems.add(ConfigError { place, key, message, suggestion });
                }
                typed.value
            }
            None => name::from_command(&command),
        };
        App {
            name,
            command,
            directory: self.path(&raw.directory),
            environment: self.environment(raw.environment, mode),
            environment_file: self.path(&raw.environment_file),
            user: self.label(&raw.user),
            group: self.label(&raw.group),
            umask: given(&raw.umask).map(|umask| umask.0),
            stop_signal: given(&raw.stop_signal).map_or(defaults.stop_signal, |signal| signal.0),
        }
    }

    fn evidence(&mut self, raw: &raw::Evidence) -> (EvidenceSettings, Evidence) {
        let defaults = Evidence::default();
        let timeout = self.positive(&raw.timeout, COMMAND_TIMEOUT);
        let command = self.program(raw.command.as_ref());
        let max_size = given(&raw.max_size).unwrap_or(defaults.max_size);
        let keep = given(&raw.keep).unwrap_or(defaults.keep);
        if let Some(typed) = &raw.max_size
            && max_size > keep
        {
            let message =
                format!("is more than evidence.keep ({keep}): nothing would be left of it");
            self.conclude(typed.at(), &["evidence.keep"], message);
        }
        let log_lines = self.within(&raw.log_lines, &LOG_LINES, defaults.log_lines);
        let settings = EvidenceSettings { command_timeout: command.as_ref().map(|_| timeout) };
        (settings, Evidence { command: command.unwrap_or_default(), max_size, keep, log_lines })
    }

    fn hooks(&mut self, raw: raw::Hooks) -> (HookSettings, Hooks) {
        let mut command =
            |typed: Option<Typed<_>>| self.program(typed.as_ref()).unwrap_or_default();
        let hooks = Hooks {
            on_ready: command(raw.on_ready),
            on_drain: command(raw.on_drain),
            on_retired: command(raw.on_retired),
        };
        let set = Hook::ALL.iter().copied().filter(|hook| !hooks.command(*hook).is_empty());
        let set = set.collect();
        let timeout = self.positive(&raw.timeout, HookSettings::default().timeout);
        (HookSettings { set, timeout }, hooks)
    }

    /// A command that may be left out.
    fn program(&mut self, typed: Option<&Typed<Vec<String>>>) -> Option<Vec<String>> {
        let typed = typed?;
        if typed.value.first().is_none_or(String::is_empty) {
            let message = "names no program; leave the key out to run none";
            self.conclude(typed.at(), &[], message.to_owned());
        }
        Some(typed.value.clone())
    }

    fn log(&mut self, raw: &raw::Log) -> Log {
        let defaults = Log::default();
        let Rotate { size, age, keep } = defaults.rotate;
        Log {
            format: given(&raw.format).unwrap_or(defaults.format),
            worker_output: given(&raw.worker_output).unwrap_or(defaults.worker_output),
            path: self.path(&raw.path),
            rotate: Rotate {
                size: self.within(&raw.size, &LOG_SIZE, size),
                age: self.within(&raw.age, &LOG_AGE, Period(age)).0,
                keep: self.within(&raw.keep, &LOG_FILES, keep),
            },
            flood_limit: given(&raw.flood_limit).unwrap_or(defaults.flood_limit),
        }
    }

    fn command(&mut self, typed: Option<Typed<Vec<String>>>) -> Vec<String> {
        let how = "write command = [\"node\", \"server.js\"] in [app], or give it at the end of \
                   the command line, after --";
        match typed {
            Some(typed) => {
                if typed.value.first().is_none_or(String::is_empty) {
                    self.conclude(typed.at(), &[], format!("names no program; {how}"));
                }
                typed.value
            }
            None => {
                let missing = At { key: "app.command", place: Place::Nowhere };
                self.conclude(missing, &[], format!("no command to run; {how}"));
                Vec::new()
            }
        }
    }

    fn environment(
        &mut self,
        typed: Vec<Typed<(String, String)>>,
        mode: ListenMode,
    ) -> Environment {
        let mut environment = Environment::default();
        for entry in typed {
            let name = &entry.value.0;
            if name.is_empty() || name.contains(['=', '\0']) {
                self.refuse(&entry, "cannot be the name of a variable".to_owned());
            } else if name.starts_with("STANCH_") || name.starts_with("LISTEN_") {
                self.refuse(&entry, "is set by stanch itself; leave it out".to_owned());
            } else if name == "PORT" && mode == ListenMode::Port {
                let message = "is set for each slot by listen.mode \"port\"; leave it out";
                self.refuse(&entry, message.to_owned());
            }
            let (name, value) = entry.value;
            environment.0.insert(name, value);
        }
        environment
    }

    fn ready(&mut self, raw: &raw::Ready, probed: bool) -> Ready {
        let defaults = Ready::default();
        let path = raw.path.as_ref().map(|path| path.value.0.clone());
        let when = match (&raw.when, &raw.path) {
            // A path says it plainly; on the command line also against the file.
            (None, Some(_)) | (Some(_), Some(Typed { place: Place::Flag(_), .. })) => {
                ReadyWhen::Http
            }
            (Some(when), path) => {
                if let (ReadyWhen::Listen | ReadyWhen::Notify, Some(path)) = (when.value, path) {
                    let when = when.value.as_str();
                    let message =
                        format!("is asked for only when = \"http\", and when is {when:?}");
                    self.refuse(path, message);
                }
                when.value
            }
            (None, None) => defaults.when,
        };
        if when == ReadyWhen::Http && !probed {
            let at = raw.path.as_ref().map(Typed::at).or(raw.when.as_ref().map(Typed::at));
            if let Some(at) = at {
                self.conclude(at, &PROBE_KEYS, NOTHING_TO_PROBE.to_owned());
            }
        }
        Ready { when, path: path.unwrap_or(defaults.path) }
    }

    fn health(&mut self, raw: &raw::Health, probed: bool) -> Health {
        let defaults = Health::default();
        if let Some(path) = &raw.path
            && !probed
        {
            self.conclude(path.at(), &PROBE_KEYS, NOTHING_TO_PROBE.to_owned());
        }
        Health {
            path: raw.path.as_ref().map(|path| path.value.0.clone()),
            interval: self.positive(&raw.interval, defaults.interval),
            timeout: self.positive(&raw.timeout, defaults.timeout),
        }
    }

    fn watchdog(&mut self, raw: &raw::Health) -> Option<Duration> {
        let watchdog = raw.watchdog.as_ref()?;
        if watchdog.value.0 < SHORTEST_WATCHDOG {
            let least = Period(SHORTEST_WATCHDOG);
            self.refuse(watchdog, format!("must be at least {least}: a busy host delays a ping"));
        }
        Some(watchdog.value.0)
    }

    fn memory_limits(&mut self, raw: &raw::Memory) -> MemorySettings {
        for limit in [&raw.soft_limit, &raw.hard_limit, &raw.total_limit].into_iter().flatten() {
            if limit.value < SMALLEST_LIMIT {
                self.refuse(limit, format!("must be at least {SMALLEST_LIMIT}"));
            }
        }
        if let (Some(soft), Some(hard)) = (&raw.soft_limit, &raw.hard_limit)
            && soft.value >= hard.value
        {
            let message = format!(
                "the soft limit, {}, must be below the hard limit, {}: over the soft one a worker \
                 is replaced with overlap, over the hard one it is killed",
                soft.value, hard.value
            );
            self.refuse(either(soft, hard), message);
        }
        let largest = [("soft", &raw.soft_limit), ("hard", &raw.hard_limit)]
            .into_iter()
            .filter_map(|(name, limit)| Some((name, limit.as_ref()?)))
            .max_by_key(|(_, limit)| limit.value);
        if let (Some(total), Some((name, limit))) = (&raw.total_limit, largest)
            && total.value < limit.value
        {
            let message = format!(
                "the limit of all workers together, {}, is below the {name} limit of one, {}",
                total.value, limit.value
            );
            self.refuse(either(total, limit), message);
        }
        let kib = |limit: &Option<Typed<Bytes>>| given(limit).map(Bytes::kib);
        MemorySettings {
            soft_limit_kib: kib(&raw.soft_limit),
            hard_limit_kib: kib(&raw.hard_limit),
            total_limit_kib: kib(&raw.total_limit),
            // The host is asked when supervision begins.
            host_kib: None,
        }
    }

    fn leak(
        &mut self,
        raw: &raw::Leak,
        rolling: &raw::Rolling,
        defaults: LeakSettings,
    ) -> LeakSettings {
        let leak = LeakSettings {
            action: given(&raw.action).unwrap_or(defaults.action),
            warm_up: given(&raw.warm_up).map_or(defaults.warm_up, |period| period.0),
            lead_time: given(&raw.lead_time).map_or(defaults.lead_time, |period| period.0),
            quiet_window: given(&raw.quiet_window),
        };
        if let Some(max_age) = &rolling.max_age
            && leak.action != LeakAction::Off
            && Duration::ZERO < max_age.value.0
            && max_age.value.0 <= leak.warm_up
        {
            let message = format!(
                "workers are replaced at the age of {}, and before leak.warm_up, {}, none is judged: \
                 no leak would ever be seen",
                max_age.value,
                Period(leak.warm_up)
            );
            self.conclude(max_age.at(), &["leak.warm_up", "leak.action"], message);
        }
        leak
    }

    fn rolling(
        &mut self,
        raw: &raw::Rolling,
        workers: u32,
        listen: &Listen,
        defaults: RollingSettings,
    ) -> RollingSettings {
        // An address cannot be bound by an old and a new worker at once; and where the sockets are
        // not stanch's, it cannot tell which of the two answers a probe.
        let (by_port, by_itself) = match listen.mode {
            ListenMode::Takeover | ListenMode::Inherit => (false, false),
            ListenMode::Port => (true, true),
            ListenMode::None => (false, true),
        };
        let surge = given(&raw.surge).unwrap_or(defaults.surge && !by_itself);
        let unavailable = if by_itself { 1 } else { defaults.max_unavailable };
        let max_unavailable = given(&raw.max_unavailable).unwrap_or(unavailable);
        if let Some(typed) = &raw.surge
            && typed.value
            && by_port
        {
            let message = "in listen.mode \"port\" a replacement cannot start beside the old \
                           worker, both need the slot's port; set surge = false";
            self.refuse(typed, message.to_owned());
        } else if let Some(typed) = &raw.surge
            && typed.value
            && by_itself
            && !listen.addresses.is_empty()
        {
            let message = "in listen.mode \"none\" a replacement cannot be probed beside the old \
                           worker, which answers on the same address; set surge = false, or leave \
                           the address out";
            self.refuse(typed, message.to_owned());
        }
        if let Some(typed) = &raw.slow_start
            && typed.value.0 > SLOW_START_MOST
        {
            let message = "must be at most 10m: a roll takes as long for each worker";
            self.refuse(typed, message.to_owned());
        } else if let Some(typed) = &raw.slow_start
            && by_itself
        {
            let message = format!(
                "in listen.mode \"{}\" stanch does not steer connections; leave it out",
                listen.mode.as_str()
            );
            self.refuse(typed, message);
        }
        if !surge && max_unavailable == 0 {
            let at = raw.surge.as_ref().map(Typed::at);
            let at = at.or(raw.max_unavailable.as_ref().map(Typed::at));
            let at = at.unwrap_or(At { key: "rolling.surge", place: Place::Nowhere });
            let also = if by_port { "" } else { ", or surge = true" };
            let message = format!(
                "without surge and with max_unavailable = 0 no worker can ever be replaced; set \
                 max_unavailable = 1{also}"
            );
            let others = ["rolling.surge", "rolling.max_unavailable", "listen.mode"];
            self.conclude(at, &others, message);
        }
        if let Some(typed) = &raw.max_unavailable
            && typed.value > workers
        {
            let message = format!("{} is more than app.workers, {workers}", typed.value);
            self.conclude(typed.at(), &["app.workers"], message);
        }
        if let Some(typed) = &raw.drain_timeout
            && typed.value.0.is_zero()
        {
            let message = "must be longer than 0s: it is the time that a worker has to finish its \
                           requests before it is killed";
            self.refuse(typed, message.to_owned());
        }
        RollingSettings {
            surge,
            beside: surge || !by_itself,
            // Nothing is steered where the sockets are not stanch's.
            slow_start: match by_itself {
                true => Duration::ZERO,
                false => given(&raw.slow_start).map_or(defaults.slow_start, |period| period.0),
            },
            max_unavailable,
            drain_timeout: self.positive(&raw.drain_timeout, defaults.drain_timeout),
            cooldown: given(&raw.cooldown).map_or(defaults.cooldown, |period| period.0),
            max_age: raw.max_age.as_ref().map(|_| self.positive(&raw.max_age, Duration::ZERO)),
        }
    }

    fn restart(&mut self, raw: &raw::Restart, defaults: RestartSettings) -> RestartSettings {
        let restart = RestartSettings {
            backoff_initial: self.positive(&raw.backoff_initial, defaults.backoff_initial),
            backoff_max: self.positive(&raw.backoff_max, defaults.backoff_max),
            restarts: given(&raw.restarts).unwrap_or(defaults.restarts),
            within: self.positive(&raw.within, defaults.within),
            held_pause: defaults.held_pause,
        };
        let typed = raw.backoff_initial.as_ref().or(raw.backoff_max.as_ref());
        if let Some(typed) = typed
            && restart.backoff_initial > restart.backoff_max
        {
            let message = format!(
                "the first delay, {}, is above the longest, {}",
                Period(restart.backoff_initial),
                Period(restart.backoff_max)
            );
            let others = ["restart.backoff_initial", "restart.backoff_max"];
            self.conclude(typed.at(), &others, message);
        }
        restart
    }

    /// A duration that must not be zero.
    fn positive(&mut self, typed: &Option<Typed<Period>>, default: Duration) -> Duration {
        let Some(typed) = typed else { return default };
        if typed.value.0.is_zero() {
            self.refuse(typed, "must be longer than 0s".to_owned());
        }
        typed.value.0
    }

    /// A value of a range.
    fn within<T: Copy + PartialOrd + Display>(
        &mut self,
        typed: &Option<Typed<T>>,
        range: &RangeInclusive<T>,
        default: T,
    ) -> T {
        let Some(typed) = typed else { return default };
        if !range.contains(&typed.value) {
            let (start, end) = (range.start(), range.end());
            let message = format!("must be between {start} and {end}, not {}", typed.value);
            self.refuse(typed, message);
        }
        typed.value
    }

    /// A short text that goes into tables and logs.
    fn label(&mut self, typed: &Option<Typed<String>>) -> Option<String> {
        let typed = typed.as_ref()?;
        if let Err(wrong) = check_label(&typed.value) {
            self.refuse(typed, format!("{wrong}; name one, or leave the key out"));
        }
        Some(typed.value.clone())
    }

    /// One place tells the release; without any, there is none to be gone back from.
    fn release(&mut self, raw: &raw::Release, label: &Option<Typed<String>>) -> Release {
        if let (Some(file), Some(_)) = (&raw.file, label) {
            let message = "app.release names the release already; leave out one of them";
            self.conclude(file.at(), &[], message.to_owned());
        }
        if let (Some(typed), None, None) = (&raw.on_leak, &raw.file, label)
            && typed.value == LeakingRelease::RollBack
        {
            let message =
                "which release leaks is told by its label: set app.release or release.file";
            self.conclude(typed.at(), &["app.release", "release.file"], message.to_owned());
        }
        Release { file: self.path(&raw.file) }
    }

    /// A path of the file starts at the file's folder, so that the same file means the same from any
    /// current directory; one of a flag starts where the shell is.
    fn path(&mut self, typed: &Option<Typed<PathBuf>>) -> Option<PathBuf> {
        typed.as_ref().map(|typed| match typed.place {
            Place::Flag(_) => typed.value.clone(),
            Place::File { .. } | Place::Nowhere => self.folder.join(&typed.value),
        })
    }

    fn refuse<T>(&mut self, typed: &Typed<T>, message: String) {
        self.problems.refuse(typed.place, &typed.key, message);
    }

    /// Refuses what is at `at` for what it says together with the values of `others`, unless one of
    /// them is in doubt.
    fn conclude(&mut self, at: At<'_>, others: &[&str], message: String) {
        if !self.problems.doubt(at.key) && !others.iter().any(|key| self.problems.doubt(key)) {
            self.problems.refuse(at.place, at.key, message);
        }
    }
}

const NOTHING_TO_PROBE: &str = "there is nothing to ask: that takes a TCP address under [listen], \
                                and in mode \"none\" also a single worker";

/// What [`may_probe`] looks at.
const PROBE_KEYS: [&str; 3] = ["listen.address", "listen.mode", "app.workers"];

/// Whether one worker can be reached by a connection of ours.
fn may_probe(listen: &Listen, workers: u32) -> bool {
    let tcp = listen.addresses.iter().any(|a| matches!(a, ListenAddress::Tcp(_)));
    match listen.mode {
        // Without an address, the one that the workers bind.
        ListenMode::Takeover => tcp || listen.addresses.is_empty(),
        ListenMode::Inherit | ListenMode::Port => tcp,
        ListenMode::None => tcp && workers == 1,
    }
}

/// The value, where one was given.
fn given<T: Copy>(typed: &Option<Typed<T>>) -> Option<T> {
    typed.as_ref().map(|typed| typed.value)
}

/// Of two values that contradict each other the one to blame: a flag came last.
fn either<'t, T>(first: &'t Typed<T>, second: &'t Typed<T>) -> &'t Typed<T> {
    match second.place {
        Place::Flag(_) if !matches!(first.place, Place::Flag(_)) => second,
        _ => first,
    }
}
