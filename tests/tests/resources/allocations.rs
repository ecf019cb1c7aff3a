//! No frame costs the batch point an allocation, once it runs.
//!
//! What is counted, by kind of thread, over many frames in a steady state:
//! - on the **instance's** thread everything but the processor's own call: forming the batch, binding claims, taking results
//!   out, freeing slots, sending results;
//! - on the **feed's** thread everything but the stage's own call. That thread has other things to do for a frame, some of
//!   which allocate (a frame's traces, what its steps have found). They are the same for a pipeline with a batch point and
//!   for one without: the difference is what claiming or submitting, and taking the result in, cost.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{CancelToken, Frame};
use nv_perception::{
    FrameSource, SourceError, SourceFactory, SourceItem, SourceSpec, StageInput, StageOutput, StreamInfo,
};
use nv_runtime::{BatchConfig, FeedConfig, FeedPipeline, Runtime, RuntimeConfig};

use crate::counting::{Count, count_from_here, uncounted};
use crate::world::{Cameras, frame};
use crate::{alone, say};

static INSTANCE: Count = Count::new();
static FEED: Count = Count::new();

/// A source that gives a frame for each ticket: as many are inside at a time as there are tickets.
struct Ticketed {
    frame: Frame,
    tickets: Receiver<()>,
    live: bool,
}

struct Source {
    frame: Frame,
    tickets: Receiver<()>,
    info: StreamInfo,
}

impl SourceFactory for Ticketed {
    fn schemes(&self) -> &[&str] {
        &["ticketed"]
    }

    fn open(&self, spec: &SourceSpec, cancel: &CancelToken) -> Result<Box<dyn FrameSource>, SourceError> {
        let like = Cameras { live: self.live, ..Cameras::live(0) }.open(spec, cancel)?;
        Ok(Box::new(Source { frame: self.frame.clone(), tickets: self.tickets.clone(), info: like.info().clone() }))
    }
}

impl FrameSource for Source {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next(&mut self, timeout: Duration) -> Result<SourceItem, SourceError> {
        match self.tickets.recv_timeout(timeout.min(Duration::from_millis(100))) {
            Ok(()) => Ok(SourceItem::Frame(self.frame.clone())),
            Err(_) => Ok(SourceItem::TimedOut),
        }
    }
}

/// Allocations while so many frames pass.
#[derive(Clone, Copy, Debug)]
struct Allocations {
    instance: u64,
    feed: u64,
}

/// How often something may be made larger that has been small so far, in all.
const NOISE: u64 = FRAMES / 50;
const FRAMES: u64 = 4000;
const WARM_UP: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline, step by step: the stage that passes tickets on, or the batch point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Stage,
    Point,
}

fn measure(parts: &[Part], live: bool) -> Allocations {
    let runtime = Runtime::new(RuntimeConfig::default());
    let processor = nv_tests::processor(|batch| {
        count_from_here(&INSTANCE);
        uncounted(|| batch.iter_mut().for_each(|entry| entry.finish(Ok(StageOutput::default()))));
        Ok(())
    });
    // No frame is to be lost, however slow the machine: its ticket would be, too.
    let config = BatchConfig { max_age: PATIENCE, ..BatchConfig::default() };
    let point = |name: &str| runtime.create_batch(name, processor.clone(), config.clone()).unwrap();
    let points = [point("first"), point("second")];
    let (ticket, tickets) = bounded::<()>(8);
    let (passed, done) = bounded::<Allocations>(1);
    let mut seen = 0;
    let mut at_first = Allocations { instance: 0, feed: 0 };
    let stage = nv_tests::stage({
        let ticket: Sender<()> = ticket.clone();
        move |_: &StageInput<'_>| {
            count_from_here(&FEED);
            uncounted(|| {
                seen += 1;
                let now = Allocations { instance: INSTANCE.get(), feed: FEED.get() };
                if seen == WARM_UP {
                    at_first = now;
                } else if seen == WARM_UP + FRAMES {
                    let (instance, feed) = (now.instance - at_first.instance, now.feed - at_first.feed);
                    let _ = passed.send(Allocations { instance, feed });
                }
                // Nobody wants more once the test has seen enough.
                let _ = ticket.try_send(());
            });
            Ok(StageOutput::default())
        }
    });
    let mut pipeline = FeedPipeline::builder();
    for (place, part) in parts.iter().enumerate() {
        pipeline = match part {
            Part::Stage => pipeline.stage(format!("stage {place}"), stage.clone()),
            Part::Point => pipeline.batch(&points[place / 2]),
        };
    }
    let source = Arc::new(Ticketed { frame: frame(&Arc::default()), tickets, live });
    let mut config = FeedConfig::new("feed", source, SourceSpec::new("ticketed:"), pipeline.build().unwrap());
    // What is put together for an output that nobody sees is none of the batch point's.
    config.provenance = false;
    config.freshness = Some(PATIENCE);
    let feed = runtime.add_feed(config).unwrap();
    for _ in 0..2 {
        ticket.send(()).unwrap();
    }
    let counted = done.recv_timeout(PATIENCE).expect("the frames pass");
    assert_eq!(feed.stats().frames.dropped_total(), 0);
    runtime.shutdown(Duration::from_secs(30));
    say(&format!("{parts:?}, live: {live}: {counted:?} in {FRAMES} frames"));
    counted
}

#[test]
fn a_frame_costs_the_batch_point_no_allocation() {
    use Part::{Point, Stage};
    let _alone = alone();
    for live in [false, true] {
        // Whatever the feed's thread does for a frame anyway.
        let without = measure(&[Stage], live);
        let check = |parts: &[Part]| {
            let with = measure(parts, live);
            assert!(with.instance <= NOISE, "{parts:?}: {with:?} on the instance's thread in {FRAMES} frames");
            assert!(with.feed <= without.feed + NOISE, "{parts:?}: {with:?}, without a batch point: {without:?}");
        };
        // Bound at dispatch, where the feed is live; at submission; both.
        check(&[Point, Stage]);
        check(&[Stage, Point]);
        check(&[Point, Stage, Point]);
    }
}
