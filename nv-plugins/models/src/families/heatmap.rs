//! What detectors that see objects as points have in common (Zhou et al. 2019, "Objects as Points"): maps of one grid, a
//! channel a plane, of which one tells how likely each cell is a centre.

use nv_infer::TensorInfo;
use nv_plugin_sdk::Size;

use super::{fits, last_dims};

/// Columns and rows of the grid that `stride` lays over an input.
pub(super) fn grid(input: Size, stride: u32) -> [usize; 2] {
    [input.width, input.height].map(|n| (n / stride) as usize)
}

/// How many channels each of `N` maps of this stride has, where the file says; `None` where they are no such maps.
pub(super) fn channels<const N: usize>(
    outputs: &[TensorInfo],
    input: Option<Size>,
    stride: u32,
) -> Option<[Option<usize>; N]> {
    let mut channels = [None; N];
    if outputs.len() != N {
        return None;
    }
    for (output, channels) in outputs.iter().zip(&mut channels) {
        let [found, rows, columns] = last_dims(output, 4)?;
        *channels = found;
        let fit = |[width, height]: [usize; 2]| fits(columns, width) && fits(rows, height);
        if !input.is_none_or(|input| fit(grid(input, stride))) {
            return None;
        }
    }
    Some(channels)
}

/// Whether no neighbour of a cell, of up to eight, has more: the 3×3 maximum that stands for suppression.
pub(super) fn is_peak(heat: &[f32], columns: usize, cell: usize) -> bool {
    let (column, row) = (cell % columns, cell / columns);
    let rows = heat.len() / columns;
    let (left, right) = (column.saturating_sub(1), (column + 2).min(columns));
    (row.saturating_sub(1)..(row + 2).min(rows))
        .all(|row| heat[row * columns..][left..right].iter().all(|v| *v <= heat[cell]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_has_no_greater_neighbour() {
        #[rustfmt::skip]
        let heat = [
            0.9, 0.1, 0.1, 0.5,
            0.1, 0.8, 0.1, 0.1,
            0.1, 0.1, 0.1, 0.7,
            0.3, 0.3, 0.1, 0.1,
        ];
        let peaks: Vec<_> = (0..16).filter(|&cell| is_peak(&heat, 4, cell)).collect();
        // Equals are peaks both.
        assert_eq!(peaks, [0, 3, 11, 12, 13]);
        assert!(is_peak(&[0.0], 1, 0));
    }
}
