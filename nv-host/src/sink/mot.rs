use std::fmt::Write as _;
use std::sync::Arc;

use nv_perception::{Output, OutputSink, SinkError, TrackState};

use super::lines::LineWriter;

/// Writes the confirmed tracks of each frame as MOT text (MOTChallenge): `frame,id,x,y,w,h,score,-1,-1,-1`, frames counted
/// from 1.
pub(super) struct MotSink {
    lines: Arc<LineWriter>,
    text: String,
}

impl MotSink {
    pub(super) fn new(lines: Arc<LineWriter>) -> Self {
        Self { lines, text: String::new() }
    }
}

impl OutputSink for MotSink {
    fn emit(&mut self, output: &Output) -> Result<(), SinkError> {
        self.text.clear();
        mot_lines(output, &mut self.text);
        if self.text.is_empty() { Ok(()) } else { self.lines.write(self.text.as_bytes()) }
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.lines.flush()
    }
}

fn mot_lines(output: &Output, text: &mut String) {
    let frame = output.frame.seq() + 1;
    // A coasted track was not seen in this frame, a tentative one is not sure: neither is a result.
    for track in output.perception.tracks().iter().filter(|track| track.state == TrackState::Confirmed) {
        let b = &track.bbox;
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{frame},{},{:.2},{:.2},{:.2},{:.2},{:.4},-1,-1,-1",
            track.id.0,
            b.x1,
            b.y1,
            b.width(),
            b.height(),
            track.score
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nv_core::{BBox, FrameHeader, FramePool, MonoTime, PixelFormat, Size};
    use nv_perception::{Perception, StageOutput, Track, TrackId};

    use super::*;

    #[test]
    fn confirmed_tracks_only_frames_from_one() {
        let track = |id, state| Track {
            id: TrackId(id),
            state,
            object: None,
            class_id: 0,
            class: None,
            score: 0.876_54,
            bbox: BBox::new(-3.0, 10.125, 47.5, 110.0),
            age: Duration::ZERO,
        };
        let tracks = vec![
            track(7, TrackState::Confirmed),
            track(8, TrackState::Tentative),
            track(9, TrackState::Coasted),
            track(10, TrackState::Lost),
            track(11, TrackState::Confirmed),
        ];
        let header = FrameHeader::new(Size::new(8, 8), PixelFormat::Gray8);
        let frame = FramePool::new(0).take(header).unwrap().freeze().stamped(0, MonoTime::ZERO);
        let perception = Perception::from(StageOutput { tracks: Some(tracks), ..StageOutput::default() });
        let output = Output { feed: "a".into(), session: 0, frame, perception, provenance: None };
        let mut text = String::new();
        mot_lines(&output, &mut text);
        assert_eq!(text, "1,7,-3.00,10.12,50.50,99.88,0.8765,-1,-1,-1\n1,11,-3.00,10.12,50.50,99.88,0.8765,-1,-1,-1\n");
    }
}
