use std::cmp::Reverse;
use std::collections::BinaryHeap;

use nv_core::Pts;

use super::Picture;

/// Puts pictures that come in decoding order into display order.
///
/// A picture is given out once no picture that is still to come is shown before it. The container knows that exactly, so
/// nothing is held longer than it must be.
#[derive(Default)]
pub(crate) struct Reorder {
    held: BinaryHeap<Held>,
    last: Option<Pts>,
}

/// H.264 lets a decoder hold 16 frames (`max_dec_frame_buffering`, §E.2.1); one more is being decoded. A stream whose
/// times ask for more is damaged, and shall not take all memory.
const MAX_HELD: usize = 17;

impl Reorder {
    /// Takes a picture that was decoded.
    pub(crate) fn push(&mut self, picture: Picture) {
        self.held.push(Held(picture));
    }

    /// The next picture to show, if it is due: of those still to be decoded the first is shown at `next_pts`, or there is
    /// none.
    ///
    /// Times rise strictly: where the stream repeats one, or a damaged one comes too late, it is moved to a nanosecond
    /// after the last.
    pub(crate) fn pop(&mut self, next_pts: Option<Pts>) -> Option<Picture> {
        let first = self.held.peek()?.0.stamp.pts;
        let due = next_pts.is_none_or(|next| first < next) || self.held.len() > MAX_HELD;
        if !due {
            return None;
        }
        let mut picture = self.held.pop()?.0;
        if let Some(last) = self.last.filter(|&last| picture.stamp.pts <= last) {
            picture.stamp.pts = Pts::from_nanos(last.as_nanos().saturating_add(1));
        }
        self.last = Some(picture.stamp.pts);
        Some(picture)
    }
}

/// Orders by time, earliest first out of a max-heap.
struct Held(Picture);

impl Held {
    fn key(&self) -> Reverse<Pts> {
        Reverse(self.0.stamp.pts)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h264::Stamp;
    use nv_core::Size;
    use proptest::prelude::*;

    fn picture(pts: i64) -> Picture {
        let stamp = Stamp { pts: Pts::from_nanos(pts), suspect: false };
        Picture { stamp, size: Size::new(2, 2), planes: Vec::new() }
    }

    /// Feeds pictures in decoding order and returns the times that come out, and how many were ever held.
    fn run(decoding_order: &[i64]) -> (Vec<i64>, usize) {
        let (mut reorder, mut out, mut held) = (Reorder::default(), Vec::new(), 0);
        for (i, &pts) in decoding_order.iter().enumerate() {
            reorder.push(picture(pts));
            let to_come = decoding_order[i + 1..].iter().copied().min().map(Pts::from_nanos);
            while let Some(picture) = reorder.pop(to_come) {
                out.push(picture.stamp.pts.as_nanos());
            }
            held = held.max(reorder.held.len());
        }
        (out, held)
    }

    #[test]
    fn display_order_with_the_least_delay() {
        assert_eq!(run(&[0, 10, 20, 30]), (vec![0, 10, 20, 30], 0));
        // I P B B P B B: only the P waits.
        assert_eq!(run(&[0, 30, 10, 20, 60, 40, 50]), (vec![0, 10, 20, 30, 40, 50, 60], 1));
        // A pyramid.
        assert_eq!(run(&[0, 40, 20, 10, 30]), (vec![0, 10, 20, 30, 40], 2));
    }

    #[test]
    fn repeated_times_are_moved_apart() {
        assert_eq!(run(&[0, 10, 10, 10, 11]).0, [0, 10, 11, 12, 13]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_held_beyond_the_bound_or_out_of_order(order in prop::collection::vec(-50i64..50, 0..200)) {
            let (out, held) = run(&order);
            prop_assert_eq!(out.len(), order.len());
            prop_assert!(held <= MAX_HELD);
            prop_assert!(out.is_sorted_by(|a, b| a < b));
        }
    }
}
