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

/// Holds what `stretched` makes of a whole frame, as three planes, against OpenCV.
pub(crate) fn check_as_opencv(stretched: impl Fn(&Frame, Size) -> Vec<f32>) {
    // Expected: of r = cv2.resize(picture, size), the sum of all samples, the sum of each times its index modulo 251, and
    // the pixel at row 3, column 5.
    let check = |(width, height): (usize, usize), sum: u64, weighted: u64, pixel: [u8; 3]| {
        let picture = frame(PixelFormat::Rgb8, (53, 37), ColorInfo::default(), pattern);
        let planes = stretched(&picture, Size::new(width as u32, height as u32));
        let at = |x: usize, y: usize, c: usize| planes[(c * height + y) * width + x];
        assert_eq!([0, 1, 2].map(|c| at(5, 3, c) as u8), pixel, "{width}×{height}");
        let places = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (x, y, c))));
        let mut sums = (0, 0);
        for (i, (x, y, c)) in places.enumerate() {
            let value = at(x, y, c);
            assert_eq!(value.fract(), 0.0, "a stored picture has whole samples");
            sums.0 += value as u64;
            sums.1 += value as u64 * (i as u64 % 251);
        }
        assert_eq!(sums, (sum, weighted), "{width}×{height}");
    };
    check((40, 30), 457_230, 56_177_371, [141, 170, 200]);
    check((20, 20), 152_636, 18_429_964, [20, 49, 58]);
    check((80, 50), 1_524_298, 191_920_820, [82, 111, 140]);
    check((53, 37), 748_092, 91_929_896, [149, 178, 207]);
    check((26, 18), 177_488, 21_372_504, [206, 180, 82]);
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
