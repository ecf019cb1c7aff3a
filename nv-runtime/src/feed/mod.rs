//! Feeds: where frames come in, pass through the steps of their pipeline and leave as outputs.

mod config;
mod executor;
mod flow;
mod handle;
mod intake;
mod ledger;
mod outlet;
mod pipeline;
mod queue;
mod restart;
mod sink;
mod source;
mod steps;
mod stop;
mod supervisor;
mod thread;

pub use config::{FeedConfig, FeedConfigError, SinkConfig, StepErrorPolicy};
pub(crate) use handle::FeedShared;
pub use handle::{FeedEnd, FeedHandle, FeedStats, SinkStats, StepStats};
pub(crate) use intake::Intake;
pub use ledger::{DropRecord, FrameCounts};
pub use pipeline::{FeedPipeline, FeedPipelineBuilder, PipelineError, StageFactory};
pub use queue::QueuePolicy;
pub use restart::{RestartConfig, RestartTrigger};
pub(crate) use thread::FeedThread;
