//! Non-maximum suppression: of several boxes of one thing, the best.

use crate::families::{Candidate, Candidates};

/// At most so many candidates, the best, are compared with each other. A model that works has some hundreds at the lowest
/// useful threshold; one that does not must not take seconds a frame.
const MAX_CANDIDATES: usize = 4096;

/// Leaves in `found.items` the boxes that survive greedy suppression within their class, the best first, at most `limit`.
///
/// From the best score down, a box is kept if it overlaps no kept box of its class by an IoU above `iou`. Equal scores
/// stand in the order in which they were found, so that the result does not depend on luck.
pub(crate) fn suppress(found: &mut Candidates, iou: f32, limit: usize) {
    let items = &mut found.items;
    // A stable sort; scores are numbers, they passed a threshold.
    items.sort_by(|a, b| b.score.total_cmp(&a.score));
    items.truncate(MAX_CANDIDATES);
    let mut kept = 0;
    for i in 0..items.len() {
        if kept == limit {
            break;
        }
        let item = items[i];
        let covers = |better: &Candidate| better.class == item.class && better.bbox.iou(&item.bbox) > iou;
        if !items[..kept].iter().any(covers) {
            items[kept] = item;
            kept += 1;
        }
    }
    items.truncate(kept);
}

#[cfg(test)]
mod tests {
    use nv_plugin_sdk::BBox;
    use proptest::prelude::*;

    use super::*;

    fn candidates(items: &[(usize, f32, [f32; 4])]) -> Candidates {
        let items = items
            .iter()
            .map(|&(class, score, bbox)| Candidate { class, score, bbox: BBox::from(bbox), keypoints: None })
            .collect();
        Candidates { items, keypoints: Vec::new() }
    }

    #[test]
    fn the_best_of_each_class_and_place_remain() {
        fn check(items: &[(usize, f32, [f32; 4])], limit: usize, expected: &[(usize, f32)]) {
            let mut found = candidates(items);
            suppress(&mut found, 0.45, limit);
            let found: Vec<_> = found.items.iter().map(|c| (c.class, c.score)).collect();
            assert_eq!(found, expected);
        }
        let (a, near_a, b) = ([0., 0., 10., 10.], [1., 0., 11., 10.], [50., 50., 60., 60.]);
        check(&[(0, 0.5, a), (0, 0.9, near_a), (0, 0.7, b)], 9, &[(0, 0.9), (0, 0.7)]);
        check(&[(0, 0.5, a), (1, 0.9, near_a)], 9, &[(1, 0.9), (0, 0.5)]);
        check(&[(0, 0.5, a), (0, 0.5, near_a)], 9, &[(0, 0.5)]);
        check(&[(0, 0.5, a), (0, 0.7, b)], 1, &[(0, 0.7)]);
        // An overlap of exactly the limit is none too many: 10 of 20 and 9 of 20.
        check(&[(0, 0.9, [0., 0., 20., 1.]), (0, 0.8, [11., 0., 20., 1.])], 9, &[(0, 0.9), (0, 0.8)]);
        check(&[(0, 0.9, [0., 0., 20., 1.]), (0, 0.8, [10., 0., 20., 1.])], 9, &[(0, 0.9)]);
        check(&[], 9, &[]);
    }

    #[test]
    fn the_first_of_equals_wins() {
        let mut found = candidates(&[(3, 0.5, [0., 0., 10., 10.]), (3, 0.5, [0., 0., 10., 9.])]);
        suppress(&mut found, 0.45, 9);
        assert_eq!(found.items[0].bbox.y2, 10.0);
    }

    proptest! {
        #[test]
        fn survivors_do_not_overlap_and_cover_the_rest(
            boxes in prop::collection::vec((0usize..2, 0.1f32..1.0, 0f32..50.0, 0f32..50.0, 1f32..30.0), 0..40)
        ) {
            let all: Vec<_> = boxes.iter().map(|&(c, s, x, y, side)| (c, s, [x, y, x + side, y + side])).collect();
            let mut found = candidates(&all);
            suppress(&mut found, 0.45, usize::MAX);
            let kept = found.items;
            for (i, a) in kept.iter().enumerate() {
                for b in &kept[..i] {
                    prop_assert!(b.score >= a.score);
                    prop_assert!(a.class != b.class || a.bbox.iou(&b.bbox) <= 0.45);
                }
            }
            for c in candidates(&all).items {
                let covered = |k: &Candidate| *k == c
                    || k.class == c.class && k.score >= c.score && k.bbox.iou(&c.bbox) > 0.45;
                prop_assert!(kept.iter().any(covered));
            }
        }
    }
}
