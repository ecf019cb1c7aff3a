use abi_stable::StableAbi;
use abi_stable::std_types::{RSlice, RVec};

use crate::{OwnedExtEntry, SharedBytes, Strings, StringsView};

/// A box in continuous source pixels.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

/// Which optional fields of a record are there; the others mean nothing.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u32);

impl Flags {
    /// Of [`Findings`]: a step that makes objects has run.
    pub const OBJECTS: Self = Self(1);
    /// Of [`Findings`]: a tracker has run.
    pub const TRACKS: Self = Self(2);
    /// Of a record: the class has a name.
    pub const CLASS: Self = Self(4);
    /// Of an [`Object`]: it has a parent.
    pub const PARENT: Self = Self(8);
    /// Of a [`Track`] or [`Signal`]: it names an object.
    pub const OBJECT: Self = Self(16);
    /// Of a [`Signal`]: it names a track.
    pub const TRACK: Self = Self(32);

    /// These flags and, where `yes`, `flag`.
    #[must_use]
    pub const fn with(self, flag: Self, yes: bool) -> Self {
        if yes { Self(self.0 | flag.0) } else { self }
    }

    /// Whether `flag` is among these.
    pub const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 == flag.0
    }
}

/// Something seen in a frame.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Object {
    /// Its number in the frame.
    pub id: u32,
    /// `PARENT`, `CLASS`.
    pub flags: Flags,
    /// The object it was found in.
    pub parent: u32,
    /// The step that made it: an index into the strings.
    pub source: u32,
    /// The class's number.
    pub class_id: u32,
    /// The class's name: an index into the strings.
    pub class: u32,
    /// Confidence.
    pub score: f32,
    /// The box.
    pub bbox: BBox,
}

/// Where a track is in its life.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackState(pub u32);

impl TrackState {
    /// Seen in this frame, too new to be sure of.
    pub const TENTATIVE: Self = Self(1);
    /// Seen in this frame and sure.
    pub const CONFIRMED: Self = Self(2);
    /// Sure, not seen in this frame.
    pub const COASTED: Self = Self(3);
    /// Given up in this frame.
    pub const LOST: Self = Self(4);
}

/// An object followed through time, as of one frame.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Track {
    /// Its number in the feed.
    pub id: u64,
    /// Whole seconds of its age.
    pub age_secs: u64,
    /// The rest of its age in nanoseconds.
    pub age_nanos: u32,
    /// Where it is in its life.
    pub state: TrackState,
    /// `OBJECT`, `CLASS`.
    pub flags: Flags,
    /// The object it was matched with.
    pub object: u32,
    /// The class's number.
    pub class_id: u32,
    /// The class's name: an index into the strings.
    pub class: u32,
    /// Score of the object it was last matched with.
    pub score: f32,
    /// The box.
    pub bbox: BBox,
}

/// The type of a [`Value`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueKind(pub u32);

impl ValueKind {
    /// `bits` is 0 or 1.
    pub const BOOL: Self = Self(1);
    /// `bits` are those of an `i64`.
    pub const INT: Self = Self(2);
    /// `bits` are those of an `f64`.
    pub const FLOAT: Self = Self(3);
    /// `bits` is an index into the strings.
    pub const TEXT: Self = Self(4);
}

/// A small value with a type.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Value {
    /// How to read `bits`.
    pub kind: ValueKind,
    /// The value.
    pub bits: u64,
}

/// A named property of an object.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Attribute {
    /// The object.
    pub object: u32,
    /// The property: an index into the strings.
    pub name: u32,
    /// Its value.
    pub value: Value,
}

/// Something derived about this moment.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Signal {
    /// What it says: an index into the strings.
    pub name: u32,
    /// `OBJECT`, `TRACK`.
    pub flags: Flags,
    /// The value.
    pub value: Value,
    /// The track it is about.
    pub track: u64,
    /// The object it is about.
    pub object: u32,
}

/// A property of the whole picture.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct SceneFeature {
    /// What it describes: an index into the strings.
    pub name: u32,
    /// The value.
    pub value: Value,
}

/// Data in a format of the plugins' own.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Artifact {
    /// Names meaning and version: an index into the strings.
    pub schema: u32,
    /// How the bytes are to be read: an index into the strings.
    pub encoding: u32,
    /// The payload.
    pub bytes: SharedBytes,
}

/// A named point of an object.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Keypoint {
    /// Source pixels to the right.
    pub x: f32,
    /// Source pixels down.
    pub y: f32,
    /// Confidence.
    pub score: f32,
}

/// The size of an object's mask.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Mask {
    /// Cells in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Whose a row is, and where it ends.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct RowEnd {
    /// The object.
    pub object: u32,
    /// The index past the row's last value; it begins where the row before ends.
    pub end: u64,
}

/// Rows of values by object, stored flat.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Rows<T> {
    ends: RVec<RowEnd>,
    values: RVec<T>,
}

/// [`Rows`], borrowed.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct RowsView<'a, T> {
    ends: RSlice<'a, RowEnd>,
    values: RSlice<'a, T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { ends: RVec::new(), values: RVec::new() }
    }
}

impl<T> Rows<T> {
    /// Adds a row for `object`.
    pub fn push(&mut self, object: u32, row: impl IntoIterator<Item = T>) {
        self.values.extend(row);
        self.ends.push(RowEnd { object, end: self.values.len() as u64 });
    }

    /// Adds a row for `object` in one copy.
    pub fn push_slice(&mut self, object: u32, row: &[T])
    where
        T: Copy,
    {
        self.values.extend_from_copy_slice(row);
        self.ends.push(RowEnd { object, end: self.values.len() as u64 });
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.values.clear();
    }

