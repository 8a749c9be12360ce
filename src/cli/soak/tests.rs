use super::course::Sizes;
use super::*;

fn sizes(levels_mib: [u64; 8]) -> Sizes {
    let mut sizes = Sizes::default();
    for (nth, mib) in levels_mib.into_iter().enumerate() {
        sizes.note(nth as f64 / 8.0, mib * 1024);
    }
    sizes
}

#[test]
fn what_grows_in_the_last_quarter_is_still_growing() {
    let grown = sizes([10, 30, 40, 60, 70, 90, 80, 110]).still_grows();
    assert_eq!(grown, Some((70 * 1024, 80 * 1024)));
    // A sawtooth, a step up to the third quarter, a page more.
    assert_eq!(sizes([10, 30, 20, 60, 70, 20, 80, 20]).still_grows(), None);
    assert_eq!(sizes([10, 10, 10, 10, 70, 70, 70, 70]).still_grows(), None);
    assert_eq!(sizes([10, 10, 10, 10, 10, 10, 12, 12]).still_grows(), None);
    // One that ended early has no last quarter.
    let mut early = Sizes::default();
    early.note(0.5, 1024);
    early.note(0.6, 100 * 1024);
    assert_eq!(early.still_grows(), None);
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
