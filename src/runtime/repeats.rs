//! Which readings of a worker are stored: where several say the same, the first and the last of them, and
//! one in ten seconds between. The trace keeps its edges, and what is idle costs next to nothing.

use crate::core::Sample;
use std::time::{Duration, Instant};

/// The same again is stored after so long.
const PAUSE: Duration = Duration::from_secs(10);

/// What was read of one worker last.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    stored: Option<(Instant, Sample)>,
    /// When the same was read last, and not stored.
    again: Option<Instant>,
}

impl Repeats {
    /// The readings to be stored now that this one is there, oldest first.
    pub fn next(&mut self, now: Instant, sample: Sample) -> [Option<(Instant, Sample)>; 2] {
        let same = self.stored.filter(|(_, stored)| *stored == sample);
        if same.is_some_and(|(at, _)| now - at < PAUSE) {
            self.again = Some(now);
            return [None, None];
        }
        let before = self.stored.replace((now, sample)).filter(|_| same.is_none());
        let last = self.again.take().zip(before).map(|(at, (_, sample))| (at, sample));
        [last, Some((now, sample))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_the_same_keeps_its_edges() {
        let begin = Instant::now();
        let mut repeats = Repeats::default();
        let mut stored = Vec::new();
        let read = |second: u64| if second < 24 { 7 } else { second };
        for second in 0..28 {
            let sample = Sample { rss_kib: Some(read(second)), ..Sample::default() };
            let kept = repeats.next(begin + Duration::from_secs(second), sample);
            stored.extend(kept.into_iter().flatten());
        }
        let stored: Vec<_> =
            stored.iter().map(|(at, sample)| ((*at - begin).as_secs(), sample.rss_kib)).collect();
        let expected = [0, 10, 20, 23, 24, 25, 26, 27].map(|second| (second, Some(read(second))));
        assert_eq!(stored, expected);
    }
}
