//! The best class of each cell where values lie class by class, as in an output of classes×cells: a cell's scores are then
//! far apart, and looking at one cell after the other would fetch a line of memory for each number.

/// Cells that are looked at together: their best scores stay in the nearest cache while the classes pass by.
const BLOCK: usize = 1024;

/// Calls `found` with each cell whose best class has a value of at least `threshold`, its class and that value, in the order
/// of cells. `planes` has one plane of `cells` values for each class. Values that are not numbers are passed over.
pub(super) fn best_classes(planes: &[f32], cells: usize, threshold: f32, mut found: impl FnMut(usize, usize, f32)) {
    let mut best = [0.0; BLOCK];
    for start in (0..cells).step_by(BLOCK) {
        let best = &mut best[..BLOCK.min(cells - start)];
        best.fill(f32::NEG_INFINITY);
        for plane in planes.chunks_exact(cells) {
            // Without the class's number the compiler makes a vector maximum of it; few cells need the number.
            for (best, &value) in best.iter_mut().zip(&plane[start..]) {
                *best = if value > *best { value } else { *best };
            }
        }
        for (cell, &value) in (start..).zip(&*best).filter(|(_, value)| **value >= threshold) {
            let class = planes[cell..].iter().step_by(cells).position(|v| *v == value);
            // There is none where every value of the cell is no number, or is below all.
            if let Some(class) = class {
                found(cell, class, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(planes: &[f32], cells: usize, threshold: f32) -> Vec<(usize, usize, f32)> {
        let mut all = Vec::new();
        best_classes(planes, cells, threshold, |cell, class, value| all.push((cell, class, value)));
        all
    }

    #[test]
    fn the_first_of_equals_wins_and_no_number_never() {
        assert_eq!(found(&[0.5, 0.1, 0.5, 0.7], 2, 0.3), [(0, 0, 0.5), (1, 1, 0.7)]);
        assert_eq!(found(&[f32::NAN, f32::NAN, 0.4, f32::NAN], 2, f32::NEG_INFINITY), [(0, 1, 0.4)]);
        assert_eq!(found(&[], 2, 0.0), []);
    }

    proptest! {
        #[test]
        fn it_is_the_maximum_of_each_column(
            values in prop::collection::vec(-1f32..1.0, 2500 * 3), cells in 1usize..2500, threshold in -1f32..1.0
        ) {
            let planes = &values[..cells * 3];
            let expected: Vec<_> = (0..cells)
                .filter_map(|cell| {
                    let (class, value) = super::super::best((0..3).map(|class| planes[class * cells + cell]))?;
                    (value >= threshold).then_some((cell, class, value))
                })
                .collect();
            prop_assert_eq!(found(planes, cells, threshold), expected);
        }
    }
}
