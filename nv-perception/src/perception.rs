use nv_core::Name;

use crate::{Artifact, Object, ObjectId, ObjectTables, SceneFeature, Signal, Track, Value};

/// A named property of one object, as a classifier finds it: `colour = "red"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The object.
    pub object: ObjectId,
    /// The property.
    pub name: Name,
    /// Its value.
    pub value: Value,
}

/// What one step found in one frame (or one region of it).
///
/// **Ids.** A step numbers its own objects from the `next_object_id` that its input names, upwards without a gap. Ids below
/// that are objects of earlier steps: parents, attributes, tables and tracks may refer to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageOutput {
    /// The objects it made. `None`: this step makes none, or did not look. `Some` of nothing: it looked and found nothing.
    pub objects: Option<Vec<Object>>,
    /// Keypoints, masks, embeddings … of its own objects or of earlier steps'.
    pub tables: ObjectTables,
    /// Attributes of its own objects or of earlier steps'.
    pub attributes: Vec<Attribute>,
    /// All tracks as of this frame. `None`: this step doesn't track.
    pub tracks: Option<Vec<Track>>,
    /// What it derived about this moment.
    pub signals: Vec<Signal>,
    /// Properties of the whole picture.
    pub scene: Vec<SceneFeature>,
    /// Data in formats of its own.
    pub artifacts: Vec<Artifact>,
}

/// What the steps of a pipeline have found in one frame so far.
///
/// Merge rules: objects, attributes, signals and scene features append; tracks replace; of artifacts the last of a schema
/// counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Perception {
    objects: Option<Vec<Object>>,
    tables: ObjectTables,
    attributes: Vec<Attribute>,
    tracks: Option<Vec<Track>>,
    signals: Vec<Signal>,
    scene: Vec<SceneFeature>,
    artifacts: Vec<Artifact>,
}

impl From<StageOutput> for Perception {
    /// Takes the findings as they are, ids and sources included: puts together again what was taken apart, as at the plugin
    /// boundary. What a step found is taken in with [`Perception::merge`].
    fn from(found: StageOutput) -> Self {
        let StageOutput { objects, tables, attributes, tracks, signals, scene, artifacts } = found;
        Self { objects, tables, attributes, tracks, signals, scene, artifacts }
    }
}

impl Perception {
    /// The objects of all steps, in the order of the steps; empty where none looked.
    pub fn objects(&self) -> &[Object] {
        self.objects.as_deref().unwrap_or(&[])
    }

    /// Whether a step that makes objects has run, whatever it found.
    pub fn has_objects(&self) -> bool {
        self.objects.is_some()
    }

