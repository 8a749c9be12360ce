use super::floors::Floors;
use super::*;

/// With less than 2 MiB being none.
fn still_grow(levels_kib: &[u64]) -> Option<(u64, u64)> {
    let mut floors = Floors::new(2048);
    for (nth, kib) in levels_kib.iter().enumerate() {
        floors.note(nth as f64 / 8.0, *kib);
    }
    floors.still_grow()
}

#[test]
fn what_grows_in_the_last_quarter_is_still_growing() {
    let mib = |levels: [u64; 8]| still_grow(&levels.map(|mib| mib * 1024));
    assert_eq!(mib([10, 30, 40, 60, 70, 90, 80, 110]), Some((70 * 1024, 80 * 1024)));
    // A sawtooth, a step up to the third quarter.
    assert_eq!(mib([10, 30, 20, 60, 70, 20, 80, 20]), None);
    assert_eq!(mib([10, 10, 10, 10, 70, 70, 70, 70]), None);
    // A little in each quarter, and noise.
    let slow = [9000, 9200, 9400, 9700, 10_000, 10_300, 10_600, 10_900];
    assert_eq!(still_grow(&slow), Some((10_000, 10_600)));
    assert_eq!(still_grow(&[9000, 9100, 9050, 9100, 9100, 9200, 9150, 9200]), None);
    // One that ended early has no last quarter.
    assert_eq!(still_grow(&[10, 1024, 10_000, 50_000, 90_000]), None);
}

#[test]
fn a_path_begins_with_a_slash() {
    assert_eq!(path("/a?b=1").unwrap().query(), Some("b=1"));
    assert!(path("a").is_err() && path("http://host/a").is_err() && path("/a b").is_err());
}

#[test]
fn who_listens_everywhere_is_asked_on_loopback() {
    let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
    assert_eq!(reached("0.0.0.0:80"), "127.0.0.1:80");
    assert_eq!(reached("[::]:80"), "[::1]:80");
    assert_eq!(reached("10.0.0.7:80"), "10.0.0.7:80");
}
