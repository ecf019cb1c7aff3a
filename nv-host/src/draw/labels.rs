use super::canvas::Rect;

/// Finds places for labels: near their boxes, inside the picture, off each other.
#[derive(Debug)]
pub(super) struct LabelPlacer {
    picture: Rect,
    taken: Vec<Rect>,
}

impl LabelPlacer {
    pub(super) fn new(picture: Rect) -> Self {
        Self { picture, taken: Vec::new() }
    }

    /// Keeps labels off this part.
    pub(super) fn take(&mut self, rect: Rect) {
        self.taken.push(rect);
    }

    /// The place for a label of `width` × `height` at the box `at`, and takes it. `None` where every place near the box
    /// would hide most of a label that stands there already.
    pub(super) fn place(&mut self, at: Rect, width: i32, height: i32) -> Option<Rect> {
        let (left, right) = (at.x1, at.x2 - width);
        let candidates = [
            (left, at.y1 - height),
            (right, at.y1 - height),
            (left, at.y2),
            (right, at.y2),
            (left, at.y1),
            (left, at.y2 - height),
            (at.x2, at.y1),
            (at.x1 - width, at.y1),
        ];
        let inside = candidates.iter().enumerate().map(|(rank, &(x, y))| {
            let place = self.moved_inside(x, y, width, height);
            // A place that had to be moved is not quite where one looks for it.
            let moved = (place.x1 - x).abs() + (place.y1 - y).abs();
            (self.covered(place), i64::from(moved), rank, place)
        });
        let area = Rect::new(0, 0, width, height).area();
        let (covered, _, _, place) = inside.min_by_key(|(covered, moved, rank, _)| {
            // Small overlaps are better than far places.
            (*covered * 8 / area.max(1), moved / 8, *rank)
        })?;
        if covered * 2 > area {
            return None;
        }
        self.taken.push(place);
        Some(place)
    }

    fn moved_inside(&self, x: i32, y: i32, width: i32, height: i32) -> Rect {
        let x = x.min(self.picture.x2 - width).max(self.picture.x1);
        let y = y.min(self.picture.y2 - height).max(self.picture.y1);
        Rect::new(x, y, x + width, y + height)
    }

    /// The area that a label here would hide of others.
    fn covered(&self, rect: Rect) -> i64 {
        self.taken.iter().map(|other| rect.intersection(*other).area()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: Rect = Rect::new(0, 0, 640, 480);

    #[test]
    fn above_the_box_where_there_is_room() {
        let mut placer = LabelPlacer::new(PICTURE);
        assert_eq!(placer.place(Rect::new(100, 100, 150, 200), 80, 16), Some(Rect::new(100, 84, 180, 100)));
        // At the top edge: below. At the right edge: aligned with it.
        assert_eq!(placer.place(Rect::new(300, 0, 350, 100), 80, 16), Some(Rect::new(300, 100, 380, 116)));
        assert_eq!(placer.place(Rect::new(600, 200, 640, 300), 80, 16), Some(Rect::new(560, 184, 640, 200)));
        // A box that fills the picture: inside of it.
        let full = LabelPlacer::new(PICTURE).place(PICTURE, 80, 16);
        assert_eq!(full, Some(Rect::new(0, 0, 80, 16)));
    }

    #[test]
    fn labels_keep_off_each_other() {
        let mut placer = LabelPlacer::new(PICTURE);
        let at = Rect::new(200, 200, 250, 300);
        let mut places = Vec::new();
        while let Some(place) = placer.place(at, 80, 16) {
            assert!(places.iter().all(|other: &Rect| place.intersection(*other).area() * 2 <= place.area()));
            places.push(place);
            assert!(places.len() < 20);
        }
        assert!(places.len() >= 4, "{places:?}");
    }
}
