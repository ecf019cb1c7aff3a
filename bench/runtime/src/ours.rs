//! The load on our runtime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nv_core::{CancelToken, FrameHeader, FramePool, PixelFormat, Pts, Size};
use nv_perception::{
    BatchCapabilities, BatchEntry, BatchProcessor, FrameSource, Output, OutputSink, SinkError, SourceError,
    SourceErrorKind, SourceFactory, SourceItem, SourceSpec, StageError, StageOutput, StreamInfo,
};
use nv_runtime::{BatchConfig, BatchHandle, FeedConfig, FeedHandle, FeedPipeline, Runtime, RuntimeConfig, SinkConfig};

use crate::case::{Case, Failure, HOLD};
use crate::engine::Engine;
use crate::world::{HEIGHT, POISONED_WIDTH, Script, WIDTH, World};

pub(crate) struct Ours {
    runtime: Runtime,
    batch: BatchHandle,
    feeds: Vec<FeedHandle>,
}

impl Ours {
    pub(crate) fn start(case: &Case, world: &Arc<World>) -> Result<Self, String> {
        let runtime = Runtime::new(RuntimeConfig::default());
        let mut config =
            BatchConfig { max_batch_size: case.batch.max_size, max_latency: HOLD, ..BatchConfig::default() };
        if let Some(slots) = case.batch.slots {
            config.max_in_flight_per_feed = slots;
        }
        if let Some(timeout) = case.batch.response_timeout {
            config.response_timeout = timeout;
        }
        let processor = {
            let (world, failure, preferred) = (world.clone(), case.model.failure, case.batch.max_size);
            move || -> Result<Box<dyn BatchProcessor>, StageError> {
                Ok(Box::new(Processor { world: world.clone(), failure, preferred }))
            }
        };
        let batch = runtime.create_batch("model", Arc::new(processor), config).map_err(|e| e.to_string())?;
        let opener = Arc::new(Opener { world: world.clone(), live: case.load.is_live() });
        let mut feeds = Vec::new();
        for index in 0..case.load.feeds() {
            let pipeline = FeedPipeline::builder().batch(&batch).build().map_err(|e| e.to_string())?;
            let spec = SourceSpec::new(format!("bench:{index}"));
            let mut config = FeedConfig::new(format!("feed-{index}"), opener.clone(), spec, pipeline);
            config.sinks.push(SinkConfig::new("note", Box::new(Sink { world: world.clone(), feed: index })));
            feeds.push(runtime.add_feed(config).map_err(|e| e.to_string())?);
        }
        Ok(Self { runtime, batch, feeds })
    }
}

impl Engine for Ours {
    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let mut add = |name: &str, n: u64| *counts.entry(name.to_owned()).or_default() += n;
        for feed in &self.feeds {
            let stats = feed.stats();
            add("received", stats.frames.received);
            add("emitted", stats.frames.emitted);
            add("inside", stats.frames.inside);
            for (reason, n) in &stats.frames.dropped {
                add(&format!("dropped: {reason}"), *n);
            }
            add("passed by a sink", stats.sinks.iter().map(|s| s.passed_by).sum());
        }
        let batch = self.batch.metrics();
        add("entries processed", batch.processed);
        add("entries failed", batch.failed);
        add("batches", batch.batches);
        counts
    }

    fn stop(self: Box<Self>) -> Result<(), String> {
        let report = self.runtime.shutdown(Duration::ZERO);
        if report.abandoned.is_empty() { Ok(()) } else { Err(format!("threads left behind: {:?}", report.abandoned)) }
    }
}

struct Opener {
    world: Arc<World>,
    live: bool,
}

struct Source {
    script: Script,
    info: StreamInfo,
    pool: FramePool,
}

impl SourceFactory for Opener {
    fn schemes(&self) -> &[&str] {
        &["bench"]
    }

    fn open(&self, spec: &SourceSpec, _: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        let index = spec.url.strip_prefix("bench:").and_then(|index| index.parse().ok());
        let index = index.ok_or_else(|| SourceError::new(SourceErrorKind::Config, &spec.url, "no number of a feed"))?;
        let info = StreamInfo {
            size: Size::new(WIDTH, HEIGHT),
            frame_interval: None,
            frame_count: None,
            live: self.live,
            codec: "none".into(),
            decoder: "none".into(),
            max_outstanding: None,
        };
        Ok(Box::new(Source { script: self.world.script(index), info, pool: FramePool::new(8) }))
    }
}

impl FrameSource for Source {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, _: Duration) -> Result<SourceItem, SourceError> {
        let Some(shot) = self.script.next() else { return Ok(SourceItem::TimedOut) };
        let mut header = FrameHeader::new(Size::new(shot.width(), HEIGHT), PixelFormat::Gray8);
        header.pts = Pts::from_nanos(shot.sent as i64);
        let buffer = self.pool.take(header);
        let buffer = buffer.map_err(|e| SourceError::new(SourceErrorKind::Damaged, "bench:", e.to_string()))?;
        Ok(SourceItem::Frame(buffer.freeze()))
    }
}

struct Processor {
    world: Arc<World>,
    failure: Failure,
    preferred: usize,
}

impl BatchProcessor for Processor {
    fn capabilities(&self) -> BatchCapabilities {
        BatchCapabilities { preferred_batch: Some(self.preferred), idempotent: true, ..BatchCapabilities::default() }
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        self.world.work(batch.len());
        let poisoned = |entry: &BatchEntry| entry.frame().size().width == POISONED_WIDTH;
        if self.failure == Failure::Batch && batch.iter().any(poisoned) {
            return Err(StageError::input("a poisoned frame"));
        }
        for entry in batch {
            let result = if poisoned(entry) {
                Err(StageError::input("a poisoned frame"))
            } else {
                Ok(StageOutput { objects: Some(Vec::new()), ..StageOutput::default() })
            };
            entry.finish(result);
        }
        Ok(())
    }
}

struct Sink {
    world: Arc<World>,
    feed: usize,
}

impl OutputSink for Sink {
    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        self.world.delivered(self.feed, output.frame.pts().as_nanos() as u64);
        Ok(())
    }
}
