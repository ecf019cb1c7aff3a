use nv_plugin_sdk::{ColorInfo, ColorRange, FrameHeader, FramePool};

use super::*;

const SAME: Affine = Affine { mul: 1.0, add: 0.0 };

fn spec(size: (u32, u32), resize: Resize) -> InputSpec {
    let channels = [(0, SAME), (1, SAME), (2, SAME)];
    InputSpec { size: Some(Size::new(size.0, size.1)), resize, layout: Layout::Planar, channels, pad: 114 }
}

/// A frame whose sample of `channel` at (x, y) is `sample(x, y, channel)`; channels of a format are in its own order.
fn frame(
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

fn pattern(x: usize, y: usize, c: usize) -> u8 {
    ((x * 7 + y * 13 + c * 29 + (x * y) % 17 * 5) % 256) as u8
}

fn fill(spec: InputSpec, frame: &Frame, region: Option<&BBox>) -> Vec<f32> {
    let mut preprocessor = Preprocessor::new(spec);
    let at = preprocessor.place(frame, region).unwrap();
    let mut input = vec![f32::NAN; 3 * (at.input.width * at.input.height) as usize];
    preprocessor.fill(frame, &at, None, &mut input).unwrap();
    input
}

#[test]
fn pictures_come_out_as_opencv_has_them() {
    // Expected: of r = cv2.resize(picture, size), the sum of all samples, the sum of each times its index modulo 251, and
    // the pixel at row 3, column 5.
    fn check((width, height): (usize, usize), sum: u64, weighted: u64, pixel: [u8; 3]) {
        let picture = frame(PixelFormat::Rgb8, (53, 37), ColorInfo::default(), pattern);
        let planes = fill(spec((width as u32, height as u32), Resize::Stretch), &picture, None);
        let at = |x: usize, y: usize, c: usize| planes[(c * height + y) * width + x];
        assert_eq!([0, 1, 2].map(|c| at(5, 3, c) as u8), pixel, "{width}×{height}");
        let mut sums = (0, 0);
        for (i, (y, x, c)) in
            (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| (y, x, c)))).enumerate()
        {
            let value = at(x, y, c);
            assert_eq!(value.fract(), 0.0, "a stored picture has whole samples");
            sums.0 += value as u64;
            sums.1 += value as u64 * (i as u64 % 251);
        }
        assert_eq!(sums, (sum, weighted), "{width}×{height}");
    }
    check((40, 30), 457_230, 56_177_371, [141, 170, 200]);
    check((20, 20), 152_636, 18_429_964, [20, 49, 58]);
    check((80, 50), 1_524_298, 191_920_820, [82, 111, 140]);
    check((53, 37), 748_092, 91_929_896, [149, 178, 207]);
    check((26, 18), 177_488, 21_372_504, [206, 180, 82]);
}

#[test]
fn packed_formats_differ_in_order_alone() {
    let rgb = frame(PixelFormat::Rgb8, (33, 21), ColorInfo::default(), pattern);
    let bgr = frame(PixelFormat::Bgr8, (33, 21), ColorInfo::default(), |x, y, c| pattern(x, y, 2 - c));
    let rgba = frame(PixelFormat::Rgba8, (33, 21), ColorInfo::default(), |x, y, c| pattern(x, y, c % 3));
    let spec = spec((16, 16), Resize::Letterbox);
    let expected = fill(spec.clone(), &rgb, None);
    assert_eq!(fill(spec.clone(), &bgr, None), expected);
    assert_eq!(fill(spec.clone(), &rgba, None), expected);

    let to_bgr = InputSpec { channels: [(2, SAME), (1, SAME), (0, SAME)], ..spec };
    let reversed = fill(to_bgr, &rgb, None);
    assert_eq!(reversed[..256], expected[512..]);
    assert_eq!(reversed[256..512], expected[256..512]);
    assert_eq!(reversed[512..], expected[..256]);
}

#[test]
fn pixel_by_pixel_is_the_same_in_another_order() {
    let picture = frame(PixelFormat::I420, (33, 21), ColorInfo::default(), pattern);
    let halved = Affine { mul: 0.5, add: 2.0 };
    for channels in [[(0, SAME), (1, SAME), (2, halved)], [(2, halved), (1, SAME), (0, SAME)]] {
        let planar = InputSpec { channels, ..spec((16, 20), Resize::LetterboxCenter) };
        let interleaved = InputSpec { layout: Layout::Interleaved, ..planar.clone() };
        let (planes, pixels) = (fill(planar, &picture, None), fill(interleaved, &picture, None));
        for (i, pixel) in pixels.chunks(3).enumerate() {
            assert_eq!(pixel, [planes[i], planes[320 + i], planes[640 + i]], "{i}");
        }
    }
    assert_eq!(Layout::Interleaved.shape(2, Size::new(16, 20)), [2, 20, 16, 3]);
}

#[test]
fn planar_formats_agree() {
    let sample = |x: usize, y: usize, c: usize| pattern(x / 3, y / 2, c);
    for size in [(64, 48), (63, 47), (1, 1)] {
        let i420 = frame(PixelFormat::I420, size, ColorInfo::default(), sample);
        let nv12 = frame(PixelFormat::Nv12, size, ColorInfo::default(), sample);
        let spec = spec((40, 24), Resize::Stretch);
        assert_eq!(fill(spec.clone(), &i420, None), fill(spec, &nv12, None), "{size:?}");
    }
}

