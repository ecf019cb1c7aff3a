//! Bilinear interpolation of 8-bit samples, to the bit as OpenCV's `resize` with `INTER_LINEAR` computes it
//! (`modules/imgproc/src/resize.cpp`, 4.x): pixel centres at ½, edges repeated, weights of 11 bits, horizontal sums cut
//! to 16 bits, vertical ones rounded to two more bits than the result has. Detectors were trained and published with
//! it, so the last bit counts for their scores.

/// Weights are fractions of this: 2¹¹.
const ONE: f32 = 2048.0;

/// Where one output sample comes from along an axis: two input samples and their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// Index of the first sample, multiplied by the step between samples.
    pub(super) at: [u32; 2],
    /// Their weights, of [`ONE`].
    pub(super) weight: [i16; 2],
}

/// A run of input samples that is stretched to `output` samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// First input sample.
    pub(super) start: usize,
    /// Number of input samples.
    pub(super) len: usize,
    /// Number of output samples.
    pub(super) output: usize,
    /// How many input samples share one stored sample: 2 for subsampled chroma, else 1.
    pub(super) subsampling: usize,
    /// Whether samples beyond an end weigh nothing (OpenCV's columns) or repeat the end (its rows). It shows in rounding
    /// alone.
    pub(super) drop_beyond: bool,
}

impl Axis {
    /// One tap for each output sample; stored samples are `step` apart.
    pub(super) fn taps(&self, step: usize) -> Vec<Tap> {
        // OpenCV divides twice; once would give other bits.
        let scale = 1.0 / (self.output as f64 / self.len as f64);
        let sub = self.subsampling;
        let (first, end) = (self.start / sub, (self.start + self.len).div_ceil(sub));
        let (low, high) = (first as i64, end as i64 - 1);
        (0..self.output)
            .map(|i| {
                let center = (i as f64 + 0.5) * scale;
                // Centres in stored samples, the run's start counted apart to keep the float's low bits.
                let (position, offset) = if sub == 1 {
                    ((center - 0.5) as f32, low)
                } else {
                    (((self.start as f64 + center) / sub as f64 - 0.5) as f32, 0)
                };
                let floor = position.floor();
                let mut fraction = position - floor;
                let mut at = floor as i64 + offset;
                if self.drop_beyond && (at < low || at >= high) {
                    fraction = 0.0;
                    at = at.clamp(low, high);
                }
                let index = |i: i64| (i.clamp(low, high) as usize * step) as u32;
                let weight = |w: f32| (w * ONE).round_ties_even() as i16;
                Tap { at: [index(at), index(at + 1)], weight: [weight(1.0 - fraction), weight(fraction)] }
            })
            .collect()
    }
}

/// One row, stretched: sums of two samples by their weights, shifted so that 255 becomes 32,640. `source` begins at the
/// row's first sample of the channel.
pub(super) fn stretch_row(source: &[u8], taps: &[Tap], out: &mut [i16]) {
    for (out, tap) in out.iter_mut().zip(taps) {
        let [a, b] = tap.at.map(|at| i32::from(source[at as usize]));
        let [wa, wb] = tap.weight.map(i32::from);
        *out = ((a * wa + b * wb) >> 4) as i16;
    }
}

/// The sample between two stretched rows, four times as large: 0 to 1,020 and up to 1 above for rounding.
#[inline]
pub(super) fn between(upper: i16, lower: i16, weight: [i16; 2]) -> i16 {
    let part = |sample: i16, weight: i16| (i32::from(sample) * i32::from(weight)) >> 16;
    (part(upper, weight[0]) + part(lower, weight[1])) as i16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn axis(len: usize, output: usize, drop_beyond: bool) -> Axis {
        Axis { start: 0, len, output, subsampling: 1, drop_beyond }
    }

    /// A line of samples stretched along both axes, as the whole picture would be.
    fn stretch(samples: &[u8], output: usize) -> Vec<u8> {
        let taps = axis(samples.len(), output, true).taps(1);
        let mut row = vec![0; output];
        stretch_row(samples, &taps, &mut row);
        row.iter().map(|&v| ((between(v, v, [2048, 0]) + 2) >> 2) as u8).collect()
    }

    #[test]
    fn lines_come_out_as_opencv_has_them() {
        // Expected: cv2.resize(np.array([...], np.uint8)[None], (n, 1), interpolation=cv2.INTER_LINEAR) of 4.x.
        fn check(samples: &[u8], output: usize, expected: &[u8]) {
            assert_eq!(stretch(samples, output), expected, "{samples:?} to {output}");
        }
        check(&[0, 255], 2, &[0, 255]);
        check(&[0, 255], 4, &[0, 64, 191, 255]);
        check(&[10, 20, 30, 40], 2, &[15, 35]);
        check(&[7], 3, &[7, 7, 7]);
        check(&[0, 100, 200, 50, 25], 3, &[33, 200, 33]);
        check(&[0, 255, 0, 255, 0, 255, 0], 4, &[96, 32, 32, 96]);
    }

    #[test]
    fn subsampled_samples_sit_between_theirs() {
        // Eight columns share four chroma samples. The eight centres lie a quarter off the chroma centres.
        let taps = Axis { start: 0, len: 8, output: 8, subsampling: 2, drop_beyond: true }.taps(1);
        assert_eq!(taps[0], Tap { at: [0, 1], weight: [2048, 0] });
        assert_eq!(taps[1], Tap { at: [0, 1], weight: [1536, 512] });
        assert_eq!(taps[2], Tap { at: [0, 1], weight: [512, 1536] });
        assert_eq!(taps[7], Tap { at: [3, 3], weight: [2048, 0] });
        // A part of a line that begins at an odd column starts in the middle of a chroma sample.
        let taps = Axis { start: 3, len: 3, output: 3, subsampling: 2, drop_beyond: true }.taps(2);
        assert_eq!(taps[0], Tap { at: [2, 4], weight: [1536, 512] });
    }

    proptest! {
        #[test]
        fn taps_stay_inside_and_weigh_one(
            start in 0usize..50, len in 1usize..80, output in 1usize..120, sub in 1usize..=2, drop_beyond: bool
        ) {
            let (first, last) = (start / sub, (start + len).div_ceil(sub) - 1);
            let taps = Axis { start, len, output, subsampling: sub, drop_beyond }.taps(1);
            prop_assert_eq!(taps.len(), output);
            for tap in taps {
                prop_assert!(tap.at.iter().all(|&at| (first..=last).contains(&(at as usize))));
                let sum = tap.weight[0] + tap.weight[1];
                prop_assert!((2047..=2049).contains(&sum));
            }
        }

        #[test]
        fn an_even_line_stays_even(value: u8, len in 1usize..40, output in 1usize..60) {
            let stretched = stretch(&vec![value; len], output);
            prop_assert!(stretched.iter().all(|&v| v.abs_diff(value) <= 1), "{:?}", stretched);
        }
    }
}
