use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use nv_core::{Attachment, BBox, Frame, FrameHeader, FramePool, Name, PixelFormat, Pts, Size};

use super::barcode;

/// The schema of the ground truth that a [`SyntheticScene`] attaches to its frames, as JSON:
/// `{"schema":"nv.truth/1","frame":12,"objects":[{"id":1,"class":"disc","bbox":[x1,y1,x2,y2]}]}`.
pub const TRUTH_SCHEMA: &str = "nv.truth/1";

/// What a [`SyntheticScene`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SceneConfig {
    /// Width and height, from 96×64 to 8192×8192 pixels. Default 640×480.
    pub size: Size,
    /// Frames per second of stream time, 1 to 1000. Default 30.
    pub fps: u32,
    /// How many objects move about, at most 256. Default 5.
    pub objects: u32,
    /// Where shapes, places, speeds and the background come from. Default 1.
    pub seed: u64,
}

impl Default for SceneConfig {
    fn default() -> Self {
        Self { size: Size::new(640, 480), fps: 30, objects: 5, seed: 1 }
    }
}

/// An object of a scene at one frame: exactly the pixels that its box bounds, unless another object lies over it.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthObject {
    /// The same object in every frame; from 1.
    pub id: u32,
    /// `"box"`, `"disc"` or `"cone"`.
    pub class: &'static str,
    /// Its extent. Edges are whole pixels. Objects stay inside the picture, below the frame number.
    pub bbox: BBox,
}

/// A scene of moving shapes over a textured background whose every frame is known beforehand: the ground truth of tests.
///
/// Frames are I420, BT.601, limited range. Object `k` lies over objects before it. Everything is integer arithmetic on
/// the seed and the frame number, so a frame is the same on every machine and can be asked for in any order. The frame
/// number (its low 16 bits) is coded into the top-left corner, to be read by
/// [`read_frame_number`](super::read_frame_number) even after lossy coding, and the truth travels as an attachment of
/// schema [`TRUTH_SCHEMA`].
///
/// ```
/// use nv_perception::testing::{SceneConfig, SyntheticScene, read_frame_number};
///
/// let scene = SyntheticScene::new(SceneConfig::default()).unwrap();
/// let frame = scene.frame(41);
/// assert_eq!(read_frame_number(&frame), Some(41));
/// assert_eq!(scene.truth(41).len(), 5);
/// ```
#[derive(Debug)]
pub struct SyntheticScene {
    config: SceneConfig,
    /// Y, U, V.
    background: [Vec<u8>; 3],
    objects: Vec<Mover>,
    schema: Name,
    pool: FramePool,
}

/// Objects keep clear of the frame number at the top.
const TOP: u32 = barcode::HEIGHT;
/// Sub-pixel steps of motion.
const STEPS: u64 = 16;

impl SyntheticScene {
    /// The scene that `config` describes.
    ///
    /// # Errors
    /// [`SceneError`] where a field is out of its range.
    pub fn new(config: SceneConfig) -> Result<Self, SceneError> {
        let Size { width, height } = config.size;
        let check = |ok: bool, what, allowed| if ok { Ok(()) } else { Err(SceneError { what, allowed }) };
        check((96..=8192).contains(&width), "width", "96 to 8192")?;
        check((64..=8192).contains(&height), "height", "64 to 8192")?;
        check((1..=1000).contains(&config.fps), "fps", "1 to 1000")?;
        check(config.objects <= 256, "objects", "0 to 256")?;
        Ok(Self {
            config,
            background: background(config.size, config.seed),
            objects: (0..config.objects).map(|i| Mover::new(&config, i)).collect(),
            schema: Name::new(TRUTH_SCHEMA),
            pool: FramePool::new(8),
        })
    }

    /// What it was made from.
    pub fn config(&self) -> &SceneConfig {
        &self.config
    }

