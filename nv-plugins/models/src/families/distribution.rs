//! Distances as distributions over whole numbers (Li et al. 2020, "Generalized Focal Loss", section 3.2): the network gives a
//! value for each distance of 0, 1, 2 … strides, and the distance is the mean under their softmax.

use nv_plugin_sdk::{BBox, Point};

/// The distance that values say, one for each whole number from 0 on.
fn mean(values: &[f32]) -> f32 {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, value) in values.iter().enumerate() {
        let share = (value - greatest).exp();
        sum += share;
        weighted += share * bin as f32;
    }
    weighted / sum
}

/// The box whose left, top, right and bottom edges lie as far from `center`, in `stride` pixels, as the distributions say: a
/// quarter of the values for each edge.
pub(super) fn bbox(center: Point, stride: f32, values: &[f32]) -> BBox {
    let bins = values.len() / 4;
    let [left, top, right, bottom] = [0, 1, 2, 3].map(|side| mean(&values[side * bins..][..bins]) * stride);
    BBox::new(center.x - left, center.y - top, center.x + right, center.y + bottom)
}

/// The values whose [`mean`] is `distance`: certain of the two whole numbers that it lies between.
#[cfg(test)]
pub(super) fn encoded(distance: f32, bins: usize) -> Vec<f32> {
    let share = |bin: usize| (1.0 - (bin as f32 - distance).abs()).max(0.0);
    (0..bins).map(|bin| (share(bin) + 1e-12).ln()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_values_are_the_middle() {
        assert_eq!(mean(&[5.0; 8]), 3.5);
        let mut certain = [0.0; 16];
        certain[11] = 200.0;
        assert_eq!(mean(&certain), 11.0);
    }

    proptest! {
        #[test]
        fn distances_come_back(distance in 0f32..15.0) {
            let values = encoded(distance, 16);
            prop_assert!((mean(&values) - distance).abs() < 1e-3);
        }
    }
}
