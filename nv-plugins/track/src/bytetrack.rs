use std::cmp::Ordering;
use std::time::Duration;

use nv_plugin_sdk::{
    BBox, BuildContext, Capabilities, DataKind, FromConfig, Object, Pts, Stage, StageError, StageInput, StageOutput,
    StreamContext, Track, TrackId, TrackState,
};

use crate::ByteTrackConfig;
use crate::association::{Pair, assign};
use crate::kalman::BoxFilter;
use crate::tracklet::Tracklet;

/// Follows objects from frame to frame by where they are: ByteTrack (Zhang et al. 2022, "ByteTrack: Multi-Object Tracking by
/// Associating Every Detection Box", algorithm 1), in time instead of frame counts.
///
/// In each frame every track's box is predicted by a constant-velocity Kalman filter. Objects of high score are matched with
/// the predicted boxes by IoU; then objects of low score with the tracks that were seen the last time and are still without
/// a match: an object that is half hidden keeps its track, and clutter of low score starts none. What is left of high score
/// starts new tracks. Tracks only match objects of their own class from the same step.
///
/// **Output.** `tracks` is always there, sorted by id. In its first frame a track is `Tentative`; unseen in the second, it is
/// given up. From the second on it is `Confirmed` where it was matched in that frame and `Coasted` where it was not. A track
/// that is given up is `Lost`, once. Boxes are the filter's: of a seen track the object's box smoothed (which agrees better
/// with ground truth for most detectors; the object itself is named), of a coasted one where it is expected.
///
/// **Time** is the frames' `pts`, at any intervals. A `pts` that runs backwards, and a discontinuity, end all tracks; they
/// are named `Lost` in the next frame. Ids start at 1 and go on over sessions. A frame in which no detector ran (`objects`
/// is `None`) moves tracks on and counts as neither seen nor missed: confirmed tracks coast, tentative ones are left out.
///
/// **Deterministic**: the same frames give the same tracks, in whatever order a frame's objects are listed. Objects whose
/// box or score is not a number, or whose box is empty, are ignored.
///
/// **Differs from the reference implementation** in that a match needs an IoU, not an IoU weighed with the score (the weight
/// then only ranks matches), and that low scores alone keep a track no longer than
/// [`low_limit`](ByteTrackConfig::low_limit): a post that once looked like a person is not one for ever.
#[derive(Debug)]
pub struct ByteTrack {
    config: ByteTrackConfig,
    /// Sorted by id.
    tracklets: Vec<Tracklet>,
    next_id: u64,
    now: Option<Pts>,
    cadence: Cadence,
    /// Cut off by a discontinuity and not yet named.
    cut: Vec<Track>,
}

impl ByteTrack {
    /// A tracker for one feed.
    ///
    /// # Errors
    /// As [`ByteTrackConfig::validate`].
    pub fn new(config: ByteTrackConfig) -> Result<Self, StageError> {
        config.validate()?;
        Ok(Self { config, tracklets: Vec::new(), next_id: 1, now: None, cadence: Cadence::default(), cut: Vec::new() })
    }

    /// Moves on to the frame at `now` with these objects (`None`: nobody looked) and tells of all tracks.
    fn update(&mut self, now: Pts, objects: Option<&[Object]>) -> Vec<Track> {
        if self.now.is_some_and(|last| now < last) {
            self.cut_all();
        }
        let mut told = std::mem::take(&mut self.cut);
        let dt = self.now.map_or(Duration::ZERO, |last| now.since(last));
        self.now = Some(now);

        let buffer = self.patience(self.config.buffer);
        self.give_up(now, &mut told, |t| t.unseen_for(now) > buffer);
        for tracklet in &mut self.tracklets {
            tracklet.predict(dt);
        }
        if let Some(objects) = objects {
            self.associate(now, objects, &mut told);
        }
        self.cadence.note(dt);

        for tracklet in &self.tracklets {
            let state = match (tracklet.is_confirmed(), tracklet.is_seen()) {
                (true, true) => TrackState::Confirmed,
                (true, false) => TrackState::Coasted,
                (false, true) => TrackState::Tentative,
                (false, false) => continue,
            };
            told.push(tracklet.report(state, now));
        }
        told.sort_by_key(|t| t.id);
        told
    }

