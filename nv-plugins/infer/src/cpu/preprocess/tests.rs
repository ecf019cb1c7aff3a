use nv_core::{ColorInfo, ColorMatrix, ColorRange, Frame};

use super::*;
use crate::picture::tests::{FORMATS, check_as_opencv, frame, pattern, plain, same, whole};
use crate::picture::{PictureChannel, PixelRect};

fn fill(preprocessor: &mut Preprocessor, input: &PictureInput, part: &PicturePart<'_>, size: Size) -> Vec<f32> {
    let mut out = vec![f32::NAN; 3 * (size.width * size.height) as usize];
    preprocessor.fill(input, part, size, &mut out).unwrap();
    out
}

fn stretched(frame: &Frame, size: Size) -> Vec<f32> {
    let part = PicturePart { frame, source: whole(frame.size()), target: whole(size) };
    fill(&mut Preprocessor::new(SimdLevel::detect()), &plain(), &part, size)
}

#[test]
fn pictures_come_out_as_opencv_has_them() {
    check_as_opencv(stretched);
}

#[test]
fn packed_formats_differ_in_order_alone() {
    let size = Size::new(16, 16);
    let rgb = frame(PixelFormat::Rgb8, (33, 21), ColorInfo::default(), pattern);
    let bgr = frame(PixelFormat::Bgr8, (33, 21), ColorInfo::default(), |x, y, c| pattern(x, y, 2 - c));
    let rgba = frame(PixelFormat::Rgba8, (33, 21), ColorInfo::default(), |x, y, c| pattern(x, y, c % 3));
    let expected = stretched(&rgb, size);
    assert_eq!(stretched(&bgr, size), expected);
    assert_eq!(stretched(&rgba, size), expected);

    // Every order of planes.
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let input = PictureInput { channels: order.map(same), ..plain() };
        let part = PicturePart { frame: &rgb, source: whole(rgb.size()), target: whole(size) };
        let found = fill(&mut Preprocessor::new(SimdLevel::Scalar), &input, &part, size);
        for (color, plane) in order.into_iter().enumerate() {
            assert_eq!(found[256 * plane..][..256], expected[256 * color..][..256], "{order:?}");
        }
    }
}

#[test]
fn planar_formats_agree() {
    let sample = |x: usize, y: usize, c: usize| pattern(x / 3, y / 2, c);
    for size in [(64, 48), (63, 47), (1, 1)] {
        let i420 = frame(PixelFormat::I420, size, ColorInfo::default(), sample);
        let nv12 = frame(PixelFormat::Nv12, size, ColorInfo::default(), sample);
        assert_eq!(stretched(&i420, Size::new(40, 24)), stretched(&nv12, Size::new(40, 24)), "{size:?}");
    }
}

#[test]
fn grey_is_grey_in_every_format() {
    let full = ColorInfo { range: ColorRange::Full, ..ColorInfo::default() };
    let luma = |x: usize, y: usize, c: usize| if c == 0 { pattern(x, y, 0) } else { 128 };
    let grey = stretched(&frame(PixelFormat::Gray8, (31, 27), full, luma), Size::new(20, 20));
    let i420 = stretched(&frame(PixelFormat::I420, (31, 27), full, luma), Size::new(20, 20));
    for (i, (a, b)) in grey.iter().zip(&i420).enumerate() {
        assert!((a - b).abs() < 0.01, "{i}: {a} {b}");
        assert_eq!(*a, grey[i % 400], "the three planes are the same");
    }
}

