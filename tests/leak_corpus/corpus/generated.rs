//! The generated series of `tests/shapes`.

use super::{Label, Series};
use crate::shapes::{Rng, Shape, Trace, days, long, traps};

/// `count` series of each shape and kind, from one seed.
pub fn series(seed: u64, count: u64) -> impl Iterator<Item = Series> {
    let short = Shape::ALL.iter().enumerate().flat_map(move |(n, shape)| {
        (0..count).map(move |k| {
            let mut rng = Rng::new(seed * 1_000_003 + n as u64 * 1009 + k);
            named(shape.name, k, false, shape.make(&mut rng))
        })
    });
    let long = long::KINDS.iter().enumerate().flat_map(move |(n, kind)| {
        (0..count).map(move |k| {
            let mut rng = Rng::new(seed * 7_000_003 + n as u64 * 1013 + k);
            named(kind.name, k, kind.ambiguous, long::make(kind, &mut rng))
        })
    });
    short.chain(long)
}

/// Traps, and leaks that hide: `count` of each kind.
pub fn traps(seed: u64, count: u64) -> impl Iterator<Item = Series> {
    traps::KINDS.iter().enumerate().flat_map(move |(n, kind)| {
        (0..count).map(move |k| {
            let mut rng = Rng::new(seed * 9_000_011 + n as u64 * 1019 + k);
            named(kind.name, k, kind.ambiguous, traps::make(kind, &mut rng))
        })
    })
}

/// Three days by ten seconds: `count` of each kind.
pub fn days(seed: u64, count: u64) -> impl Iterator<Item = Series> {
    days::KINDS.iter().enumerate().flat_map(move |(n, kind)| {
        (0..count).map(move |k| {
            let mut rng = Rng::new(seed * 11_000_003 + n as u64 * 1021 + k);
            named(kind.name, k, kind.ambiguous, days::make(kind, &mut rng))
        })
    })
}

fn named(name: &str, k: u64, ambiguous: bool, trace: Trace) -> Series {
    let label = match trace.leak {
        _ if ambiguous => Label::Ambiguous,
        Some(leak) => Label::Leak { start_s: leak.start_s, limit_s: leak.limit_s },
        None => Label::Healthy,
    };
    Series {
        name: format!("{name} {k}"),
        about: trace.about,
        label,
        limit_kib: (trace.limit_mib * 1024.0) as u64,
        warm_up_s: trace.warm_up_s,
        samples: trace.samples,
    }
}
