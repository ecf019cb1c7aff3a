//! Short forms for what families say of the rows of their outputs.

use std::ops::Range;

use nv_infer::{RowColumns, RowLayout, RowOutput, ScoreActivation, ScoreFactor};

/// An output of rows×columns.
pub(super) fn by_rows(output: usize, rows: usize, columns: usize) -> RowOutput {
    RowOutput { output, shape: vec![rows, columns], columns, layout: RowLayout::Rows }
}

/// An output of planes over a grid of so many columns and rows: each cell is a row, and each plane a column of it.
pub(super) fn by_planes(output: usize, planes: usize, [width, height]: [usize; 2]) -> RowOutput {
    RowOutput { output, shape: vec![planes, height, width], columns: planes, layout: RowLayout::Columns }
}

/// These columns of an output of the group.
pub(super) fn columns(output: usize, columns: Range<usize>) -> RowColumns {
    RowColumns { output, columns }
}

/// A factor that is the greatest of some scores.
pub(super) fn scores(output: usize, of: Range<usize>) -> ScoreFactor {
    ScoreFactor { of: columns(output, of), activation: ScoreActivation::None, power: 1.0 }
}

/// What makes scores of values that are logits, or scores already.
pub(super) fn activation(logits: bool) -> ScoreActivation {
    if logits { ScoreActivation::Sigmoid } else { ScoreActivation::None }
}
