//! Turns native values (`nv-core`, `nv-perception`) into those that cross the plugin boundary (`nv-plugin-abi`), and back.
//!
//! The SDK (inside a plugin) and the loader (inside the host) do the same work in opposite directions, so it is written
//! once, here. Nothing is lost on the way: a value that has crossed equals the one that was sent. Pixels don't move; bytes of
//! artifacts and attachments are copied once, by the receiver; names are looked up in a cache of the receiver's own, so that
//! the process-wide lock behind [`nv_core::Name`] is not taken for each object of each frame.
//!
//! What the other side sends is checked: an index that leads nowhere, or a constant of a later version, is a
//! [`MarshalError`], never a panic.
//!
//! ```
//! use nv_perception::{Perception, Signal, StageOutput};
//! use nv_plugin_abi::Findings;
//! use nv_plugin_marshal::{Decoder, Encoder};
//!
//! let found = StageOutput { signals: vec![Signal::new("count", 3i64)], ..StageOutput::default() };
//!
//! let mut sent = Findings::default();
//! Encoder::default().findings((&found).into(), &mut sent)?;
//! let received = Decoder::default().findings(&sent.view())?;
//! assert_eq!(received, found);
//! # Ok::<(), nv_plugin_marshal::MarshalError>(())
//! ```

mod capabilities;
mod context;
mod decode;
mod encode;
mod error;
mod frame;
mod kinds;
mod names;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use capabilities::{
    batch_capabilities_from_abi, batch_capabilities_to_abi, capabilities_from_abi, capabilities_to_abi,
};
pub use context::{path_from_bytes, path_to_bytes, stream_to_abi};
pub use decode::Decoder;
pub use encode::{Encoder, FoundParts};
pub use error::{MarshalError, error_from_abi, error_to_abi};
pub use frame::{attachments_to_abi, frame_to_abi};
