//! The drill `leak`: a web shop whose workers fill up with sessions, as in the outages that stanch
//! exists for.
//!
//! Sizes: each of the workers gets a quarter of the requests, so it grows by about 2.1 MiB/s and is
//! full after a good minute. The detector wants to see a fifth of the way to the limit, over some ten
//! seconds, so a leak is confirmed before the half, and a roll of all workers takes seconds.

use super::Wishes;
use super::load::{Load, Plan, Tally};
use super::report::Report;
use super::screen::{Moment, Screen, mib};
use super::stage::{Folder, StageError, Supervisor, free_address, program, quoted};
use super::story::Story;
use super::watch::{Look, Watcher};
use crate::cli::{Failure, incidents};
use crate::core::units::Bytes;
use crate::store::Reader;
use crate::wire::Status;
use futures_util::StreamExt;
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const WORKERS: u32 = 4;
const SOFT_LIMIT: Bytes = Bytes(160 << 20);
const HARD_LIMIT: Bytes = Bytes(240 << 20);
const SESSION: Bytes = Bytes(22 << 10);
const RATE_RPS: u32 = 400;
/// Clients of each sort.
const CLIENTS: u32 = 8;
/// How long the workers may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a drill may take; without stanch every worker would be full twice over by then.
const LONGEST: Duration = Duration::from_secs(180);
/// And so much more for each replacement that is asked for.
const LONGER: Duration = Duration::from_secs(15);
/// From one look at the supervisor to the next.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Plays it.
pub(super) fn play(wishes: Wishes) -> Result<(), Failure> {
    let folder = Folder::make(wishes.keep)?;
    let address = free_address()?;
    let mut screen = Screen::new(wishes.json);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Fault(format!("cannot start the drill's load: {error}")))?;
    // From before there is anything that a signal would leave behind.
    let inside = runtime.enter();
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| Failure::Fault(format!("cannot wait for Ctrl-C: {error}")))?;
    drop(inside);
    let mut supervisor = Supervisor::start(&folder, &config(&folder, address)?)?;
    let mut scene = Scene {
        folder: &folder,
        supervisor: &mut supervisor,
        screen: &mut screen,
        replacements: wishes.replacements,
    };
    let report = runtime.block_on(scene.play(address, signals))?;
    // Its threads would go on looking.
    drop(runtime);

    let incident = report.story.incident.clone();
    if wishes.json {
        report.print_json(&folder, wishes.keep)?;
    } else {
        report.print_figures()?;
        if let Some(id) = &incident {
            incidents::tell(&Reader::open(&folder.store())?, id, false)?;
        }
        report.print_comparison()?;
    }
    supervisor.stop()?;
    if wishes.keep && !wishes.json {
        let path = folder.path().display();
        println!("Kept in {path}: stanch.toml, supervisor.log, and for `--store` store.db");
    }
    folder.clear()?;
    if report.missing().is_empty() { Ok(()) } else { Err(Failure::No) }
}

/// The supervisor's configuration, such as an operator would write it for this server.
fn config(folder: &Folder, address: SocketAddr) -> Result<String, StageError> {
    Ok(format!(
        r#"# The drill `leak`: what `stanch run` was started with.
[app]
name = "corner-shop"
command = [{program}, "__leaky-server", "--address", "{address}", "--session", "{SESSION}"]
workers = {WORKERS}
release = "drill"

[listen]
address = ["{address}"]

[ready]
when = "http"
path = "/health"
timeout = "30s"

[health]
path = "/health"
interval = "2s"

[memory]
soft_limit = "{SOFT_LIMIT}"
hard_limit = "{HARD_LIMIT}"
sample_interval = "500ms"

[leak]
warm_up = "5s"      # minutes in production: caches fill, pools grow
lead_time = "60s"

[rolling]
cooldown = "2s"
drain_timeout = "10s"

[store]
path = {store}

[control]
socket = {socket}
"#,
        program = quoted(&program()?)?,
        store = quoted(&folder.store())?,
        socket = quoted(&folder.socket())?,
    ))
}

/// What happens between the start of the supervisor and the end of the load.
struct Scene<'a> {
    folder: &'a Folder,
    supervisor: &'a mut Supervisor,
    screen: &'a mut Screen,
    replacements: u32,
}

