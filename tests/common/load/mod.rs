//! A load generator that counts every failure: closed loop or open loop, a connection a request or
//! kept connections, on one thread.
//!
//! A request has failed when its new connection is refused or reset, when its answer is partial,
//! has another status than 2xx, or is not there in time. A *reused* connection that ends before the
//! first byte of an answer proves nothing about the request: it is sent again once on a new
//! connection, as RFC 9110 (9.2.2) lets clients do for GET, and counted as retried.

mod generator;
mod response;
pub mod tally;

pub use generator::run;
pub use tally::{Failure, Tally};

use std::net::SocketAddr;
use std::time::Duration;

/// How clients use connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One for each request.
    Connect,
    /// One for as many requests as the server allows.
    KeepAlive,
}

/// What sends the next request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The end of the one before it: each client always has one under way.
    Closed,
    /// The clock, so many times a second. Latency counts from the scheduled time: a request that
    /// has to wait for a free client shows that wait (no coordinated omission).
    Open(f64),
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Plan {
    pub address: SocketAddr,
    pub path: String,
    pub style: Style,
    /// The most requests under way at once.
    pub clients: usize,
    pub pace: Pace,
    /// From the start of a request to the end of its answer.
    pub timeout: Duration,
    /// The end, whichever comes first; without one, when told.
    pub requests: Option<u64>,
    pub duration: Option<Duration>,
}
