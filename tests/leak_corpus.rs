//! The leak detector against a generated corpus: precision, recall and how early, for each shape.
//!
//! `cargo test --test leak_corpus -- --nocapture` prints the table. `STANCH_CORPUS_SEED` and
//! `STANCH_CORPUS_COUNT` (traces a shape) choose another corpus, `STANCH_CORPUS_VERBOSE` tells each
//! miss (`STANCH_CORPUS_DUMP` a folder to write them to), `STANCH_CORPUS_HITS` each hit.
//!
//! The detector was tuned on seeds 1 to 6. Seeds 101 and 102, 20 traces a shape, were run once, at the
//! end: precision 0.989 and 0.996, recall 0.993 and 1.000, median part of the way 0.23. The table of
//! the default seed was seen once before the tuning.

use stanch::core::Moment;
use stanch::core::leak::{Detector, DetectorSettings, Dial, Verdict};
use std::time::Duration;

mod shapes;

use shapes::{Rng, Shape, Trace};

/// What became of a trace.
struct Outcome {
    detected_s: Option<f64>,
    reason: String,
    end: Verdict,
}

fn run(trace: &Trace) -> Outcome {
    let settings = DetectorSettings {
        limit_kib: trace.limit_mib.map(|mib| (mib * 1024.0) as u64),
        warm_up: Duration::from_secs_f64(trace.warm_up_s),
    };
    let mut detector = Detector::new(settings, Moment::default());
    let mut outcome = Outcome { detected_s: None, reason: String::new(), end: Verdict::Unjudged };
    for (t_s, sample) in &trace.samples {
        detector.observe(Moment(Duration::from_secs_f64(*t_s)), sample);
        if outcome.detected_s.is_none() && detector.judgement().verdict == Verdict::Leak {
            outcome.detected_s = Some(*t_s);
            outcome.reason = detector.judgement().reason(Dial::Trace);
        }
    }
    outcome.end = detector.judgement().verdict;
    if outcome.detected_s.is_none() {
        outcome.reason = detector.judgement().reason(Dial::Trace);
    }
    outcome
}

#[derive(Default)]
struct Score {
    hits: u32,
    misses: u32,
    false_alarms: u32,
    quiet: u32,
    fractions: Vec<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn corpus(seed: u64, count: u64) -> Score {
    let verbose = std::env::var_os("STANCH_CORPUS_VERBOSE").is_some();
    let mut total = Score::default();
    println!("seed {seed}, {count} traces a shape");
    for (n, shape) in Shape::ALL.iter().enumerate() {
        let mut score = Score::default();
        for k in 0..count {
            let mut rng = Rng::new(seed * 1_000_003 + n as u64 * 1009 + k);
            let trace = shape.make(&mut rng);
            let outcome = run(&trace);
            let wrong = outcome.detected_s.is_some() != trace.leak.is_some();
            match (trace.leak, outcome.detected_s) {
                (Some(leak), Some(at)) => {
                    score.hits += 1;
                    if std::env::var_os("STANCH_CORPUS_HITS").is_some() {
                        let way = (at - leak.start_s) / (leak.limit_s - leak.start_s);
                        println!(
                            "    {} +{k} {way:.2}: {}\n      {}",
                            shape.name, trace.about, outcome.reason
                        );
                    }
                    score.fractions.push((at - leak.start_s) / (leak.limit_s - leak.start_s));
                }
                (Some(_), None) => score.misses += 1,
                (None, Some(_)) => score.false_alarms += 1,
                (None, None) => score.quiet += 1,
            }
            if wrong && verbose {
                println!("    {} #{k}: {}", shape.name, trace.about);
                println!("      {:?} at {:?}: {}", outcome.end, outcome.detected_s, outcome.reason);
                if let Some(path) = std::env::var_os("STANCH_CORPUS_DUMP") {
                    let name = format!("{}-{k}.csv", shape.name);
                    std::fs::write(std::path::Path::new(&path).join(name), trace.csv()).unwrap();
                }
            }
        }
        println!(
            "  {:24} hit {:3} missed {:3} false {:3} quiet {:3} median way {:.2}",
            shape.name,
            score.hits,
            score.misses,
            score.false_alarms,
            score.quiet,
            median(&mut score.fractions)
        );
        total.hits += score.hits;
        total.misses += score.misses;
        total.false_alarms += score.false_alarms;
        total.quiet += score.quiet;
        total.fractions.append(&mut score.fractions);
    }
    total
}

#[test]
fn precision_recall_and_earliness() {
    let mut score = corpus(
        number("STANCH_CORPUS_SEED").unwrap_or(2026),
        number("STANCH_CORPUS_COUNT").unwrap_or(3),
    );
    let precision = f64::from(score.hits) / f64::from(score.hits + score.false_alarms);
    let recall = f64::from(score.hits) / f64::from(score.hits + score.misses);
    let early = median(&mut score.fractions);
    println!("precision {precision:.3} recall {recall:.3} median part of the way {early:.3}");
    assert!(precision >= 0.97, "precision {precision}");
    assert!(recall >= 0.97, "recall {recall}");
    assert!(early <= 0.27, "median part of the way {early}");
}
