//! Alerts on their way: what they say ([`Letter`]), to whom and how, until they have arrived.
//!
//! # From a decision to somebody's telephone
//!
//! The core decides who is told what (`core::alerting`); a [`Letter`] is that decision with what people
//! need beside it. [`Courier`] takes letters without ever making the engine wait, and has a thread of
//! its own for the rest:
//!
//! 1. A letter is written to the spool, a folder beside the audit store, and is on disk before the
//!    first try (`spool`). It leaves the spool when it is told or given up, after that was reported:
//!    a stanch that is killed in between tells it again, so alerts arrive at least once. Each has a name
//!    that does not change ([`Letter::id`]) by which receivers can tell the second copy.
//! 2. Each target has a lane: its letters go one by one in their order, so that "resolved" never
//!    overtakes "opened", and a target that hangs keeps nobody else waiting (`courier`).
//! 3. A try that failed is repeated after a pause that doubles from one second to five minutes, with
//!    jitter, and is no shorter than what `Retry-After` asks for (an hour at most). An answer that says
//!    that the letter itself is wrong (4xx but 408, 425 and 429) or belongs elsewhere for ever (301, 308)
//!    ends it at once, else a day does.
//!
//! The first failure of a letter and its end come back as [`Event::Alerted`](crate::core::Event::Alerted).
//!
//! # What is kept secret
//!
//! Letters hold no secret, so the spool does not. URLs, keys and tokens are read when they are needed
//! (`secret`), go to the receiver only, and are masked in whatever a receiver answers. A secret does not
//! travel over plain HTTP, except to the host itself. Redirects are never followed: a POST that is
//! repeated elsewhere hands the alert, and where the path is the secret also that, to somebody who was
//! not configured.

mod attempt;
mod command;
mod courier;
mod format;
mod letter;
mod post;
mod secret;
mod spool;

pub use courier::{Courier, Setup};
pub use letter::Letter;
pub use secret::{SecretError, read as read_secret};
pub use spool::waiting;
