use std::sync::Arc;

use nv_perception::{
    Artifact, Attribute, Object, ObjectTables, Perception, SceneFeature, Signal, StageOutput, Track, Value,
};
use nv_plugin_abi::{self as abi, Findings, Flags, Strings};

use crate::MarshalError;
use crate::kinds::track_state_to_abi;
use crate::names::NameIndex;

/// What was found, borrowed: by one step ([`StageOutput`]) or by all steps so far ([`Perception`]).
#[derive(Clone, Copy, Debug)]
pub struct FoundParts<'a> {
    objects: Option<&'a [Object]>,
    tables: &'a ObjectTables,
    attributes: &'a [Attribute],
    tracks: Option<&'a [Track]>,
    signals: &'a [Signal],
    scene: &'a [SceneFeature],
    artifacts: &'a [Artifact],
}

impl FoundParts<'_> {
    /// Whether no step has run or left anything.
    pub fn is_empty(&self) -> bool {
        self.objects.is_none()
            && self.tables.is_empty()
            && self.attributes.is_empty()
            && self.tracks.is_none()
            && self.signals.is_empty()
            && self.scene.is_empty()
            && self.artifacts.is_empty()
    }
}

impl<'a> From<&'a Perception> for FoundParts<'a> {
    fn from(p: &'a Perception) -> Self {
        Self {
            objects: p.has_objects().then_some(p.objects()),
            tables: p.tables(),
            attributes: p.attributes(),
            tracks: p.has_tracks().then_some(p.tracks()),
            signals: p.signals(),
            scene: p.scene(),
            artifacts: p.artifacts(),
        }
    }
}

impl<'a> From<&'a StageOutput> for FoundParts<'a> {
    fn from(o: &'a StageOutput) -> Self {
        Self {
            objects: o.objects.as_deref(),
            tables: &o.tables,
            attributes: &o.attributes,
            tracks: o.tracks.as_deref(),
            signals: &o.signals,
            scene: &o.scene,
            artifacts: &o.artifacts,
        }
    }
}

/// The sender's half of the boundary. Keeps its scratch memory from call to call; belongs to one instance of a step.
#[derive(Debug, Default)]
pub struct Encoder {
    names: NameIndex,
}

impl Encoder {
    /// Writes `parts` into `into`, whose former contents are lost and whose memory is used again.
    ///
    /// # Errors
    /// [`MarshalError::TooLarge`].
    pub fn findings(&mut self, parts: FoundParts<'_>, into: &mut Findings) -> Result<(), MarshalError> {
        into.clear();
        if parts.is_empty() {
            return Ok(());
        }
        self.names.clear();
        into.flags =
            Flags::default().with(Flags::OBJECTS, parts.objects.is_some()).with(Flags::TRACKS, parts.tracks.is_some());

        let mut table = Table { names: &mut self.names, strings: &mut into.strings };
        into.objects.reserve(parts.objects.map_or(0, <[_]>::len));
        for object in parts.objects.unwrap_or_default() {
            into.objects.push(table.object(object)?);
        }
        for attribute in parts.attributes {
            into.attributes.push(abi::Attribute {
                object: attribute.object.0,
                name: table.name(&attribute.name)?,
                value: table.value(&attribute.value)?,
            });
        }
        for track in parts.tracks.unwrap_or_default() {
            into.tracks.push(table.track(track)?);
        }
        for signal in parts.signals {
            into.signals.push(table.signal(signal)?);
        }
        for feature in parts.scene {
            let name = table.name(&feature.name)?;
            into.scene.push(abi::SceneFeature { name, value: table.value(&feature.value)? });
        }
        for artifact in parts.artifacts {
            into.artifacts.push(abi::Artifact {
                schema: table.name(&artifact.schema)?,
                encoding: table.name(&artifact.encoding)?,
                bytes: abi::SharedBytes::new(Arc::new(artifact.bytes.clone()), |bytes| bytes),
            });
        }
        tables(parts.tables, &mut into.tables);
        Ok(())
    }
}

fn tables(from: &ObjectTables, into: &mut abi::Tables) {
    for (object, row) in from.angles.iter() {
        into.angles.push_slice(object.0, row);
    }
    for (object, row) in from.keypoints.iter() {
        into.keypoints.push(object.0, row.iter().map(|k| abi::Keypoint { x: k.x, y: k.y, score: k.score }));
    }
    for (object, row) in from.mask_sizes.iter() {
        into.mask_sizes.push(object.0, row.iter().map(|m| abi::Mask { width: m.width, height: m.height }));
    }
    for (object, row) in from.masks.iter() {
        into.masks.push_slice(object.0, row);
    }
    for (object, row) in from.embeddings.iter() {
        into.embeddings.push_slice(object.0, row);
    }
}

/// The table of strings while it is being filled.
struct Table<'a> {
    names: &'a mut NameIndex,
    strings: &'a mut Strings,
}

impl Table<'_> {
    fn name(&mut self, name: &nv_core::Name) -> Result<u32, MarshalError> {
        self.names.get(name, self.strings)
    }

    fn optional(&mut self, name: Option<&nv_core::Name>) -> Result<u32, MarshalError> {
        name.map_or(Ok(0), |name| self.name(name))
    }

    fn value(&mut self, value: &Value) -> Result<abi::Value, MarshalError> {
        Ok(match value {
            Value::Bool(v) => abi::Value { kind: abi::ValueKind::BOOL, bits: u64::from(*v) },
            Value::Int(v) => abi::Value { kind: abi::ValueKind::INT, bits: v.cast_unsigned() },
            Value::Float(v) => abi::Value { kind: abi::ValueKind::FLOAT, bits: v.to_bits() },
            Value::Text(v) => {
                let index = self.strings.push(v).map_err(|_| MarshalError::TooLarge)?;
                abi::Value { kind: abi::ValueKind::TEXT, bits: u64::from(index) }
            }
        })
    }

    fn object(&mut self, o: &Object) -> Result<abi::Object, MarshalError> {
        Ok(abi::Object {
            id: o.id.0,
            flags: Flags::default().with(Flags::PARENT, o.parent.is_some()).with(Flags::CLASS, o.class.is_some()),
            parent: o.parent.map_or(0, |id| id.0),
            source: self.name(&o.source)?,
            class_id: o.class_id,
            class: self.optional(o.class.as_ref())?,
            score: o.score,
            bbox: bbox(o.bbox),
        })
    }

    fn track(&mut self, t: &Track) -> Result<abi::Track, MarshalError> {
        Ok(abi::Track {
            id: t.id.0,
            age_secs: t.age.as_secs(),
            age_nanos: t.age.subsec_nanos(),
            state: track_state_to_abi(t.state),
            flags: Flags::default().with(Flags::OBJECT, t.object.is_some()).with(Flags::CLASS, t.class.is_some()),
            object: t.object.map_or(0, |id| id.0),
            class_id: t.class_id,
            class: self.optional(t.class.as_ref())?,
            score: t.score,
            bbox: bbox(t.bbox),
        })
    }

    fn signal(&mut self, s: &Signal) -> Result<abi::Signal, MarshalError> {
        Ok(abi::Signal {
            name: self.name(&s.name)?,
            flags: Flags::default().with(Flags::OBJECT, s.object.is_some()).with(Flags::TRACK, s.track.is_some()),
            value: self.value(&s.value)?,
            track: s.track.map_or(0, |id| id.0),
            object: s.object.map_or(0, |id| id.0),
        })
    }
}

pub(crate) fn bbox(b: nv_core::BBox) -> abi::BBox {
    abi::BBox { x1: b.x1, y1: b.y1, x2: b.x2, y2: b.y2 }
}
