//! What the detector says, and how it says it to people.

use crate::core::{Moment, Now, Sample};
use std::fmt::Write;
use std::time::Duration;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The word in JSON and in tables.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }
    };
}

words! {
    /// The answer.
    Verdict {
        /// Too little evidence.
        Unjudged => "unjudged",
        /// No leak in what was seen.
        Healthy => "healthy",
        /// Climbs in a way that may be a leak.
        Suspect => "suspect",
        /// A leak.
        Leak => "leak",
    }
}

words! {
    /// How a leak grows.
    Kind {
        /// At one rate.
        Steady => "steady",
        /// Faster and faster.
        Accelerating => "accelerating",
        /// In steps.
        Stepwise => "stepwise",
        /// Only while there is work.
        LoadBound => "load_bound",
        /// It began after a long time without growth.
        Late => "late",
    }
}

words! {
    /// What a series that is no leak looks like.
    Shape {
        /// No trend.
        Flat => "flat",
        /// Goes down.
        Falling => "falling",
        /// Climbs ever more slowly and ends below the limit.
        Saturating => "saturating",
        /// Climbed, and does no longer.
        Settled => "settled",
        /// Climbs and falls back.
        Sawtooth => "sawtooth",
        /// Does what the work does.
        FollowsWork => "follows_work",
        /// Grows by too little for its time to be told from chance or warm-up.
        Slow => "slow",
    }
}

/// How to name moments in a reason.
#[derive(Clone, Copy, Debug)]
pub enum Dial {
    /// By the clock, UTC, `14:03`; with both clocks as of now.
    Utc(Now),
    /// By the time of a trace, `t+310s`.
    Trace,
}

impl Dial {
    fn name(self, at: Moment) -> String {
        match self {
            Dial::Trace => format!("t+{:.0}s", at.as_secs_f64()),
            Dial::Utc(now) => {
                let offset = at.as_secs_f64() - now.mono.as_secs_f64();
                let offset = jiff::SignedDuration::try_from_secs_f64(offset).unwrap_or_default();
                let Ok(wall) = now.wall.checked_add(offset) else {
                    return "another age".to_owned();
                };
                // Only a time of another day needs its date.
                let text = wall.to_string();
                let today = now.wall.to_string();
                match (text.get(..10), text.get(11..16)) {
                    (Some(day), Some(time)) if today.starts_with(day) => format!("{time}Z"),
                    (Some(day), Some(time)) => format!("{day} {time}Z"),
                    _ => text,
                }
            }
        }
    }
}

words! {
    /// What is judged, and so its unit.
    #[derive(PartialOrd, Ord)]
    Quantity {
        /// Anonymous + shared + swapped memory, in KiB.
        Memory => "memory",
        /// Open file descriptors.
        Fds => "fds",
        /// Threads.
        Threads => "threads",
        /// Processes of the tree.
        Processes => "processes",
    }
}

impl Quantity {
    /// Its name for people, where [`as_str`](Self::as_str) is a key.
    pub fn noun(self) -> &'static str {
        match self {
            Quantity::Fds => "descriptors",
            Quantity::Memory | Quantity::Threads | Quantity::Processes => self.as_str(),
        }
    }

    /// Its value in a sample.
    pub fn of(self, sample: &Sample) -> Option<u64> {
        match self {
            Quantity::Memory => sample.growth_kib(),
            Quantity::Fds => sample.fds,
            Quantity::Threads => sample.threads,
            Quantity::Processes => sample.processes,
        }
    }

    /// Growth that matters where no limit is known.
    pub(super) fn matters(self) -> f64 {
        match self {
            Quantity::Memory => 256.0 * 1024.0,
            Quantity::Fds | Quantity::Threads | Quantity::Processes => 512.0,
        }
    }

    /// The least part of the way that a sure climb must have used: less memory is within what allocators
    /// do, and connections come and go in larger numbers.
    pub(super) fn sure_part(self) -> f64 {
        if self == Quantity::Memory { 0.03 } else { 0.05 }
    }

    /// A climb that is shorter than this part of the age is one of many. Counts are kept at scales that are
    /// farther apart.
    pub(super) fn brief_part(self) -> f64 {
        if self == Quantity::Memory { 0.3 } else { 0.1 }
    }

    /// Whether the amount is large enough to be a rate's figure.
    fn shows(self, value: f64) -> bool {
        value >= if self == Quantity::Memory { 1024.0 } else { 1.0 }
    }

    /// So much of it, in KiB or a count, for people.
    pub fn amount(self, value: impl Into<f64>) -> String {
        let value = value.into();
        match self {
            Quantity::Memory if value.abs() < 1024.0 => format!("{value:.0} KiB"),
            Quantity::Memory if value.abs() < 1024.0 * 1024.0 => {
                let mib = value / 1024.0;
                format!("{mib:.*} MiB", usize::from(mib.abs() < 100.0))
            }
            Quantity::Memory => format!("{:.1} GiB", value / 1024.0 / 1024.0),
            Quantity::Fds | Quantity::Threads | Quantity::Processes => {
                format!("{value:.0} {}", self.noun())
            }
        }
    }
}

/// The detector's answer and what it rests on. Slopes are in the unit of the quantity (KiB, or a
/// count) a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// The answer.
    pub verdict: Verdict,
    /// How it grows, of a leak.
    pub kind: Option<Kind>,
    /// What it looks like, where it is no leak.
    pub shape: Option<Shape>,
    /// Growth a second now.
    pub slope_per_s: Option<f64>,
    /// Lower end of the 95% interval of the growth.
    pub slope_low_per_s: Option<f64>,
    /// Upper end.
    pub slope_high_per_s: Option<f64>,
    /// Until the limit is reached, of a suspect or a leak with a known limit.
    pub eta: Option<Duration>,
    /// At the upper end of the growth.
    pub eta_low: Option<Duration>,
    /// At the lower end.
    pub eta_high: Option<Duration>,
    /// 0 to 1: how sure the verdict is.
    pub confidence: f64,
    /// When the growth began, as far as is remembered.
    pub since: Option<Moment>,
    /// When the verdict was last given or confirmed.
    pub at: Moment,
    pub(super) quantity: Quantity,
    pub(super) evidence: Evidence,
}

