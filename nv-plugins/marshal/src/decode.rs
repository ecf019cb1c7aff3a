use std::sync::Arc;
use std::time::Duration;

use nv_core::{BBox, Frame, Name};
use nv_perception::{
    Artifact, Attribute, Keypoint, Mask, Object, ObjectId, ObjectTables, Rows, SceneFeature, Signal, StageOutput,
    StreamContext, Track, TrackId, Value,
};
use nv_plugin_abi::{self as abi, FindingsView, Flags, RowsView, StringsView};

use crate::MarshalError;
use crate::kinds::track_state_from_abi;
use crate::names::NameCache;

/// The receiver's half of the boundary. Keeps the names it has seen; belongs to one instance of a step.
#[derive(Debug, Default)]
pub struct Decoder {
    names: NameCache,
}

impl Decoder {
    /// The name with this text.
    pub fn name(&mut self, text: &str) -> Name {
        self.names.intern(text)
    }

    /// A stream's context that has crossed.
    pub fn stream(&mut self, stream: &abi::StreamContext<'_>) -> StreamContext {
        StreamContext::new(self.name(stream.feed.as_str()), self.name(stream.step.as_str()), stream.session)
    }

    /// A frame that has crossed. Its pixels stay where they are, and stay there until the last clone of it is dropped.
    ///
    /// # Errors
    /// [`MarshalError::Unknown`] for a format of a later version, [`MarshalError::Frame`] where the planes don't fit it.
    pub fn frame(&mut self, frame: &abi::Frame<'_>) -> Result<Frame, MarshalError> {
        crate::frame::frame_from_abi(frame, |schema| self.names.intern(schema))
    }

    /// What was found, as it has crossed.
    ///
    /// # Errors
    /// [`MarshalError::Malformed`] where an index leads nowhere, [`MarshalError::Unknown`] for a constant of a later version.
    pub fn findings(&mut self, view: &FindingsView<'_>) -> Result<StageOutput, MarshalError> {
        self.names.begin(view.strings.len());
        let mut table = Table { names: &mut self.names, strings: &view.strings };
        let objects = view.objects.iter().map(|o| table.object(o)).collect::<Result<Vec<_>, _>>()?;
        let attributes = view.attributes.iter().map(|a| table.attribute(a)).collect::<Result<_, _>>()?;
        let tracks = view.tracks.iter().map(|t| table.track(t)).collect::<Result<Vec<_>, _>>()?;
        let signals = view.signals.iter().map(|s| table.signal(s)).collect::<Result<_, _>>()?;
        let scene = view.scene.iter().map(|f| table.feature(f)).collect::<Result<_, _>>()?;
        let artifacts = view.artifacts.iter().map(|a| table.artifact(a)).collect::<Result<_, _>>()?;
        Ok(StageOutput {
            objects: view.flags.has(Flags::OBJECTS).then_some(objects),
            tables: tables(&view.tables)?,
            attributes,
            tracks: view.flags.has(Flags::TRACKS).then_some(tracks),
            signals,
            scene,
            artifacts,
        })
    }
}

fn tables(view: &abi::TablesView<'_>) -> Result<ObjectTables, MarshalError> {
    let mut keypoints = Rows::default();
    rows(&view.keypoints, |object, row| {
        let row: Vec<_> = row.iter().map(|k| Keypoint { x: k.x, y: k.y, score: k.score }).collect();
        keypoints.push(object, &row);
    })?;
    let mut mask_sizes = Rows::default();
    rows(&view.mask_sizes, |object, row| {
        let row: Vec<_> = row.iter().map(|m| Mask { width: m.width, height: m.height }).collect();
        mask_sizes.push(object, &row);
    })?;
    Ok(ObjectTables {
        angles: plain_rows(&view.angles)?,
        keypoints,
        mask_sizes,
        masks: plain_rows(&view.masks)?,
        embeddings: plain_rows(&view.embeddings)?,
    })
}

fn plain_rows<T: Copy>(view: &RowsView<'_, T>) -> Result<Rows<T>, MarshalError> {
    let mut native = Rows::default();
    rows(view, |object, row| native.push(object, row))?;
    Ok(native)
}

fn rows<'a, T>(view: &RowsView<'a, T>, mut each: impl FnMut(ObjectId, &'a [T])) -> Result<(), MarshalError> {
    for row in view.iter() {
        let (object, row) = row.ok_or(MarshalError::Malformed { what: "a table of objects" })?;
        each(ObjectId(object), row);
    }
    Ok(())
}

/// The table of strings while it is being read.
struct Table<'a> {
    names: &'a mut NameCache,
    strings: &'a StringsView<'a>,
}