#[test]
fn grey_is_grey_in_every_format() {
    let full = ColorInfo { range: ColorRange::Full, ..ColorInfo::default() };
    let luma = |x: usize, y: usize, c: usize| if c == 0 { pattern(x, y, 0) } else { 128 };
    let grey = fill(spec((20, 20), Resize::Stretch), &frame(PixelFormat::Gray8, (31, 27), full, luma), None);
    let i420 = fill(spec((20, 20), Resize::Stretch), &frame(PixelFormat::I420, (31, 27), full, luma), None);
    for (i, (a, b)) in grey.iter().zip(&i420).enumerate() {
        assert!((a - b).abs() < 0.01, "{i}: {a} {b}");
        assert_eq!(*a, grey[i % 400], "the three planes are the same");
    }
}

#[test]
fn a_region_is_as_the_same_part_alone() {
    let whole = frame(PixelFormat::Rgb8, (60, 50), ColorInfo::default(), pattern);
    let part = frame(PixelFormat::Rgb8, (21, 18), ColorInfo::default(), |x, y, c| pattern(x + 13, y + 7, c));
    let spec = spec((32, 24), Resize::LetterboxCenter);
    let region = BBox::new(13.4, 7.0, 33.9, 24.2);
    assert_eq!(fill(spec.clone(), &whole, Some(&region)), fill(spec.clone(), &part, None));

    let outside = Preprocessor::new(spec).place(&whole, Some(&BBox::new(70.0, 0.0, 80.0, 10.0))).unwrap_err();
    assert!(outside.to_string().contains("outside the frame of 60×50"), "{outside}");
}

#[test]
fn a_region_of_video_has_the_colours_of_its_place() {
    // Not resized, so that a sample can be told by its place. Odd offsets begin and end within a chroma sample.
    let spec = InputSpec { size: None, ..spec((1, 1), Resize::PadToMultiple(1)) };
    let smooth = |x: usize, y: usize, c: usize| (x * 3 + y * 2 + c * 40) as u8;
    for format in [PixelFormat::I420, PixelFormat::Nv12] {
        let picture = frame(format, (41, 31), ColorInfo::default(), smooth);
        let whole = fill(spec.clone(), &picture, None);
        for [x, y, width, height] in [[4, 6, 12, 10], [5, 6, 12, 11], [4, 7, 13, 10], [13, 11, 9, 7], [0, 0, 41, 31]] {
            let region = BBox::new(x as f32, y as f32, (x + width) as f32, (y + height) as f32);
            let part = fill(spec.clone(), &picture, Some(&region));
            assert_eq!(part.len(), 3 * width * height);
            for (i, value) in part.iter().enumerate() {
                let (c, row, column) = (i / (width * height), i / width % height, i % width);
                let expected = whole[(c * 31 + y + row) * 41 + x + column];
                // At its edge a region has no neighbour to mix chroma with: a quarter of a step, which is 3 or less here.
                let edge = row == 0 || column == 0 || row + 1 == height || column + 1 == width;
                let tolerance = if edge { 2.5 } else { 0.0 };
                assert!(
                    (value - expected).abs() <= tolerance,
                    "{format:?} {region:?} channel {c} at {column}, {row}: {value} for {expected}"
                );
            }
        }
    }
}

#[test]
fn padding_is_painted_anew_when_the_picture_moves() {
    let spec = InputSpec {
        channels: [(0, Affine { mul: 0.5, add: 1.0 }), (1, SAME), (2, SAME)],
        ..spec((32, 32), Resize::Letterbox)
    };
    let wide = frame(PixelFormat::Rgb8, (64, 32), ColorInfo::default(), pattern);
    let tall = frame(PixelFormat::Rgb8, (32, 64), ColorInfo::default(), pattern);
    let mut preprocessor = Preprocessor::new(spec.clone());
    let mut input = vec![f32::NAN; 3 * 32 * 32];
    let mut before = None;
    for picture in [&wide, &tall, &wide, &wide] {
        let at = preprocessor.place(picture, None).unwrap();
        preprocessor.fill(picture, &at, before.as_ref(), &mut input).unwrap();
        assert_eq!(input, fill(spec.clone(), picture, None));
        before = Some(at);
    }
    // Below the wide picture: padding, normalised.
    assert_eq!(input[31 * 32], 114.0 * 0.5 + 1.0);
}

#[test]
fn more_sizes_than_tables_still_come_out_right() {
    let mut preprocessor = Preprocessor::new(spec((16, 16), Resize::Stretch));
    for side in (1..60).chain(1..60) {
        let picture = frame(PixelFormat::Gray8, (side, side), ColorInfo::default(), |_, _, _| 77);
        let at = preprocessor.place(&picture, None).unwrap();
        let mut input = vec![0.0; 3 * 256];
        preprocessor.fill(&picture, &at, None, &mut input).unwrap();
        assert!(input.iter().all(|v| (v - 77.0).abs() <= 1.0));
    }
    assert_eq!(preprocessor.tables.len(), MAX_TABLES);
}
