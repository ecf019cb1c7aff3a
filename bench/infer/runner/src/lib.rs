//! What every runtime's program in the comparison of inference runtimes shares.
//!
//! A program runs one [`Task`] on one runtime, alone in its process, and prints one [`Answer`] as JSON. The runtime is behind
//! [`Engine`]; [`main`] does the rest.

mod engine;
mod measure;
mod task;
mod values;

pub use engine::{Engine, Failure};
pub use measure::{Answer, Sample, main};
pub use task::{Call, Device, Entry, Task};
pub use values::{Outputs, read_outputs, write_outputs};
