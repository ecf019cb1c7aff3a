//! How well tracks that were written agree with ground truth.

use std::fs;
use std::path::Path;

use nv_core::BBox;
use nv_track::testing::mot::{self, MotRow, MotSummary};
use serde::Deserialize;

/// Whom the clip shows where.
pub(crate) struct Truth {
    rows: Vec<MotRow>,
}

/// Boxes agree from this IoU on.
const MIN_IOU: f32 = 0.5;

impl Truth {
    /// Reads MOTChallenge text, of `frames` frames if that is given.
    pub(crate) fn read(path: &Path, frames: Option<u32>) -> Result<Self, String> {
        let failed = |e: String| format!("cannot read {}: {e}", path.display());
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        let mut rows = mot::parse(&text).map_err(|e| failed(e.to_string()))?;
        rows.retain(|row| frames.is_none_or(|frames| row.frame <= frames));
        Ok(Self { rows })
    }

    pub(crate) fn compare(&self, written: &Written) -> MotSummary {
        MotSummary::new(&self.rows, &written.tracks, MIN_IOU)
    }
}

/// What a run wrote.
#[derive(Debug, PartialEq)]
pub(crate) struct Written {
    /// Lines, one for each frame.
    pub(crate) frames: usize,
    /// The confirmed tracks.
    pub(crate) tracks: Vec<MotRow>,
}

/// A line of `nv.output/1`, of which the Python loop writes a part.
#[derive(Deserialize)]
struct Line {
    /// Of the frame, from 0.
    seq: u32,
    #[serde(default)]
    tracks: Option<Vec<Track>>,
}

#[derive(Deserialize)]
struct Track {
    id: i64,
    state: String,
    score: f32,
    bbox: [f32; 4],
}

impl Written {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let failed = |e: String| format!("cannot read {}: {e}", path.display());
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut written = Self { frames: 0, tracks: Vec::new() };
        for line in text.lines() {
            let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
            written.frames += 1;
            let confirmed = line.tracks.into_iter().flatten().filter(|track| track.state == "confirmed");
            written.tracks.extend(confirmed.map(|Track { id, score, bbox: [x1, y1, x2, y2], .. }| MotRow {
                frame: line.seq + 1,
                id,
                bbox: BBox::new(x1, y1, x2, y2),
                confidence: score,
            }));
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"seq": 0, "objects": [], "tracks": [{"id": 7, "state": "confirmed", "score": 0.5, "bbox": [0, 0, 10, 20]},
         {"id": 8, "state": "tentative", "score": 0.5, "bbox": [50, 0, 60, 20]}]}"#;

    #[test]
    fn confirmed_tracks_are_rows_of_frames_from_1() {
        let text = LINES.replace('\n', "") + "\n{\"seq\": 1, \"tracks\": null}\n{\"seq\": 2}\n";
        let written = Written::parse(&text).expect("sound lines");
        let row = MotRow { frame: 1, id: 7, bbox: BBox::new(0.0, 0.0, 10.0, 20.0), confidence: 0.5 };
        assert_eq!(written, Written { frames: 3, tracks: vec![row] });
        assert!(Written::parse("{}").is_err());

        let truth = Truth { rows: vec![MotRow { id: 1, confidence: 1.0, ..row }, MotRow { frame: 2, id: 1, ..row }] };
        let summary = truth.compare(&written);
        assert_eq!((summary.objects, summary.misses, summary.false_positives), (2, 1, 0));
        assert_eq!(summary.mota(), 0.5);
    }
}
