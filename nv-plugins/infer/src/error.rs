use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::Device;

/// What a caller may want to do about an [`InferError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InferErrorKind {
    /// There is no such file.
    NotFound,
    /// The file is there and can't be read.
    Unreadable,
    /// The file is something else than an ONNX model.
    NotOnnx,
    /// An ONNX model that was cut short or changed.
    Damaged,
    /// A whole ONNX model that contradicts itself.
    Invalid,
    /// The model has an operator that nothing here can compute.
    UnsupportedOperator,
    /// The model takes more memory than it may.
    TooLarge,
    /// An input or an output does not have the shape that is called for.
    ShapeMismatch,
    /// A picture can't be read, or does not go where it is to go.
    Picture,
    /// A selection of rows contradicts itself.
    Selection,
    /// There is no device of the kind that was demanded.
    NoDevice,
    /// The computation failed.
    Run,
}

/// What can be wrong with a model, a device, an input or a run. Names the model's file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InferError {
    /// There is no such file.
    #[error("model {}: no such file", path.display())]
    NotFound {
        /// The model's file.
        path: PathBuf,
    },
    /// The file is there and can't be read.
    #[error("model {}: can't be read: {source}", path.display())]
    Unreadable {
        /// The model's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else than an ONNX model.
    #[error("model {}: is not an ONNX model: {reason}", path.display())]
    NotOnnx {
        /// The model's file.
        path: PathBuf,
        /// What it looks like.
        reason: String,
    },
    /// An ONNX model that was cut short or changed.
    #[error("model {}: is a damaged ONNX model: {reason}", path.display())]
    Damaged {
        /// The model's file.
        path: PathBuf,
        /// What does not hold together, and where.
        reason: String,
    },
    /// A whole ONNX model that contradicts itself.
    #[error("model {}: is not a valid ONNX model: {reason}", path.display())]
    Invalid {
        /// The model's file.
        path: PathBuf,
        /// The contradiction.
        reason: String,
    },
    /// The model has an operator that nothing here can compute.
    #[error("model {}: operator {operator} (node {node:?}) can't be computed: {reason}", path.display())]
    UnsupportedOperator {
        /// The model's file.
        path: PathBuf,
        /// The operator's type, as in `"GridSample"`.
        operator: String,
        /// The name of the node in the graph.
        node: String,
        /// What the executor says of it.
        reason: String,
    },
    /// The model takes more memory than it may.
    #[error("model {}: takes too much memory: {reason}", path.display())]
    TooLarge {
        /// The model's file.
        path: PathBuf,
        /// What takes it.
        reason: String,
    },
    /// An input or an output does not have the shape that is called for.
    #[error("model {}: {name} has the shape {found}, {needed} is needed", path.display())]
    ShapeMismatch {
        /// The model's file.
        path: PathBuf,
        /// The input or output.
        name: String,
        /// The shape that it has.
        found: String,
        /// The shape that it must have.
        needed: String,
    },
    /// The inputs' number differs from the model's.
    #[error("model {}: has {needed} inputs, {found} were given", path.display())]
    InputCount {
        /// The model's file.
        path: PathBuf,
        /// How many were given.
        found: usize,
        /// How many the model has.
        needed: usize,
    },
    /// A picture can't be read, or does not go where it is to go.
    #[error("model {}: a picture can't be taken: {reason}", path.display())]
    Picture {
        /// The model's file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A selection of rows contradicts itself.
    #[error("model {}: rows can't be selected: {reason}", path.display())]
    Selection {
        /// The model's file.
        path: PathBuf,
        /// The contradiction.
        reason: String,
    },
    /// There is no device of the kind that was demanded.
    #[error("device {device} was demanded, but {reason}")]
    NoDevice {
        /// What was demanded.
        device: Device,
        /// What was looked for, and what was found.
        reason: String,
    },
    /// The computation failed.
    #[error("model {}: run failed: {reason}", path.display())]
    Run {
        /// The model's file.
        path: PathBuf,
        /// What the executor says.
        reason: String,
    },
}

impl InferError {
    /// What a caller may want to do about it.
    pub fn kind(&self) -> InferErrorKind {
        match self {
            Self::NotFound { .. } => InferErrorKind::NotFound,
            Self::Unreadable { .. } => InferErrorKind::Unreadable,
            Self::NotOnnx { .. } => InferErrorKind::NotOnnx,
            Self::Damaged { .. } => InferErrorKind::Damaged,
            Self::Invalid { .. } => InferErrorKind::Invalid,
            Self::Selection { .. } => InferErrorKind::Selection,
            Self::UnsupportedOperator { .. } => InferErrorKind::UnsupportedOperator,
            Self::TooLarge { .. } => InferErrorKind::TooLarge,
            Self::ShapeMismatch { .. } | Self::InputCount { .. } => InferErrorKind::ShapeMismatch,
            Self::Picture { .. } => InferErrorKind::Picture,
            Self::NoDevice { .. } => InferErrorKind::NoDevice,
            Self::Run { .. } => InferErrorKind::Run,
        }
    }
}
