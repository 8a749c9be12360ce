//! `stanch soak`: a leak test for CI. The server runs under a supervisor of its own and under load for some
//! minutes, and the leak detector looks on.
//!
//! It is asked another question than in production. There a growth matters for the limit that it runs into,
//! hours away; here it matters if it goes on at all. So the detector of a soak knows no limit, unless one is
//! named: it is held against growth to three times the size, and by 256 MiB at least. And it knows how many
//! requests were answered between two samples, where production has the CPU time. What it finds in order is
//! doubted if it still grew in the last quarter ([`floors`]). The supervisor holds the memory that the soak may
//! take, and decides nothing.

mod course;
mod finding;
mod floors;
#[cfg(test)]
mod tests;

use super::Failure;
use super::replay::{duration, size_kib};
use super::stage::load::{Load, Plan, Tally};
use super::stage::play::{Play, is_failure, ready, turns};
use super::stage::screen::{Moment, Screen};
use super::stage::watch::Watcher;
use super::stage::{Folder, StageError, Supervisor, quoted, quoted_path};
use crate::core::Record;
use crate::core::words::chain;
use crate::linux::pressure;
use crate::linux::procfs::Procfs;
use crate::wire::Status;
use course::{Course, Trace, begin_trace};
use finding::Finding;
use hyper::Uri;
use jiff::Timestamp;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A shorter soak tells nothing of any server.
const SHORTEST: Duration = Duration::from_secs(10);
/// The detector judges who is older than six warm-ups, and that is half of the soak.
const WARM_UPS: u32 = 12;
/// How long the server may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(300);
/// From one line of figures to the next, where the output is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// So many requests are enough to see that none is answered.
const TRIES: u64 = 20;
/// Requests a second that a client asks for at most, and how many clients of each sort there may be.
const RPS_A_CLIENT: u32 = 10;
const CLIENTS: std::ops::RangeInclusive<u32> = 2..=32;

/// Test a server for leaks: run it under load and watch its memory; exit code 1 on a leak
///
/// The server is asked for the paths at the given rate. What it does in the first half of the time is taken for
/// warm-up. Memory is judged, and in a soak of three minutes and more descriptors, threads and processes.
#[derive(clap::Args)]
pub struct Args {
    /// How long; what grows faster is told sooner
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    length: Duration,
    /// Requests a second; 0 where another program asks
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=100_000))]
    rate: u32,
    /// What is asked for with GET; may be repeated, they take turns
    #[arg(long = "path", value_name = "PATH", default_value = "/", value_parser = path)]
    paths: Vec<Uri>,
    /// Which address of the server is asked [default: the first TCP port that it binds]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// What the server may use, such as 512MiB: more fails, and growth is held against it [default: half of
    /// what the host has left; growth is held against three times the size, and 256MiB at least]
    #[arg(long, value_name = "SIZE", value_parser = size_kib)]
    limit: Option<u64>,
    /// Write what was measured to this file, for `stanch replay`
    #[arg(long, value_name = "FILE.csv")]
    trace: Option<PathBuf>,
    /// Print the figures as one JSON object at the end, and nothing before
    #[arg(long)]
    json: bool,
    /// The command that starts the server
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs `stanch soak`.
pub fn run(args: Args) -> Result<(), Failure> {
    if args.length < SHORTEST {
        let least = SHORTEST.as_secs();
        return Err(Failure::Usage(format!("--for: nothing shows in less than {least}s")));
    }
    let trace = args.trace.as_deref().map(begin_trace).transpose()?;
    let folder = Folder::make("soak", false)?;
    let play = Play::prepare()?;
    let mut supervisor = Supervisor::start(&folder, &config(&folder, &args)?)?;
    let mut screen = Screen::new(args.json, LINE_EVERY);
    let scene =
        Scene { args: &args, folder: &folder, supervisor: &mut supervisor, screen: &mut screen };
    let finding = play.perform("the soak", scene.act(trace))?;
    if args.json {
        finding.print_json()?;
    } else {
        finding.print()?;
    }
    supervisor.stop()?;
    folder.clear()?;
    match &finding.course.unwritten {
        _ if !finding.is_well() => Err(Failure::No),
        Some(trouble) => Err(Failure::Usage(trouble.clone())),
        None => Ok(()),
    }
}

/// The supervisor's configuration: it starts the server and holds its memory, nothing else.
fn config(folder: &Folder, args: &Args) -> Result<String, StageError> {
    let command: Vec<String> = args.command.iter().map(|word| quoted(word)).collect();
    let left_kib = || pressure::available_kib(&Procfs::default());
    let most_kib = args.limit.or_else(|| Some(left_kib()? / 2));
    let listen = args.listen.map(|address| format!("[listen]\naddress = [\"{address}\"]\n"));
    Ok(format!(
        r#"[app]
name = "soak"
command = [{command}]
workers = 1

{listen}
[ready]
timeout = "{timeout}s"

[memory]
{hard_limit}

[leak]
action = "off"

[rolling]
drain_timeout = "5s"

[restart]
backoff_initial = "30s"

[store]
path = {store}

[control]
socket = {socket}
"#,
        command = command.join(", "),
        listen = listen.unwrap_or_default(),
        timeout = START_PATIENCE.as_secs(),
        hard_limit = most_kib.map_or(String::new(), |kib| format!("hard_limit = \"{kib}KiB\"")),
        store = quoted_path(&folder.store())?,
        socket = quoted_path(&folder.socket())?,
    ))
}

