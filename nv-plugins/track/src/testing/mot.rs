//! MOTChallenge text, and how well tracks agree with ground truth: CLEAR MOT and IDF1.
//!
//! A row of MOTChallenge text is `frame,id,left,top,width,height,confidence,…`: pixels, frames from 1. What follows the
//! confidence is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nv_plugin_sdk::{
    BBox, FrameHeader, FramePool, Object, ObjectId, Perception, PixelFormat, Pts, Size, Stage, StageError, StageInput,
    StageOutput, StreamContext, TrackState,
};
use thiserror::Error;

use crate::association::{Pair, assign};

/// One box in one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MotRow {
    /// The frame's number, from 1.
    pub frame: u32,
    /// Whose box it is; −1 in a list of detections.
    pub id: i64,
    /// The box.
    pub bbox: BBox,
    /// A detection's score; in ground truth 1, or 0 for a box that is not to be counted.
    pub confidence: f32,
}

/// A line that is no row of MOTChallenge text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {text:?} is no MOTChallenge row: it needs at least seven numbers, separated by commas")]
pub struct MotError {
    /// The line's number, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// Reads MOTChallenge text. Empty lines are skipped.
///
/// # Errors
/// The first line that is no row.
pub fn parse(text: &str) -> Result<Vec<MotRow>, MotError> {
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    lines.map(|(i, l)| parse_row(l).ok_or_else(|| MotError { line: i + 1, text: l.to_owned() })).collect()
}

fn parse_row(line: &str) -> Option<MotRow> {
    let mut fields = line.split(',').map(str::trim);
    let (frame, id) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let mut number = || fields.next()?.parse::<f32>().ok();
    let (x, y, width, height, confidence) = (number()?, number()?, number()?, number()?, number()?);
    Some(MotRow { frame, id, bbox: BBox::new(x, y, x + width, y + height), confidence })
}

/// Runs `tracker` over `detections` (all of one class) of a video of `frames` frames, `interval` apart, and returns what
/// the host writes as MOTChallenge text: the confirmed tracks of each frame.
///
/// # Errors
/// What the tracker reports.
pub fn track(
    tracker: &mut dyn Stage,
    detections: &[MotRow],
    frames: u32,
    interval: Duration,
) -> Result<Vec<MotRow>, StageError> {
    let stream = StreamContext::new("mot".into(), "track".into(), 0);
    let detector = "detector".into();
    let pool = FramePool::new(1);
    let mut by_frame: BTreeMap<u32, Vec<&MotRow>> = BTreeMap::new();
    for row in detections {
        by_frame.entry(row.frame).or_default().push(row);
    }
    let mut rows = Vec::new();
    tracker.start(&stream)?;
    for number in 1..=frames {
        let pts = (interval * (number - 1)).as_nanos();
        let header = FrameHeader {
            pts: Pts::from_nanos(i64::try_from(pts).unwrap_or(i64::MAX)),
            // Trackers look at boxes alone.
            ..FrameHeader::new(Size::new(1, 1), PixelFormat::Gray8)
        };
        let frame = pool.take(header).map_err(|e| StageError::fatal(e.to_string()))?.freeze();
        let objects = by_frame.get(&number).into_iter().flatten().zip(0..).map(|(row, id)| Object {
            id: ObjectId(id),
            parent: None,
            source: "".into(),
            class_id: 0,
            class: None,
            score: row.confidence,
            bbox: row.bbox,
        });
        let mut perception = Perception::default();
        let found = StageOutput { objects: Some(objects.collect()), ..StageOutput::default() };
        perception.merge(&detector, ObjectId(0), found);
        let tracks = tracker.process(&StageInput::new(&stream, &frame, &perception))?.tracks.unwrap_or_default();
        rows.extend(tracks.iter().filter(|t| t.state == TrackState::Confirmed).map(|t| MotRow {
            frame: number,
            id: i64::try_from(t.id.0).unwrap_or(i64::MAX),
            bbox: t.bbox,
            confidence: t.score,
        }));
    }
    tracker.stop();
    Ok(rows)
}

/// How well tracks agree with ground truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MotSummary {
    /// Boxes of the ground truth.
    pub objects: usize,
    /// Boxes of the tracks.
    pub hypotheses: usize,
    /// Boxes of the ground truth that no track covers.
    pub misses: usize,
    /// Boxes of tracks that cover nothing.
    pub false_positives: usize,
    /// How often an object's track became another.
    pub switches: usize,
    /// Boxes on which each object and the one track that it is best paired with agree, over the whole video.
    pub identity_true_positives: usize,
}

