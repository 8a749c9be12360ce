//! `stanch drill`.

use super::Failure;

/// drill
#[derive(clap::Args)]
pub struct Args {}

/// Runs `stanch drill`.
pub fn run(_args: Args) -> Result<(), Failure> {
    Ok(())
}