    /// Algorithm 1 of the paper, with the reference implementation's handling of new tracks and duplicates.
    fn associate(&mut self, now: Pts, objects: &[Object], told: &mut Vec<Track>) {
        let ByteTrackConfig { match_iou, low_match_iou, tentative_match_iou, fuse_score, .. } = self.config;
        let low_limit = self.patience(self.config.low_limit);
        let (high, low) = self.candidates(objects);

        let pass = Pass { min_iou: match_iou, fuse_score, sure: true };
        let high = self.match_with(now, high, pass, |t| t.is_confirmed());
        let pass = Pass { min_iou: low_match_iou, fuse_score: false, sure: false };
        self.match_with(now, low, pass, |t| {
            t.is_confirmed() && !t.is_seen() && !t.is_missing() && t.unsure_for(now) <= low_limit
        });
        let pass = Pass { min_iou: tentative_match_iou, fuse_score, sure: true };
        let high = self.match_with(now, high, pass, |t| !t.is_confirmed());

        self.give_up(now, told, |t| !t.is_confirmed() && !t.is_seen());
        for tracklet in self.tracklets.iter_mut().filter(|t| !t.is_seen()) {
            tracklet.miss();
        }
        self.drop_duplicates(now, told);
        for object in high.into_iter().filter(|o| o.score >= self.config.new_track) {
            self.tracklets.push(Tracklet::new(TrackId(self.next_id), object, now));
            self.next_id += 1;
        }
    }

    /// `configured`, but at least one frame interval, with some room for jitter.
    fn patience(&self, configured: Duration) -> Duration {
        configured.max(self.cadence.usual().mul_f64(1.5))
    }

    /// The objects that can be followed, of high and of low score, each in an order that depends on nothing but themselves.
    fn candidates<'a>(&self, objects: &'a [Object]) -> (Vec<&'a Object>, Vec<&'a Object>) {
        let config = &self.config;
        let mut candidates: Vec<&Object> = objects
            .iter()
            // False for a score that is not a number.
            .filter(|o| o.score >= config.low && BoxFilter::accepts(&o.bbox))
            .filter(|o| config.sources.is_empty() || config.sources.contains(&o.source))
            .collect();
        let edges = |o: &Object| <[f32; 4]>::from(o.bbox);
        candidates.sort_by(|a, b| {
            let by_edges = edges(a).iter().zip(edges(b)).map(|(a, b)| a.total_cmp(&b)).find(|o| o.is_ne());
            (b.score.total_cmp(&a.score))
                .then(by_edges.unwrap_or(Ordering::Equal))
                .then_with(|| (&a.source, a.class_id, a.id).cmp(&(&b.source, b.class_id, b.id)))
        });
        candidates.into_iter().partition(|o| o.score >= config.high)
    }

    /// Matches `objects` with the tracks that `eligible` lets through; returns the objects that are left.
    fn match_with<'a>(
        &mut self,
        now: Pts,
        objects: Vec<&'a Object>,
        pass: Pass,
        eligible: impl Fn(&Tracklet) -> bool,
    ) -> Vec<&'a Object> {
        let rows: Vec<&mut Tracklet> = self.tracklets.iter_mut().filter(|t| eligible(t)).collect();
        let mut pairs = Vec::new();
        for (row, tracklet) in rows.iter().enumerate() {
            let predicted = tracklet.bbox();
            for (column, object) in objects.iter().enumerate().filter(|(_, o)| tracklet.may_be(o)) {
                let iou = predicted.iou(&object.bbox);
                if iou > 0.0 && iou >= pass.min_iou {
                    let weight = if pass.fuse_score { object.score } else { 1.0 };
                    pairs.push(Pair { row, column, gain: f64::from(iou * weight) });
                }
            }
        }
        let mut left: Vec<Option<&Object>> = objects.iter().copied().map(Some).collect();
        let assigned = assign(rows.len(), objects.len(), &pairs);
        for (tracklet, column) in rows.into_iter().zip(assigned) {
            if let Some(object) = column.and_then(|c| left[c].take()) {
                tracklet.see(object, now, pass.sure);
            }
        }
        left.into_iter().flatten().collect()
    }

    /// Where a seen and an unseen track lie on each other, they follow one object: the younger goes.
    fn drop_duplicates(&mut self, now: Pts, told: &mut Vec<Track>) {
        let boxes: Vec<BBox> = self.tracklets.iter().map(Tracklet::bbox).collect();
        let mut doubled = vec![false; boxes.len()];
        for (i, seen) in self.tracklets.iter().enumerate().filter(|(_, t)| t.is_seen()) {
            for (j, unseen) in self.tracklets.iter().enumerate().filter(|(_, t)| !t.is_seen()) {
                if seen.is_of_class_of(unseen) && boxes[i].iou(&boxes[j]) > self.config.duplicate_iou {
                    let younger = if seen.seen_span() > unseen.seen_span() { j } else { i };
                    doubled[younger] = true;
                }
            }
        }
        let mut doubled = doubled.into_iter();
        self.give_up(now, told, |_| doubled.next().unwrap_or(false));
    }

    /// Drops the tracks that `is_over` picks, asked once for each in order, and tells of each that it is lost.
    fn give_up(&mut self, now: Pts, told: &mut Vec<Track>, mut is_over: impl FnMut(&Tracklet) -> bool) {
        self.tracklets.retain(|tracklet| {
            let over = is_over(tracklet);
            if over {
                told.push(tracklet.report(TrackState::Lost, now));
            }
            !over
        });
    }

    /// Ends everything: what follows does not continue what came before.
    fn cut_all(&mut self) {
        if let Some(last) = self.now.take() {
            self.cut.extend(self.tracklets.drain(..).map(|t| t.report(TrackState::Lost, last)));
        }
        self.cadence = Cadence::default();
    }
}

