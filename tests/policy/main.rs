//! Single decisions of the core, on paper.

mod audit;
mod draining;
mod evidence;
mod hangs;
mod hooks;
mod memory;
mod paper;
mod releases;
mod replacing;
mod succession;
