//! Leak detection.
