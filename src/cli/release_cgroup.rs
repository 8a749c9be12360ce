//! `stanch __release-cgroup`: makes way for the next supervisor of a unit, after the death of one.

use super::Failure;
use crate::core::words::chain;
use crate::linux::cgroup::take_back;
use crate::linux::procfs::Procfs;

/// Runs it.
pub fn run() -> Result<(), Failure> {
    match take_back(&Procfs::default()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Usage(
            "this is for ExecStopPost= of a systemd unit with Delegate=yes".to_owned(),
        )),
        Err(error) => Err(Failure::Fault(chain(&error))),
    }
}
