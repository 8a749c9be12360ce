use super::*;
use crate::core::Now;
use proptest::prelude::*;

const MIB: f64 = 1024.0;

fn at(seconds: f64) -> Moment {
    Moment(Duration::from_secs_f64(seconds))
}

fn mib(level: f64) -> Sample {
    Sample { rss_anon_kib: Some((level * MIB) as u64), ..Sample::default() }
}

fn detector(limit_mib: Option<u64>, warm_up_s: u64) -> Detector {
    let settings = DetectorSettings {
        limit_kib: limit_mib.map(|mib| mib * 1024),
        warm_up: Duration::from_secs(warm_up_s),
    };
    Detector::new(settings, Moment::default())
}

/// Feeds a series and tells when a leak was first confirmed, and the judgement then.
fn confirmed(
    detector: &mut Detector,
    step_s: f64,
    length_s: f64,
    sample: impl Fn(f64) -> Sample,
) -> Option<(f64, Judgement)> {
    let mut first = None;
    for k in 0..(length_s / step_s) as u64 {
        let t = k as f64 * step_s;
        let change = detector.observe(at(t), &sample(t));
        if first.is_none() && change.is_some_and(|change| change.to == Verdict::Leak) {
            first = Some((t, *detector.judgement()));
        }
    }
    first
}

#[test]
fn all_quantities_of_a_worker_take_8_kib() {
    use Quantity::{Fds, Memory, Processes, Threads};
    let bytes = [Memory, Fds, Threads, Processes]
        .map(|quantity| Detector::of(quantity, None, Duration::ZERO, at(0.0)).bytes());
    println!("{bytes:?}");
    assert!(bytes.iter().sum::<usize>() <= 8 * 1024, "{bytes:?}");
}

#[test]
fn a_constant_series_is_healthy() {
    let mut d = detector(Some(512), 60);
    assert!(confirmed(&mut d, 1.0, 3600.0, |_| mib(100.0)).is_none());
    assert_eq!((d.judgement().verdict, d.judgement().shape), (Verdict::Healthy, Some(Shape::Flat)));
}

#[test]
fn a_fast_leak_is_seen_even_in_the_warm_up() {
    let climb = |t: f64| mib(60.0 + 20.0 * t);
    let (in_warm_up, _) = confirmed(&mut detector(Some(512), 60), 0.25, 22.0, climb).unwrap();
    assert!(in_warm_up < 20.0, "{in_warm_up}");
    let (out_of_it, _) = confirmed(&mut detector(Some(512), 2), 0.25, 22.0, climb).unwrap();
    assert!(out_of_it < 15.0, "{out_of_it}");
}

#[test]
fn growth_in_the_warm_up_that_can_wait_is_not_judged() {
    let mut d = detector(Some(512), 600);
    assert!(confirmed(&mut d, 1.0, 599.0, |t| mib(60.0 + 0.35 * t)).is_none());
    assert_eq!(d.judgement().verdict, Verdict::Unjudged);
    assert_eq!(d.judgement().reason(Dial::Trace), "in warm-up for 2 s more");
}

#[test]
fn a_slow_leak_is_seen_in_the_first_quarter() {
    let mut d = detector(Some(512), 60);
    let (t, judgement) =
        confirmed(&mut d, 600.0, 20.0 * 86400.0, |t| mib(100.0 + t / 3600.0)).unwrap();
    assert!(t < 412.0 * 3600.0 / 4.0, "{t}");
    let slope = judgement.slope_per_s.unwrap();
    assert!((slope * 3600.0 / MIB - 1.0).abs() < 0.05, "{slope}");
    let (low, eta, high) =
        (judgement.eta_low.unwrap(), judgement.eta.unwrap(), judgement.eta_high.unwrap());
    assert!(low <= eta && eta <= high);
    let end_h = (t + eta.as_secs_f64()) / 3600.0;
    assert!((end_h - 412.0).abs() < 20.0, "{end_h}");
}

