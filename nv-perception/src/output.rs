use std::time::Duration;

use nv_core::{Frame, MonoTime, Name};
use serde::ser::{Serialize, SerializeStruct as _, Serializer};

use crate::{Attribute, Object, ObjectId, ObjectTables, Perception, Track, TrackState};

/// The schema that [`Output`] serialises to.
pub const OUTPUT_SCHEMA: &str = "nv.output/1";

/// What a pipeline made of one frame: the value that leaves.
///
/// Outputs of a feed leave in the order of their frames. Serialises as one `nv.output/1` record: its keys are always
/// present, `null` says that nothing looked or that it is not known. Objects carry `angle`, `keypoints`, `mask` and
/// `embedding` only where they have them.
#[derive(Clone, Debug)]
pub struct Output {
    /// The feed.
    pub feed: Name,
    /// The number of the session with the source, from 0.
    pub session: u32,
    /// The frame. Its pixels are kept only if a sink wants them; its numbers and times always.
    pub frame: Frame,
    /// What the steps found, with objects below the feed's report threshold left out.
    pub perception: Perception,
    /// How it came about; `None` where the feed leaves it out.
    pub provenance: Option<Provenance>,
}

/// How an output came about: what each step took, how long the frame waited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// When the runtime received the frame.
    pub received: MonoTime,
    /// When the output was handed to the sinks.
    pub emitted: MonoTime,
    /// How long the frame was held in the feed's queue before its first step.
    pub queue: Duration,
    /// The steps, in order.
    pub steps: Vec<StepTrace>,
}

impl Provenance {
    /// From received to emitted.
    pub fn age(&self) -> Duration {
        self.emitted.since(self.received)
    }
}

/// One step's share in an output.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTrace {
    /// The step.
    pub step: Name,
    /// Time spent in the stage's or the batch's `process`.
    pub duration: Duration,
    /// For a batch point: which batch.
    pub batch: Option<BatchTrace>,
}

/// An entry's place in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTrace {
    /// Number of the batch at its batch point.
    pub batch: u64,
    /// The entry's place in it, from 0.
    pub slot: usize,
    /// Entries in it.
    pub size: usize,
    /// From the entry's submission to the batch's dispatch.
    pub wait: Duration,
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let p = &self.perception;
        let mut s = serializer.serialize_struct("Output", 16)?;
        s.serialize_field("schema", OUTPUT_SCHEMA)?;
        s.serialize_field("feed", &self.feed)?;
        s.serialize_field("session", &self.session)?;
        s.serialize_field("seq", &self.frame.seq())?;
        s.serialize_field("pts_ms", &micros(self.frame.pts().as_millis_f64()))?;
        s.serialize_field("captured", &self.frame.captured().map(|c| c.at))?;
        s.serialize_field("captured_by", &self.frame.captured().map(|c| c.by))?;
        s.serialize_field("width", &self.frame.size().width)?;
        s.serialize_field("height", &self.frame.size().height)?;
        s.serialize_field("suspect", &self.frame.is_suspect())?;
        s.serialize_field("objects", &p.has_objects().then_some(ObjectsRecord(p)))?;
        s.serialize_field("tracks", &p.has_tracks().then_some(TracksRecord(p.tracks())))?;
        s.serialize_field("signals", p.signals())?;
        s.serialize_field("scene", p.scene())?;
        s.serialize_field("artifacts", p.artifacts())?;
        s.serialize_field("provenance", &self.provenance)?;
        s.end()
    }
}

struct ObjectsRecord<'a>(&'a Perception);

impl Serialize for ObjectsRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tables = self.0.tables();
        let attributes = self.0.attributes();
        serializer.collect_seq(self.0.objects().iter().map(|object| ObjectRecord { object, tables, attributes }))
    }
}

struct ObjectRecord<'a> {
    object: &'a Object,
    tables: &'a ObjectTables,
    attributes: &'a [Attribute],
}

