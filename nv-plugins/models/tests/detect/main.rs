//! The kind `detect` as a program that links the crate uses it: on models made for the purpose, and on real ones.

mod golden;
mod reference;
mod refusals;
mod results;

use std::path::PathBuf;
use std::sync::Arc;

use nv_models::{Detect, DetectConfig};
use nv_plugin_sdk::{
    BatchEntry, BatchProcessor, BuildContext, Frame, FrameHeader, FramePool, FromConfig, Perception, PixelFormat, Size,
    StageError, StageOutput,
};
use tempfile::TempDir;

/// A folder with a model in it, under the name `m.onnx`.
struct World {
    folder: TempDir,
}

impl World {
    fn new(model: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.onnx"), model).unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The detector, built and started.
    fn detect(&self, config: DetectConfig) -> Result<Detect, StageError> {
        let mut detect = Detect::from_config(config, &BuildContext::new(self.folder.path()))?;
        detect.start()?;
        Ok(detect)
    }
}

fn config() -> DetectConfig {
    DetectConfig::new("m.onnx")
}

/// A picture of one colour.
fn plain_frame(size: (u32, u32), value: u8) -> Frame {
    let header = FrameHeader::new(Size::new(size.0, size.1), PixelFormat::Rgb8);
    let mut buffer = FramePool::new(0).take(header).unwrap();
    buffer.plane_mut(0).fill(value);
    buffer.freeze()
}

fn entry(frame: Frame) -> BatchEntry {
    BatchEntry::new("gate".into(), 0, frame, None, Arc::new(Perception::default()))
}

/// What the detector says of each frame, all given at once.
fn run(detect: &mut Detect, frames: &[Frame]) -> Vec<StageOutput> {
    let mut batch: Vec<_> = frames.iter().cloned().map(entry).collect();
    detect.process(&mut batch).unwrap();
    batch.iter_mut().map(|e| e.take_result().unwrap()).collect()
}

/// The folder of test assets, or `None` after saying that `test` is skipped.
fn assets(test: &str) -> Option<PathBuf> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let assets =
        std::env::var_os("NV_ASSETS").map_or_else(|| PathBuf::from(workspace).join("../shared/assets"), PathBuf::from);
    if assets.is_dir() {
        return Some(assets);
    }
    skipped(test, &format!("no assets at {}", assets.display()));
    None
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn skipped(test: &str, why: &str) {
    println!("skipped: {test}: {why}");
}