#[test]
fn without_a_limit_the_trend_is_judged_and_no_end_is_forecast() {
    let mut d = detector(None, 60);
    let (_, judgement) = confirmed(&mut d, 1.0, 3600.0, |t| mib(60.0 + 0.2 * t)).unwrap();
    assert_eq!((judgement.verdict, judgement.eta), (Verdict::Leak, None));
}

#[test]
fn a_reloaded_limit_moves_the_forecast() {
    let mut d = detector(Some(512), 60);
    let climb = |t: f64| mib(60.0 + 0.5 * t);
    assert!(confirmed(&mut d, 1.0, 600.0, climb).is_some());
    let before = d.judgement().eta.unwrap();
    d.set_limit(Some(1024 * 1024));
    for t in 600..700 {
        d.observe(at(f64::from(t)), &climb(f64::from(t)));
    }
    assert!(d.judgement().eta.unwrap() > before + Duration::from_secs(800));
}

#[test]
fn page_cache_is_no_leak_and_swap_is_one() {
    let cache = |t: f64| Sample {
        rss_kib: Some((100.0 * MIB + 300.0 * t) as u64),
        rss_file_kib: Some((300.0 * t) as u64),
        ..mib(100.0)
    };
    assert!(confirmed(&mut detector(Some(512), 60), 1.0, 1200.0, cache).is_none());
    let swap = |t: f64| Sample { vm_swap_kib: Some((300.0 * t) as u64), ..mib(100.0) };
    assert!(confirmed(&mut detector(Some(512), 60), 1.0, 1200.0, swap).is_some());
}

#[test]
fn a_surge_is_no_leak_where_the_work_is_told() {
    // Load and memory treble within half an hour, in proportion.
    let factor = |t: f64| 1.0 + 2.0 * ((t - 600.0) / 1800.0).clamp(0.0, 1.0);
    let told = |t: f64| Sample { load_rps: Some(100.0 * factor(t)), ..mib(80.0 * factor(t)) };
    assert!(confirmed(&mut detector(Some(512), 60), 1.0, 4000.0, told).is_none());
    // The same memory at flat load is a leak.
    let flat = |t: f64| Sample { load_rps: Some(100.0), ..mib(80.0 * factor(t)) };
    assert!(confirmed(&mut detector(Some(512), 60), 1.0, 4000.0, flat).is_some());
}

#[test]
fn kinds_are_told_apart() {
    let kind = |length_s: f64, sample: &dyn Fn(f64) -> Sample| {
        let mut d = detector(Some(512), 60);
        confirmed(&mut d, length_s / 1000.0, length_s, sample).map(|(_, j)| (j.kind.unwrap(), j))
    };
    let (steady, _) = kind(4000.0, &|t| mib(60.0 + 0.1 * t)).unwrap();
    assert_eq!(steady, Kind::Steady);
    let (late, judgement) = kind(20000.0, &|t| mib(60.0 + 0.03 * (t - 8000.0).max(0.0))).unwrap();
    assert_eq!(late, Kind::Late);
    let since = judgement.since.unwrap().as_secs_f64();
    assert!((7000.0..9000.0).contains(&since), "{since}");
    let (bent, _) = kind(4000.0, &|t| mib(60.0 + 452.0 * (t / 4000.0).powi(4))).unwrap();
    assert_eq!(bent, Kind::Accelerating);
    // Grows in the busy half of every twenty hours only.
    let bound = |t: f64| {
        let halves = t / 36_000.0;
        let (whole, part) = ((halves / 2.0).floor(), (halves % 2.0 - 1.0).max(0.0));
        let busy = halves % 2.0 >= 1.0;
        let load_rps = Some(if busy { 100.0 } else { 10.0 });
        Sample { load_rps, ..mib(60.0 + 40.0 * (whole + part)) }
    };
    let bound = kind(500_000.0, &bound).unwrap();
    assert_eq!(bound.0, Kind::LoadBound, "{:?}", bound.1);
}

