//! `stanch __fill`: the fastest leak there is. It touches memory as fast as one processor can, says how
//! long that took, and keeps it. The doctor, the tests and the benches try limits on it.

use super::Failure;
use super::output::print;
use crate::core::units::Bytes;
use std::time::Instant;

/// The smallest page of all architectures; a fault for each is the most that it can cost.
const PAGE: usize = 4096;

/// Asked of the kernel at once.
const CHUNK: usize = 16 << 20;

/// The options of `stanch __fill`.
#[derive(clap::Args)]
pub struct Args {
    /// How much
    size: Bytes,
    /// Keep it until killed
    #[arg(long)]
    hold: bool,
}

/// Runs `stanch __fill`; prints the microseconds that it took.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let begun = Instant::now();
    let mut left = usize::try_from(args.size.0).unwrap_or(usize::MAX);
    while left > 0 {
        let size = left.min(CHUNK);
        // Zeroed by the kernel when it is touched, not before.
        let mut chunk = vec![0; size];
        for page in chunk.chunks_mut(PAGE) {
            page[0] = 1;
        }
        kept.push(chunk);
        left -= size;
    }
    let elapsed = begun.elapsed();
    std::hint::black_box(&kept);
    print(|out| Ok(writeln!(out, "{}", elapsed.as_micros())?))?;
    if args.hold {
        loop {
            std::thread::park();
        }
    }
    Ok(())
}
