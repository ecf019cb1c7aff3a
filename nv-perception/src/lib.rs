//! What a stage author writes against, and the values that stages exchange.
//!
//! Four traits are the seams of a pipeline:
//! - [`FrameSource`]: one session with one camera or file, made by a [`SourceFactory`];
//! - [`Stage`]: a step that sees every frame of one feed, in order;
//! - [`BatchProcessor`]: a step that sees frames (or regions of them) of all feeds, in batches;
//! - [`OutputSink`]: takes each finished [`Output`].
//!
//! What a step finds goes into a [`StageOutput`]; what all steps have found of a frame so far is its [`Perception`]. A type
//! that can be built from a config section implements [`FromConfig`]; a [`PluginDescriptor`] lists such types, whether they
//! are linked into the program or loaded from a `.so`.
//! The feature `testing` adds the module `testing`: synthetic scenes with exact ground truth.
//!
//! ```
//! use nv_perception::{BuildContext, FromConfig, Signal, Stage, StageError, StageInput, StageOutput};
//!
//! /// Says how many objects are in the picture.
//! struct Count {
//!     at_least: f32,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct CountConfig {
//!     at_least: f32,
//! }
//!
//! impl FromConfig for Count {
//!     type Config = CountConfig;
//!     const KIND: &'static str = "count";
//!     const SUMMARY: &'static str = "counts the objects in the picture";
//!
//!     fn from_config(config: CountConfig, _: &BuildContext) -> Result<Self, StageError> {
//!         Ok(Self { at_least: config.at_least })
//!     }
//! }
//!
//! impl Stage for Count {
//!     fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
//!         let count = input.perception().objects().iter().filter(|o| o.score >= self.at_least).count();
//!         Ok(StageOutput { signals: vec![Signal::new("count", count as i64)], ..StageOutput::default() })
//!     }
//! }
//! ```

mod batch;
mod capability;
mod error;
mod factory;
mod object;
mod output;
mod perception;
mod sink;
mod source;
mod stage;
#[cfg(feature = "testing")]
pub mod testing;
mod track;
mod value;

pub use batch::{BatchCapabilities, BatchEntry, BatchKey, BatchProcessor, Region};
pub use capability::{Capabilities, DataKind, GraphError, check_graph};
pub use error::{StageError, StageErrorKind};
pub use factory::{BuildContext, Creator, FromConfig, KindDescriptor, PluginDescriptor};
pub use object::{Keypoint, Mask, Object, ObjectId, ObjectTables, Rows};
pub use output::{BatchTrace, OUTPUT_SCHEMA, Output, Provenance, StepTrace};
pub use perception::{Attribute, Perception, StageOutput};
pub use sink::{OutputSink, SinkError, SinkErrorKind};
pub use source::{
    FrameSource, SourceError, SourceErrorKind, SourceEvent, SourceFactory, SourceItem, SourceSpec, StreamInfo,
    redact_url,
};
pub use stage::{Stage, StageInput, StreamContext};
pub use track::{Track, TrackId, TrackState};
pub use value::{Artifact, SceneFeature, Signal, Value};
