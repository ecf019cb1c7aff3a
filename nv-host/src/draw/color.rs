use super::canvas::Rgb;

/// What has no track where others have one.
pub(super) const GREY: Rgb = [190, 190, 190];
/// Text on any colour of the palette.
pub(super) const INK: Rgb = [16, 16, 16];
pub(super) const BLACK: Rgb = [0, 0, 0];
pub(super) const WHITE: Rgb = [255, 255, 255];

/// The colour of the thing numbered `n`: light, vivid, and far from those of the numbers around it.
///
/// Hues are the golden angle apart in OKLCH, so that any run of numbers is spread evenly over the circle and equally
/// light to the eye (Björn Ottosson, "A perceptual color space for image processing", 2020); the lightness changes from one
/// to the next as well, for those who see hues less well.
pub(super) fn of_number(n: u64) -> Rgb {
    const GOLDEN_ANGLE: f32 = 137.507_76;
    // Beyond this the product would lose the degrees; colours repeat long before.
    let n = n % 10_000;
    let lightness = [0.80, 0.72, 0.88][(n % 3) as usize];
    oklch(lightness, 0.17, (n as f32 * GOLDEN_ANGLE + 30.0) % 360.0)
}

fn oklch(lightness: f32, chroma: f32, hue_degrees: f32) -> Rgb {
    let hue = hue_degrees.to_radians();
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_78 * a + 0.215_803_76 * b).powi(3);
    let m = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let s = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    let linear = [
        4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
        -1.268_438 * l + 2.609_757_4 * m - 0.341_319_38 * s,
        -0.004_196_086_3 * l - 0.703_418_6 * m + 1.707_614_7 * s,
    ];
    linear.map(|c| {
        let c = c.clamp(0.0, 1.0);
        // The transfer function of sRGB (IEC 61966-2-1).
        let encoded = if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 };
        (encoded * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklch_agrees_with_known_colours() {
        assert_eq!(oklch(1.0, 0.0, 0.0), [255, 255, 255]);
        assert_eq!(oklch(0.0, 0.0, 0.0), [0, 0, 0]);
        let near = |a: Rgb, b: Rgb| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 1);
        assert!(near(oklch(0.627_96, 0.257_68, 29.234), [255, 0, 0]));
        assert!(near(oklch(0.519_75, 0.176_86, 142.495), [0, 128, 0]));
    }

    #[test]
    fn neighbours_differ_and_ink_can_be_read_on_all() {
        let luma = |c: Rgb| 0.2126 * f32::from(c[0]) + 0.7152 * f32::from(c[1]) + 0.0722 * f32::from(c[2]);
        for n in 0..200u64 {
            let color = of_number(n);
            assert!(luma(color) > 110.0, "{n}: {color:?}");
            for near in 1..=4 {
                let other = of_number(n + near);
                let distance: i32 = color.iter().zip(other).map(|(a, b)| i32::from(a.abs_diff(b))).sum();
                assert!(distance > 60, "{n} and {}: {color:?}, {other:?}", n + near);
            }
        }
        of_number(u64::MAX);
    }
}
