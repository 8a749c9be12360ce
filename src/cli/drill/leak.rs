//! The drill `leak`: a web shop whose workers fill up with sessions, as in the outages that stanch
//! exists for.
//!
//! Sizes: each of the workers gets a quarter of the requests, so it grows by about 2.1 MiB/s and is
//! full after a good minute. The detector wants to see a fifth of the way to the limit, over some ten
//! seconds, so a leak is confirmed before the half, and a roll of all workers takes seconds.

use super::Wishes;
use super::report::Report;
use super::story::Story;
use crate::cli::stage::load::{Load, Plan, Tally};
use crate::cli::stage::play::{Play, ready, turns};
use crate::cli::stage::screen::{Moment, Screen, mib};
use crate::cli::stage::watch::{Look, Watcher};
use crate::cli::stage::{Folder, StageError, Supervisor, free_address, program, quoted_path};
use crate::cli::{Failure, incidents};
use crate::core::units::Bytes;
use crate::store::Reader;
use crate::wire::Status;
use hyper::Uri;
use jiff::Timestamp;
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
/// From one line of figures to the next, where the output is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Plays it.
pub(super) fn play(wishes: Wishes) -> Result<(), Failure> {
    let folder = Folder::make("drill", wishes.keep)?;
    let address = free_address()?;
    let mut screen = Screen::new(wishes.json, LINE_EVERY);
    let play = Play::prepare()?;
    let mut supervisor = Supervisor::start(&folder, &config(&folder, address)?)?;
    let mut scene = Scene {
        folder: &folder,
        supervisor: &mut supervisor,
        screen: &mut screen,
        replacements: wishes.replacements,
    };
    let report = play.perform("the drill", scene.act(address))?;

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
        program = quoted_path(&program()?)?,
        store = quoted_path(&folder.store())?,
        socket = quoted_path(&folder.socket())?,
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
    async fn act(&mut self, address: SocketAddr) -> Result<Report, Failure> {
        self.screen.say(&format!(
            "A web shop on {address} with {WORKERS} workers under `stanch run`; each may use {}.\n\
             Every visit leaves a session of {} KiB behind, and {RATE_RPS} visitors come a second.\n",
            mib(SOFT_LIMIT.kib() as f64),
            SESSION.kib()
        ))?;
        let mut watcher = Watcher::new(self.folder);
        let (supervisor, folder) = (&mut *self.supervisor, self.folder);
        let mut status = ready(supervisor, &mut watcher, folder, WORKERS, START_PATIENCE).await?;

        let began = Timestamp::now();
        let clock = Instant::now();
        let (fresh_clients, kept_clients) = (CLIENTS, CLIENTS);
        let paths = vec![Uri::from_static("/")];
        let plan = Plan { address, paths, fresh_clients, kept_clients, rate_rps: RATE_RPS };
        let load = Load::start(plan);
        let mut story = Story::new(began, WORKERS, SOFT_LIMIT.kib());
        let mut turns = turns();
        let wanted = u64::from(self.replacements);
        let longest = LONGEST + LONGER * self.replacements;
        let done = |story: &Story| story.complete() && story.workers_replaced >= wanted;
        while !done(&story) && clock.elapsed() < longest {
            turns.tick().await;
            self.supervisor.check(self.folder)?;
            let look = watcher.look();
            self.take(&mut story, &look)?;
            status = look.status.unwrap_or(status);
            self.show(clock.elapsed(), &status, &load.tally())?;
        }
        let lasted = clock.elapsed();
        let tally = load.stop().await;
        self.take(&mut story, &watcher.look())?;
        self.show(lasted, &status, &tally)?;
        Ok(Report { story, tally, lasted, workers: WORKERS })
    }

    fn take(&mut self, story: &mut Story, look: &Look) -> Result<(), Failure> {
        for record in &look.events {
            story.note(record);
            self.screen.event(story.after_s(record.at), record)?;
        }
        if let Some(status) = &look.status {
            story.look(status);
        }
        Ok(())
    }

    fn show(&mut self, elapsed: Duration, status: &Status, tally: &Tally) -> Result<(), Failure> {
        self.screen.show(&Moment { elapsed, status, tally, limit_kib: Some(SOFT_LIMIT.kib()) })
    }
}
