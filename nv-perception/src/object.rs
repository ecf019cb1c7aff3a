use nv_core::{BBox, Name};
use serde::Serialize;

/// The number of an object: unique in its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ObjectId(pub u32);

/// Something seen in one frame: a class, a score, a box. What only some objects have (keypoints, a mask, an embedding …)
/// is in the frame's [`ObjectTables`], by id.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its number in the frame.
    pub id: ObjectId,
    /// The object it was found in or belongs to.
    pub parent: Option<ObjectId>,
    /// The step that made it. The runtime fills it in; what a step writes here is replaced.
    pub source: Name,
    /// The class, as the step that made it numbers it.
    pub class_id: u32,
    /// The class's name, where the step has names.
    pub class: Option<Name>,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// The box in continuous source pixels; detections are clipped to the picture.
    pub bbox: BBox,
}

impl Object {
    /// An object in `bbox`, with neither parent nor class name.
    pub fn new(id: ObjectId, class_id: u32, score: f32, bbox: BBox) -> Self {
        Self { id, parent: None, source: Name::default(), class_id, class: None, score, bbox }
    }
}

/// A named point of an object, as of a face or a pose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Keypoint {
    /// Source pixels to the right.
    pub x: f32,
    /// Source pixels down.
    pub y: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// The size of an object's mask. Its cells cover the object's box, row by row, one byte each, 0 (outside) to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mask {
    /// Cells in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Rows of values by object, stored flat: one allocation however many objects, and plain data at the plugin boundary.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<T> {
    /// Object and end of its row in `values`; a row begins where the one before ends.
    ends: Vec<(ObjectId, usize)>,
    values: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { ends: Vec::new(), values: Vec::new() }
    }
}

impl<T: Copy> Rows<T> {
    /// Whether no object has a row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a row for `object`. Of several rows for one object the last counts.
    pub fn push(&mut self, object: ObjectId, row: &[T]) {
        self.values.extend_from_slice(row);
        self.ends.push((object, self.values.len()));
    }

    /// The row of `object`.
    pub fn get(&self, object: ObjectId) -> Option<&[T]> {
        let i = self.ends.iter().rposition(|(id, _)| *id == object)?;
        Some(self.row(i))
    }

    /// The rows, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &[T])> {
        self.ends.iter().enumerate().map(|(i, (id, _))| (*id, self.row(i)))
    }

    fn row(&self, i: usize) -> &[T] {
        let start = if i == 0 { 0 } else { self.ends[i - 1].1 };
        &self.values[start..self.ends[i].1]
    }

    /// Leaves out the rows of objects that `keep` says no to.
    fn retain(&mut self, keep: impl Fn(ObjectId) -> bool) {
        if self.ends.iter().all(|(id, _)| keep(*id)) {
            return;
        }
        let mut kept = Self::default();
        self.iter().filter(|(id, _)| keep(*id)).for_each(|(id, row)| kept.push(id, row));
        *self = kept;
    }

    fn append(&mut self, other: &Self, map: impl Fn(ObjectId) -> ObjectId) {
        for (id, row) in other.iter() {
            self.push(map(id), row);
        }
    }
}

/// What only some objects of a frame have, by object id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectTables {
    /// Rotation of the box about its centre in radians, clockwise; a row of one.
    pub angles: Rows<f32>,
    /// Named points.
    pub keypoints: Rows<Keypoint>,
    /// Sizes of the masks; a row of one.
    pub mask_sizes: Rows<Mask>,
    /// Cells of the masks, `width · height` of them.
    pub masks: Rows<u8>,
    /// A vector that tells likeness.
    pub embeddings: Rows<f32>,
}

impl ObjectTables {
    /// Whether no object has anything here.
    pub fn is_empty(&self) -> bool {
        self.angles.is_empty()
            && self.keypoints.is_empty()
            && self.mask_sizes.is_empty()
            && self.masks.is_empty()
            && self.embeddings.is_empty()
    }

    /// Adds all rows of `other`, its ids passed through `map`.
    pub(crate) fn append(&mut self, other: &Self, map: impl Fn(ObjectId) -> ObjectId + Copy) {
        self.angles.append(&other.angles, map);
        self.keypoints.append(&other.keypoints, map);
        self.mask_sizes.append(&other.mask_sizes, map);
        self.masks.append(&other.masks, map);
        self.embeddings.append(&other.embeddings, map);
    }

    /// Leaves out whatever belongs to objects that `keep` says no to.
    pub fn retain(&mut self, keep: impl Fn(ObjectId) -> bool + Copy) {
        self.angles.retain(keep);
        self.keypoints.retain(keep);
        self.mask_sizes.retain(keep);
        self.masks.retain(keep);
        self.embeddings.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_objects_apart() {
        let mut rows = Rows::default();
        assert_eq!(rows.get(ObjectId(0)), None);
        rows.push(ObjectId(3), &[1.0, 2.0]);
        rows.push(ObjectId(0), &[]);
        rows.push(ObjectId(1), &[3.0]);
        assert_eq!(rows.get(ObjectId(3)), Some(&[1.0, 2.0][..]));
        assert_eq!(rows.get(ObjectId(0)), Some(&[][..]));
        assert_eq!(rows.get(ObjectId(1)), Some(&[3.0][..]));
        assert_eq!(rows.get(ObjectId(2)), None);
        rows.push(ObjectId(3), &[9.0]);
        assert_eq!(rows.get(ObjectId(3)), Some(&[9.0][..]), "the last row counts");
        rows.retain(|id| id != ObjectId(3));
        assert_eq!(rows.get(ObjectId(3)), None);
        assert_eq!(rows.get(ObjectId(1)), Some(&[3.0][..]));
    }
}
