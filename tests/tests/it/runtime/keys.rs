use std::sync::Arc;

use nv_core::{Frame, FrameHeader, FramePool, PixelFormat, Size};
use nv_perception::{BatchCapabilities, BatchEntry, BatchKey, BatchProcessor, SourceItem, StageError, StageOutput};
use nv_runtime::{BatchConfig, QueuePolicy};
use nv_tests::fed_source;

use super::*;

/// Refuses batches whose frames differ in what it said that they must have in common.
struct Uniform(BatchKey);

impl BatchProcessor for Uniform {
    fn capabilities(&self) -> BatchCapabilities {
        BatchCapabilities { batch_key: self.0, ..BatchCapabilities::default() }
    }

    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError> {
        let common = |entry: &BatchEntry| match self.0 {
            BatchKey::Size => (Some(entry.frame().size()), None),
            _ => (None, Some(entry.frame().format())),
        };
        if batch.iter().any(|entry| common(entry) != common(&batch[0])) {
            return Err(StageError::input("these do not go together"));
        }
        batch.iter_mut().for_each(|e| e.finish(Ok(StageOutput::default())));
        Ok(())
    }
}

fn picture(side: u32, format: PixelFormat) -> Frame {
    FramePool::new(0).take(FrameHeader::new(Size::new(side, side), format)).unwrap().freeze()
}

#[test]
fn frames_that_do_not_go_together_share_no_batch_and_none_is_lost() {
    fn check(key: BatchKey, live: bool) {
        let runtime = runtime();
        let config = BatchConfig { max_in_flight_per_feed: 8, ..BatchConfig::default() };
        let point = batch(&runtime, Arc::new(move || Ok(Box::new(Uniform(key)))), config);
        let kinds = [(2, PixelFormat::Gray8), (4, PixelFormat::Gray8), (4, PixelFormat::I420), (2, PixelFormat::I420)];
        let feeds: Vec<_> = (0..4)
            .map(|i| {
                let (feeder, source) = fed_source(live);
                let feed = feed(&runtime, &format!("feed {i}"), source, detect(&point), |c| {
                    c.queue_policy = Some(QueuePolicy::Block);
                    c.freshness = Some(LONG);
                });
                // Each feed's own frames change too, now and then.
                for n in 0..60 {
                    let (side, format) = kinds[(i + n / 20) % 4];
                    feeder.item(SourceItem::Frame(picture(side, format)));
                }
                (feeder, feed)
            })
            .collect();
        for (feeder, (feed, outputs)) in feeds {
            drop(feeder);
            feed.wait();
            check_frames(&feed, 60, &[]);
            let order: Vec<u64> = outputs.try_iter().map(|o| o.frame.seq()).collect();
            assert!(order.is_sorted() && order.len() == 60, "{key:?} live {live}: {order:?}");
        }
        assert_eq!((point.metrics().processed, point.metrics().failed), (240, 0));
        shut_down(&runtime);
    }
    for live in [false, true] {
        check(BatchKey::Size, live);
        check(BatchKey::Format, live);
    }
}
