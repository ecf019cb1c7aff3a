//! Rows of a detector's outputs: which of them are worth reading.
//!
//! A detector answers for each of some thousand places (cells of a grid, anchors, priors), and at most of them is nothing. A
//! [`RowSelection`] says how a place's score is made of its numbers and how high it must be; what comes back are
//! [`ScoredRows`], those that are as high, each with its class and the numbers that its box is made of. A GPU does all of that
//! before anything is read back; on the CPU it spares the copy of everything else.

mod select;

use std::ops::Range;

pub(crate) use select::Selector;

/// Which rows of a model's outputs are worth reading.
#[derive(Clone, Debug, PartialEq)]
pub struct RowSelection {
    /// The rows, a group for each set of outputs that have the same ones.
    pub groups: Vec<RowGroup>,
    /// The least score.
    pub threshold: f32,
}

/// Rows that several outputs have numbers for.
#[derive(Clone, Debug, PartialEq)]
pub struct RowGroup {
    /// How many there are.
    pub rows: usize,
    /// Where their numbers are.
    pub outputs: Vec<RowOutput>,
    /// A row's score is the product of these, at least one. The last says the class.
    pub score: Vec<ScoreFactor>,
    /// The numbers that come with a row, one run after the other.
    pub values: Vec<RowColumns>,
}

/// An output with numbers for the rows of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct RowOutput {
    /// Its place among the model's outputs.
    pub output: usize,
    /// Its shape, behind the batch.
    pub shape: Vec<usize>,
    /// How many numbers a row has.
    pub columns: usize,
    /// How they lie.
    pub layout: RowLayout,
}

/// How an output's numbers lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowLayout {
    /// Row by row: rows×columns.
    Rows,
    /// Column by column: columns×rows, as in maps of channels×height×width.
    Columns,
}

/// Some columns of an output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowColumns {
    /// Its place in [`RowGroup::outputs`].
    pub output: usize,
    /// Which of its columns.
    pub columns: Range<usize>,
}

/// A factor of a row's score: the greatest of some numbers, as a score from 0 to 1, raised to a power.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreFactor {
    /// The numbers, at least one.
    pub of: RowColumns,
    /// What makes a score of a number.
    pub activation: ScoreActivation,
    /// The exponent, more than 0.
    pub power: f32,
}

/// What makes scores of a network's numbers. Whatever it gives is cut to 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScoreActivation {
    /// They are scores.
    None,
    /// The logistic function of each by itself.
    Sigmoid,
    /// A softmax over all columns of the output, those that the factor leaves out as well.
    Softmax,
}

/// The rows of a group whose score is high enough, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoredRows {
    rows: Vec<ScoredRow>,
    values: Vec<f32>,
}

/// A row whose score is high enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredRow {
    /// Its place in the group.
    pub index: usize,
    /// Which column of the last factor has the greatest number, counted from the first of the factor; of equals the first.
    pub class: usize,
    /// From 0 to 1.
    pub score: f32,
}

impl RowSelection {
    /// What is wrong with it by itself: that a column or an output is not there, a factor has none, or the numbers of rows
    /// differ.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (i, group) in self.groups.iter().enumerate() {
            let wrong = |what: String| Err(format!("group {i} of the rows: {what}"));
            if group.score.is_empty() {
                return wrong("a score has at least one factor".into());
            }
            for output in &group.outputs {
                if output.columns == 0 || output.values() != output.rows() * output.columns {
                    return wrong(format!("{:?} has no rows of {} numbers", output.shape, output.columns));
                }
                // One with fewer is gone through again and again.
                if output.rows() == 0 || !group.rows.is_multiple_of(output.rows()) {
                    return wrong(format!("{} rows can't share the {} of an output", group.rows, output.rows()));
                }
            }
            let factors = group.score.iter().map(|factor| (&factor.of, 1));
            for (columns, least) in factors.chain(group.values.iter().map(|columns| (columns, 0))) {
                let Some(output) = group.outputs.get(columns.output) else {
                    return wrong(format!("there is no output {}", columns.output));
                };
                if columns.columns.end > output.columns || columns.columns.len() < least {
                    return wrong(format!("there are no columns {:?} of {}", columns.columns, output.columns));
                }
            }
        }
        Ok(())
    }
}

impl RowSelection {
    /// The first output that is not as it says: its place, and its shape as it must be for a batch of `n`. `shapes` are those
    /// of the outputs, with the batch.
    pub(crate) fn misfit(&self, shapes: &[&[usize]], n: usize) -> Option<(usize, Vec<usize>)> {
        let outputs = self.groups.iter().flat_map(|group| &group.outputs);
        let needed = outputs.map(|output| (output.output, [&[n], &output.shape[..]].concat()));
        needed.into_iter().find(|(output, needed)| shapes.get(*output).is_none_or(|shape| shape != needed))
    }
}

impl RowGroup {
    /// How many numbers come with a row.
    pub fn width(&self) -> usize {
        self.values.iter().map(|values| values.columns.len()).sum()
    }
}

impl RowOutput {
    /// How many rows it has: as many as its group, or a part of them that is gone through again and again.
    pub fn rows(&self) -> usize {
        self.values().checked_div(self.columns).unwrap_or(0)
    }

    /// How many numbers it has, for one entry of a batch.
    pub(crate) fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where the number of a row's column is, and how far it is to the next column's.
    pub(crate) fn place(&self, row: usize) -> (usize, usize) {
        let rows = self.rows();
        match self.layout {
            RowLayout::Rows => (row % rows * self.columns, 1),
            RowLayout::Columns => (row % rows, rows),
        }
    }
}

impl ScoredRows {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Each with its numbers, in the order of [`RowGroup::values`].
    pub fn iter(&self) -> impl Iterator<Item = (ScoredRow, &[f32])> {
        let width = self.values.len().checked_div(self.rows.len()).unwrap_or(0);
        self.rows.iter().enumerate().map(move |(i, row)| (*row, &self.values[i * width..][..width]))
    }

    /// Adds a row behind the others.
    pub(crate) fn push(&mut self, row: ScoredRow, values: impl Iterator<Item = f32>) {
        self.rows.push(row);
        self.values.extend(values);
    }
}

/// The least number whose logistic function, and so whose share of a softmax, may be as high as `threshold`, and a little less, for
/// what rounding does: logarithms are spared those below it.
pub(crate) fn least_logit(threshold: f32) -> f32 {
    // From about 17 on the function is 1 as far as a float can tell.
    let most = 15.0;
    if threshold <= 0.0 { f32::NEG_INFINITY } else { ((threshold / (1.0 - threshold)).ln() - 1e-3).min(most) }
}

/// The logistic function.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
