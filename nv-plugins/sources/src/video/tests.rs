use std::io::Write;
use std::sync::{LazyLock, Mutex};

use nv_core::{ColorMatrix, ColorRange};
use nv_perception::testing::{SceneConfig, read_frame_number};
use nv_perception::{SourceFactory, SourceSpec};
use proptest::prelude::*;

use super::*;
use crate::EmbeddedSources;
use crate::testing::{AccessUnit, Clip, ClipConfig, Layout, Mp4Writer, other_codec_mp4};

/// 24 frames in two groups of 12, with B-frames.
static B_FRAMES: LazyLock<Clip> = LazyLock::new(|| Clip::encode(&ClipConfig { b_frames: 2, ..ClipConfig::default() }));
/// The same without.
static PLAIN: LazyLock<Clip> = LazyLock::new(|| Clip::encode(&ClipConfig::default()));

/// All that a file gives: frames, events, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Played {
    /// Coded number, `pts` in ms, suspect.
    frames: Vec<(Option<u16>, i64, bool)>,
    events: Vec<SourceEvent>,
    /// `None`: a regular end.
    error: Option<(SourceErrorKind, String)>,
}

impl Played {
    fn numbers(&self) -> Vec<u16> {
        self.frames.iter().filter_map(|frame| frame.0).collect()
    }
}

/// Plays a file made of `bytes`; its name in errors is `clip.mp4`.
fn play(bytes: &[u8]) -> Played {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("clip.mp4"), bytes).unwrap();
    let spec = SourceSpec { base_dir: folder.path().into(), ..SourceSpec::new("clip.mp4") };
    let mut played = Played::default();
    let mut source = match EmbeddedSources::default().open(&spec, &CancelToken::new()) {
        Ok(source) => source,
        Err(error) => {
            played.error = Some((error.kind(), error.to_string()));
            return played;
        }
    };
    loop {
        match source.next(Duration::ZERO) {
            Ok(SourceItem::Frame(frame)) => {
                assert_eq!(frame.size(), source.info().size);
                played.frames.push((read_frame_number(&frame), frame.pts().as_nanos() / 1_000_000, frame.is_suspect()));
            }
            Ok(SourceItem::Event(event)) => played.events.push(event),
            Ok(SourceItem::End) => return played,
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                // It stays so.
                assert_eq!(source.next(Duration::ZERO).unwrap_err().to_string(), error.to_string());
                played.error = Some((error.kind(), error.to_string()));
                return played;
            }
        }
    }
}

/// What a whole clip of `count` frames at 25 fps gives.
fn whole(count: u16) -> Played {
    let frames = (0..count).map(|n| (Some(n), i64::from(n) * 40, false)).collect();
    Played { frames, ..Played::default() }
}

fn fails(bytes: &[u8], kind: SourceErrorKind, text: &str) {
    assert_eq!(play(bytes), Played { error: Some((kind, format!("clip.mp4: {text}"))), ..Played::default() });
}

#[test]
fn b_frames_come_in_display_order_from_every_layout() {
    assert!(B_FRAMES.units.windows(2).any(|pair| pair[0].frame > pair[1].frame), "decoding order differs");
    for layout in
        [Layout::IndexFirst, Layout::IndexLast, Layout::Fragmented { samples: 5 }, Layout::Fragmented { samples: 100 }]
    {
        assert_eq!(play(&B_FRAMES.to_mp4().layout(layout).to_bytes()), whole(24), "{layout:?}");
        assert_eq!(play(&PLAIN.to_mp4().layout(layout).to_bytes()), whole(24), "{layout:?}");
    }
}

#[test]
fn the_stream_is_described() {
    let source = |writer: Mp4Writer| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&writer.to_bytes()).unwrap();
        VideoSource::open("clip.mp4", file, &CancelToken::new()).unwrap()
    };
    let info = source(B_FRAMES.to_mp4()).info().clone();
    let expected = StreamInfo {
        size: Size::new(96, 64),
        frame_interval: Some(Duration::from_millis(40)),
        frame_count: Some(24),
        live: false,
        codec: "H.264 High".into(),
        decoder: "rusty_h264".into(),
        max_outstanding: None,
    };
    assert_eq!(info, expected);

    let mut uneven = PLAIN.to_mp4();
    uneven.samples[7].duration *= 3;
    assert_eq!(source(uneven).info().frame_interval, None);
}

