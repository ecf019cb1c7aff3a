//! Bilinear interpolation of 8-bit samples, to the bit as OpenCV's `resize` with `INTER_LINEAR` computes it
//! (`modules/imgproc/src/resize.cpp`, 4.x): pixel centres at ½, edges repeated, weights of 11 bits, horizontal sums cut
//! to 16 bits, vertical ones rounded to two more bits than the result has. Detectors were trained and published with
//! it, so the last bit counts for their scores.

use super::PixelRect;

/// Weights are fractions of this: 2¹¹.
const ONE: f32 = 2048.0;

/// Where one output sample comes from along an axis: two input samples and their weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Index of the first sample and of the second, multiplied by the step between samples.
    pub(crate) at: [u32; 2],
    /// Their weights, of [`ONE`].
    pub(crate) weight: [i16; 2],
}

/// A run of input samples that is stretched to `output` samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// First input sample.
    pub(crate) start: usize,
    /// Number of input samples.
    pub(crate) len: usize,
    /// Number of output samples.
    pub(crate) output: usize,
    /// How many input samples share one stored sample: 2 for subsampled chroma, else 1.
    pub(crate) subsampling: usize,
    /// Whether samples beyond an end weigh nothing (OpenCV's columns) or repeat the end (its rows). It shows in rounding
    /// alone.
    pub(crate) drop_beyond: bool,
}

impl Axis {
    /// The columns and the lines of `source` stretched to `target`'s, of channels of which so many of both share a sample.
    pub(crate) fn of(source: PixelRect, [width, height]: [u32; 2], subsampling: usize) -> [Self; 2] {
        let axis = |start: u32, len: u32, output: u32, drop_beyond| Self {
            start: start as usize,
            len: len as usize,
            output: output as usize,
            subsampling,
            drop_beyond,
        };
        [axis(source.x, source.width, width, true), axis(source.y, source.height, height, false)]
    }

    /// The stored samples that it touches: the first, and the one after the last.
    pub(crate) fn stored(&self) -> [usize; 2] {
        [self.start / self.subsampling, (self.start + self.len).div_ceil(self.subsampling)]
    }

    /// One tap for each output sample; stored samples are `step` apart.
    pub(crate) fn taps(&self, step: usize) -> impl Iterator<Item = Tap> + use<> {
        let Self { start, len, output, subsampling, drop_beyond } = *self;
        // OpenCV divides twice; once would give other bits.
        let scale = 1.0 / (output as f64 / len as f64);
        let [first, end] = self.stored();
        let (low, high) = (first as i64, end as i64 - 1);
        (0..output).map(move |i| {
            let center = (i as f64 + 0.5) * scale;
            // Centres in stored samples, the run's start counted apart to keep the float's low bits.
            let (position, offset) = if subsampling == 1 {
                ((center - 0.5) as f32, low)
            } else {
                (((start as f64 + center) / subsampling as f64 - 0.5) as f32, 0)
            };
            let floor = position.floor();
            let mut fraction = position - floor;
            let mut at = floor as i64 + offset;
            if drop_beyond && (at < low || at >= high) {
                fraction = 0.0;
                at = at.clamp(low, high);
            }
            let index = |i: i64| (i.clamp(low, high) as usize * step) as u32;
            let weight = |w: f32| (w * ONE).round_ties_even() as i16;
            Tap { at: [index(at), index(at + 1)], weight: [weight(1.0 - fraction), weight(fraction)] }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subsampled_samples_sit_between_theirs() {
        // Eight columns share four chroma samples. The eight centres lie a quarter off the chroma centres.
        let axis = Axis { start: 0, len: 8, output: 8, subsampling: 2, drop_beyond: true };
        let taps: Vec<_> = axis.taps(1).collect();
        assert_eq!(taps[0], Tap { at: [0, 1], weight: [2048, 0] });
        assert_eq!(taps[1], Tap { at: [0, 1], weight: [1536, 512] });
        assert_eq!(taps[2], Tap { at: [0, 1], weight: [512, 1536] });
        assert_eq!(taps[7], Tap { at: [3, 3], weight: [2048, 0] });
    }

    proptest! {
        #[test]
        fn taps_stay_inside_and_weigh_one(
            start in 0usize..50, len in 1usize..80, output in 1usize..120, subsampling in 1usize..=2, drop_beyond: bool
        ) {
            let axis = Axis { start, len, output, subsampling, drop_beyond };
            let [first, end] = axis.stored();
            prop_assert_eq!(axis.taps(1).count(), output);
            for tap in axis.taps(1) {
                prop_assert!(tap.at.iter().all(|&at| (first..end).contains(&(at as usize))));
                prop_assert!(tap.weight.iter().all(|&w| (0..=2048).contains(&w)));
                prop_assert!((2047..=2049).contains(&(tap.weight[0] + tap.weight[1])));
            }
        }
    }
}
