//! Opens a source and says what it gives: `cargo run --release -p nv-sources --example play -- yard.mp4 [--frames]`.

#![expect(clippy::print_stdout, reason = "a command prints")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use nv_core::{CancelToken, Frame};
use nv_perception::{SourceError, SourceFactory, SourceItem, SourceSpec};
use nv_sources::EmbeddedSources;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(url) = arguments.next() else {
        println!("usage: play URL [--frames]");
        return ExitCode::from(2);
    };
    match play(&url, arguments.next().as_deref() == Some("--frames")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::from(5)
        }
    }
}

fn play(url: &str, list_frames: bool) -> Result<(), SourceError> {
    let start = Instant::now();
    let mut source = EmbeddedSources::default().open(&SourceSpec::new(url), &CancelToken::new())?;
    println!("{:?}", source.info());
    let mut frames = 0;
    loop {
        match source.next(Duration::from_secs(1))? {
            SourceItem::Frame(frame) => {
                frames += 1;
                if list_frames {
                    let suspect = if frame.is_suspect() { " suspect" } else { "" };
                    println!("{:.3} ms {:016x}{suspect}", frame.pts().as_millis_f64(), hash(&frame));
                }
            }
            SourceItem::Event(event) => println!("{event:?}"),
            SourceItem::TimedOut => {}
            _ => break,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{frames} frames in {seconds:.3} s: {:.1} a second", f64::from(frames) / seconds);
    Ok(())
}

/// FNV-1a of the samples, plane after plane, without padding.
fn hash(frame: &Frame) -> u64 {
    let Ok(view) = frame.host() else { return 0 };
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (i, plane) in view.planes().iter().enumerate() {
        let shape = frame.format().plane_shape(i, frame.size());
        for &sample in (0..shape.rows).flat_map(|y| plane.row(y, shape.row_bytes)) {
            hash = (hash ^ u64::from(sample)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
