//! Cascades: a step that looks at what an earlier one found. Its options, and the pure state machine that picks the regions
//! of a frame and puts together what they gave.

mod selection;

use std::collections::HashMap;
use std::time::Duration;

use nv_core::{Name, Pts, Size};
use nv_perception::{Attribute, Object, ObjectId, Perception, Region, StageOutput, TrackId, TrackState, Value};

use self::selection::Candidate;
pub(crate) use self::selection::{Selection, SelectionConfig};
use super::StepOptionsError;
use super::gate::StreamPosition;
use crate::decisions::{DecisionLog, Recorded as _};

/// Which objects of a frame a batch point looks at, and how often.
///
/// What it finds in a region is attached to the region's object: attributes and tables by its id, new objects as its
/// children, and signals that name nothing are about it. What it says of other objects, tracks and the scene is left out: it
/// has not seen them. Of artifacts of one schema the last region's counts.
#[derive(Clone, Debug, PartialEq)]
pub struct RegionOptions {
    /// The step whose objects it looks at. Default: any earlier step.
    pub from: Option<Name>,
    /// Classes of objects. Default: all.
    pub classes: Vec<Name>,
    /// The least score. Default 0.
    pub min_score: f32,
    /// The least width, in pixels, of the part inside the frame. Default 0; what is narrower than a pixel is never looked at.
    pub min_width: f32,
    /// The least height, in pixels, of the part inside the frame. Default 0; as `min_width`.
    pub min_height: f32,
    /// The most regions of a frame; the batch point's own limit counts where it is lower. The largest are taken; with `refresh`
    /// first the tracks that have waited longest, then the objects that no track has. Default 64.
    pub max_regions: usize,
    /// Looks at the object of a track only so often, in stream time. In between, and while the step is skipped, the object
    /// keeps the attributes and the embedding that the last look gave it; child objects, whose places would be old, are not
    /// kept. Objects without a track are looked at each time. Default: every frame is looked at, and nothing is kept.
    pub refresh: Option<Duration>,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self {
            from: None,
            classes: Vec::new(),
            min_score: 0.0,
            min_width: 0.0,
            min_height: 0.0,
            max_regions: 64,
            refresh: None,
        }
    }
}

impl RegionOptions {
    pub(crate) fn validate(&self) -> Result<(), StepOptionsError> {
        let error = |field, value, reason| Err(StepOptionsError { field, value, reason });
        if !(0.0..=1.0).contains(&self.min_score) {
            return error("regions.min_score", self.min_score.to_string(), "scores are from 0 to 1");
        }
        for (field, value) in [("regions.min_width", self.min_width), ("regions.min_height", self.min_height)] {
            if !(value >= 0.0 && value.is_finite()) {
                return error(field, value.to_string(), "it must be a number of pixels, 0 or more");
            }
        }
        if self.max_regions == 0 {
            return error("regions.max_regions", "0".into(), "it must be at least 1");
        }
        if let Some(Duration::ZERO) = self.refresh {
            let reason = "it must be longer than nothing; without it each frame is looked at";
            return error("regions.refresh", "0ns".into(), reason);
        }
        Ok(())
    }

    /// The part of a frame that is to be looked at for this object, if it is one of those asked for.
    fn region_of(&self, object: &Object, frame: Size) -> Option<Region> {
        let wanted = self.from.as_ref().is_none_or(|step| object.source == *step)
            && (self.classes.is_empty() || object.class.as_ref().is_some_and(|c| self.classes.contains(c)))
            && object.score >= self.min_score;
        let bbox = object.bbox.clip(frame);
        // Written so that an edge that is not a number fails.
        let large = bbox.width() >= self.min_width.max(1.0) && bbox.height() >= self.min_height.max(1.0);
        (wanted && large).then_some(Region { object: object.id, bbox })
    }
}

/// A region and what its run gave; `None`: the run failed.
pub(crate) type RegionResult = (Region, Option<StageOutput>);

/// Picks the regions of each frame, and puts together what they gave when the frame passes the step.
///
/// Frames are selected in order and attached in order, but several may be selected before the first of them is attached: a
/// track counts as looked at from its selection on. A frame that was selected and never comes to be attached is
/// [`lost`](Self::lost).
#[derive(Debug)]
pub(crate) struct Cascade {
    step: Name,
    options: RegionOptions,
    selection: Selection,
    /// What the last run on the object of each track gave, as of the last frame attached.
    known: ByTrack<Knowledge>,
    /// Whether it was said already that the processor's numbers are wrong.
    warned: bool,
}

