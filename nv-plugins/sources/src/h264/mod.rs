//! H.264 (ITU-T H.264): from stored access units to pictures in display order.

mod annex_b;
mod decoder;
mod reorder;
mod sps;

pub(crate) use annex_b::{UnitKind, to_annex_b};
pub(crate) use decoder::{DecodeError, H264Decoder, Picture, RustyDecoder, Stamp};
pub(crate) use reorder::Reorder;
pub(crate) use sps::{Sps, color_matrix};
