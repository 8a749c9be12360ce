//! `stanch check`.

use super::Failure;

/// check
#[derive(clap::Args)]
pub struct Args {}

/// Runs `stanch check`.
pub fn run(_args: Args) -> Result<(), Failure> {
    Ok(())
}
