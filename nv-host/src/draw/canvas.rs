/// A colour: red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// A part of a picture in whole pixels: from (`x1`, `y1`) up to but not with (`x2`, `y2`). It may reach beyond the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rect {
    pub(crate) x1: i32,
    pub(crate) y1: i32,
    pub(crate) x2: i32,
    pub(crate) y2: i32,
}

impl Rect {
    pub(crate) const fn new(x1: i32, y1: i32, x2: i32, y2: i32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// The rectangle with each side moved outward.
    pub(crate) const fn grown(self, by: i32) -> Self {
        Self::new(self.x1 - by, self.y1 - by, self.x2 + by, self.y2 + by)
    }

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self::new(self.x1.max(other.x1), self.y1.max(other.y1), self.x2.min(other.x2), self.y2.min(other.y2))
    }

    pub(crate) fn area(self) -> i64 {
        i64::from((self.x2 - self.x1).max(0)) * i64::from((self.y2 - self.y1).max(0))
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Solid,
    Dashed,
}

/// An RGB picture to draw on. What falls outside of it is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// Makes it a picture of this size whose rows `fill` writes. Memory is used again.
    pub(super) fn reset(&mut self, width: usize, height: usize, mut fill: impl FnMut(usize, &mut [u8])) {
        (self.width, self.height) = (width, height);
        self.rgb.resize(width * height * 3, 0);
        for (y, row) in self.rgb.chunks_exact_mut((width * 3).max(1)).enumerate() {
            fill(y, row);
        }
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }

    /// The samples, row by row.
    pub(crate) fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The whole picture.
    pub(super) fn bounds(&self) -> Rect {
        let side = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        Rect::new(0, 0, side(self.width), side(self.height))
    }

    /// Lays `color` over a rectangle; `alpha` from 0 (nothing) to 255 (opaque).
    pub(super) fn fill(&mut self, rect: Rect, color: Rgb, alpha: u8) {
        let rect = rect.intersection(self.bounds());
        if rect.area() == 0 {
            return;
        }
        for y in rect.y1..rect.y2 {
            let start = (y as usize * self.width + rect.x1 as usize) * 3;
            let end = start + (rect.x2 - rect.x1) as usize * 3;
            for pixel in self.rgb[start..end].chunks_exact_mut(3) {
                blend(pixel, color, alpha);
            }
        }
    }

    /// Lays `color` over one pixel.
    pub(super) fn dot(&mut self, x: i32, y: i32, color: Rgb, alpha: u8) {
        if x < 0 || y < 0 || x as usize >= self.width || y as usize >= self.height {
            return;
        }
        let at = (y as usize * self.width + x as usize) * 3;
        blend(&mut self.rgb[at..at + 3], color, alpha);
    }

    /// Draws the border of a rectangle, `thickness` pixels inward from its sides.
    pub(super) fn frame(&mut self, rect: Rect, thickness: i32, line: Line, color: Rgb, alpha: u8) {
        let t = thickness.max(1);
        let Rect { x1, y1, x2, y2 } = rect;
        if x2 - x1 <= 2 * t || y2 - y1 <= 2 * t {
            self.fill(rect, color, alpha);
            return;
        }
        let (inner_top, inner_bottom) = (y1 + t, y2 - t);
        for (from, to) in dashes(x1, x2, t, line) {
            self.fill(Rect::new(from, y1, to, inner_top), color, alpha);
            self.fill(Rect::new(from, inner_bottom, to, y2), color, alpha);
        }
        for (from, to) in dashes(inner_top, inner_bottom, t, line) {
            self.fill(Rect::new(x1, from, x1 + t, to), color, alpha);
            self.fill(Rect::new(x2 - t, from, x2, to), color, alpha);
        }
    }

    /// Draws a filled circle.
    pub(super) fn disc(&mut self, x: f32, y: f32, radius: f32, color: Rgb) {
        let reach = radius + 1.0;
        for py in (y - reach).floor() as i32..=(y + reach).ceil() as i32 {
            for px in (x - reach).floor() as i32..=(x + reach).ceil() as i32 {
                let distance = (px as f32 + 0.5 - x).hypot(py as f32 + 0.5 - y);
                let cover = (radius + 0.5 - distance).clamp(0.0, 1.0);
                self.dot(px, py, color, (cover * 255.0) as u8);
            }
        }
    }
}

