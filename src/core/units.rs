//! Sizes and durations as people write them; a number without a unit is refused.
//!
//! [`Bytes`] and [`Period`] parse and print the same notation, without loss: what is printed parses
//! back to the same value, so a message can be pasted into a configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A size in bytes. Text: a decimal number and one of `B`, `KB`, `MB`, `GB`, `TB` (powers of 1000)
/// or `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024), in any case: `512MiB`, `1.5GiB`, `64KB`. A
/// fraction of a byte is cut off. Prints without loss; with a precision (`{:.1}`) rounded, in the
/// largest unit that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A duration as text: `250ms`, `60s`, `1m30s`, `2h`, `7d`; larger units first, each at most once,
/// fractions allowed (`0.5s`); nothing below a nanosecond and at most [`Period::LONGEST`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// Why a text is no size or no duration, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What is wrong.
    pub problem: UnitProblem,
    /// A text that would be accepted, where there is a likely one.
    pub suggestion: Option<String>,
}

/// What is wrong with the text of a size or a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitProblem {
    /// A number alone.
    #[error("{} has no unit", text.escape_debug())]
    NoUnit {
        /// What was given.
        text: String,
    },
    /// Something else than a unit behind the number.
    #[error("{} is not a unit here; the units are {known}", unit.escape_debug())]
    UnknownUnit {
        /// What stands behind the number.
        unit: String,
        /// The units there are.
        known: &'static str,
    },
    /// No number to begin with.
    #[error("{text:?} is not a {quantity}; write it like {example}")]
    NotANumber {
        /// What was given.
        text: String,
        /// `size` or `duration`.
        quantity: &'static str,
        /// How one looks.
        example: &'static str,
    },
    /// `30s1m`, `1m1m`.
    #[error("{}: larger units come first, each at most once", text.escape_debug())]
    Order {
        /// What was given.
        text: String,
    },
    /// More than can be meant.
    #[error("{} is too large", text.escape_debug())]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// The problem, with the suggestion in brackets.
impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " (did you mean {suggestion}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnitError {}

impl From<UnitProblem> for UnitError {
    fn from(problem: UnitProblem) -> Self {
        UnitError { problem, suggestion: None }
    }
}

/// Name and size of each unit of [`Bytes`]; the binary ones, largest first, are those that print.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];
const PRINTED: usize = 5;

/// Name and nanoseconds of each unit of [`Period`], largest first.
const TIMES: [(&str, u128); 5] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
];

impl Bytes {
    /// So many KiB.
    pub const fn from_kib(kib: u64) -> Self {
        Bytes(kib.saturating_mul(1024))
    }