    /// Presentation time of frame `n`.
    pub fn pts(&self, n: u64) -> Pts {
        let ns = u128::from(n) * 1_000_000_000 / u128::from(self.config.fps);
        Pts::from_nanos(i64::try_from(ns).unwrap_or(i64::MAX))
    }

    /// Where every object is at frame `n`, by ascending id.
    pub fn truth(&self, n: u64) -> Vec<TruthObject> {
        let object = |(id, mover): (u32, &Mover)| {
            let (x, y) = mover.at(n);
            let (right, bottom) = (x + mover.width, y + mover.height);
            let bbox = BBox::new(x as f32, y as f32, right as f32, bottom as f32);
            TruthObject { id, class: mover.shape.class(), bbox }
        };
        (1..).zip(&self.objects).map(object).collect()
    }

    /// The truth of frame `n` as JSON, as it is attached to the frame.
    pub fn truth_json(&self, n: u64) -> String {
        let mut json = format!("{{\"schema\":\"{TRUTH_SCHEMA}\",\"frame\":{n},\"objects\":[");
        for (i, TruthObject { id, class, bbox }) in self.truth(n).into_iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let [x1, y1, x2, y2] = <[f32; 4]>::from(bbox);
            write!(json, "{comma}{{\"id\":{id},\"class\":\"{class}\",\"bbox\":[{x1},{y1},{x2},{y2}]}}")
                .expect("a String takes all that is written");
        }
        json + "]}"
    }

    /// Frame `n`.
    pub fn frame(&self, n: u64) -> Frame {
        let mut header = FrameHeader::new(self.config.size, PixelFormat::I420);
        header.pts = self.pts(n);
        let mut buffer = self.pool.take(header).expect("`new` checked the size");
        for (plane, background) in self.background.iter().enumerate() {
            let samples = buffer.plane_mut(plane);
            samples.copy_from_slice(background);
            for mover in &self.objects {
                mover.draw(n, plane, samples, self.config.size);
            }
        }
        barcode::draw(n as u16, buffer.plane_mut(0), self.config.size.width as usize);
        let truth = Attachment { schema: self.schema.clone(), data: Arc::from(self.truth_json(n).into_bytes()) };
        buffer.freeze().with_attachments([truth])
    }
}

/// A [`SceneConfig`] field out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneError {
    what: &'static str,
    allowed: &'static str,
}

impl fmt::Display for SceneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a synthetic scene's {} must be {}", self.what, self.allowed)
    }
}

impl Error for SceneError {}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Box,
    Disc,
    Cone,
}

impl Shape {
    fn class(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Disc => "disc",
            Self::Cone => "cone",
        }
    }

    /// Whether pixel (`x`, `y`) of a `w` × `h` box belongs to the shape. With an odd `w` every shape touches all four
    /// sides of its box.
    fn covers(self, x: u32, y: u32, w: u32, h: u32) -> bool {
        let (w, h) = (i64::from(w), i64::from(h));
        // Twice the distance of the pixel's centre from the box's.
        let (dx, dy) = (2 * i64::from(x) + 1 - w, 2 * i64::from(y) + 1 - h);
        match self {
            Self::Box => true,
            Self::Disc => dx * dx * h * h + dy * dy * w * w <= w * w * h * h,
            Self::Cone => dx.abs() * h <= w * (i64::from(y) + 1),
        }
    }
}

/// An object that goes to and fro at a constant speed, reflected at the edges of its range.
#[derive(Debug)]
struct Mover {
    shape: Shape,
    width: u32,
    height: u32,
    /// Y, U, V.
    color: [u8; 3],
    x: Shuttle,
    y: Shuttle,
}

