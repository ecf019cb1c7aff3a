use std::io::Cursor;

use nv_core::{Frame, FrameHeader, FramePool, PixelFormat, Pts, Size};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::mp4::{Sniffed, sniff};

/// The most pixels on a side. (JPEG allows 65,535, PNG more; a gigapixel is a damaged header.)
const MAX_SIDE: usize = 32_768;
const MAX_PIXELS: u64 = 1 << 28;

/// Why a picture could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageError {
    /// The data is damaged.
    Damaged(String),
    /// It is sound, and of a kind that isn't read.
    Unsupported(String),
}

/// A picture's codec, by its first bytes.
pub(super) fn codec(bytes: &[u8]) -> Result<&'static str, ImageError> {
    match sniff(&bytes[..bytes.len().min(512)]) {
        Sniffed::Jpeg => Ok("JPEG"),
        Sniffed::Png => Ok("PNG"),
        Sniffed::Empty => Err(ImageError::Damaged("the file is empty".into())),
        Sniffed::OtherImage(name) => Err(ImageError::Unsupported(format!("it is {name}; JPEG and PNG are read"))),
        _ => Err(ImageError::Damaged("it is neither JPEG nor PNG, whatever its name says".into())),
    }
}

/// Decodes a JPEG to RGB8 (to GRAY8 if it has no colour), a PNG likewise: 16 bits are cut to 8, palettes looked up, alpha
/// dropped.
pub(super) fn decode(bytes: &[u8], pts: Pts, pool: &FramePool) -> Result<Frame, ImageError> {
    match codec(bytes)? {
        "JPEG" => decode_jpeg(bytes, pts, pool),
        _ => decode_png(bytes, pts, pool),
    }
}

fn decode_jpeg(bytes: &[u8], pts: Pts, pool: &FramePool) -> Result<Frame, ImageError> {
    let damaged = |e: zune_jpeg::errors::DecodeErrors| ImageError::Damaged(e.to_string());
    // The decoder fills up what is missing with grey and says nothing.
    if !jpeg_is_complete(bytes) {
        return Err(ImageError::Damaged("the JPEG is cut off".into()));
    }
    let options = DecoderOptions::default().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (format, out) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (PixelFormat::Gray8, ColorSpace::Luma),
        _ => (PixelFormat::Rgb8, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let info = decoder.info().ok_or_else(|| ImageError::Damaged("the JPEG has no header".into()))?;
    fill(pool, (info.width.into(), info.height.into()), format, pts, |plane| {
        decoder.decode_into(plane).map_err(damaged)
    })
}

/// Whether the end-of-image marker follows the first scan. Walks over the segments before it, so that the marker of a
/// thumbnail inside one does not count (ITU-T T.81 Annex B).
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker, rest @ ..]) = bytes.get(at..) {
        match marker {
            // Fill bytes, and markers without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 => return false,
            0xda => return rest.windows(2).any(|pair| pair == [0xff, 0xd9]),
            _ => {
                let Some([high, low]) = rest.first_chunk() else { return false };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
            }
        }
    }
    // Stray bytes between segments: leave them to the decoder.
    bytes.get(at..).is_some_and(|rest| rest.windows(2).any(|pair| pair == [0xff, 0xd9]))
}

