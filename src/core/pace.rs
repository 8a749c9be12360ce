//! How often to look: the sampling interval follows the head-room.

use std::time::Duration;

/// What one process can make resident at most, in KiB a second: a page fault with zeroing costs about
/// 0.5 µs for 4 KiB pages, so one thread gets to some 4 GiB/s with huge pages, 2 GiB/s as a rule.
const FASTEST_KIB_S: u64 = 2 * 1024 * 1024;

/// The shortest interval; a sample of a small tree costs some tens of microseconds.
const SHORTEST: Duration = Duration::from_millis(50);

/// When to sample a worker next: half the time in which the fastest allocator could use up its
/// head-room to the hard limit, within bounds. Without a hard limit nothing is urgent.
pub fn sample_interval(
    usual: Duration,
    growth_kib: Option<u64>,
    hard_limit_kib: Option<u64>,
) -> Duration {
    let (Some(growth_kib), Some(limit_kib)) = (growth_kib, hard_limit_kib) else { return usual };
    let headroom_kib = limit_kib.saturating_sub(growth_kib);
    let half_way = Duration::from_millis(headroom_kib * 500 / FASTEST_KIB_S);
    half_way.clamp(SHORTEST.min(usual), usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_head_room_is_looked_at_more_often() {
        let usual = Duration::from_secs(1);
        let of =
            |growth_mib: u64| sample_interval(usual, Some(growth_mib * 1024), Some(2048 * 1024));
        assert_eq!(sample_interval(usual, Some(1), None), usual);
        assert_eq!(sample_interval(usual, None, Some(1)), usual);
        assert_eq!(of(1024), Duration::from_millis(250));
        assert_eq!(of(2040), SHORTEST);
        assert_eq!(of(5000), SHORTEST);
        assert!(of(100) > of(1000));
    }
}