#[derive(Debug)]
struct Knowledge {
    attributes: Vec<(Name, Value)>,
    embedding: Option<Box<[f32]>>,
}

impl Cascade {
    /// The cascade of `step` of `feed`. Which regions it picks is noted in `decisions`.
    pub(crate) fn new(feed: &Name, step: Name, options: RegionOptions, decisions: Option<&DecisionLog>) -> Self {
        let selection = Selection::recorded(SelectionConfig::from(&options), decisions, &format!("{feed} {step}"));
        Self { step, options, selection, known: ByTrack::default(), warned: false }
    }

    /// The regions of a frame that are to be looked at, `limit` at most; `perception` is what earlier steps found in it.
    pub(crate) fn select(
        &mut self,
        at: StreamPosition,
        perception: &Perception,
        frame: Size,
        limit: usize,
    ) -> Vec<Region> {
        let tracks = self.options.refresh.map(|_| tracks_by_object(perception)).unwrap_or_default();
        let mut regions: Vec<Option<Region>> = Vec::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        for object in perception.objects() {
            let Some(region) = self.options.region_of(object, frame) else { continue };
            let track = tracks.get(&object.id).copied();
            let rank = (region.bbox.area(), object.score);
            candidates.push(Candidate::new(regions.len(), object.id, track, rank));
            regions.push(Some(region));
        }
        self.selection.select(at, tracks_of(perception), &mut candidates, limit);
        candidates.into_iter().filter_map(|c| regions[c.place].take()).collect()
    }

    /// Takes what the regions of a frame gave into `perception`, which is as it was when they were selected. A track whose
    /// run failed is looked at again in the next frame that is selected. For a frame on which the step did not run there are
    /// no results; its objects are given what is known of their tracks like all others.
    pub(crate) fn attach(&mut self, at: StreamPosition, perception: &mut Perception, results: Vec<RegionResult>) {
        let first_id = perception.next_object_id();
        let tracks = self.options.refresh.map(|_| tracks_by_object(perception)).unwrap_or_default();
        if self.options.refresh.is_some() {
            self.known.enter(at, tracks_of(perception));
        }
        let mut answered = Vec::with_capacity(results.len());
        for (Region { object, .. }, output) in results {
            let track = tracks.get(&object).copied();
            let Some(output) = output.filter(|o| self.is_numbered(o, first_id)) else {
                if let Some(track) = track {
                    self.selection.failed(at.seq, track);
                }
                continue;
            };
            let output = confined(output, object);
            if let Some(track) = track {
                self.known.insert(track, at.pts, Knowledge::of(object, &output));
                answered.push(object);
            }
            perception.merge(&self.step, first_id, output);
        }
        let mut recalled = StageOutput::default();
        for object in perception.objects().iter().map(|o| o.id).filter(|id| !answered.contains(id)) {
            if let Some(known) = tracks.get(&object).and_then(|track| self.known.get(*track)) {
                known.recall(object, &mut recalled);
            }
        }
        perception.merge(&self.step, first_id, recalled);
    }

    /// A frame that was selected has ended before it could be attached: what was looked at in it counts as not looked at.
    pub(crate) fn lost(&mut self, seq: u64) {
        self.selection.lost(seq);
    }

    /// Whether the objects of a region are numbered as they must be, so that they can be told from those of other regions.
    fn is_numbered(&mut self, output: &StageOutput, first_id: ObjectId) -> bool {
        let made = output.objects.iter().flatten();
        let numbered = (first_id.0..).zip(made).all(|(id, object)| object.id == ObjectId(id));
        if !numbered && !self.warned {
            self.warned = true;
            tracing::warn!(
                step = %self.step,
                first_id = first_id.0,
                "objects found in a region are not numbered upwards from the entry's next object id: such results are \
                 discarded"
            );
        }
        numbered
    }
}

impl Knowledge {
    /// What `output` says of `object` that is true for as long as the object is the same.
    fn of(object: ObjectId, output: &StageOutput) -> Self {
        let own = output.attributes.iter().filter(|a| a.object == object);
        Self {
            attributes: own.map(|a| (a.name.clone(), a.value.clone())).collect(),
            embedding: output.tables.embeddings.get(object).map(Box::from),
        }
    }

