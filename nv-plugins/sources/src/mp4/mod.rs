//! ISO base media files (ISO/IEC 14496-12): which samples a file's video track has, where and when.
//!
//! Written here rather than taken from `re_mp4`, which is not made for damaged files: as of 0.5.1 it loops for ever on an
//! empty box inside a container and panics where sample tables disagree; it also passes over edit lists, colour and avc3.
//! The tests compare the two on real clips.

mod boxes;
mod file;
mod movie;
mod samples;

use std::fmt;
use std::io;

pub(crate) use boxes::FourCc;
pub(crate) use file::{Mp4File, Sniffed, codec_name, sniff};
pub(crate) use movie::{AvcConfig, ContainerColor};

/// What is wrong with a file as an MP4.
#[derive(Debug)]
pub(crate) enum Mp4Error {
    /// Reading failed.
    Io(io::Error),
    /// There is no `moov` box: the file was cut off before its index, or is still being written.
    NoIndex,
    /// It holds tracks, of which none is video.
    NoVideoTrack,
    /// The video is in a form that isn't supported.
    Unsupported(String),
    /// Its boxes contradict themselves.
    Damaged(String),
}

impl Mp4Error {
    fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

impl From<io::Error> for Mp4Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Mp4Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "reading failed: {error}"),
            Self::NoIndex => f.write_str("no index (moov box)"),
            Self::NoVideoTrack => f.write_str("no video track"),
            Self::Unsupported(what) | Self::Damaged(what) => f.write_str(what),
        }
    }
}
