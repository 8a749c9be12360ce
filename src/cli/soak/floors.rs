//! Whether something still grew at the end of a soak, however little the detector makes of it.

/// From the third quarter to the last more than this part is growth.
const PART: u64 = 20;
/// What rises from quarter to quarter does so by at least this part of what it must rise by at once.
const STEADY: u64 = 8;

/// The least of a quantity in each quarter of the time.
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    quarters: [Option<u64>; 4],
    /// Less than this is none, in the unit of the quantity.
    least: u64,
}

impl Floors {
    /// Of a quantity whose growth by less than `least` is none.
    pub fn new(least: u64) -> Self {
        Self { quarters: [None; 4], least }
    }

    /// Notes a level, when this part (0 to 1) of the time was over.
    pub fn note(&mut self, part: f64, level: u64) {
        if let Some(floor) = self.quarters.get_mut((4.0 * part) as usize) {
            *floor = Some(floor.unwrap_or(level).min(level));
        }
    }

    /// The floors of the last two quarters, if the last is clearly above the one before, or a little in each of
    /// the quarters after the first.
    pub fn still_grow(&self) -> Option<(u64, u64)> {
        let [_, second, third, last] = self.quarters;
        let (second, third, last) = (second?, third?, last?);
        let least = self.least;
        let at_once = last > third + (third / PART).max(least);
        let steadily = third >= second + least / STEADY && last >= third + least / STEADY;
        (at_once || steadily && last >= second + least / 2).then_some((third, last))
    }
}
