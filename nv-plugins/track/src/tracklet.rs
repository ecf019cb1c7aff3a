use std::time::Duration;

use nv_plugin_sdk::{BBox, Name, Object, ObjectId, Pts, Track, TrackId, TrackState};

use crate::kalman::BoxFilter;

/// What the tracker keeps of one object that it follows.
#[derive(Clone, Debug)]
pub(crate) struct Tracklet {
    id: TrackId,
    /// The step that makes its objects. Class numbers mean something only within one step.
    source: Name,
    class_id: u32,
    class: Option<Name>,
    score: f32,
    filter: BoxFilter,
    first: Pts,
    last_seen: Pts,
    /// When it was last matched with an object of high score.
    last_sure: Pts,
    confirmed: bool,
    /// The object of the frame in hand.
    object: Option<ObjectId>,
    /// Whether it was looked for and not found when objects were last looked for.
    missing: bool,
}

impl Tracklet {
    /// A track that begins with `object`, whose box the filter accepts.
    pub(crate) fn new(id: TrackId, object: &Object, now: Pts) -> Self {
        Self {
            id,
            source: object.source.clone(),
            class_id: object.class_id,
            class: object.class.clone(),
            score: object.score,
            filter: BoxFilter::new(&object.bbox),
            first: now,
            last_seen: now,
            last_sure: now,
            confirmed: false,
            object: Some(object.id),
            missing: false,
        }
    }

    /// Opens a new frame, `dt` after the last.
    pub(crate) fn predict(&mut self, dt: Duration) {
        self.object = None;
        if self.missing {
            self.filter.hold_height();
        }
        self.filter.predict(dt);
    }

    /// Takes in the object that it was matched with in this frame; `sure`: one of high score.
    pub(crate) fn see(&mut self, object: &Object, now: Pts, sure: bool) {
        self.filter.update(&object.bbox);
        self.object = Some(object.id);
        self.class.clone_from(&object.class);
        self.score = object.score;
        self.last_seen = now;
        if sure {
            self.last_sure = now;
        }
        self.confirmed = true;
        self.missing = false;
    }

    /// It was looked for in this frame and not found.
    pub(crate) fn miss(&mut self) {
        self.missing = true;
    }

    /// Whether `object` may be the one that it follows, wherever it is.
    pub(crate) fn may_be(&self, object: &Object) -> bool {
        self.class_id == object.class_id && self.source == object.source
    }

    /// Whether both follow objects of one class.
    pub(crate) fn is_of_class_of(&self, other: &Self) -> bool {
        self.class_id == other.class_id && self.source == other.source
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.missing
    }

    pub(crate) fn is_seen(&self) -> bool {
        self.object.is_some()
    }

    /// The box where it is believed to be.
    pub(crate) fn bbox(&self) -> BBox {
        self.filter.bbox()
    }

    /// How long it has not been seen.
    pub(crate) fn unseen_for(&self, now: Pts) -> Duration {
        now.since(self.last_seen)
    }

    /// How long it has not been matched with an object of high score.
    pub(crate) fn unsure_for(&self, now: Pts) -> Duration {
        now.since(self.last_sure)
    }

    /// From the first time it was seen to the last.
    pub(crate) fn seen_span(&self) -> Duration {
        self.last_seen.since(self.first)
    }

    /// It, as of the frame at `now`, as others are told of it.
    pub(crate) fn report(&self, state: TrackState, now: Pts) -> Track {
        Track {
            id: self.id,
            state,
            object: self.object.filter(|_| state != TrackState::Lost),
            class_id: self.class_id,
            class: self.class.clone(),
            score: self.score,
            bbox: self.bbox(),
            age: now.since(self.first),
        }
    }
}
