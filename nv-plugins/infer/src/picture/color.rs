use nv_core::{ColorInfo, ColorMatrix, ColorRange};

/// Turns Y, Cb, Cr into R, G, B: ITU-T H.273, equations 4 to 6 and 38 to 40 for the matrix, section 8.3 for the range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct YuvToRgb {
    /// Added to luma before it is scaled.
    pub(crate) luma_offset: f32,
    /// What luma is scaled by.
    pub(crate) luma: f32,
    /// Red from Cr.
    pub(crate) red: f32,
    /// Green from Cb and from Cr.
    pub(crate) green: [f32; 2],
    /// Blue from Cb.
    pub(crate) blue: f32,
}

impl YuvToRgb {
    pub(crate) fn new(color: ColorInfo) -> Self {
        let (kr, kb) = match color.matrix {
            ColorMatrix::Bt709 => (0.2126, 0.0722),
            ColorMatrix::Bt2020 => (0.2627, 0.0593),
            // 601 and, until they are known here, matrices that nv-core may add.
            _ => (0.299, 0.114),
        };
        let kg = 1.0 - kr - kb;
        let (luma_offset, luma, chroma) = match color.range {
            ColorRange::Limited => (-16.0, 255.0 / 219.0, 255.0 / 224.0),
            ColorRange::Full => (0.0, 1.0, 1.0),
        };
        let (red, blue) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        Self { luma_offset, luma, red, green: [-blue * kb / kg, -red * kr / kg], blue }
    }

    /// The colour, each channel from 0 to 255.
    #[inline(always)]
    pub(crate) fn rgb(&self, [y, cb, cr]: [f32; 3]) -> [f32; 3] {
        let y = (y + self.luma_offset) * self.luma;
        let (cb, cr) = (cb - 128.0, cr - 128.0);
        let green = y + self.green[0] * cb + self.green[1] * cr;
        [y + self.red * cr, green, y + self.blue * cb].map(|value| value.clamp(0.0, 255.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        fn check(range: ColorRange, matrix: ColorMatrix, yuv: [u8; 3], expected: [f32; 3]) {
            let found = YuvToRgb::new(ColorInfo { range, matrix }).rgb(yuv.map(f32::from));
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 1.0, "{range:?} {matrix:?} {yuv:?}: {found} for {expected}");
            }
        }
        use ColorMatrix::{Bt601, Bt709, Bt2020};
        use ColorRange::{Full, Limited};
        for matrix in [Bt601, Bt709, Bt2020] {
            check(Limited, matrix, [16, 128, 128], [0.0; 3]);
            check(Limited, matrix, [235, 128, 128], [255.0; 3]);
            check(Full, matrix, [128, 128, 128], [128.0; 3]);
        }
        check(Limited, Bt601, [81, 90, 240], [255.0, 0.0, 0.0]);
        check(Limited, Bt601, [145, 54, 34], [0.0, 255.0, 0.0]);
        check(Limited, Bt709, [63, 102, 240], [255.0, 0.0, 0.0]);
        check(Full, Bt601, [76, 85, 255], [254.0, 0.0, 0.0]);
    }
}