#[test]
fn descriptors_and_threads_leak_too() {
    let mut fds = Detector::of(Quantity::Fds, Some(1024), Duration::from_secs(60), at(0.0));
    let sample = |t: f64| Sample { fds: Some(20 + (t / 4.0) as u64), ..Sample::default() };
    let (_, judgement) = confirmed(&mut fds, 1.0, 2400.0, sample).unwrap();
    let reason = judgement.reason(Dial::Trace);
    assert!(reason.starts_with("grows 15 descriptors/min"), "{reason}");
    let mut threads = Detector::of(Quantity::Threads, None, Duration::from_secs(60), at(0.0));
    let sample = |t: f64| Sample { threads: Some(20 + (t / 4.0) as u64), ..Sample::default() };
    assert!(confirmed(&mut threads, 1.0, 2400.0, sample).is_some());
}

#[test]
fn a_leak_that_stops_is_cleared() {
    let mut d = detector(Some(512), 60);
    let stops = |t: f64| mib(60.0 + 0.3 * t.min(700.0));
    assert!(confirmed(&mut d, 1.0, 4000.0, stops).is_some());
    assert_eq!(d.judgement().verdict, Verdict::Healthy);
}

#[test]
fn reasons_name_the_time_of_day() {
    let mut d = detector(Some(512), 60);
    confirmed(&mut d, 1.0, 400.0, |t| mib(60.0 + 0.8 * t)).unwrap();
    let wall = "2026-11-21T14:00:00Z".parse().unwrap();
    let reason = d.judgement().reason(Dial::Utc(Now { mono: at(0.0), wall }));
    assert!(reason.starts_with("grows 48.0 MiB/min since 14:00Z (95%: "), "{reason}");
    assert!(reason.ends_with("limit at 14:09Z"), "{reason}");
}

#[test]
fn samples_out_of_time_or_without_memory_change_nothing() {
    let (mut d, mut undisturbed) = (detector(Some(512), 60), detector(Some(512), 60));
    for k in 0..500 {
        let t = f64::from(k);
        undisturbed.observe(at(t), &mib(100.0));
        d.observe(at(t), &mib(100.0));
        d.observe(at(t), &mib(100.0 + t));
        d.observe(at(t / 2.0), &mib(100.0 + t));
        d.observe(at(t + 0.5), &Sample { cpu_ticks: Some(k as u64), ..Sample::default() });
    }
    assert_eq!(format!("{d:?}"), format!("{undisturbed:?}"));
}

#[test]
fn what_was_before_a_gap_is_forgotten_by_the_fine_scales() {
    let mut history = History::new(Grid::MEMORY);
    for t in (0..40).chain(1000..1003) {
        history.add(&Reading { age_s: f64::from(t), level: 1.0, work: None });
    }
    assert_eq!(history.scale(0).closed(24).count(), 2);
    assert!(history.scale(5).closed(24).count() > 0);
}

#[test]
fn a_step_is_no_leak() {
    // With some unrest: without it every slope beside the step is zero.
    let unrest = |t: f64| (t * 7919.0) % 13.0 / 4.0;
    let step = |t: f64| mib(unrest(t) + if t < 1000.0 { 60.0 } else { 260.0 });
    assert!(confirmed(&mut detector(Some(512), 60), 1.0, 3000.0, step).is_none());
    let two = |t: f64| mib(unrest(t) + 60.0 + 90.0 * ((t / 400.0).floor() - 1.0).clamp(0.0, 2.0));
    assert!(confirmed(&mut detector(Some(512), 60), 1.0, 3000.0, two).is_none());
}

#[test]
fn a_climb_back_from_a_fall_is_no_leak() {
    // Teeth of two hours that take a third of the way; the first that is seen is a short one.
    let tooth = |t: f64| mib(60.0 + 150.0 * (t / 7200.0 + 0.95).fract());
    assert!(confirmed(&mut detector(Some(512), 60), 10.0, 50_000.0, tooth).is_none());
}

