//! `stanch drill`: incidents to watch. A drill runs a real supervisor over a built-in server that
//! has a real fault, under real requests, in a folder of its own.
//!
//! A scenario is a file here and a line in [`SCENARIOS`]. They share the [`stage`](super::stage).

mod leak;
mod report;
pub mod server;
mod story;
#[cfg(test)]
mod tests;

use super::Failure;
use super::output::{Cell, Paint, Table, print};

/// Watch stanch handle an incident: a built-in faulty server, under supervision and load
#[derive(clap::Args)]
pub struct Args {
    /// Which drill; without a name they are listed
    name: Option<String>,
    /// Print the figures as one JSON object at the end, and nothing before
    #[arg(long)]
    json: bool,
    /// Keep the drill's folder: configuration, audit store, log
    #[arg(long)]
    keep: bool,
    /// Go on until so many workers were replaced, and each slot once
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100), hide_default_value = true)]
    replacements: u32,
}

/// What a drill may be asked for.
#[derive(Clone, Copy, Debug)]
struct Wishes {
    json: bool,
    keep: bool,
    replacements: u32,
}

struct Scenario {
    name: &'static str,
    what: &'static str,
    play: fn(Wishes) -> Result<(), Failure>,
}

const SCENARIOS: &[Scenario] = &[Scenario {
    name: "leak",
    what: "a shop that never ends a session; its workers are replaced before they are full",
    play: leak::play,
}];

/// Runs `stanch drill`.
pub fn run(args: Args) -> Result<(), Failure> {
    let Some(name) = args.name else {
        return print(|out| Ok(list().write(out, Paint::of_stdout())?));
    };
    let wishes = Wishes { json: args.json, keep: args.keep, replacements: args.replacements };
    match SCENARIOS.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => (scenario.play)(wishes),
        None => {
            let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            Err(Failure::Usage(format!(
                "there is no drill {name:?}; there is: {} (`stanch drill` tells what each shows)",
                names.join(", ")
            )))
        }
    }
}

fn list() -> Table {
    let mut table = Table::new(&["DRILL", "SHOWS"]);
    for scenario in SCENARIOS {
        table.row(vec![Cell::text(scenario.name), Cell::text(scenario.what)]);
    }
    table
}
