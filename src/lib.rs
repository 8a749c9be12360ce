//! stanch supervises the workers of a web server: it keeps them up, sees a memory leak in the trend
//! long before the limit, replaces workers one by one without dropping a request, and writes down
//! every intervention.
//!
//! # Theory of operation
//!
//! [`linux`] and [`runtime`] observe and turn what they see into [`core::Event`]s. One engine task
//! feeds them, with the time, to [`core::Supervisor`], which decides and answers with
//! [`core::Action`]s; the engine's executors carry them out, and what came of it returns as an event.
//! The core never reads a clock and never touches a file or a process, so the whole supervisor also
//! runs in a simulated world (`tests/simulation.rs`).
//!
//! Imports point down only; `tests/layers.rs` holds the floors.

pub mod alert;
pub mod cli;
pub mod config;
pub mod core;
pub mod http;
pub mod linux;
pub mod report;
pub mod runtime;
pub mod store;
pub mod wire;
