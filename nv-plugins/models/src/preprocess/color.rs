//! From interpolated samples to the values that the network takes, one row at a time. Samples come four times as large
//! as they are stored, as [`between`](super::resize::between) gives them, and are rounded to 8 bits as in a stored
//! picture: their low bits are cut, not rounded, which would tint every grey.

use nv_plugin_sdk::{ColorInfo, ColorMatrix, ColorRange};

/// How the value of one colour channel becomes the network's: `value · mul + add`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(crate) mul: f32,
    pub(crate) add: f32,
}

impl Affine {
    pub(super) fn apply(self, value: f32) -> f32 {
        value * self.mul + self.add
    }
}

/// The stored sample that this one rounds to.
#[inline]
fn rounded(sample: i16) -> f32 {
    f32::from((sample + 2) >> 2)
}

/// A row of one colour channel.
pub(super) fn plain_row(samples: &[i16], affine: Affine, out: &mut [f32]) {
    for (out, &sample) in out.iter_mut().zip(samples) {
        *out = affine.apply(rounded(sample));
    }
}

/// Turns Y, Cb, Cr into R, G, B: ITU-T H.273, equations 4 to 6 and 38 to 40 for the matrix, section 8.3 for the range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct YuvToRgb {
    /// Added to luma before it is scaled.
    luma_offset: f32,
    luma: f32,
    /// Red from Cr.
    red: f32,
    /// Green from Cb and from Cr.
    green: [f32; 2],
    /// Blue from Cb.
    blue: f32,
}

impl YuvToRgb {
    pub(super) fn new(color: ColorInfo) -> Self {
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

    /// One row of R, G, B, each with its own affine.
    pub(super) fn row(&self, [y, cb, cr]: [&[i16]; 3], affines: [Affine; 3], out: [&mut [f32]; 3]) {
        // Copies, so that the compiler sees that writing a row changes none of them and vectorises the loop.
        let Self { luma_offset, luma, red, green, blue } = *self;
        let [to_r, to_g, to_b] = affines;
        let [r, g, b] = out;
        let n = r.len();
        let (g, b) = (&mut g[..n], &mut b[..n]);
        let (y, cb, cr) = (&y[..n], &cb[..n], &cr[..n]);
        for i in 0..n {
            let y = (rounded(y[i]) + luma_offset) * luma;
            let cb = rounded(cb[i]) - 128.0;
            let cr = rounded(cr[i]) - 128.0;
            r[i] = to_r.apply((y + red * cr).clamp(0.0, 255.0));
            g[i] = to_g.apply((y + green[0] * cb + green[1] * cr).clamp(0.0, 255.0));
            b[i] = to_b.apply((y + blue * cb).clamp(0.0, 255.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Affine = Affine { mul: 1.0, add: 0.0 };

    #[test]
    fn known_colours() {
        fn check(range: ColorRange, matrix: ColorMatrix, yuv: [i16; 3], expected: [f32; 3]) {
            let [y, u, v] = yuv.map(|s| [s * 4]);
            let (mut r, mut g, mut b) = ([0.0], [0.0], [0.0]);
            YuvToRgb::new(ColorInfo { range, matrix }).row([&y, &u, &v], [SAME; 3], [&mut r, &mut g, &mut b]);
            for (found, expected) in [r[0], g[0], b[0]].into_iter().zip(expected) {
                assert!((found - expected).abs() < 1.0, "{range:?} {matrix:?} {yuv:?}: {found} for {expected}");
            }
        }
        use ColorMatrix::{Bt601, Bt709, Bt2020};
        use ColorRange::{Full, Limited};
        for matrix in [Bt601, Bt709, Bt2020] {
            check(Limited, matrix, [16, 128, 128], [0.0; 3]);
            check(Limited, matrix, [235, 128, 128], [255.0; 3]);
            check(Full, matrix, [128, 128, 128], [128.0; 3]);
            check(Full, matrix, [255, 128, 128], [255.0; 3]);
        }
        // Pure colours by each standard's own coefficients.
        check(Limited, Bt601, [81, 90, 240], [255.0, 0.0, 0.0]);
        check(Limited, Bt601, [145, 54, 34], [0.0, 255.0, 0.0]);
        check(Limited, Bt601, [41, 240, 110], [0.0, 0.0, 255.0]);
        check(Limited, Bt709, [63, 102, 240], [255.0, 0.0, 0.0]);
        check(Full, Bt601, [76, 85, 255], [254.0, 0.0, 0.0]);
    }
}
