use std::any::Any;
use std::fmt;
use std::sync::{Arc, LazyLock};

use crate::frame_memory::{FrameError, FrameMemory, HostView, MemoryKind, ReleasedMemory};
use crate::{Captured, MonoTime, Name, Pts, Size};

/// How a picture's samples are laid out in planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PixelFormat {
    /// Three planes Y, U, V; U and V at half width and half height, rounded up.
    I420,
    /// Two planes: Y, then U and V interleaved at half width and half height, rounded up.
    Nv12,
    /// One plane of R, G, B bytes.
    Rgb8,
    /// One plane of B, G, R bytes.
    Bgr8,
    /// One plane of R, G, B, A bytes.
    Rgba8,
    /// One plane of luma bytes, full range.
    Gray8,
}

/// Rows of a plane and the bytes that are used in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneShape {
    /// Bytes in a row, without padding.
    pub row_bytes: usize,
    /// Rows.
    pub rows: usize,
}

impl PixelFormat {
    /// How many planes a picture of this format has.
    pub const fn plane_count(self) -> usize {
        match self {
            Self::I420 => 3,
            Self::Nv12 => 2,
            Self::Rgb8 | Self::Bgr8 | Self::Rgba8 | Self::Gray8 => 1,
        }
    }

    /// The shape of plane `plane` of a picture of `size`.
    ///
    /// # Panics
    /// Where the format has no such plane.
    pub fn plane_shape(self, plane: usize, size: Size) -> PlaneShape {
        assert!(plane < self.plane_count(), "{self:?} has no plane {plane}");
        let (width, height) = (size.width as usize, size.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let (row_bytes, rows) = match (self, plane) {
            (Self::I420, 1 | 2) => (half_width, half_height),
            (Self::Nv12, 1) => (half_width * 2, half_height),
            (Self::Rgb8 | Self::Bgr8, _) => (width * 3, height),
            (Self::Rgba8, _) => (width * 4, height),
            _ => (width, height),
        };
        PlaneShape { row_bytes, rows }
    }
}

/// Which part of 0 to 255 the samples use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorRange {
    /// Luma 16 to 235, chroma 16 to 240 ("video", "TV").
    #[default]
    Limited,
    /// 0 to 255 ("full", "PC", JPEG).
    Full,
}

/// Which RGB a YUV sample stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColorMatrix {
    /// ITU-R BT.601: standard definition, JPEG, and what most detectors were trained through.
    #[default]
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
    /// ITU-R BT.2020, non-constant luminance.
    Bt2020,
}

/// How YUV samples turn into RGB. Of no effect on RGB formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ColorInfo {
    /// Which part of the sample values is used.
    pub range: ColorRange,
    /// The conversion matrix.
    pub matrix: ColorMatrix,
}

/// Data that travels with a frame: SEI, KLV, ONVIF metadata, a plugin's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Names the meaning and version of the bytes, as in `"acme.ptz/1"`.
    pub schema: Name,
    /// The payload.
    pub data: Arc<[u8]>,
}

/// What a source says of a frame when it makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameHeader {
    /// Width and height of the picture.
    pub size: Size,
    /// How its samples are laid out.
    pub format: PixelFormat,
    /// How its samples turn into RGB.
    pub color: ColorInfo,
    /// Presentation time in the stream.
    pub pts: Pts,
    /// When it was taken, where that is known.
    pub captured: Option<Captured>,
    /// Whether the decoder reported damage since the last clean key frame.
    pub suspect: bool,
}

impl FrameHeader {
    /// A header for a picture of `size` in `format`, with everything else at its default.
    pub fn new(size: Size, format: PixelFormat) -> Self {
        Self { size, format, color: ColorInfo::default(), pts: Pts::default(), captured: None, suspect: false }
    }
}

/// One picture of a feed: planar, in the decoder's own format, immutable, cheap to clone.
///
/// Clones share the memory, which is given back to its owner (a pool, a decoder, a plugin) when the last clone is
/// dropped, on whatever thread that happens. Pixels are reached through [`host`](Self::host), so that frames that live in
/// device memory fit the same type.
///
/// Three times go with it: `pts` in the stream, `received` here by the monotonic clock, `captured` by the wall clock.
#[derive(Clone)]
pub struct Frame {
    header: Arc<FrameHeader>,
    memory: Arc<dyn FrameMemory>,
    attachments: Option<Arc<[Attachment]>>,
    seq: u64,
    received: MonoTime,
}