impl Serialize for ObjectRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (o, id) = (self.object, self.object.id);
        let mut s = serializer.serialize_struct("Object", 8)?;
        s.serialize_field("id", &o.id)?;
        s.serialize_field("parent", &o.parent)?;
        s.serialize_field("source", &o.source)?;
        s.serialize_field("class_id", &o.class_id)?;
        s.serialize_field("class", &o.class)?;
        s.serialize_field("score", &o.score)?;
        s.serialize_field("bbox", &o.bbox)?;
        s.serialize_field("attributes", &Attributes { object: id, all: self.attributes })?;
        if let Some([angle]) = self.tables.angles.get(id) {
            s.serialize_field("angle", angle)?;
        }
        if let Some(keypoints) = self.tables.keypoints.get(id) {
            s.serialize_field("keypoints", keypoints)?;
        }
        if let (Some([size]), Some(cells)) = (self.tables.mask_sizes.get(id), self.tables.masks.get(id)) {
            s.serialize_field("mask", &MaskRecord { width: size.width, height: size.height, cells })?;
        }
        if let Some(embedding) = self.tables.embeddings.get(id) {
            s.serialize_field("embedding", embedding)?;
        }
        s.end()
    }
}

#[derive(serde::Serialize)]
struct MaskRecord<'a> {
    width: u32,
    height: u32,
    cells: &'a [u8],
}

/// The attributes of one object as a map; of several with one name the last counts.
struct Attributes<'a> {
    object: ObjectId,
    all: &'a [Attribute],
}

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = |a: &&Attribute| a.object == self.object;
        let is_last = |(i, a): &(usize, &Attribute)| !self.all[i + 1..].iter().any(|b| own(&b) && b.name == a.name);
        let map = self.all.iter().enumerate().filter(|(_, a)| own(a)).filter(is_last);
        serializer.collect_map(map.map(|(_, a)| (&a.name, &a.value)))
    }
}

/// The tracks of the frame that are alive: a lost one is for stages alone.
struct TracksRecord<'a>(&'a [Track]);

impl Serialize for TracksRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().filter(|t| t.state != TrackState::Lost))
    }
}

impl Serialize for Track {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("Track", 8)?;
        s.serialize_field("id", &self.id)?;
        s.serialize_field("state", &self.state)?;
        s.serialize_field("object", &self.object)?;
        s.serialize_field("class_id", &self.class_id)?;
        s.serialize_field("class", &self.class)?;
        s.serialize_field("score", &self.score)?;
        s.serialize_field("bbox", &self.bbox)?;
        s.serialize_field("age_ms", &millis(self.age))?;
        s.end()
    }
}

impl Serialize for Provenance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("Provenance", 4)?;
        s.serialize_field("received_ms", &micros(self.received.as_millis_f64()))?;
        s.serialize_field("emitted_ms", &micros(self.emitted.as_millis_f64()))?;
        s.serialize_field("queue_ms", &millis(self.queue))?;
        s.serialize_field("steps", &self.steps)?;
        s.end()
    }
}

impl Serialize for StepTrace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("StepTrace", 6)?;
        s.serialize_field("step", &self.step)?;
        s.serialize_field("ms", &millis(self.duration))?;
        if let Some(batch) = &self.batch {
            s.serialize_field("batch", &batch.batch)?;
            s.serialize_field("slot", &batch.slot)?;
            s.serialize_field("size", &batch.size)?;
            s.serialize_field("wait_ms", &millis(batch.wait))?;
        }
        s.end()
    }
}

/// Milliseconds to the microsecond: more digits would only be noise to read.
fn millis(d: Duration) -> f64 {
    micros(d.as_nanos() as f64 / 1e6)
}

