//! The load generator of the tests on the command line: one run, one JSON object on standard output.

#[path = "../common/load/mod.rs"]
mod load;

use clap::Parser;
use load::{Pace, Plan, Style, Tally};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Load on an HTTP server, every failure counted")]
struct Arguments {
    /// Where the server listens, IP:PORT.
    address: SocketAddr,
    #[arg(long, default_value = "/")]
    path: String,
    /// One connection for as many requests as the server allows, not one for each.
    #[arg(long)]
    keep_alive: bool,
    /// The most requests under way at once.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Open loop: so many requests a second, whatever becomes of them. Otherwise closed loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Ends after so many requests.
    #[arg(long, required_unless_present = "seconds")]
    requests: Option<u64>,
    /// Ends after so long.
    #[arg(long)]
    seconds: Option<f64>,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let plan = Plan {
        address: arguments.address,
        path: arguments.path,
        style: if arguments.keep_alive { Style::KeepAlive } else { Style::Connect },
        clients: arguments.clients,
        pace: arguments.rate.map_or(Pace::Closed, Pace::Open),
        timeout: Duration::from_secs(10),
        requests: arguments.requests,
        duration: arguments.seconds.map(Duration::from_secs_f64),
    };
    let tally = Mutex::new(Tally::default());
    let start = Instant::now();
    load::run(&plan, &AtomicBool::new(false), &tally)?;
    let tally = tally.into_inner().expect("no one has panicked with it");
    println!("{:#}", report(&tally, start));
    Ok(())
}

fn report(tally: &Tally, start: Instant) -> Value {
    // To the last good answer: a request that is never answered takes its time-out, not throughput.
    let seconds = tally.last_answer.map(|end| end.duration_since(start).as_secs_f64());
    json!({
        "seconds": seconds,
        "per_second": seconds.map(|seconds| tally.ok as f64 / seconds),
        "requests": tally.ok + tally.failed(),
        "ok": tally.ok,
        "failed": tally.failed(),
        "refused": tally.refused,
        "reset": tally.reset,
        "partial": tally.partial,
        "bad_status": tally.bad_status,
        "timeout": tally.timeout,
        "other": tally.other,
        "retried": tally.retried,
        "latency_us": {
            "p50": tally.latency.quantile(0.5),
            "p99": tally.latency.quantile(0.99),
            "p99.9": tally.latency.quantile(0.999),
            "max": tally.latency.max(),
        },
        "errors": tally.errors,
    })
}
