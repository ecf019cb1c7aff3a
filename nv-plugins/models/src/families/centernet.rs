//! CenterNet (Zhou et al. 2019, "Objects as Points"), decoded as the authors' `ctdet_decode` does it
//! (<https://github.com/xingyizhou/CenterNet>, `src/lib/models/decode.py`): a heat map for each class, sizes and offsets in cells
//! of a quarter of the input's size. A peak of 3×3 cells is an object; the authors suppress nothing after that. Pre-processing:
//! `pre_process` in `base_detector.py`, mean and deviation in `datasets/dataset/coco.py`.

use nv_infer::{RowGroup, ScoreFactor, ScoredRows, TensorInfo};
use nv_plugin_sdk::{BBox, Point, Size, Tensor, tracing};

use super::grid::grid;
use super::heatmap::{channels, heat, peaks};
use super::rows::{activation, by_planes, columns, scores};
use super::{Candidates, Family, Head, Known, first_entry, fits, published};
use crate::activation::{Activation, are_scores};
use crate::labels::COCO;
use crate::settings::{ColorOrder, ModelSettings, PerChannel, ResizeMode};

pub(super) static CENTERNET: Family = Family {
    name: "centernet",
    outputs: "heat maps classes×rows×columns, sizes 2×… and offsets 2×…, a cell for every 4 pixels",
    published: |_| ModelSettings {
        color_order: Some(ColorOrder::Bgr),
        scale: Some(1.0 / 255.0),
        mean: Some(PerChannel::Three([0.407_896_54, 0.447_193_02, 0.470_261_15])),
        std: Some(PerChannel::Three([0.288_638_3, 0.274_081_64, 0.278_098_35])),
        nms_iou: Some(1.0),
        ..published(ResizeMode::LetterboxCenter, &COCO)
    },
    opens_input: false,
    stride: 32,
    bind,
    lacks: None,
};

const STRIDE: u32 = 4;

struct CenterNet {
    /// Which output is which.
    heat: usize,
    sizes: usize,
    offsets: usize,
    classes: usize,
    /// Whether the sigmoid is still to be taken; `None`: by what a blank picture gives.
    logits: Option<bool>,
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let channels: [_; 3] = channels(known.outputs, known.input, STRIDE)?;
    let [heat, sizes, offsets] = roles(known.outputs);
    let (fit, classes) = (fits(channels[sizes], 2) && fits(channels[offsets], 2), channels[heat]?);
    let logits = known.activation.map(|activation| activation != Activation::None);
    fit.then(|| Box::new(CenterNet { heat, sizes, offsets, classes, logits }) as Box<dyn Head>)
}

/// Which of the three outputs are heat maps, sizes and offsets: by their names, else in the authors' order.
fn roles(outputs: &[TensorInfo]) -> [usize; 3] {
    let named = |texts: [&str; 2]| {
        let mut found = (0..outputs.len()).filter(|&i| texts.iter().any(|t| outputs[i].name.contains(t)));
        found.next().filter(|_| found.next().is_none())
    };
    match (named(["wh", "size"]), named(["reg", "off"])) {
        (Some(sizes), Some(offsets)) if sizes != offsets => [3 - sizes - offsets, sizes, offsets],
        _ => [0, 1, 2],
    }
}

impl Head for CenterNet {
    fn classes(&self) -> Option<usize> {
        Some(self.classes)
    }

    fn check_blank(&mut self, outputs: &[Tensor], _: Size) -> Result<(), String> {
        if self.logits.is_none() {
            let logits = !are_scores(first_entry(outputs, self.heat));
            self.logits = Some(logits);
            tracing::info!(logits, "how the heat map is read, by what a blank picture gives");
        }
        Ok(())
    }

    /// A row for each cell of each class's map. They share the cells of sizes and offsets.
    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let grid = grid(input, STRIDE);
        vec![RowGroup {
            rows: self.classes * grid[0] * grid[1],
            outputs: vec![
                heat(self.heat, self.classes, grid),
                by_planes(self.sizes, 2, grid),
                by_planes(self.offsets, 2, grid),
            ],
            score: vec![ScoreFactor { activation: activation(self.logits.unwrap_or(true)), ..scores(0, 0..1) }],
            values: vec![columns(0, 0..1), columns(1, 0..2), columns(2, 0..2)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let grid = grid(input, STRIDE);
        let [columns, lines] = grid;
        let stride = STRIDE as f32;
        for (row, values) in rows.iter().flat_map(|rows| peaks(rows, grid)) {
            let (class, cell) = (row.index / (columns * lines), row.index % (columns * lines));
            let (size, offset) = (&values[1..3], &values[3..]);
            let [column, line] = [cell % columns, cell / columns].map(|n| n as f32);
            let center = Point::new((column + offset[0]) * stride, (line + offset[1]) * stride);
            found.push(class, row.score, BBox::from_center(center, size[0] * stride, size[1] * stride));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode_with, known, output};
    use super::*;

    const INPUT: Size = Size::new(64, 32);

    #[test]
    fn peaks_are_objects() {
        let check = |order: [usize; 3], names: [&str; 3], logits: bool| {
            let (columns, cells) = (16, 128);
            let empty = if logits { -6.0 } else { 0.0 };
            let mut maps =
                [(3, empty), (2, 0.0), (2, 0.0)].map(|(c, v)| Tensor::new([1, c, 8, 16], vec![v; c * cells]).unwrap());
            let cell = 2 * columns + 5;
            let mut set = |map: usize, channel: usize, cell: usize, value: f32| {
                maps[map].data_mut()[channel * cells + cell] = value;
            };
            let value = |score: f32| if logits { (score / (1.0 - score)).ln() } else { score };
            set(0, 1, cell, value(0.8));
            // Beside it, and less; and the other class at the same place.
            set(0, 1, cell + 1, value(0.7));
            set(0, 2, cell, value(0.6));
            set(1, 0, cell, 4.0);
            set(1, 1, cell, 3.0);
            set(2, 0, cell, 0.5);
            set(2, 1, cell, 0.25);
            let outputs = order.map(|i| maps[i].clone());
            let infos = order.map(|i| output(names[i], maps[i].shape()));
            let mut head = bind(&known(&infos, Some(INPUT))).expect("it is of the family");
            head.check_blank(&outputs, INPUT).unwrap();
            let found = decode_with(&*head, &outputs, INPUT, 0.5);
            assert_eq!(found.items.iter().map(|c| c.class).collect::<Vec<_>>(), [1, 2], "{found:?}");
            assert!((found.items[0].score - 0.8).abs() < 1e-5);
            // Centre 5.5, 2.25 cells of four pixels; 16×12.
            assert_box(&found.items[0].bbox, [14.0, 3.0, 30.0, 15.0]);
        };
        check([0, 1, 2], ["hm", "wh", "reg"], true);
        check([0, 2, 1], ["hm", "wh", "reg"], false);
        check([0, 1, 2], ["a", "b", "c"], true);
    }
}
