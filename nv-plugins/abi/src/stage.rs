use abi_stable::std_types::{RBox, RResult, RSlice, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};

use crate::{ExtEntry, Findings, FindingsView, Frame, OwnedExtEntry, StageError};

/// The stream that a stage works on.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StreamContext<'a> {
    /// The feed's name.
    pub feed: RStr<'a>,
    /// The step's name.
    pub step: RStr<'a>,
    /// The number of the session.
    pub session: u32,
    /// Additions.
    pub ext: RSlice<'a, ExtEntry<'a>>,
}

/// One frame and what earlier steps found in it.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct StageInput<'a> {
    /// The stream.
    pub stream: StreamContext<'a>,
    /// The frame.
    pub frame: Frame<'a>,
    /// What earlier steps found.
    pub perception: FindingsView<'a>,
    /// Additions.
    pub ext: RSlice<'a, ExtEntry<'a>>,
}

/// The tag of a [`DataKind`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKindTag(pub u32);

impl DataKindTag {
    /// Objects.
    pub const OBJECTS: Self = Self(1);
    /// Tracks.
    pub const TRACKS: Self = Self(2);
    /// Embeddings of objects.
    pub const EMBEDDINGS: Self = Self(3);
    /// Signals of a name.
    pub const SIGNAL: Self = Self(4);
    /// Artifacts of a schema.
    pub const ARTIFACT: Self = Self(5);
}

/// A kind of result that steps produce and consume.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct DataKind {
    /// Which.
    pub tag: DataKindTag,
    /// The signal's name or the artifact's schema; else empty.
    pub name: RString,
}

/// What a step needs and makes.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Capabilities {
    /// What an earlier step must produce.
    pub consumes: RVec<DataKind>,
    /// What it produces.
    pub produces: RVec<DataKind>,
    /// Whether it reads pixels with the CPU.
    pub host_pixels: bool,
    /// Additions.
    pub ext: RVec<OwnedExtEntry>,
}

/// A stage: sees every frame of one feed, in order. No method unwinds; one that panicked gives an error of kind `PANIC`, and
/// so do all calls after it.
#[sabi_trait]
pub trait StageObject: Send {
    /// What it needs and makes.
    fn capabilities(&self) -> RResult<Capabilities, StageError>;

    /// Before the first frame.
    fn start(&mut self, stream: &StreamContext<'_>) -> RResult<(), StageError>;

    /// One frame.
    fn process(&mut self, input: &StageInput<'_>) -> RResult<Findings, StageError>;

    /// The stream was cut here.
    fn discontinuity(&mut self, stream: &StreamContext<'_>) -> RResult<(), StageError>;

    /// After the last frame.
    #[sabi(last_prefix_field)]
    fn stop(&mut self) -> RResult<(), StageError>;
}

/// An owned stage of the other side.
pub type StageBox = StageObject_TO<'static, RBox<()>>;
