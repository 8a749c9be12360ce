//! The pairs of a run of points, and the medians of what they say.

use super::history::WINDOWS;

const PAIRS: usize = WINDOWS * (WINDOWS - 1) / 2;

/// All pairs i < j below n.
pub(super) fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..n).flat_map(|j| (0..j).map(move |i| (i, j)))
}

/// A bounded bag of numbers with its median.
pub(super) struct Bag {
    /// As keys that order like the numbers and are compared faster; see [`key`].
    keys: [i32; PAIRS],
    pub len: usize,
}

impl Bag {
    pub fn new() -> Self {
        Self { keys: [0; PAIRS], len: 0 }
    }

    pub fn from(n: usize, value: impl Fn(usize) -> f64) -> Self {
        let mut bag = Self::new();
        (0..n).for_each(|k| bag.push(value(k)));
        bag
    }

    pub fn push(&mut self, value: f64) {
        self.keys[self.len] = key((value as f32).to_bits() as i32);
        self.len += 1;
    }

    /// The value of that rank, in any order before and after.
    pub fn rank(&mut self, rank: usize) -> f64 {
        let (_, found, _) = self.keys[..self.len].select_nth_unstable(rank);
        number(*found)
    }

    pub fn median(&mut self) -> Option<f64> {
        let keys = &mut self.keys[..self.len];
        if keys.is_empty() {
            return None;
        }
        let (middle, even) = (keys.len() / 2, keys.len().is_multiple_of(2));
        let (below, upper, _) = keys.select_nth_unstable(middle);
        let upper = number(*upper);
        // Of an even number the other middle one is the highest below.
        let lower = below.iter().max().filter(|_| even);
        Some(lower.map_or(upper, |lower| (number(*lower) + upper) / 2.0))
    }
}

/// The bits of a float as a number of the same order (as [`f32::total_cmp`] has it), and back.
fn key(bits: i32) -> i32 {
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

fn number(of: i32) -> f64 {
    f32::from_bits(key(of) as u32).into()
}
