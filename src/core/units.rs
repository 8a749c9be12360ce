//! Sizes and durations as people write them; a number without a unit is refused.
