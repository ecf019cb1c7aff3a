//! A world to test against: scenes whose every pixel and box is known beforehand.
//!
//! Behind the feature `testing`; the `synthetic:` source, the plugin SDK's test kit and the tests share it.

mod barcode;
mod scene;

pub use barcode::read_frame_number;
pub use scene::{SceneConfig, SceneError, SyntheticScene, TRUTH_SCHEMA, TruthObject};