impl Scene<'_> {
    async fn play(&mut self, address: SocketAddr, mut signals: Signals) -> Result<Report, Failure> {
        let begun = Instant::now();
        tokio::select! {
            report = self.act(address) => report,
            signal = signals.next() => Err(Failure::Refused(format!(
                "the drill was ended by {} after {} s; what it had started is stopped",
                signal.map_or("a signal", name),
                begun.elapsed().as_secs()
            ))),
        }
    }

    async fn act(&mut self, address: SocketAddr) -> Result<Report, Failure> {
        self.say(&format!(
            "A web shop on {address} with {WORKERS} workers under `stanch run`; each may use {}.\n\
             Every visit leaves a session of {} KiB behind, and {RATE_RPS} visitors come a second.\n",
            mib(SOFT_LIMIT.kib() as f64),
            SESSION.kib()
        ))?;
        let mut watcher = Watcher::new(self.folder);
        let mut status = self.ready(&mut watcher).await?;

        let began = Timestamp::now();
        let clock = Instant::now();
        let (fresh_clients, kept_clients) = (CLIENTS, CLIENTS);
        let load = Load::start(Plan { address, fresh_clients, kept_clients, rate_rps: RATE_RPS });
        let mut story = Story::new(began, WORKERS, SOFT_LIMIT.kib());
        let mut turns = tokio::time::interval(LOOK_EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let wanted = u64::from(self.replacements);
        let longest = LONGEST + LONGER * self.replacements;
        let done = |story: &Story| story.complete() && story.workers_replaced >= wanted;
        while !done(&story) && clock.elapsed() < longest {
            turns.tick().await;
            self.supervisor.check(self.folder)?;
            let look = look(&mut watcher);
            self.take(&mut story, &look)?;
            status = look.status.unwrap_or(status);
            self.show(clock.elapsed(), &status, &load.tally())?;
        }
        let lasted = clock.elapsed();
        let tally = load.stop().await;
        self.take(&mut story, &look(&mut watcher))?;
        self.show(lasted, &status, &tally)?;
        Ok(Report { story, tally, lasted, workers: WORKERS })
    }

    /// Waits until every worker is ready.
    async fn ready(&mut self, watcher: &mut Watcher) -> Result<Status, Failure> {
        let deadline = Instant::now() + START_PATIENCE;
        let mut turns = tokio::time::interval(LOOK_EVERY);
        loop {
            turns.tick().await;
            self.supervisor.check(self.folder)?;
            let look = look(watcher);
            let ready = |status: &Status| {
                status.workers.iter().filter(|worker| worker.state == "ready").count()
                    >= WORKERS as usize
            };
            if let Some(status) = look.status.filter(ready) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let trouble = look.trouble.map_or(String::new(), |text| format!(" ({text})"));
                return Err(Failure::Fault(format!(
                    "the workers were not ready within {} s{trouble}; the end of the supervisor's \
                     log:\n{}",
                    START_PATIENCE.as_secs(),
                    self.folder.log_end()
                )));
            }
        }
    }

    fn take(&mut self, story: &mut Story, look: &Look) -> Result<(), Failure> {
        for record in &look.events {
            story.note(record);
            self.screen.event(story.after_s(record.at), record).map_err(unread)?;
        }
        if let Some(status) = &look.status {
            story.look(status);
        }
        Ok(())
    }

    fn show(&mut self, elapsed: Duration, status: &Status, tally: &Tally) -> Result<(), Failure> {
        let limit_kib = SOFT_LIMIT.kib();
        self.screen.show(&Moment { elapsed, status, tally, limit_kib }).map_err(unread)
    }

    fn say(&mut self, text: &str) -> Result<(), Failure> {
        self.screen.say(text).map_err(unread)
    }
}

/// One look, away from the threads that carry the load.
fn look(watcher: &mut Watcher) -> Look {
    tokio::task::block_in_place(|| watcher.look())
}

/// Nobody reads the drill any more, or nobody can: it ends.
fn unread(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::No,
        _ => Failure::Fault(format!("cannot write to standard output: {error}")),
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGINT => "Ctrl-C",
        SIGTERM => "SIGTERM",
        _ => "a hang-up",
    }
}
