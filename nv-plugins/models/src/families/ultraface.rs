//! UltraFace (Linzaer, "Ultra-Light-Fast-Generic-Face-Detector-1MB"): box decoding is inside the graph.

use nv_infer::{RowGroup, ScoredRows};
use nv_plugin_sdk::{BBox, Size};

use super::grid::Grids;
use super::rows::{by_rows, columns, scores};
use super::{Candidates, Family, Head, Known, fits, last_dims, published};
use crate::settings::{ColorOrder, ModelSettings, PerChannel, ResizeMode};

pub(super) static ULTRAFACE: Family = Family {
    name: "ultraface",
    outputs: "scores of boxes×2 and boxes×4, relative to the picture",
    published: |_| ModelSettings {
        color_order: Some(ColorOrder::Rgb),
        mean: Some(PerChannel::One(127.0)),
        std: Some(PerChannel::One(128.0)),
        ..published(ResizeMode::Stretch, &["face"])
    },
    opens_input: false,
    stride: 1,
    bind,
    lacks: None,
};

/// Boxes at each cell of strides 8, 16, 32 and 64.
const ANCHORS: [(u32, usize); 4] = [(8, 3), (16, 2), (32, 2), (64, 3)];

struct UltraFace {
    scores: usize,
    boxes: usize,
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let Known { outputs, input, .. } = *known;
    let [first, second] = outputs else { return None };
    let dims = [last_dims::<2>(first, 3)?, last_dims::<2>(second, 3)?];
    let (scores, boxes) = if fits(dims[0][1], 2) && fits(dims[1][1], 4) {
        (0, 1)
    } else if fits(dims[0][1], 4) && fits(dims[1][1], 2) {
        (1, 0)
    } else {
        return None;
    };
    let count_fits = |input: Size| dims.iter().all(|d| fits(d[0], box_count(input)));
    input.is_none_or(count_fits).then(|| Box::new(UltraFace { scores, boxes }) as Box<dyn Head>)
}

fn box_count(input: Size) -> usize {
    ANCHORS.iter().map(|&(stride, boxes)| Grids::rounded_up(input, &[stride]).count() * boxes).sum()
}

impl Head for UltraFace {
    fn classes(&self) -> Option<usize> {
        Some(1)
    }

    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let rows = box_count(input);
        vec![RowGroup {
            rows,
            outputs: vec![by_rows(self.scores, rows, 2), by_rows(self.boxes, rows, 4)],
            // Background, then face.
            score: vec![scores(0, 1..2)],
            values: vec![columns(1, 0..4)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let (width, height) = (input.width as f32, input.height as f32);
        for (row, b) in rows.iter().flat_map(ScoredRows::iter) {
            found.push(0, row.score, BBox::new(b[0] * width, b[1] * height, b[2] * width, b[3] * height));
        }
    }
}

#[cfg(test)]
mod tests {
    use nv_plugin_sdk::Tensor;

    use super::super::tests::{assert_box, decode};
    use super::*;

    #[test]
    fn boxes_are_relative_to_the_picture() {
        let input = Size::new(320, 240);
        assert_eq!(box_count(input), 4420);
        assert_eq!(box_count(Size::new(640, 480)), 17_640);
        let (mut scores, mut boxes) = (vec![0.0; 4420 * 2], vec![0.0; 4420 * 4]);
        scores[2 * 7..][..2].copy_from_slice(&[0.2, 0.8]);
        scores[2 * 9..][..2].copy_from_slice(&[0.9, 0.1]);
        boxes[4 * 7..][..4].copy_from_slice(&[0.25, 0.5, 0.5, 1.0]);
        let outputs = [Tensor::new([1, 4420, 2], scores).unwrap(), Tensor::new([1, 4420, 4], boxes).unwrap()];
        let found = decode(&ULTRAFACE, &outputs, input, 0.5);
        assert_eq!(found.items.len(), 1);
        assert_eq!((found.items[0].class, found.items[0].score), (0, 0.8));
        assert_box(&found.items[0].bbox, [80.0, 120.0, 160.0, 240.0]);
        let turned: Vec<_> = outputs.iter().rev().cloned().collect();
        assert_eq!(decode(&ULTRAFACE, &turned, input, 0.5).items, found.items);
    }
}