#[test]
fn colour_comes_from_the_container_where_the_stream_is_silent() {
    fn check(color: Option<(u16, bool)>, range: ColorRange, matrix: ColorMatrix) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&Mp4Writer { color, ..PLAIN.to_mp4() }.to_bytes()).unwrap();
        let mut source = VideoSource::open("clip.mp4", file, &CancelToken::new()).unwrap();
        let SourceItem::Frame(frame) = source.next(Duration::ZERO).unwrap() else { panic!("a frame") };
        assert_eq!(frame.color(), ColorInfo { range, matrix }, "{color:?}");
    }
    check(None, ColorRange::Limited, ColorMatrix::Bt601);
    check(Some((1, false)), ColorRange::Limited, ColorMatrix::Bt709);
    check(Some((9, true)), ColorRange::Full, ColorMatrix::Bt2020);
    check(Some((2, true)), ColorRange::Full, ColorMatrix::Bt601);
}

#[test]
fn a_picture_size_that_is_no_multiple_of_16_is_cropped() {
    let scene = SceneConfig { size: Size::new(130, 98), objects: 3, fps: 25, seed: 5 };
    let clip = Clip::encode(&ClipConfig { scene, frames: 3, ..ClipConfig::default() });
    let played = play(&clip.to_mp4().to_bytes());
    assert_eq!(played, whole(3));
}

#[test]
fn the_size_may_change_within_the_stream() {
    let scene = SceneConfig { size: Size::new(128, 96), fps: 25, objects: 1, seed: 2 };
    let larger = Clip::encode(&ClipConfig { scene, frames: 4, b_frames: 1, ..ClipConfig::default() });
    let smaller = Clip::encode(&ClipConfig { frames: 3, ..ClipConfig::default() });
    // Parameter sets come in-band, none in the container.
    let mut writer = smaller.to_mp4();
    writer.format = *b"avc3";
    writer.config.1 = vec![1, 100, 0, 30, 0xff, 0xe0, 0];
    writer.samples = Vec::new();
    for clip in [&smaller, &larger] {
        let sets =
            clip.parameter_sets.iter().flat_map(|set| [&(set.len() as u32).to_be_bytes(), set.as_slice()].concat());
        let mut samples = clip.to_mp4().samples;
        samples[0].data.splice(0..0, sets);
        writer.samples.extend(samples);
    }
    // The larger clip's composition runs a frame late, as its B-frames need.
    let frames = [(0, 0), (1, 40), (2, 80), (0, 160), (1, 200), (2, 240), (3, 280)];
    let expected = frames.map(|(n, ms)| (Some(n), ms, false)).to_vec();
    let played = play(&writer.to_bytes());
    assert_eq!(played, Played { frames: expected, events: vec![SourceEvent::FormatChanged], error: None });
}

#[test]
fn pixels_are_those_of_the_scene() {
    let scene = nv_perception::testing::SyntheticScene::new(ClipConfig::default().scene).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&B_FRAMES.to_mp4().to_bytes()).unwrap();
    let mut source = VideoSource::open("clip.mp4", file, &CancelToken::new()).unwrap();
    for n in 0..24 {
        let SourceItem::Frame(frame) = source.next(Duration::ZERO).unwrap() else { panic!("frame {n}") };
        let original = scene.frame(n);
        for plane in 0..3 {
            let (a, b) = (frame.host().unwrap().plane(plane), original.host().unwrap().plane(plane));
            assert_eq!(a.stride, b.stride);
            let error: u64 = a.data.iter().zip(b.data).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
            assert!(
                error < 4 * a.data.len() as u64,
                "frame {n}, plane {plane}: mean error of {error} / {}",
                a.data.len()
            );
        }
    }
}

#[test]
fn time_begins_where_the_edit_list_says() {
    /// Plays with an edit that starts at `ticks` (512 a frame) of composition time; expects frames from number `first`.
    fn check(clip: &Clip, edit_start: Option<i32>, first: u16, first_ms: i64) {
        for layout in [Layout::IndexFirst, Layout::Fragmented { samples: 7 }] {
            let played = play(&Mp4Writer { edit_start, ..clip.to_mp4() }.layout(layout).to_bytes());
            let expected: Vec<_> =
                (first..24).map(|n| (Some(n), first_ms + i64::from(n - first) * 40, false)).collect();
            assert_eq!(played.frames, expected, "{edit_start:?}");
            assert_eq!(played.error, None);
        }
    }
    // Two B-frames: composition starts one frame late, and with no edit list the first picture is at 0 all the same.
    check(&B_FRAMES, B_FRAMES.to_mp4().edit_start, 0, 0);
    check(&B_FRAMES, None, 0, 0);
    check(&PLAIN, Some(0), 0, 0);
    check(&PLAIN, Some(10 * 512), 10, 0);
    check(&PLAIN, Some(10 * 512 + 256), 11, 20);
    // It would leave out everything: then it is wrong.
    check(&PLAIN, Some(24 * 512), 0, 0);
}