/// One round of association.
#[derive(Clone, Copy, Debug)]
struct Pass {
    /// The least IoU of a match.
    min_iou: f32,
    /// Whether, among matches, those of higher score count for more.
    fuse_score: bool,
    /// Whether the objects are of high score.
    sure: bool,
}

impl FromConfig for ByteTrack {
    type Config = ByteTrackConfig;
    const KIND: &'static str = "bytetrack";
    const SUMMARY: &'static str = "follows objects from frame to frame by where they are (ByteTrack)";
    const CONFIG_SCHEMA: &'static str = include_str!("bytetrack.schema.json");

    fn from_config(config: ByteTrackConfig, _: &BuildContext) -> Result<Self, StageError> {
        Self::new(config)
    }
}

impl Stage for ByteTrack {
    fn capabilities(&self) -> Capabilities {
        Capabilities { consumes: vec![DataKind::Objects], produces: vec![DataKind::Tracks], host_pixels: false }
    }

    fn process(&mut self, input: &StageInput<'_>) -> Result<StageOutput, StageError> {
        let perception = input.perception();
        let objects = perception.has_objects().then_some(perception.objects());
        let tracks = self.update(input.frame().pts(), objects);
        Ok(StageOutput { tracks: Some(tracks), ..StageOutput::default() })
    }

    fn discontinuity(&mut self, _: &StreamContext) {
        self.cut_all();
    }
}

/// How far apart frames usually come: the median of the last few intervals, which one gap does not move.
#[derive(Debug, Default)]
struct Cadence {
    last: [Duration; 5],
    known: usize,
}

impl Cadence {
    fn note(&mut self, interval: Duration) {
        if interval > Duration::ZERO {
            self.last.rotate_right(1);
            self.last[0] = interval;
            self.known = (self.known + 1).min(self.last.len());
        }
    }

    /// Zero while none is known.
    fn usual(&self) -> Duration {
        let mut known = self.last;
        let known = &mut known[..self.known];
        known.sort_unstable();
        known.get(known.len() / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
