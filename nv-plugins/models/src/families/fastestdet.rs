//! FastestDet (dog-qiuqiu, <https://github.com/dog-qiuqiu/FastestDet>): one grid of stride 16, values by channel.

use nv_infer::{RowGroup, ScoreFactor, ScoredRows};
use nv_plugin_sdk::{BBox, Point, Size, Tensor};

use super::grid::grid;
use super::rows::{by_planes, columns, scores};
use super::{Candidates, Family, Head, Known, fits, last_dims, published, width};
use crate::activation::sigmoid;
use crate::labels::COCO;
use crate::settings::{ColorOrder, ModelSettings, ResizeMode};

pub(super) static FASTESTDET: Family = Family {
    name: "fastestdet",
    outputs: "one output of (5 + classes)×rows×columns, a cell for every 16 pixels",
    published: |_| ModelSettings {
        color_order: Some(ColorOrder::Bgr),
        scale: Some(1.0 / 255.0),
        ..published(ResizeMode::Stretch, &COCO)
    },
    opens_input: false,
    stride: 32,
    bind,
    lacks: None,
};

const STRIDE: u32 = 16;
/// Objectness and box come before the classes.
const BEFORE_CLASSES: usize = 5;

struct FastestDet {
    /// Channels, where the file says.
    channels: Option<usize>,
}

fn bind(known: &Known<'_>) -> Option<Box<dyn Head>> {
    let Known { outputs, input, .. } = *known;
    let [output] = outputs else { return None };
    let [channels, rows, columns] = last_dims(output, 4)?;
    let grid_fits = |input: Size| {
        let [width, height] = grid(input, STRIDE);
        fits(columns, width) && fits(rows, height)
    };
    if channels.is_some_and(|n| n <= BEFORE_CLASSES) || !input.is_none_or(grid_fits) {
        return None;
    }
    Some(Box::new(FastestDet { channels }))
}

impl Head for FastestDet {
    fn classes(&self) -> Option<usize> {
        self.channels.map(|n| n - BEFORE_CLASSES)
    }

    fn check_blank(&mut self, outputs: &[Tensor], _: Size) -> Result<(), String> {
        self.channels = Some(width(self.channels, outputs, 1, BEFORE_CLASSES)?);
        Ok(())
    }

    fn groups(&self, input: Size) -> Vec<RowGroup> {
        let (grid, channels) = (grid(input, STRIDE), self.channels.unwrap_or(BEFORE_CLASSES + 1));
        vec![RowGroup {
            rows: grid.iter().product(),
            outputs: vec![by_planes(0, channels, grid)],
            score: vec![
                ScoreFactor { power: 0.6, ..scores(0, 0..1) },
                ScoreFactor { power: 0.4, ..scores(0, BEFORE_CLASSES..channels) },
            ],
            values: vec![columns(0, 1..5)],
        }]
    }

    fn decode(&self, rows: &[ScoredRows], input: Size, found: &mut Candidates) {
        let [columns, lines] = grid(input, STRIDE);
        let (width, height) = (input.width as f32, input.height as f32);
        for (row, values) in rows.iter().flat_map(ScoredRows::iter) {
            let center = Point::new(
                ((row.index % columns) as f32 + values[0].tanh()) / columns as f32 * width,
                ((row.index / columns) as f32 + values[1].tanh()) / lines as f32 * height,
            );
            let size = [values[2], values[3]].map(sigmoid);
            found.push(row.class, row.score, BBox::from_center(center, size[0] * width, size[1] * height));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_box, decode};
    use super::*;

    #[test]
    fn cells_are_decoded_at_their_place() {
        // 64×32: four columns, two rows.
        let input = Size::new(64, 32);
        let mut data = vec![0.0; 7 * 8];
        // Row 1, column 2: there for certain, class 1 of 2, a quarter of the picture's sides.
        let cell = 6;
        let quarter = (0.25f32 / 0.75).ln();
        for (channel, value) in [1.0, 0.5f32.atanh(), -(0.5f32.atanh()), quarter, quarter, 0.1, 0.9].iter().enumerate()
        {
            data[channel * 8 + cell] = *value;
        }
        let outputs = [Tensor::new([1, 7, 2, 4], data).unwrap()];
        let found = decode(&FASTESTDET, &outputs, input, 0.3);
        assert_eq!(found.items.len(), 1);
        assert_eq!(found.items[0].class, 1);
        assert!((found.items[0].score - 0.9f32.powf(0.4)).abs() < 1e-6);
        // Centre (2.5, 0.5) cells of 16 pixels.
        assert_box(&found.items[0].bbox, [32.0, 4.0, 48.0, 12.0]);
        assert!(decode(&FASTESTDET, &outputs, input, 0.96).items.is_empty());
    }
}