    /// The object with this id.
    pub fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects().iter().find(|o| o.id == id)
    }

    /// What only some objects have.
    pub fn tables(&self) -> &ObjectTables {
        &self.tables
    }

    /// The attributes of all objects.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The tracks; empty where no tracker ran.
    pub fn tracks(&self) -> &[Track] {
        self.tracks.as_deref().unwrap_or(&[])
    }

    /// Whether a tracker has run, whatever it follows.
    pub fn has_tracks(&self) -> bool {
        self.tracks.is_some()
    }

    /// The signals of all steps.
    pub fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// The scene features of all steps.
    pub fn scene(&self) -> &[SceneFeature] {
        &self.scene
    }

    /// The artifacts, one of each schema.
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// The artifact of this schema.
    pub fn artifact(&self, schema: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|a| a.schema == *schema)
    }

    /// The id that the next step's first object gets.
    pub fn next_object_id(&self) -> ObjectId {
        // A step may have named any id; its mistake is not to be a panic here.
        ObjectId(self.objects().iter().map(|o| o.id.0.saturating_add(1)).max().unwrap_or(0))
    }

    /// Takes in what `step` found, having been given `first_id` as its `next_object_id`.
    ///
    /// Where that id has been taken since (another region of the same frame came first), the output's own objects are
    /// numbered anew and what refers to them follows.
    pub fn merge(&mut self, step: &Name, first_id: ObjectId, output: StageOutput) {
        let shift = self.next_object_id().0.saturating_sub(first_id.0);
        let map = move |id: ObjectId| if id >= first_id { ObjectId(id.0.saturating_add(shift)) } else { id };
        self.tables.append(&output.tables, map);
        self.attributes.extend(output.attributes.into_iter().map(|a| Attribute { object: map(a.object), ..a }));
        if let Some(objects) = output.objects {
            let objects = objects.into_iter().map(|o| Object {
                id: map(o.id),
                parent: o.parent.map(map),
                source: step.clone(),
                ..o
            });
            self.objects.get_or_insert_default().extend(objects);
        }
        if let Some(tracks) = output.tracks {
            self.tracks = Some(tracks.into_iter().map(|t| Track { object: t.object.map(map), ..t }).collect());
        }
        self.signals.extend(output.signals.into_iter().map(|s| Signal { object: s.object.map(map), ..s }));
        self.scene.extend(output.scene);
        for artifact in output.artifacts {
            self.artifacts.retain(|a| a.schema != artifact.schema);
            self.artifacts.push(artifact);
        }
    }

    /// Leaves out objects whose score is below `threshold`, and what is attached to them. What was matched with one, is about
    /// one or was found in one (a track, a signal, another object) stays, and names none.
    pub fn retain_reported(&mut self, threshold: f32) {
        self.retain_objects(|o| o.score >= threshold);
    }

    fn retain_objects(&mut self, keep: impl Fn(&Object) -> bool) {
        let Some(objects) = &mut self.objects else { return };
        let gone: Vec<ObjectId> = objects.iter().filter(|o| !keep(o)).map(|o| o.id).collect();
        if gone.is_empty() {
            return;
        }
        objects.retain(keep);
        let stays = |id: &ObjectId| !gone.contains(id);
        for object in objects {
            object.parent = object.parent.filter(stays);
        }
        self.tables.retain(|id| stays(&id));
        self.attributes.retain(|a| stays(&a.object));
        for track in self.tracks.iter_mut().flatten() {
            track.object = track.object.filter(stays);
        }
        for signal in &mut self.signals {
            signal.object = signal.object.filter(stays);
        }
    }
}

#[cfg(test)]
mod tests {
    use nv_core::BBox;
    use proptest::prelude::*;

    use super::*;
    use crate::TrackId;
    use crate::track::TrackState;

    fn object(id: u32, parent: Option<u32>) -> Object {
        Object {
            id: ObjectId(id),
            parent: parent.map(ObjectId),
            source: "?".into(),
            class_id: 0,
            class: None,
            score: 1.0,
            bbox: BBox::default(),
        }
    }

    fn objects(objects: impl IntoIterator<Item = Object>) -> StageOutput {
        StageOutput { objects: Some(objects.into_iter().collect()), ..StageOutput::default() }
    }

    #[test]
    fn did_not_run_is_not_found_nothing() {
        let mut p = Perception::default();
        p.merge(&"blur".into(), ObjectId(0), StageOutput::default());
        assert!(!p.has_objects() && !p.has_tracks());
        p.merge(&"detect".into(), ObjectId(0), objects([]));
        assert!(p.has_objects());
    }

    #[test]
    fn regions_of_one_frame_are_numbered_anew_and_references_follow() {
        let mut p = Perception::default();
        p.merge(&"person".into(), ObjectId(0), objects([object(0, None), object(1, None)]));
        // Both regions were told that their first object is 2.
        for region in [0, 1] {
            let mut output = objects([object(2, Some(region)), object(3, Some(2))]);
            output.tables.embeddings.push(ObjectId(2), &[region as f32]);
            output.attributes.push(Attribute {
                object: ObjectId(3),
                name: "n".into(),
                value: i64::from(region).into(),
            });
            p.merge(&"face".into(), ObjectId(2), output);
        }
        let ids: Vec<_> = p.objects().iter().map(|o| (o.id.0, o.parent.map(|p| p.0))).collect();
        assert_eq!(ids, [(0, None), (1, None), (2, Some(0)), (3, Some(2)), (4, Some(1)), (5, Some(4))]);
        assert_eq!(p.tables().embeddings.get(ObjectId(4)), Some(&[1.0][..]));
        assert_eq!(p.attributes()[1].object, ObjectId(5));
        assert!(p.objects()[2..].iter().all(|o| o.source == "face"));
    }