#[test]
fn a_batch_in_a_long_life_is_no_leak() {
    // Every four hours something takes a third of the way in twelve minutes, and gives it back.
    let batch = |t: f64| mib(60.0 + 150.0 * ((t % 14_400.0 - 12_000.0) / 720.0).clamp(0.0, 1.0));
    assert!(confirmed(&mut detector(Some(512), 60), 10.0, 86_400.0, batch).is_none());
}

#[test]
fn a_spike_hides_no_leak() {
    let spike = |t: f64| if (200.0..300.0).contains(&t) { 250.0 } else { 0.0 };
    let climb = |t: f64| mib(60.0 + 0.05 * t + spike(t));
    let (at_s, _) = confirmed(&mut detector(Some(512), 60), 2.0, 9000.0, climb).unwrap();
    assert!(at_s < 3200.0, "{at_s}");
}

#[test]
fn a_cache_that_fills_is_no_leak() {
    // Half of the way to the limit, ever more slowly: within minutes, an hour, a day.
    for tau_s in [100.0, 1000.0, 20_000.0] {
        let fill = |t: f64| mib(60.0 + 226.0 * (1.0 - (-t / tau_s).exp()));
        let mut d = detector(Some(512), 60);
        assert!(confirmed(&mut d, tau_s / 200.0, tau_s * 6.0, fill).is_none(), "{tau_s}");
    }
}

#[test]
fn noise_of_the_work_does_not_straighten_a_cache() {
    // Requests that come in fits, and memory that has nothing to do with them.
    let fits = |t: f64| ((t / 15.0).floor().sin() * 43_758.545).fract().abs();
    let found = (0..40).filter(|shift| {
        let fill = |t: f64| Sample {
            load_rps: Some(6.0 + 4.0 * fits(t + 1000.0 * f64::from(*shift))),
            ..mib(60.0 + 226.0 * (1.0 - (-t / 300.0).exp()))
        };
        confirmed(&mut detector(Some(512), 60), 1.0, 1800.0, fill).is_some()
    });
    // Now and then chance draws the very bend.
    let found = found.count();
    assert!(found <= 8, "{found} of 40");
}

#[test]
fn twenty_samples_are_not_many_by_the_minute_either() {
    // Six hours to the limit, read by the minute.
    let climb = |t: f64| mib(60.0 + 75.0 * t / 3600.0);
    let (t, _) = confirmed(&mut detector(Some(512), 60), 60.0, 7200.0, climb).unwrap();
    assert!(t >= 30.0 * 60.0, "{t}");
}

#[test]
fn a_far_limit_gives_time_to_be_sure() {
    // The same climb, that would take two hours or two days: the part of the way, and the samples.
    let found = |limit_mib: u64| {
        let climb = |t: f64| mib(60.0 + 45.0 * t / 3600.0);
        confirmed(&mut detector(Some(limit_mib), 60), 10.0, 200_000.0, climb).unwrap().0
    };
    let (near, far) = (found(60 + 90), found(60 + 48 * 45));
    assert!(near < 0.25 * 7200.0, "{near}");
    assert!(far > 2.0 * 3600.0 && far < 0.25 * 48.0 * 3600.0, "{far}");
}

