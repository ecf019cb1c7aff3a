use std::time::Duration;

use nv_core::Name;
use nv_perception::{OutputSink, SourceFactory, SourceSpec};

use super::{FeedPipeline, QueuePolicy};
use crate::sync::Arc;

/// What a feed does with a frame when one of its steps fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StepErrorPolicy {
    /// Drops the frame, for the reason that the step failed for.
    #[default]
    Drop,
    /// Passes the frame on without that step's results.
    Pass,
}

/// A feed: a source, a pipeline and sinks, and the limits that they run under.
pub struct FeedConfig {
    /// Its name; unique in the runtime.
    pub name: Name,
    /// Opens the source.
    pub source: Arc<dyn SourceFactory>,
    /// What to open.
    pub spec: SourceSpec,
    /// The steps.
    pub pipeline: FeedPipeline,
    /// Where outputs go. Each sink has a thread of its own.
    pub sinks: Vec<SinkConfig>,
    /// Frames that wait for their first step. Default 4.
    pub queue_capacity: usize,
    /// What happens when they are more. Default: `DropOldest` for a live source, `Block` for a file.
    pub queue_policy: Option<QueuePolicy>,
    /// The oldest a queued frame may be to be taken before the newest one. Default: one measured frame interval.
    pub freshness: Option<Duration>,
    /// Frames between the queue and the outputs at a time. Default: live 2 + batch points, file 2 + the sum of its slots at
    /// its batch points.
    pub max_in_pipeline: Option<usize>,
    /// What happens to a frame when a step fails.
    pub on_step_error: StepErrorPolicy,
    /// Objects below this score are left out of outputs. Default 0: none is.
    pub report_threshold: f32,
    /// Whether outputs carry provenance. Default true.
    pub provenance: bool,
    /// Ends the feed after this many frames. Default: never.
    pub frame_limit: Option<u64>,
    /// How long a sink may take to write out what it holds when the feed ends. Default 30 s.
    pub sink_close_timeout: Duration,
}

impl FeedConfig {
    /// A feed of `spec`, with everything else at its default and no sinks.
    pub fn new(
        name: impl Into<Name>,
        source: Arc<dyn SourceFactory>,
        spec: SourceSpec,
        pipeline: FeedPipeline,
    ) -> Self {
        Self {
            name: name.into(),
            source,
            spec,
            pipeline,
            sinks: Vec::new(),
            queue_capacity: 4,
            queue_policy: None,
            freshness: None,
            max_in_pipeline: None,
            on_step_error: StepErrorPolicy::default(),
            report_threshold: 0.0,
            provenance: true,
            frame_limit: None,
            sink_close_timeout: Duration::from_secs(30),
        }
    }
}

/// A sink and its queue.
pub struct SinkConfig {
    /// Its name in statistics and health events.
    pub name: Name,
    /// The sink.
    pub sink: Box<dyn OutputSink>,
    /// Outputs that wait for it. Default 16. Beyond it a live feed passes the sink by, a file feed waits for it.
    pub queue_capacity: usize,
}

impl SinkConfig {
    /// A sink with the default queue.
    pub fn new(name: impl Into<Name>, sink: Box<dyn OutputSink>) -> Self {
        Self { name: name.into(), sink, queue_capacity: 16 }
    }
}
