//! One look at one span of the past: is this a leak, and if not, what is it?

use super::history::{History, WINDOWS};
use super::season::DAY_S;
use super::trend::{LongRun, Point, Trend};
use super::work::deepest_fall;
use super::{Kind, Quantity, Shape};

/// Points that a look needs: fewer windows draw a line through anything.
const ENOUGH: usize = 6;
/// CPU time that grows with the memory does not excuse a climb of less than this length whose trend by the
/// clock is so many standard errors above zero: traffic is not that even, and what grows for longer may be
/// the morning.
const CPU_MOST_S: f64 = 1800.0;
const CLOCK_DRIFT: f64 = 6.0;
/// Points that are enough to see a climb slow down on a wider scale.
const ENOUGH_TO_DOUBT: usize = 8;
/// As many points, and so many of all, have to be of after the warm-up for a look without it.
const ENOUGH_GROWN: usize = 8;
const GROWN_PART: f64 = 0.6;
/// A climb as long as the warm-up must have used this part of the way to the limit. Heaps that are
/// touched for the first time, cache fills and the first climb of a sawtooth begin as straight as a
/// leak; what tells them apart is that they end, and most end soon.
const PART: f64 = 0.42;
/// The part falls with this power of the length over the warm-up: with a warm-up of 60 s it is 24%
/// for 5 minutes, 16% for a quarter of an hour, 10% for an hour,
const PART_POWER: f64 = -0.35;
/// and rises with this one for climbs shorter than the warm-up: what is over in seconds is a step.
const PART_POWER_SHORT: f64 = -0.1;
/// It is never less than this, however long the climb: caches may take weeks to fill.
const PART_LEAST: f64 = 0.1;
/// Where the trend is beyond chance, time takes the place of the part: from so many warm-ups on it falls
/// with this power. What ends has mostly ended by then, or bends; the size says little about it.
const SURE_LENGTHS: f64 = 4.0;
const SURE_POWER: f64 = -2.0;
/// Standard errors of the trend that are beyond chance, for a walk without one as well.
const SURE_DRIFT: f64 = 3.0;
/// The part of the pairs that work must not be able to explain for that.
const SURE_COMPARABLE: f64 = 0.6;
/// A climb that has so long to the limit can wait, and must have used this part of the way: there is no
/// danger yet, and large caches and lazy heaps are straight in their first tenths. With less time left the
/// part falls with this power of it, and in inverse proportion to the time that it has been watched if that
/// is longer than this.
const PATIENCE_S: f64 = 5.0 * 3600.0;
const PATIENT_PART: f64 = 0.15;
const PATIENT_POWER: i32 = 3;
const PATIENT_SPAN_S: f64 = 4.0 * 3600.0;
/// Where no work is told, what climbs for so long and less than a day may be the day's own rhythm, and
/// must have used this part.
const MORNING_S: f64 = 3.0 * 3600.0;
const MORNING_PART: f64 = 0.2;
/// Where whole days were compared there is no rhythm left to wait for, and this part is enough; no less,
/// because what comes back at the same hour was fitted to two or three days.
const SEASON_PART: f64 = 0.05;
/// In a long life there are many short climbs that end (a reload, an import, a batch, the morning): one that
/// is short for the age must have used so much of the way, unless the limit is less than so many warm-ups
/// away, and so much of it must be where the series has never been.
const BRIEF_LEAST: f64 = 0.5;
const BRIEF_WITHIN: f64 = 4.0;
const RECORD_PART: f64 = 0.5;
/// A runtime that compiles itself touches its heap lazily, as straight as a leak and up to half of the way.
/// Under load that is over within so many warm-ups; a climb of less must have used more of the way by this
/// factor, and it always takes so many times as long to be sure.
const LAZY_FACTOR: f64 = 4.0;
const LAZY_LENGTHS: f64 = 1.5;
const LAZY_WARM_UPS: f64 = 10.0;
/// Where no work is told it may be one, and for so many warm-ups this factor is taken.
const UNTOLD_FACTOR: f64 = 1.2;
const UNTOLD_LENGTHS: f64 = 8.0;
/// What fills in a straight line cannot be told from a leak until it is full, which most caches are within
/// some minutes. Up to an age of so many warm-ups a worker is judged only if there is danger: it has used this
/// part of the way, and would be at the limit within so many warm-ups more.
const YOUNG: [(f64, f64, f64); 3] = [(1.0, 0.7, 1.0), (3.0, 0.8, 4.0), (6.0, 0.0, 4.0)];
/// Shortest warm-up for that measure.
const SHORTEST_WARM_UP_S: f64 = 3.0;
/// Lower end of the slope's interval, as a part of the slope.
const SURE_PART: f64 = 0.4;
/// A climb whose second half brings less than this part of the gain has ended.
const LATE_PART: f64 = 0.25;
/// Of the pairs, this many must not be explained away by work.
const COMPARABLE: f64 = 0.4;
/// A series whose floors have fallen by this depth before must climb so much deeper to be news.
const NEWS: f64 = 1.5;
/// Windows that hold a whole cycle (a fall of at least this part of the deepest) show true floors; shorter ones
/// than those of this scale (32 s) do not hold many.
const CYCLE_PART: f64 = 0.5;
const CYCLE_SCALE: usize = 3;
/// A rise of less than this part of what is needed is not worth a closer look.
const TRIFLE_PART: f64 = 0.25;
/// Falls that make a sawtooth, and the least depth (half of it, of the head-room) that is none of noise.
const SOME_FALLS: usize = 3;
const NOISE_PART: f64 = 0.005;
/// The part of a gain required that makes a suspect.
const SUSPECT_PART: f64 = 0.6;
/// A climb that slows down is none to worry about if it ends before this part of what is left to the
/// limit; one that would end closer to it is a leak to all intents.
const LEFT_PART: f64 = 0.7;
/// Climbs of hours can wait for a clearer picture.
const LEFT_PART_PATIENT: f64 = 0.85;
const PATIENT_FROM_S: f64 = 3600.0;
/// A climb that slows down has flattened when less than this part of it is still to come.
const FLATTENED_PART: f64 = 0.25;
/// Growth of less than this part of the slope is none beside it.
const CLIMB_PART: f64 = 0.25;
/// The second half of an accelerating climb is steeper by this factor.
const BEND: f64 = 1.5;
/// A climb that is this part of itself while there is little work is bound to the load.
const IDLE_PART: f64 = 0.4;
/// A climb that stands still in this part of its windows goes in steps.
const STILL_PART: f64 = 0.5;
/// Standard errors that are taken against a climb of hours when it is asked whether it slows down: it can
/// wait for a clearer picture.
const DOUBT: f64 = 0.7;
/// A second half that is slower by less than this is no slower: traffic is not that even.
const SLACK: f64 = 0.95;