impl Frame {
    /// A frame over `memory`, whose planes must match `header`.
    ///
    /// # Errors
    /// [`FrameError::Layout`] where a plane is missing, too short or has a stride below its row.
    pub fn new(header: FrameHeader, memory: Arc<dyn FrameMemory>) -> Result<Self, FrameError> {
        if memory.kind() == MemoryKind::Host {
            memory.host()?.check(header.format, header.size)?;
        }
        Ok(Self { header: Arc::new(header), memory, attachments: None, seq: 0, received: MonoTime::ZERO })
    }

    /// The same frame with `attachments`.
    #[must_use]
    pub fn with_attachments(mut self, attachments: impl Into<Arc<[Attachment]>>) -> Self {
        self.attachments = Some(attachments.into());
        self
    }

    /// The same frame as number `seq` of its feed, received at `received`. The runtime does this, once.
    #[must_use]
    pub fn stamped(mut self, seq: u64, received: MonoTime) -> Self {
        self.seq = seq;
        self.received = received;
        self
    }

    /// The same frame with its memory given back: numbers and times stay, [`host`](Self::host) fails.
    #[must_use]
    pub fn without_pixels(&self) -> Self {
        static RELEASED: LazyLock<Arc<dyn FrameMemory>> = LazyLock::new(|| Arc::new(ReleasedMemory));
        Self { memory: RELEASED.clone(), ..self.clone() }
    }

    /// What the source said of it.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Width and height of the picture.
    pub fn size(&self) -> Size {
        self.header.size
    }

    /// How its samples are laid out.
    pub fn format(&self) -> PixelFormat {
        self.header.format
    }

    /// How its samples turn into RGB.
    pub fn color(&self) -> ColorInfo {
        self.header.color
    }

    /// Presentation time in the stream.
    pub fn pts(&self) -> Pts {
        self.header.pts
    }

    /// When it was taken, where that is known.
    pub fn captured(&self) -> Option<Captured> {
        self.header.captured
    }

    /// Whether the decoder reported damage since the last clean key frame.
    pub fn is_suspect(&self) -> bool {
        self.header.suspect
    }

    /// Its number in its feed, from 0, over all sessions.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When the runtime received it.
    pub fn received(&self) -> MonoTime {
        self.received
    }

    /// What travels with it.
    pub fn attachments(&self) -> &[Attachment] {
        self.attachments.as_deref().unwrap_or(&[])
    }

    /// Where the pixels are.
    pub fn memory_kind(&self) -> MemoryKind {
        self.memory.kind()
    }

    /// The memory's owner.
    pub fn memory(&self) -> &Arc<dyn FrameMemory> {
        &self.memory
    }

    /// The memory as an `M`, for code that knows how to use that kind of it; `None` where it is another.
    pub fn memory_as<M: FrameMemory>(&self) -> Option<&M> {
        let memory: &dyn Any = &*self.memory;
        memory.downcast_ref()
    }

    /// The pixels, in this process's address space.
    ///
    /// # Errors
    /// [`FrameError::NotOnHost`] where the memory can't be read by the CPU.
    pub fn host(&self) -> Result<HostView<'_>, FrameError> {
        self.memory.host()
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("seq", &self.seq)
            .field("size", &self.header.size)
            .field("format", &self.header.format)
            .field("pts", &self.header.pts)
            .field("memory", &self.memory.kind())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plane_shapes_round_chroma_up() {
        fn check(format: PixelFormat, (w, h): (u32, u32), expected: &[(usize, usize)]) {
            let shapes: Vec<_> = (0..format.plane_count())
                .map(|p| format.plane_shape(p, Size::new(w, h)))
                .map(|s| (s.row_bytes, s.rows))
                .collect();
            assert_eq!(shapes, expected, "{format:?} {w}×{h}");
        }
        check(PixelFormat::I420, (4, 2), &[(4, 2), (2, 1), (2, 1)]);
        check(PixelFormat::I420, (5, 3), &[(5, 3), (3, 2), (3, 2)]);
        check(PixelFormat::Nv12, (5, 3), &[(5, 3), (6, 2)]);
        check(PixelFormat::Rgb8, (5, 3), &[(15, 3)]);
        check(PixelFormat::Bgr8, (1, 1), &[(3, 1)]);
        check(PixelFormat::Rgba8, (2, 1), &[(8, 1)]);
        check(PixelFormat::Gray8, (7, 2), &[(7, 2)]);
    }
}
