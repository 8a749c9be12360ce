//! The picture of a judgement: the series with its floors, the fitted trend, and each change of verdict.

use super::Seen;
use crate::cli::output::wrap;
use crate::core::leak::{Judgement, Verdict};
use crate::report::chart::frame::{Frame, LEFT, TOP, WIDTH, amounts, stretches, ticks};
use std::fmt::Write;

/// Characters of the reason on a line.
const LINE: usize = 125;
/// Floors that are drawn.
const FLOORS: f64 = 32.0;

/// Draws what was seen in a file.
pub(super) fn draw(title: &str, reason: &str, seen: &Seen) -> String {
    let mut svg = Frame::open(title, &wrap(reason, LINE));
    let limit = seen.limit_kib.map(|kib| kib as f64);
    if let Some(frame) = Frame::around(seen.points.iter().copied(), limit) {
        frame.axes(&mut svg, &amounts(frame.top), &ages(&frame));
        limit.into_iter().for_each(|limit| frame.limit(&mut svg, limit));
        frame.curve(&mut svg, "series", &extremes(seen));
        frame.curve(&mut svg, "floor", &floors(seen));
        trend(&frame, &mut svg, seen);
        marks(&frame, &mut svg, seen);
    }
    Frame::close(svg)
}

/// Times for the axis. A trace may count from 1970; what matters is since when it goes.
fn ages(frame: &Frame) -> Vec<(f64, String)> {
    let (unit, unit_s) = match frame.to_s - frame.from_s {
        span_s if span_s <= 600.0 => ("s", 1.0),
        span_s if span_s <= 4.0 * 3600.0 => ("min", 60.0),
        span_s if span_s <= 4.0 * 86_400.0 => ("h", 3600.0),
        _ => ("d", 86_400.0),
    };
    let ages = ticks((frame.to_s - frame.from_s) / unit_s).into_iter();
    ages.map(|age| (frame.from_s + age * unit_s, format!("{age} {unit}"))).collect()
}

/// The slope as of the first confirmation, else as of the end, with its interval.
fn trend(frame: &Frame, svg: &mut String, seen: &Seen) {
    let climbs =
        |judgement: &&Judgement| matches!(judgement.verdict, Verdict::Suspect | Verdict::Leak);
    let Some(judgement) = seen.first_leak.as_ref().or(seen.last.as_ref()).filter(climbs) else {
        return;
    };
    let at_s = judgement.at.as_secs_f64();
    let before = floors(seen).into_iter().take_while(|floor| floor.0 <= at_s);
    let Some((anchor_s, anchor)) = before.last() else { return };
    let line = |slope: Option<f64>, t_s: f64| anchor + slope.unwrap_or(0.0) * (t_s - anchor_s);
    let slope = judgement.slope_per_s;
    let since_s = judgement.since.map_or(at_s, |since| since.as_secs_f64()).max(frame.from_s);
    // Only as far as the picture goes.
    let reach = |slope: Option<f64>| {
        let slope = slope.filter(|slope| *slope > 0.0).unwrap_or(f64::MIN_POSITIVE);
        (anchor_s + (frame.top - anchor) / slope).min(frame.to_s)
    };
    let (low, high) = (judgement.slope_low_per_s, judgement.slope_high_per_s);
    let (low_s, high_s) = (reach(low), reach(high));
    let _ = write!(svg, "<path class=\"fan\" d=\"M{:.1} {:.1}", frame.x(anchor_s), frame.y(anchor));
    for (slope, t_s) in [(high, high_s), (low, low_s)] {
        let _ = write!(svg, "L{:.1} {:.1}", frame.x(t_s), frame.y(line(slope, t_s)));
    }
    svg.push_str("Z\"/>\n");
    let ends = [since_s, reach(slope)].map(|t_s| (t_s, line(slope, t_s)));
    frame.curve(svg, "trend", &ends);
}

fn marks(frame: &Frame, svg: &mut String, seen: &Seen) {
    // Words that come close stand below each other.
    let mut free = [LEFT; 3];
    for change in &seen.changes {
        let (x, word) = (frame.x(change.at_s), change.judgement.verdict.as_str());
        frame.mark(svg, change.at_s);
        // What finds no room is left out; `--explain` has all.
        if let Some(row) = (0..3).find(|row| x >= free[*row]) {
            let y = TOP - 8.0 - 14.0 * row as f64;
            let _ = writeln!(svg, "<text class=\"{word}\" x=\"{x:.1}\" y=\"{y}\">{word}</text>");
            free[row] = x + 60.0;
        }
    }
}

/// The lowest level of each of some windows.
fn floors(seen: &Seen) -> Vec<(f64, f64)> {
    stretches(&seen.points, FLOORS).into_iter().map(|[low, _]| low).collect()
}

/// The curve by the lowest and highest level at each place that the eye can tell apart.
fn extremes(seen: &Seen) -> Vec<(f64, f64)> {
    let ordered = |[a, b]: [(f64, f64); 2]| if a.0 <= b.0 { [a, b] } else { [b, a] };
    stretches(&seen.points, WIDTH).into_iter().flat_map(ordered).collect()
}