impl MotSummary {
    /// Compares `hypotheses` with those rows of `truth` whose confidence is not 0. Boxes agree from an IoU of `min_iou` on.
    ///
    /// Misses, false positives and switches: CLEAR MOT (Bernardin & Stiefelhagen 2008, "Evaluating Multiple Object Tracking
    /// Performance"), §2.1: a correspondence is kept as long as it holds; the rest is matched at the least distance.
    /// Identity: Ristani et al. 2016, "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", §3.
    /// The numbers are those of the Python package `motmetrics`.
    pub fn new(truth: &[MotRow], hypotheses: &[MotRow], min_iou: f32) -> Self {
        let mut frames: BTreeMap<u32, (Vec<&MotRow>, Vec<&MotRow>)> = BTreeMap::new();
        for row in truth.iter().filter(|r| r.confidence != 0.0) {
            frames.entry(row.frame).or_default().0.push(row);
        }
        for row in hypotheses {
            frames.entry(row.frame).or_default().1.push(row);
        }
        let mut summary = Self::default();
        let mut last_match: BTreeMap<i64, i64> = BTreeMap::new();
        let mut agreements: BTreeMap<(i64, i64), usize> = BTreeMap::new();
        for (objects, tracks) in frames.values() {
            let iou = |o: usize, t: usize| objects[o].bbox.iou(&tracks[t].bbox);
            let agree = |o: usize, t: usize| iou(o, t) >= min_iou;
            for (o, t) in product(objects.len(), tracks.len()).filter(|&(o, t)| agree(o, t)) {
                *agreements.entry((objects[o].id, tracks[t].id)).or_default() += 1;
            }

            let mut track_of = vec![None; objects.len()];
            let mut taken = vec![false; tracks.len()];
            for (o, object) in objects.iter().enumerate() {
                let Some(id) = last_match.get(&object.id) else { continue };
                let kept = (0..tracks.len()).find(|&t| !taken[t] && tracks[t].id == *id && agree(o, t));
                if let Some(t) = kept {
                    (track_of[o], taken[t]) = (Some(t), true);
                }
            }
            // As many pairs as possible, and among those the least distance.
            const ONE_MORE_PAIR: f64 = 1e4;
            let pairs: Vec<Pair> = product(objects.len(), tracks.len())
                .filter(|&(o, t)| track_of[o].is_none() && !taken[t] && agree(o, t))
                .map(|(o, t)| Pair { row: o, column: t, gain: ONE_MORE_PAIR + f64::from(iou(o, t)) })
                .collect();
            for (o, t) in assign(objects.len(), tracks.len(), &pairs).into_iter().enumerate() {
                let Some(t) = t else { continue };
                track_of[o] = Some(t);
                if last_match.insert(objects[o].id, tracks[t].id).is_some_and(|before| before != tracks[t].id) {
                    summary.switches += 1;
                }
            }
            let matched = track_of.iter().flatten().count();
            summary.objects += objects.len();
            summary.hypotheses += tracks.len();
            summary.misses += objects.len() - matched;
            summary.false_positives += tracks.len() - matched;
        }
        summary.identity_true_positives = best_identities(&agreements);
        summary
    }

    /// Multiple object tracking accuracy: 1 less the share of misses, false positives and switches; may be negative.
    pub fn mota(&self) -> f64 {
        1.0 - (self.misses + self.false_positives + self.switches) as f64 / self.objects as f64
    }

    /// The share of boxes whose identity is right: the F1 of identity precision and recall.
    pub fn idf1(&self) -> f64 {
        2.0 * self.identity_true_positives as f64 / (self.objects + self.hypotheses) as f64
    }
}

fn product(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |r| (0..columns).map(move |c| (r, c)))
}