    #[test]
    fn tracks_replace_signals_append_last_artifact_counts() {
        let track = |id| Track {
            id: TrackId(id),
            state: TrackState::Confirmed,
            object: None,
            class_id: 0,
            class: None,
            score: 1.0,
            bbox: BBox::default(),
            age: std::time::Duration::ZERO,
        };
        let artifact = |bytes: &[u8]| Artifact { schema: "a/1".into(), encoding: "raw".into(), bytes: bytes.into() };
        let mut p = Perception::default();
        for (id, byte) in [(1, 7), (2, 8)] {
            let output = StageOutput {
                tracks: Some(vec![track(id)]),
                signals: vec![Signal::new("s", 1i64)],
                artifacts: vec![artifact(&[byte])],
                ..StageOutput::default()
            };
            p.merge(&"t".into(), ObjectId(0), output);
        }
        assert_eq!(p.tracks().iter().map(|t| t.id.0).collect::<Vec<_>>(), [2]);
        assert_eq!(p.signals().len(), 2);
        assert_eq!(p.artifact("a/1").map(|a| a.bytes.to_vec()), Some(vec![8]));
        assert_eq!(p.artifacts().len(), 1);
    }

    #[test]
    fn nothing_refers_to_an_object_that_is_left_out() {
        let mut p = Perception::default();
        let mut found = objects([object(0, None), object(1, Some(0))]);
        found.objects.as_mut().unwrap()[0].score = 0.2;
        for id in [ObjectId(0), ObjectId(1)] {
            found.tables.embeddings.push(id, &[1.0]);
            found.attributes.push(Attribute { object: id, name: "n".into(), value: 1i64.into() });
            found.signals.push(Signal { object: Some(id), ..Signal::new("s", true) });
        }
        p.merge(&"a".into(), ObjectId(0), found);
        p.retain_reported(0.5);
        assert_eq!(p.objects(), [Object { source: "a".into(), ..object(1, None) }]);
        assert_eq!(p.tables().embeddings.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1]);
        assert_eq!(p.attributes().iter().map(|a| a.object.0).collect::<Vec<_>>(), [1]);
        assert_eq!(p.signals().iter().map(|s| s.object).collect::<Vec<_>>(), [None, Some(ObjectId(1))]);
        // The number is free again: what comes next has nothing of what was there before.
        p.retain_reported(2.0);
        assert_eq!((p.next_object_id(), p.tables().is_empty()), (ObjectId(0), true));
    }

    #[test]
    fn an_id_out_of_all_bounds_is_no_panic() {
        let mut p = Perception::default();
        p.merge(&"wild".into(), ObjectId(0), objects([object(u32::MAX, None)]));
        assert_eq!(p.next_object_id(), ObjectId(u32::MAX));
        p.merge(&"wilder".into(), ObjectId(0), objects([object(u32::MAX, None)]));
        assert_eq!(p.objects().len(), 2);
    }

    proptest! {
        #[test]
        fn ids_stay_unique(regions in prop::collection::vec(0u32..6, 0..8)) {
            let mut p = Perception::default();
            p.merge(&"base".into(), ObjectId(0), objects([object(0, None)]));
            for count in regions {
                p.merge(&"crop".into(), ObjectId(1), objects((0..count).map(|i| object(1 + i, Some(0)))));
            }
            let mut ids: Vec<_> = p.objects().iter().map(|o| o.id).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), p.objects().len());
        }
    }
}