/// Figures of the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Evidence {
    pub level: f32,
    pub gain: f32,
    pub needed: f32,
    pub span_s: f32,
    pub points: u16,
    pub falls: u16,
    pub plateau: Option<f32>,
    pub work_ratio: Option<f32>,
    pub waits_s: Option<f32>,
}

impl Judgement {
    pub(super) fn unjudged(quantity: Quantity, at: Moment, waits_s: Option<f64>) -> Self {
        Self {
            verdict: Verdict::Unjudged,
            kind: None,
            shape: None,
            slope_per_s: None,
            slope_low_per_s: None,
            slope_high_per_s: None,
            eta: None,
            eta_low: None,
            eta_high: None,
            confidence: 0.0,
            since: None,
            at,
            quantity,
            evidence: Evidence { waits_s: waits_s.map(|s| s as f32), ..Evidence::default() },
        }
    }

    /// The slope of memory; of counts there is none in KiB.
    pub fn slope_kib_s(&self) -> Option<f64> {
        self.slope_per_s.filter(|_| self.quantity == Quantity::Memory)
    }

    /// What was judged.
    pub fn quantity(&self) -> Quantity {
        self.quantity
    }

    /// One sentence with the figures that the verdict rests on.
    pub fn reason(&self, dial: Dial) -> String {
        let e = &self.evidence;
        let q = self.quantity;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match (self.verdict, self.shape) {
            (Verdict::Unjudged, None) => match e.waits_s {
                Some(seconds) => write!(text, "in warm-up for {} more", span(seconds)),
                None => write!(text, "too few samples yet"),
            },
            (Verdict::Unjudged, Some(Shape::Slow)) => write!(
                text,
                "rises: {} in {}; waits for {} in that time, or for as steady a rise over a longer one",
                q.amount(e.gain),
                span(e.span_s),
                q.amount(e.needed)
            ),
            (Verdict::Unjudged, Some(_)) => write!(
                text,
                "grows ever more slowly: {} in {}; waits until it has flattened",
                q.amount(e.gain),
                span(e.span_s)
            ),
            (Verdict::Healthy, Some(shape)) => {
                let over = span(e.span_s);
                match shape {
                    Shape::Flat => {
                        write!(text, "no trend in {over}, floor at {}", q.amount(e.level))
                    }
                    Shape::Falling => {
                        write!(text, "falling for {over}, floor at {}", q.amount(e.level))
                    }
                    Shape::Saturating => {
                        write!(text, "grows ever more slowly: {} in {over}", q.amount(e.gain))
                    }
                    Shape::Settled => write!(
                        text,
                        "climbed in steps or no longer climbs, floor at {}",
                        q.amount(e.level)
                    ),
                    Shape::Sawtooth => {
                        write!(
                            text,
                            "climbs and falls back ({} times in memory), floor at {}",
                            e.falls,
                            q.amount(e.level)
                        )
                    }
                    Shape::FollowsWork => {
                        write!(text, "follows the work, floor at {}", q.amount(e.level))
                    }
                    Shape::Slow => write!(
                        text,
                        "grew by {} in {over}, less than the {} that would tell a leak from warm-up",
                        q.amount(e.gain),
                        q.amount(e.needed)
                    ),
                }
            }
            (Verdict::Healthy, None) => write!(text, "no trend"),
            (Verdict::Suspect | Verdict::Leak, _) => self.growth(&mut text, dial),
        };
        if let (Some(plateau), Verdict::Healthy | Verdict::Unjudged) = (e.plateau, self.verdict) {
            let _ = write!(text, ", would end near {}", q.amount(plateau));
        }
        text
    }

    fn growth(&self, text: &mut String, dial: Dial) -> std::fmt::Result {
        let e = &self.evidence;
        let q = self.quantity;
        let slope = self.slope_per_s.unwrap_or(0.0);
        let (unit, seconds) = [("s", 1.0), ("min", 60.0), ("h", 3600.0)]
            .into_iter()
            .find(|(_, seconds)| q.shows(slope * seconds))
            .unwrap_or(("day", 86400.0));
        write!(text, "grows {}/{unit}", q.amount(slope * seconds))?;
        if let Some(since) = self.since {
            write!(text, " since {}", dial.name(since))?;
        }
        if let (Some(low), Some(high)) = (self.slope_low_per_s, self.slope_high_per_s) {
            write!(text, " (95%: {}–{})", q.amount(low * seconds), q.amount(high * seconds))?;
        }
        write!(
            text,
            ", {} in {}, floor of {} windows rising",
            q.amount(e.gain),
            span(e.span_s),
            e.points
        )?;
        if e.falls > 0 {
            write!(text, " over {} collection cycles", e.falls)?;
        }
        match e.work_ratio {
            Some(ratio) if ratio > 1.2 => {
                write!(text, ", work ×{ratio:.1}, which does not explain it")?
            }
            Some(ratio) if ratio < 0.8 => write!(text, ", work falling")?,
            Some(_) => write!(text, ", work flat")?,
            None => {}
        }
        if let Some(eta) = self.eta {
            write!(text, "; limit at {}", dial.name(self.at + eta))?;
        }
        Ok(())
    }
}

/// A length of time for people.
pub(in crate::core) fn span(seconds: impl Into<f64>) -> String {
    match seconds.into() {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 2.0 * 86400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}
