//! Pictures for the tests of whatever makes them ready.

use nv_core::{ColorInfo, FrameHeader, FramePool};

use super::*;

pub(crate) const FORMATS: [PixelFormat; 6] = [
    PixelFormat::I420,
    PixelFormat::Nv12,
    PixelFormat::Rgb8,
    PixelFormat::Bgr8,
    PixelFormat::Rgba8,
    PixelFormat::Gray8,
];

/// A frame whose sample of `channel` at (x, y) is `sample(x, y, channel)`; channels of a format are in its own order.
pub(crate) fn frame(
    format: PixelFormat,
    (width, height): (u32, u32),
    color: ColorInfo,
    sample: impl Fn(usize, usize, usize) -> u8,
) -> Frame {
    let size = Size::new(width, height);
    let mut buffer = FramePool::new(0).take(FrameHeader { color, ..FrameHeader::new(size, format) }).unwrap();
    let mut first_channel = 0;
    for plane in 0..format.plane_count() {
        let row_bytes = format.plane_shape(plane, size).row_bytes;
        let interleaved = match (format, plane) {
            (PixelFormat::Rgb8 | PixelFormat::Bgr8, _) => 3,
            (PixelFormat::Rgba8, _) => 4,
            (PixelFormat::Nv12, 1) => 2,
            _ => 1,
        };
        for (i, byte) in buffer.plane_mut(plane).iter_mut().enumerate() {
            let (x, y) = (i % row_bytes, i / row_bytes);
            *byte = sample(x / interleaved, y, first_channel + x % interleaved);
        }
        first_channel += interleaved;
    }
    buffer.freeze()
}

pub(crate) fn pattern(x: usize, y: usize, c: usize) -> u8 {
    ((x * 7 + y * 13 + c * 29 + (x * y) % 17 * 5) % 256) as u8
}

pub(crate) fn same(plane: usize) -> PictureChannel {
    PictureChannel { plane, mul: 1.0, add: 0.0 }
}

pub(crate) fn plain() -> PictureInput {
    PictureInput { layout: PictureLayout::Planar, channels: [same(0), same(1), same(2)], pad: 114 }
}

pub(crate) fn whole(size: Size) -> PixelRect {
    PixelRect { x: 0, y: 0, width: size.width, height: size.height }
}

impl PixelRect {
    /// Whether all of it is in another.
    pub(crate) fn is_within(self, other: Self) -> bool {
        let within = |start: u32, len: u32, from: u32, to: u32| from <= start && start + len <= from + to;
        within(self.x, self.width, other.x, other.width) && within(self.y, self.height, other.y, other.height)
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let frame = frame(PixelFormat::Gray8, (16, 16), ColorInfo::default(), pattern);
    let size = Size::new(8, 8);
    let fits = PixelRect { x: 0, y: 0, width: 8, height: 8 };
    let check = |source: PixelRect, target: PixelRect, expected: bool| {
        let found = PicturePart { frame: &frame, source, target }.check(size);
        assert_eq!(found.is_ok(), expected, "{found:?}");
        assert!(found.is_ok() || found.unwrap_err().contains("does not go to"));
    };
    check(fits, fits, true);
    check(PixelRect { x: 9, ..fits }, fits, false);
    check(PixelRect { width: 0, ..fits }, fits, false);
    check(fits, PixelRect { y: 1, ..fits }, false);
    check(PixelRect { x: u32::MAX, ..fits }, fits, false);
}

#[test]
fn colours_go_to_different_planes() {
    let frame = frame(PixelFormat::Gray8, (16, 16), ColorInfo::default(), pattern);
    let size = Size::new(16, 16);
    let part = PicturePart { frame: &frame, source: whole(size), target: whole(size) };
    let check = |planes: [usize; 3], expected: bool| {
        let input = PictureInput { channels: planes.map(same), ..plain() };
        assert_eq!(Pictures { input: &input, size, parts: &[part] }.check().is_ok(), expected, "{planes:?}");
    };
    check([2, 0, 1], true);
    check([0, 1, 1], false);
    check([0, 1, 3], false);
}