fn decode_png(bytes: &[u8], pts: Pts, pool: &FramePool) -> Result<Frame, ImageError> {
    let damaged = |e: png::DecodingError| ImageError::Damaged(e.to_string());
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: 1 << 31 });
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = (reader.info().width, reader.info().height);
    let (format, channels, stored) = match reader.output_color_type().0 {
        png::ColorType::Grayscale => (PixelFormat::Gray8, 1, 1),
        png::ColorType::GrayscaleAlpha => (PixelFormat::Gray8, 1, 2),
        png::ColorType::Rgb => (PixelFormat::Rgb8, 3, 3),
        png::ColorType::Rgba => (PixelFormat::Rgb8, 3, 4),
        png::ColorType::Indexed => return Err(ImageError::Unsupported("its palette can't be expanded".into())),
    };
    fill(pool, (width, height), format, pts, |plane| {
        if channels == stored {
            reader.next_frame(plane).map_err(damaged)?;
            return Ok(());
        }
        let size = reader.output_buffer_size().ok_or_else(|| ImageError::Damaged("the PNG is too large".into()))?;
        let mut pixels = vec![0; size];
        reader.next_frame(&mut pixels).map_err(damaged)?;
        for (out, pixel) in plane.chunks_exact_mut(channels).zip(pixels.chunks_exact(stored)) {
            out.copy_from_slice(&pixel[..channels]);
        }
        Ok(())
    })
}

