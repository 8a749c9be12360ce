//! One look at one span of the past: is this a leak, and if not, what is it?

use super::history::{History, SCALES};
use super::trend::{Point, Trend};
use super::{Kind, Shape};

/// Points that a look needs: fewer windows draw a line through anything.
const ENOUGH: usize = 8;
/// A straight line as long as the warm-up is trusted for this many times its own length: it must have
/// used a third of the way to the limit. Heaps that are touched for the first time, cache fills and
/// the first climb of a sawtooth begin as straight as a leak; what tells them apart is that they end,
/// and most end soon.
const TRUST: f64 = 2.0;
/// The trust grows with this power of the length over the warm-up. With a warm-up of 60 s, a quarter
/// of the way is needed after 5 minutes, 15% after an hour, 7% after a day.
const TRUST_POWER: f64 = 0.25;
/// And never beyond this.
const TRUST_MOST: f64 = 25.0;
/// Shortest warm-up for that measure.
const SHORTEST_WARM_UP_S: f64 = 3.0;
/// Lower end of the slope's interval, as a part of the slope.
const SURE_PART: f64 = 0.4;
/// A climb whose second half brings less than this part of the gain has ended.
const LATE_PART: f64 = 0.3;
/// Of the pairs, this many must not be explained away by work.
const COMPARABLE: f64 = 0.25;
/// A series that has fallen by this depth before must climb so much deeper to be news.
const NEWS: f64 = 1.2;
/// Windows that hold a whole cycle (a fall of at least this part of the deepest) show true floors.
const CYCLE_PART: f64 = 0.5;
/// The part of a gain required that makes a suspect.
const SUSPECT_PART: f64 = 0.6;
/// Standard errors that are taken against a climb when it is asked whether it slows down.
const DOUBT: f64 = 0.7;

/// What a look is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// The limit of the series, where there is one.
    pub limit: Option<f64>,
    /// Growth that matters where no limit is known.
    pub matters: f64,
    /// Work rate below which work explains nothing.
    pub idle_work: f64,
    /// Age up to which growth is expected.
    pub warm_up_s: f64,
    /// The worker's age.
    pub age_s: f64,
}

/// Which span of the past: a scale, and all of its ring or the younger half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub scale: usize,
    pub windows: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// No leak here.
    Quiet(Shape),
    /// Climbs, and it is too early to say.
    Rising,
    /// A leak.
    Leaking(Kind),
}

/// What a look found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    pub outcome: Outcome,
    pub trend: Trend,
    /// Age at the first point.
    pub since_s: f64,
    /// The newest floor and ceiling.
    pub floor: f64,
    pub ceiling: f64,
    /// Gain over the span that work does not explain.
    pub gain: f64,
    /// Gain that would make it a leak.
    pub needed: f64,
    /// Where the climb would end, if it slows down.
    pub plateau: Option<f64>,
    /// Falls seen.
    pub falls: usize,
    pub points: usize,
}

/// Looks; none when there are too few samples.
pub(super) fn look(history: &History, span: Span, frame: &Frame) -> Option<Finding> {
    let scale = history.scale(span.scale);
    let mut buffer = [Point { t: 0.0, y: 0.0, work: None }; super::history::WINDOWS];
    let mut count = 0;
    let (mut ceiling, mut whole_cycles) = (0.0, [0.0; super::history::WINDOWS]);
    for (start_s, window) in scale.closed(span.windows) {
        buffer[count] = Point {
            t: start_s + f64::from(window.floor_at_s),
            y: window.floor.into(),
            work: window.work_rate(),
        };
        whole_cycles[count] = f64::from(window.fall);
        ceiling = window.ceiling.into();
        count += 1;
    }
    let points = &buffer[..count];
    if count < ENOUGH {
        return None;
    }
    let (first, last) = (points[0], points[count - 1]);
    let headroom = match frame.limit {
        // Near the limit every stir is a large part of what is left.
        Some(limit) => (limit - first.y).max(limit / 4.0),
        None => frame.matters.max(2.0 * first.y),
    };
    let needed = headroom * required_part(last.t - first.t, frame.warm_up_s);
    let trend = Trend::of(points, frame.idle_work)?;
    let rise = last.y - first.y;
    let gain = (0.5 * (trend.early + trend.late) * trend.span_s).min(rise);

    // Falls in the recent past, over sixteen times this span.
    let (deepest, falls) = history.falls((span.scale + 2).min(SCALES - 1), 0.0);
    let cycles = &mut whole_cycles[..count];
    cycles.sort_unstable_by(f64::total_cmp);
    let typical_fall = cycles[count / 2];
    let floors_are_true = typical_fall >= CYCLE_PART * deepest;

    let sure = trend.low > SURE_PART * trend.slope && trend.slope > 0.0;
    let goes_on = trend.late * trend.span_s / 2.0 >= LATE_PART * gain;
    let left = frame.limit.map_or(headroom - gain, |limit| limit - last.y).max(0.0);
    let remaining = trend.remaining(DOUBT);
    let plateau = remaining.is_finite().then_some(last.y + remaining);

    let outcome = if !sure || gain < needed / 8.0 {
        Outcome::Quiet(if trend.high < 0.0 {
            Shape::Falling
        } else if trend.comparable < COMPARABLE {
            Shape::FollowsWork
        } else if falls >= 3 && deepest > rise.abs() && deepest > last.y / 20.0 {
            Shape::Sawtooth
        } else {
            Shape::Flat
        })
    } else if trend.comparable < COMPARABLE {
        Outcome::Quiet(Shape::FollowsWork)
    } else if trend.stairs || !goes_on {
        Outcome::Quiet(Shape::Settled)
    } else if !floors_are_true && gain < NEWS * deepest {
        Outcome::Quiet(Shape::Sawtooth)
    } else if remaining < left {
        Outcome::Quiet(Shape::Saturating)
    } else if gain >= needed && out_of_warm_up(frame, gain, headroom, left, trend.late) {
        Outcome::Leaking(kind(&trend))
    } else if gain >= SUSPECT_PART * needed {
        Outcome::Rising
    } else {
        Outcome::Quiet(Shape::Slow)
    };
    Some(Finding {
        outcome,
        trend,
        since_s: first.t,
        floor: last.y,
        ceiling,
        gain,
        needed,
        plateau,
        falls,
        points: count,
    })
}

/// The part of the way to the limit that a climb of this length must have used.
fn required_part(span_s: f64, warm_up_s: f64) -> f64 {
    let lengths = (span_s / warm_up_s.max(SHORTEST_WARM_UP_S)).max(1.0);
    1.0 / (1.0 + (TRUST * lengths.powf(TRUST_POWER)).min(TRUST_MOST))
}

/// Growth in the warm-up is expected; only a worker that would not live through it is judged then,
/// on a quarter of the way.
fn out_of_warm_up(frame: &Frame, gain: f64, headroom: f64, left: f64, slope: f64) -> bool {
    frame.age_s >= frame.warm_up_s || (gain >= headroom / 4.0 && left / slope < frame.warm_up_s)
}

fn kind(trend: &Trend) -> Kind {
    if trend.late > 1.5 * trend.early.max(0.0) + 2.0 * trend.half_error {
        Kind::Accelerating
    } else {
        Kind::Steady
    }
}
