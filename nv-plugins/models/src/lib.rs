//! Neural models as pipeline steps: the shipped plugin `models`.
//!
//! Its kinds are batch processors that look at frames, or at regions of them, with a network from an ONNX file:
//!
//! - [`Detect`], kind `detect`, finds objects; [`DetectConfig`]. It knows the families YOLOX, YOLOv5, YOLOv8 and what has its
//!   head, NanoDet, FastestDet, SSD, CenterNet, UltraFace, YuNet and CenterFace by the shapes of their outputs, with the
//!   pre-processing that their authors publish.
//! - [`Classify`], kind `classify`, tells what a picture or an object is; [`ClassifyConfig`].
//! - [`Embed`], kind `embed`, gives a picture or an object a vector that tells likeness; [`EmbedConfig`].
//!
//! A host loads the crate's `.so`; a program that links it uses the types, or [`plugin`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use nv_infer::testing::constant_model;
//! use nv_models::{Detect, DetectConfig};
//! use nv_plugin_sdk::{
//!     BatchEntry, BatchProcessor, BuildContext, FrameHeader, FramePool, FromConfig, Perception, PixelFormat, Size,
//! };
//!
//! // Usually a file that somebody trained. This one answers every picture with one person, 8×8 pixels at the top left.
//! let folder = std::env::temp_dir().join(format!("nv-models-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let mut output = vec![0.0; 21 * 85];
//! output[..6].copy_from_slice(&[0.5, 0.5, 0.0, 0.0, 1.0, 0.9]);
//! let model = constant_model(&[1.into(), 3.into(), 32.into(), 32.into()], &[("output", &[1, 21, 85], &output)]);
//! std::fs::write(folder.join("detector.onnx"), model)?;
//!
//! let mut detect = Detect::from_config(DetectConfig::new("detector.onnx"), &BuildContext::new(&folder))?;
//! detect.start()?;
//!
//! let picture = FramePool::new(1).take(FrameHeader::new(Size::new(320, 320), PixelFormat::I420))?.freeze();
//! let mut batch = [BatchEntry::new("gate".into(), 0, picture, None, Arc::new(Perception::default()))];
//! detect.process(&mut batch)?;
//! let objects = batch[0].take_result()?.objects.unwrap();
//! assert_eq!(objects[0].class.as_ref().unwrap(), "person");
//! assert_eq!(objects[0].bbox.x2, 80.0, "in pixels of the frame");
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activation;
mod classify;
mod config;
mod detect;
mod embed;
mod families;
mod labels;
mod network;
mod plan;
mod preprocess;
mod priors;
mod settings;
mod vector;

pub use activation::Activation;
pub use classify::Classify;
pub use config::{ClassifyConfig, DetectConfig, EmbedConfig};
pub use detect::Detect;
pub use embed::{EMBEDDING_SCHEMA, Embed};
pub use labels::Labels;
pub use priors::{OwnPriors, PriorLevel, Priors, PublishedPriors};
pub use settings::{ColorOrder, ModelSettings, PerChannel, ResizeMode};

nv_plugin_sdk::export_plugin! { batch: [Detect, Classify, Embed] }
