//! Makes small MP4 files, good and bad, for the tests of this and other crates. Behind the feature `testing`.
//!
//! ```
//! # #[cfg(feature = "testing")] {
//! use nv_sources::testing::{Clip, ClipConfig, Layout};
//!
//! let clip = Clip::encode(&ClipConfig { frames: 12, b_frames: 2, ..ClipConfig::default() });
//! let good = clip.to_mp4().to_bytes();
//! let fragmented = clip.to_mp4().layout(Layout::Fragmented { samples: 4 }).to_bytes();
//! let cut_off = &good[..good.len() / 2];
//! # assert!(cut_off.len() < fragmented.len());
//! # }
//! ```

mod clip;
mod writer;

pub use clip::{AccessUnit, Clip, ClipConfig, other_codec_mp4};
pub use writer::{Layout, Mp4Sample, Mp4Writer};