impl Mover {
    fn new(config: &SceneConfig, index: u32) -> Self {
        let mut random = Random::new(config.seed, u64::from(index) + 1);
        let Size { width, height } = config.size;
        let room = width.min(height - TOP);
        let side = |random: &mut Random| random.between(room / 10, room / 4).max(6);
        let (w, h) = (side(&mut random) | 1, side(&mut random));
        // Saturated colours, brighter than the background.
        let color = [
            random.between(150, 220) as u8,
            if random.between(0, 1) == 0 { 70 } else { 190 },
            random.between(60, 200) as u8,
        ];
        Self {
            shape: [Shape::Box, Shape::Disc, Shape::Cone][index as usize % 3],
            width: w,
            height: h,
            color,
            x: Shuttle::new(&mut random, 0, width - w),
            y: Shuttle::new(&mut random, TOP, height - h),
        }
    }

    fn at(&self, n: u64) -> (u32, u32) {
        (self.x.at(n), self.y.at(n))
    }

    /// Draws it into one plane of a picture of `size`.
    fn draw(&self, n: u64, plane: usize, samples: &mut [u8], size: Size) {
        let (left, top) = self.at(n);
        let step = if plane == 0 { 1 } else { 2 };
        let stride = size.width.div_ceil(step);
        for y in (top.next_multiple_of(step)..top + self.height).step_by(step as usize) {
            for x in (left.next_multiple_of(step)..left + self.width).step_by(step as usize) {
                if self.shape.covers(x - left, y - top, self.width, self.height) {
                    samples[(y / step * stride + x / step) as usize] = self.color[plane];
                }
            }
        }
    }
}

/// A coordinate that runs from `low` to `high` and back: a triangle wave in time.
#[derive(Debug)]
struct Shuttle {
    low: u32,
    /// Sub-pixel steps of the way there.
    span: u64,
    phase: u64,
    /// Sub-pixel steps a frame.
    speed: u64,
}

impl Shuttle {
    fn new(random: &mut Random, low: u32, high: u32) -> Self {
        // A step short, so that the far end rounds down to `high` and not beyond.
        let span = (u64::from(high - low + 1) * STEPS - 1).max(1);
        let phase = random.next() % (2 * span);
        Self { low, span, phase, speed: u64::from(random.between(4, 56)) }
    }

    fn at(&self, n: u64) -> u32 {
        let period = 2 * self.span;
        let way = (self.phase + self.speed * (n % period)) % period;
        let way = if way > self.span { period - way } else { way };
        self.low + (way / STEPS) as u32
    }
}

