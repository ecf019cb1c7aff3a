use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr, RString, RVec};

use crate::OwnedExtEntry;

/// Who the host is.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct HostInfo {
    /// The program's version of the boundary.
    pub abi_version: RString,
    /// The loader's version.
    pub version: RString,
    /// Additions.
    pub ext: RVec<OwnedExtEntry>,
}

/// How important an event or span is.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// Error.
    pub const ERROR: Self = Self(1);
    /// Warning.
    pub const WARN: Self = Self(2);
    /// Information.
    pub const INFO: Self = Self(3);
    /// For developers.
    pub const DEBUG: Self = Self(4);
    /// For developers, in detail.
    pub const TRACE: Self = Self(5);
}

/// A place in the plugin's code that logs.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct LogCallsite<'a> {
    /// The span's or event's name.
    pub name: RStr<'a>,
    /// What filters go by.
    pub target: RStr<'a>,
    /// Source file; empty where unknown.
    pub file: RStr<'a>,
    /// Module path; empty where unknown.
    pub module: RStr<'a>,
    /// Line; 0 where unknown.
    pub line: u32,
    /// Level.
    pub level: LogLevel,
    /// Whether it makes spans; else events.
    pub is_span: bool,
    /// The names of its fields.
    pub fields: RSlice<'a, RStr<'a>>,
}

/// The type of a [`LogField`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFieldKind(pub u32);

impl LogFieldKind {
    /// `text` is formatted for people, and is not to be quoted.
    pub const FORMATTED: Self = Self(1);
    /// `text` is a string.
    pub const TEXT: Self = Self(2);
    /// `bits` are those of an `i64`.
    pub const I64: Self = Self(3);
    /// `bits` are those of a `u64`.
    pub const U64: Self = Self(4);
    /// `bits` are those of an `f64`.
    pub const F64: Self = Self(5);
    /// `bits` is 0 or 1.
    pub const BOOL: Self = Self(6);
}

/// The value of one field of an event or span.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct LogField<'a> {
    /// Index among the callsite's fields.
    pub index: u32,
    /// How to read the value.
    pub kind: LogFieldKind,
    /// The value, if a number.
    pub bits: u64,
    /// The value, if a text.
    pub text: RStr<'a>,
}

/// Under what an event or span is: a span's number, or one of the constants.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogParent(pub u64);

impl LogParent {
    /// Under whatever span the calling thread is in.
    pub const CONTEXT: Self = Self(0);
    /// Under none.
    pub const ROOT: Self = Self(u64::MAX);
}

/// What the host does for a plugin. Valid from `init` on, for ever; every function may be called from any thread and none
/// unwinds.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostApi_Ref)))]
#[sabi(missing_field(option))]
pub struct HostApi {
    /// Who the host is.
    pub info: extern "C" fn() -> HostInfo,
    /// Makes a callsite known and returns its number, from 1.
    pub log_register: extern "C" fn(&LogCallsite<'_>) -> u64,
    /// Whether anybody listens to this callsite now.
    pub log_enabled: extern "C" fn(callsite: u64) -> bool,
    /// Reports an event.
    pub log_event: extern "C" fn(callsite: u64, parent: LogParent, fields: RSlice<'_, LogField<'_>>),
    /// Opens a span and returns its number, from 1.
    pub span_new: extern "C" fn(callsite: u64, parent: LogParent, fields: RSlice<'_, LogField<'_>>) -> u64,
    /// Adds fields to a span.
    pub span_record: extern "C" fn(span: u64, fields: RSlice<'_, LogField<'_>>),
    /// Says that one span follows from another.
    pub span_follows: extern "C" fn(span: u64, follows: u64),
    /// The calling thread enters a span.
    pub span_enter: extern "C" fn(span: u64),
    /// The calling thread leaves a span.
    pub span_exit: extern "C" fn(span: u64),
    /// Closes a span; its number means nothing from here on.
    pub span_close: extern "C" fn(span: u64),
    /// A further service by its name, or null. The name defines the type behind the pointer.
    #[sabi(last_prefix_field)]
    pub extension: extern "C" fn(name: RStr<'_>) -> *const (),
}
