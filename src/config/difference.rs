//! What a configuration changes that takes the place of another, and when each change holds.
//!
//! No value that may be a secret is shown: of the environment only names, of command lines only the
//! program (people put passwords there), of paths in URLs nothing behind a question mark, of alerts only
//! whom they are to.

use super::checked::{
    App, Config, Control, Environment, Evidence, Health, Hooks, Listen, Log, Memory, Ready,
    ReadyWhen, Release, Rlimit, Rotate, Store,
};
use crate::core::hooks::HookSettings;
use crate::core::reload::{Change, Difference, Holds};
use crate::core::units::{Bytes, Period};
use crate::core::{
    AlertRule, EvidenceSettings, HealthSettings, LeakSettings, MemorySettings, RestartSettings,
    RollingSettings, Settings,
};
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use Holds::{AfterRestart, InNewWorkers, Now};

/// What `new` changes, in the order of the documentation. Every key is named here: the patterns leave
/// none out, so that a new one must say when it holds.
pub fn difference(old: &Config, new: &Config) -> Difference {
    let Config {
        app,
        release,
        listen,
        ready,
        health,
        memory,
        limits,
        evidence,
        hooks,
        log,
        store,
        control,
        settings,
    } = old;
    let mut found = Found::default();
    found.app(app, &new.app);
    let Release { file: path } = release;
    found.key("release.file", Now, path, &new.release.file, |path| file(path.as_deref()));
    found.settings(settings, &new.settings);
    let Listen { addresses, ignore_ports, mode, backlog } = listen;
    found.key("listen.address", AfterRestart, addresses, &new.listen.addresses, |all| list(all));
    let ports = &new.listen.ignore_ports;
    found.key("listen.ignore_ports", AfterRestart, ignore_ports, ports, |all| list(all));
    found.key("listen.mode", AfterRestart, mode, &new.listen.mode, |mode| mode.to_string());
    found.key("listen.backlog", AfterRestart, backlog, &new.listen.backlog, |n| n.to_string());
    let Ready { when, path } = ready;
    // Of a worker of another program they would be the wrong ones, and it never ready, or taken for hung.
    let sign = |when: &ReadyWhen| when.as_str().to_owned();
    found.key("ready.when", InNewWorkers, when, &new.ready.when, sign);
    found.key("ready.path", InNewWorkers, path, &new.ready.path, |path| without_query(path));
    let Health { path, interval, timeout } = health;
    found.key("health.path", InNewWorkers, path, &new.health.path, |path| {
        path.as_deref().map_or_else(not_set, without_query)
    });
    found.key("health.interval", Now, interval, &new.health.interval, period);
    found.key("health.timeout", Now, timeout, &new.health.timeout, period);
    let Memory { sample_interval } = memory;
    found.key("memory.sample_interval", Now, sample_interval, &new.memory.sample_interval, period);
    found.rlimits(limits, &new.limits);
    let Evidence { command, max_size, keep, log_lines } = evidence;
    found.key("evidence.command", Now, command, &new.evidence.command, |words| program(words));
    found.key("evidence.max_size", Now, max_size, &new.evidence.max_size, Bytes::to_string);
    found.key("evidence.keep", Now, keep, &new.evidence.keep, Bytes::to_string);
    let lines = &new.evidence.log_lines;
    found.key("evidence.log_lines", InNewWorkers, log_lines, lines, |n| n.to_string());
    let Hooks { on_ready, on_drain, on_retired } = hooks;
    let other = &new.hooks;
    found.key("hooks.on_ready", Now, on_ready, &other.on_ready, |words| program(words));
    found.key("hooks.on_drain", Now, on_drain, &other.on_drain, |words| program(words));
    found.key("hooks.on_retired", Now, on_retired, &other.on_retired, |words| program(words));
    let Log { format, worker_output, path, rotate, flood_limit } = log;
    found.key("log.format", Now, format, &new.log.format, |format| format.as_str().into());
    let output = &new.log.worker_output;
    found.key("log.worker_output", Now, worker_output, output, |to| to.as_str().into());
    found.key("log.path", Now, path, &new.log.path, |path| file(path.as_deref()));
    found.key("log.rotate", Now, rotate, &new.log.rotate, |rotate| {
        let Rotate { size, age, keep } = rotate;
        format!("{size} or {}, keep {keep}", period(age))
    });
    let limit = &new.log.flood_limit;
    found.key("log.flood_limit", Now, flood_limit, limit, |n| n.to_string());
    let Store { path, retention } = store;
    found.key("store.path", AfterRestart, path, &new.store.path, |path| file(path.as_deref()));
    found.key("store.retention", AfterRestart, retention, &new.store.retention, period);
    let Control { socket } = control;
    let other = &new.control.socket;
    found.key("control.socket", AfterRestart, socket, other, |path| file(path.as_deref()));
    Difference(found.changes)
}

