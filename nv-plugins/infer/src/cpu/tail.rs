use std::sync::Arc;

use super::executor::RunError;
use super::level::SimdLevel;
use super::memory::Memory;
use super::pool::Pool;
use super::simd::Instructions;
use super::vector::{Cut, Packed, Prepared};
use crate::plan::Plan;

/// The last steps of a plan, for an executor that has those before them done elsewhere.
///
/// It may be a plan for any width of pictures: steps over pictures whose blocks are not as wide as the vector instructions are
/// done in plain Rust.
#[derive(Debug)]
pub(crate) struct Tail {
    plan: Arc<Plan>,
    first: usize,
    prepared: Vec<Prepared>,
    pool: Pool,
}

impl Tail {
    /// Makes the steps from `first` on ready, for so many threads. The plan is one that
    /// [`check`](crate::plan::access::check) has found sound.
    pub(crate) fn new(plan: Arc<Plan>, first: usize, threads: usize, level: SimdLevel) -> Self {
        let (pool, instructions, packed) = (Pool::new(threads), Instructions::of(level), Packed::default());
        let cut = Cut::new(pool.threads());
        let prepare = |step| Prepared::new(step, &plan, &packed, instructions, cut);
        let prepared = plan.steps[first..].iter().map(prepare).collect();
        Self { plan, first, prepared, pool }
    }

    /// Does the steps for one entry, in memory of the plan that holds what the steps before have left.
    ///
    /// # Errors
    /// What the data does not allow.
    pub(crate) fn run(&self, memory: &mut Memory) -> Result<(), RunError> {
        for (step, prepared) in self.plan.steps[self.first..].iter().zip(&self.prepared) {
            prepared
                .run(&step.action, memory, &self.pool)
                .map_err(|reason| RunError { node: step.node.clone(), reason })?;
        }
        Ok(())
    }
}
