//! How times, spans and amounts are said.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2026-11-21 14:30:05`.
pub(super) fn second(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-11-21 14:30:05 WAT`, and the same in UTC behind it where the zone is another.
pub(super) fn both(at: Timestamp, zone: &TimeZone) -> String {
    let here = at.to_zoned(zone.clone());
    if here.offset().is_zero() {
        return format!("{} UTC", second(at, &TimeZone::UTC));
    }
    format!(
        "{} ({} UTC)",
        here.strftime("%Y-%m-%d %H:%M:%S %Z"),
        at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S")
    )
}

/// `40 ms`, `4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let two = |big: u64, unit: &str, small: u64, rest: &str| match small {
        0 => format!("{big} {unit}"),
        _ => format!("{big} {unit} {small} {rest}"),
    };
    match whole {
        0..10 if seconds > 0.0 && seconds < 1.0 => format!("{:.0} ms", 1000.0 * seconds),
        0..10 if seconds.fract() > 0.05 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

/// From one moment to another.
pub(super) fn between(from: Timestamp, to: Timestamp) -> String {
    span(to.duration_since(from).as_secs_f64())
}

/// `212 MiB`, `3.4 MiB`, `2.5 GiB`.
pub(super) fn size(kib: f64) -> String {
    let mib = kib / 1024.0;
    match mib.abs() {
        below if below < 10.0 => format!("{mib:.1} MiB"),
        below if below < 1024.0 => format!("{mib:.0} MiB"),
        _ => format!("{:.1} GiB", mib / 1024.0),
    }
}

/// `1 worker`, `4 workers`.
pub(super) fn count(number: u64, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn series(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