/// The boxes on which objects and tracks agree, where each object is paired with one track at most so that it is the most.
fn best_identities(agreements: &BTreeMap<(i64, i64), usize>) -> usize {
    let index = |ids: BTreeSet<i64>| -> BTreeMap<i64, usize> { ids.into_iter().zip(0..).collect() };
    let objects = index(agreements.keys().map(|k| k.0).collect());
    let tracks = index(agreements.keys().map(|k| k.1).collect());
    let pairs: Vec<Pair> =
        agreements.iter().map(|(k, n)| Pair { row: objects[&k.0], column: tracks[&k.1], gain: *n as f64 }).collect();
    let paired = assign(objects.len(), tracks.len(), &pairs);
    agreements.iter().filter(|(k, _)| paired[objects[&k.0]] == Some(tracks[&k.1])).map(|(_, n)| n).sum()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::{ByteTrack, ByteTrackConfig};

    #[test]
    fn rows_and_what_is_none() {
        fn check(text: &str, expected: Result<usize, &str>) {
            assert_eq!(parse(text).map(|r| r.len()).map_err(|e| e.to_string()), expected.map_err(String::from));
        }
        check("", Ok(0));
        check("1,-1,643,239,41,83,0.849,-1,-1,-1\n\n2,3,1.5,2,3,4,1\n", Ok(2));
        check(
            "1,2,3,4,5,6,1\nx",
            Err("line 2: \"x\" is no MOTChallenge row: it needs at least seven numbers, separated by commas"),
        );
        let row = parse("12, 3, 10, 20, 5, 8, 0.5, -1, -1, -1").unwrap()[0];
        assert_eq!(row, MotRow { frame: 12, id: 3, bbox: BBox::new(10.0, 20.0, 15.0, 28.0), confidence: 0.5 });
    }

    #[test]
    fn small_cases_by_hand() {
        /// Rows are (frame, id, place); places don't overlap.
        fn check(truth: &[(u32, i64, u8)], tracks: &[(u32, i64, u8)], [m, fp, sw, idtp]: [usize; 4]) {
            let rows = |all: &[(u32, i64, u8)]| -> Vec<MotRow> {
                let bbox = |place: u8| BBox::new(f32::from(place) * 20.0, 0.0, f32::from(place) * 20.0 + 10.0, 10.0);
                all.iter().map(|&(frame, id, p)| MotRow { frame, id, bbox: bbox(p), confidence: 1.0 }).collect()
            };
            let s = MotSummary::new(&rows(truth), &rows(tracks), 0.5);
            let found = [s.misses, s.false_positives, s.switches, s.identity_true_positives];
            assert_eq!(found, [m, fp, sw, idtp], "{truth:?} {tracks:?}");
        }
        check(&[(1, 1, 0), (2, 1, 0)], &[(1, 7, 0), (2, 7, 0)], [0, 0, 0, 2]);
        check(&[(1, 1, 0), (2, 1, 0)], &[(2, 7, 0), (3, 7, 0)], [1, 1, 0, 1]);
        // Another track takes over, also after a gap.
        check(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)], &[(1, 7, 0), (2, 8, 0), (3, 8, 0)], [0, 0, 1, 2]);
        check(&[(1, 1, 0), (2, 1, 0), (3, 1, 0)], &[(1, 7, 0), (3, 8, 0)], [1, 0, 1, 1]);
        // The tracks of two objects change places.
        check(
            &[(1, 1, 0), (1, 2, 1), (2, 1, 0), (2, 2, 1)],
            &[(1, 7, 0), (1, 8, 1), (2, 7, 1), (2, 8, 0)],
            [0, 0, 2, 2],
        );
        // A correspondence that still holds is kept, whatever else is there.
        check(&[(1, 1, 0), (2, 1, 0)], &[(1, 7, 0), (2, 8, 0), (2, 7, 0)], [0, 1, 0, 2]);
    }

    #[test]
    fn rows_of_confidence_0_are_not_counted() {
        let row = MotRow { frame: 1, id: 1, bbox: BBox::new(0.0, 0.0, 9.0, 9.0), confidence: 0.0 };
        let summary = MotSummary::new(&[row, MotRow { id: 2, confidence: 1.0, ..row }], &[], 0.5);
        assert_eq!((summary.objects, summary.misses), (1, 1));
        assert_eq!((summary.mota(), summary.idf1()), (0.0, 0.0));
    }

    fn assets() -> PathBuf {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets");
        std::env::var_os("NV_ASSETS").map_or_else(default, PathBuf::from)
    }

    /// Real detections of real videos, each at its own frame rate, with one set of defaults. The floors are a little below
    /// what is reached, so that a change for the worse shows.
    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn real_sequences_are_tracked_as_well_as_ever() {
        let cases = [
            ("PETS09-S2L1", "det_yolox_nano.txt", 10.0, 0.715, 0.68),
            ("PETS09-S2L1", "det_yolox_nano.txt", 7.0, 0.70, 0.58),
            ("PETS09-S2L1", "det.txt", 10.0, 0.62, 0.43),
            ("ETH-Bahnhof", "det.txt", 14.0, 0.355, 0.54),
            ("ETH-Sunnyday", "det.txt", 14.0, 0.565, 0.75),
            ("KITTI-13", "det.txt", 10.0, 0.11, 0.48),
            ("Venice-2", "det.txt", 30.0, 0.155, 0.38),
            ("ADL-Rundle-6", "det.txt", 30.0, 0.36, 0.44),
        ];
        for (sequence, detections, fps, mota, idf1) in cases {
            let folder = assets().join("mot").join(sequence);
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
            let (Some(detections), Some(truth)) = (read(detections), read("gt.txt")) else {
                let path = folder.display();
                eprintln!("skipped: real_sequences_are_tracked_as_well_as_ever: no assets at {path}");
                continue;
            };
            let (detections, truth) = (parse(&detections).unwrap(), parse(&truth).unwrap());
            let frames = detections.iter().chain(&truth).map(|r| r.frame).max().unwrap();
            let mut tracker = ByteTrack::new(ByteTrackConfig::default()).unwrap();
            let rows = track(&mut tracker, &detections, frames, Duration::from_secs_f64(1.0 / fps)).unwrap();
            let summary = MotSummary::new(&truth, &rows, 0.5);
            assert!(
                summary.mota() >= mota && summary.idf1() >= idf1,
                "{sequence} at {fps} fps: MOTA {:.3} of {mota}, IDF1 {:.3} of {idf1}: {summary:?}",
                summary.mota(),
                summary.idf1()
            );
        }
    }
}
