use std::time::Duration;

use nv_core::{Frame, MonoTime};
use nv_perception::{BatchTrace, ObjectId, Perception, Region, StageOutput, StepTrace};

use super::gate::StreamPosition;
use super::queue::Queued;
use crate::batch::empty_perception;
use crate::sync::Arc;

/// A frame inside the pipeline.
pub(super) struct Work {
    pub(super) frame: Frame,
    pub(super) session: u32,
    pub(super) cuts: u32,
    /// How long it was held in the queue.
    pub(super) queue: Duration,
    pub(super) perception: Arc<Perception>,
    pub(super) traces: Vec<StepTrace>,
    /// What the batch point that it is at is to look at, and has found so far.
    pub(super) at_point: AtPoint,
}

/// A frame's part in a batch point.
#[derive(Default)]
pub(super) struct AtPoint {
    /// The id that the entry's first object was to have.
    pub(super) first_id: ObjectId,
    /// What was picked to be looked at, in the order of the parts; empty for the whole frame.
    pub(super) regions: Vec<Region>,
    /// What was found in the whole frame.
    pub(super) whole: Option<StageOutput>,
    /// What was found in its regions, part by part.
    pub(super) found: Vec<(u32, StageOutput)>,
    /// Its batch, or for several parts that of the last, and the longest of their computations.
    pub(super) trace: Option<(BatchTrace, Duration)>,
    /// Parts that have been answered, and whether one of them failed.
    pub(super) answered: usize,
    pub(super) failed: bool,
    /// The batches that its parts were in, where there is more than one part.
    pub(super) batches: Vec<u64>,
}

impl AtPoint {
    /// Whether every part has been answered.
    pub(super) fn is_whole(&self) -> bool {
        self.answered >= self.regions.len().max(1)
    }

    /// How long the batch of a part took, unless it was counted for another part.
    pub(super) fn took(&mut self, trace: Option<(BatchTrace, Duration)>) -> Duration {
        let Some((batch, took)) = trace else { return Duration::ZERO };
        if self.regions.len() > 1 {
            if self.batches.contains(&batch.batch) {
                return Duration::ZERO;
            }
            self.batches.push(batch.batch);
        }
        took
    }
}

impl Work {
    pub(super) fn position(&self) -> StreamPosition {
        let Self { session, cuts, .. } = *self;
        StreamPosition { seq: self.frame.seq(), pts: self.frame.pts(), session, cuts }
    }

    pub(super) fn new(queued: Queued, taken: MonoTime) -> Self {
        let Queued { frame, session, cuts, .. } = queued;
        Self {
            queue: taken.since(frame.received()),
            frame,
            session,
            cuts,
            perception: empty_perception(),
            traces: Vec::new(),
            at_point: AtPoint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nv_core::BBox;

    use super::*;

    #[test]
    fn a_batch_counts_once_for_a_frame_and_a_frame_once_it_is_whole() {
        let region = |id| Region { object: ObjectId(id), bbox: BBox::new(0.0, 0.0, 1.0, 1.0) };
        let mut at = AtPoint { regions: (0..3).map(region).collect(), ..AtPoint::default() };
        let mut answer = |batch, slot, ms| {
            at.answered += 1;
            let trace = BatchTrace { batch, slot, size: 8, wait: Duration::ZERO };
            (at.took(Some((trace, Duration::from_millis(ms)))).as_millis(), at.is_whole())
        };
        assert_eq!(answer(7, 0, 5), (5, false));
        assert_eq!(answer(7, 1, 5), (0, false));
        assert_eq!(answer(8, 0, 2), (2, true));
    }
}
