//! Selection of rows on the CPU.

use super::{
    RowGroup, RowLayout, RowOutput, RowSelection, ScoreActivation, ScoreFactor, ScoredRow, ScoredRows, least_logit,
    sigmoid,
};

/// Rows that are looked at together: their scores stay in the nearest cache while columns pass by.
const BLOCK: usize = 1024;

/// Selects rows, entry by entry. Keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    /// Of the rows of a block; NaN of those that are out.
    scores: Vec<f32>,
    /// The greatest numbers of a factor.
    best: Vec<f32>,
}

impl Selector {
    /// The rows of each group that `selection` selects from the outputs of one entry. It is sound by itself
    /// ([`RowSelection::check`]), and the outputs that it names are there and have as many values as it says.
    pub(crate) fn select(&mut self, selection: &RowSelection, outputs: &[&[f32]]) -> Vec<ScoredRows> {
        selection.groups.iter().map(|group| self.group(group, selection.threshold, outputs)).collect()
    }

    fn group(&mut self, group: &RowGroup, threshold: f32, outputs: &[&[f32]]) -> ScoredRows {
        let numbers = |output: &RowOutput| outputs[output.output];
        let mut found = ScoredRows::default();
        for start in (0..group.rows).step_by(BLOCK) {
            let len = BLOCK.min(group.rows - start);
            self.scores.clear();
            self.scores.resize(len, 1.0);
            for factor in &group.score {
                let output = &group.outputs[factor.of.output];
                self.multiply(factor, output, numbers(output), start, threshold);
            }
            for (index, &score) in (start..).zip(&self.scores) {
                // No number, where the row is out.
                if score >= threshold
                    && let Some(class) = class(group, numbers, index)
                {
                    let values = group.values.iter().flat_map(|columns| {
                        let output = &group.outputs[columns.output];
                        let ((first, step), from) = (output.place(index), numbers(output));
                        columns.columns.clone().map(move |column| from[first + column * step])
                    });
                    found.push(ScoredRow { index, class, score }, values);
                }
            }
        }
        found
    }

    /// Multiplies the scores of the block that begins at `start` by a factor; those that end below the threshold are out.
    fn multiply(&mut self, factor: &ScoreFactor, output: &RowOutput, numbers: &[f32], start: usize, threshold: f32) {
        let Self { scores, best } = self;
        best.clear();
        match output.layout {
            // Where nothing wraps around, a column's numbers lie side by side.
            RowLayout::Columns if start % output.rows() + scores.len() <= output.rows() => {
                best.resize(scores.len(), f32::NEG_INFINITY);
                for column in factor.of.columns.clone() {
                    let column = &numbers[column * output.rows() + start % output.rows()..][..best.len()];
                    for (best, &number) in best.iter_mut().zip(column) {
                        *best = if number > *best { number } else { *best };
                    }
                }
            }
            _ => best.extend(scores.iter().enumerate().map(|(i, score)| {
                if score.is_nan() {
                    return f32::NEG_INFINITY;
                }
                columns(factor, output, numbers, start + i).fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
            })),
        }
        let is_bounded = factor.activation != ScoreActivation::None && factor.power == 1.0;
        let bound = if is_bounded { least_logit(threshold) } else { f32::NEG_INFINITY };
        for (i, (score, &number)) in scores.iter_mut().zip(&*best).enumerate() {
            if score.is_nan() || number < bound {
                *score = f32::NAN;
                continue;
            }
            let activated = match factor.activation {
                ScoreActivation::None => number,
                ScoreActivation::Sigmoid => sigmoid(number),
                ScoreActivation::Softmax => softmax(output, numbers, start + i, number, bound),
            };
            *score *= raised(activated.clamp(0.0, 1.0), factor.power);
            if *score < threshold {
                *score = f32::NAN;
            }
        }
    }
}

