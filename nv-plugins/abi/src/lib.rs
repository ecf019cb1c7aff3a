//! What crosses the boundary between a host and a plugin that was compiled by somebody else, at another time, with another
//! compiler.
//!
//! Only `#[repr(C)]` values, containers and trait objects of `abi_stable`, and `extern "C"` functions in prefix types.
//! This crate knows no other crate of ours. Neither a stage author nor an embedder sees it: the SDK adapts a native stage to
//! it inside the plugin, the loader adapts it back to a native stage in the host.
//!
//! - [`Note`]: who a library is, readable without loading it.
//! - [`PluginModule`]: what a plugin offers; [`HostApi`]: what the host offers in return.
//! - [`StageObject`], [`BatchObject`]: a stage and a batch processor.
//! - [`Frame`], [`Findings`]: a picture, and what was found in it. Pixels are never copied: a [`Frame`] carries a counted
//!   [`Owner`] with which either side may keep them beyond the call. Findings are flat: tables of plain records whose strings
//!   are indices into one table of texts.
//!
//! # How it may change
//! 1. **Structs are frozen** for the generation ([`GENERATION`]): no field is added, removed, moved or retyped. New data go
//!    where an `ext` is: entries that are named by a string, which a reader that does not know them passes over.
//! 2. **Additive is minor.** A function after the `last_prefix_field` of [`HostApi`] or [`PluginModule`] (the other side sees
//!    an `Option`); a method after the `last_prefix_field` of a trait, with a default body; a constant of a `Kind(u32)` newtype
//!    (a receiver that does not know it treats it as unsupported); an `ext` name. `last_prefix_field` never moves.
//! 3. **Everything else is a new generation**: a new major version of this crate and a new generation in the note. A host may
//!    keep the crate of the old generation beside the new one and load both.
//! 4. The order of refusal is: note (generation, version, target, panic strategy), hash, load, `AbiHeader`, layout. The
//!    layout is compared **with the older side as the interface**, since the newer side may only have added. The compiler's
//!    version is information, not a criterion.
//! 5. `abi_stable` is pinned to one version: its own layouts are part of the contract.
//!
//! Whole new kinds of thing (sources, sinks, views of state) come first as extensions: [`PluginModule`]'s and [`HostApi`]'s
//! `extension` look up a service by name and return a pointer to a prefix type that the name defines. Names that begin with
//! `x-` are experiments and may vanish. `nv.infer/1` is reserved: a host service through which a plugin gets inference
//! without linking an engine of its own.
//!
//! # Example
//! ```
//! use std::sync::Arc;
//!
//! use nv_plugin_abi::{Pixels, Plane};
//!
//! // The memory of a picture crosses as a view and a share in its owner.
//! let owner = Arc::new(vec![7u8; 64 * 48]);
//! let pixels = Pixels::new(owner.clone(), |bytes| {
//!     [Some(Plane { data: bytes.as_slice(), stride: 64 }), None, None, None]
//! });
//! assert_eq!(Arc::strong_count(&owner), 2);
//!
//! let kept = pixels.clone();
//! drop(pixels);
//! assert_eq!(kept.planes().next().map(|p| (p.data.len(), p.stride)), Some((64 * 48, 64)));
//! drop(kept);
//! assert_eq!(Arc::strong_count(&owner), 1);
//! ```
#![allow(
    non_local_definitions,
    non_camel_case_types,
    reason = "abi_stable's derives expand to impls inside consts and to types called Foo_Ref and Foo_TO"
)]
#![allow(unsafe_code, reason = "this is the boundary: counted pointers, and the marker traits of abi_stable's derives")]

mod batch;
mod error;
mod ext;
mod findings;
mod frame;
mod host;
mod module;
mod note;
mod owner;
mod stage;
mod strings;

pub use abi_stable;

pub use batch::{
    BatchBox, BatchCall, BatchCapabilities, BatchEntry, BatchKeyTag, BatchObject, BatchObject_TO, BatchOutcome,
    EntryResult,
};
pub use error::{ErrorKind, StageError};
pub use ext::{ExtEntry, OwnedExtEntry};
pub use findings::{
    Artifact, Attribute, BBox, Findings, FindingsView, Flags, Keypoint, Mask, Object, RowEnd, Rows, RowsView,
    SceneFeature, Signal, Tables, TablesView, Track, TrackState, Value, ValueKind,
};
pub use frame::{
    Attachment, CapturedBy, ColorMatrix, ColorRange, Frame, MAX_PLANES, MemoryKind, PixelFormat, Pixels, Plane,
};
pub use host::{HostApi, HostApi_Ref, HostInfo, LogCallsite, LogField, LogFieldKind, LogLevel, LogParent};
pub use module::{BuildContext, KindInfo, KindRole, PluginInfo, PluginModule, PluginModule_Ref};
pub use note::{Note, NoteText, PanicStrategy};
pub use owner::{Owner, SharedBytes};
pub use stage::{
    Capabilities, DataKind, DataKindTag, StageBox, StageInput, StageObject, StageObject_TO, StreamContext,
};
pub use strings::{Strings, StringsView};

/// Changes when nothing that was built before can be loaded any more.
pub const GENERATION: u32 = 1;

/// The version of this crate, by which host and plugin tell who is older.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