impl Table<'_> {
    fn name(&mut self, index: u32, what: &'static str) -> Result<Name, MarshalError> {
        self.names.resolve(self.strings, index, what)
    }

    fn value(&self, value: abi::Value, what: &'static str) -> Result<Value, MarshalError> {
        Ok(match value.kind {
            abi::ValueKind::BOOL => Value::Bool(value.bits != 0),
            abi::ValueKind::INT => Value::Int(value.bits.cast_signed()),
            abi::ValueKind::FLOAT => Value::Float(f64::from_bits(value.bits)),
            abi::ValueKind::TEXT => {
                let text = u32::try_from(value.bits).ok().and_then(|index| self.strings.get(index));
                Value::Text(text.ok_or(MarshalError::Malformed { what })?.into())
            }
            abi::ValueKind(value) => return Err(MarshalError::Unknown { what: "type of value", value }),
        })
    }

    fn object(&mut self, o: &abi::Object) -> Result<Object, MarshalError> {
        const WHAT: &str = "an object";
        Ok(Object {
            id: ObjectId(o.id),
            parent: o.flags.has(Flags::PARENT).then_some(ObjectId(o.parent)),
            source: self.name(o.source, WHAT)?,
            class_id: o.class_id,
            class: if o.flags.has(Flags::CLASS) { Some(self.name(o.class, WHAT)?) } else { None },
            score: o.score,
            bbox: bbox(o.bbox),
        })
    }

    fn attribute(&mut self, a: &abi::Attribute) -> Result<Attribute, MarshalError> {
        const WHAT: &str = "an attribute";
        Ok(Attribute { object: ObjectId(a.object), name: self.name(a.name, WHAT)?, value: self.value(a.value, WHAT)? })
    }

    fn track(&mut self, t: &abi::Track) -> Result<Track, MarshalError> {
        const WHAT: &str = "a track";
        if t.age_nanos >= 1_000_000_000 {
            return Err(MarshalError::Malformed { what: WHAT });
        }
        Ok(Track {
            id: TrackId(t.id),
            state: track_state_from_abi(t.state)?,
            object: t.flags.has(Flags::OBJECT).then_some(ObjectId(t.object)),
            class_id: t.class_id,
            class: if t.flags.has(Flags::CLASS) { Some(self.name(t.class, WHAT)?) } else { None },
            score: t.score,
            bbox: bbox(t.bbox),
            age: Duration::new(t.age_secs, t.age_nanos),
        })
    }

    fn signal(&mut self, s: &abi::Signal) -> Result<Signal, MarshalError> {
        const WHAT: &str = "a signal";
        Ok(Signal {
            name: self.name(s.name, WHAT)?,
            value: self.value(s.value, WHAT)?,
            object: s.flags.has(Flags::OBJECT).then_some(ObjectId(s.object)),
            track: s.flags.has(Flags::TRACK).then_some(TrackId(s.track)),
        })
    }

    fn feature(&mut self, f: &abi::SceneFeature) -> Result<SceneFeature, MarshalError> {
        const WHAT: &str = "a scene feature";
        Ok(SceneFeature { name: self.name(f.name, WHAT)?, value: self.value(f.value, WHAT)? })
    }

    fn artifact(&mut self, a: &abi::Artifact) -> Result<Artifact, MarshalError> {
        const WHAT: &str = "an artifact";
        Ok(Artifact {
            schema: self.name(a.schema, WHAT)?,
            encoding: self.name(a.encoding, WHAT)?,
            bytes: Arc::from(a.bytes.as_slice()),
        })
    }
}

pub(crate) fn bbox(b: abi::BBox) -> BBox {
    BBox::new(b.x1, b.y1, b.x2, b.y2)
}

#[cfg(test)]
mod tests {
    use nv_perception::Perception;
    use nv_plugin_abi::Findings;
    use proptest::prelude::*;

    use super::*;
    use crate::Encoder;
    use crate::testing::{any_output, exactly};

    proptest! {
        #[test]
        fn findings_cross_unchanged(outputs in prop::collection::vec(any_output(), 1..4)) {
            // One pair of codecs for several calls: nothing of one call may show in the next.
            let (mut encoder, mut decoder, mut sent) = (Encoder::default(), Decoder::default(), Findings::default());
            for output in outputs {
                encoder.findings((&output).into(), &mut sent).unwrap();
                let crossed = decoder.findings(&sent.view()).unwrap();
                prop_assert_eq!(exactly(&crossed), exactly(&output));

                let perception = Perception::from(output);
                encoder.findings((&perception).into(), &mut sent).unwrap();
                let crossed = Perception::from(decoder.findings(&sent.view()).unwrap());
                prop_assert_eq!(exactly(&crossed), exactly(&perception));
            }
        }
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        fn check(spoil: impl FnOnce(&mut Findings), expected: &str) {
            let mut sent = Findings::default();
            sent.strings.push("a").unwrap();
            spoil(&mut sent);
            let error = Decoder::default().findings(&sent.view()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let value = abi::Value { kind: abi::ValueKind::BOOL, bits: 1 };
        let text = abi::Value { kind: abi::ValueKind::TEXT, bits: u64::MAX };
        check(|f| f.scene.push(abi::SceneFeature { name: 1, value }), "a scene feature came over");
        check(|f| f.scene.push(abi::SceneFeature { name: 0, value: text }), "a scene feature came over");
        check(|f| f.attributes.push(abi::Attribute { object: 0, name: u32::MAX, value }), "an attribute came over");
        let kind = abi::ValueKind(9);
        check(
            |f| f.attributes.push(abi::Attribute { object: 0, name: 0, value: abi::Value { kind, bits: 0 } }),
            "type of value number 9 is not known",
        );
        let track = abi::Track {
            id: 0,
            age_secs: u64::MAX,
            age_nanos: 0,
            state: abi::TrackState::LOST,
            flags: Flags::default(),
            object: 0,
            class_id: 0,
            class: 7,
            score: 0.0,
            bbox: abi::BBox::default(),
        };
        check(
            |f| f.tracks.push(abi::Track { state: abi::TrackState(0), ..track }),
            "track state number 0 is not known",
        );
        check(|f| f.tracks.push(abi::Track { age_nanos: u32::MAX, ..track }), "a track came over");
        check(|f| f.tracks.push(abi::Track { flags: Flags::CLASS, ..track }), "a track came over");
    }
}