#[test]
fn a_leak_is_seen_across_gaps_and_changes_of_the_step() {
    let mut d = detector(Some(512), 60);
    let mut t = 0.0;
    let mut leak = false;
    while t < 7200.0 {
        // Now by the second, now by the minute, and now and then nothing for ten minutes.
        let hundred = (t / 100.0) as u64;
        t += [1.0, 1.0, 20.0, 60.0, 1.0, 600.0][(hundred % 6) as usize];
        d.observe(at(t), &mib(60.0 + t * 0.06));
        leak |= d.judgement().verdict == Verdict::Leak;
    }
    assert!(leak);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn anything_can_be_fed(
        steps in prop::collection::vec(
            (0u64..u64::MAX / 4, prop::option::of(0u64..1 << 50), prop::option::of(any::<f64>()),
             prop::option::of(any::<u64>())), 1..300),
        limit in prop::option::of(0u64..1 << 50),
    ) {
        let mut d = detector(None, 1);
        d.set_limit(limit);
        let mut now = Duration::ZERO;
        for (n, (step, kib, load_rps, cpu_ticks)) in steps.into_iter().enumerate() {
            // Mostly steps of a second, so that looks happen; now and then any.
            let step = if n % 50 == 49 { step } else { step % 2_000_000_000 };
            now = now.saturating_add(Duration::from_nanos(step));
            let sample = Sample { rss_anon_kib: kib, load_rps, cpu_ticks, ..Sample::default() };
            d.observe(Moment(now), &sample);
            let judgement = d.judgement();
            prop_assert!(!judgement.reason(Dial::Trace).is_empty());
            prop_assert!((0.0..=1.0).contains(&judgement.confidence));
        }
    }

    #[test]
    fn what_never_leaves_a_narrow_band_is_no_leak(
        levels in prop::collection::vec(0.0f64..20.0, 200..600), step_s in 0.25f64..3600.0,
    ) {
        let mut d = detector(Some(512), 60);
        for (n, level) in levels.iter().enumerate() {
            d.observe(at(n as f64 * step_s), &mib(100.0 + level));
            prop_assert_ne!(d.judgement().verdict, Verdict::Leak);
        }
    }
}

#[test]
fn a_process_that_begins_anew_is_judged_anew() {
    // Two lives of half an hour; the second falls back to the boot, and its CPU time to nothing.
    let life = |t: f64| t % 1800.0;
    let sample = |cpu: bool| {
        move |t: f64| Sample {
            cpu_ticks: cpu.then_some((10.0 * life(t)) as u64),
            ..mib(60.0 + if t < 1800.0 { 0.0 } else { life(t) / 10.0 })
        }
    };
    let mut d = detector(Some(512), 60);
    let (at_s, judgement) = confirmed(&mut d, 1.0, 3600.0, sample(true)).unwrap();
    assert!(at_s < 1800.0 + 900.0, "{at_s}");
    assert!(judgement.since.unwrap() >= at(1800.0), "{judgement:?}");

    // A leak of the first life is none of the second.
    let mut d = detector(Some(512), 60);
    let climbs_once = |t: f64| Sample {
        cpu_ticks: Some((10.0 * life(t)) as u64),
        ..mib(60.0 + if t < 1800.0 { t / 10.0 } else { 0.0 })
    };
    assert!(confirmed(&mut d, 1.0, 1799.0, climbs_once).is_some());
    let change = d.observe(at(1801.0), &climbs_once(1801.0)).unwrap();
    assert_eq!((change.from, change.to), (Verdict::Leak, Verdict::Unjudged));
    for t in (1802..3600).map(f64::from) {
        d.observe(at(t), &climbs_once(t));
    }
    assert_eq!(d.judgement().verdict, Verdict::Healthy);
}

#[test]
fn cpu_time_that_grows_with_the_leak_does_not_excuse_it() {
    // Each request walks through all that was ever kept.
    let mut d = detector(Some(512), 60);
    let grows =
        |t: f64| Sample { cpu_ticks: Some((t + t * t / 800.0) as u64), ..mib(50.0 + t / 15.0) };
    assert!(confirmed(&mut d, 1.0, 1500.0, grows).is_some());
}

#[test]
fn a_leak_under_a_rhythm_that_nobody_told_is_seen_by_the_days() {
    let day = |t: f64| (t / 86_400.0 * std::f64::consts::TAU).sin();
    let mut d = detector(Some(1000), 60);
    let leak = |t: f64| mib(400.0 + 40.0 * day(t) + t / 3600.0);
    let (at_s, _) = confirmed(&mut d, 30.0, 4.0 * 86_400.0, leak).unwrap();
    assert!(at_s < 3.5 * 86_400.0, "{at_s}");
    let mut d = detector(Some(1000), 60);
    let none = |t: f64| mib(400.0 + 40.0 * day(t));
    assert!(confirmed(&mut d, 30.0, 4.0 * 86_400.0, none).is_none());
}
