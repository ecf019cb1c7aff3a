use std::sync::Arc;

use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr};

use crate::{ExtEntry, Owner};

/// The most planes that a picture has.
pub const MAX_PLANES: usize = 4;

/// How a picture's samples are laid out in planes.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat(pub u32);

impl PixelFormat {
    /// Y, U, V; U and V at half width and height, rounded up.
    pub const I420: Self = Self(1);
    /// Y, then U and V interleaved at half width and height, rounded up.
    pub const NV12: Self = Self(2);
    /// R, G, B bytes.
    pub const RGB8: Self = Self(3);
    /// B, G, R bytes.
    pub const BGR8: Self = Self(4);
    /// R, G, B, A bytes.
    pub const RGBA8: Self = Self(5);
    /// Luma bytes, full range.
    pub const GRAY8: Self = Self(6);
}

/// Which part of 0 to 255 the samples use.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColorRange(pub u32);

impl ColorRange {
    /// Luma 16 to 235, chroma 16 to 240.
    pub const LIMITED: Self = Self(1);
    /// 0 to 255.
    pub const FULL: Self = Self(2);
}

/// Which RGB a YUV sample stands for.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColorMatrix(pub u32);

impl ColorMatrix {
    /// ITU-R BT.601.
    pub const BT601: Self = Self(1);
    /// ITU-R BT.709.
    pub const BT709: Self = Self(2);
    /// ITU-R BT.2020, non-constant luminance.
    pub const BT2020: Self = Self(3);
}

/// Where a picture's pixels are.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryKind(pub u32);

impl MemoryKind {
    /// In this process's address space: the planes are there to be read.
    pub const HOST: Self = Self(1);
    /// In device memory: no planes; an `ext` of the frame may say how to reach it.
    pub const DEVICE: Self = Self(2);
    /// Given back to its owner: no planes.
    pub const RELEASED: Self = Self(3);
}

/// What a capture time rests on.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedBy(pub u32);

impl CapturedBy {
    /// The capture time is not known.
    pub const NOTHING: Self = Self(0);
    /// The camera's clock, by way of a sender report.
    pub const SENDER_REPORT: Self = Self(1);
    /// When the frame arrived.
    pub const ARRIVAL: Self = Self(2);
}

/// One plane of pixels, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// The bytes, first row first.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
struct RawPlane {
    data: *const u8,
    len: usize,
    stride: usize,
}

/// The planes of a picture with a share in their owner: whoever holds a clone may read them, on any thread, for as long as
/// it likes.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct Pixels {
    planes: [RawPlane; MAX_PLANES],
    count: u32,
    owner: Owner,
}

// SAFETY: the planes are never written while the owner lives, and the owner may move between threads.
unsafe impl Send for Pixels {}
// SAFETY: as above.
unsafe impl Sync for Pixels {}

impl Pixels {
    /// The planes that `view` finds in `owner`, up to the first `None`: none at all for memory that the CPU can't read.
    pub fn new<T: Send + Sync + 'static>(
        owner: Arc<T>,
        view: impl for<'a> FnOnce(&'a T) -> [Option<Plane<'a>>; MAX_PLANES],
    ) -> Self {
        // The planes are borrowed from what the Arc holds: they stay where and as they are while any share lives.
        let mut planes = [RawPlane { data: std::ptr::null(), len: 0, stride: 0 }; MAX_PLANES];
        let mut count = 0;
        for (raw, plane) in planes.iter_mut().zip(view(&owner).into_iter().map_while(|plane| plane)) {
            *raw = RawPlane { data: plane.data.as_ptr(), len: plane.data.len(), stride: plane.stride };
            count += 1;
        }
        Self { planes, count, owner: Owner::new(owner) }
    }

    /// The planes, in the format's order.
    pub fn planes(&self) -> impl Iterator<Item = Plane<'_>> {
        self.planes.iter().take(self.count as usize).map(|raw| Plane {
            // SAFETY: `new` took pointer and length from one slice inside the owner, of which this value holds a share.
            data: unsafe { std::slice::from_raw_parts(raw.data, raw.len) },
            stride: raw.stride,
        })
    }
}

/// Data that travels with a frame.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Attachment<'a> {
    /// Names the meaning and version of the bytes.
    pub schema: RStr<'a>,
    /// The payload.
    pub data: RSlice<'a, u8>,
}

/// One picture of a feed. Lent for the time of a call; a clone of its [`Pixels`] may be kept.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct Frame<'a> {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How the samples are laid out.
    pub format: PixelFormat,
    /// Which part of 0 to 255 they use.
    pub range: ColorRange,
    /// Which RGB they stand for.
    pub matrix: ColorMatrix,
    /// Where the pixels are.
    pub memory: MemoryKind,
    /// Whether the decoder reported damage since the last clean key frame.
    pub suspect: bool,
    /// What the capture time rests on.
    pub captured_by: CapturedBy,
    /// When it was taken, in nanoseconds since the Unix epoch; meaningless where `captured_by` is nothing.
    pub captured_ns: u64,
    /// Presentation time in the stream, in nanoseconds.
    pub pts_ns: i64,
    /// When the host received it, by its monotonic clock, in nanoseconds.
    pub received_ns: u64,
    /// Its number in its feed.
    pub seq: u64,
    /// The pixels.
    pub pixels: Pixels,
    /// What travels with it.
    pub attachments: RSlice<'a, Attachment<'a>>,
    /// Additions.
    pub ext: RSlice<'a, ExtEntry<'a>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_outlive_the_frame_and_are_not_copied() {
        let owner = Arc::new([vec![1u8; 12], vec![2u8; 6]]);
        let pixels = Pixels::new(owner.clone(), |planes| {
            let plane = |i: usize| Some(Plane { data: &planes[i], stride: 4 });
            [plane(0), plane(1), None, None]
        });
        let at = owner[1].as_ptr();
        drop(owner);
        let kept = pixels.clone();
        drop(pixels);
        let planes: Vec<_> =
            std::thread::spawn(move || kept.planes().map(|p| (p.data.as_ptr() as usize, p.data.to_vec())).collect())
                .join()
                .unwrap();
        assert_eq!(planes[0].1, [1; 12]);
        assert_eq!(planes[1], (at as usize, vec![2; 6]));
        assert_eq!(planes.len(), 2);
    }
}
