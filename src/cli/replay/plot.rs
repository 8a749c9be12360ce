//! The picture of a judgement: an SVG that stands alone and can be read in light and dark.

use super::Seen;
use crate::cli::output::wrap;
use crate::core::leak::{Judgement, Verdict};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 470.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 120.0;
/// Characters of the reason on a line.
const LINE: usize = 125;
const BOTTOM: f64 = 40.0;
/// Floors that are drawn.
const FLOORS: usize = 32;
/// Of the limit only what the curve comes near to is worth the room.
const FAR: f64 = 4.0;

const STYLE: &str = "
  text { font: 12px system-ui, sans-serif; fill: #444; }
  .title { font-size: 15px; font-weight: 600; fill: #111; }
  .grid { stroke: #ddd; } .series { stroke: #7a9cc6; } .floor { stroke: #1d4f91; stroke-width: 2; }
  .trend { stroke: #c2410c; stroke-width: 2; stroke-dasharray: 7 4; } .fan { fill: #c2410c; opacity: .15; }
  .limit { stroke: #b91c1c; } .mark { stroke: #888; stroke-dasharray: 2 3; }
  .leak { fill: #b91c1c; font-weight: 600; } .suspect { fill: #b45309; } .healthy { fill: #15803d; }
  path, line { fill: none; vector-effect: non-scaling-stroke; } path.fan { fill: #c2410c; }
  .ground { fill: #fff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #bbb; } .title { fill: #eee; } .ground { fill: #16181d; } .grid { stroke: #33373f; }
    .series { stroke: #4a6a96; } .floor { stroke: #8ab4f8; } .leak { fill: #f87171; }
    .suspect { fill: #fbbf24; } .healthy { fill: #4ade80; } .limit { stroke: #f87171; }
    .trend { stroke: #fb923c; }
  }";

/// Draws what was seen in a file.
pub(super) fn draw(title: &str, reason: &str, seen: &Seen) -> String {
    let frame = Frame::of(seen);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <style>{STYLE}\n</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
        escape(title)
    );
    for (line, y) in wrap(reason, LINE).iter().zip([42, 58]) {
        svg += &format!("<text x=\"{LEFT}\" y=\"{y}\">{}</text>\n", escape(line));
    }
    // Writing to a string cannot fail.
    let _ = frame
        .axes(&mut svg)
        .and_then(|()| frame.limit(&mut svg, seen.limit_kib))
        .and_then(|()| frame.curve(&mut svg, "series", &extremes(seen)))
        .and_then(|()| frame.curve(&mut svg, "floor", &floors(seen)))
        .and_then(|()| frame.trend(&mut svg, seen))
        .and_then(|()| frame.marks(&mut svg, seen));
    svg + "</svg>\n"
}

/// What the axes span, in seconds and KiB.
struct Frame {
    from_s: f64,
    to_s: f64,
    top_kib: f64,
}

impl Frame {
    fn of(seen: &Seen) -> Self {
        let from_s = seen.points.first().map_or(0.0, |point| point.0);
        let to_s = seen.points.last().map_or(1.0, |point| point.0).max(from_s + 1.0);
        let highest = seen.points.iter().map(|point| point.1).fold(1.0, f64::max);
        let limit = seen.limit_kib.map(|kib| kib as f64).filter(|limit| *limit < FAR * highest);
        Self { from_s, to_s, top_kib: 1.08 * limit.unwrap_or(highest).max(highest) }
    }

    fn x(&self, t_s: f64) -> f64 {
        LEFT + (t_s - self.from_s) / (self.to_s - self.from_s) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, kib: f64) -> f64 {
        HEIGHT - BOTTOM - (kib / self.top_kib).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, svg: &mut String) -> std::fmt::Result {
        let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for mib in ticks(0.0, self.top_kib / 1024.0, &[1.0, 2.0, 5.0], 10.0) {
            let y = self.y(1024.0 * mib);
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
            )?;
            let (x, y) = (LEFT - 8.0, y + 4.0);
            writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{mib} MiB</text>")?;
        }
        let (unit, unit_s) = match self.to_s - self.from_s {
            span_s if span_s <= 600.0 => ("s", 1.0),
            span_s if span_s <= 4.0 * 3600.0 => ("min", 60.0),
            span_s if span_s <= 4.0 * 86_400.0 => ("h", 3600.0),
            _ => ("d", 86_400.0),
        };
        // A trace may count from 1970; what matters is since when it goes.
        let span = (self.to_s - self.from_s) / unit_s;
        for at in ticks(0.0, span, &[1.0, 2.0, 5.0], 10.0) {
            let x = self.x(self.from_s + at * unit_s);
            writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{foot}\"/>"
            )?;
            let y = foot + 18.0;
            writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{at} {unit}</text>"
            )?;
        }
        Ok(())
    }

    fn limit(&self, svg: &mut String, limit_kib: Option<u64>) -> std::fmt::Result {
        let Some(kib) = limit_kib.map(|kib| kib as f64).filter(|kib| *kib <= self.top_kib) else {
            return Ok(());
        };
        let (y, right) = (self.y(kib), WIDTH - RIGHT);
        writeln!(
            svg,
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        )?;
        let (y, mib) = (y - 5.0, kib / 1024.0);
        writeln!(
            svg,
            "<text x=\"{right}\" y=\"{y:.1}\" text-anchor=\"end\">limit {mib:.0} MiB</text>"
        )
    }

    fn curve(&self, svg: &mut String, class: &str, points: &[(f64, f64)]) -> std::fmt::Result {
        write!(svg, "<path class=\"{class}\" d=\"")?;
        for (at, (t_s, kib)) in points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            write!(svg, "{command}{:.1} {:.1}", self.x(*t_s), self.y(*kib))?;
        }
        writeln!(svg, "\"/>")
    }

    /// The slope as of the first confirmation, else as of the end, with its interval.
    fn trend(&self, svg: &mut String, seen: &Seen) -> std::fmt::Result {
        let climbs =
            |judgement: &&Judgement| matches!(judgement.verdict, Verdict::Suspect | Verdict::Leak);
        let Some(judgement) = seen.first_leak.as_ref().or(seen.last.as_ref()).filter(climbs) else {
            return Ok(());
        };
        let at_s = judgement.at.as_secs_f64();
        let before = floors(seen).into_iter().take_while(|floor| floor.0 <= at_s);
        let Some((anchor_s, anchor)) = before.last() else { return Ok(()) };
        let line = |slope: Option<f64>, t_s: f64| anchor + slope.unwrap_or(0.0) * (t_s - anchor_s);
        let slope = judgement.slope_per_s;
        let since_s = judgement.since.map_or(at_s, |since| since.as_secs_f64()).max(self.from_s);
        // Only as far as the picture goes.
        let reach = |slope: Option<f64>| {
            let slope = slope.filter(|slope| *slope > 0.0).unwrap_or(f64::MIN_POSITIVE);
            (anchor_s + (self.top_kib - anchor) / slope).min(self.to_s)
        };
        let (low, high) = (judgement.slope_low_per_s, judgement.slope_high_per_s);
        let (low_s, high_s) = (reach(low), reach(high));
        write!(svg, "<path class=\"fan\" d=\"M{:.1} {:.1}", self.x(anchor_s), self.y(anchor))?;
        for (slope, t_s) in [(high, high_s), (low, low_s)] {
            write!(svg, "L{:.1} {:.1}", self.x(t_s), self.y(line(slope, t_s)))?;
        }
        writeln!(svg, "Z\"/>")?;
        let ends = [since_s, reach(slope)].map(|t_s| (t_s, line(slope, t_s)));
        self.curve(svg, "trend", &ends)
    }

    fn marks(&self, svg: &mut String, seen: &Seen) -> std::fmt::Result {
        let foot = HEIGHT - BOTTOM;
        // Words that come close stand below each other.
        let mut free = [LEFT; 3];
        for change in &seen.changes {
            let (x, word) = (self.x(change.at_s), change.judgement.verdict.as_str());
            writeln!(
                svg,
                "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{foot}\"/>"
            )?;
            // What finds no room is left out; `--explain` has all.
            if let Some(row) = (0..3).find(|row| x >= free[*row]) {
                let y = TOP - 8.0 - 14.0 * row as f64;
                writeln!(svg, "<text class=\"{word}\" x=\"{x:.1}\" y=\"{y}\">{word}</text>")?;
                free[row] = x + 60.0;
            }
        }
        Ok(())
    }
}

/// The lowest level of each of some windows.
fn floors(seen: &Seen) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (seen.points.first(), seen.points.last()) else {
        return Vec::new();
    };
    let width_s = ((last.0 - first.0) / FLOORS as f64).max(f64::MIN_POSITIVE);
    stretches(seen, first.0, width_s).into_iter().map(|(low, _)| low).collect()
}

/// The curve by the lowest and highest level at each place that the eye can tell apart.
fn extremes(seen: &Seen) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (seen.points.first(), seen.points.last()) else {
        return Vec::new();
    };
    let width_s = ((last.0 - first.0) / (WIDTH - LEFT - RIGHT)).max(f64::MIN_POSITIVE);
    let ordered = |(low, high): ((f64, f64), (f64, f64))| {
        if low.0 <= high.0 { [low, high] } else { [high, low] }
    };
    stretches(seen, first.0, width_s).into_iter().flat_map(ordered).collect()
}

/// Lowest and highest point of each stretch of time.
fn stretches(seen: &Seen, from_s: f64, width_s: f64) -> Vec<((f64, f64), (f64, f64))> {
    let mut stretches: Vec<((f64, f64), (f64, f64))> = Vec::new();
    let mut running = -1.0;
    for point in &seen.points {
        let stretch = ((point.0 - from_s) / width_s).floor();
        match stretches.last_mut().filter(|_| stretch == running) {
            Some((low, high)) => {
                if point.1 < low.1 {
                    *low = *point;
                }
                if point.1 > high.1 {
                    *high = *point;
                }
            }
            None => stretches.push((*point, *point)),
        }
        running = stretch;
    }
    stretches
}

/// Round values up to `end`, some eight of them.
fn ticks(begin: f64, end: f64, steps: &[f64], base: f64) -> Vec<f64> {
    let rough = (end - begin) / 8.0;
    let power = base.powf(rough.max(f64::MIN_POSITIVE).log(base).floor());
    let step = steps.iter().map(|step| step * power).find(|step| *step >= rough);
    let step = step.unwrap_or(base * power);
    let round = |value: f64| (value * 1e6).round() / 1e6;
    (0..).map(|n| round(begin + f64::from(n) * step)).take_while(|value| *value <= end).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
