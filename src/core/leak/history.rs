//! A worker's past in bounded memory: the same series at nine time scales.
//!
//! Each scale cuts time into windows of one width and keeps the last of them. For memory those are 24
//! windows of 0.5 s × 4^n, so the rings reach from 12 s to nine days back in 5 KiB; for counts, which
//! have less to tell, 7 of 12 s × 7^n (84 s to 69 minutes) in a fifth of that. A window keeps what
//! a leak cannot hide from: its *floor* (the lowest level, which a garbage collection or the end of a
//! request returns to), and the deepest fall inside it, which tells a sawtooth from a climb.
//!
//! Every scale is fed with every sample (no cascade of merges), so gaps, any sampling step and
//! changes of the step need no special case: a window without a sample is empty.

/// The most windows that are kept at a scale.
pub(super) const WINDOWS: usize = 24;

/// How the past of a quantity is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub scales: usize,
    /// Windows at each scale, at most [`WINDOWS`].
    pub windows: usize,
    finest_s: f64,
    /// From one scale to the next.
    factor: f64,
}

impl Grid {
    /// A leak of 20 MiB/s has to be seen within seconds. Each scale is judged over half and over all
    /// of its windows, so the spans judged grow by two.
    pub const MEMORY: Grid = Grid { scales: 9, windows: WINDOWS, finest_s: 0.5, factor: 4.0 };
    pub const COUNT: Grid = Grid { scales: 3, windows: 7, finest_s: 12.0, factor: 7.0 };
}

/// What is kept of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Lowest level, NaN in an empty window. `f32` is exact to 16 GiB in KiB, and to 6e-8 beyond.
    pub floor: f32,
    /// Highest level.
    pub ceiling: f32,
    /// Work done in the intervals that end in this window.
    work: f32,
    /// How long those intervals were; zero where no work was known.
    work_s: f32,
    /// Deepest fall from an earlier level of the window, as a part of ceiling - floor.
    fall: u16,
    /// When the floor was seen, as a part of the window's width.
    floor_at: u16,
}

/// A part of one, in 16 bits.
fn part(of_one: f32) -> u16 {
    (of_one.clamp(0.0, 1.0) * f32::from(u16::MAX) + 0.5) as u16
}

/// What one of those bits is.
const BIT: f32 = 1.0 / u16::MAX as f32;

impl Window {
    const EMPTY: Window =
        Window { floor: f32::NAN, ceiling: f32::NAN, work: 0.0, work_s: 0.0, fall: 0, floor_at: 0 };

    pub fn is_empty(&self) -> bool {
        self.floor.is_nan()
    }

    /// Work a second, where known.
    pub fn work_rate(&self) -> Option<f64> {
        (self.work_s > 0.0).then(|| f64::from(self.work) / f64::from(self.work_s))
    }

    /// Deepest fall from an earlier level of the window.
    pub fn fall(&self) -> f32 {
        (self.ceiling - self.floor) * f32::from(self.fall) * BIT
    }

    /// `at`: where in the window, from 0 to 1.
    fn add(&mut self, reading: &Reading, at: f64) {
        let level = reading.level as f32;
        if self.is_empty() {
            (self.floor, self.ceiling, self.floor_at) = (level, level, part(at as f32));
        }
        let before = self.fall();
        let wider = level < self.floor || level > self.ceiling;
        if level < self.floor {
            (self.floor, self.floor_at) = (level, part(at as f32));
        }
        self.ceiling = self.ceiling.max(level);
        let fall = self.ceiling - level;
        if wider || fall > before {
            self.fall = part(fall.max(before) / (self.ceiling - self.floor));
        }
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
    width_s: f32,
    /// Place of the newest window in the ring.
    place: u32,
    /// Its number, counted from age zero; it is still open.
    newest: i64,
    ring: Box<[Window]>,
}

impl Scale {
    fn new(width_s: f64, windows: usize) -> Self {
        Self {
            width_s: width_s as f32,
            place: 0,
            newest: i64::MIN,
            ring: vec![Window::EMPTY; windows].into(),
        }
    }

    /// True when this closed a window.
    fn add(&mut self, reading: &Reading) -> bool {
        let place = reading.age_s / self.width_s();
        // Ages are not negative, so this is the floor.
        let number = place as i64;
        let closed = number > self.newest && self.newest != i64::MIN;
        if number > self.newest {
            // After a gap longer than the ring, nothing of it is left to clear twice.
            let stale = number.saturating_sub(self.newest).min(self.ring.len() as i64);
            for _ in 0..stale {
                self.place = (self.place + 1) % self.ring.len() as u32;
                self.ring[self.place as usize] = Window::EMPTY;
            }
            self.newest = number;
        }
        self.ring[self.place as usize].add(reading, place - number as f64);
        closed
    }

    /// Seconds that a window spans.
    pub fn width_s(&self) -> f64 {
        self.width_s.into()
    }

    /// When the floor was seen, after the beginning of the window.
    pub fn floor_at_s(&self, window: &Window) -> f64 {
        self.width_s() * f64::from(window.floor_at) * f64::from(BIT)
    }

    /// The floor of the newest closed window, with its age.
    pub fn newest_floor(&self) -> Option<(f64, f64)> {
        let (start_s, window) = self.closed(WINDOWS).last()?;
        Some((start_s + self.floor_at_s(window), window.floor.into()))
    }

    /// The closed windows that hold samples, of the last `count`, oldest first, each with the age at
    /// its beginning.
    pub fn closed(&self, count: usize) -> impl Iterator<Item = (f64, &Window)> {
        // The open window takes one place of the ring; the oldest is in the one after it.
        let (younger, older) = self.ring.split_at(self.place as usize);
        let places = self.ring.len() - 1;
        let count = count.min(places);
        let numbers = self.newest.saturating_sub(count as i64)..self.newest;
        let windows = older[1..].iter().chain(younger).skip(places - count);
        numbers
            .zip(windows)
            .filter(|(_, window)| !window.is_empty())
            .map(|(number, window)| (number as f64 * self.width_s(), window))
    }
}

/// All scales of one series.
#[derive(Clone, Debug)]
pub(super) struct History {
    scales: Box<[Scale]>,
}

impl History {
    pub fn new(grid: Grid) -> Self {
        let scale = |n| Scale::new(grid.finest_s * grid.factor.powi(n as i32), grid.windows);
        Self { scales: (0..grid.scales).map(scale).collect() }
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

    /// Scale n, or the widest.
    pub fn scale(&self, n: usize) -> &Scale {
        &self.scales[n.min(self.scales.len() - 1)]
    }

    pub fn scales(&self) -> usize {
        self.scales.len()
    }

    pub fn windows(&self) -> usize {
        self.scales[0].ring.len()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let ring = |scale: &Scale| size_of_val(scale) + size_of_val(&scale.ring[..]);
        self.scales.iter().map(ring).sum()
    }
}
