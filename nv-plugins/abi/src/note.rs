use std::fmt;

use crate::{GENERATION, VERSION};

/// What happens in a library on a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanicStrategy {
    /// The stack is unwound: the SDK can turn it into an error.
    Unwind,
    /// The process ends.
    Abort,
}

impl PanicStrategy {
    /// The name that the compiler has for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unwind => "unwind",
            Self::Abort => "abort",
        }
    }
}

/// A text in a fixed number of bytes, padded with zeros.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NoteText<const N: usize>([u8; N]);

impl<const N: usize> NoteText<N> {
    /// The text.
    ///
    /// # Panics
    /// Where it has more than `N` bytes: at compile time, in a constant.
    pub const fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        assert!(bytes.len() <= N, "the text is too long for the plugin note");
        let mut padded = [0; N];
        let mut i = 0;
        while i < bytes.len() {
            padded[i] = bytes[i];
            i += 1;
        }
        Self(padded)
    }

    /// The text; `None` where the bytes are no UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(N);
        std::str::from_utf8(&self.0[..end]).ok()
    }
}

impl<const N: usize> fmt::Debug for NoteText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// Who a plugin is, as an ELF note: a host reads it from the file, before any code of the plugin runs.
///
/// In memory it is the whole note: the header that the ELF specification lays down (sizes, type, owner), then the
/// description. In the file it is found in a segment of type `PT_NOTE`, by owner and type; tools show it (`readelf -n`).
/// Numbers are in the target's byte order. A later version may append to it; nothing in it ever moves.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Note {
    owner_size: u32,
    description_size: u32,
    note_type: u32,
    owner: [u8; 12],
    generation: u32,
    abi_version: NoteText<20>,
    target: NoteText<64>,
    panic: NoteText<8>,
    name: NoteText<64>,
    package: NoteText<64>,
    version: NoteText<64>,
    entry: NoteText<160>,
    rustc: NoteText<64>,
}

impl Note {
    /// The owner's name in the ELF note.
    pub const OWNER: &'static str = "NextVision";
    /// The type of the ELF note.
    pub const TYPE: u32 = 1;
    /// Bytes of the header, before the description.
    const HEADER: usize = 24;

    /// The note of a plugin.
    ///
    /// # Panics
    /// Where a text is too long: at compile time, in a constant.
    pub const fn new(
        name: &str,
        package: &str,
        version: &str,
        entry: &str,
        target: &str,
        rustc: &str,
        panic: PanicStrategy,
    ) -> Self {
        Self {
            owner_size: Self::OWNER.len() as u32 + 1,
            description_size: (size_of::<Self>() - Self::HEADER) as u32,
            note_type: Self::TYPE,
            owner: *b"NextVision\0\0",
            generation: GENERATION,
            abi_version: NoteText::new(VERSION),
            target: NoteText::new(target),
            panic: NoteText::new(panic.as_str()),
            name: NoteText::new(name),
            package: NoteText::new(package),
            version: NoteText::new(version),
            entry: NoteText::new(entry),
            rustc: NoteText::new(rustc),
        }
    }

    /// Reads the description of a note from a library of this machine's byte order; `None` where it is too short. A longer
    /// one is of a later version.
    pub fn from_description(description: &[u8]) -> Option<Self> {
        let mut rest = description;
        let generation = u32::from_ne_bytes(take(&mut rest)?);
        let mut note = Self::new("", "", "", "", "", "", PanicStrategy::Unwind);
        note.generation = generation;
        note.abi_version = NoteText(take(&mut rest)?);
        note.target = NoteText(take(&mut rest)?);
        note.panic = NoteText(take(&mut rest)?);
        note.name = NoteText(take(&mut rest)?);
        note.package = NoteText(take(&mut rest)?);
        note.version = NoteText(take(&mut rest)?);
        note.entry = NoteText(take(&mut rest)?);
        note.rustc = NoteText(take(&mut rest)?);
        Some(note)
    }

    /// The generation of the boundary.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// The version of the boundary within the generation, as in `1.0.0`.
    pub fn abi_version(&self) -> Option<&str> {
        self.abi_version.as_str()
    }

    /// The target triple it was built for.
    pub fn target(&self) -> Option<&str> {
        self.target.as_str()
    }

    /// What happens in it on a panic: `unwind` or `abort`.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_str()
    }

    /// The plugin's name, as config uses it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_str()
    }

    /// The package's name.
    pub fn package(&self) -> Option<&str> {
        self.package.as_str()
    }

    /// The package's version.
    pub fn version(&self) -> Option<&str> {
        self.version.as_str()
    }

    /// The symbol that leads to the root module.
    pub fn entry(&self) -> Option<&str> {
        self.entry.as_str()
    }

    /// The compiler it was built with.
    pub fn rustc(&self) -> Option<&str> {
        self.rustc.as_str()
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Note =
        Note::new("colour", "acme-colour", "0.3.1", "entry_acme", "x86_64", "rustc 1.95.0", PanicStrategy::Unwind);

    fn bytes(note: &Note) -> &[u8] {
        // SAFETY: a Note is made of integers and bytes without padding (asserted below).
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(note).cast(), size_of::<Note>()) }
    }

    #[test]
    fn is_an_elf_note_without_padding() {
        let fields = 4 * 3 + 12 + 4 + 20 + 64 + 8 + 64 + 64 + 64 + 160 + 64;
        assert_eq!((size_of::<Note>(), align_of::<Note>()), (fields, 4));
        let b = bytes(&NOTE);
        assert_eq!(u32::from_ne_bytes([b[0], b[1], b[2], b[3]]), 11, "the owner's name and its zero");
        assert_eq!(&b[12..23], b"NextVision\0");
    }

    #[test]
    fn is_read_back() {
        let read = Note::from_description(&bytes(&NOTE)[Note::HEADER..]).unwrap();
        assert_eq!(bytes(&read), bytes(&NOTE));
        assert_eq!(read.name(), Some("colour"));
        assert_eq!((read.abi_version(), read.generation()), (Some(VERSION), GENERATION));
        let mut longer = bytes(&NOTE)[Note::HEADER..].to_vec();
        longer.extend(*b"of a later version");
        assert!(Note::from_description(&longer).is_some());
        assert!(Note::from_description(&longer[..100]).is_none());
    }
}
