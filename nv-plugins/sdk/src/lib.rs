//! A plugin's one dependency.
//!
//! A plugin is a crate with types that implement [`Stage`] or [`BatchProcessor`], and [`FromConfig`]; one line makes of it both
//! a crate that programs link and a `.so` that a host loads:
//!
//! ```
//! use nv_plugin_sdk::{BuildContext, FromConfig, Signal, Stage, StageError, StageInput, StageOutput, serde};
//!
//! /// Says how many objects are in the picture.
//! pub struct Count {
//!     at_least: f32,
//! }
//!
//! #[derive(serde::Deserialize)]
//! #[serde(crate = "nv_plugin_sdk::serde", deny_unknown_fields)]
//! pub struct CountConfig {
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
//!
//! nv_plugin_sdk::export_plugin! { stages: [Count] }
//!
//! # fn main() {
//! // A program that links the crate gets its descriptor from the function that the macro made.
//! assert!(plugin().kind("count").is_some());
//! # }
//! ```
//!
//! # The package
//! ```toml
//! [package]
//! name = "acme-count"          # config says "acme-count/count"; a leading "nv-" is left out of the plugin's name
//! version = "0.1.0"
//!
//! [lib]
//! crate-type = ["cdylib", "rlib"]   # the .so, and the crate for programs that link it
//!
//! [dependencies]
//! nv-plugin-sdk = { git = "…" }
//!
//! [profile.release]
//! panic = "unwind"             # the macro refuses "abort": a panic could not be turned into an error
//! ```
//!
//! # What to know
//! - **Derives of serde** must be told where serde is, since it comes through this crate: `#[serde(crate =
//!   "nv_plugin_sdk::serde")]`. Add `deny_unknown_fields`, so that a misspelt key of the config is an error.
//! - **Logs**: use [`tracing`] as anywhere. In a host, events and spans of the plugin appear as the host's own, under the span
//!   of the feed and step that called. Threads that the plugin starts begin outside of any span.
//! - **Panics** don't cross: the call returns an error of kind [`StageErrorKind::Panic`] with message, place and backtrace, and
//!   the host builds the instance anew. A panic in a thread of the plugin's own ends that thread.
//! - **Frames** may be kept: a clone of a [`Frame`] holds its memory, in the host, until it is dropped.
//! - **Nothing is shared** with the host or other plugins but what the traits pass: statics, thread-locals and runtimes are the
//!   plugin's own. Link C libraries statically, or under a name of your own.
//! - **Tests** need no host: see the module `testing` (feature of that name).
#![allow(unsafe_code, reason = "the macro exports symbols, and its root module is a promise about types to abi_stable")]

mod batch;
mod bridge;
mod entry;
mod export;
mod guard;
mod stage;
#[cfg(feature = "testing")]
pub mod testing;

pub use {nv_core, nv_perception, serde, serde_json, tracing};

pub use nv_core::{
    Attachment, BBox, Captured, CapturedBy, ColorInfo, ColorMatrix, ColorRange, Frame, FrameBuffer, FrameError,
    FrameHeader, FrameMemory, FramePool, HostView, MemoryKind, MonoTime, Name, PixelFormat, PlaneView, Point, Pts,
    Size, Tensor, TensorError, WallTime,
};
pub use nv_perception::{
    Artifact, Attribute, BatchCapabilities, BatchEntry, BatchKey, BatchProcessor, BuildContext, Capabilities, DataKind,
    FromConfig, Keypoint, KindDescriptor, Mask, Object, ObjectId, ObjectTables, Perception, PluginDescriptor, Region,
    Rows, SceneFeature, Signal, Stage, StageError, StageErrorKind, StageInput, StageOutput, StreamContext, Track,
    TrackId, TrackState, Value,
};

/// What [`export_plugin!`] expands to. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use nv_plugin_abi::abi_stable::library::{
        __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
    };
    pub use nv_plugin_abi::abi_stable::prefix_type::PrefixTypeTrait;
    pub use nv_plugin_abi::abi_stable::std_types::{RResult, RStr};
    pub use nv_plugin_abi::{
        BatchBox, BuildContext, HostApi_Ref, Note, PanicStrategy, PluginInfo, PluginModule, PluginModule_Ref, StageBox,
        StageError,
    };

    pub use crate::entry::{CrateInfo, create_batch, create_stage, extension, info, init};
    pub use crate::export::plugin_name;

    /// The target that this was compiled for.
    pub const TARGET: &str = env!("NV_SDK_TARGET");
    /// The compiler that compiled it.
    pub const RUSTC: &str = env!("NV_SDK_RUSTC");
}
