//! Grids that strides lay over a network's input.

use nv_plugin_sdk::Size;

/// The cells of a grid for each stride, one grid after the other, each row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grids<'a> {
    input: Size,
    strides: &'a [u32],
    /// Whether what is left at the right and below is a cell as well.
    rounded_up: bool,
}

/// A cell and its place in its grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) column: f32,
    pub(super) row: f32,
    pub(super) stride: f32,
}

impl<'a> Grids<'a> {
    /// Of whole cells.
    pub(super) fn new(input: Size, strides: &'a [u32]) -> Self {
        Self { input, strides, rounded_up: false }
    }

    /// Of as many cells as cover the input.
    pub(super) fn rounded_up(input: Size, strides: &'a [u32]) -> Self {
        Self { input, strides, rounded_up: true }
    }

    /// How many cells they have.
    pub(super) fn count(&self) -> usize {
        self.strides.iter().map(|&stride| self.grid(stride).iter().product::<usize>()).sum()
    }

    /// The cell with this number; `None` behind the last.
    pub(super) fn cell(&self, index: usize) -> Option<Cell> {
        let mut rest = index;
        for &stride in self.strides {
            let [columns, rows] = self.grid(stride);
            if rest < columns * rows {
                let [column, row] = [rest % columns, rest / columns].map(|n| n as f32);
                return Some(Cell { column, row, stride: stride as f32 });
            }
            rest -= columns * rows;
        }
        None
    }

    fn grid(&self, stride: u32) -> [usize; 2] {
        let Size { width, height } = self.input;
        [width, height].map(|n| if self.rounded_up { n.div_ceil(stride) } else { n / stride } as usize)
    }
}

/// Columns and rows of the grid of whole cells that a stride lays over an input.
pub(super) fn grid(input: Size, stride: u32) -> [usize; 2] {
    Grids::new(input, &[]).grid(stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_grid_by_grid_and_row_by_row() {
        let check = |grids: Grids<'_>, expected: &[(usize, [f32; 3])], count: usize| {
            assert_eq!((grids.count(), grids.cell(count)), (count, None), "{grids:?}");
            for &(index, [column, row, stride]) in expected {
                assert_eq!(grids.cell(index), Some(Cell { column, row, stride }), "{grids:?} {index}");
            }
        };
        let input = Size::new(64, 40);
        let whole = [(0, [0.0, 0.0, 8.0]), (15, [7.0, 1.0, 8.0]), (40, [0.0, 0.0, 16.0]), (47, [3.0, 1.0, 16.0])];
        check(Grids::new(input, &[8, 16]), &whole, 48);
        check(Grids::rounded_up(input, &[16, 64]), &[(11, [3.0, 2.0, 16.0]), (12, [0.0, 0.0, 64.0])], 13);
        assert_eq!(grid(input, 16), [4, 2]);
    }
}
