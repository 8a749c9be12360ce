//! How a command can fail, and the exit code of each.

/// Why a command did not end with exit code 0. The text is for people: what happened, on what, what
/// to do about it.
#[derive(Debug)]
pub enum Failure {
    /// The answer is no, and what was printed says it already (exit 1).
    No,
    /// The answer is no, for this reason (exit 1).
    Refused(String),
    /// Wrong use or wrong config (exit 2).
    Usage(String),
    /// The supervisor could not be reached (exit 3).
    Unreachable(String),
    /// A fault of stanch itself or of the host (exit 70).
    Fault(String),
}

impl Failure {
    /// The process exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::No | Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Fault(_) => 70,
        }
    }

    /// What to print on standard error.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::No => None,
            Failure::Refused(text)
            | Failure::Usage(text)
            | Failure::Unreachable(text)
            | Failure::Fault(text) => Some(text),
        }
    }
}
