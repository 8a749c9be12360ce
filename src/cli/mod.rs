//! The command line: a file a subcommand.

mod assets;
mod check;
mod client;
mod doctor;
mod drill;
mod failure;
mod fill;
mod incidents;
mod links;
mod logs;
mod output;
mod place;
mod release_cgroup;
mod replay;
mod run;
mod soak;
mod stage;
mod succession;
mod trace;
mod trial;

pub use failure::Failure;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Self-healing watchdog supervisor for web servers.
#[derive(Parser)]
#[command(name = "stanch", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Check(check::Args),
    Doctor(doctor::Args),
    Status(client::StatusArgs),
    Restart(client::RestartArgs),
    Drain(client::DrainArgs),
    Scale(client::ScaleArgs),
    Reload(client::ReloadArgs),
    Deploy(client::DeployArgs),
    Upgrade(client::UpgradeArgs),
    Stop(client::StopArgs),
    Pause(client::PauseArgs),
    Resume(client::ResumeArgs),
    Logs(logs::Args),
    Incidents(incidents::Args),
    Replay(replay::Args),
    Soak(soak::Args),
    Drill(drill::Args),
    /// For whoever makes a package.
    #[command(name = "__assets", hide = true)]
    Assets(assets::Args),
    /// For `ExecStopPost=` of a unit, see packaging/stanch@.service.
    #[command(name = "__release-cgroup", hide = true)]
    ReleaseCgroup,
    /// Whether this program could take the place of one that runs with these arguments; not for people.
    #[command(name = "__upgrade-trial", hide = true)]
    Trial(Box<run::Args>),
    /// `run` that ends with its parent, for drills and soaks; not for people.
    #[command(name = "__staged-run", hide = true)]
    StagedRun(Box<stage::StagedRun>),
    /// The server of the drills; not for people.
    #[command(name = "__leaky-server", hide = true)]
    LeakyServer(drill::server::Args),
    /// The fastest leak; not for people.
    #[command(name = "__fill", hide = true)]
    Fill(fill::Args),
}

/// Runs the command line of this process. Exit codes: 0 done, 1 the answer is no, 2 wrong use or
/// config, 3 could not reach the supervisor, 70 a fault of stanch itself.
pub fn main() -> ExitCode {
    // Before anything else: this step is on the way of each start of a worker.
    if std::env::args_os().nth(1).is_some_and(|word| word == "__launch") {
        return crate::linux::launch::main();
    }
    // A reader that goes away (`stanch status | head`) ends the command quietly, except in `run`,
    // which ignores SIGPIPE as every Rust program does.
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(*args),
        Command::Check(args) => check::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Status(args) => client::status(args),
        Command::Restart(args) => client::restart(args),
        Command::Drain(args) => client::drain(args),
        Command::Scale(args) => client::scale(args),
        Command::Reload(args) => client::reload(args),
        Command::Deploy(args) => client::deploy(args),
        Command::Upgrade(args) => client::upgrade(args),
        Command::Stop(args) => client::stop(args),
        Command::Pause(args) => client::pause(args),
        Command::Resume(args) => client::resume(args),
        Command::Logs(args) => logs::run(args),
        Command::Incidents(args) => incidents::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Soak(args) => soak::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Assets(args) => assets::run(args, Cli::command()),
        Command::ReleaseCgroup => release_cgroup::run(),
        Command::StagedRun(args) => stage::run(*args),
        Command::Trial(args) => trial::run(*args),
        Command::LeakyServer(args) => drill::server::run(args),
        Command::Fill(args) => fill::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("stanch: {message}");
            }
            ExitCode::from(failure.code())
        }
    }
}
