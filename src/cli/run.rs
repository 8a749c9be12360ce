//! `stanch run`.

use super::Failure;

/// run
#[derive(clap::Args)]
pub struct Args {}

/// Runs `stanch run`.
pub fn run(_args: Args) -> Result<(), Failure> {
    Ok(())
}
