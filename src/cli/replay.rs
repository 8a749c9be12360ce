//! `stanch replay`.

use super::Failure;

/// replay
#[derive(clap::Args)]
pub struct Args {}

/// Runs `stanch replay`.
pub fn run(_args: Args) -> Result<(), Failure> {
    Ok(())
}
