//! Feeds, the batch point and sinks together, on real threads in the scripted world.

mod accounting;
mod batch;
mod cascade;
mod conduct;
mod decisions;
mod hang;
mod keys;
mod lifecycle;
mod observability;
mod pause;
mod recovery;
mod restart;
mod sinks;
mod stress;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use nv_core::DropReason;
use nv_perception::{Output, SourceFactory, SourceSpec};
use nv_runtime::{
    BatchConfig, BatchHandle, ConnectPermits, FeedConfig, FeedHandle, FeedPipeline, ProcessorFactory, RestartConfig,
    Runtime, RuntimeConfig,
};
use nv_tests::recording_sink;

/// How long a wait may last that ends by itself in a program that works.
const LONG: Duration = Duration::from_secs(30);

/// Tests share a process: what hangs in one of them while it connects is not to hold up the others.
fn own_permits() -> RuntimeConfig {
    RuntimeConfig { connect_permits: ConnectPermits::new(16), ..RuntimeConfig::default() }
}

fn runtime() -> Runtime {
    Runtime::new(own_permits())
}

/// A runtime that leaves a thread that hangs behind at once.
fn impatient() -> Runtime {
    Runtime::new(RuntimeConfig { grace: Duration::from_millis(20), ..own_permits() })
}

fn batch(runtime: &Runtime, processor: ProcessorFactory, config: BatchConfig) -> BatchHandle {
    runtime.create_batch("detector", processor, config).unwrap()
}

/// A feed with a recording sink that ends with its source; `change` may change its config.
fn feed(
    runtime: &Runtime,
    name: &str,
    source: Arc<dyn SourceFactory>,
    pipeline: FeedPipeline,
    change: impl FnOnce(&mut FeedConfig),
) -> (FeedHandle, Receiver<Output>) {
    let (outputs, sink) = recording_sink();
    let mut config = FeedConfig::new(name, source, SourceSpec::new("test:"), pipeline);
    config.sinks.push(sink);
    config.restart = RestartConfig::never();
    change(&mut config);
    (runtime.add_feed(config).unwrap(), outputs)
}

fn detect(batch: &BatchHandle) -> FeedPipeline {
    FeedPipeline::builder().batch(batch).build().unwrap()
}

/// Ends everything; checks that every thread was joined.
fn shut_down(runtime: &Runtime) {
    assert_eq!(runtime.shutdown(LONG).abandoned, Vec::<String>::new());
}

/// Checks that a feed that has ended accounts for each of its frames: so many emitted, and so many dropped for each reason.
fn check_frames(feed: &FeedHandle, emitted: u64, dropped: &[(DropReason, u64)]) {
    let frames = feed.stats().frames;
    assert_eq!(frames.inside, 0, "{frames:?}");
    assert!(frames.is_balanced(), "{frames:?}");
    assert_eq!(frames.emitted, emitted, "{frames:?}");
    assert_eq!(frames.dropped.into_iter().collect::<Vec<_>>(), dropped);
}

fn check_end(feed: &FeedHandle, expected: &str) {
    let end = feed.wait();
    assert_eq!(end.as_str(), expected, "{end}");
    assert_eq!(end.is_ok(), matches!(expected, "end_of_stream" | "limit_reached" | "stopped"));
}

/// The numbers that the number processor read in each output's picture.
fn numbers(outputs: &Receiver<Output>) -> Vec<u32> {
    outputs.try_iter().map(|o| o.perception.objects().first().map_or(u32::MAX, |o| o.class_id)).collect()
}