#[test]
fn every_level_gives_the_same_wherever_the_picture_goes_and_whatever_was_there() {
    let colors = [
        ColorInfo { range: ColorRange::Limited, matrix: ColorMatrix::Bt601 },
        ColorInfo { range: ColorRange::Full, matrix: ColorMatrix::Bt709 },
    ];
    let size = Size::new(40, 28);
    let channel = |plane, mul, add| PictureChannel { plane, mul, add };
    let planar = PictureInput {
        layout: PictureLayout::Planar,
        channels: [channel(2, 0.5, -3.0), channel(1, 2.0, 1.0), channel(0, -1.0, 0.25)],
        pad: 100,
    };
    let interleaved = PictureInput { layout: PictureLayout::Interleaved, ..planar.clone() };
    let pads = planar.channels.map(|channel| (channel.plane, channel.apply(100.0)));
    let mut preprocessors: Vec<_> = SimdLevel::available().map(Preprocessor::new).collect();
    for (i, format) in FORMATS.into_iter().cycle().take(12).enumerate() {
        let picture = frame(format, [(64, 48), (63, 47), (1, 1), (200, 3)][i % 4], colors[i % 2], pattern);
        let Size { width, height } = picture.size();
        let source = PixelRect { x: width / 3, y: height / 3, width: width.div_ceil(5), height: height.div_ceil(2) };
        let middle = PixelRect { x: 3, y: 5, width: 31, height: 17 };
        for (source, target) in [(whole(picture.size()), middle), (source, whole(size)), (source, middle)] {
            let part = PicturePart { frame: &picture, source, target };
            let expected = fill(&mut preprocessors[0], &planar, &part, size);
            let pixels = fill(&mut preprocessors[0], &interleaved, &part, size);
            for (at, pixel) in pixels.chunks_exact(3).enumerate() {
                let planes = [expected[at], expected[1120 + at], expected[2240 + at]];
                assert_eq!(pixel, planes, "{format:?} {at}");
                let (x, y) = (at as u32 % size.width, at as u32 / size.width);
                if !(PixelRect { x, y, width: 1, height: 1 }).is_within(target) {
                    assert!(pads.iter().all(|(plane, pad)| planes[*plane] == *pad), "{format:?} {x} {y}");
                }
            }
            for preprocessor in &mut preprocessors {
                assert_eq!(fill(preprocessor, &planar, &part, size), expected, "{preprocessor:?}");
                assert_eq!(fill(preprocessor, &interleaved, &part, size), pixels, "{preprocessor:?}");
            }
        }
    }
}

#[test]
fn a_part_is_as_the_same_pixels_alone() {
    let all = frame(PixelFormat::Rgb8, (60, 50), ColorInfo::default(), pattern);
    let part = frame(PixelFormat::Rgb8, (21, 18), ColorInfo::default(), |x, y, c| pattern(x + 13, y + 7, c));
    let size = Size::new(32, 24);
    let source = PixelRect { x: 13, y: 7, width: 21, height: 18 };
    let of_all = PicturePart { frame: &all, source, target: whole(size) };
    let found = fill(&mut Preprocessor::new(SimdLevel::detect()), &plain(), &of_all, size);
    assert_eq!(found, stretched(&part, size));
}

#[test]
fn a_part_of_video_has_the_colours_of_its_place() {
    // Not resized, so that a sample can be told by its place. Odd offsets begin and end within a chroma sample.
    let smooth = |x: usize, y: usize, c: usize| (x * 3 + y * 2 + c * 40) as u8;
    let mut preprocessor = Preprocessor::new(SimdLevel::detect());
    for format in [PixelFormat::I420, PixelFormat::Nv12] {
        let picture = frame(format, (41, 31), ColorInfo::default(), smooth);
        let all = stretched(&picture, picture.size());
        for [x, y, width, height] in [[4, 6, 12, 10], [5, 6, 12, 11], [4, 7, 13, 10], [13, 11, 9, 7], [0, 0, 41, 31]] {
            let (source, size) = (PixelRect { x, y, width, height }, Size::new(width, height));
            let part = PicturePart { frame: &picture, source, target: whole(size) };
            let found = fill(&mut preprocessor, &plain(), &part, size);
            for (i, value) in found.iter().enumerate() {
                let [x, y, width, height] = [x, y, width, height].map(|n| n as usize);
                let (c, row, column) = (i / (width * height), i / width % height, i % width);
                let expected = all[(c * 31 + y + row) * 41 + x + column];
                // At its edge a part has no neighbour to mix chroma with: a quarter of a step, which is 3 or less here.
                let edge = row == 0 || column == 0 || row + 1 == height || column + 1 == width;
                let tolerance = if edge { 2.5 } else { 0.0 };
                assert!(
                    (value - expected).abs() <= tolerance,
                    "{format:?} {source:?} channel {c} at {column}, {row}: {value} for {expected}"
                );
            }
        }
    }
}

#[test]
fn more_sizes_than_tables_still_come_out_right() {
    let mut preprocessor = Preprocessor::new(SimdLevel::detect());
    let size = Size::new(16, 16);
    for side in (1..60).chain(1..60) {
        let picture = frame(PixelFormat::Gray8, (side, side), ColorInfo::default(), |_, _, _| 77);
        let part = PicturePart { frame: &picture, source: whole(picture.size()), target: whole(size) };
        let input = fill(&mut preprocessor, &plain(), &part, size);
        assert!(input.iter().all(|v| (v - 77.0).abs() <= 1.0));
    }
    assert_eq!(preprocessor.tables.len(), MAX_TABLES);
}
