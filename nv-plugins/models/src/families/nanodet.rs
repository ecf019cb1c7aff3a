//! NanoDet and NanoDet-Plus (RangiLyu, <https://github.com/RangiLyu/nanodet>): class scores, and the edges' distances from the
//! cell as distributions. Plus (`nanodet_plus_head.py`, four strides) measures from the corner of a cell, its predecessor
//! (`gfl_head.py`, three strides) from the middle. One output, or in the first versions one of classes and one of distances
//! for each stride. Pre-processing and IoU: `config/nanodet-plus-m_416.yml`, `config/legacy_v0.x_configs/nanodet-m.yml`, and
//! `get_bboxes` of the heads.

use nv_infer::{RowGroup, ScoredRows};
use nv_plugin_sdk::{Point, Size, Tensor};

use super::grid::{Cell, Grids};
use super::rows::{by_rows, columns, scores};
use super::{Candidates, Family, Head, Known, distribution, first_entry, fits, last_dims, published};
use crate::activation::are_scores;
use crate::labels::COCO;
use crate::settings::{ColorOrder, ModelSettings, PerChannel, ResizeMode};

pub(super) static NANODET: Family = Family {
    name: "nanodet",
    outputs: "one output of cells×(classes + 4·(reg_max + 1)) with the cells of strides 8, 16, 32 and, in NanoDet-Plus, 64, or \
              classes×… and 4·(reg_max + 1)×… for each stride",
    published: |_| ModelSettings {
        color_order: Some(ColorOrder::Bgr),
        mean: Some(PerChannel::Three([103.53, 116.28, 123.675])),
        std: Some(PerChannel::Three([57.375, 57.12, 58.395])),
        nms_iou: Some(0.6),
        ..published(ResizeMode::Stretch, &COCO)
    },
    opens_input: false,
    stride: 32,
    bind,
    lacks: None,
};

/// Strides of the predecessor and of Plus, and where in a cell distances begin.
const VERSIONS: [(&[u32], f32); 2] = [(&[8, 16, 32], 0.5), (&[8, 16, 32, 64], 0.0)];
/// Classes of the published models.
const COCO_CLASSES: usize = 80;
/// Values of a distance in most published models (`reg_max` 7), and in those with EfficientNet-Lite or RepVGG (10).
const USUAL_BINS: usize = 8;
const OTHER_BINS: usize = 11;

struct NanoDet {
    strides: &'static [u32],
    /// Where in a cell distances begin, 0 to 1.
    origin: f32,
    classes: usize,
    bins: usize,
    outputs: Outputs,
}

#[derive(Clone, Debug)]
enum Outputs {
    Joint,
    /// For each stride, which has classes and which distances.
    Split(Vec<[usize; 2]>),
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let found = match known.outputs {
        [_] => joint(known),
        _ => split(known),
    };
    found.map(|head| Box::new(head) as Box<dyn Head>)
}

/// How many cells there are.
fn cells(input: Size, strides: &[u32]) -> usize {
    Grids::rounded_up(input, strides).count()
}

fn joint(known: &Known<'_>) -> Option<NanoDet> {
    let [count, width] = last_dims(&known.outputs[0], 3)?;
    let fit = |strides: &[u32]| match (known.input, count) {
        (Some(input), _) => fits(count, cells(input, strides)),
        (None, Some(count)) => width.is_some() && count.is_multiple_of(cells(Size::new(64, 64), strides)),
        (None, None) => true,
    };
    // The one with more strides first: the other is the more general where nothing is known.
    let (strides, origin) = VERSIONS.into_iter().rev().find(|(strides, _)| fit(strides))?;
    let (classes, bins) = match width {
        Some(width) => divide(width, known.classes)?,
        // Nothing at all is known of it.
        None => (known.classes.unwrap_or(COCO_CLASSES), USUAL_BINS),
    };
    // YOLOX has the same cells, and reads any width as its own. Here what tells is the published number of values, or names.
    let told = known.named || known.classes.is_some() || count.is_none() || classes == COCO_CLASSES;
    (told || strides.len() > 3).then_some(NanoDet { strides, origin, classes, bins, outputs: Outputs::Joint })
}

/// How many of a cell's values are classes, and how many a distance.
fn divide(width: usize, named: Option<usize>) -> Option<(usize, usize)> {
    let usual = || {
        let coco = [USUAL_BINS, OTHER_BINS].into_iter().find(|bins| COCO_CLASSES + 4 * bins == width);
        let bins = coco.unwrap_or(USUAL_BINS);
        width.checked_sub(4 * bins).filter(|classes| *classes > 0).map(|classes| (classes, bins))
    };
    match named {
        Some(classes) if width > classes && (width - classes).is_multiple_of(4) && width - classes >= 8 => {
            Some((classes, (width - classes) / 4))
        }
        Some(_) => None,
        None => usual(),
    }
}

