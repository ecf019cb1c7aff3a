use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RStr, RVec};
use abi_stable::{StableAbi, sabi_trait};

use crate::{BBox, Capabilities, ExtEntry, Findings, FindingsView, Frame, OwnedExtEntry, StageError};

/// What a batch processor needs, makes and prefers.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct BatchCapabilities {
    /// What it needs of earlier steps, and what it makes.
    pub step: Capabilities,
    /// The most entries that it takes at once; 0: any number.
    pub max_batch: u64,
    /// The size at which it is at its best; 0: the larger the better.
    pub preferred_batch: u64,
    /// Whether an entry may be given again after a batch failed.
    pub idempotent: bool,
    /// What entries must have in common to share a batch.
    pub batch_key: BatchKeyTag,
    /// Additions.
    pub ext: RVec<OwnedExtEntry>,
}

/// What entries must have in common to share a batch.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchKeyTag(pub u32);

impl BatchKeyTag {
    /// Nothing.
    pub const ANY: Self = Self(0);
    /// The pixel format.
    pub const FORMAT: Self = Self(1);
    /// Width and height.
    pub const SIZE: Self = Self(2);
    /// Pixel format, width and height.
    pub const FORMAT_AND_SIZE: Self = Self(3);
}

/// One frame, or one region of it, in a batch.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct BatchEntry<'a> {
    /// The feed's name.
    pub feed: RStr<'a>,
    /// The number of the feed's session.
    pub session: u32,
    /// Index of its frame in the call.
    pub frame: u32,
    /// Index of what earlier steps found in the call.
    pub perception: u32,
    /// Whether it is about `region` alone.
    pub has_region: bool,
    /// The object whose box the region is.
    pub region_object: u32,
    /// The region.
    pub region: BBox,
}

/// A batch. Entries that share a frame, or what was found in it, share it here: it crosses once.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct BatchCall<'a> {
    /// The entries.
    pub entries: RSlice<'a, BatchEntry<'a>>,
    /// The frames that they are about.
    pub frames: RSlice<'a, Frame<'a>>,
    /// What earlier steps found in them.
    pub perceptions: RSlice<'a, FindingsView<'a>>,
    /// Additions.
    pub ext: RSlice<'a, ExtEntry<'a>>,
}

/// The result of one entry; none where the processor left it unfinished.
pub type EntryResult = ROption<RResult<Findings, StageError>>;

/// What came of a batch.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct BatchOutcome {
    /// A result for each entry, in the entries' order.
    pub results: RVec<EntryResult>,
    /// Why the batch as a whole failed.
    pub error: ROption<StageError>,
}

/// A batch processor. No method unwinds; one that panicked gives an error of kind `PANIC`, and so do all calls after it.
#[sabi_trait]
pub trait BatchObject: Send {
    /// What it needs, makes and prefers.
    fn capabilities(&self) -> RResult<BatchCapabilities, StageError>;

    /// Before the first batch.
    fn start(&mut self) -> RResult<(), StageError>;

    /// One batch.
    fn process(&mut self, call: &BatchCall<'_>) -> BatchOutcome;

    /// After the last batch.
    #[sabi(last_prefix_field)]
    fn stop(&mut self) -> RResult<(), StageError>;
}

/// An owned batch processor of the other side.
pub type BatchBox = BatchObject_TO<'static, RBox<()>>;
