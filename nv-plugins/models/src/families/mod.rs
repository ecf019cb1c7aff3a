//! Families of detectors: what their outputs look like, how these become boxes, and what pre-processing their authors
//! publish. A family is recognised by the shapes of its outputs, or named in config.

mod centerface;
mod fastestdet;
mod ultraface;
mod yolox;
mod yunet;

use nv_infer::{Dim, TensorInfo};
use nv_plugin_sdk::{BBox, Keypoint, Size, Tensor};

use crate::settings::{ModelSettings, ResizeMode};

/// Every family, in the order in which they are listed to people.
pub(crate) static FAMILIES: [&Family; 5] =
    [&yolox::YOLOX, &fastestdet::FASTESTDET, &ultraface::ULTRAFACE, &yunet::YUNET, &centerface::CENTERFACE];

/// A family of detectors.
pub(crate) struct Family {
    /// Its name in config.
    pub(crate) name: &'static str,
    /// What its outputs look like, for people.
    pub(crate) outputs: &'static str,
    /// The pre-processing, labels and thresholds that its authors publish.
    pub(crate) published: fn() -> ModelSettings,
    /// Whether files of it declare a narrower input than they can take: any multiple of [`stride`](Self::stride) will do.
    pub(crate) opens_input: bool,
    /// Sides of the input must be multiples of this.
    pub(crate) stride: u32,
    /// The decoder for a model of these outputs and, where it is fixed, this size of input; `None` for a model of
    /// another family. Dimensions that the file leaves open fit anything.
    pub(crate) bind: Bind,
}

type Bind = fn(&[TensorInfo], Option<Size>) -> Option<Box<dyn Head>>;

/// Turns a model's outputs into candidates.
pub(crate) trait Head: Send {
    /// How many classes it tells apart, where the file says.
    fn classes(&self) -> Option<usize>;

    /// Looks at what a blank picture gave, for exports of the model that differ from the published one in values alone.
    ///
    /// # Errors
    /// A sentence that says what the values are instead.
    fn check_blank(&self, outputs: &[Tensor], input: Size) -> Result<(), String> {
        let _ = (outputs, input);
        Ok(())
    }

    /// Adds what entry `entry` of the batch has with a score of at least `threshold`, in pixels of the network's input,
    /// which has the size `input`.
    ///
    /// # Errors
    /// A sentence that names the output that does not have the shape it must have.
    fn decode(
        &self,
        outputs: &[Tensor],
        entry: usize,
        input: Size,
        threshold: f32,
        found: &mut Candidates,
    ) -> Result<(), String>;
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

/// The families that a model with these outputs may be of.
pub(crate) fn candidates(outputs: &[TensorInfo], input: Option<Size>) -> Vec<&'static Family> {
    FAMILIES.into_iter().filter(|family| (family.bind)(outputs, input).is_some()).collect()
}

/// The settings that all published ones start from.
fn published(resize: ResizeMode, labels: &[&str]) -> ModelSettings {
    ModelSettings { resize: Some(resize), labels: Some(labels.into()), ..ModelSettings::plain() }
}

/// The cells of the grids that `strides` lay over an input, one grid after the other, row by row: column, row, stride.
fn grid_cells(input: Size, strides: &[u32]) -> impl Iterator<Item = (f32, f32, f32)> {
    strides.iter().flat_map(move |&stride| {
        let (columns, rows) = (input.width / stride, input.height / stride);
        (0..rows).flat_map(move |y| (0..columns).map(move |x| (x as f32, y as f32, stride as f32)))
    })
}

/// How many cells [`grid_cells`] has.
fn cell_count(input: Size, strides: &[u32]) -> usize {
    strides.iter().map(|&s| (input.width / s) as usize * (input.height / s) as usize).sum()
}

/// Index and value of the greatest score; the first of equals.
fn best(scores: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
    scores.enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best })
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