/// What a look is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// The limit of the series, where there is one.
    pub limit: Option<f64>,
    /// What is judged.
    pub quantity: Quantity,
    /// Work rate below which work explains nothing.
    pub idle_work: f64,
    /// Age up to which growth is expected.
    pub warm_up_s: f64,
    /// The worker's age.
    pub age_s: f64,
    /// The lowest level that was ever seen.
    pub lowest: f64,
    /// Whether this is a runtime that compiles itself.
    pub lazy: bool,
    /// Whether the work is told in CPU time, which a leak may cost as well.
    pub work_is_cpu: bool,
    /// Whether the work is passed over.
    pub by_clock: bool,
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
    pub span_s: f64,
    /// Age at which the growth began: at the first point, or earlier.
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
    /// It is quiet for now only: it rises, and neither slowness nor slowing down has ended it yet.
    pub still_rises: bool,
    /// Windows with a deep fall.
    pub falls: usize,
    pub points: usize,
}

/// Looks; none when there are too few samples.
pub(super) fn look(history: &History, span: Span, frame: &Frame) -> Option<Finding> {
    let finding = look_by(history, span, frame)?;
    // What is kept may be walked through for each request: CPU time that grows with the memory may be
    // the leak's own.
    if finding.outcome == Outcome::Quiet(Shape::FollowsWork)
        && frame.work_is_cpu
        && finding.span_s < CPU_MOST_S
        && finding.trend.work_ratio.is_some_and(|ratio| ratio > 1.0)
    {
        let by_clock = look_by(history, span, &Frame { by_clock: true, ..*frame });
        let is_leak = |other: &Finding| {
            matches!(other.outcome, Outcome::Leaking(_)) && other.trend.drift >= CLOCK_DRIFT
        };
        return by_clock.filter(is_leak).or(Some(finding));
    }
    Some(finding)
}

