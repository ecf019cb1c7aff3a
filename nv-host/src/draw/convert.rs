use nv_core::{ColorInfo, ColorMatrix, ColorRange, Frame, FrameError, PixelFormat};

use super::Canvas;

impl Canvas {
    /// Makes it a copy of the frame, in RGB. Chroma is repeated, not interpolated: for looking at, that is enough.
    ///
    /// # Errors
    /// The frame's pixels can't be reached, or are in a format that is not known here.
    pub(crate) fn load(&mut self, frame: &Frame) -> Result<(), FrameError> {
        let view = frame.host()?;
        let (width, height) = (frame.size().width as usize, frame.size().height as usize);
        let format = frame.format();
        let yuv = Yuv::new(frame.color());
        match format {
            PixelFormat::I420 => {
                let [luma, u, v] = [0, 1, 2].map(|i| view.plane(i));
                let half = width.div_ceil(2);
                self.reset(width, height, |y, row| {
                    let (luma, u, v) = (luma.row(y, width), u.row(y / 2, half), v.row(y / 2, half));
                    for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                        pixel.copy_from_slice(&yuv.rgb(luma[x], u[x / 2], v[x / 2]));
                    }
                });
            }
            PixelFormat::Nv12 => {
                let (luma, chroma) = (view.plane(0), view.plane(1));
                let half = width.div_ceil(2);
                self.reset(width, height, |y, row| {
                    let (luma, chroma) = (luma.row(y, width), chroma.row(y / 2, half * 2));
                    for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                        let at = x / 2 * 2;
                        pixel.copy_from_slice(&yuv.rgb(luma[x], chroma[at], chroma[at + 1]));
                    }
                });
            }
            PixelFormat::Rgb8 => {
                self.reset(width, height, |y, row| row.copy_from_slice(view.plane(0).row(y, width * 3)));
            }
            PixelFormat::Bgr8 => self.reset(width, height, |y, row| {
                for (pixel, bgr) in row.chunks_exact_mut(3).zip(view.plane(0).row(y, width * 3).chunks_exact(3)) {
                    pixel.copy_from_slice(&[bgr[2], bgr[1], bgr[0]]);
                }
            }),
            PixelFormat::Rgba8 => self.reset(width, height, |y, row| {
                for (pixel, rgba) in row.chunks_exact_mut(3).zip(view.plane(0).row(y, width * 4).chunks_exact(4)) {
                    pixel.copy_from_slice(&rgba[..3]);
                }
            }),
            PixelFormat::Gray8 => self.reset(width, height, |y, row| {
                for (pixel, &luma) in row.chunks_exact_mut(3).zip(view.plane(0).row(y, width)) {
                    pixel.fill(luma);
                }
            }),
            // A format of a later version: it can't be drawn, as if it were elsewhere.
            _ => return Err(FrameError::NotOnHost(frame.memory_kind())),
        }
        Ok(())
    }
}

/// From YUV to RGB in whole numbers, 16 bits after the point.
struct Yuv {
    black: i32,
    luma: i32,
    v_to_r: i32,
    u_to_g: i32,
    v_to_g: i32,
    u_to_b: i32,
}

impl Yuv {
    /// The matrices follow from the weights of red and blue in luma (ITU-R BT.601, BT.709, BT.2020).
    fn new(color: ColorInfo) -> Self {
        let (kr, kb) = match color.matrix {
            ColorMatrix::Bt709 => (0.2126, 0.0722),
            ColorMatrix::Bt2020 => (0.2627, 0.0593),
            _ => (0.299, 0.114),
        };
        let (black, luma_scale, chroma_scale) = match color.range {
            ColorRange::Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
            ColorRange::Full => (0, 1.0, 1.0),
        };
        let kg = 1.0 - kr - kb;
        let fixed = |x: f64| (x * 65536.0).round() as i32;
        Self {
            black,
            luma: fixed(luma_scale),
            v_to_r: fixed(2.0 * (1.0 - kr) * chroma_scale),
            u_to_g: fixed(-2.0 * (1.0 - kb) * kb / kg * chroma_scale),
            v_to_g: fixed(-2.0 * (1.0 - kr) * kr / kg * chroma_scale),
            u_to_b: fixed(2.0 * (1.0 - kb) * chroma_scale),
        }
    }

    fn rgb(&self, y: u8, u: u8, v: u8) -> [u8; 3] {
        let y = (i32::from(y) - self.black) * self.luma + 32768;
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        [y + v * self.v_to_r, y + u * self.u_to_g + v * self.v_to_g, y + u * self.u_to_b]
            .map(|c| (c >> 16).clamp(0, 255) as u8)
    }
}

#[cfg(test)]
mod tests {
    use nv_core::{FrameHeader, FramePool, Size};

    use super::*;

    #[test]
    fn primaries_come_back() {
        fn check(range: ColorRange, matrix: ColorMatrix, yuv: [u8; 3], expected: [u8; 3]) {
            let rgb = Yuv::new(ColorInfo { range, matrix }).rgb(yuv[0], yuv[1], yuv[2]);
            let near = rgb.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2);
            assert!(near, "{range:?} {matrix:?} {yuv:?}: {rgb:?}, not {expected:?}");
        }
        use ColorMatrix::{Bt601, Bt709};
        use ColorRange::{Full, Limited};
        check(Limited, Bt601, [16, 128, 128], [0, 0, 0]);
        check(Limited, Bt601, [235, 128, 128], [255, 255, 255]);
        check(Limited, Bt601, [81, 90, 240], [255, 0, 0]);
        check(Full, Bt601, [76, 85, 255], [255, 0, 0]);
        check(Limited, Bt709, [63, 102, 240], [255, 0, 0]);
        check(Limited, Bt709, [173, 42, 26], [0, 255, 0]);
        check(Limited, Bt601, [255, 128, 128], [255, 255, 255]);
    }

    #[test]
    fn every_format_gives_the_same_grey() {
        for format in [
            PixelFormat::I420,
            PixelFormat::Nv12,
            PixelFormat::Rgb8,
            PixelFormat::Bgr8,
            PixelFormat::Rgba8,
            PixelFormat::Gray8,
        ] {
            let mut header = FrameHeader::new(Size::new(5, 3), format);
            header.color.range = ColorRange::Full;
            let mut buffer = FramePool::new(0).take(header).unwrap();
            (0..format.plane_count()).for_each(|i| buffer.plane_mut(i).fill(128));
            let mut canvas = Canvas::default();
            canvas.load(&buffer.freeze()).unwrap();
            assert_eq!((canvas.width(), canvas.height()), (5, 3));
            assert_eq!(canvas.rgb(), [128; 45], "{format:?}");
        }
    }
}
