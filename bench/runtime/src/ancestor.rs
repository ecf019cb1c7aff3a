//! The same load on the ancestor's runtime, through the seam that it has for media back-ends.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ancestor_core::config::{CameraMode, SourceSpec};
use ancestor_core::error::{MediaError, StageError};
use ancestor_core::id::{FeedId, StageId};
use ancestor_core::{MonotonicTs, TypedMetadata, WallTs};
use ancestor_frame::{FrameEnvelope, PixelFormat};
use ancestor_media::ingress::{FrameSink, IngressOptions, MediaIngress, MediaIngressFactory};
use ancestor_perception::batch::{BatchEntry, BatchProcessor};
use ancestor_perception::{DetectionSet, StageOutput};
use ancestor_runtime::{
    BackpressurePolicy, BatchConfig, BatchHandle, FeedConfig, FeedHandle, FeedPipeline, OutputEnvelope, OutputSink,
    Runtime,
};

use crate::case::{Case, HOLD};
use crate::engine::Engine;
use crate::world::{HEIGHT, POISONED_WIDTH, World};

const MODEL: StageId = StageId("model");

pub(crate) struct Ancestor {
    runtime: Runtime,
    batch: BatchHandle,
    feeds: Vec<FeedHandle>,
}

impl Ancestor {
    pub(crate) fn start(case: &Case, world: &Arc<World>) -> Result<Self, String> {
        let factory = Box::new(Factory { world: world.clone() });
        let runtime = Runtime::builder().ingress_factory(factory).build().map_err(|e| e.to_string())?;
        let mut config = BatchConfig::new(case.batch.max_size, HOLD).map_err(|e| e.to_string())?;
        config = config.with_response_timeout(case.batch.response_timeout);
        if let Some(slots) = case.batch.slots {
            config = config.with_max_in_flight_per_feed(slots);
        }
        let processor = Box::new(Processor { world: world.clone() });
        let batch = runtime.create_batch(processor, config).map_err(|e| e.to_string())?;
        let mut feeds = Vec::new();
        for index in 0..case.load.feeds() {
            let pipeline = FeedPipeline::builder().batch(batch.clone()).map_err(|e| e.to_string())?.build();
            let mut config = FeedConfig::builder()
                // The number of the feed, for the factory.
                .source(SourceSpec::file(index.to_string()))
                .camera_mode(CameraMode::Fixed)
                .feed_pipeline(pipeline)
                .output_sink(Box::new(Sink { world: world.clone(), feed: index }));
            if !case.load.is_live() {
                // Its default drops frames; a file that is to be processed whole waits, at the same depth.
                config = config.backpressure(BackpressurePolicy::Block { queue_depth: 4 });
            }
            let config = config.build().map_err(|e| e.to_string())?;
            feeds.push(runtime.add_feed(config).map_err(|e| e.to_string())?);
        }
        Ok(Self { runtime, batch, feeds })
    }
}

impl Engine for Ancestor {
    fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        let mut add = |name: &str, n: u64| *counts.entry(name.to_owned()).or_default() += n;
        for feed in &self.feeds {
            let metrics = feed.metrics();
            add("received", metrics.frames_received);
            add("dropped: queue full", metrics.frames_dropped);
            add("restarts", u64::from(metrics.restarts));
        }
        let batch = self.batch.metrics();
        add("entries submitted", batch.items_submitted);
        add("entries processed", batch.items_processed);
        add("entries rejected", batch.items_rejected);
        add("entries timed out", batch.items_timed_out);
        add("batches", batch.batches_dispatched);
        counts
    }

    fn stop(self: Box<Self>) -> Result<(), String> {
        self.runtime.shutdown().map_err(|e| e.to_string())
    }
}

struct Factory {
    world: Arc<World>,
}

struct Ingress {
    world: Arc<World>,
    feed: usize,
    id: FeedId,
    spec: SourceSpec,
    stopped: Arc<AtomicBool>,
}

impl MediaIngressFactory for Factory {
    fn create(&self, options: IngressOptions) -> Result<Box<dyn MediaIngress>, MediaError> {
        let feed = match &options.spec {
            SourceSpec::File { path, .. } => number(path),
            _ => None,
        };
        let feed = feed.ok_or_else(|| MediaError::Unsupported { detail: "no number of a feed".into() })?;
        let (id, spec) = (options.feed_id, options.spec);
        Ok(Box::new(Ingress { world: self.world.clone(), feed, id, spec, stopped: Arc::default() }))
    }
}

fn number(path: &Path) -> Option<usize> {
    path.to_str()?.parse().ok()
}

impl MediaIngress for Ingress {
    fn start(&mut self, sink: Box<dyn FrameSink>) -> Result<(), MediaError> {
        let mut script = self.world.script(self.feed);
        let (id, stopped) = (self.id, self.stopped.clone());
        let give = move || {
            while !stopped.load(Ordering::Relaxed) {
                let Some(shot) = script.next() else { continue };
                let width = shot.width();
                sink.on_frame(FrameEnvelope::new_owned(
                    id,
                    shot.number,
                    MonotonicTs::from_nanos(shot.sent),
                    WallTs::from_micros(0),
                    width,
                    HEIGHT,
                    PixelFormat::Gray8,
                    width,
                    vec![0; (width * HEIGHT) as usize],
                    TypedMetadata::new(),
                ));
            }
        };
        let thread = std::thread::Builder::new().name(format!("source {}", self.feed)).spawn(give);
        thread.map(drop).map_err(|e| MediaError::Unsupported { detail: format!("no thread: {e}") })
    }

    fn stop(&mut self) -> Result<(), MediaError> {
        self.stopped.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn pause(&mut self) -> Result<(), MediaError> {
        Ok(())
    }

    fn resume(&mut self) -> Result<(), MediaError> {
        Ok(())
    }

    fn source_spec(&self) -> &SourceSpec {
        &self.spec
    }

    fn feed_id(&self) -> FeedId {
        self.id
    }
}

struct Processor {
    world: Arc<World>,
}

impl BatchProcessor for Processor {
    fn id(&self) -> StageId {
        MODEL
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        self.world.work(batch.len());
        // It has no way to say that one entry failed, so both kinds of failure are the batch's.
        if batch.iter().any(|entry| entry.frame.width() == POISONED_WIDTH) {
            return Err(StageError::ProcessingFailed { stage_id: MODEL, detail: "a poisoned frame".into() });
        }
        for entry in batch {
            entry.output = Some(StageOutput::with_detections(DetectionSet { detections: Vec::new() }));
        }
        Ok(())
    }
}

struct Sink {
    world: Arc<World>,
    feed: usize,
}

impl OutputSink for Sink {
    fn emit(&self, output: Arc<OutputEnvelope>) {
        self.world.delivered(self.feed, output.ts.as_nanos());
    }
}