    /// The rows, borrowed.
    pub fn view(&self) -> RowsView<'_, T> {
        RowsView { ends: self.ends.as_rslice(), values: self.values.as_rslice() }
    }
}

impl<'a, T> RowsView<'a, T> {
    /// No rows.
    pub const EMPTY: Self = Self { ends: RSlice::EMPTY, values: RSlice::EMPTY };

    /// The rows in order, with their objects; `None` in place of one that the other side laid out wrongly.
    pub fn iter(&self) -> impl Iterator<Item = Option<(u32, &'a [T])>> + use<'a, T> {
        let values = self.values.as_slice();
        let mut start = 0;
        self.ends.as_slice().iter().map(move |row| {
            let end = usize::try_from(row.end).ok()?;
            let slice = values.get(start..end)?;
            start = end;
            Some((row.object, slice))
        })
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $value:ty,)*) => {
        /// What only some objects have.
        #[repr(C)]
        #[derive(StableAbi, Clone, Debug, Default)]
        pub struct Tables {
            $($(#[$doc])* pub $field: Rows<$value>,)*
        }

        /// [`Tables`], borrowed.
        #[repr(C)]
        #[derive(StableAbi, Clone, Copy, Debug)]
        pub struct TablesView<'a> {
            $($(#[$doc])* pub $field: RowsView<'a, $value>,)*
        }

        impl Tables {
            fn clear(&mut self) {
                $(self.$field.clear();)*
            }

            fn view(&self) -> TablesView<'_> {
                TablesView { $($field: self.$field.view(),)* }
            }
        }

        impl TablesView<'_> {
            const EMPTY: Self = Self { $($field: RowsView::EMPTY,)* };
        }
    };
}

tables! {
    /// Rotation of the box; a row of one.
    angles: f32,
    /// Named points.
    keypoints: Keypoint,
    /// Sizes of the masks; a row of one.
    mask_sizes: Mask,
    /// Cells of the masks.
    masks: u8,
    /// A vector that tells likeness.
    embeddings: f32,
}

/// What a step found in a frame, or what all steps so far have found: flat tables, owned.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, Default)]
pub struct Findings {
    /// `OBJECTS`, `TRACKS`.
    pub flags: Flags,
    /// All names and texts.
    pub strings: Strings,
    /// The objects.
    pub objects: RVec<Object>,
    /// What only some of them have.
    pub tables: Tables,
    /// Their attributes.
    pub attributes: RVec<Attribute>,
    /// The tracks.
    pub tracks: RVec<Track>,
    /// The signals.
    pub signals: RVec<Signal>,
    /// The scene features.
    pub scene: RVec<SceneFeature>,
    /// The artifacts.
    pub artifacts: RVec<Artifact>,
    /// Additions.
    pub ext: RVec<OwnedExtEntry>,
}

/// [`Findings`], borrowed.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct FindingsView<'a> {
    /// `OBJECTS`, `TRACKS`.
    pub flags: Flags,
    /// All names and texts.
    pub strings: StringsView<'a>,
    /// The objects.
    pub objects: RSlice<'a, Object>,
    /// What only some of them have.
    pub tables: TablesView<'a>,
    /// Their attributes.
    pub attributes: RSlice<'a, Attribute>,
    /// The tracks.
    pub tracks: RSlice<'a, Track>,
    /// The signals.
    pub signals: RSlice<'a, Signal>,
    /// The scene features.
    pub scene: RSlice<'a, SceneFeature>,
    /// The artifacts.
    pub artifacts: RSlice<'a, Artifact>,
    /// Additions.
    pub ext: RSlice<'a, OwnedExtEntry>,
}

impl Findings {
    /// Removes everything and keeps the memory.
    pub fn clear(&mut self) {
        self.flags = Flags::default();
        self.strings.clear();
        self.objects.clear();
        self.tables.clear();
        self.attributes.clear();
        self.tracks.clear();
        self.signals.clear();
        self.scene.clear();
        self.artifacts.clear();
        self.ext.clear();
    }

    /// The findings, borrowed.
    pub fn view(&self) -> FindingsView<'_> {
        FindingsView {
            flags: self.flags,
            strings: self.strings.view(),
            objects: self.objects.as_rslice(),
            tables: self.tables.view(),
            attributes: self.attributes.as_rslice(),
            tracks: self.tracks.as_rslice(),
            signals: self.signals.as_rslice(),
            scene: self.scene.as_rslice(),
            artifacts: self.artifacts.as_rslice(),
            ext: self.ext.as_rslice(),
        }
    }
}

impl FindingsView<'_> {
    /// Nothing ran.
    pub const EMPTY: Self = Self {
        flags: Flags(0),
        strings: StringsView::EMPTY,
        objects: RSlice::EMPTY,
        tables: TablesView::EMPTY,
        attributes: RSlice::EMPTY,
        tracks: RSlice::EMPTY,
        signals: RSlice::EMPTY,
        scene: RSlice::EMPTY,
        artifacts: RSlice::EMPTY,
        ext: RSlice::EMPTY,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_again_and_wrong_ones_are_refused() {
        let mut rows = Rows::default();
        rows.push_slice(4, &[1.0, 2.0]);
        rows.push(9, []);
        rows.push(4, [3.0]);
        let found: Vec<_> = rows.view().iter().collect();
        assert_eq!(found, [Some((4, &[1.0, 2.0][..])), Some((9, &[][..])), Some((4, &[3.0][..]))]);

        rows.ends[1].end = 1;
        rows.ends[2].end = u64::MAX;
        let found: Vec<_> = rows.view().iter().collect();
        assert_eq!(found, [Some((4, &[1.0, 2.0][..])), None, None]);
    }
}
