use crate::Outputs;

/// A model made ready on a runtime, with the inputs of one batch at hand.
pub trait Engine {
    /// Computes all outputs of the whole batch and throws them away. This is what is timed: a runtime that hands outputs out
    /// in memory of its own need not copy them.
    fn run(&mut self) -> Result<(), String>;

    /// Computes all outputs of the whole batch, for a look at them: in the file's order, each with the batch outermost.
    fn outputs(&mut self) -> Result<Outputs, String>;
}

/// Why a runtime does not run a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It can't: there is no such device, or it lacks what the task asks for.
    Unavailable(String),
    /// It should have.
    Failed(String),
}

impl Failure {
    /// For `map_err` on a runtime's own errors.
    pub fn failed(error: impl ToString) -> Self {
        Self::Failed(error.to_string())
    }
}
