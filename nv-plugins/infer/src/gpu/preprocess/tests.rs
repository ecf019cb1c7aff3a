use std::time::Duration;

use nv_core::{ColorInfo, ColorMatrix, ColorRange, PixelFormat};

use super::*;
use crate::gpu::readback::Readbacks;
use crate::gpu::testing::context;
use crate::picture::PictureChannel;
use crate::picture::tests::{FORMATS, check_as_opencv, frame, pattern, plain, whole};

const LONG: Duration = Duration::from_secs(120);

/// The network's input for these pictures.
fn run(
    context: &Context,
    input: PictureInput,
    checks: Checks,
    batches: &[&[PicturePart<'_>]],
    size: Size,
) -> Result<Vec<f32>, GpuError> {
    let mut preprocessor = Preprocessor::new(context, input, checks)?;
    let mut last = Vec::new();
    for pictures in batches {
        let bytes = 3 * 4 * u64::from(size.width * size.height) * pictures.len() as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let descriptor = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
        let buffer = context.device().create_buffer(&descriptor);
        let prepared = preprocessor.prepare(context, pictures, size, buffer.as_entire_buffer_binding())?;
        let mut slot = Readbacks::new(context, bytes, 1)?.take().expect("one is free");
        let mut encoder = context.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        prepared.dispatch(&mut pass);
        drop(pass);
        slot.copy(&mut encoder, &buffer, 0..bytes);
        let pending = slot.submit(context, encoder)?;
        last = pending.read(context, LONG, |bytes| bytemuck::cast_slice(bytes).to_vec())?;
    }
    Ok(last)
}

/// The same by the definition, one sample after the other.
fn reference(input: &PictureInput, picture: &PicturePart<'_>, size: Size) -> Vec<f32> {
    let area = (size.width * size.height) as usize;
    let mut out = vec![0.0; 3 * area];
    for channel in input.channels {
        out[channel.plane * area..][..area].fill(channel.apply(f32::from(input.pad)));
    }
    let (view, samples) = (picture.frame.host().unwrap(), Samples::of(picture.frame.format()).unwrap());
    let PixelRect { x: left, y: top, width, height } = picture.target;
    for y in 0..height as usize {
        for x in 0..width as usize {
            let values: Vec<f32> = samples
                .iter()
                .map(|channel| {
                    let [columns, lines] = Axis::of(picture.source, [width, height], channel.subsampling);
                    let column = columns.taps(channel.step).nth(x).unwrap();
                    let line = lines.taps(1).nth(y).unwrap();
                    let plane = view.plane(channel.plane);
                    let sum = |[a, b]: [i32; 2], weight: [i16; 2]| [a * i32::from(weight[0]), b * i32::from(weight[1])];
                    let row = |line: u32| {
                        let at = |i: u32| line as usize * plane.stride + i as usize + channel.offset;
                        let [a, b] = sum(column.at.map(|i| i32::from(plane.data[at(i)])), column.weight);
                        (a + b) >> 4
                    };
                    let [upper, lower] = sum(line.at.map(row), line.weight);
                    (((upper >> 16) + (lower >> 16) + 2) >> 2) as f32
                })
                .collect();
            let rgb = match *values {
                [grey] => [grey; 3],
                [y, cb, cr] if samples[1].subsampling == 2 => YuvToRgb::new(picture.frame.color()).rgb([y, cb, cr]),
                [r, g, b] => [r, g, b],
                _ => unreachable!("formats have one channel or three"),
            };
            let at = (top as usize + y) * size.width as usize + left as usize + x;
            for (channel, value) in input.channels.into_iter().zip(rgb) {
                out[channel.plane * area + at] = channel.apply(value);
            }
        }
    }
    out
}

#[test]
fn pictures_come_out_as_opencv_has_them() {
    let Some(context) = context("pictures_come_out_as_opencv_has_them") else { return };
    check_as_opencv(|frame, size| {
        let picture = PicturePart { frame, source: whole(frame.size()), target: whole(size) };
        run(&context, plain(), Checks::Trusted, &[&[picture]], size).unwrap()
    });
}

#[test]
fn a_mixed_batch_is_within_a_level_of_the_definition() {
    let Some(context) = context("a_mixed_batch_is_within_a_level_of_the_definition") else { return };
    let size = Size::new(40, 28);
    let colors = [
        ColorInfo { range: ColorRange::Limited, matrix: ColorMatrix::Bt601 },
        ColorInfo { range: ColorRange::Full, matrix: ColorMatrix::Bt709 },
        ColorInfo { range: ColorRange::Limited, matrix: ColorMatrix::Bt2020 },
    ];
    let frames: Vec<_> = FORMATS
        .iter()
        .flat_map(|format| [(64, 48), (63, 47), (1, 1), (200, 3)].map(|size| (*format, size)))
        .zip(colors.into_iter().cycle())
        .map(|((format, size), color)| frame(format, size, color, pattern))
        .collect();
    let mut pictures = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let Size { width, height } = frame.size();
        // The whole frame, and a part of it at an odd place; all of the input, or some of it.
        let part = PixelRect { x: width / 3, y: height / 3, width: width.div_ceil(5), height: height.div_ceil(2) };
        let corner = PixelRect { x: 3, y: 5, width: 31 - (i as u32 % 7), height: 17 };
        pictures.push(PicturePart { frame, source: whole(frame.size()), target: corner });
        pictures.push(PicturePart { frame, source: part, target: whole(size) });
    }
    let input = PictureInput {
        channels: [
            PictureChannel { plane: 2, mul: 0.5, add: -3.0 },
            PictureChannel { plane: 1, mul: 2.0, add: 1.0 },
            PictureChannel { plane: 0, mul: -1.0, add: 0.25 },
        ],
        pad: 100,
        layout: PictureLayout::Planar,
    };
    let expected: Vec<Vec<f32>> = pictures.iter().map(|picture| reference(&input, picture, size)).collect();
    let (area, batches) = ((size.width * size.height) as usize, [&pictures[..3], &pictures[..]]);
    for checks in [Checks::Trusted, Checks::Added] {
        let planar = run(&context, input.clone(), checks, &batches, size).unwrap();
        let pixels = PictureInput { layout: PictureLayout::Interleaved, ..input.clone() };
        let interleaved = run(&context, pixels, checks, &batches, size).unwrap();
        for (entry, expected) in expected.iter().enumerate() {
            for (i, expected) in expected.iter().enumerate() {
                let found = planar[entry * 3 * area + i];
                let level = input.channels.iter().find(|c| c.plane == i / area).unwrap().mul.abs();
                assert!((found - expected).abs() <= level * 1e-3, "{entry} {i}: {found} for {expected}, {checks:?}");
                let (plane, at) = (i / area, i % area);
                assert_eq!(interleaved[(entry * area + at) * 3 + plane], found, "{entry} {i}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(context) = context("what_does_not_fit_is_refused") else { return };
    let frame = frame(PixelFormat::Gray8, (16, 16), ColorInfo::default(), pattern);
    let size = Size::new(8, 8);
    let check = |source: PixelRect, target: PixelRect, part: &str| {
        let picture = PicturePart { frame: &frame, source, target };
        let error = run(&context, plain(), Checks::Trusted, &[&[picture]], size).unwrap_err();
        assert!(matches!(&error, GpuError::Input { reason } if reason.contains(part)), "{error}");
    };
    let fits = PixelRect { x: 0, y: 0, width: 8, height: 8 };
    check(PixelRect { x: 9, ..fits }, fits, "does not go to");
    check(PixelRect { width: 0, ..fits }, fits, "does not go to");
    check(fits, PixelRect { y: 1, ..fits }, "does not go to");
    check(PixelRect { x: u32::MAX, ..fits }, fits, "does not go to");
}