#[derive(Default)]
struct Found {
    changes: Vec<Change>,
}

impl Found {
    /// Notes the change of a key, if there is one; `show` gives the value for people.
    fn key<T: PartialEq>(
        &mut self,
        key: &str,
        holds: Holds,
        old: &T,
        new: &T,
        show: impl Fn(&T) -> String,
    ) {
        if old == new {
            return;
        }
        let (old, new) = (show(old), show(new));
        // What differs is not for showing.
        let what = if old == new { "another value".to_owned() } else { format!("{old} → {new}") };
        self.changes.push(Change { holds, text: format!("{key}: {what}") });
    }

    fn app(&mut self, old: &App, new: &App) {
        let App {
            name,
            command,
            directory,
            environment,
            environment_file,
            user,
            group,
            umask,
            stop_signal,
        } = old;
        self.key("app.name", AfterRestart, name, &new.name, String::clone);
        self.key("app.command", InNewWorkers, command, &new.command, |words| program(words));
        let path = |path: &Option<_>| file(Option::as_deref(path));
        self.key("app.directory", InNewWorkers, directory, &new.directory, path);
        self.environment(environment, &new.environment);
        let other = &new.environment_file;
        self.key("app.environment_file", InNewWorkers, environment_file, other, path);
        self.key("app.user", InNewWorkers, user, &new.user, or_not_set);
        self.key("app.group", InNewWorkers, group, &new.group, or_not_set);
        self.key("app.umask", InNewWorkers, umask, &new.umask, |umask| {
            umask.map_or_else(not_set, |umask| format!("{umask:04o}"))
        });
        let other = &new.stop_signal;
        self.key("app.stop_signal", InNewWorkers, stop_signal, other, |s| s.to_string());
    }

