//! `stanch __upgrade-trial`: whether this program could take the place of one that runs. It is asked by
//! that one (`runtime::upgrade`), which leaves what it would hand over on standard input.

use super::{Failure, place, run};
use crate::core::words::chain;
use crate::linux::handover;
use crate::runtime::{Estate, Fit};
use crate::store::{Reader, StoreError};

/// Reads what will be handed over, the configuration and the store, and changes nothing.
pub fn run(args: run::Args) -> Result<(), Failure> {
    handover::try_document::<Estate>(std::io::stdin().lock()).map_err(|error| {
        Failure::Refused(format!(
            "what the running stanch would hand over is not understood: {error}"
        ))
    })?;
    let config = run::Source::of(args)?.config()?;
    // Whatever else is wrong with the store, supervision goes on with it as at any start.
    if let Err(error @ StoreError::Newer { .. }) = Reader::open(&place::store_path(&config)) {
        return Err(Failure::Refused(chain(&error)));
    }
    let fit = Fit { version: env!("CARGO_PKG_VERSION").to_owned() };
    println!("{}", serde_json::json!(fit));
    Ok(())
}
