use std::fmt;
use std::time::Duration;

use nv_core::Name;
use nv_perception::{OutputSink, SourceFactory, SourceSpec};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{FeedPipeline, QueuePolicy, RestartConfig};
use crate::sync::Arc;

/// What a feed does with a frame when one of its steps fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// The most frames a second, of stream time, that are let in; evenly spread, the others are dropped as `rate_limited`.
    /// Default: no limit.
    pub max_rate: Option<f64>,
    /// Whether frames that the decoder calls suspect are dropped, as `decode_suspect`. Default false: outputs say which they are.
    pub drop_suspect: bool,
    /// Frames between the queue and the outputs at a time. Default: file 2 + the sum of its slots at its batch points; live
    /// the same with a slot less at each point, which with 2 slots is 2 + batch points.
    pub max_in_pipeline: Option<usize>,
    /// Its share of the batch points beside other feeds', when they are busy: 1 to 1,000. Default 1. A feed of weight 2 gets
    /// twice as many frames computed as one of weight 1, as far as its slots let it.
    pub weight: u32,
    /// What happens to a frame when a step fails.
    pub on_step_error: StepErrorPolicy,
    /// Objects below this score are left out of outputs. Default 0: none is.
    pub report_threshold: f32,
    /// Whether outputs carry provenance. Default true.
    pub provenance: bool,
    /// Ends the feed after this many frames. Default: never.
    pub frame_limit: Option<u64>,
    /// How long a sink may take to write out what it holds when the feed ends. Default 30 s. A sink that takes longer is left
    /// behind; in a shutdown no sink has longer than the drain and the runtime's grace.
    pub sink_close_timeout: Duration,
    /// How long a stage may take for a frame. Default 10 s. Then the frame is dropped as `stage_hung`, the thread that hangs is
    /// left behind, and the feed goes on with its stages built anew where its `restart` says so; else it ends.
    pub stage_timeout: Duration,
    /// How the feed of a live source gets over a lost camera and a broken stage.
    pub restart: RestartConfig,
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
            max_rate: None,
            drop_suspect: false,
            max_in_pipeline: None,
            weight: 1,
            on_step_error: StepErrorPolicy::default(),
            report_threshold: 0.0,
            provenance: true,
            frame_limit: None,
            sink_close_timeout: Duration::from_secs(30),
            stage_timeout: Duration::from_secs(10),
            restart: RestartConfig::default(),
        }
    }
}

/// A [`FeedConfig`] that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} is {value}: {reason}")]
pub struct FeedConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FeedConfig {
    /// Checks every field. [`Runtime::add_feed`](crate::Runtime::add_feed) does so.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), FeedConfigError> {
        let counts = [("queue_capacity", Some(self.queue_capacity)), ("max_in_pipeline", self.max_in_pipeline)];
        let sinks = self.sinks.iter().map(|s| ("sinks.queue_capacity", Some(s.queue_capacity)));
        for (field, value) in counts.into_iter().chain(sinks) {
            let reason = match value {
                Some(0) => "it must be at least 1",
                Some(MOST_WAITING..) => "it is beyond any use",
                _ => continue,
            };
            return Err(FeedConfigError { field, value: value.unwrap_or_default().to_string(), reason });
        }
        let reason = match self.weight {
            0 => Some("it must be at least 1"),
            1..=MOST_WEIGHT => None,
            _ => Some("it is beyond any use: the most is 1000"),
        };
        if let Some(reason) = reason {
            return Err(FeedConfigError { field: "weight", value: self.weight.to_string(), reason });
        }
        if let Some(rate) = self.max_rate
            && !(rate > 0.0 && rate.is_finite())
        {
            let (field, value) = ("max_rate", rate.to_string());
            return Err(FeedConfigError { field, value, reason: "it must be a number of frames a second above 0" });
        }
        if !self.report_threshold.is_finite() {
            let (field, value) = ("report_threshold", self.report_threshold.to_string());
            return Err(FeedConfigError { field, value, reason: "it must be a number" });
        }
        if self.stage_timeout.is_zero() {
            return Err(FeedConfigError {
                field: "stage_timeout",
                value: "0s".into(),
                reason: "no stage could ever run",
            });
        }
        self.restart.validate()
    }
}

/// Beyond this many frames or outputs, waiting for their turn is of no use to anybody.
const MOST_WAITING: usize = 1 << 16;

/// Feeds of less than a thousandth of another's share might as well not be there.
const MOST_WEIGHT: u32 = 1000;

impl fmt::Debug for FeedConfig {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedConfig")
            .field("name", &self.name)
            .field("spec", &self.spec)
            .field("pipeline", &self.pipeline)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
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

impl fmt::Debug for SinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkConfig")
            .field("name", &self.name)
            .field("queue_capacity", &self.queue_capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use nv_perception::SourceError;

    use super::*;

    struct Nowhere;

    impl SourceFactory for Nowhere {
        fn schemes(&self) -> &[&str] {
            &[]
        }

        fn open(
            &self,
            _: &SourceSpec,
            _: &nv_core::CancelToken,
        ) -> Result<Box<dyn nv_perception::FrameSource>, SourceError> {
            unreachable!("it is never opened")
        }
    }

    #[test]
    fn errors_name_the_field_and_the_reason() {
        fn check(change: impl FnOnce(&mut FeedConfig), expected: Option<&str>) {
            let pipeline = FeedPipeline::builder().build().unwrap();
            let mut config = FeedConfig::new("gate", Arc::new(Nowhere), SourceSpec::new("nowhere:"), pipeline);
            change(&mut config);
            assert_eq!(config.validate().err().map(|e| e.to_string()).as_deref(), expected);
        }
        check(|_| (), None);
        check(|c| c.weight = 1000, None);
        check(|c| c.weight = 0, Some("weight is 0: it must be at least 1"));
        check(|c| c.weight = 1001, Some("weight is 1001: it is beyond any use: the most is 1000"));
        check(|c| c.queue_capacity = 0, Some("queue_capacity is 0: it must be at least 1"));
        check(|c| c.max_in_pipeline = Some(1 << 20), Some("max_in_pipeline is 1048576: it is beyond any use"));
        check(|c| c.report_threshold = f32::NAN, Some("report_threshold is NaN: it must be a number"));
    }
}
