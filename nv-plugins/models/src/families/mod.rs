//! Families of detectors: what their outputs look like, how these become boxes, and what pre-processing their authors
//! publish. A family is recognised by the shapes of its outputs, or named in config.

mod centerface;
mod centernet;
mod distribution;
mod fastestdet;
mod grid;
mod heatmap;
mod nanodet;
mod rows;
mod ssd;
mod ultraface;
mod yolov5;
mod yolov8;
mod yolox;
mod yunet;

use nv_infer::{Dim, RowGroup, ScoredRows, TensorInfo};
use nv_plugin_sdk::{BBox, Keypoint, Size, Tensor};

use crate::activation::Activation;
use crate::priors::Priors;
use crate::settings::{ModelSettings, ResizeMode};
use grid::Grids;

/// Every family, in the order in which they are listed to people.
pub(crate) static FAMILIES: [&Family; 10] = [
    &yolox::YOLOX,
    &yolov5::YOLOV5,
    &yolov8::YOLOV8,
    &nanodet::NANODET,
    &fastestdet::FASTESTDET,
    &ssd::SSD,
    &centernet::CENTERNET,
    &ultraface::ULTRAFACE,
    &yunet::YUNET,
    &centerface::CENTERFACE,
];

/// A family of detectors.
pub(crate) struct Family {
    /// Its name in config.
    pub(crate) name: &'static str,
    /// What its outputs look like, for people.
    pub(crate) outputs: &'static str,
    /// The pre-processing, labels and thresholds that its authors publish, for a model that is known to be of the family.
    pub(crate) published: fn(&Known<'_>) -> ModelSettings,
    /// Whether files of it declare a narrower input than they can take: any multiple of [`stride`](Self::stride) will do.
    pub(crate) opens_input: bool,
    /// Sides of the input must be multiples of this.
    pub(crate) stride: u32,
    /// The decoder for a model of which this is known; `None` for a model of another family. Dimensions that the file
    /// leaves open fit anything.
    pub(crate) bind: fn(&Known<'_>) -> Option<Box<dyn Head>>,
    /// For a model that `bind` refused: that it is of the family nevertheless, and what must be told to use it.
    pub(crate) lacks: Option<fn(&Known<'_>) -> Option<String>>,
}

/// What is known of a model before it has run.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) outputs: &'a [TensorInfo],
    /// Size of the input, where it is the same always.
    pub(crate) input: Option<Size>,
    /// How many classes somebody named.
    pub(crate) classes: Option<usize>,
    /// What somebody says of the scores.
    pub(crate) activation: Option<Activation>,
    /// What somebody says of an SSD's priors.
    pub(crate) priors: Option<&'a Priors>,
    /// Whether somebody said that it is of this family.
    pub(crate) named: bool,
}

/// Turns a model's outputs into candidates. Which rows of them score high enough is found out where the network runs; only those
/// come here.
pub(crate) trait Head: Send {
    /// How many classes it tells apart, where the file says.
    fn classes(&self) -> Option<usize>;

    /// Looks at what blank pictures gave. Remembers what the file left open: how many values a row has, how many rows there are.
    /// For exports of the model that differ from the published one in values alone: refuses them, or remembers what they are
    /// and says so in the log. Whether the shapes are those of [`groups`](Self::groups) is not its business.
    ///
    /// # Errors
    /// A sentence that says what the values are instead.
    fn check_blank(&mut self, outputs: &[Tensor], input: Size) -> Result<(), String> {
        let _ = (outputs, input);
        Ok(())
    }

    /// The rows of the outputs for an input of this size: in which shapes they must come, what a row's score is, and which of its
    /// numbers [`decode`](Self::decode) needs.
    fn groups(&self, input: Size) -> Vec<RowGroup>;

    /// Adds what the rows of one entry say, of which there are as many groups as [`groups`](Self::groups) has, in pixels of the
    /// network's input, which has the size `input`.
    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates);
}

/// A box before boxes of the same thing were merged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) class: usize,
    pub(crate) score: f32,
    pub(crate) bbox: BBox,
    /// Where its keypoints are in [`Candidates::keypoints`].
    pub(crate) keypoints: Option<usize>,
}

/// What was decoded from one entry.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    pub(crate) items: Vec<Candidate>,
    pub(crate) keypoints: Vec<[Keypoint; FACE_POINTS]>,
}

/// Eyes, nose and corners of the mouth: right eye first, as seen in the picture left to right.
pub(crate) const FACE_POINTS: usize = 5;

