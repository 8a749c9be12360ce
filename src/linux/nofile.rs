//! The supervisor's own limit of open descriptors.
//!
//! It holds sockets, pipes and pidfds of every worker, so it raises its soft limit to the hard one. Workers
//! get the soft limit that the supervisor was started with: a program that uses `select` breaks with
//! descriptors beyond 1023, which is why the soft limit is low by default
//! (<https://0pointer.net/blog/file-descriptor-limits.html>).

use super::launch::Limit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// What the supervisor was started with: soft and hard.
static ORIGINAL: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises the limit, once.
pub fn raise() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let _ = ORIGINAL.set((soft, hard));
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// What the supervisor was started with, soft and hard, once it is raised.
pub fn original() -> Option<(u64, u64)> {
    ORIGINAL.get().copied()
}

/// It was raised by the program before, which was started with that.
pub fn started_with(original: (u64, u64)) {
    let _ = ORIGINAL.set(original);
}

/// What a worker gets whose configuration does not say; `None` where the supervisor has what it was
/// started with.
pub(super) fn of_workers() -> Option<Limit> {
    let (soft, hard) = original()?;
    Some(Limit { name: "nofile".to_owned(), soft: Some(soft), hard: Some(hard) })
}
