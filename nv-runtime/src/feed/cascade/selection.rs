//! Which of the regions of a frame are looked at: a pure state machine.

use std::time::Duration;

use nv_core::Pts;
use nv_perception::{ObjectId, TrackId};
use serde::{Deserialize, Serialize};

use super::super::gate::StreamPosition;
use super::{ByTrack, RegionOptions};
use crate::decisions::{CoreLog, Recorded, nanos, within};

/// Picks regions, by how long their tracks have waited and by how large they are. A track counts as looked at from then on,
/// unless the look [failed](Self::failed) or was [lost](Self::lost).
#[derive(Debug)]
pub(crate) struct Selection {
    config: SelectionConfig,
    /// When the object of each track was last selected.
    pub(super) looked: ByTrack<Look>,
    log: CoreLog,
}

/// What a [`Selection`] decides by.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct SelectionConfig {
    max_regions: usize,
    #[serde(with = "nanos")]
    refresh: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Look {
    /// The frame.
    seq: u64,
    pts: Pts,
}

/// A region that may be looked at.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Candidate {
    /// Its place among the regions of the frame.
    pub(super) place: usize,
    /// The number of its object.
    object: u32,
    /// The number of the track that the object belongs to, where that counts.
    track: Option<u64>,
    area: f32,
    score: f32,
}

/// A call of a [`Selection`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    Select {
        at: StreamPosition,
        /// The numbers of the frame's tracks, and whether each is lost.
        tracks: Vec<(u64, bool)>,
        candidates: Vec<Candidate>,
        limit: usize,
    },
    Failed {
        seq: u64,
        track: u64,
    },
    Lost {
        seq: u64,
    },
}

impl From<&RegionOptions> for SelectionConfig {
    fn from(options: &RegionOptions) -> Self {
        Self { max_regions: options.max_regions, refresh: options.refresh }
    }
}

impl Candidate {
    /// The region at `place`, of an object with this area and score.
    pub(super) fn new(place: usize, object: ObjectId, track: Option<TrackId>, (area, score): (f32, f32)) -> Self {
        // What is beyond all numbers is the largest one.
        Self { place, object: object.0, track: track.map(|t| t.0), area, score: score.min(f32::MAX) }
    }
}

impl Selection {
    /// Leaves those `candidates` that are to be looked at, `limit` at most, the most urgent first. `tracks`: those of the
    /// frame, and whether each is lost.
    pub(super) fn select(
        &mut self,
        at: StreamPosition,
        tracks: impl Iterator<Item = (TrackId, bool)>,
        candidates: &mut Vec<Candidate>,
        limit: usize,
    ) {
        let (mut all, mut noted) = (self.log.list(), self.log.list());
        candidates.iter().for_each(|c| all.push(|| *c));
        if self.config.refresh.is_some() {
            self.looked.enter(at, tracks.inspect(|(track, lost)| noted.push(|| (track.0, *lost))));
        }
        let last = |c: &Candidate| c.track.and_then(|t| self.looked.get(TrackId(t))).map(|look| look.pts);
        // Where time went back nobody knows how long ago that was.
        let is_fresh = |last: Pts, refresh| at.pts >= last && at.pts.since(last) < refresh;
        candidates.retain(|c| !last(c).zip(self.config.refresh).is_some_and(|(last, refresh)| is_fresh(last, refresh)));
        // Tracks before objects without one, those first that have waited longest (`None`: never looked at); then by size. No
        // candidate has a track where nothing is refreshed.
        candidates.sort_by(|a, b| {
            (a.track.is_none(), last(a))
                .cmp(&(b.track.is_none(), last(b)))
                .then_with(|| b.area.total_cmp(&a.area))
                .then_with(|| b.score.total_cmp(&a.score))
                .then_with(|| a.object.cmp(&b.object))
        });
        candidates.truncate(self.config.max_regions.min(limit));
        for track in candidates.iter().filter_map(|c| c.track) {
            self.looked.insert(TrackId(track), at.pts, Look { seq: at.seq, pts: at.pts });
        }
        self.log.note(|| {
            let places: Vec<usize> = candidates.iter().map(|c| c.place).collect();
            (Input::Select { at, tracks: noted.take(), candidates: all.take(), limit }, places)
        });
    }

    /// The look at a track in frame `seq` has failed: it counts as not looked at.
    pub(super) fn failed(&mut self, seq: u64, track: TrackId) {
        self.looked.forget_if(track, |look| look.seq == seq);
        self.log.note(|| (Input::Failed { seq, track: track.0 }, self.looked.len()));
    }

    /// Frame `seq` has ended before it was looked at.
    pub(super) fn lost(&mut self, seq: u64) {
        self.looked.retain(|look| look.seq != seq);
        self.log.note(|| (Input::Lost { seq }, self.looked.len()));
    }
}

impl Recorded for Selection {
    const KIND: &'static str = "cascade";
    type Config = SelectionConfig;
    type Input = Input;

    fn with_log(config: SelectionConfig, log: CoreLog) -> Self {
        Self { config, looked: ByTrack::default(), log }
    }

    fn fits(&self, input: &Input) -> Result<(), String> {
        match input {
            Input::Select { limit, .. } => within("limit", *limit),
            _ => Ok(()),
        }
    }

    fn call(&mut self, input: Input) {
        match input {
            Input::Select { at, tracks, mut candidates, limit } => {
                self.select(at, tracks.into_iter().map(|(t, lost)| (TrackId(t), lost)), &mut candidates, limit);
            }
            Input::Failed { seq, track } => self.failed(seq, TrackId(track)),
            Input::Lost { seq } => self.lost(seq),
        }
    }
}
