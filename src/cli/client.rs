//! The commands that speak to a running supervisor over its control socket.

use super::Failure;

/// status
#[derive(clap::Args)]
pub struct StatusArgs {}

/// Runs `stanch status`.
pub fn status(_args: StatusArgs) -> Result<(), Failure> {
    Ok(())
}

/// restart
#[derive(clap::Args)]
pub struct RestartArgs {}

/// Runs `stanch restart`.
pub fn restart(_args: RestartArgs) -> Result<(), Failure> {
    Ok(())
}

/// drain
#[derive(clap::Args)]
pub struct DrainArgs {}

/// Runs `stanch drain`.
pub fn drain(_args: DrainArgs) -> Result<(), Failure> {
    Ok(())
}

/// scale
#[derive(clap::Args)]
pub struct ScaleArgs {}

/// Runs `stanch scale`.
pub fn scale(_args: ScaleArgs) -> Result<(), Failure> {
    Ok(())
}

/// stop
#[derive(clap::Args)]
pub struct StopArgs {}

/// Runs `stanch stop`.
pub fn stop(_args: StopArgs) -> Result<(), Failure> {
    Ok(())
}

/// pause
#[derive(clap::Args)]
pub struct PauseArgs {}

/// Runs `stanch pause`.
pub fn pause(_args: PauseArgs) -> Result<(), Failure> {
    Ok(())
}

/// resume
#[derive(clap::Args)]
pub struct ResumeArgs {}

/// Runs `stanch resume`.
pub fn resume(_args: ResumeArgs) -> Result<(), Failure> {
    Ok(())
}
