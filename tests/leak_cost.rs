//! What a sample costs the detector: `cargo test --release --test leak_cost -- --ignored --nocapture`.

use stanch::core::leak::{Detector, DetectorSettings};
use stanch::core::{Moment, Sample};
use std::time::{Duration, Instant};

#[test]
#[ignore = "a measurement, not a test"]
fn nanoseconds_a_sample() {
    let settings =
        DetectorSettings { limit_kib: Some(512 * 1024), warm_up: Duration::from_secs(60) };
    for (name, step_ms, growth_kib) in [
        ("flat, 4 Hz", 250, 0),
        ("flat, 1 Hz", 1000, 0),
        ("climbing, 4 Hz", 250, 2),
        ("climbing, 1 Hz", 1000, 8),
    ] {
        let mut detector = Detector::new(settings, Moment::default());
        let count: u64 = 50_000;
        let began = Instant::now();
        for n in 0..count {
            let noise = n.wrapping_mul(2_654_435_761) % 4096;
            let sample = Sample {
                rss_anon_kib: Some(100_000 + noise + n * growth_kib),
                cpu_ticks: Some(n * 7 + noise % 3),
                ..Sample::default()
            };
            detector.observe(Moment(Duration::from_millis(n * step_ms)), &sample);
        }
        println!("{name}: {} ns a sample", began.elapsed().as_nanos() / u128::from(count));
    }
}
