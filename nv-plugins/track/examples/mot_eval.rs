//! Runs ByteTrack over a file of MOTChallenge detections and says how well it did.
//!
//! ```text
//! cargo run --release -p nv-track --features testing --example mot_eval -- DETECTIONS TRUTH FPS [CONFIG-JSON] [TRACKS-OUT]
//! ```
#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nv_plugin_sdk::serde_json;
use nv_track::testing::mot::{self, MotSummary};
use nv_track::{ByteTrack, ByteTrackConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [detections, truth, fps, more @ ..] = args.as_slice() else {
        return Err("usage: mot_eval DETECTIONS TRUTH FPS [CONFIG-JSON] [TRACKS-OUT]".into());
    };
    let detections = mot::parse(&std::fs::read_to_string(detections)?)?;
    let truth = mot::parse(&std::fs::read_to_string(truth)?)?;
    let interval = Duration::from_secs_f64(1.0 / fps.parse::<f64>()?);
    let config: ByteTrackConfig = serde_json::from_str(more.first().map_or("{}", String::as_str))?;

    let frames = detections.iter().chain(&truth).map(|r| r.frame).max().unwrap_or(0);
    let begun = Instant::now();
    let rows = mot::track(&mut ByteTrack::new(config)?, &detections, frames, interval)?;
    let per_frame = begun.elapsed() / frames.max(1);
    let s = MotSummary::new(&truth, &rows, 0.5);
    println!(
        "MOTA {:.4}  IDF1 {:.4}  misses {}  false positives {}  switches {}  of {} objects; {per_frame:?} per frame",
        s.mota(),
        s.idf1(),
        s.misses,
        s.false_positives,
        s.switches,
        s.objects
    );
    if let Some(path) = more.get(1) {
        let mut text = String::new();
        for r in rows {
            let b = r.bbox;
            let _ = writeln!(
                text,
                "{},{},{:.2},{:.2},{:.2},{:.2},{:.3},-1,-1,-1",
                r.frame,
                r.id,
                b.x1,
                b.y1,
                b.width(),
                b.height(),
                r.confidence
            );
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}
