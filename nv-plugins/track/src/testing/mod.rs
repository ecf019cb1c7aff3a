//! Measures trackers against ground truth.

pub mod mot;
