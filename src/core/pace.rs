//! How often to look where no kernel holds the limit: the interval follows the head-room.

use std::time::Duration;

/// What one process is assumed to make resident at most, in KiB a second. Touching fresh memory with
/// one processor costs a page fault and the zeroing for each 4 KiB page, 1 to 2 GiB/s on servers of
/// this decade; huge pages are faster (`stanch doctor` measures the host's own rate).
pub const FASTEST_KIB_S: u64 = 4 * 1024 * 1024;

/// The shortest interval. What the fastest process takes in it is the overshoot, with the time that the
/// kill takes on top.
pub const SHORTEST: Duration = Duration::from_millis(5);

/// When to look at a worker next: half the time in which the fastest allocator could use up its
/// head-room to the hard limit, within bounds. Without a hard limit nothing is urgent.
pub fn look_interval(
    usual: Duration,
    growth_kib: Option<u64>,
    hard_limit_kib: Option<u64>,
) -> Duration {
    let (Some(growth_kib), Some(limit_kib)) = (growth_kib, hard_limit_kib) else { return usual };
    let headroom_kib = limit_kib.saturating_sub(growth_kib);
    let half_way = Duration::from_micros(headroom_kib * 500_000 / FASTEST_KIB_S);
    half_way.clamp(SHORTEST.min(usual), usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_head_room_is_looked_at_more_often() {
        let usual = Duration::from_secs(1);
        let of = |growth_mib: u64| look_interval(usual, Some(growth_mib * 1024), Some(2048 * 1024));
        assert_eq!(look_interval(usual, Some(1), None), usual);
        assert_eq!(look_interval(usual, None, Some(1)), usual);
        assert_eq!(of(1024), Duration::from_millis(125));
        assert_eq!(of(2040), SHORTEST);
        assert_eq!(of(5000), SHORTEST);
        assert!(of(100) > of(1000));
    }

    /// However fast it is, up to the assumption, and wherever it begins: it is seen before it is over
    /// the limit by more than what it takes in the shortest interval.
    #[test]
    fn the_overshoot_is_bounded() {
        let (usual, limit_kib) = (Duration::from_secs(1), 256 * 1024);
        for begin_kib in (0..limit_kib).step_by(997) {
            for rate_kib_s in [FASTEST_KIB_S, FASTEST_KIB_S / 3, 1000] {
                let mut growth_kib = begin_kib as f64;
                while growth_kib <= limit_kib as f64 {
                    let next = look_interval(usual, Some(growth_kib as u64), Some(limit_kib));
                    growth_kib += rate_kib_s as f64 * next.as_secs_f64();
                }
                let bound_kib = rate_kib_s as f64 * SHORTEST.as_secs_f64();
                assert!(growth_kib <= limit_kib as f64 + bound_kib, "{begin_kib} {rate_kib_s}");
            }
        }
    }
}