#[test]
fn what_is_no_video_is_said() {
    use SourceErrorKind::{Damaged, NotVideo, Unsupported};
    const GIVE: &str = "give an MP4 with H.264 video, a JPEG or PNG picture, or a folder of those";
    fails(b"", NotVideo, "the file is empty (0 bytes); copy or record it again");
    fails(b"Dear Sir or Madam,\n", NotVideo, &format!("it is a text file, not a video; {GIVE}"));
    fails(&[0x9d; 300], NotVideo, &format!("it is not a video or picture that is known; {GIVE}"));
    fails(
        b"\x1a\x45\xdf\xa3\x9f\x42",
        Unsupported,
        "it is Matroska or WebM; this source reads MP4; the GStreamer source plugin reads it, or put it into an MP4: ffmpeg -i INPUT -c copy OUTPUT.mp4",
    );
    let sound = Mp4Writer { handler: *b"soun", ..PLAIN.to_mp4() };
    fails(&sound.to_bytes(), NotVideo, "the MP4 has no video track; give a file with video in it");
    let none = Mp4Writer { samples: Vec::new(), ..PLAIN.to_mp4() };
    fails(&none.to_bytes(), Damaged, &format!("its video track holds no pictures; {RECOPY}"));
}

#[test]
fn other_codecs_are_named_with_a_remedy() {
    fn check(format: &[u8; 4], name: &str) {
        let text = format!("its video is {name}; this source decodes H.264; {CONVERT}");
        fails(&other_codec_mp4(*format), SourceErrorKind::Unsupported, &text);
    }
    check(b"hvc1", "H.265 (hvc1)");
    check(b"hev1", "H.265 (hev1)");
    check(b"av01", "AV1 (av01)");
    check(b"vp09", "VP9 (vp09)");
    check(b"xyz ", "an unknown codec (xyz )");
    let encrypted = play(&other_codec_mp4(*b"encv")).error.unwrap().1;
    assert!(
        encrypted.ends_with("its video is an encrypted video (encv); this source decodes H.264; give it decrypted")
    );
}

#[test]
fn kinds_of_h264_that_are_not_decoded_are_refused_not_dropped() {
    /// Replaces the sequence parameter set by one of `profile` with `chroma_format_idc` in Exp-Golomb code.
    fn check(sps: &[u8], expected: &str) {
        let mut writer = PLAIN.to_mp4();
        let mut avcc = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1];
        avcc.extend((sps.len() as u16).to_be_bytes());
        avcc.extend(sps);
        avcc.push(0);
        writer.config.1 = avcc;
        let text = format!("its H.264 is of a kind that the built-in decoder lacks: {expected}; {CONVERT}");
        fails(&writer.to_bytes(), SourceErrorKind::Unsupported, &text);
    }
    // As x264 writes them for 1280×720 4:2:2, 1280×720 10 bits, 1920×1080 interlaced.
    check(&[0x67, 0x7a, 0x00, 0x1f, 0xbc, 0xd9, 0x40, 0x50, 0x05, 0xba, 0x10, 0, 0, 3, 0, 0x10], "4:2:2 chroma");
    check(&[0x67, 0x6e, 0x00, 0x1f, 0xa6, 0xcd, 0x94, 0x05, 0x00, 0x5b, 0xa1, 0, 0, 3, 0, 0x10], "10 bits a sample");
    check(
        &[0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x04, 0x4f, 0xde, 0x03, 0xd2, 0x02, 0x02, 0x02, 0x80],
        "interlaced (MBAFF)",
    );
}

