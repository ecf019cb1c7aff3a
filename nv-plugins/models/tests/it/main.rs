//! The kinds as a program that links the crate uses them: on models made for the purpose, and on real ones.

mod classify;
mod detect;
mod embed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nv_plugin_sdk::{
    BBox, BatchEntry, BatchProcessor, BuildContext, Frame, FrameHeader, FramePool, FromConfig, ObjectId, Perception,
    PixelFormat, Region, Size, StageError, StageOutput,
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

    /// A processor of this kind, built and started.
    fn start<K: FromConfig + BatchProcessor>(&self, config: K::Config) -> Result<K, StageError> {
        start(self.folder.path(), config)
    }
}

/// A processor of this kind, built with paths relative to `folder`, and started.
fn start<K: FromConfig + BatchProcessor>(folder: &Path, config: K::Config) -> Result<K, StageError> {
    let mut processor = K::from_config(config, &BuildContext::new(folder))?;
    processor.start()?;
    Ok(processor)
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

/// What the processor says of each frame, all given at once.
fn run(processor: &mut impl BatchProcessor, frames: &[Frame]) -> Vec<StageOutput> {
    let mut batch: Vec<_> = frames.iter().cloned().map(entry).collect();
    processor.process(&mut batch).unwrap();
    batch.iter_mut().map(|e| e.take_result().unwrap()).collect()
}

/// What the processor says of each of these parts of a frame, all given at once. Objects are numbered as the parts are.
fn run_regions(processor: &mut impl BatchProcessor, frame: &Frame, parts: &[[f32; 4]]) -> Vec<StageOutput> {
    let region = |(i, part): (usize, &[f32; 4])| Region { object: ObjectId(i as u32), bbox: BBox::from(*part) };
    let entry =
        |region| BatchEntry::new("gate".into(), 0, frame.clone(), Some(region), Arc::new(Perception::default()));
    let mut batch: Vec<_> = parts.iter().enumerate().map(region).map(entry).collect();
    processor.process(&mut batch).unwrap();
    batch.iter_mut().map(|e| e.take_result().unwrap()).collect()
}

/// The picture in a PNG or JPEG file, as RGB.
fn picture(file: &Path) -> Frame {
    let (width, height, rgb) = if file.extension().is_some_and(|e| e == "png") {
        let mut decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(file).unwrap()));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut data).unwrap();
        // Grey, grey and alpha, RGB, RGBA.
        let [r, g, b] = if info.color_type.samples() < 3 { [0, 0, 0] } else { [0, 1, 2] };
        let rgb = data.chunks_exact(info.color_type.samples()).flat_map(|p| [p[r], p[g], p[b]]).collect();
        (info.width, info.height, rgb)
    } else {
        let bytes = std::fs::read(file).unwrap();
        let mut decoder = zune_jpeg::JpegDecoder::new(zune_core::bytestream::ZCursor::new(bytes));
        let rgb: Vec<u8> = decoder.decode().unwrap();
        let info = decoder.info().unwrap();
        (u32::from(info.width), u32::from(info.height), rgb)
    };
    let mut buffer = FramePool::new(0).take(FrameHeader::new(Size::new(width, height), PixelFormat::Rgb8)).unwrap();
    buffer.plane_mut(0).copy_from_slice(&rgb);
    buffer.freeze()
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

#[test]
fn the_plugin_offers_its_kinds() {
    let plugin = nv_models::plugin();
    assert_eq!(plugin.name, "models");
    for (kind, key) in [("detect", "max_detections"), ("classify", "attribute"), ("embed", "output")] {
        assert!(plugin.kind(kind).unwrap().config_schema.contains(key), "{kind}");
    }
}