    fn environment(&mut self, Environment(old): &Environment, Environment(new): &Environment) {
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let what = match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) if old == new => continue,
                (Some(_), Some(_)) => "another value",
                (Some(_), None) => "removed",
                (None, _) => "added",
            };
            let text = format!("app.environment.{name}: {what}");
            self.changes.push(Change { holds: InNewWorkers, text });
        }
    }

    fn rlimits(&mut self, old: &[Rlimit], new: &[Rlimit]) {
        let mut names: Vec<String> = old.iter().chain(new).map(Rlimit::name).collect();
        names.sort();
        names.dedup();
        let of = |limits: &[Rlimit], name: &str| {
            limits.iter().find(|limit| limit.name() == name).map(|limit| (limit.soft, limit.hard))
        };
        let show = |value: Option<u64>| value.map_or("unlimited".to_owned(), |n| n.to_string());
        for name in names {
            let (old, new) = (of(old, &name), of(new, &name));
            self.key(&format!("limits.{name}"), InNewWorkers, &old, &new, |limit| match limit {
                None => "inherited".to_owned(),
                Some((soft, hard)) if soft == hard => show(*soft),
                Some((soft, hard)) => format!("{}:{}", show(*soft), show(*hard)),
            });
        }
    }

    fn settings(&mut self, old: &Settings, new: &Settings) {
        let Settings {
            workers,
            release,
            ready_timeout,
            health: HealthSettings { failures, watchdog },
            memory,
            leak,
            leaking_release,
            rolling,
            restart,
            alerts,
            evidence: EvidenceSettings { command_timeout },
            // Which there are follows from the commands.
            hooks: HookSettings { set: _, timeout: hook_timeout },
        } = old;
        self.key("app.workers", Now, workers, &new.workers, u32::to_string);
        self.key("app.release", InNewWorkers, release, &new.release, or_not_set);
        self.key("ready.timeout", InNewWorkers, ready_timeout, &new.ready_timeout, period);
        self.key("health.failures", Now, failures, &new.health.failures, u32::to_string);
        let silence = |limit: &Option<_>| limit.as_ref().map_or_else(not_set, period);
        self.key("health.watchdog", InNewWorkers, watchdog, &new.health.watchdog, silence);
        // What the host has is no key.
        let MemorySettings { soft_limit_kib, hard_limit_kib, total_limit_kib, host_kib: _ } =
            memory;
        self.key("memory.soft_limit", Now, soft_limit_kib, &new.memory.soft_limit_kib, size);
        self.key("memory.hard_limit", Now, hard_limit_kib, &new.memory.hard_limit_kib, size);
        self.key("memory.total_limit", Now, total_limit_kib, &new.memory.total_limit_kib, size);
        let LeakSettings { action, warm_up, lead_time, quiet_window } = leak;
        self.key("leak.action", Now, action, &new.leak.action, |action| action.as_str().to_owned());
        self.key("leak.warm_up", Now, warm_up, &new.leak.warm_up, period);
        self.key("leak.lead_time", Now, lead_time, &new.leak.lead_time, period);
        self.key("leak.quiet_window", Now, quiet_window, &new.leak.quiet_window, or_not_set);
        let other = &new.leaking_release;
        self.key("release.on_leak", Now, leaking_release, other, |what| what.as_str().to_owned());
        self.rolling(rolling, &new.rolling);
        // The pause of a held slot is no key.
        let RestartSettings { backoff_initial, backoff_max, restarts, within, held_pause: _ } =
            restart;
        let other = &new.restart;
        self.key("restart.backoff_initial", Now, backoff_initial, &other.backoff_initial, period);
        self.key("restart.backoff_max", Now, backoff_max, &other.backoff_max, period);
        self.key("restart.intensity.restarts", Now, restarts, &other.restarts, u32::to_string);
        self.key("restart.intensity.within", Now, within, &other.within, period);
        let other = &new.evidence.command_timeout;
        self.key("evidence.timeout", Now, command_timeout, other, |timeout| {
            timeout.as_ref().map_or_else(not_set, period)
        });
        self.key("hooks.timeout", Now, hook_timeout, &new.hooks.timeout, period);
        self.key("alert", Now, alerts, &new.alerts, |rules| names(rules));
    }

    fn rolling(&mut self, old: &RollingSettings, new: &RollingSettings) {
        let RollingSettings {
            surge,
            // Follows from the mode.
            beside: _,
            slow_start,
            max_unavailable,
            drain_timeout,
            cooldown,
            max_age,
        } = old;
        self.key("rolling.surge", Now, surge, &new.surge, bool::to_string);
        self.key("rolling.slow_start", Now, slow_start, &new.slow_start, period);
        let other = &new.max_unavailable;
        self.key("rolling.max_unavailable", Now, max_unavailable, other, u32::to_string);
        self.key("rolling.drain_timeout", Now, drain_timeout, &new.drain_timeout, period);
        self.key("rolling.cooldown", Now, cooldown, &new.cooldown, period);
        self.key("rolling.max_age", Now, max_age, &new.max_age, |age| {
            age.as_ref().map_or_else(not_set, period)
        });
    }
}

fn not_set() -> String {
    "not set".to_owned()
}

fn or_not_set<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(not_set, T::to_string)
}

fn period(duration: &Duration) -> String {
    Period(*duration).to_string()
}

fn size(kib: &Option<u64>) -> String {
    kib.map_or_else(not_set, |kib| Bytes::from_kib(kib).to_string())
}

fn list<T: Display>(all: &[T]) -> String {
    let all: Vec<_> = all.iter().map(T::to_string).collect();
    if all.is_empty() { not_set() } else { all.join(" ") }
}

fn file(path: Option<&Path>) -> String {
    path.map_or_else(not_set, |path| path.display().to_string())
}

fn program(words: &[String]) -> String {
    words.first().cloned().unwrap_or_else(not_set)
}

fn without_query(path: impl AsRef<str>) -> String {
    path.as_ref().split('?').next().unwrap_or_default().to_owned()
}

fn names(rules: &[AlertRule]) -> String {
    let mut names: Vec<_> = rules.iter().flat_map(|rule| &rule.to).map(|to| &to.name).collect();
    names.dedup();
    if names.is_empty() { "nobody".to_owned() } else { list(&names) }
}