#[test]
fn a_cut_file_gives_the_frames_before_the_cut() {
    const NO_INDEX: &str = "the MP4 is cut off: its index (the moov box) is missing, so that none of its frames can be found; \
                            the copy or the recording did not finish: do it again, or rebuild the index with a repair tool";
    let last = PLAIN.to_mp4().layout(Layout::IndexLast).to_bytes();
    for cut in [30, last.len() / 2, last.len() - 1] {
        fails(&last[..cut], SourceErrorKind::Damaged, NO_INDEX);
    }

    let first = PLAIN.to_mp4().to_bytes();
    let data: usize = PLAIN.to_mp4().samples.iter().map(|s| s.data.len()).sum();
    let data_at = first.len() - data;
    fails(&first[..data_at - 100], SourceErrorKind::Damaged, NO_INDEX);
    let mut end = data_at;
    for (i, sample) in PLAIN.to_mp4().samples.iter().enumerate() {
        end += sample.data.len();
        if i > 0 && i % 5 == 0 {
            let text = format!("clip.mp4: the file is cut off: its data ends after {i} of 24 access units; {KEPT}");
            let error = Some((SourceErrorKind::Damaged, text));
            assert_eq!(play(&first[..end - 1]), Played { error, ..whole(i as u16) });
        }
    }

    let fragmented = PLAIN.to_mp4().layout(Layout::Fragmented { samples: 6 }).to_bytes();
    let moofs: Vec<usize> = fragmented.windows(4).enumerate().filter(|(_, w)| *w == b"moof").map(|(i, _)| i).collect();
    let within_a_fragment = play(&fragmented[..moofs[2] + 40]);
    let text = format!("clip.mp4: the file is cut off: it ends within a fragment; {KEPT}");
    assert_eq!(within_a_fragment, Played { error: Some((SourceErrorKind::Damaged, text)), ..whole(12) });
    let between_fragments = play(&fragmented[..moofs[2] - 4]);
    assert_eq!(between_fragments, whole(12), "then nothing tells that there was more");
}

/// The clip with `damage` done to one unit.
fn with_damage(clip: &Clip, unit: usize, damage: fn(&mut AccessUnit)) -> Vec<u8> {
    let mut clip = clip.clone();
    damage(&mut clip.units[unit]);
    clip.to_mp4().to_bytes()
}

#[test]
fn frames_after_damage_are_suspect_until_the_next_key_frame() {
    let played = play(&with_damage(&PLAIN, 5, |unit| unit.nals[0].truncate(3)));
    // Some that rest on what was lost may be lost with it.
    let numbers: Vec<i64> = played.frames.iter().map(|frame| frame.1 / 40).collect();
    assert!(!numbers.contains(&5) && numbers.is_sorted() && numbers.len() > 18, "{numbers:?}");
    assert!([0, 1, 2, 3, 4].iter().chain(&[12, 13, 23]).all(|n| numbers.contains(n)), "{numbers:?}");
    for (&(coded, _, suspect), &number) in played.frames.iter().zip(&numbers) {
        assert_eq!(suspect, (6..12).contains(&number), "frame {number}");
        assert!(suspect || coded.map(i64::from) == Some(number), "frame {number} shows {coded:?}");
    }
    let [SourceEvent::Gap { count: 1 }, SourceEvent::Suspect { reason }, gaps @ ..] = played.events.as_slice() else {
        panic!("{:?}", played.events)
    };
    assert!(reason.starts_with("at 0.200 s: "), "{reason}");
    let lost = 24 - numbers.len() as u64;
    let gaps: u64 = gaps.iter().map(|e| if let SourceEvent::Gap { count } = e { *count } else { 100 }).sum();
    assert_eq!(gaps + 1, lost);
    let text = format!("clip.mp4: {lost} of 24 H.264 access units could not be decoded; the first: {reason}; {KEPT}");
    assert_eq!(played.error, Some((SourceErrorKind::Damaged, text)));
}

#[test]
fn a_lost_key_frame_is_noticed() {
    let played = play(&with_damage(&B_FRAMES, 12, |unit| unit.nals[0].truncate(2)));
    // The second group is lost or suspect; nothing is given twice or out of order.
    assert!(played.frames.iter().all(|&(_, ms, suspect)| suspect == (ms >= 12 * 40)), "{played:?}");
    assert!(played.frames.is_sorted_by_key(|frame| frame.1));
    assert!(played.error.unwrap().1.contains("of 24 H.264 access units could not be decoded"));
}

#[test]
fn damage_to_every_unit_is_an_error_when_it_is_opened() {
    let mut clip = PLAIN.clone();
    clip.units.iter_mut().for_each(|unit| unit.nals[0].truncate(2));
    let played = play(&clip.to_mp4().to_bytes());
    let (kind, text) = played.error.unwrap();
    assert_eq!((kind, played.frames.len()), (SourceErrorKind::Damaged, 0));
    assert!(text.starts_with("clip.mp4: none of its 24 H.264 access units could be decoded; the first: "), "{text}");
}