/// What happens between the start of the supervisor and the end of the load.
struct Scene<'a> {
    args: &'a Args,
    folder: &'a Folder,
    supervisor: &'a mut Supervisor,
    screen: &'a mut Screen,
}

impl Scene<'_> {
    async fn act(self, trace: Option<Trace>) -> Result<Finding, Failure> {
        let Self { args, folder, supervisor, screen } = self;
        screen.say("Waits until the server accepts connections.")?;
        let mut watcher = Watcher::new(folder);
        let ready = ready(supervisor, &mut watcher, folder, 1, START_PATIENCE).await;
        let mut status = ready.map_err(|error| match error {
            // Whose server it is has to see to it.
            StageError::NotReady { .. } => Failure::Usage(chain(&error)),
            _ => error.into(),
        })?;
        let began = Timestamp::now();
        let mut course = Course::begin(args, folder, supervisor.pid(), &status, trace)?;
        let address = match args.rate {
            0 => None,
            _ => Some(address(args, &status)?),
        };
        screen.say(&opening(args, address))?;
        let load = address.map(|address| Load::start(plan(args, address)));

        let clock = Instant::now();
        let (mut turns, mut broken, mut half_time) = (turns(), None, None);
        while clock.elapsed() < args.length && broken.is_none() && course.leak().is_none() {
            turns.tick().await;
            supervisor.check(folder)?;
            let tally = load.as_ref().map(Load::tally).unwrap_or_default();
            if tally.ok == 0 && tally.requests() >= TRIES {
                return Err(Failure::Usage(unanswered(&tally)));
            }
            if half_time.is_none() && clock.elapsed() >= args.length / 2 {
                half_time = load.is_some().then_some(tally.ok);
            }
            course.observe(load.is_some().then_some(tally.ok));
            let look = watcher.look();
            for record in &look.events {
                let after = record.at.duration_since(began);
                screen.event(after.as_secs_f64(), record)?;
                broken = broken.or_else(|| breaks(record));
            }
            status = look.status.unwrap_or(status);
            for worker in &mut status.workers {
                worker.leak = course.verdict();
            }
            let elapsed = clock.elapsed();
            screen.show(&Moment {
                elapsed,
                status: &status,
                tally: &tally,
                limit_kib: args.limit,
            })?;
        }
        let lasted = clock.elapsed();
        let grew = course.grew();
        let tally = match load {
            Some(load) => Some(load.stop().await),
            None => None,
        };
        let half_time = half_time.filter(|_| lasted >= args.length);
        let broken = broken.map(|why: String| (why, folder.last_words()));
        let (course, length) = (course.end(), args.length);
        Ok(Finding { course, grew, tally, lasted, length, half_time, broken, address })
    }
}

/// What ends a soak before its time: there is nothing left to watch.
fn breaks(record: &Record) -> Option<String> {
    is_failure(record.kind).then(|| record.reason.clone())
}

/// Where the server is asked.
fn address(args: &Args, status: &Status) -> Result<SocketAddr, Failure> {
    let mut bound = status.listeners.iter().filter_map(|listener| listener.address.parse().ok());
    let none = || Failure::Usage("the server listens on no TCP port to ask it on".to_owned());
    args.listen.or_else(|| bound.next()).map(reachable).ok_or_else(none)
}

fn plan(args: &Args, address: SocketAddr) -> Plan {
    let clients = (args.rate / RPS_A_CLIENT / 2).clamp(*CLIENTS.start(), *CLIENTS.end());
    Plan {
        address,
        paths: args.paths.clone(),
        fresh_clients: clients,
        kept_clients: clients,
        rate_rps: args.rate,
    }
}

/// The address by which a client of this host gets there.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into())
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into())
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    address
}

fn opening(args: &Args, address: Option<SocketAddr>) -> String {
    let (length, rate) = (args.length.as_secs(), args.rate);
    let asked = address.map_or("left to others to ask".to_owned(), |address| {
        format!("asked on {address}, {rate} requests a second")
    });
    format!("It is {asked}, for {length} s; the second half is judged.\n")
}

fn unanswered(tally: &Tally) -> String {
    let first = tally.errors.first().map_or(String::new(), |error| format!(" ({error})"));
    format!(
        "none of the first {} requests was answered with 2xx or 3xx{first}; --path and --listen say what \
         is asked for, and where",
        tally.requests()
    )
}

fn path(text: &str) -> Result<Uri, String> {
    let path = text.parse::<Uri>().map_err(|error| error.to_string())?;
    if text.starts_with('/') { Ok(path) } else { Err("a path begins with /".to_owned()) }
}