fn look_by(history: &History, span: Span, frame: &Frame) -> Option<Finding> {
    let run = Run::of(history, span.scale, span.windows, frame);
    let points = run.points();
    if points.len() < ENOUGH {
        return None;
    }
    let (first, last) = (points[0], points[points.len() - 1]);
    let headroom = match frame.limit {
        // Near the limit every stir is a large part of what is left.
        Some(limit) => (limit - first.y).max((limit - frame.lowest) / 4.0),
        None => frame.quantity.matters().max(2.0 * first.y),
    };
    let span_s = last.t - first.t;
    let mut needed = headroom * required_part(span_s, frame.warm_up_s);
    let needed_if_sure = headroom * required_part_if_sure(span_s, frame);
    let rise = last.y - first.y;
    let mut finding = Finding {
        outcome: Outcome::Quiet(Shape::Flat),
        trend: Trend::default(),
        span_s: last.t - first.t,
        since_s: first.t,
        floor: last.y,
        ceiling: last.ceiling,
        gain: rise,
        needed,
        plateau: None,
        still_rises: false,
        falls: run.falls(headroom),
        points: points.len(),
    };
    let (low, high) = points
        .iter()
        .fold((last.y, last.y), |(low, high), point| (low.min(point.y), high.max(point.y)));
    if high - low < needed.min(needed_if_sure) * TRIFLE_PART {
        if finding.falls >= SOME_FALLS {
            finding.outcome = Outcome::Quiet(Shape::Sawtooth);
        }
        return Some(finding);
    }
    let trend = Trend::of(points, frame.idle_work)?;
    let gain = (0.5 * (trend.early + trend.late) * trend.span_s).min(trend.rise);
    let left = frame.limit.map_or(headroom - gain, |limit| limit - last.y).max(0.0);
    let patient = span_s > PATIENT_FROM_S;
    let far = if patient { LEFT_PART_PATIENT } else { LEFT_PART } * left;
    // What may be a part of a day has to be straight beyond doubt.
    let part_of_day = patient && span_s < DAY_S;
    let doubt = if part_of_day { DOUBT } else { 0.0 };
    let slack = slack(span_s);
    let mut remaining = trend.remaining(doubt, slack);
    if remaining < far
        && let Some(grown) = Trend::of(grown(points, frame), frame.idle_work)
        && grown.low >= SURE_PART * grown.slope.max(0.0)
        && !grown.stairs
    {
        remaining = remaining.max(grown.remaining(doubt, slack));
    }
    if trend.drift >= SURE_DRIFT && trend.comparable >= SURE_COMPARABLE && trend.season == 0.0 {
        needed = needed.min(needed_if_sure);
    } else if trend.season > 0.0 {
        needed = needed.min(SEASON_PART * headroom);
    }
    let left_s = left / trend.slope.max(0.0);
    let is_brief = span_s < frame.quantity.brief_part() * frame.age_s;
    let can_wait = is_brief && left_s > BRIEF_WITHIN * frame.warm_up_s;
    let brief = if can_wait { BRIEF_LEAST } else { 0.0 };
    needed = needed.max(headroom * brief.max(patient_part(span_s, left_s)));
    if !points.iter().any(|point| point.work.is_some()) {
        if span_s < UNTOLD_LENGTHS * frame.warm_up_s {
            needed *= UNTOLD_FACTOR;
        } else if (MORNING_S..DAY_S).contains(&span_s) {
            needed = needed.max(MORNING_PART * headroom);
        }
    }
    if frame.lazy && span_s < LAZY_WARM_UPS * frame.warm_up_s && finding.falls < SOME_FALLS {
        needed *= LAZY_FACTOR;
    }
    (finding.trend, finding.gain, finding.needed) = (trend, gain, needed);
    finding.outcome = if trend.high < 0.0 {
        Outcome::Quiet(Shape::Falling)
    } else if trend.slope <= 0.0 || trend.low < SURE_PART * trend.slope {
        Outcome::Quiet(if finding.falls >= SOME_FALLS { Shape::Sawtooth } else { Shape::Flat })
    } else if trend.comparable < COMPARABLE {
        Outcome::Quiet(Shape::FollowsWork)
    } else if trend.stairs || trend.late * trend.span_s / 2.0 < LATE_PART * gain {
        Outcome::Quiet(Shape::Settled)
    } else if remaining < far {
        finding.plateau = Some(last.y + remaining);
        finding.still_rises = remaining > FLATTENED_PART * gain;
        Outcome::Quiet(Shape::Saturating)
    } else if gain < SUSPECT_PART * needed {
        finding.still_rises = true;
        Outcome::Quiet(Shape::Slow)
    } else if let Some(end) = end_in_the_long_run(history, span, first.t, far, slack, frame) {
        match end {
            End::Work => Outcome::Quiet(Shape::FollowsWork),
            End::Plateau(more) => {
                finding.plateau = Some(last.y + more);
                finding.still_rises = more > FLATTENED_PART * gain;
                Outcome::Quiet(Shape::Saturating)
            }
        }
    } else if gain < NEWS * (news(history, span, &run, frame) - trend.season)
        || is_brief && has_been_at(history, span.scale, last.y - RECORD_PART * gain, first.t)
    {
        Outcome::Quiet(Shape::Sawtooth)
    } else if gain >= needed && may_be_told(frame, gain / headroom, left / trend.late) {
        let (since_s, late) = onset(history, span, points, trend.slope, frame);
        finding.since_s = since_s;
        Outcome::Leaking(kind(&trend, late))
    } else {
        Outcome::Rising
    };
    Some(finding)
}