    /// Whole KiB; what is over is cut off.
    pub const fn kib(self) -> u64 {
        self.0 / 1024
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let (number, unit) = split_number(text);
        let Some(number) = Decimal::parse(number) else {
            let (quantity, example) = ("size", "512MiB");
            return Err(UnitProblem::NotANumber { text: shown(text), quantity, example }.into());
        };
        if unit.is_empty() {
            // A bare number of a million or more was counted in bytes.
            let suggestion = match number.times(1) {
                Some(0) => Some("0B".to_owned()),
                Some(bytes @ 0x10_0000..) => {
                    u64::try_from(bytes).ok().map(|b| Bytes(b).to_string())
                }
                _ => Some(format!("{text}MiB")),
            };
            return Err(UnitError {
                problem: UnitProblem::NoUnit { text: shown(text) },
                suggestion,
            });
        }
        let Some((_, size)) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
            // `512M` means 512MB to some and 512MiB to others.
            let initial = unit.chars().next().map(|c| c.to_ascii_uppercase());
            let meant = SIZES.iter().find(|(name, _)| name.chars().next() == initial);
            let digits = text[..text.len() - unit.len()].trim_end();
            return Err(UnitError {
                problem: UnitProblem::UnknownUnit {
                    unit: shown(unit),
                    known: "B, KiB, MiB, GiB, TiB, KB, MB, GB and TB",
                },
                suggestion: meant.map(|(name, _)| format!("{digits}{name}")),
            });
        };
        number
            .times(u128::from(*size))
            .and_then(|bytes| u64::try_from(bytes).ok())
            .map(Bytes)
            .ok_or_else(|| UnitProblem::TooLarge { text: shown(text) }.into())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printed = &SIZES[..PRINTED];
        if let Some(precision) = f.precision() {
            let (name, size) =
                printed.iter().find(|(_, size)| self.0 >= *size).unwrap_or(&("B", 1));
            return match *size {
                1 => write!(f, "{}B", self.0),
                size => write!(f, "{:.precision$}{name}", self.0 as f64 / size as f64),
            };
        }
        // The largest unit in which two decimals lose nothing.
        for (name, size) in printed {
            let hundredths = u128::from(self.0) * 100;
            let size = u128::from(*size);
            if u128::from(self.0) >= size && hundredths % size == 0 {
                return write!(f, "{}{name}", trimmed(hundredths / size, 2));
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Period {
    /// A century: longer is a mistake, and sums of deadlines stay far from overflow.
    pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let mut rest = text;
        let mut smallest = u128::MAX;
        let mut total: u128 = 0;
        loop {
            let (digits, tail) = split_number(rest);
            let Some(number) = Decimal::parse(digits) else {
                let (quantity, example) = ("duration", "30s, 1m30s or 250ms");
                return Err(UnitProblem::NotANumber { text: shown(text), quantity, example }.into());
            };
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, following) = (tail[..end].trim_end(), &tail[end..]);
            if unit.is_empty() {
                let meant = tail.is_empty().then(|| format!("{text}s"));
                return Err(UnitError {
                    problem: UnitProblem::NoUnit { text: shown(text) },
                    suggestion: meant.filter(|meant| meant.parse::<Period>().is_ok()),
                });
            }
            let Some((_, nanos)) = TIMES.iter().find(|(name, _)| *name == unit) else {
                let head = text[..text.len() - tail.len()].trim_end();
                let meant = long_name(unit).map(|name| format!("{head}{name}{following}"));
                return Err(UnitError {
                    problem: UnitProblem::UnknownUnit {
                        unit: shown(unit),
                        known: "ms, s, m, h and d",
                    },
                    suggestion: meant.filter(|meant| meant.parse::<Period>().is_ok()),
                });
            };
            if *nanos >= smallest {
                return Err(UnitProblem::Order { text: shown(text) }.into());
            }
            smallest = *nanos;
            total = number
                .times(*nanos)
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= Self::LONGEST.as_nanos())
                .ok_or_else(|| UnitProblem::TooLarge { text: shown(text) })?;
            rest = following;
            if rest.is_empty() {
                // `total` is at most a century, so its seconds fit and the rest is below a second.
                let (seconds, nanos) = (total / 1_000_000_000, total % 1_000_000_000);
                return Ok(Period(Duration::new(seconds as u64, nanos as u32)));
            }
        }
    }
}

/// The unit that a longer word for it means.
fn long_name(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "min" | "mins" | "minute" | "minutes" | "m" => Some("m"),
        "sec" | "secs" | "second" | "seconds" | "s" => Some("s"),
        "msec" | "millis" | "milliseconds" | "ms" => Some("ms"),
        "hour" | "hours" | "hr" | "hrs" | "h" => Some("h"),
        "day" | "days" | "d" => Some("d"),
        _ => None,
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        let (milli, larger) = TIMES.split_last().expect("the table is not empty");
        for (name, nanos) in larger {
            let whole = rest / nanos;
            rest %= nanos;
            if whole > 0 {
                write!(f, "{whole}{name}")?;
            }
        }
        if rest > 0 {
            // Nanoseconds are millionths of a millisecond.
            write!(f, "{}{}", trimmed(rest, 6), milli.0)?;
        }
        Ok(())
    }
}

/// A decimal number: `digits` / 10^`scale`.
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    /// `12`, `1.5`, `.5`; `None` for anything else, also for more digits than can matter.
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        // Digits behind the twelfth change no byte of a TiB and no nanosecond of a day by a whole.
        let fraction = &fraction[..fraction.len().min(12)];
        let scale = fraction.len() as u32;
        let mut digits: u128 = 0;
        for c in whole.chars().chain(fraction.chars()) {
            // A whole part beyond u128 stays beyond any limit.
            digits = digits.saturating_mul(10).saturating_add(u128::from(c.to_digit(10)?));
        }
        Some(Self { digits, scale })
    }

    /// This many times `unit`, the fraction cut off; `None` when it does not fit.
    fn times(&self, unit: u128) -> Option<u128> {
        Some(self.digits.checked_mul(unit)? / 10u128.pow(self.scale))
    }
}