fn split(known: &Known<'_>) -> Option<NanoDet> {
    let outputs = known.outputs;
    let (strides, origin) = VERSIONS.into_iter().find(|(strides, _)| outputs.len() == 2 * strides.len())?;
    let named = |i: usize, text: &str| outputs[i].name.contains(text);
    let all: Vec<usize> = (0..outputs.len()).collect();
    let (mut classes, mut distances): (Vec<_>, Vec<_>) = all.iter().partition(|&&i| named(i, "cls"));
    if classes.len() != strides.len() || !distances.iter().all(|&i| named(i, "dis") || named(i, "reg")) {
        // As the head returns them.
        (classes, distances) = all.iter().partition(|&&i| i < strides.len());
    }
    let mut widths = [None, None];
    for ((&stride, &class), &distance) in strides.iter().zip(&classes).zip(&distances) {
        for (i, width) in [class, distance].into_iter().zip(&mut widths) {
            let [count, found] = last_dims(&outputs[i], 3)?;
            let found = found?;
            if known.input.is_some_and(|input| !fits(count, cells(input, &[stride])))
                || found != *width.get_or_insert(found)
            {
                return None;
            }
        }
    }
    let [Some(classes_each), Some(values)] = widths else { return None };
    let fit = values.is_multiple_of(4) && values >= 8;
    let pairs = classes.into_iter().zip(distances).map(|(c, d)| [c, d]).collect();
    fit.then_some(NanoDet { strides, origin, classes: classes_each, bins: values / 4, outputs: Outputs::Split(pairs) })
}

impl NanoDet {
    /// The outputs that have scores, and how many values each has for a cell.
    fn scores(&self) -> Vec<(usize, usize)> {
        match &self.outputs {
            Outputs::Joint => vec![(0, self.classes + 4 * self.bins)],
            Outputs::Split(pairs) => pairs.iter().map(|&[class, _]| (class, self.classes)).collect(),
        }
    }
}

impl Head for NanoDet {
    fn classes(&self) -> Option<usize> {
        Some(self.classes)
    }

    fn check_blank(&mut self, outputs: &[Tensor], _: Size) -> Result<(), String> {
        for (output, width) in self.scores() {
            if !first_entry(outputs, output).chunks_exact(width).all(|cell| are_scores(&cell[..self.classes])) {
                return Err(format!(
                    "its first {} values of a cell are no scores from 0 to 1: another number of classes, or no sigmoid in the graph",
                    self.classes
                ));
            }
        }
        Ok(())
    }

