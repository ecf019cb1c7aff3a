/// What the outermost dimension of a model's inputs and outputs stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Batching {
    /// The batch: it holds any number of entries, which have nothing to do with each other, and every input and output has
    /// it. Detectors, classifiers and embedders are of this kind.
    #[default]
    Entries,
    /// Nothing that a session need know of: one [`run`](crate::Session::run) computes the graph once, on inputs of the
    /// shapes that it declares. For graphs that are no function of one entry: inputs without a common batch, scalars, a
    /// result that depends on all of the batch (the mean over it, a suppression of boxes across it).
    Whole,
}