fn micros(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::expect;
    use nv_core::{BBox, Captured, CapturedBy, FrameHeader, FramePool, PixelFormat, Pts, Size, WallTime};

    use super::*;
    use crate::{Artifact, Keypoint, Signal, StageOutput, TrackId};

    fn frame() -> Frame {
        let header = FrameHeader {
            pts: Pts::from_nanos(1_366_666_667),
            captured: Some(Captured {
                at: WallTime::from_unix_nanos(1_795_331_703_120_000_000),
                by: CapturedBy::SenderReport,
            }),
            ..FrameHeader::new(Size::new(768, 576), PixelFormat::Gray8)
        };
        FramePool::new(0).take(header).unwrap().freeze().stamped(41, MonoTime::from_nanos(1_370_100_000))
    }

    #[test]
    fn a_full_record() {
        let mut perception = Perception::default();
        let object = Object {
            id: ObjectId(0),
            parent: None,
            source: "".into(),
            class_id: 0,
            class: Some("person".into()),
            score: 0.91,
            bbox: BBox::new(101.2, 88.0, 140.7, 201.5),
        };
        let mut found = StageOutput { objects: Some(vec![object.clone()]), ..StageOutput::default() };
        found.tables.keypoints.push(ObjectId(0), &[Keypoint { x: 1.0, y: 2.0, score: 0.5 }]);
        for colour in ["blue", "red"] {
            found.attributes.push(Attribute { object: ObjectId(0), name: "colour".into(), value: colour.into() });
        }
        perception.merge(&"detector".into(), ObjectId(0), found);
        let track = |id, state| Track {
            id: TrackId(id),
            state,
            object: Some(ObjectId(0)),
            class_id: 0,
            class: object.class.clone(),
            score: 0.91,
            bbox: object.bbox,
            age: Duration::from_millis(2300),
        };
        let tracked = StageOutput {
            tracks: Some(vec![track(7, TrackState::Confirmed), track(8, TrackState::Lost)]),
            signals: vec![Signal::new("count", 1i64)],
            artifacts: vec![Artifact {
                schema: "acme.pose/2".into(),
                encoding: "json".into(),
                bytes: Arc::from(*b"[]"),
            }],
            ..StageOutput::default()
        };
        perception.merge(&"track".into(), ObjectId(1), tracked);
        let output = Output {
            feed: "gate".into(),
            session: 0,
            frame: frame(),
            perception,
            provenance: Some(Provenance {
                received: MonoTime::from_nanos(1_370_100_000),
                emitted: MonoTime::from_nanos(1_391_400_000),
                queue: Duration::from_micros(400),
                steps: vec![
                    StepTrace {
                        step: "detector".into(),
                        duration: Duration::from_micros(18_200),
                        batch: Some(BatchTrace { batch: 812, slot: 2, size: 5, wait: Duration::from_micros(1100) }),
                    },
                    StepTrace { step: "track".into(), duration: Duration::from_nanos(100_400), batch: None },
                ],
            }),
        };
        expect![[r#"{"schema":"nv.output/1","feed":"gate","session":0,"seq":41,"pts_ms":1366.667,"captured":"2026-11-22T07:15:03.120Z","captured_by":"sender_report","width":768,"height":576,"suspect":false,"objects":[{"id":0,"parent":null,"source":"detector","class_id":0,"class":"person","score":0.91,"bbox":[101.2,88.0,140.7,201.5],"attributes":{"colour":"red"},"keypoints":[{"x":1.0,"y":2.0,"score":0.5}]}],"tracks":[{"id":7,"state":"confirmed","object":0,"class_id":0,"class":"person","score":0.91,"bbox":[101.2,88.0,140.7,201.5],"age_ms":2300.0}],"signals":[{"name":"count","value":1,"object":null,"track":null}],"scene":[],"artifacts":[{"schema":"acme.pose/2","encoding":"json","bytes":2}],"provenance":{"received_ms":1370.1,"emitted_ms":1391.4,"queue_ms":0.4,"steps":[{"step":"detector","ms":18.2,"batch":812,"slot":2,"size":5,"wait_ms":1.1},{"step":"track","ms":0.1}]}}"#]]
        .assert_eq(&serde_json::to_string(&output).unwrap());
    }

    #[test]
    fn nothing_ran() {
        let frame = FramePool::new(0).take(FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8)).unwrap().freeze();
        let output =
            Output { feed: "a".into(), session: 0, frame, perception: Perception::default(), provenance: None };
        expect![[r#"{"schema":"nv.output/1","feed":"a","session":0,"seq":0,"pts_ms":0.0,"captured":null,"captured_by":null,"width":2,"height":2,"suspect":false,"objects":null,"tracks":null,"signals":[],"scene":[],"artifacts":[],"provenance":null}"#]]
        .assert_eq(&serde_json::to_string(&output).unwrap());
    }
}
