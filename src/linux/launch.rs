//! The launcher step.

use std::process::ExitCode;

/// Runs the launcher step; returns only when it failed.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
