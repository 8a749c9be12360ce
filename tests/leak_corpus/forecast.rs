//! Whether the limit is reached within the interval that was forecast for it.

use crate::corpus::{Label, Series, generated, run};

/// What the interval is meant to cover, of leaks that go on as they were.
const MEANT: f64 = 0.9;

#[test]
fn the_interval_of_the_forecast_holds_the_end() {
    let steady = |series: &Series| {
        ["leak_steady", "leak_noisy", "leak_sawtooth", "leak_late", "long_leak ", "long_leak_warm"]
            .iter()
            .any(|name| series.name.starts_with(name))
    };
    let (mut held, mut told) = (0.0, 0.0);
    for series in generated::series(9100, 12).filter(|series| steady(series)) {
        let Label::Leak { limit_s, .. } = series.label else { continue };
        let Some((at_s, first)) = run(&series).first else { continue };
        let (Some(low), Some(high)) = (first.eta_low, first.eta_high) else { continue };
        told += 1.0;
        let left_s = limit_s - at_s;
        let within = low.as_secs_f64() <= left_s && left_s <= high.as_secs_f64();
        held += f64::from(u8::from(within));
        if !within && std::env::var_os("STANCH_CORPUS_VERBOSE").is_some() {
            println!("{}: {left_s:.0} s, told {low:.0?} to {high:.0?}", series.name);
        }
    }
    println!("{held} of {told} ends within the interval");
    assert!(told > 50.0 && held / told >= MEANT, "{held} of {told}");
}
