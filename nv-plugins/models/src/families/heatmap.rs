//! What detectors that see objects as points have in common (Zhou et al. 2019, "Objects as Points"): maps of one grid, a
//! channel a plane, of which one tells how likely each cell is a centre.

use nv_infer::{RowLayout, RowOutput, ScoredRow, ScoredRows, TensorInfo};
use nv_plugin_sdk::Size;

use super::grid::grid;
use super::{fits, last_dims};

/// Heat maps of so many classes: each cell of each is a row, those of the first class first.
pub(super) fn heat(output: usize, classes: usize, [columns, rows]: [usize; 2]) -> RowOutput {
    RowOutput { output, shape: vec![classes, rows, columns], columns: 1, layout: RowLayout::Rows }
}

/// How many channels each of `N` maps of this stride has, where the file says; `None` where they are no such maps.
pub(super) fn channels<const N: usize>(
    outputs: &[TensorInfo],
    input: Option<Size>,
    stride: u32,
) -> Option<[Option<usize>; N]> {
    let mut channels = [None; N];
    if outputs.len() != N {
        return None;
    }
    for (output, channels) in outputs.iter().zip(&mut channels) {
        let [found, rows, columns] = last_dims(output, 4)?;
        *channels = found;
        let fit = |[width, height]: [usize; 2]| fits(columns, width) && fits(rows, height);
        if !input.is_none_or(|input| fit(grid(input, stride))) {
            return None;
        }
    }
    Some(channels)
}

/// Those of the rows of [`heat`] maps that no neighbour on their map, of up to eight, has a greater value than: the 3×3 maximum
/// that stands for suppression. The value is the first of a row's numbers.
///
/// A neighbour that is not among the rows has a score below the threshold, and so a lower value.
pub(super) fn peaks(rows: &ScoredRows, [columns, lines]: [usize; 2]) -> impl Iterator<Item = (ScoredRow, &[f32])> {
    let rows: Vec<(ScoredRow, &[f32])> = rows.iter().collect();
    let is_peak = move |rows: &[(ScoredRow, &[f32])], index: usize, value: f32| {
        let (column, line) = (index % columns, index / columns % lines);
        let first = index - line * columns - column;
        let (left, right) = (column.saturating_sub(1), (column + 2).min(columns));
        (line.saturating_sub(1)..(line + 2).min(lines)).all(|line| {
            let start = first + line * columns;
            let after = &rows[rows.partition_point(|(row, _)| row.index < start + left)..];
            let mut neighbours = after.iter().take_while(|(row, _)| row.index < start + right);
            neighbours.all(|(_, numbers)| numbers[0] <= value)
        })
    };
    (0..rows.len()).filter_map(move |i| {
        let (row, numbers) = rows[i];
        is_peak(&rows, row.index, numbers[0]).then_some((row, numbers))
    })
}

#[cfg(test)]
mod tests {
    use nv_infer::testing::select_rows;
    use nv_infer::{RowGroup, RowSelection};
    use nv_plugin_sdk::Tensor;
    use proptest::prelude::*;

    use super::super::rows::{activation, columns as values, scores};
    use super::*;

    /// The cells of the peaks of heat maps, with those of all classes one after the other.
    fn found(maps: &[f32], classes: usize, [columns, rows]: [usize; 2], logits: bool, threshold: f32) -> Vec<usize> {
        let mut score = scores(0, 0..1);
        score.activation = activation(logits);
        let group = RowGroup {
            rows: maps.len(),
            outputs: vec![heat(0, classes, [columns, rows])],
            score: vec![score],
            values: vec![values(0, 0..1)],
        };
        let outputs = [Tensor::new([1, classes, rows, columns], maps.to_vec()).unwrap()];
        let selected = select_rows(&outputs, &RowSelection { groups: vec![group], threshold }).unwrap();
        peaks(&selected[0][0], [columns, rows]).map(|(row, _)| row.index).collect()
    }

    #[test]
    fn a_peak_has_no_greater_neighbour() {
        #[rustfmt::skip]
        let heat = [
            0.9, 0.1, 0.1, 0.5,
            0.1, 0.8, 0.1, 0.1,
            0.1, 0.1, 0.1, 0.7,
            0.3, 0.3, 0.1, 0.1,
        ];
        // Equals are peaks both.
        assert_eq!(found(&heat, 1, [4, 4], false, 0.0), [0, 3, 11, 12, 13]);
        assert_eq!(found(&heat, 1, [4, 4], false, 0.5), [0, 3, 11]);
        // Maps are no neighbours of each other.
        assert_eq!(found(&heat, 4, [2, 2], false, 0.2), [0, 5, 11, 12, 13]);
        assert_eq!(found(&[0.0], 1, [1, 1], false, 0.0), [0]);
        // Scores of 1 both, and still not the same.
        assert_eq!(found(&[30.0, 40.0], 1, [2, 1], true, 0.5), [1]);
    }

    proptest! {
        #[test]
        fn they_are_those_of_the_whole_map(
            levels in prop::collection::vec(-12i32..12, 3 * 9 * 7),
            columns in 1usize..10,
            rows in 1usize..8,
            logits: bool,
            threshold in 0.05f32..0.95,
        ) {
            let cells = columns * rows;
            let score = |value: f32| if logits { 1.0 / (1.0 + (-value).exp()) } else { value.clamp(0.0, 1.0) };
            let maps: Vec<f32> = levels[..3 * cells].iter().map(|&level| level as f32 / 10.0).collect();
            let neighbours = |cell: usize| {
                (0..cells).filter(move |other| {
                    let near = |a: usize, b: usize| a.abs_diff(b) <= 1;
                    near(cell % columns, other % columns) && near(cell / columns, other / columns)
                })
            };
            let is_peak = |index: &usize| {
                let map = &maps[index / cells * cells..][..cells];
                let value = map[index % cells];
                score(value) >= threshold && neighbours(index % cells).all(|other| map[other] <= value)
            };
            let expected: Vec<usize> = (0..3 * cells).filter(is_peak).collect();
            prop_assert_eq!(found(&maps, 3, [columns, rows], logits, threshold), expected);
        }
    }
}