/// What ends a climb in the long run.
enum End {
    /// It is the work that grows: between near points its noise hides that.
    Work,
    /// It slows down, with so much left to gain.
    Plateau(f64),
}

/// The late part of a climb that slows down is straight in itself; the wider scales, which have seen
/// where it began, tell. Only what is less than `far` is an end.
fn end_in_the_long_run(
    history: &History,
    span: Span,
    since_s: f64,
    far: f64,
    slack: f64,
    frame: &Frame,
) -> Option<End> {
    [0, 1, 2].into_iter().find_map(|coarser| {
        let wider = Run::of(history, span.scale + coarser, WINDOWS, frame);
        let begins_before = wider.points().first()?.t < since_s;
        if wider.len < ENOUGH_TO_DOUBT || !begins_before {
            return None;
        }
        let long = LongRun::of(wider.points(), frame.idle_work, slack)?;
        if long.comparable < COMPARABLE {
            return Some(End::Work);
        }
        (long.remaining < far).then_some(End::Plateau(long.remaining))
    })
}

/// How much slower a second half may be that is no slower.
fn slack(span_s: f64) -> f64 {
    if span_s > PATIENT_FROM_S { 1.0 } else { SLACK }
}

/// The windows of a span as points.
struct Run {
    points: [Point; WINDOWS],
    falls: [f64; WINDOWS],
    len: usize,
}

impl Run {
    fn of(history: &History, scale: usize, windows: usize, frame: &Frame) -> Self {
        let empty = Point { t: 0.0, y: 0.0, ceiling: 0.0, work: None };
        let mut run = Run { points: [empty; WINDOWS], falls: [0.0; WINDOWS], len: 0 };
        let scale = history.scale(scale);
        scale.closed(windows).for_each(|(start_s, window)| {
            run.points[run.len] = Point {
                t: start_s + scale.floor_at_s(window),
                y: window.floor.into(),
                ceiling: window.ceiling.into(),
                work: window.work_rate().filter(|_| !frame.by_clock),
            };
            run.falls[run.len] = window.fall().into();
            run.len += 1;
        });
        run
    }

    fn points(&self) -> &[Point] {
        &self.points[..self.len]
    }

    fn deepest(&self) -> f64 {
        self.falls[..self.len].iter().copied().fold(0.0, f64::max)
    }

    /// Windows with a fall of a size with the deepest, if that is more than noise.
    fn falls(&self, headroom: f64) -> usize {
        let deep = self.deepest() / 2.0;
        if deep < NOISE_PART * headroom {
            return 0;
        }
        self.falls[..self.len].iter().filter(|fall| **fall >= deep).count()
    }
}

/// How deep the series has fallen in the recent past (up to sixteen times the span) by what work does
/// not explain: a climb back from there is no news. Where the windows hold whole cycles, so that their floors
/// are true, a cycle's depth; zero where they hold many.
fn news(history: &History, span: Span, run: &Run, frame: &Frame) -> f64 {
    let before = [1, 2].map(|coarser| {
        let wider = Run::of(history, span.scale + coarser, WINDOWS, frame);
        deepest_fall(wider.points(), frame.idle_work)
    });
    let deepest = before.into_iter().fold(0.0, f64::max);
    let mut falls = run.falls;
    let falls = &mut falls[..run.len];
    falls.sort_unstable_by(f64::total_cmp);
    match falls[run.len / 2] {
        fall if fall < CYCLE_PART * deepest => deepest,
        fall if span.scale <= CYCLE_SCALE => fall,
        _ => 0.0,
    }
}

/// Whether the series was above that level at an age before `since_s`, as far as the scales from `scale` on know.
fn has_been_at(history: &History, scale: usize, level: f64, since_s: f64) -> bool {
    (scale..history.scales()).map(|n| history.scale(n)).any(|scale| {
        let before = |start_s: f64| start_s + scale.width_s() <= since_s;
        let mut past = scale.closed(WINDOWS).take_while(|(start_s, _)| before(*start_s));
        past.any(|(_, window)| f64::from(window.ceiling) > level)
    })
}

