use abi_stable::StableAbi;
use abi_stable::std_types::{RString, RVec};

/// What kind of trouble a step is in.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorKind(pub u32);

impl ErrorKind {
    /// The config is wrong.
    pub const CONFIG: Self = Self(1);
    /// A model or another file is missing, damaged or not of the right sort.
    pub const RESOURCE: Self = Self(2);
    /// No device of the kind that was asked for.
    pub const NO_DEVICE: Self = Self(3);
    /// This frame can't be processed.
    pub const INPUT: Self = Self(4);
    /// It may work the next time.
    pub const TRANSIENT: Self = Self(5);
    /// This build or the other side lacks something.
    pub const UNSUPPORTED: Self = Self(6);
    /// The device was lost.
    pub const DEVICE_LOST: Self = Self(7);
    /// The step panicked.
    pub const PANIC: Self = Self(8);
    /// The step can't go on.
    pub const FATAL: Self = Self(9);
}

/// Why a call failed.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StageError {
    /// Decides policy.
    pub kind: ErrorKind,
    /// What happened, in a sentence.
    pub message: RString,
    /// Text for developers: a backtrace, a dump.
    pub detail: RString,
    /// The causes, nearest first.
    pub causes: RVec<RString>,
}

impl StageError {
    /// An error of `kind` without detail and causes.
    pub fn new(kind: ErrorKind, message: impl Into<RString>) -> Self {
        Self { kind, message: message.into(), detail: RString::new(), causes: RVec::new() }
    }
}