#[test]
fn no_cut_panics_hangs_or_gives_a_wrong_frame() {
    for layout in [Layout::IndexFirst, Layout::IndexLast, Layout::Fragmented { samples: 4 }] {
        let bytes = B_FRAMES.to_mp4().layout(layout).to_bytes();
        for cut in (0..bytes.len()).step_by(97) {
            let played = play(&bytes[..cut]);
            let numbers = played.numbers();
            assert!(numbers.is_sorted() && numbers.len() == played.frames.len(), "{layout:?} cut at {cut}: {played:?}");
            let at_a_fragment = matches!(layout, Layout::Fragmented { .. });
            assert!(played.error.is_some() || at_a_fragment, "{layout:?} cut at {cut}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_flipped_byte_panics_or_hangs(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..8),
        fragmented: bool,
        in_the_index: bool,
    ) {
        let layout = if fragmented { Layout::Fragmented { samples: 4 } } else { Layout::IndexFirst };
        let mut bytes = B_FRAMES.to_mp4().layout(layout).to_bytes();
        let data = bytes.windows(4).position(|w| w == b"mdat").unwrap();
        for (index, mask) in flips {
            let at = if in_the_index { index.index(data) } else { index.index(bytes.len()) };
            bytes[at] ^= mask;
        }
        let played = play(&bytes);
        prop_assert!(played.frames.is_sorted_by(|a, b| a.1 <= b.1));
        prop_assert!(!played.frames.is_empty() || played.error.is_some(), "never silently nothing");
    }
}

/// A decoder that does as it is told: 'd' damaged, 'u' unsupported, '.' no error, for one unit after the other.
struct Scripted {
    script: Mutex<Vec<char>>,
    picture: Option<Picture>,
}

impl H264Decoder for Scripted {
    fn configure(&mut self, _: &Sps) {}

    fn push(&mut self, _: &[u8], _: crate::h264::UnitKind, stamp: Stamp) -> Result<(), DecodeError> {
        match self.script.lock().unwrap().remove(0) {
            'd' => Err(DecodeError::Damaged("damage".into())),
            'u' => Err(DecodeError::Unsupported("a tool".into())),
            _ => {
                let planes = [(96 * 64, 96), (48 * 32, 48), (48 * 32, 48)]
                    .map(|(len, stride)| nv_core::OwnedPlane { data: vec![0; len], stride });
                self.picture = Some(Picture { stamp, size: Size::new(96, 64), planes: planes.into() });
                Ok(())
            }
        }
    }

    fn next(&mut self) -> Option<Picture> {
        self.picture.take()
    }

    fn flush(&mut self) {}
}

#[test]
fn what_a_decoder_reports_becomes_what_the_source_reports() {
    /// Plays the plain clip through a decoder that follows `script`. The outcome has a letter for each item: frame, Suspect
    /// frame, gap with its count, damage event; then how it ended.
    fn check(script: &str, expected: &str) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&PLAIN.to_mp4().to_bytes()).unwrap();
        let decoder = Scripted { script: Mutex::new(script.chars().collect()), picture: None };
        let mut source =
            VideoSource::new("clip.mp4", Mp4File::open(file).unwrap(), Box::new(decoder), &CancelToken::new());
        source.info.size = Size::new(96, 64);
        let mut outcome = String::new();
        let end = loop {
            match source.next(Duration::ZERO) {
                Ok(SourceItem::Frame(frame)) => outcome.push(if frame.is_suspect() { 's' } else { 'f' }),
                Ok(SourceItem::Event(SourceEvent::Gap { count })) => outcome += &format!("g{count}"),
                Ok(SourceItem::Event(SourceEvent::Suspect { .. })) => outcome.push('e'),
                Ok(SourceItem::End) => break "end".to_owned(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error.message().to_owned(),
            }
        };
        assert_eq!(format!("{outcome} {end}"), expected, "{script}");
    }
    check("........................", "ffffffffffffffffffffffff end");
    // Units 0 and 12 are key frames.
    check(
        "..d.dd..................",
        "ffg1esg1g1ssssssffffffffffff 3 of 24 H.264 access units could not be decoded; the first: at 0.080 s: damage",
    );
    check(
        "............d.........d.",
        "ffffffffffffg1esssssssssg1s 2 of 24 H.264 access units could not be decoded; the first: at 0.480 s: damage",
    );
    check(
        ".......................u",
        "fffffffffffffffffffffffg1e 1 of 24 H.264 access units could not be decoded; the first: at 0.920 s: a tool",
    );
    check(
        "uu......................",
        "g1eg1ssssssssssffffffffffff 2 of 24 H.264 access units could not be decoded; the first: at 0.000 s: a tool",
    );
    check("uuu", "g1eg1g1 its H.264 is of a kind that the built-in decoder lacks: a tool");
}