/// The part of the way to the limit that a climb of this length must have used.
fn required_part(span_s: f64, warm_up_s: f64) -> f64 {
    let lengths = span_s / warm_up_s.max(SHORTEST_WARM_UP_S);
    let power = if lengths < 1.0 { PART_POWER_SHORT } else { PART_POWER };
    (PART * lengths.powf(power)).max(PART_LEAST)
}

/// The same where the trend is beyond chance.
fn required_part_if_sure(span_s: f64, frame: &Frame) -> f64 {
    let span_s = if frame.lazy { span_s / LAZY_LENGTHS } else { span_s };
    let sure_s = SURE_LENGTHS * frame.warm_up_s.max(SHORTEST_WARM_UP_S);
    let part = required_part(span_s.min(sure_s), frame.warm_up_s);
    (part * (span_s / sure_s).max(1.0).powf(SURE_POWER)).max(frame.quantity.sure_part())
}

/// The part that a climb must have used which was watched for `span_s` and has `left_s` to the limit.
fn patient_part(span_s: f64, left_s: f64) -> f64 {
    let time = (left_s / PATIENCE_S).min(1.0).powi(PATIENT_POWER);
    PATIENT_PART * time * (PATIENT_SPAN_S / span_s).min(1.0)
}

/// The points of after the warm-up, where they are most: a boot is steep, and what comes after it is
/// slower and need not slow down.
fn grown<'a>(points: &'a [Point], frame: &Frame) -> &'a [Point] {
    let young = points.partition_point(|point| point.t < frame.warm_up_s);
    let grown = &points[young..];
    let enough = ENOUGH_GROWN.max((GROWN_PART * points.len() as f64) as usize);
    if young > 0 && grown.len() >= enough { grown } else { &[] }
}

/// Whether the worker is old enough to be judged by a climb, or in danger: `part` of the way is used, the rest
/// takes `left_s`.
fn may_be_told(frame: &Frame, part: f64, left_s: f64) -> bool {
    let warm_up_s = frame.warm_up_s.max(SHORTEST_WARM_UP_S);
    let young = YOUNG.iter().find(|(lengths, ..)| frame.age_s < lengths * warm_up_s);
    young.is_none_or(|(_, used, within)| part >= *used && left_s < within * warm_up_s)
}

/// The last point up to which next to nothing was gained: the first, of a climb that fills its span.
fn corner(points: &[Point], slope: f64) -> Point {
    let first = points[0];
    let gained = |point: &Point| point.y - first.y > CLIMB_PART * slope * (point.t - first.t);
    points.iter().rev().find(|point| !gained(point)).copied().unwrap_or(first)
}

/// Age at which the climb began: back along the wider scales, as long as they climb as well, or at a corner
/// of the run; and whether a time without growth went before.
fn onset(
    history: &History,
    span: Span,
    points: &[Point],
    slope: f64,
    frame: &Frame,
) -> (f64, bool) {
    let first = points[0];
    let (mut since, mut flat_before) = (first, false);
    for coarser in [0, 1, 2] {
        let wider = Run::of(history, span.scale + coarser, WINDOWS, frame);
        let end_s = since.t;
        let earlier = wider.points().iter().rev().skip_while(|point| point.t >= end_s);
        let mut climbs = true;
        for point in earlier {
            let climbed = (since.y - point.y) / (since.t - point.t);
            climbs &= climbed > CLIMB_PART * slope;
            if climbs {
                since = *point;
            } else {
                // From the onset back as far as the climb is long, or further.
                let apart = first.t.max(since.t) - point.t;
                flat_before |=
                    climbed.abs() < CLIMB_PART * slope && apart >= span_s(history, span) / 2.0;
            }
        }
    }
    let since = if since.t < first.t { since } else { corner(points, slope) };
    (since.t, flat_before)
}

fn span_s(history: &History, span: Span) -> f64 {
    span.windows as f64 * history.scale(span.scale).width_s()
}

fn kind(trend: &Trend, late: bool) -> Kind {
    let bends = trend.late > BEND * trend.early.max(0.0) + 2.0 * trend.half_error;
    // After a flat time a bend is the corner itself, unless the second half bends as well.
    if trend.idle_growth.is_some_and(|part| part < IDLE_PART) {
        Kind::LoadBound
    } else if bends && (!late || trend.bends_on) {
        Kind::Accelerating
    } else if late {
        Kind::Late
    } else if trend.still >= STILL_PART {
        Kind::Stepwise
    } else {
        Kind::Steady
    }
}
