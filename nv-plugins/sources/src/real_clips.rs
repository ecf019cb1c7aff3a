//! Real files, against what other software makes of them. Skipped where the folder of assets is absent.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use nv_core::{CancelToken, Frame, PixelFormat, Size};
use nv_perception::{FrameSource, SourceFactory, SourceItem, SourceSpec};

use crate::EmbeddedSources;
use crate::mp4::Mp4File;

/// The folder of test assets, or `None` after saying that `test` is skipped.
fn assets(test: &str) -> Option<PathBuf> {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let assets =
        std::env::var_os("NV_ASSETS").map_or_else(|| PathBuf::from(workspace).join("../shared/assets"), PathBuf::from);
    if !assets.is_dir() {
        announce(&format!("skipped: {test}: no assets at {}", assets.display()));
        return None;
    }
    Some(assets)
}

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn announce(text: &str) {
    println!("{text}");
}

fn open(path: PathBuf) -> Box<dyn FrameSource> {
    let spec = SourceSpec::new(path.to_str().expect("a path of this repository is text"));
    EmbeddedSources::default().open(&spec, &CancelToken::new()).unwrap()
}

fn next_frame(source: &mut dyn FrameSource) -> Option<Frame> {
    match source.next(Duration::ZERO).unwrap() {
        SourceItem::Frame(frame) => Some(frame),
        SourceItem::End => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn video_is_decoded_bit_for_bit_as_ffmpeg_does() {
    /// `hash` is FNV-1a over the samples of the first 100 frames, Y then U then V, from libavcodec.
    fn check(file: &str, codec: &str, interval_ms: u64, hash: u64) {
        let Some(assets) = assets("video_is_decoded_bit_for_bit_as_ffmpeg_does") else { return };
        let mut source = open(assets.join("video").join(file));
        assert_eq!(source.info().codec, codec);
        assert_eq!(source.info().frame_interval, Some(Duration::from_millis(interval_ms)));
        let mut found = 0xcbf2_9ce4_8422_2325u64;
        for n in 0..100 {
            let frame = next_frame(&mut *source).unwrap();
            assert_eq!(frame.pts().as_nanos(), n * (interval_ms * 1_000_000).cast_signed(), "{file} frame {n}");
            assert!(!frame.is_suspect());
            for plane in frame.host().unwrap().planes() {
                found = plane.data.iter().fold(found, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            }
        }
        assert_eq!(format!("{found:016x}"), format!("{hash:016x}"), "{file}");
    }
    check("vtest_h264_high.mp4", "H.264 High", 100, 0x176b_c2eb_35a4_25fa);
    check("one-by-one-person-detection.mp4", "H.264 Main", 100, 0x5232_0a0b_3b76_6f69);
    check("car-detection.mp4", "H.264 Baseline", 80, 0xec07_a6ce_a3b8_8f0c);
}

#[test]
fn a_clip_with_b_frames_gives_every_frame_in_order() {
    let Some(assets) = assets("a_clip_with_b_frames_gives_every_frame_in_order") else { return };
    let mut source = open(assets.join("video/vtest_h264_high.mp4"));
    let times: Vec<i64> = std::iter::from_fn(|| next_frame(&mut *source)).map(|f| f.pts().as_nanos()).collect();
    assert_eq!((times.len(), source.info().frame_count), (795, Some(795)));
    assert!(times.is_sorted_by(|a, b| a < b));
}

#[test]
fn sample_tables_agree_with_another_parser() {
    let Some(assets) = assets("sample_tables_agree_with_another_parser") else { return };
    for file in ["vtest_h264_high.mp4", "one-by-one-person-detection.mp4", "car-detection.mp4"] {
        let path = assets.join("video").join(file);
        let ours = Mp4File::open(File::open(&path).unwrap()).unwrap();
        let (theirs, _) = re_mp4::Mp4::read_file(&path).unwrap();
        let track = theirs.tracks().values().find(|t| t.kind == Some(re_mp4::TrackKind::Video)).unwrap();
        assert_eq!(ours.samples.len(), track.samples.len(), "{file}");
        for (a, b) in ours.samples.iter().zip(&track.samples) {
            let pts_ns = b.composition_timestamp as i128 * 1_000_000_000 / i128::from(b.timescale);
            assert_eq!((a.offset, u64::from(a.size), a.key), (b.offset, b.size, b.is_sync), "{file} {}", b.id);
            assert!((i128::from(a.pts_ns) - pts_ns).abs() <= 1, "{file} {}: {} {pts_ns}", b.id, a.pts_ns);
        }
    }
}

#[test]
fn pictures_are_decoded() {
    let Some(assets) = assets("pictures_are_decoded") else { return };
    let mut source = open(assets.join("images"));
    let sizes: Vec<_> = std::iter::from_fn(|| {
        loop {
            match source.next(Duration::ZERO).unwrap() {
                SourceItem::Frame(frame) => break Some((frame.format(), frame.size())),
                SourceItem::End => break None,
                _ => {}
            }
        }
    })
    .collect();
    let expected = [(512, 512), (451, 300), (600, 400), (768, 576), (768, 432), (768, 576)];
    assert_eq!(sizes, expected.map(|(w, h)| (PixelFormat::Rgb8, Size::new(w, h))));
}