impl Candidates {
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.keypoints.clear();
    }

    fn push(&mut self, class: usize, score: f32, bbox: BBox) {
        self.items.push(Candidate { class, score, bbox, keypoints: None });
    }

    fn push_with_keypoints(&mut self, class: usize, score: f32, bbox: BBox, keypoints: [Keypoint; FACE_POINTS]) {
        self.keypoints.push(keypoints);
        self.items.push(Candidate { class, score, bbox, keypoints: Some(self.keypoints.len() - 1) });
    }
}

/// The families that a model may be of. Names of classes tell between families that read the same shape as different
/// numbers of classes; where they fit none, they are what is wrong, and not the model.
pub(crate) fn candidates(known: &Known<'_>) -> Vec<&'static Family> {
    let bound: Vec<_> = FAMILIES.into_iter().filter_map(|family| Some((family, (family.bind)(known)?))).collect();
    let named =
        |head: &dyn Head| known.classes.is_none() || head.classes().is_none() || head.classes() == known.classes;
    let any_named = bound.iter().any(|(_, head)| named(&**head));
    bound.into_iter().filter(|(_, head)| !any_named || named(&**head)).map(|(family, _)| family).collect()
}

/// What must be told of a model that is of a family, but can't be used as it is.
pub(crate) fn lacking(known: &Known<'_>) -> Option<String> {
    FAMILIES.into_iter().find_map(|family| family.lacks?(known))
}

/// The settings that all published ones start from.
fn published(resize: ResizeMode, labels: &[&str]) -> ModelSettings {
    ModelSettings { resize: Some(resize), labels: Some(labels.into()), ..ModelSettings::plain() }
}

/// Whether the cells of an output of cells×values may be those of `strides`, `boxes` to a cell, where the input may be open.
/// Whoever says how many cells there are says how many values each has; with a fixed number of cells an open input is one
/// that nobody declared, and some size must have as many.
fn cells_fit(known: &Known<'_>, [cells, values]: [Option<usize>; 2], strides: &[u32], boxes: usize) -> bool {
    let largest = strides.iter().copied().max().unwrap_or(1);
    match (known.input, cells) {
        (Some(input), _) => fits(cells, boxes * Grids::new(input, strides).count()),
        (None, Some(cells)) => {
            let least = boxes * Grids::new(Size::new(largest, largest), strides).count();
            values.is_some() && cells % least == 0
        }
        (None, None) => true,
    }
}

/// The last `N` dimensions of an output of `rank`, each the size or `None` where it is open. An output of unknown shape has
/// every dimension open; one of another rank is `None`.
fn last_dims<const N: usize>(info: &TensorInfo, rank: usize) -> Option<[Option<usize>; N]> {
    let Some(shape) = &info.shape else { return Some([None; N]) };
    if shape.len() != rank || N > rank {
        return None;
    }
    let mut dims = [None; N];
    for (dim, found) in dims.iter_mut().zip(&shape[rank - N..]) {
        *dim = Dim::fixed(found);
    }
    Some(dims)
}

/// Whether a dimension may be `expected`.
fn fits(dim: Option<usize>, expected: usize) -> bool {
    dim.is_none_or(|n| n == expected)
}

/// Whether boxes that should be in pixels are relative to the picture: some are there, and none of these edges lies farther
/// from the origin than a picture's own by half.
fn are_relative(mut edges: impl Iterator<Item = f32>) -> bool {
    let farthest = edges.try_fold(0f32, |farthest, edge| edge.is_finite().then(|| farthest.max(edge.abs())));
    farthest.is_some_and(|farthest| farthest > 0.0 && farthest <= 1.5)
}

/// The values of an output for the first of blank pictures; none where there is no such output.
fn first_entry(outputs: &[Tensor], index: usize) -> &[f32] {
    outputs.get(index).and_then(|output| output.outer(0)).unwrap_or_default()
}

/// How many values the rows of the only output have: as the file says, else as this dimension of what blank pictures gave.
///
/// # Errors
/// A sentence: there are none behind the `before` that come before the classes.
fn width(said: Option<usize>, outputs: &[Tensor], dimension: usize, before: usize) -> Result<usize, String> {
    let width = said.or(dim(outputs, 0, dimension)).filter(|&width| width > before);
    width.ok_or_else(|| "the output has no classes".into())
}

/// The size of an output's dimension, where it has that.
fn dim(outputs: &[Tensor], index: usize, dimension: usize) -> Option<usize> {
    outputs.get(index)?.shape().get(dimension).copied()
}

#[cfg(test)]
pub(crate) mod tests {
    use nv_infer::testing::select_rows;
    use nv_infer::{ElementType, RowSelection};

    use super::*;

    /// An output of these dimensions; 0 for an open one.
    pub(crate) fn output(name: &str, dims: &[usize]) -> TensorInfo {
        let dim = |&n: &usize| if n == 0 { Dim::Symbolic("n".into()) } else { Dim::Fixed(n) };
        TensorInfo { name: name.into(), element: ElementType::Float, shape: Some(dims.iter().map(dim).collect()) }
    }

    /// What the shapes of outputs alone say.
    pub(crate) fn known(outputs: &[TensorInfo], input: Option<Size>) -> Known<'_> {
        Known { outputs, input, classes: None, activation: None, priors: None, named: false }
    }

    /// Decodes one entry with a head that these outputs' shapes are bound to.
    pub(crate) fn decode(family: &Family, outputs: &[Tensor], input: Size, threshold: f32) -> Candidates {
        let infos: Vec<_> = outputs.iter().map(|t| output("o", t.shape())).collect();
        let head = (family.bind)(&known(&infos, Some(input))).expect("these shapes are the family's");
        decode_with(&*head, outputs, input, threshold)
    }

    pub(crate) fn decode_with(head: &dyn Head, outputs: &[Tensor], input: Size, threshold: f32) -> Candidates {
        let selection = RowSelection { groups: head.groups(input), threshold };
        let rows = select_rows(outputs, &selection).unwrap();
        let mut found = Candidates::default();
        head.decode(&rows[0], input, &mut found);
        found
    }

    pub(crate) fn assert_box(found: &BBox, expected: [f32; 4]) {
        for (a, b) in <[f32; 4]>::from(*found).into_iter().zip(expected) {
            assert!((a - b).abs() < 1e-3, "{found:?} for {expected:?}");
        }
    }

    #[test]
    fn models_are_recognised_by_their_shapes() {
        fn check(outputs: &[&[usize]], input: Option<(u32, u32)>, expected: &[&str]) {
            let infos: Vec<_> = outputs.iter().map(|dims| output("o", dims)).collect();
            let found = candidates(&known(&infos, input.map(|(w, h)| Size::new(w, h))));
            assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), expected, "{outputs:?}");
        }
        let square = Some((416, 416));
        let large = Some((640, 640));
        check(&[&[1, 3549, 85]], square, &["yolox"]);
        check(&[&[0, 3549, 6]], square, &["yolox"]);
        // Three boxes a cell; with a fourth stride; transposed.
        check(&[&[1, 25_200, 85]], large, &["yolov5"]);
        check(&[&[1, 102_000, 85]], Some((1280, 1280)), &["yolov5"]);
        check(&[&[1, 84, 8400]], large, &["yolov8"]);
        check(&[&[1, 5, 8400]], large, &["yolov8"]);
        check(&[&[1, 144, 80, 80], &[1, 144, 40, 40], &[1, 144, 20, 20]], large, &["yolov8"]);
        check(&[&[1, 255, 80, 80], &[1, 255, 40, 40], &[1, 255, 20, 20]], large, &[]);
        let apart: Vec<&[usize]> = vec![
            &[1, 64, 80, 80],
            &[1, 7, 80, 80],
            &[1, 64, 40, 40],
            &[1, 7, 40, 40],
            &[1, 64, 20, 20],
            &[1, 7, 20, 20],
        ];
        check(&apart, large, &["yolov8"]);
        // NanoDet-Plus has the cells of a fourth stride; its predecessor those of YOLOX.
        check(&[&[1, 3598, 112]], square, &["nanodet"]);
        check(&[&[1, 2125, 33]], Some((320, 320)), &["nanodet"]);
        check(&[&[1, 2100, 112]], Some((320, 320)), &["yolox", "nanodet"]);
        check(&[&[1, 2100, 85]], Some((320, 320)), &["yolox"]);
        let split: Vec<&[usize]> =
            vec![&[1, 1600, 80], &[1, 400, 80], &[1, 100, 80], &[1, 1600, 32], &[1, 400, 32], &[1, 100, 32]];
        check(&split, Some((320, 320)), &["nanodet"]);
        check(&[&[1, 85, 22, 22]], Some((352, 352)), &["fastestdet"]);
        check(&[&[1, 125, 13, 13]], square, &[]);
        check(&[&[1, 4420, 2], &[1, 4420, 4]], Some((320, 240)), &["ultraface"]);
        check(&[&[1, 4420, 4], &[1, 4420, 2]], Some((320, 240)), &["ultraface"]);
        check(&[&[1, 3000, 21], &[1, 3000, 4]], Some((300, 300)), &["ssd"]);
        check(&[&[1, 1917, 4], &[1, 1917, 91]], Some((300, 300)), &["ssd"]);
        check(&[&[1, 8732, 4], &[1, 8732, 12]], Some((300, 300)), &[]);
        check(&[&[1, 80, 128, 128], &[1, 2, 128, 128], &[1, 2, 128, 128]], Some((512, 512)), &["centernet"]);
        let yunet: Vec<&[usize]> = [1, 1, 1, 1, 1, 1, 4, 4, 4, 10, 10, 10]
            .map(|n| match n {
                1 => &[0, 0, 1][..],
                4 => &[0, 0, 4],
                _ => &[0, 0, 10],
            })
            .to_vec();
        check(&yunet, None, &["yunet"]);
        check(&[&[10, 1, 8, 8], &[10, 2, 8, 8], &[10, 2, 8, 8], &[10, 10, 8, 8]], Some((32, 32)), &["centerface"]);
        // Of any size: whose cells are open has its values last. Which of those it is, can't be seen.
        check(&[&[1, 84, 0]], None, &["yolov8"]);
        check(&[&[1, 0, 85]], None, &["yolox", "yolov5", "nanodet"]);
        check(&[&[1, 21, 85]], None, &["yolox"]);
        check(&[&[1, 84, 0]], large, &["yolov8"]);
        // A classifier, a re-identification network, and one that says nothing of itself.
        check(&[&[1, 1000]], Some((224, 224)), &[]);
        check(&[&[1, 256]], Some((128, 256)), &[]);
        check(&[], None, &[]);
        let unknown = TensorInfo { name: "o".into(), element: ElementType::Float, shape: None };
        let found = candidates(&known(&[unknown], None));
        let names: Vec<_> = found.iter().map(|f| f.name).collect();
        assert_eq!(names, ["yolox", "yolov5", "yolov8", "nanodet", "fastestdet"], "an ambiguous shape");
    }

    #[test]
    fn names_of_classes_tell_families_apart() {
        fn check(dims: &[usize], classes: usize, expected: &[&str]) {
            let infos = [output("o", dims)];
            let known = Known { classes: Some(classes), ..known(&infos, Some(Size::new(320, 320))) };
            assert_eq!(candidates(&known).iter().map(|f| f.name).collect::<Vec<_>>(), expected, "{classes}");
        }
        check(&[1, 2100, 112], 80, &["nanodet"]);
        check(&[1, 2100, 112], 107, &["yolox"]);
        check(&[1, 2100, 85], 53, &["nanodet"]);
        // They fit none: it is the names that are wrong.
        check(&[1, 2100, 85], 7, &["yolox"]);
    }

    #[test]
    fn what_the_file_leaves_open_is_taken_from_a_blank_picture() {
        fn check(family: &Family, shape: [usize; 4], size: (u32, u32)) {
            let shape = &shape[..if shape[3] == 0 { 3 } else { 4 }];
            let unknown = [TensorInfo { name: "o".into(), element: ElementType::Float, shape: None }];
            let input = Size::new(size.0, size.1);
            let mut head = (family.bind)(&known(&unknown, None)).expect("it may be of the family");
            let outputs = [Tensor::zeros(shape)];
            head.check_blank(&outputs, input).unwrap();
            let selection = RowSelection { groups: head.groups(input), threshold: 0.5 };
            let rows = select_rows(&outputs, &selection);
            assert!(rows.is_ok_and(|rows| rows[0].iter().all(ScoredRows::is_empty)), "{}", family.name);
        }
        check(&yolox::YOLOX, [1, 42, 9, 0], (64, 32));
        check(&yolov5::YOLOV5, [1, 126, 7, 0], (64, 32));
        check(&yolov5::YOLOV5, [1, 255, 7, 0], (64, 64));
        check(&yolov8::YOLOV8, [1, 9, 42, 0], (64, 32));
        check(&yolov8::YOLOV8, [1, 9, 340, 0], (64, 64));
        check(&fastestdet::FASTESTDET, [1, 9, 2, 4], (64, 32));
    }
}
