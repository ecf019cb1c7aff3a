//! What is to be computed, and what came of it.

use crate::picture::Pictures;
use crate::plan::{Plan, Port};
use crate::rows::{RowSelection, ScoredRows};

/// A batch to be computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// Of each input, for one group.
    pub(crate) shapes: &'a [Vec<usize>],
    pub(crate) source: Source<'a>,
    /// How many groups there are: the graph is computed for each.
    pub(crate) groups: usize,
    /// What is wanted of the outputs; `None`: all.
    pub(crate) selection: Option<&'a RowSelection>,
}

/// Where inputs come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// The values of each input, of all groups, one after another.
    Values(&'a [&'a [f32]]),
    /// One for each group, for the only input.
    Pictures(Pictures<'a>),
}

/// The inputs of some of the groups.
#[derive(Clone, Debug)]
pub(crate) enum Part<'a> {
    Values(Vec<&'a [f32]>),
    Pictures(Pictures<'a>),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Results {
    Outputs(Vec<Output>),
    /// Of each group of entries those of each group of rows.
    Rows(Vec<Vec<ScoredRows>>),
}

/// What a run gives for one output: its shape for one group of entries, and the values of all groups, one after another.
pub(crate) type Output = (Vec<usize>, Vec<f32>);

/// What is collected in the course of it.
#[derive(Debug)]
pub(crate) enum Collected<'a> {
    Outputs(Vec<Vec<f32>>),
    Rows(&'a RowSelection, Vec<Vec<ScoredRows>>),
}

impl<'a> Job<'a> {
    /// The inputs of `count` groups from `first` on.
    pub(crate) fn part(&self, first: usize, count: usize) -> Part<'a> {
        match self.source {
            Source::Values(all) => {
                let part = |data: &&'a [f32]| {
                    let len = data.len() / self.groups;
                    &data[first * len..(first + count) * len]
                };
                Part::Values(all.iter().map(part).collect())
            }
            Source::Pictures(all) => Part::Pictures(Pictures { parts: &all.parts[first..first + count], ..all }),
        }
    }
}

impl<'a> Collected<'a> {
    /// Nothing yet, of a job for a plan.
    pub(crate) fn new(job: &Job<'a>, plan: &Plan) -> Self {
        let room = |port: &Port| Vec::with_capacity(job.groups * port.dims.iter().product::<usize>());
        match job.selection {
            Some(selection) => Self::Rows(selection, Vec::with_capacity(job.groups)),
            None => Self::Outputs(plan.outputs.iter().map(room).collect()),
        }
    }

    /// All of it.
    pub(crate) fn finish(self, plan: &Plan) -> Results {
        match self {
            Self::Rows(_, rows) => Results::Rows(rows),
            Self::Outputs(outputs) => {
                let shaped = plan.outputs.iter().zip(outputs).map(|(port, values)| {
                    let mut shape = port.dims.clone();
                    if port.rows.is_some() {
                        // Of a whole graph: there is one group.
                        shape[0] = values.len() / shape[1..].iter().product::<usize>().max(1);
                    }
                    (shape, values)
                });
                Results::Outputs(shaped.collect())
            }
        }
    }
}
