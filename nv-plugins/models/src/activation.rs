//! What turns a network's last values into scores: softmax, sigmoid, or nothing where the graph has done it already.

use nv_plugin_sdk::serde::Deserialize;

/// How a network's values become scores from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "nv_plugin_sdk::serde", rename_all = "snake_case")]
pub enum Activation {
    /// They are scores already: the graph ends in a softmax or a sigmoid.
    None,
    /// One of the classes is right: scores add up to 1.
    Softmax,
    /// Each class is right or not, whatever the others are.
    Sigmoid,
}

/// The logistic function.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Turns values into scores that add up to 1.
pub(crate) fn softmax(values: &mut [f32]) {
    let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - greatest).exp();
        sum += *value;
    }
    for value in values.iter_mut() {
        *value /= sum;
    }
}

/// Whether all values may be scores: from 0 to 1, but for rounding.
pub(crate) fn are_scores(values: &[f32]) -> bool {
    const ROUNDING: f32 = 1e-4;
    values.iter().all(|v| (-ROUNDING..=1.0 + ROUNDING).contains(v))
}

/// Whether the values may be what a softmax gave: scores that add up to 1, but for rounding.
pub(crate) fn are_shares(values: &[f32]) -> bool {
    are_scores(values) && (values.iter().sum::<f32>() - 1.0).abs() < 1e-2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_are_told_from_what_becomes_one() {
        fn check(values: &[f32], scores: bool, shares: bool) {
            assert_eq!((are_scores(values), are_shares(values)), (scores, shares), "{values:?}");
        }
        check(&[0.25, 0.75], true, true);
        check(&[0.5, 0.0, 0.4999], true, true);
        check(&[0.9, 0.9], true, false);
        check(&[0.0, 0.0], true, false);
        check(&[-3.0, 4.0], false, false);
        check(&[f32::NAN, 1.0], false, false);
    }

    proptest! {
        #[test]
        fn softmax_keeps_the_order_and_adds_up_to_one(values in prop::collection::vec(-90f32..90.0, 1..40)) {
            let mut scores = values.clone();
            softmax(&mut scores);
            prop_assert!(are_shares(&scores), "{:?}", scores);
            for (i, j) in (1..values.len()).map(|i| (i - 1, i)) {
                prop_assert!((values[i] <= values[j] && scores[i] <= scores[j]) || scores[i] >= scores[j]);
            }
        }
    }
}