/// The share of `number` among all of a row; 0 where it is below what `bound` is the logit of.
fn softmax(output: &RowOutput, numbers: &[f32], row: usize, number: f32, bound: f32) -> f32 {
    let (first, step) = output.place(row);
    // Against the first alone its share would be higher still.
    if number - numbers[first] < bound {
        return 0.0;
    }
    1.0 / (0..output.columns).map(|column| (numbers[first + column * step] - number).exp()).sum::<f32>()
}

fn raised(score: f32, power: f32) -> f32 {
    match power {
        1.0 => score,
        0.5 => score.sqrt(),
        power => score.powf(power),
    }
}

/// The numbers of a row that a factor looks at.
fn columns(factor: &ScoreFactor, output: &RowOutput, numbers: &[f32], row: usize) -> impl Iterator<Item = f32> {
    let (first, step) = output.place(row);
    factor.of.columns.clone().map(move |column| numbers[first + column * step])
}

/// The class of a row; none where all its numbers are no numbers.
fn class<'a>(group: &RowGroup, numbers: impl Fn(&RowOutput) -> &'a [f32], row: usize) -> Option<usize> {
    let factor = group.score.last()?;
    let output = &group.outputs[factor.of.output];
    let best = columns(factor, output, numbers(output), row).enumerate().filter(|(_, number)| !number.is_nan());
    best.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::RowColumns;
    use super::*;

    fn output(output: usize, rows: usize, columns: usize, layout: RowLayout) -> RowOutput {
        let shape = match layout {
            RowLayout::Rows => vec![rows, columns],
            RowLayout::Columns => vec![columns, rows],
        };
        RowOutput { output, shape, columns, layout }
    }

    fn factor(output: usize, columns: std::ops::Range<usize>, activation: ScoreActivation, power: f32) -> ScoreFactor {
        ScoreFactor { of: RowColumns { output, columns }, activation, power }
    }

    /// Place, class, score, numbers.
    type Found = (usize, usize, f32, Vec<f32>);

    fn select(selection: &RowSelection, outputs: &[&[f32]]) -> Vec<Vec<Found>> {
        assert_eq!(selection.check(), Ok(()));
        let found = Selector::default().select(selection, outputs);
        let rows =
            |rows: &ScoredRows| rows.iter().map(|(r, values)| (r.index, r.class, r.score, values.to_vec())).collect();
        found.iter().map(rows).collect()
    }

    #[test]
    fn rows_with_a_high_score_are_selected() {
        // Presence, two classes, a number.
        let outputs: [&[f32]; 1] = [&[
            0.5,
            0.2,
            0.9,
            7.0, //
            0.9,
            0.1,
            0.1,
            8.0, //
            0.8,
            0.7,
            0.7,
            9.0, //
            f32::NAN,
            1.0,
            1.0,
            1.0,
        ]];
        let group = RowGroup {
            rows: 4,
            outputs: vec![output(0, 4, 4, RowLayout::Rows)],
            score: vec![factor(0, 0..1, ScoreActivation::None, 1.0), factor(0, 1..3, ScoreActivation::None, 1.0)],
            values: vec![RowColumns { output: 0, columns: 3..4 }, RowColumns { output: 0, columns: 0..1 }],
        };
        let selection = RowSelection { groups: vec![group], threshold: 0.4 };
        let expected = vec![(0, 1, 0.5 * 0.9, vec![7.0, 0.5]), (2, 0, 0.8 * 0.7, vec![9.0, 0.8])];
        assert_eq!(select(&selection, &outputs), [expected]);
    }

    #[test]
    fn rows_of_a_short_output_come_again() {
        // Heat maps of two classes over three cells, and a number for each cell.
        let outputs: [&[f32]; 2] = [&[0.1, 0.9, 0.2, 0.6, 0.3, 0.7], &[10.0, 11.0, 12.0]];
        let group = RowGroup {
            rows: 6,
            outputs: vec![
                RowOutput { output: 0, shape: vec![2, 3], columns: 1, layout: RowLayout::Columns },
                output(1, 3, 1, RowLayout::Columns),
            ],
            score: vec![factor(0, 0..1, ScoreActivation::None, 1.0)],
            values: vec![RowColumns { output: 1, columns: 0..1 }],
        };
        let selection = RowSelection { groups: vec![group], threshold: 0.5 };
        let expected = vec![(1, 0, 0.9, vec![11.0]), (3, 0, 0.6, vec![10.0]), (5, 0, 0.7, vec![12.0])];
        assert_eq!(select(&selection, &outputs), [expected]);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = RowGroup {
            rows: 4,
            outputs: vec![output(0, 4, 3, RowLayout::Rows)],
            score: vec![factor(0, 0..1, ScoreActivation::None, 1.0)],
            values: vec![RowColumns { output: 0, columns: 1..3 }],
        };
        let check = |change: &dyn Fn(&mut RowGroup), expected: &str| {
            let mut group = good.clone();
            change(&mut group);
            let error = RowSelection { groups: vec![group], threshold: 0.5 }.check().unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(&|g| g.score.clear(), "at least one factor");
        check(&|g| g.rows = 5, "5 rows can't share the 4");
        check(&|g| g.outputs[0].columns = 0, "no rows of 0 numbers");
        check(&|g| g.outputs[0].columns = 5, "no rows of 5 numbers");
        check(&|g| g.values[0].columns = 2..4, "no columns 2..4 of 3");
        check(&|g| g.score[0].of.columns = 1..1, "no columns 1..1 of 3");
        check(&|g| g.score[0].of.output = 1, "no output 1");
    }

    proptest! {
        #[test]
        fn it_is_the_product_of_the_greatest_whatever_the_layout(
            numbers in prop::collection::vec(-3f32..3.0, 5 * 2100),
            rows in 1usize..2100,
            threshold in 0f32..1.0,
            which in 0usize..3,
            power in prop::sample::select(vec![0.4f32, 0.5, 1.0]),
        ) {
            use ScoreActivation::{None, Sigmoid, Softmax};
            let activation = [None, Sigmoid, Softmax][which];
            let rows_of: Vec<&[f32]> = numbers[..5 * rows].chunks(5).collect();
            let turned: Vec<f32> = (0..5).flat_map(|column| rows_of.iter().map(move |row| row[column])).collect();
            let selection = |layout| RowSelection {
                groups: vec![RowGroup {
                    rows,
                    outputs: vec![output(0, rows, 5, layout)],
                    score: vec![factor(0, 0..1, Sigmoid, power), factor(0, 2..5, activation, 1.0)],
                    values: vec![RowColumns { output: 0, columns: 1..2 }],
                }],
                threshold,
            };
            let by_rows = select(&selection(RowLayout::Rows), &[&numbers[..5 * rows]]);
            prop_assert_eq!(&by_rows, &select(&selection(RowLayout::Columns), &[&turned]));
            let mut found = by_rows[0].iter();
            for (index, row) in rows_of.iter().enumerate() {
                let class = (0..3).reduce(|a, b| if row[2 + b] > row[2 + a] { b } else { a }).unwrap();
                let number = row[2 + class];
                let likelihood = match activation {
                    None => number.clamp(0.0, 1.0),
                    Sigmoid => sigmoid(number),
                    Softmax => number.exp() / row.iter().map(|n| n.exp()).sum::<f32>(),
                };
                let score = sigmoid(row[0]).powf(power) * likelihood;
                // What lies on the threshold may be seen either way.
                if (score - threshold).abs() < 1e-5 {
                    if found.clone().next().is_some_and(|f| f.0 == index) { found.next(); }
                } else if score > threshold {
                    let (at, its_class, its_score, values) = found.next().expect("it is selected");
                    prop_assert_eq!((*at, *its_class), (index, class));
                    prop_assert!((its_score - score).abs() < 1e-5);
                    prop_assert_eq!(&values[..], &row[1..2]);
                }
            }
            prop_assert!(found.next().is_none());
        }
    }
}
