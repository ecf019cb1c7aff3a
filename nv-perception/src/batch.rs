use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use nv_core::{BBox, Frame, Name};

use crate::{Capabilities, ObjectId, Perception, StageError, StageErrorKind, StageOutput};

/// A step that all feeds share: it sees frames, or regions of frames, of many feeds in batches.
///
/// Each instance lives on a thread of its own and is called from that thread alone. Entries of one batch may differ in feed,
/// size and pixel format. The order of entries means nothing: a processor may sort them as it likes, results go back by entry.
pub trait BatchProcessor: Send {
    /// What it needs, makes and prefers. Asked once, after it was built.
    fn capabilities(&self) -> BatchCapabilities;

    /// Called once before the first batch, on the instance's thread: load, compile, warm up.
    ///
    /// # Errors
    /// Any: the batch point does not start.
    fn start(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// Computes a batch: calls [`BatchEntry::finish`] on every entry, in any order.
    ///
    /// An entry left unfinished counts as failed, not as "nothing found".
    ///
    /// # Errors
    /// The whole batch failed; what was finished is discarded. Trouble with one entry belongs in that entry's result.
    fn process(&mut self, batch: &mut [BatchEntry]) -> Result<(), StageError>;

    /// Called once after the last batch, on the instance's thread, if `start` succeeded. Not called on an instance that is
    /// given up: after a panic, [`StageErrorKind::DeviceLost`] or [`StageErrorKind::Fatal`].
    fn stop(&mut self) {}
}

/// What a batch processor needs, makes and prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCapabilities {
    /// What it needs of earlier steps, and what it makes.
    pub step: Capabilities,
    /// The most entries that it takes at once; `None`: any number.
    pub max_batch: Option<usize>,
    /// The size at which it is at its best: batches of more are not formed, and one of so many does not wait to grow. 1 where
    /// larger batches gain nothing, as on a CPU; `None`: the larger the better.
    pub preferred_batch: Option<usize>,
    /// Whether it makes sense to give an entry again after a batch failed: same input, same result, no side effect.
    pub idempotent: bool,
    /// Which entries may share a batch. Where frames of all feeds are alike it costs nothing; where they are not, batches are
    /// smaller than they could be.
    pub batch_key: BatchKey,
}

impl Default for BatchCapabilities {
    /// Needs and makes nothing, takes any batch, must not be retried.
    fn default() -> Self {
        Self {
            step: Capabilities::default(),
            max_batch: None,
            preferred_batch: None,
            idempotent: false,
            batch_key: BatchKey::Any,
        }
    }
}

/// What entries must have in common to share a batch. For a region it is its frame that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BatchKey {
    /// Nothing: any entries may share a batch.
    #[default]
    Any,
    /// The pixel format.
    Format,
    /// Width and height.
    Size,
    /// Pixel format, width and height.
    FormatAndSize,
}

impl BatchKey {
    /// A number that is equal for frames that may share a batch. It means nothing else, and holds for this process only.
    pub fn of(self, frame: &Frame) -> u64 {
        let (size, format) = (frame.size(), frame.format());
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Any => return 0,
            Self::Format => format.hash(&mut hasher),
            Self::Size => size.hash(&mut hasher),
            Self::FormatAndSize => (format, size).hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// A part of a frame that is to be looked at by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// The object whose box it is.
    pub object: ObjectId,
    /// The part, in source pixels; inside the frame.
    pub bbox: BBox,
}

/// One frame, or one region of it, in a batch.
#[derive(Debug)]
pub struct BatchEntry {
    feed: Name,
    session: u32,
    frame: Frame,
    region: Option<Region>,
    perception: Arc<Perception>,
    slot: usize,
    result: Option<Result<StageOutput, StageError>>,
}

impl BatchEntry {
    /// An entry for `frame` of `feed`; `perception` is what earlier steps found. The runtime makes it, and so does a test.
    pub fn new(feed: Name, session: u32, frame: Frame, region: Option<Region>, perception: Arc<Perception>) -> Self {
        Self { feed, session, frame, region, perception, slot: 0, result: None }
    }

    /// The same entry at place `slot` of its batch. Whoever makes a batch says so, and finds each entry's result by it.
    #[must_use]
    pub fn at_slot(mut self, slot: usize) -> Self {
        self.slot = slot;
        self
    }

    /// Its place in the batch as it was made, from 0: the one that the output's provenance names.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// The feed that the frame belongs to.
    pub fn feed(&self) -> &Name {
        &self.feed
    }

    /// The number of the feed's session with its source.
    pub fn session(&self) -> u32 {
        self.session
    }

    /// The frame. A clone of it may be kept beyond the call.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The part of the frame to look at; `None`: all of it. Results are in coordinates of the frame either way.
    pub fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }

    /// What earlier steps found in the frame.
    pub fn perception(&self) -> &Arc<Perception> {
        &self.perception
    }

    /// The id of the first object made for this entry.
    pub fn next_object_id(&self) -> ObjectId {
        self.perception.next_object_id()
    }

    /// Sets this entry's result. The last call counts.
    pub fn finish(&mut self, result: Result<StageOutput, StageError>) {
        self.result = Some(result);
    }

    /// Whether the entry has a result.
    pub fn is_finished(&self) -> bool {
        self.result.is_some()
    }

    /// Takes the result out; for an entry that the processor left unfinished, an error that says so.
    ///
    /// # Errors
    /// What the processor reported for this entry.
    pub fn take_result(&mut self) -> Result<StageOutput, StageError> {
        self.result.take().unwrap_or_else(|| {
            Err(StageError::new(StageErrorKind::Input, "the batch processor gave no result for this entry"))
        })
    }
}

#[cfg(test)]
mod tests {
    use nv_core::{FrameHeader, FramePool, PixelFormat, Size};

    use super::*;

    #[test]
    fn frames_that_may_share_a_batch_have_equal_numbers() {
        fn check(key: BatchKey, other: (u32, u32, PixelFormat), share: bool) {
            let frame = |width, height, format| {
                let header = FrameHeader::new(Size::new(width, height), format);
                FramePool::new(0).take(header).unwrap().freeze()
            };
            let (one, other_frame) = (frame(64, 48, PixelFormat::Nv12), frame(other.0, other.1, other.2));
            assert_eq!(key.of(&one) == key.of(&other_frame), share, "{key:?} {other:?}");
        }
        use PixelFormat::{I420, Nv12};
        check(BatchKey::Any, (32, 32, I420), true);
        check(BatchKey::Format, (32, 32, Nv12), true);
        check(BatchKey::Format, (64, 48, I420), false);
        check(BatchKey::Size, (64, 48, I420), true);
        check(BatchKey::Size, (48, 64, Nv12), false);
        check(BatchKey::FormatAndSize, (64, 48, Nv12), true);
        check(BatchKey::FormatAndSize, (64, 48, I420), false);
        check(BatchKey::FormatAndSize, (64, 50, Nv12), false);
    }
}
