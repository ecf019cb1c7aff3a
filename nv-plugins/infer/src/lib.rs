//! Runs ONNX models.
//!
//! - [`Model`]: an ONNX file that was read and understood: its inputs, outputs, operators and metadata.
//! - [`GraphReport`]: what our own engine's front end makes of a model's graph: what it fuses, costs and takes.
//! - [`Session`]: computes a model's outputs, on the [`Device`] that [`SessionOptions`] ask for; its [`Engine`] says what does it.
//! - [`Pictures`]: parts of frames as a session's input; it brings them to the network's size, colours and numbers.
//! - [`RowSelection`]: which rows of a detector's outputs are worth reading; [`ScoredRows`] are what comes back.
//! - [`DeviceReport`]: what there is to run on, and what [`Device::Auto`] comes to.
//! - [`InferError`]: what can be wrong with a file, a device, an input or a run, with a [`kind`](InferError::kind).
//!
//! Tensors are [`nv_core::Tensor`]: `f32`, row-major, the outermost dimension being the batch, unless [`Batching`] says otherwise.
//!
//! ```
//! use nv_core::Tensor;
//! use nv_infer::{Model, Session, SessionOptions, testing};
//!
//! // Usually `Model::load("yolox_nano.onnx")?`.
//! let file = testing::OnnxBuilder::new()
//!     .input("x", &[1.into(), 3.into()])
//!     .node("Relu", &["x"], &["y"])
//!     .output("y", &[1.into(), 3.into()])
//!     .build();
//! let model = Model::from_bytes("relu.onnx", file)?;
//!
//! let session = Session::new(&model, &SessionOptions::default())?;
//! let outputs = session.run(&[Tensor::new([1, 3], vec![-1.0, 0.0, 2.0])?])?;
//! assert_eq!(outputs[0].data(), [0.0, 0.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batching;
mod cpu;
mod describe;
mod device;
mod devices;
mod engine;
mod error;
mod executor;
mod gpu;
mod graph;
mod host;
mod model;
mod picture;
mod plan;
mod planned;
mod report;
mod rows;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod wire;

pub use batching::Batching;
pub use cpu::SimdLevel;
pub use describe::ModelDescription;
pub use device::Device;
pub use devices::{AutoChoice, CpuDescription, DeviceReport};
pub use engine::Engine;
pub use error::{InferError, InferErrorKind};
pub use gpu::{AdapterDescription, AdapterFamily, AdapterKind};
pub use graph::Rewrites;
pub use model::{Dim, ElementType, Model, Opset, TensorInfo};
pub use picture::{PictureChannel, PictureInput, PictureLayout, PicturePart, Pictures, PixelRect};
pub use report::{EntryCost, GraphOptions, GraphReport, GraphSummary, LackingOperator, MemoryUse, PlanSummary};
pub use rows::{
    RowColumns, RowGroup, RowLayout, RowOutput, RowSelection, ScoreActivation, ScoreFactor, ScoredRow, ScoredRows,
};
pub use session::{Session, SessionOptions};
