//! `stanch incidents`.

use super::Failure;

/// incidents
#[derive(clap::Args)]
pub struct Args {}

/// Runs `stanch incidents`.
pub fn run(_args: Args) -> Result<(), Failure> {
    Ok(())
}
