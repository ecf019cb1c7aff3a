//! The runtime of NextVision: feeds, their pipelines, the batch point that all feeds share, ordered outputs, and an account
//! of every frame.
//!
//! A [`Runtime`] owns everything. [`Runtime::create_batch`] makes a batch point; [`FeedPipeline::builder`] puts steps together;
//! [`Runtime::add_feed`] starts a feed from a [`FeedConfig`]. What a feed has done is in its [`FeedStats`]: every frame that was
//! received is emitted, inside, or dropped for a named reason.
//!
//! What an operator would want to know comes as events ([`Runtime::health`]) and, for whoever looks into trouble, as a snapshot of
//! everything ([`Runtime::diagnostics`]).
//!
//! The runtime knows no codec, no model format, no GPU, no file format and no network, and nothing of plugins: whoever uses it
//! hands it sources, stages, batch processors and sinks.
//!
//! What to batch, when to dispatch, which frame may go on: these are pure state machines to which time is passed in. Threads
//! and channels are thin shells around them. A [`DecisionLog`] writes down what they were told and what they decided, and
//! [`replay`] has them decide it again.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use nv_core::{CancelToken, Frame, FrameHeader, FramePool, PixelFormat, Size};
//! use nv_perception::*;
//! use nv_runtime::{BatchConfig, FeedConfig, FeedPipeline, Runtime, RuntimeConfig};
//!
//! /// Ten grey pictures.
//! struct Grey(StreamInfo, u32);
//!
//! impl FrameSource for Grey {
//!     fn info(&self) -> &StreamInfo {
//!         &self.0
//!     }
//!
//!     fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
//!         if self.1 == 10 {
//!             return Ok(SourceItem::End);
//!         }
//!         self.1 += 1;
//!         let header = FrameHeader::new(self.0.size, PixelFormat::Gray8);
//!         Ok(SourceItem::Frame(FramePool::new(0).take(header).unwrap().freeze()))
//!     }
//! }
//!
//! struct Open;
//!
//! impl SourceFactory for Open {
//!     fn schemes(&self) -> &[&str] {
//!         &["grey"]
//!     }
//!
//!     fn open(&self, _: &SourceSpec, _: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
//!         let info = StreamInfo {
//!             size: Size::new(64, 48),
//!             frame_interval: None,
//!             frame_count: Some(10),
//!             live: false,
//!             codec: "none".into(),
//!             decoder: "none".into(),
//!             max_outstanding: None,
//!         };
//!         Ok(Box::new(Grey(info, 0)))
//!     }
//! }
//!
//! /// Finds nothing, in batches.
//! struct Blind;
//!
//! impl BatchProcessor for Blind {
//!     fn capabilities(&self) -> BatchCapabilities {
//!         BatchCapabilities::default()
//!     }
//!
//!     fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
//!         for entry in batch {
//!             entry.finish(Ok(StageOutput { objects: Some(vec![]), ..StageOutput::default() }));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let runtime = Runtime::new(RuntimeConfig::default());
//! let detector = runtime.create_batch("detector", Arc::new(|| Ok(Box::new(Blind))), BatchConfig::default()).unwrap();
//! let pipeline = FeedPipeline::builder().batch(&detector).build().unwrap();
//! let feed = runtime.add_feed(FeedConfig::new("gate", Arc::new(Open), SourceSpec::new("grey:"), pipeline)).unwrap();
//! assert!(feed.wait().is_ok());
//! assert_eq!(feed.stats().frames.emitted, 10);
//! assert!(runtime.shutdown(Duration::from_secs(1)).abandoned.is_empty());
//! ```

mod batch;
mod decisions;
mod diagnostics;
mod feed;
mod guard;
mod health;
mod mailbox;
#[cfg(all(test, feature = "model-check"))]
mod model;
mod permits;
mod runtime;
#[cfg(test)]
mod simulation;
mod sync;
mod thread;

pub use batch::{
    BatchConfig, BatchConfigError, BatchError, BatchHandle, BatchMetrics, BatchRequest, BatchStartError,
    ProcessorFactory, Quantiles, TIME_BUCKETS_MS,
};
pub use decisions::{
    DecisionLog, DecisionLogError, Difference, LogEnd, ReplayError, ReplayReport, ReplayedCores, replay,
};
pub use diagnostics::{BatchDiagnostics, Diagnostics, InstanceDiagnostics};
pub use feed::{
    BatchTarget, DropRecord, FeedConfig, FeedConfigError, FeedEnd, FeedHandle, FeedPipeline, FeedPipelineBuilder,
    FeedState, FeedStats, FrameCounts, PipelineError, QueuePolicy, RegionOptions, RestartConfig, RestartTrigger,
    SinkConfig, SinkStats, SkipCondition, StageFactory, StepErrorPolicy, StepOptions, StepOptionsError, StepStats,
};
pub use permits::ConnectPermits;
pub use runtime::{AddFeedError, RemoveBatchError, Runtime, RuntimeConfig, ShutdownReport};
