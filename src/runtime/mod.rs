//! The engine: one task owns all state; executors, sampler, prober and log pipes around it.

mod handle;

pub use handle::{Ended, Handle, Request};