/// The leading digits and points, and what follows them without the space between.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `value` / 10^`places` without trailing zeros.
fn trimmed(value: u128, places: u32) -> String {
    let unit = 10u128.pow(places);
    let fraction = format!("{:0width$}", value % unit, width = places as usize);
    match fraction.trim_end_matches('0') {
        "" => (value / unit).to_string(),
        fraction => format!("{}.{fraction}", value / unit),
    }
}

/// The text for a message, cut where it is longer than a message should be.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5GiB", 1536 << 20),
            ("64KB", 64_000),
            ("64 kb", 64_000),
            ("0B", 0),
            (".5KiB", 512),
            ("0.0001KiB", 0),
            ("2TB", 2_000_000_000_000),
            ("18446744073709551615B", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("60s", 60_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("250ms", 250),
            ("0.5s", 500),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("1.5h15m", 6_300_000),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn bad_sizes_say_what_was_meant() {
        for (text, message) in [
            ("512", "512 has no unit (did you mean 512MiB?)"),
            ("1.5", "1.5 has no unit (did you mean 1.5MiB?)"),
            ("536870912", "536870912 has no unit (did you mean 512MiB?)"),
            ("0", "0 has no unit (did you mean 0B?)"),
            (
                "512M",
                "M is not a unit here; the units are B, KiB, MiB, GiB, TiB, KB, MB, GB and TB \
                 (did you mean 512MiB?)",
            ),
            ("1 x", "x is not a unit here; the units are B, KiB, MiB, GiB, TiB, KB, MB, GB and TB"),
            ("", "\"\" is not a size; write it like 512MiB"),
            ("-1MiB", "\"-1MiB\" is not a size; write it like 512MiB"),
            ("1.2.3MiB", "\"1.2.3MiB\" is not a size; write it like 512MiB"),
            ("plenty", "\"plenty\" is not a size; write it like 512MiB"),
            ("99999999TiB", "99999999TiB is too large"),
            ("16777216TiB", "16777216TiB is too large"),
        ] {
            let error = text.parse::<Bytes>().expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn bad_durations_say_what_was_meant() {
        let units = "is not a unit here; the units are ms, s, m, h and d";
        for (text, message) in [
            ("60", "60 has no unit (did you mean 60s?)".to_owned()),
            ("1m30", "1m30 has no unit (did you mean 1m30s?)".to_owned()),
            ("1s30", "1s30 has no unit".to_owned()),
            ("1 30", "1 30 has no unit".to_owned()),
            ("5min", format!("min {units} (did you mean 5m?)")),
            ("1hour30m", format!("hour {units} (did you mean 1h30m?)")),
            ("5fortnights", format!("fortnights {units}")),
            ("30s1m", "30s1m: larger units come first, each at most once".to_owned()),
            ("1s1s", "1s1s: larger units come first, each at most once".to_owned()),
            ("soon", "\"soon\" is not a duration; write it like 30s, 1m30s or 250ms".to_owned()),
            ("36501d", "36501d is too large".to_owned()),
        ] {
            let error = text.parse::<Period>().expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn values_print_as_people_write_them() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1 << 20, "1MiB"), (1536 << 20, "1.5GiB"), (1025, "1025B")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(format!("{:.1}", Bytes(123_456_789)), "117.7MiB");
        assert_eq!(format!("{:.1}", Bytes(17)), "17B");
        for (ms, text) in [(0, "0s"), (90_000, "1m30s"), (250, "250ms"), (604_800_000, "7d")] {
            assert_eq!(Period(Duration::from_millis(ms)).to_string(), text);
        }
        assert_eq!(Period(Duration::from_micros(1500)).to_string(), "1.5ms");
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
        }

        #[test]
        fn round_sizes_round_trip(hundredths in 0u64..100_000, shift in 0u32..=40) {
            let bytes = Bytes((hundredths << shift) / 100);
            prop_assert_eq!(bytes.to_string().parse(), Ok(bytes));
        }

        #[test]
        fn durations_round_trip(s in 0..Period::LONGEST.as_secs(), nanos in 0u32..1_000_000_000) {
            let period = Period(Duration::new(s, nanos));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}", digits in "[0-9.a-zA-Z µ]{0,60}") {
            for text in [text, digits] {
                let _ = text.parse::<Bytes>();
                let _ = text.parse::<Period>();
            }
        }
    }
}
