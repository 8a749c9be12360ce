//! The frame of a picture of a figure over time: axes, curves, lines. SVG that stands alone and can be
//! read in light and dark.

use crate::report::html::plain;
use std::fmt::Write;

/// Width of a picture, in its own units.
pub const WIDTH: f64 = 960.0;
/// Height of a picture.
pub const HEIGHT: f64 = 470.0;
/// The left end of the time axis.
pub const LEFT: f64 = 72.0;
/// What is left free right of it.
pub const RIGHT: f64 = 24.0;
/// The upper end of the memory axis; titles and words stand above.
pub const TOP: f64 = 120.0;
const BOTTOM: f64 = 40.0;
/// How many times as high as the curve a limit may be to be shown.
const FAR: f64 = 4.0;

const STYLE: &str = include_str!("style.css");

/// What the axes span: seconds, and KiB or another unit.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The left end.
    pub from_s: f64,
    /// The right end.
    pub to_s: f64,
    /// The upper end; the lower one is 0.
    pub top: f64,
}

impl Frame {
    /// The frame of these points; of a limit that is far away only the curve is worth the room. `None`
    /// without points.
    pub fn around(
        points: impl Iterator<Item = (f64, f64)>,
        limit_kib: Option<f64>,
    ) -> Option<Frame> {
        let (mut from_s, mut to_s, mut highest) = (f64::INFINITY, f64::NEG_INFINITY, 1.0f64);
        for (t_s, level) in points {
            (from_s, to_s, highest) = (from_s.min(t_s), to_s.max(t_s), highest.max(level));
        }
        let near = limit_kib.filter(|limit| *limit < FAR * highest).unwrap_or(highest);
        let to_s = to_s.max(from_s + 1.0);
        from_s.is_finite().then(|| Frame { from_s, to_s, top: 1.08 * near.max(highest) })
    }

    /// The beginning of a picture, with lines of text under its title.
    pub fn open(title: &str, text: &[String]) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <style>\n{STYLE}</style>\n<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"24\">{}</text>\n",
            plain(title)
        );
        for (line, y) in text.iter().zip([42, 58]) {
            let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{y}\">{}</text>", plain(line));
        }
        svg
    }

    /// Its end.
    pub fn close(svg: String) -> String {
        svg + "</svg>\n"
    }

    /// Where a time stands.
    pub fn x(&self, t_s: f64) -> f64 {
        LEFT + (t_s - self.from_s) / (self.to_s - self.from_s) * (WIDTH - LEFT - RIGHT)
    }

    /// Where a level stands.
    pub fn y(&self, level: f64) -> f64 {
        HEIGHT - BOTTOM - (level / self.top).clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    /// The axes, with these levels and times and their names.
    pub fn axes(&self, svg: &mut String, levels: &[(f64, String)], times: &[(f64, String)]) {
        let (right, foot) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (level, name) in levels {
            let y = self.y(*level);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                LEFT - 8.0,
                y + 4.0,
                plain(name)
            );
        }
        for (t_s, name) in times {
            let x = self.x(*t_s);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{foot}\"/>\n\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                foot + 18.0,
                plain(name)
            );
        }
    }

    /// A limit, if it lies in the picture.
    pub fn limit(&self, svg: &mut String, kib: f64) {
        if kib > self.top {
            return;
        }
        let (y, right) = (self.y(kib), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n\
             <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">limit {:.0} MiB</text>\n",
            y - 5.0,
            kib / 1024.0
        );
    }

    /// A curve through these points of time and level.
    pub fn curve(&self, svg: &mut String, class: &str, points: &[(f64, f64)]) {
        let _ = write!(svg, "<path class=\"{class}\" d=\"");
        for (at, (t_s, kib)) in points.iter().enumerate() {
            let command = if at == 0 { 'M' } else { 'L' };
            let _ = write!(svg, "{command}{:.1} {:.1}", self.x(*t_s), self.y(*kib));
        }
        svg.push_str("\"/>\n");
    }

    /// A line over the whole height at a time.
    pub fn mark(&self, svg: &mut String, t_s: f64) {
        let (x, foot) = (self.x(t_s), HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{foot}\"/>"
        );
    }
}

/// Round amounts of memory up to this many KiB, with their names.
pub fn amounts(top_kib: f64) -> Vec<(f64, String)> {
    ticks(top_kib / 1024.0).into_iter().map(|mib| (1024.0 * mib, format!("{mib} MiB"))).collect()
}

/// Round values from 0 up to `end`, some eight of them.
pub fn ticks(end: f64) -> Vec<f64> {
    let rough = (end / 8.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
    let round = |value: f64| (value * 1e6).round() / 1e6;
    (0..).map(|n| round(f64::from(n) * step)).take_while(|value| *value <= end).collect()
}

/// The lowest and the highest point of each stretch of time, in the order of time: what the eye can
/// tell apart of a long curve.
pub fn stretches(points: &[(f64, f64)], count: f64) -> Vec<[(f64, f64); 2]> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let width_s = ((last.0 - first.0) / count).max(f64::MIN_POSITIVE);
    let stretch = |point: &(f64, f64)| ((point.0 - first.0) / width_s).floor();
    points
        .chunk_by(|a, b| stretch(a) == stretch(b))
        .map(|part| {
            let by_level = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let low = part.iter().min_by(by_level).copied().unwrap_or_default();
            let high = part.iter().max_by(by_level).copied().unwrap_or_default();
            [low, high]
        })
        .collect()
}