/// The values of entry `entry`, checked to have the shape `expected` behind the batch.
fn entry_of<'a>(outputs: &'a [Tensor], index: usize, entry: usize, expected: &[usize]) -> Result<&'a [f32], String> {
    let needed = || expected.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let output = outputs.get(index).ok_or_else(|| format!("output {index} of {} is missing", needed()))?;
    match (output.shape(), output.outer(entry)) {
        ([_, shape @ ..], Some(values)) if shape == expected => Ok(values),
        (shape, _) => Err(format!(
            "output {index} has the shape {shape:?}, and {} is needed for each entry of the batch",
            needed()
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use nv_infer::ElementType;

    /// An output of these dimensions; 0 for an open one.
    pub(crate) fn output(name: &str, dims: &[usize]) -> TensorInfo {
        let dim = |&n: &usize| if n == 0 { Dim::Symbolic("n".into()) } else { Dim::Fixed(n) };
        TensorInfo { name: name.into(), element: ElementType::Float, shape: Some(dims.iter().map(dim).collect()) }
    }

    /// Decodes one entry with a head that these outputs' shapes are bound to.
    pub(crate) fn decode(family: &Family, outputs: &[Tensor], input: Size, threshold: f32) -> Candidates {
        let infos: Vec<_> = outputs.iter().map(|t| output("o", t.shape())).collect();
        let head = (family.bind)(&infos, Some(input)).expect("these shapes are the family's");
        let mut found = Candidates::default();
        head.decode(outputs, 0, input, threshold, &mut found).unwrap();
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
            let found = candidates(&infos, input.map(|(w, h)| Size::new(w, h)));
            assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), expected, "{outputs:?}");
        }
        let square = Some((416, 416));
        check(&[&[1, 3549, 85]], square, &["yolox"]);
        check(&[&[0, 3549, 6]], square, &["yolox"]);
        // 25,200 cells are YOLOv5's at 640×640, transposed 84×8400 YOLOv8's.
        check(&[&[1, 25_200, 85]], Some((640, 640)), &[]);
        check(&[&[1, 84, 8400]], Some((640, 640)), &[]);
        check(&[&[1, 85, 22, 22]], Some((352, 352)), &["fastestdet"]);
        check(&[&[1, 125, 13, 13]], square, &[]);
        check(&[&[1, 4420, 2], &[1, 4420, 4]], Some((320, 240)), &["ultraface"]);
        check(&[&[1, 4420, 4], &[1, 4420, 2]], Some((320, 240)), &["ultraface"]);
        check(&[&[1, 3000, 21], &[1, 3000, 4]], Some((300, 300)), &[]);
        let yunet: Vec<&[usize]> = [1, 1, 1, 1, 1, 1, 4, 4, 4, 10, 10, 10]
            .map(|n| match n {
                1 => &[0, 0, 1][..],
                4 => &[0, 0, 4],
                _ => &[0, 0, 10],
            })
            .to_vec();
        check(&yunet, None, &["yunet"]);
        check(&[&[10, 1, 8, 8], &[10, 2, 8, 8], &[10, 2, 8, 8], &[10, 10, 8, 8]], Some((32, 32)), &["centerface"]);
        // A classifier, a re-identification network, and one that says nothing of itself.
        check(&[&[1, 1000]], Some((224, 224)), &[]);
        check(&[&[1, 256]], Some((128, 256)), &[]);
        check(&[], None, &[]);
        let unknown = TensorInfo { name: "o".into(), element: ElementType::Float, shape: None };
        let found = candidates(&[unknown], None);
        assert_eq!(found.iter().map(|f| f.name).collect::<Vec<_>>(), ["yolox", "fastestdet"], "an ambiguous shape");
    }

    #[test]
    fn the_first_of_equal_scores_is_best() {
        assert_eq!(best([0.1, 0.7, 0.7, 0.2].into_iter()), Some((1, 0.7)));
        assert_eq!(best([f32::NAN, 0.5].into_iter()).map(|b| b.0), Some(0));
        assert_eq!(best(std::iter::empty()), None);
    }
}
