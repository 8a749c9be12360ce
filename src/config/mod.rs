//! The configuration: what was typed, then what is meant.
