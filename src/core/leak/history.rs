//! A worker's past in bounded memory: the same series at ten time scales.
//!
//! Each scale cuts time into windows of one width and keeps the last [`WINDOWS`] of them; the widths
//! are 0.5 s × 4^n, so the rings reach from 12 s to five weeks back in a few KiB. A window keeps what
//! a leak cannot hide from: its *floor* (the lowest level, which a garbage collection or the end of a
//! request returns to), and the deepest fall inside it, which tells a sawtooth from a climb.
//!
//! Every scale is fed with every sample (no cascade of merges), so gaps, any sampling step and
//! changes of the step need no special case: a window without a sample is empty.

/// Windows kept at each scale.
pub(super) const WINDOWS: usize = 24;
/// Scales.
pub(super) const SCALES: usize = 10;
/// Width of the finest windows. A leak of 20 MiB/s has to be seen within seconds.
const FINEST_S: f64 = 0.5;
/// From one scale to the next. Each scale is judged over half and over all of its windows, so the
/// spans judged grow by two.
const FACTOR: f64 = 4.0;

/// What is kept of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Lowest level, NaN in an empty window. `f32` is exact to 16 GiB in KiB, and to 6e-8 beyond.
    pub floor: f32,
    /// Highest level.
    pub ceiling: f32,
    /// Deepest fall from an earlier level of the window.
    pub fall: f32,
    /// When the floor was seen, after the beginning of the window.
    pub floor_at_s: f32,
    /// Work done in the intervals that end in this window.
    work: f32,
    /// How long those intervals were; zero where no work was known.
    work_s: f32,
}

impl Window {
    const EMPTY: Window = Window {
        floor: f32::NAN,
        ceiling: f32::NAN,
        fall: 0.0,
        floor_at_s: 0.0,
        work: 0.0,
        work_s: 0.0,
    };

    pub fn is_empty(&self) -> bool {
        self.floor.is_nan()
    }

    /// Work a second, where known.
    pub fn work_rate(&self) -> Option<f64> {
        (self.work_s > 0.0).then(|| f64::from(self.work) / f64::from(self.work_s))
    }

    fn add(&mut self, reading: &Reading, offset_s: f64) {
        let level = reading.level as f32;
        if self.is_empty() {
            (self.floor, self.ceiling, self.floor_at_s) = (level, level, offset_s as f32);
        }
        if level < self.floor {
            (self.floor, self.floor_at_s) = (level, offset_s as f32);
        }
        self.ceiling = self.ceiling.max(level);
        self.fall = self.fall.max(self.ceiling - level);
        if let Some((work, seconds)) = reading.work {
            self.work += work as f32;
            self.work_s += seconds as f32;
        }
    }
}

/// One value of the series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Seconds of the worker's life.
    pub age_s: f64,
    /// KiB for memory, a count for the others.
    pub level: f64,
    /// Work since the reading before, and over how many seconds, where known.
    pub work: Option<(f64, f64)>,
}

/// The last windows of one width.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    width_s: f64,
    /// Number of the newest window, counted from age zero; it is still open.
    newest: i64,
    ring: [Window; WINDOWS],
}

impl Scale {
    fn new(width_s: f64) -> Self {
        Self { width_s, newest: i64::MIN, ring: [Window::EMPTY; WINDOWS] }
    }

    /// True when this closed a window.
    fn add(&mut self, reading: &Reading) -> bool {
        let number = (reading.age_s / self.width_s).floor() as i64;
        let closed = number > self.newest && self.newest != i64::MIN;
        if number > self.newest {
            // After a gap longer than the ring, nothing of it is left to clear twice.
            let first = self.newest.saturating_add(1).max(number - WINDOWS as i64 + 1);
            for stale in first..=number {
                self.ring[Self::place(stale)] = Window::EMPTY;
            }
            self.newest = number;
        }
        let offset_s = reading.age_s - number as f64 * self.width_s;
        self.ring[Self::place(number)].add(reading, offset_s);
        closed
    }

    fn place(number: i64) -> usize {
        number.rem_euclid(WINDOWS as i64) as usize
    }

    /// Seconds that a window spans.
    pub fn width_s(&self) -> f64 {
        self.width_s
    }

    /// The floor of the newest closed window, with its age.
    pub fn newest_floor(&self) -> Option<(f64, f64)> {
        let (start_s, window) = self.closed(WINDOWS).last()?;
        Some((start_s + f64::from(window.floor_at_s), window.floor.into()))
    }

    /// The closed windows that hold samples, of the last `count`, oldest first, each with the age at
    /// its beginning.
    pub fn closed(&self, count: usize) -> impl Iterator<Item = (f64, &Window)> {
        let last = if self.newest == i64::MIN { 0 } else { self.newest };
        // The open window takes one place of the ring.
        let first = (last - count.min(WINDOWS - 1) as i64).max(0);
        (first..last)
            .map(|number| (number as f64 * self.width_s, &self.ring[Self::place(number)]))
            .filter(|(_, window)| !window.is_empty())
    }
}

/// All scales of one series.
#[derive(Clone, Debug)]
pub(super) struct History {
    scales: [Scale; SCALES],
}

impl History {
    pub fn new() -> Self {
        Self { scales: std::array::from_fn(|n| Scale::new(FINEST_S * FACTOR.powi(n as i32))) }
    }

    /// Takes a reading; ages must not go back. Bit n of the answer is set when it closed a window of
    /// scale n.
    pub fn add(&mut self, reading: &Reading) -> u32 {
        let mut closed = 0;
        for (n, scale) in self.scales.iter_mut().enumerate() {
            closed |= u32::from(scale.add(reading)) << n;
        }
        closed
    }

    /// Forgets the work, for when it begins to be counted in another unit.
    pub fn forget_work(&mut self) {
        for window in self.scales.iter_mut().flat_map(|scale| &mut scale.ring) {
            (window.work, window.work_s) = (0.0, 0.0);
        }
    }

    pub fn scale(&self, n: usize) -> &Scale {
        &self.scales[n.min(SCALES - 1)]
    }
}
