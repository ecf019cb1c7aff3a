use std::time::Duration;

use nv_core::{BBox, Name};
use serde::Serialize;

use crate::ObjectId;

/// The number of a track: unique in its feed and never used again, over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TrackId(pub u64);

/// Where a track is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackState {
    /// Seen in this frame, too new to be sure of.
    Tentative,
    /// Seen in this frame and sure.
    Confirmed,
    /// Sure, but not seen in this frame: the box is where the tracker expects it.
    Coasted,
    /// Given up in this frame. It is named once, so that later stages can close what they keep of it.
    Lost,
}

/// An object followed through time, as of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Its number.
    pub id: TrackId,
    /// Where it is in its life.
    pub state: TrackState,
    /// The object of this frame that it was matched with.
    pub object: Option<ObjectId>,
    /// The class, as the detector numbers it.
    pub class_id: u32,
    /// The class's name, where the detector has names.
    pub class: Option<Name>,
    /// Score of the object it was last matched with, 0 to 1.
    pub score: f32,
    /// The box in source pixels; it may reach beyond the picture.
    pub bbox: BBox,
    /// Time from its first frame to this one.
    pub age: Duration,
}
