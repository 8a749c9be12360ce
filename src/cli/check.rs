//! `stanch check`.

use super::{Failure, links, place};
use crate::alert::read_secret;
use crate::config::{
    self, Config, ConfigError, ListenAddress, ListenMode, Pins, Place, ReadyWhen, masked,
};
use crate::core::units::{Bytes, Period};
use crate::core::words::chain;
use crate::core::{AlertRule, LeakAction, Secret, Target};
use nix::unistd::{AccessFlags, Group, User, access};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Read a configuration and list every error in it.
///
/// Each error is a line `FILE:LINE:COLUMN: key: what is wrong (did you mean …?)` on standard error,
/// and the exit code is 2. A configuration without one is told back in words. What would make `run`
/// fail on this host (a missing directory, an unknown user) is only warned of: the file may be meant
/// for another host.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration file
    file: PathBuf,
    /// Print one JSON object: {"ok":true}, or {"ok":false,"errors":[…]}
    #[arg(long)]
    json: bool,
}

/// Runs `stanch check`.
pub fn run(args: Args) -> Result<(), Failure> {
    let name = args.file.display();
    let text = place::read_config(&args.file).or_else(|failure| {
        if args.json {
            let message = failure.message().unwrap_or_default().to_owned();
            let mistake =
                Mistake { line: None, column: None, key: None, message, suggestion: None };
            Answer { ok: false, errors: vec![mistake] }.print()?;
        }
        Err(failure)
    })?;
    match config::parse(&text, &args.file) {
        Ok(config) => {
            let pins = links::pins(&config);
            let (label, unlabelled) = match place::label(&config, &pins) {
                Ok(label) => (label, None),
                Err(failure) => (None, failure.message().map(str::to_owned)),
            };
            let config = place::released(config, &pins, label);
            match args.json {
                true => Answer { ok: true, errors: Vec::new() }.print()?,
                false => print(format!("{name}: ok\n{}", summary(&config)).trim_end())?,
            }
            for warning in unlabelled.into_iter().chain(warnings(&config, &pins)) {
                eprintln!("{name}: warning: {warning}");
            }
            Ok(())
        }
        Err(errors) => {
            let failure = Failure::Usage(match errors.errors.len() {
                1 => format!("{name} has an error"),
                count => format!("{name} has {count} errors"),
            });
            if args.json {
                let errors = errors.errors.into_iter().map(Mistake::from).collect();
                Answer { ok: false, errors }.print()?;
            } else {
                eprintln!("{errors}");
            }
            Err(failure)
        }
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        // A reader that has seen enough is no fault.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Fault(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

/// The answer of `--json`.
#[derive(Serialize)]
struct Answer {
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Mistake>,
}

/// An error in the answer of `--json`; what does not apply is null.
#[derive(Serialize)]
struct Mistake {
    line: Option<usize>,
    column: Option<usize>,
    key: Option<String>,
    message: String,
    suggestion: Option<String>,
}

impl From<ConfigError> for Mistake {
    fn from(error: ConfigError) -> Self {
        let (line, column) = match error.place {
            Place::File { line, column } => (Some(line), Some(column)),
            Place::Flag(_) | Place::Nowhere => (None, None),
        };
        let key = Some(error.key).filter(|key| !key.is_empty());
        Mistake { line, column, key, message: error.message, suggestion: error.suggestion }
    }
}

impl Answer {
    fn print(&self) -> Result<(), Failure> {
        let text = serde_json::to_string(self);
        let text = text.map_err(|error| Failure::Fault(format!("cannot write JSON: {error}")))?;
        print(&text)
    }
}

/// What a configuration means, in words.
fn summary(config: &Config) -> String {
    let (app, settings) = (&config.app, &config.settings);
    let period = |duration: Duration| Period(duration).to_string();
    let mut lines = Vec::new();
    let release = settings.release.as_ref().map(|release| format!(", release {release}"));
    lines.push(("app", format!("{}{}", app.name, release.unwrap_or_default())));
    let words = masked(&app.command);
    let words = words.iter().map(|word| {
        let plain = |c: char| c.is_ascii_graphic() && !"\"'\\$`".contains(c);
        if word.chars().all(plain) && !word.is_empty() {
            word.to_string()
        } else {
            format!("{word:?}")
        }
    });
    lines.push(("command", words.collect::<Vec<_>>().join(" ")));
    lines.push(("workers", settings.workers.to_string()));
    lines.push(("listen", listen(config)));
    let sign = match config.ready.when {
        ReadyWhen::Listen if config.listen.mode == ListenMode::None => "started".to_owned(),
        ReadyWhen::Listen => "it accepts a connection".to_owned(),
        ReadyWhen::Http => format!("GET {} succeeds", config.ready.path),
        ReadyWhen::Notify => "it says READY=1 to NOTIFY_SOCKET".to_owned(),
    };
    lines.push(("ready", format!("when {sign}, within {}", period(settings.ready_timeout))));
    let health = &config.health;
    lines.push((
        "health",
        match (settings.health.failures, &health.path) {
            (0, _) => "not probed".to_owned(),
            (failures, path) => format!(
                "{} every {}, {} to answer; hung after {failures} failures in a row",
                path.as_ref().map_or("a connection".to_owned(), |path| format!("GET {path}")),
                period(health.interval),
                period(health.timeout),
            ),
        },
    ));
    if let Some(watchdog) = settings.health.watchdog {
        let what = format!("hung without WATCHDOG=1 to NOTIFY_SOCKET for {}", period(watchdog));
        lines.push(("watchdog", what));
    }
    let memory = &settings.memory;
    let limits = [
        (memory.soft_limit_kib, "a worker is replaced over"),
        (memory.hard_limit_kib, "killed over"),
        (memory.total_limit_kib, "all together kept below"),
    ];
    let limits: Vec<_> = limits
        .into_iter()
        .filter_map(|(kib, what)| Some(format!("{what} {}", Bytes::from_kib(kib?))))
        .collect();
    let limits = if limits.is_empty() { "no limit".to_owned() } else { limits.join(", ") };
    lines.push(("memory", limits));
    lines.push(("leak", leak(config)));
    let rolling = &settings.rolling;
    let order = if rolling.surge { "replacement first" } else { "old worker first" };
    let mut roll = format!("{order}, {} to finish requests", period(rolling.drain_timeout));
    if let Some(age) = rolling.max_age {
        let _ = write!(roll, ", each worker at the age of {}", period(age));
    }
    lines.push(("rolling", roll));
    lines.extend(settings.alerts.iter().map(|rule| ("alert", alert(rule))));
    lines.into_iter().fold(String::new(), |mut text, (name, said)| {
        let _ = writeln!(text, "  {name:<8} {said}");
        text
    })
}

fn listen(config: &Config) -> String {
    let listen = &config.listen;
    let addresses: Vec<_> = listen.addresses.iter().map(ListenAddress::to_string).collect();
    let addresses = addresses.join(", ");
    match listen.mode {
        ListenMode::None if addresses.is_empty() => "not supervised".to_owned(),
        ListenMode::None => format!("not supervised; {addresses} is probed"),
        ListenMode::Takeover if addresses.is_empty() => {
            let ignored: Vec<_> = listen.ignore_ports.iter().map(u16::to_string).collect();
            let ignored = match ignored.as_slice() {
                [] => String::new(),
                ports => format!(" but {}", ports.join(", ")),
            };
            format!("auto: the TCP ports that the workers bind{ignored} (takeover)")
        }
        mode => format!("{addresses} ({mode})"),
    }
}

fn alert(rule: &AlertRule) -> String {
    let kinds: Vec<_> = rule.kinds.iter().map(|kind| kind.as_str()).collect();
    let kinds = if kinds.is_empty() { "any incident".to_owned() } else { kinds.join(", ") };
    let names: Vec<_> = rule.to.iter().map(|target| target.name.as_str()).collect();
    let then = format!(", after {} ", Period(rule.escalate_after));
    format!("{kinds}, {} or worse: {}", rule.severity, names.join(&then))
}

fn leak(config: &Config) -> String {
    let leak = &config.settings.leak;
    let memory = &config.settings.memory;
    let judged = format!("judged from the age of {}", Period(leak.warm_up));
    let limited = memory.soft_limit_kib.is_some() || memory.hard_limit_kib.is_some();
    match leak.action {
        LeakAction::Off => "not judged".to_owned(),
        LeakAction::Alert => format!("{judged}; written down, nothing is touched"),
        LeakAction::Restart if limited => format!(
            "{judged}; replaced at the latest {} before the limit would be reached",
            Period(leak.lead_time)
        ),
        LeakAction::Restart => format!(
            "{judged}; without a memory limit no time can be forecast (set memory.soft_limit)"
        ),
    }
}

/// What would make `run` fail on this host, or surprise.
fn warnings(config: &Config, pins: &Pins) -> Vec<String> {
    let app = &config.app;
    let mut warnings = Vec::new();
    if let Some(directory) = app.directory.as_ref().filter(|directory| !directory.is_dir()) {
        warnings.push(format!("app.directory: no directory {} here", directory.display()));
    }
    if let Some(file) = &app.environment_file {
        let here = file.display();
        match std::fs::read_to_string(file).map(|text| config::variables(&text).err()) {
            Ok(None) => {}
            Ok(Some(line)) => {
                let what = format!("app.environment_file: {here}: line {line}: not NAME=VALUE");
                warnings.push(format!("{what}; no worker starts with it"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                warnings.push(format!("app.environment_file: no file {here} here"));
            }
            Err(error) => warnings.push(format!("app.environment_file: {here}: {error}")),
        }
    }
    if let Some(user) = &app.user
        && user.parse::<u32>().is_err()
        && matches!(User::from_name(user), Ok(None))
    {
        warnings.push(format!("app.user: no user {user} here"));
    }
    if let Some(group) = &app.group
        && group.parse::<u32>().is_err()
        && matches!(Group::from_name(group), Ok(None))
    {
        warnings.push(format!("app.group: no group {group} here"));
    }
    warnings.extend(missing_command(config));
    warnings.extend(unpinned(config, pins));
    let secrets = config.settings.alert_targets().flat_map(Target::secrets);
    warnings.extend(secrets.filter_map(ill_kept).map(|why| format!("alert.to: {why}")));
    if config.settings.leaking_release != config.settings.on_leaking_release() {
        let why = match config.settings.leak.action {
            LeakAction::Off => "leaks are not looked for",
            LeakAction::Alert | LeakAction::Restart => {
                "a leak is written down, and nothing is touched"
            }
        };
        let (on_leak, action) = (config.settings.leaking_release, config.settings.leak.action);
        warnings.push(format!(
            "release.on_leak: {:?} does nothing with leak.action = {:?}: {why}",
            on_leak.as_str(),
            action.as_str()
        ));
    }
    let memory = &config.settings.memory;
    if let (Some(total), Some(soft)) = (memory.total_limit_kib, memory.soft_limit_kib)
        && let Some(sum) = soft.checked_mul(u64::from(config.settings.workers))
        && total < sum
    {
        warnings.push(format!(
            "memory.total_limit: {} is less than {} workers may have together below their soft \
             limits, {}",
            Bytes::from_kib(total),
            config.settings.workers,
            Bytes::from_kib(sum)
        ));
    }
    warnings
}

/// Why nobody can be told with this secret, or why it is none.
fn ill_kept(secret: &Secret) -> Option<String> {
    /// Others of the host may read it.
    const OTHERS: u32 = 0o004;
    if let Err(error) = read_secret(secret) {
        return Some(chain(&error));
    }
    let Secret::File(path) = secret else { return None };
    let mode = path.metadata().ok()?.permissions().mode();
    (mode & OTHERS != 0).then(|| {
        let path = path.display();
        format!("every user of this host can read the secret in {path}; `chmod o-r {path}`")
    })
}

/// What is started through a link that is not followed once: where it leads is found out by each worker anew.
fn unpinned(config: &Config, pins: &Pins) -> impl Iterator<Item = String> {
    links::unpinned(config, pins).into_iter().map(|link| {
        let link = link.display();
        format!(
            "app.command: each start of a worker follows the link {link}, and a deploy cannot be gone back from; \
             only links to folders are followed once, in a word that is a path with a slash, or in an absolute path"
        )
    })
}

/// Whether the program cannot be found as a worker would look for it: in the worker's `PATH`, or, if
/// its name has a slash, from the worker's directory.
fn missing_command(config: &Config) -> Option<String> {
    let program = config.app.command.first()?;
    let executable = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    let directory = config.app.directory.as_deref().unwrap_or(Path::new(""));
    if program.contains('/') {
        let path = directory.join(program);
        let problem = match () {
            () if directory != Path::new("") && !directory.is_dir() => return None,
            () if !path.exists() => "does not exist here",
            () if !executable(&path) => "cannot be executed here",
            () => return None,
        };
        return Some(format!("app.command: {} {problem}", path.display()));
    }
    // The file may set PATH too, but whether it does is known only where it is read.
    if config.app.environment_file.is_some() {
        return None;
    }
    let configured = config.app.environment.0.get("PATH").map(Into::into);
    let path = configured.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| executable(&folder.join(program)));
    (!found).then(|| format!("app.command: no program {program} in PATH here"))
}