/// A dim gradient with a weak texture of 8×8 tiles: something for a codec to do, nothing that looks like an object.
fn background(size: Size, seed: u64) -> [Vec<u8>; 3] {
    let mut random = Random::new(seed, 0);
    let (width, height) = (size.width as usize, size.height as usize);
    let tiles_across = width.div_ceil(8);
    let tiles: Vec<u8> = (0..tiles_across * height.div_ceil(8)).map(|_| random.between(0, 15) as u8).collect();
    let luma = |x: usize, y: usize| {
        let gradient = (40 * x / width + 20 * y / height) as u8;
        50 + gradient + tiles[y / 8 * tiles_across + x / 8]
    };
    let luma = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| luma(x, y)).collect();
    let chroma_len = width.div_ceil(2) * height.div_ceil(2);
    let mut chroma = || vec![random.between(118, 138) as u8; chroma_len];
    [luma, chroma(), chroma()]
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included; `low` where `high` is below it.
    fn between(&mut self, low: u32, high: u32) -> u32 {
        low + (self.next() % (u64::from(high.saturating_sub(low)) + 1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::read_frame_number;

    fn scene(width: u32, height: u32, objects: u32, seed: u64) -> SyntheticScene {
        let size = Size::new(width, height);
        SyntheticScene::new(SceneConfig { size, objects, seed, fps: 25 }).unwrap()
    }

    fn luma(frame: &Frame) -> Vec<u8> {
        frame.host().unwrap().plane(0).data.to_vec()
    }

    #[test]
    fn a_box_bounds_exactly_the_pixels_of_its_object() {
        for (seed, n) in (0..60u64).map(|seed| (seed, seed * seed * 97)) {
            // Three objects, of which the shape under test is the last and so lies on top.
            for objects in 1..=3 {
                let (with, without) = (scene(161, 121, objects, seed), scene(161, 121, objects - 1, seed));
                let (a, b) = (luma(&with.frame(n)), luma(&without.frame(n)));
                let changed = (0..a.len()).filter(|&i| a[i] != b[i]).map(|i| (i % 161, i / 161));
                let bound = changed.fold([usize::MAX, usize::MAX, 0, 0], |[x1, y1, x2, y2], (x, y)| {
                    [x1.min(x), y1.min(y), x2.max(x + 1), y2.max(y + 1)]
                });
                let truth = with.truth(n).pop().unwrap();
                let found = bound.map(|edge| edge as f32);
                // Where it lies over another object of its own luma, nothing shows.
                if truth.bbox != BBox::from(found) {
                    let others = &with.truth(n)[..objects as usize - 1];
                    assert!(others.iter().any(|o| o.bbox.iou(&truth.bbox) > 0.0), "{truth:?} {found:?}");
                }
            }
        }
    }

    #[test]
    fn objects_stay_inside_move_and_keep_their_ids() {
        let scene = scene(320, 240, 16, 7);
        let size = scene.config().size;
        let mut last = scene.truth(0);
        for n in (1..2000).chain([u64::MAX - 1]) {
            let truth = scene.truth(n);
            for (now, before) in truth.iter().zip(&last) {
                assert_eq!((now.id, now.class), (before.id, before.class));
                assert_eq!(now.bbox.clip(size), now.bbox);
                assert!(now.bbox.y1 >= TOP as f32);
                if n < 2000 {
                    assert!((now.bbox.x1 - before.bbox.x1).abs() <= 4.0, "no jumps");
                }
            }
            assert!(truth != last || n > 2000);
            last = truth;
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_frames_in_any_order() {
        let (a, b) = (scene(96, 64, 4, 3), scene(96, 64, 4, 3));
        let later = luma(&a.frame(99));
        assert_eq!(luma(&a.frame(5)), luma(&b.frame(5)));
        assert_eq!(later, luma(&b.frame(99)));
        assert_ne!(later, luma(&scene(96, 64, 4, 4).frame(99)));
        // The same on every machine: FNV-1a of one frame's luma.
        let hash = |bytes: &[u8]| {
            bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
        };
        assert_eq!(format!("{:016x}", hash(&later)), "567bd10ac9eda6d8");
    }

    #[test]
    fn frames_carry_number_time_and_truth() {
        let scene = scene(97, 65, 2, 11);
        for n in [0, 1, 255, 256, 65_535, 65_536 + 17] {
            let frame = scene.frame(n);
            assert_eq!(read_frame_number(&frame), Some(n as u16));
            assert_eq!(frame.pts(), Pts::from_nanos(n as i64 * 40_000_000));
            let [truth] = frame.attachments() else { panic!("one attachment") };
            assert_eq!(truth.schema, TRUTH_SCHEMA);
            let text = std::str::from_utf8(&truth.data).unwrap();
            let box1 = <[f32; 4]>::from(scene.truth(n)[0].bbox).map(|v| v.to_string()).join(",");
            let start = format!(
                "{{\"schema\":\"nv.truth/1\",\"frame\":{n},\"objects\":[{{\"id\":1,\"class\":\"box\",\"bbox\":[{box1}]}},{{\"id\":2"
            );
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn fields_out_of_range_are_refused_by_name() {
        fn check(change: fn(&mut SceneConfig), expected: &str) {
            let mut config = SceneConfig::default();
            change(&mut config);
            let error = SyntheticScene::new(config).unwrap_err();
            assert_eq!(error.to_string(), format!("a synthetic scene's {expected}"));
        }
        check(|c| c.size.width = 95, "width must be 96 to 8192");
        check(|c| c.size.height = 9000, "height must be 64 to 8192");
        check(|c| c.fps = 0, "fps must be 1 to 1000");
        check(|c| c.objects = 257, "objects must be 0 to 256");
    }
}
