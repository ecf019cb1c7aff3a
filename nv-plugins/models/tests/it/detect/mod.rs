//! The kind `detect`.

mod families;
mod golden;
mod reference;
mod refusals;
mod results;

use nv_models::{Detect, DetectConfig};
use nv_plugin_sdk::StageError;

use crate::World;

impl World {
    fn detect(&self, config: DetectConfig) -> Result<Detect, StageError> {
        self.start(config)
    }
}

fn config() -> DetectConfig {
    DetectConfig::new("m.onnx")
}