/// The pieces of a line from `from` to `to`, evenly spread, with a piece at either end.
fn dashes(from: i32, to: i32, thickness: i32, line: Line) -> Vec<(i32, i32)> {
    let length = to - from;
    let dash = (4 * thickness).max(6);
    if line == Line::Solid || length <= 2 * dash {
        return vec![(from, to)];
    }
    // n dashes and n − 1 gaps of about 3/4 of a dash.
    let n = ((length as f32 / dash as f32 + 0.75) / 1.75).round().max(2.0) as i32;
    let period = (length - dash) as f32 / (n - 1) as f32;
    (0..n)
        .map(|i| {
            let start = from + (i as f32 * period).round() as i32;
            (start, (start + dash).min(to))
        })
        .collect()
}

fn blend(pixel: &mut [u8], color: Rgb, alpha: u8) {
    let alpha = u32::from(alpha);
    for (sample, new) in pixel.iter_mut().zip(color) {
        let sum = u32::from(*sample) * (255 - alpha) + u32::from(new) * alpha;
        *sample = ((sum + 127) / 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canvas(width: usize, height: usize) -> Canvas {
        let mut canvas = Canvas::default();
        canvas.reset(width, height, |_, row| row.fill(0));
        canvas
    }

    /// The red samples as text: `#` for 255, `.` for 0.
    fn picture(canvas: &Canvas) -> String {
        let row = |row: &[u8]| row.chunks(3).map(|p| if p[0] == 255 { '#' } else { '.' }).collect::<String>();
        canvas.rgb().chunks(canvas.width() * 3).map(row).collect::<Vec<_>>().join("\n")
    }

    const RED: Rgb = [255, 0, 0];

    #[test]
    fn frames_are_drawn_inward_and_cut_at_the_picture() {
        let mut c = canvas(6, 5);
        c.frame(Rect::new(1, 1, 5, 4), 1, Line::Solid, RED, 255);
        assert_eq!(picture(&c), "......\n.####.\n.#..#.\n.####.\n......");
        let mut c = canvas(4, 3);
        c.frame(Rect::new(-5, -5, 3, 2), 1, Line::Solid, RED, 255);
        assert_eq!(picture(&c), "..#.\n###.\n....");
        let mut c = canvas(3, 3);
        c.frame(Rect::new(1, 1, 2, 2), 4, Line::Solid, RED, 255);
        assert_eq!(picture(&c), "...\n.#.\n...", "too small for a border: filled");
        c.fill(Rect::new(i32::MIN / 4, 0, i32::MAX / 4, 9), RED, 255);
        assert_eq!(picture(&c), "###\n###\n###");
    }

    #[test]
    fn dashes_begin_and_end_a_line() {
        let pieces = dashes(10, 60, 1, Line::Dashed);
        assert!(pieces.len() > 2, "{pieces:?}");
        assert_eq!((pieces[0].0, pieces[pieces.len() - 1].1), (10, 60));
        assert!(pieces.windows(2).all(|pair| pair[0].1 < pair[1].0), "{pieces:?}");
        assert_eq!(dashes(0, 5, 1, Line::Dashed), [(0, 5)]);
        assert_eq!(dashes(0, 500, 1, Line::Solid), [(0, 500)]);
    }

    #[test]
    fn alpha_is_a_share() {
        let mut c = canvas(1, 1);
        c.dot(0, 0, [200, 100, 0], 128);
        assert_eq!(c.rgb(), [100, 50, 0]);
        c.dot(0, 0, [200, 100, 0], 255);
        assert_eq!(c.rgb(), [200, 100, 0]);
        c.dot(-1, 0, RED, 255);
        c.dot(0, 1, RED, 255);
        assert_eq!(c.rgb(), [200, 100, 0]);
    }
}
