//! Rewrites of a graph that leave what it computes as it is.

mod activation;
mod batch_norm;
mod bias;
mod cleanup;
mod concat;
mod index_map;
mod residual;
mod silu;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::ir::Graph;

/// How often a rewrite applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewrites {
    /// What was done.
    pub rewrite: &'static str,
    /// How many times.
    pub times: usize,
}

/// How many numbers a pass may make, beyond twice those that the graph has: convolutions that share weights need some of their
/// own once each has taken something in, and a small file may have any number of them.
const SPARE_NUMBERS: usize = 1 << 20;

/// What is left of the numbers that a pass may make.
struct Allowance(usize);

impl Allowance {
    fn new(graph: &Graph) -> Self {
        Self(graph.numbers().saturating_mul(2).saturating_add(SPARE_NUMBERS))
    }

    /// Takes `n`, where they are left.
    fn take(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.checked_sub(n)?;
        Some(())
    }
}

/// A pass gives the number of places that it rewrote.
type Pass = fn(&mut Graph) -> usize;

/// In this order each finds what the ones before it leave.
const PASSES: &[(&str, Pass)] = &[
    ("dropped Identity, Dropout and the like", cleanup::run),
    ("BatchNormalization folded into the convolution", batch_norm::run),
    ("bias added by the convolution", bias::run),
    ("x·sigmoid(x) and hard-swish as one activation", silu::run),
    ("activation done by the convolution", activation::run),
    ("residual added by the convolution", residual::run),
    // ReLU after the addition, as in ResNet.
    ("activation done by the convolution", activation::run),
    ("rearrangement as one index map", index_map::run),
    ("input of Concat written where it goes", concat::run),
];

/// Runs every pass over a graph whose shapes are known.
pub(crate) fn run(graph: &mut Graph) -> Vec<Rewrites> {
    let mut done: Vec<Rewrites> = Vec::new();
    for (rewrite, pass) in PASSES {
        let times = pass(graph);
        graph.sweep();
        match done.iter_mut().find(|d| d.rewrite == *rewrite) {
            Some(known) => known.times += times,
            None => done.push(Rewrites { rewrite, times }),
        }
    }
    done.retain(|d| d.times > 0);
    done
}
