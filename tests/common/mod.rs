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
mod process;
mod server;
mod stanch;
pub mod world;

pub use http::{Connection, Fault, Load, Response, get};
pub use load::{Style, Tally};
pub use place::{Output, Place};
pub use process::{alive, kill, parent, resident_peak_kib, wait_for_end};
pub use server::{App, Server, faulty, installed, servers};
pub use stanch::{Stanch, answer};

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
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

/// A loopback address that nobody listens on. Its port is below those that the kernel gives to
/// clients: one of those may be taken by a connection at any moment.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at once begin at different places.
    let first = std::process::id() % 1000 * 20;
    for _ in 0..20_000 {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 11_000 + (first + step) % 20_000;
        let port = u16::try_from(port).expect("below 31,000");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from 11000 to 31000");
}