    /// A group of all cells, or one for each stride.
    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let (classes, values) = (self.classes, 4 * self.bins);
        match &self.outputs {
            Outputs::Joint => {
                let rows = cells(input, self.strides);
                vec![RowGroup {
                    rows,
                    outputs: vec![by_rows(0, rows, classes + values)],
                    score: vec![scores(0, 0..classes)],
                    values: vec![columns(0, classes..classes + values)],
                }]
            }
            Outputs::Split(pairs) => {
                let group = |(&stride, &[class, distance]): (&u32, &[usize; 2])| {
                    let rows = cells(input, &[stride]);
                    RowGroup {
                        rows,
                        outputs: vec![by_rows(class, rows, classes), by_rows(distance, rows, values)],
                        score: vec![scores(0, 0..classes)],
                        values: vec![columns(1, 0..values)],
                    }
                };
                self.strides.iter().zip(pairs).map(group).collect()
            }
        }
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let strides = match self.outputs {
            Outputs::Joint => self.strides.chunks(self.strides.len()),
            Outputs::Split(_) => self.strides.chunks(1),
        };
        for (rows, strides) in rows.iter().zip(strides) {
            let grids = Grids::rounded_up(input, strides);
            for (row, values) in rows.iter() {
                let Some(Cell { column, row: line, stride }) = grids.cell(row.index) else { continue };
                let [x, y] = [column, line].map(|n| (n + self.origin) * stride);
                found.push(row.class, row.score, distribution::bbox(Point::new(x, y), stride, values));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode_with, known, output};
    use super::*;

    /// The values of a cell: a score for one of `classes`, and distances to edges.
    fn cell(classes: usize, class: usize, score: f32, distances: [f32; 4], bins: usize) -> [Vec<f32>; 2] {
        let mut scores = vec![0.0; classes];
        scores[class] = score;
        [scores, distances.iter().flat_map(|&d| distribution::encoded(d, bins)).collect()]
    }

    #[test]
    fn known_boxes_come_back() {
        // The stride, and the cell of it in 96×64: for 64 the grid is 2×1, rounded up.
        let check = |version: usize, stride: u32, at: [usize; 2], bins: usize| {
            let (input, classes) = (Size::new(96, 64), 80);
            let (strides, origin) = VERSIONS[version];
            let before: usize = strides.iter().take_while(|s| **s < stride).map(|s| cells(input, &[*s])).sum();
            let index = before + at[1] * input.width.div_ceil(stride) as usize + at[0];
            let distances = [0.5, 1.25, 2.0, 6.5];
            let width = classes + 4 * bins;
            let mut data = vec![0.0; cells(input, strides) * width];
            data[index * width..][..width].copy_from_slice(&cell(classes, 7, 0.8, distances, bins).concat());
            let outputs = [Tensor::new([1, cells(input, strides), width], data).unwrap()];
            let infos = [output("output", outputs[0].shape())];
            let head = bind(&Known { classes: Some(80), ..known(&infos, Some(input)) }).expect("it is of the family");
            let found = decode_with(&*head, &outputs, input, 0.3);
            assert_eq!(found.items.len(), 1);
            assert_eq!((found.items[0].class, found.items[0].score), (7, 0.8));
            let [x, y] = at.map(|n| n as f32 + origin);
            let edges = [x - 0.5, y - 1.25, x + 2.0, y + 6.5].map(|e| e * stride as f32);
            assert_box(&found.items[0].bbox, edges);
        };
        check(0, 8, [0, 0], 8);
        check(0, 32, [2, 1], 11);
        check(1, 8, [11, 7], 8);
        check(1, 16, [3, 2], 8);
        check(1, 64, [1, 0], 8);
    }

    #[test]
    fn classes_and_distances_may_be_apart() {
        let input = Size::new(64, 64);
        let strides = VERSIONS[0].0;
        let mut tensors: Vec<_> = [(5, 0), (32, 1)]
            .into_iter()
            .flat_map(|(width, _)| strides.iter().map(move |&s| Tensor::zeros([1, cells(input, &[s]), width])))
            .collect();
        let [scores, distances] = cell(5, 3, 0.6, [1.0, 1.0, 2.0, 2.0], 8);
        // Stride 16, column 2, row 1 of 4.
        tensors[1].data_mut()[6 * 5..][..5].copy_from_slice(&scores);
        tensors[4].data_mut()[6 * 32..][..32].copy_from_slice(&distances);
        let names: Vec<_> =
            ["cls", "dis"].iter().flat_map(|k| strides.iter().map(move |s| format!("{k}_pred_stride_{s}"))).collect();
        // As the head gives them; and stride by stride, told by their names.
        for order in [[0, 1, 2, 3, 4, 5], [3, 0, 4, 1, 5, 2]] {
            let outputs = order.map(|i| tensors[i].clone());
            let infos = order.map(|i| output(&names[i], tensors[i].shape()));
            let head = bind(&known(&infos, Some(input))).expect("it is of the family");
            let found = decode_with(&*head, &outputs, input, 0.3);
            assert_eq!((found.items.len(), head.classes()), (1, Some(5)));
            assert_eq!((found.items[0].class, found.items[0].score), (3, 0.6));
            assert_box(&found.items[0].bbox, [24.0, 8.0, 72.0, 56.0]);
        }
    }

    #[test]
    fn values_are_divided_by_names_or_as_published() {
        fn check(width: usize, named: Option<usize>, expected: Option<(usize, usize)>) {
            assert_eq!(divide(width, named), expected, "{width} {named:?}");
        }
        check(112, None, Some((80, 8)));
        check(124, None, Some((80, 11)));
        check(33, None, Some((1, 8)));
        check(32, None, None);
        check(45, Some(1), Some((1, 11)));
        check(85, Some(80), None);
        check(85, Some(53), Some((53, 8)));
    }

    #[test]
    fn another_number_of_classes_is_refused_by_what_a_blank_picture_gives() {
        let input = Size::new(64, 64);
        let infos = [output("output", &[1, 85, 112])];
        let mut head = bind(&known(&infos, Some(input))).unwrap();
        let mut data = vec![0.25; 85 * 112];
        assert_eq!(head.check_blank(&[Tensor::new([1, 85, 112], data.clone()).unwrap()], input), Ok(()));
        data[79] = -3.0;
        let error = head.check_blank(&[Tensor::new([1, 85, 112], data).unwrap()], input).unwrap_err();
        assert!(error.contains("first 80 values"), "{error}");
    }
}
