//! Runs ONNX models.
//!
//! - [`Model`]: an ONNX file that was read and understood: its inputs, outputs, operators and metadata.
//! - [`GraphReport`]: what our own engine's front end makes of a model's graph: what it fuses, costs and takes.
//! - [`Session`]: computes a model's outputs, on the [`Device`] that [`SessionOptions`] ask for.
//! - [`InferError`]: what can be wrong with a file, a device, an input or a run, with a [`kind`](InferError::kind).
//!
//! Tensors are [`nv_core::Tensor`]: `f32`, row-major, the outermost dimension being the batch.
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

mod describe;
mod device;
mod error;
mod executor;
mod graph;
mod model;
mod session;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod wire;

pub use describe::ModelDescription;
pub use device::Device;
pub use error::{InferError, InferErrorKind};
pub use graph::{EntryCost, GraphOptions, GraphReport, GraphSummary, LackingOperator, MemoryUse, Rewrites};
pub use model::{Dim, ElementType, Model, Opset, TensorInfo};
pub use session::{Session, SessionOptions};
