use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RStr, RString, RVec};

/// An addition to a frozen struct, borrowed for the time of a call. Its name says what the bytes mean; who does not know the
/// name passes over it.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct ExtEntry<'a> {
    /// What it is.
    pub name: RStr<'a>,
    /// Its value, as the name defines it.
    pub value: RSlice<'a, u8>,
}

/// An addition to a frozen struct, owned.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct OwnedExtEntry {
    /// What it is.
    pub name: RString,
    /// Its value, as the name defines it.
    pub value: RVec<u8>,
}