    fn recall(&self, object: ObjectId, output: &mut StageOutput) {
        let attributes = self.attributes.iter().cloned();
        output.attributes.extend(attributes.map(|(name, value)| Attribute { object, name, value }));
        if let Some(embedding) = &self.embedding {
            output.tables.embeddings.push(object, embedding);
        }
    }
}

/// What a run on the region of `object` gave, without what it can't know.
fn confined(output: StageOutput, object: ObjectId) -> StageOutput {
    let made: Vec<ObjectId> = output.objects.iter().flatten().map(|o| o.id).collect();
    // Ids of its own are in order, since they are numbered without a gap.
    let own = |id: ObjectId| id == object || made.binary_search(&id).is_ok();
    let StageOutput { objects, mut tables, mut attributes, tracks: _, mut signals, scene: _, artifacts } = output;
    let child = |o: Object| Object { parent: o.parent.filter(|p| own(*p)).or(Some(object)), ..o };
    tables.retain(own);
    attributes.retain(|a| own(a.object));
    signals.retain(|s| s.track.is_none() && s.object.is_none_or(own));
    for signal in &mut signals {
        signal.object = signal.object.or(Some(object));
    }
    let objects = objects.map(|objects| objects.into_iter().map(child).collect());
    StageOutput { objects, tables, attributes, tracks: None, signals, scene: Vec::new(), artifacts }
}

/// The tracks of a frame, and whether each is lost.
fn tracks_of(perception: &Perception) -> impl Iterator<Item = (TrackId, bool)> {
    perception.tracks().iter().map(|track| (track.id, track.state == TrackState::Lost))
}

/// The tracks that objects of this frame were matched with. Of several that name one object the first counts.
fn tracks_by_object(perception: &Perception) -> HashMap<ObjectId, TrackId> {
    let live = perception.tracks().iter().filter(|t| t.state != TrackState::Lost);
    live.rev().filter_map(|t| Some((t.object?, t.id))).collect()
}

/// Something that is kept for each track. Forgotten are tracks that their tracker has given up, tracks that were not seen for
/// [`FORGET_AFTER`], those seen longest ago where there are more than [`MAX_TRACKS`], and all where the stream was cut.
#[derive(Debug)]
struct ByTrack<T> {
    kept: HashMap<TrackId, Kept<T>>,
    stretch: Option<(u32, u32)>,
    swept: Pts,
}

#[derive(Debug)]
struct Kept<T> {
    seen: Pts,
    value: T,
}

/// In stream time.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// In stream time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const MAX_TRACKS: usize = 4096;

impl<T> Default for ByTrack<T> {
    fn default() -> Self {
        Self { kept: HashMap::new(), stretch: None, swept: Pts::default() }
    }
}

impl<T> ByTrack<T> {
    /// Notes which tracks the next frame has, and whether each is lost.
    fn enter(&mut self, at: StreamPosition, tracks: impl Iterator<Item = (TrackId, bool)>) {
        if self.stretch.replace(at.stretch()) != Some(at.stretch()) {
            self.kept.clear();
        }
        for (track, lost) in tracks {
            if lost {
                self.kept.remove(&track);
            } else if let Some(kept) = self.kept.get_mut(&track) {
                kept.seen = at.pts;
            }
        }
        if distance(at.pts, self.swept) >= SWEEP_EVERY {
            self.swept = at.pts;
            self.kept.retain(|_, kept| distance(at.pts, kept.seen) < FORGET_AFTER);
        }
    }

    fn len(&self) -> usize {
        self.kept.len()
    }

    fn get(&self, track: TrackId) -> Option<&T> {
        self.kept.get(&track).map(|kept| &kept.value)
    }

    fn insert(&mut self, track: TrackId, seen: Pts, value: T) {
        if self.kept.len() >= MAX_TRACKS && !self.kept.contains_key(&track) {
            let oldest = self.kept.iter().map(|(id, kept)| (kept.seen, *id)).min();
            oldest.map(|(_, id)| self.kept.remove(&id));
        }
        self.kept.insert(track, Kept { seen, value });
    }

    fn forget_if(&mut self, track: TrackId, forget: impl FnOnce(&T) -> bool) {
        if self.get(track).is_some_and(forget) {
            self.kept.remove(&track);
        }
    }

    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.kept.retain(|_, kept| keep(&kept.value));
    }
}

fn distance(a: Pts, b: Pts) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests;
