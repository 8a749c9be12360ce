//! What can be told at all by the shape: whether a series climbs in a straight line until it has used a quarter of
//! the way to its limit. Whoever tells leaks within that quarter cannot tell healthy series that do from them.

use super::baselines::{floors, theil_sen};
use super::{Label, Series};

const QUARTER: f64 = 0.25;
/// The second half is no slower than this part of the first: traffic is not even.
const STRAIGHT: f64 = 0.8;
/// Not of the boot.
const BOOT_S: f64 = 10.0;
const WINDOWS: usize = 12;

/// Leaks and healthy series: all of them, those that used a quarter of the way, and those that did in a straight
/// line.
#[derive(Debug, Default)]
pub struct Quarters([[u32; 3]; 2]);

impl Quarters {
    pub fn count(&mut self, series: &Series) {
        let (start_s, of) = match series.label {
            Label::Leak { start_s, .. } => (start_s, 0),
            Label::Healthy => (0.0, 1),
            Label::Ambiguous => return,
        };
        let counts = &mut self.0[of];
        counts[0] += 1;
        if let Some(is_straight) = first_quarter(series, start_s + BOOT_S) {
            counts[1] += 1;
            counts[2] += u32::from(is_straight);
        }
    }

    pub fn line(&self) -> String {
        let [leaks, healthy] = self.0;
        format!(
            "straight until a quarter of the way is used: {} of {} leaks ({} use it), {} of {} healthy ({})",
            leaks[2], leaks[0], leaks[1], healthy[2], healthy[0], healthy[1]
        )
    }
}

/// Whether it is straight up to there; none if it never gets there.
fn first_quarter(series: &Series, start_s: f64) -> Option<bool> {
    let points: Vec<_> = series.levels().filter(|(t_s, _)| *t_s >= start_s).collect();
    let (first_s, base) = *points.first()?;
    let mark = base + QUARTER * (series.limit_kib as f64 - base);
    // A tenth of the time must have been above: spikes use nothing.
    let mut above_since = None;
    let used = points.iter().position(|(t_s, level)| {
        let since = *above_since.get_or_insert(*t_s);
        if *level < mark {
            above_since = None;
        }
        *level >= mark && t_s - since >= BOOT_S.max(0.1 * (t_s - first_s))
    })?;
    let past: Vec<_> = points[..=used].iter().map(|(t_s, level)| (*t_s, *level, None)).collect();
    let floors: Vec<_> = floors(&past, WINDOWS).iter().map(|floor| (floor.0, floor.1)).collect();
    let half = |part: &[(f64, f64)]| theil_sen(part, |k| part[k].0);
    let middle = floors.len() / 2;
    Some(half(&floors[middle..]) >= STRAIGHT * half(&floors[..=middle]))
}
