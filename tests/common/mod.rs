//! What the integration tests share: a supervisor under test ([`Stanch`]), real servers for it to
//! supervise ([`Server`]), clients that count what goes wrong ([`Load`]), and waiting for a state.
//!
//! Nothing here sleeps to let something happen: a test names the state that it waits for, and a
//! deadline far beyond what that takes on a busy machine.

// Each test binary takes the part that it needs.
#![allow(dead_code, unused_imports)]

mod http;
pub mod load;
mod place;
mod port;
mod process;
mod server;
mod stanch;
pub mod world;

pub use http::{Connection, Fault, Load, Response, get};
pub use load::{Style, Tally};
pub use place::{Output, Place};
pub use port::free_address;
pub use process::{alive, kill, parent, resident_peak_kib, wait_for_end};
pub use server::{App, Server, faulty, installed, servers};
pub use stanch::{Answer, Stanch, answer};

use std::time::{Duration, Instant};

/// How long a state may take to come on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, and fails the test when there is none by the deadline.
#[track_caller]
pub fn wait_until<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
