use nv_core::{Frame, Size};
use nv_perception::testing::{SceneConfig, SyntheticScene};
use rusty_h264_common::YuvFrame;
use rusty_h264_decoder::Decoder;
use rusty_h264_encoder::{Encoder, EncoderConfig};

use super::writer::{Layout, Mp4Sample, Mp4Writer};

/// What a [`Clip`] shows and how it is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipConfig {
    /// The scene. Width and height must be even.
    pub scene: SceneConfig,
    /// Frames. Default 24.
    pub frames: u32,
    /// Frames from one key frame to the next. Default 12.
    pub key_interval: u32,
    /// B-frames between two others; they are decoded in another order than shown. Default 0.
    pub b_frames: u32,
}

impl Default for ClipConfig {
    fn default() -> Self {
        let scene = SceneConfig { size: Size::new(96, 64), fps: 25, objects: 2, seed: 1 };
        Self { scene, frames: 24, key_interval: 12, b_frames: 0 }
    }
}

/// An H.264 clip of a synthetic scene. Frame `n` carries the number `n`, to be read by
/// [`read_frame_number`](nv_perception::testing::read_frame_number).
#[derive(Clone, Debug)]
pub struct Clip {
    config: ClipConfig,
    /// Sequence, then picture parameter set, as NAL units.
    pub parameter_sets: [Vec<u8>; 2],
    /// In decoding order.
    pub units: Vec<AccessUnit>,
}

/// One coded picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// Its NAL units, without parameter sets.
    pub nals: Vec<Vec<u8>>,
    /// Whether it is an IDR picture.
    pub key: bool,
    /// The number of the frame that it shows.
    pub frame: u32,
}

impl Clip {
    /// Encodes a scene.
    ///
    /// # Panics
    /// Where the config is no scene, or has an odd size or no frames: this is for tests.
    pub fn encode(config: &ClipConfig) -> Self {
        let scene = SyntheticScene::new(config.scene).expect("a scene");
        let frames: Vec<YuvFrame> = (0..config.frames).map(|n| yuv(&scene.frame(n.into()))).collect();
        let Size { width, height } = config.scene.size;
        let mut encoder = EncoderConfig::new(width as usize, height as usize);
        encoder.qp = 24;
        encoder.gop_size = config.key_interval;
        encoder.min_keyint = config.key_interval;
        encoder.scenecut = 0;
        encoder.bframes = config.b_frames;
        encoder.framerate = config.scene.fps as f32;
        let encoder = Encoder::new(encoder).expect("an even size");
        let coded = encoder.encode_all(&frames).expect("frames of that size");
        Self::from_annex_b(*config, &coded)
    }

    /// Takes the encoder's output apart, and finds out by decoding which frame each unit shows.
    fn from_annex_b(config: ClipConfig, coded: &[Vec<u8>]) -> Self {
        let mut decoder = Decoder::new();
        let (mut parameter_sets, mut units) = ([Vec::new(), Vec::new()], Vec::new());
        // Of each unit: the key frame it belongs to, and its place in display order after that.
        let mut order = Vec::new();
        let mut keys = 0;
        for unit in coded {
            let mut nals = split_annex_b(unit);
            for nal in &nals {
                match nal[0] & 0x1f {
                    7 => parameter_sets[0] = nal.clone(),
                    8 => parameter_sets[1] = nal.clone(),
                    _ => {}
                }
            }
            nals.retain(|nal| matches!(nal[0] & 0x1f, 1 | 5));
            let key = nals.iter().any(|nal| nal[0] & 0x1f == 5);
            keys += u32::from(key);
            decoder.decode(unit).expect("its own encoder's output").expect("a picture in each unit");
            order.push((keys, decoder.last_poc()));
            units.push(AccessUnit { nals, key, frame: 0 });
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        for (unit, place) in units.iter_mut().zip(&order) {
            unit.frame = sorted.binary_search(place).expect("the same places, sorted") as u32;
        }
        Self { config, parameter_sets, units }
    }

    /// The clip as a file: the index first, composition times that begin at 0, or, with B-frames, an edit list to that effect.
    pub fn to_mp4(&self) -> Mp4Writer {
        const TICKS: u32 = 512;
        // So many frames must be decoded ahead for every frame to be there in time.
        let ahead = (0u32..).zip(&self.units).map(|(i, unit)| i.saturating_sub(unit.frame)).max().unwrap_or(0);
        let sample = |(i, unit): (u32, &AccessUnit)| Mp4Sample {
            data: unit
                .nals
                .iter()
                .flat_map(|nal| [&(nal.len() as u32).to_be_bytes(), nal.as_slice()].concat())
                .collect(),
            key: unit.key,
            duration: TICKS,
            composition_offset: ((unit.frame + ahead - i) * TICKS).cast_signed(),
        };
        Mp4Writer {
            handler: *b"vide",
            format: *b"avc1",
            config: (*b"avcC", self.avcc()),
            size: self.config.scene.size,
            timescale: self.config.scene.fps * TICKS,
            samples: (0..).zip(&self.units).map(sample).collect(),
            layout: Layout::IndexFirst,
            edit_start: (ahead > 0).then_some((ahead * TICKS).cast_signed()),
            color: None,
        }
    }

    /// The payload of an `avcC` box.
    fn avcc(&self) -> Vec<u8> {
        let [sps, pps] = &self.parameter_sets;
        let mut bytes = vec![1, sps[1], sps[2], sps[3], 0xff];
        for (count, set) in [(0xe1, sps), (1, pps)] {
            bytes.push(count);
            bytes.extend((set.len() as u16).to_be_bytes());
            bytes.extend(set);
        }
        bytes
    }
}

/// A sound file whose video track says that it is in another codec, such as `hvc1` for H.265. Its samples are not.
pub fn other_codec_mp4(format: [u8; 4]) -> Vec<u8> {
    let mut writer = Clip::encode(&ClipConfig { frames: 2, ..ClipConfig::default() }).to_mp4();
    writer.format = format;
    writer.config = match &format {
        b"hvc1" | b"hev1" => (*b"hvcC", vec![1; 23]),
        b"av01" => (*b"av1C", vec![0x81, 0, 0, 0]),
        _ => (*b"vpcC", vec![1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0]),
    };
    writer.to_bytes()
}

fn yuv(frame: &Frame) -> YuvFrame {
    let view = frame.host().expect("a scene's frame is in host memory");
    let [y, u, v] = [0, 1, 2].map(|i| view.plane(i).data.to_vec());
    YuvFrame { width: frame.size().width as usize, height: frame.size().height as usize, y, u, v }
}

/// The NAL units between start codes.
fn split_annex_b(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    let ends = starts.iter().skip(1).map(|start| start - 3).chain([stream.len()]);
    let nal = |(&start, end): (&usize, usize)| {
        let nal = &stream[start..end];
        // The zero of a four-byte start code belongs to the code.
        let zeros = nal.iter().rev().take_while(|&&byte| byte == 0).count();
        nal[..nal.len() - zeros].to_vec()
    };
    starts.iter().zip(ends).map(nal).filter(|nal| !nal.is_empty()).collect()
}
