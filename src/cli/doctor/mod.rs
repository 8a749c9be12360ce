//! `stanch doctor`: what this host allows, and so how each promise of stanch will be kept or not.
//!
//! A check is a function that tries one thing, here and now, and gives a [`Check`]: nothing is
//! concluded from a version number, because containers, security modules and distributions all
//! forbid and allow on their own. A file is a room of checks, and [`examine`] lists them all.
//!
//! Whatever a check makes (processes, cgroups, files) belongs to a value that clears it away when
//! dropped, and a signal drops them all. Each wait has a deadline.

mod check;
mod connections;
mod host;
mod memory;
mod places;
mod processes;
mod recovery;
mod steering;
mod takeover;
mod worker;

use super::output::{Paint, print};
use super::{Failure, place};
use crate::config::Config;
use crate::linux::launch::{Account, Credentials};
use crate::linux::procfs::Procfs;
use crate::linux::spawn::Launcher;
use check::Check;
use futures_util::StreamExt;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::LocalSet;

/// The longest that one wait of a check may take; usually it is milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Try what this host allows, and say what follows for each promise
///
/// Starts built-in servers on free loopback ports, replaces one by the other, and clears everything
/// away. The exit code is 1 when something that the configuration needs (without one: takeover) does
/// not work.
#[derive(clap::Args)]
pub struct Args {
    /// The configuration to check for; without it, the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object: {"version":…,"checks":[…]}
    #[arg(long)]
    json: bool,
}

/// What the checks share.
struct Host {
    config: Config,
    procfs: Procfs,
    launcher: Launcher,
    /// As whom the workers run, if that is another user and he is known.
    credentials: Option<Credentials>,
}

/// The answer of `--json`.
#[derive(Serialize)]
struct Answer {
    version: &'static str,
    checks: Vec<Check>,
}

/// Runs `stanch doctor`.
pub fn run(args: Args) -> Result<(), Failure> {
    let host = Host::new(args.config.as_deref().map(place::config_of).transpose()?);
    // One thread: the built-in servers end with the one that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::Fault(format!("cannot start the async runtime: {error}")))?;
    let checks =
        runtime.block_on(LocalSet::new().run_until(unless_told_to_stop(examine(&host))))?;
    let fatal: Vec<&str> =
        checks.iter().filter(|check| check.is_fatal()).map(|check| check.name).collect();
    let failure = (!fatal.is_empty()).then(|| {
        let whose = if args.config.is_some() { "this" } else { "the default" };
        let fatal = fatal.join(", ").replace('_', " ");
        Failure::Refused(format!("{whose} configuration cannot work here: {fatal}"))
    });
    print(|out| {
        if args.json {
            let answer = Answer { version: env!("CARGO_PKG_VERSION"), checks };
            let text = serde_json::to_string(&answer)
                .map_err(|error| Failure::Fault(format!("cannot write JSON: {error}")))?;
            writeln!(out, "{text}")?;
            return Ok(());
        }
        let paint = Paint::of_stdout();
        checks.iter().try_for_each(|check| check.write(out, paint))?;
        Ok(())
    })?;
    failure.map_or(Ok(()), Err)
}

/// All checks, in the order in which they are told.
async fn examine(host: &Host) -> Vec<Check> {
    let clock = host::Clock::start();
    vec![
        takeover::takeover(host).await,
        steering::over_ipv4(host).await,
        steering::over_ipv6().await,
        steering::moving_queues().await,
        recovery::recovery(host),
        processes::tree(host),
        memory::limit(host).await,
        memory::pressure(host).await,
        memory::swap(host),
        memory::oom_score(host),
        connections::seen().await,
        connections::hung_up(host).await,
        processes::user(host).await,
        processes::open_files(host),
        places::store(host),
        places::control_socket(host),
        host::kernel(),
        host::container(host),
        clock.check(),
    ]
}

/// A signal ends the work, which clears away behind itself.
async fn unless_told_to_stop<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| Failure::Fault(format!("cannot install the signal handlers: {error}")))?;
    tokio::select! {
        done = work => Ok(done),
        _ = signals.next() => Err(Failure::Refused("interrupted".to_owned())),
    }
}

impl Host {
    fn new(config: Option<Config>) -> Self {
        let config = config.unwrap_or_else(|| {
            let mut config = Config::default();
            // In the paths that are named after it.
            config.app.name = "NAME".to_owned();
            config
        });
        let account = Account::resolve(config.app.user.as_deref(), config.app.group.as_deref());
        Self {
            credentials: account.ok().flatten().map(|account| account.credentials),
            config,
            procfs: Procfs::default(),
            launcher: Launcher::default(),
        }
    }
}

/// An address that nobody listens on at the moment.
fn free_address(ip: IpAddr) -> io::Result<SocketAddr> {
    TcpListener::bind((ip, 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_keys_of_the_contract() {
        let checks = vec![
            Check::ok("clock", "it goes", "times are right").needed(true),
            Check::missing("user", "no", "none", "run as root"),
        ];
        let answer = serde_json::to_value(Answer { version: "1", checks }).unwrap();
        let expected = serde_json::json!({ "version": "1", "checks": [
            {
                "name": "clock", "outcome": "ok", "found": "it goes", "means": "times are right",
                "remedy": null,
            },
            {
                "name": "user", "outcome": "missing", "found": "no", "means": "none",
                "remedy": "run as root",
            },
        ] });
        assert_eq!(answer, expected);
    }
}