/// A frame of one plane, filled by `decode`.
fn fill(
    pool: &FramePool,
    (width, height): (u32, u32),
    format: PixelFormat,
    pts: Pts,
    decode: impl FnOnce(&mut [u8]) -> Result<(), ImageError>,
) -> Result<Frame, ImageError> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::Unsupported(format!("{width}×{height} pixels are too many")));
    }
    let mut header = FrameHeader::new(Size::new(width, height), format);
    header.pts = pts;
    let mut buffer = pool.take(header).map_err(|e| ImageError::Damaged(e.to_string()))?;
    decode(buffer.plane_mut(0))?;
    Ok(buffer.freeze())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A PNG of `color`, whose samples are `data`.
    pub(in crate::image) fn png(
        (width, height): (u32, u32),
        color: png::ColorType,
        depth: png::BitDepth,
        data: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(vec![10, 20, 30, 40, 50, 60]);
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    /// A smooth RGB picture.
    pub(in crate::image) fn rgb(width: u32, height: u32) -> Vec<u8> {
        let pixel = |x: u32, y: u32| [(x * 200 / width) as u8 + 20, (y * 200 / height) as u8 + 20, 90];
        (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
    }

    pub(in crate::image) fn jpeg(width: u16, height: u16, color: jpeg_encoder::ColorType, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        jpeg_encoder::Encoder::new(&mut bytes, 95).encode(data, width, height, color).unwrap();
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<(PixelFormat, Vec<u8>), ImageError> {
        let frame = decode(bytes, Pts::from_nanos(0), &FramePool::new(0))?;
        Ok((frame.format(), frame.host().unwrap().plane(0).data.to_vec()))
    }

    #[test]
    fn every_kind_of_png_becomes_eight_bits_without_alpha() {
        use png::{BitDepth as D, ColorType as C};
        fn check(color: C, depth: D, data: &[u8], expected: (PixelFormat, &[u8])) {
            let bytes = png((2, 1), color, depth, data);
            assert_eq!(decoded(&bytes).unwrap(), (expected.0, expected.1.to_vec()), "{color:?} {depth:?}");
        }
        let (gray, rgb) = (PixelFormat::Gray8, PixelFormat::Rgb8);
        check(C::Grayscale, D::One, &[0b0100_0000], (gray, &[0, 255]));
        check(C::Grayscale, D::Four, &[0x1f], (gray, &[17, 255]));
        check(C::Grayscale, D::Eight, &[7, 8], (gray, &[7, 8]));
        check(C::Grayscale, D::Sixteen, &[7, 99, 8, 99], (gray, &[7, 8]));
        check(C::GrayscaleAlpha, D::Eight, &[7, 0, 8, 255], (gray, &[7, 8]));
        check(C::Rgb, D::Eight, &[1, 2, 3, 4, 5, 6], (rgb, &[1, 2, 3, 4, 5, 6]));
        check(C::Rgb, D::Sixteen, &[1, 9, 2, 9, 3, 9, 4, 9, 5, 9, 6, 9], (rgb, &[1, 2, 3, 4, 5, 6]));
        check(C::Rgba, D::Eight, &[1, 2, 3, 0, 4, 5, 6, 255], (rgb, &[1, 2, 3, 4, 5, 6]));
        check(C::Indexed, D::Eight, &[1, 0], (rgb, &[40, 50, 60, 10, 20, 30]));
        check(C::Indexed, D::One, &[0b1000_0000], (rgb, &[40, 50, 60, 10, 20, 30]));
    }

    #[test]
    fn jpegs_are_rgb_or_gray() {
        let original = rgb(33, 17);
        let (format, data) = decoded(&jpeg(33, 17, jpeg_encoder::ColorType::Rgb, &original)).unwrap();
        assert_eq!((format, data.len()), (PixelFormat::Rgb8, original.len()));
        let worst = original.iter().zip(&data).map(|(&a, &b)| a.abs_diff(b)).max();
        assert!(worst < Some(16), "{worst:?}");
        let gray: Vec<u8> = (0..33 * 17).map(|i| (i / 4) as u8).collect();
        let (format, data) = decoded(&jpeg(33, 17, jpeg_encoder::ColorType::Luma, &gray)).unwrap();
        assert_eq!((format, data.len()), (PixelFormat::Gray8, gray.len()));
        let cmyk: Vec<u8> = original.chunks_exact(3).flat_map(|p| [255 - p[0], 255 - p[1], 255 - p[2], 0]).collect();
        for color in [jpeg_encoder::ColorType::Cmyk, jpeg_encoder::ColorType::CmykAsYcck] {
            let (format, data) = decoded(&jpeg(33, 17, color, &cmyk)).unwrap();
            assert_eq!((format, data.len()), (PixelFormat::Rgb8, original.len()));
            let worst = original.iter().zip(&data).map(|(&a, &b)| a.abs_diff(b)).max();
            assert!(worst < Some(16), "{color:?} {worst:?}");
        }
    }

    #[test]
    fn cut_and_damaged_pictures_are_errors_never_panics() {
        let data = rgb(40, 40);
        let png = png((40, 40), png::ColorType::Rgb, png::BitDepth::Eight, &data);
        let jpeg = jpeg(40, 40, jpeg_encoder::ColorType::Rgb, &data);
        // A PNG is whole without its last chunk, which holds nothing.
        for (bytes, whole) in [(&jpeg, jpeg.len()), (&png, png.len() - 12)] {
            for cut in (0..whole).step_by(7).chain([whole - 1]) {
                assert!(decoded(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
            }
            for i in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[i] ^= 0x10 << (i % 4);
                let _ = decoded(&flipped);
            }
        }
    }

    #[test]
    fn a_thumbnail_does_not_make_a_cut_jpeg_whole() {
        let thumbnail = jpeg(8, 8, jpeg_encoder::ColorType::Rgb, &rgb(8, 8));
        let whole = jpeg(16, 16, jpeg_encoder::ColorType::Rgb, &rgb(16, 16));
        let mut with_thumbnail = vec![0xff, 0xd8, 0xff, 0xe1];
        with_thumbnail.extend((thumbnail.len() as u16 + 2).to_be_bytes());
        with_thumbnail.extend(&thumbnail);
        with_thumbnail.extend(&whole[2..]);
        assert!(decoded(&with_thumbnail).is_ok());
        assert_eq!(
            decoded(&with_thumbnail[..with_thumbnail.len() - 20]),
            Err(ImageError::Damaged("the JPEG is cut off".into()))
        );
    }

    #[test]
    fn other_kinds_are_named() {
        fn check(bytes: &[u8], expected: ImageError) {
            assert_eq!(decoded(bytes), Err(expected));
        }
        check(b"", ImageError::Damaged("the file is empty".into()));
        check(b"hello", ImageError::Damaged("it is neither JPEG nor PNG, whatever its name says".into()));
        check(b"RIFF\0\0\0\0WEBPVP8 ", ImageError::Unsupported("it is WebP; JPEG and PNG are read".into()));
    }
}
