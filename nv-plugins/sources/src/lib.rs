//! The sources that are built in: they need no system library.
//!
//! [`EmbeddedSources`] is a [`SourceFactory`](nv_perception::SourceFactory) for these URLs:
//!
//! | URL | what it gives |
//! |---|---|
//! | `yard.mp4`, `file:yard.mp4` | the H.264 track of an MP4 or QuickTime file, whole or fragmented, in display order |
//! | `frames/` | the JPEG and PNG pictures of a folder, in natural order of their names |
//! | `frames/*.png` | the pictures that match a pattern |
//! | `still.jpg` | one picture |
//! | `synthetic:?width=640&height=480&fps=30&frames=300&objects=5&seed=1` | moving shapes with exact ground truth |
//!
//! Relative paths are relative to [`SourceSpec::base_dir`](nv_perception::SourceSpec::base_dir). In a `file:` URL, `%20` and
//! the like are decoded; in a plain path they are not.
//!
//! ```
//! use std::time::Duration;
//! use nv_core::CancelToken;
//! use nv_perception::{SourceFactory, SourceItem, SourceSpec};
//! use nv_sources::EmbeddedSources;
//!
//! let sources = EmbeddedSources::default();
//! let spec = SourceSpec::new("synthetic:?frames=2");
//! let mut source = sources.open(&spec, &CancelToken::new())?;
//! let mut frames = 0;
//! loop {
//!     match source.next(Duration::from_secs(1))? {
//!         SourceItem::Frame(frame) => frames += u32::from(frame.size().width == 640),
//!         SourceItem::End => break,
//!         _ => {}
//!     }
//! }
//! assert_eq!(frames, 2);
//! # Ok::<(), nv_perception::SourceError>(())
//! ```
//!
//! # Speed
//! A source gives its next frame whenever it is asked: back-pressure is the caller's. With `live` in its spec, it gives each
//! frame when its time comes, as a camera would, and a synthetic scene of no given length never ends.
//!
//! # Time
//! A video's `pts` are the container's composition times, rounded to the nearest nanosecond, and rise strictly. They start
//! where the edit list says, without one at 0. What an edit list leaves out at the start is decoded and not given; what it
//! leaves out at the end, or between several edits, is given. Pictures follow each other at the option `fps` (default 25).
//!
//! # Pixels
//! Video is I420 with the range and matrix that the stream names, else the container; where neither does, BT.601 limited.
//! It is moved out of the decoder, not copied. Pictures are RGB8, or GRAY8 where they have no colour; alpha is dropped, 16
//! bits are cut to 8. Nothing is turned: rotation by the container (which is logged) or by EXIF is left to the viewer.
//!
//! # Damage
//! What can't be decoded is left out and reported as a gap; frames that may rest on it are marked suspect until the next key
//! frame; all frames that can be decoded are given; then, instead of the end, comes an error that says how much was lost and
//! what was wrong first. A file that gives no frame at all is an error when it is opened, as is a codec other than
//! progressive 8-bit 4:2:0 H.264.

mod factory;
mod h264;
mod image;
mod location;
mod mp4;
mod options;
mod pacing;
#[cfg(test)]
mod real_clips;
mod synthetic;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod video;

pub use factory::EmbeddedSources;
