use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use super::canvas::{Canvas, Rgb};

/// Letters of one size: Noto Sans Mono in bold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font {
    size: RasterHeight,
    /// How many pixels of the picture one of the font's takes up.
    zoom: i32,
}

impl Font {
    /// The letters for a picture whose shorter side has so many pixels.
    pub(super) fn for_side(side: usize) -> Self {
        let (size, zoom) = match side {
            0..700 => (RasterHeight::Size16, 1),
            700..1000 => (RasterHeight::Size20, 1),
            1000..1400 => (RasterHeight::Size24, 1),
            1400..2600 => (RasterHeight::Size32, 1),
            _ => (RasterHeight::Size32, 2),
        };
        Self { size, zoom }
    }

    pub(super) fn height(self) -> i32 {
        self.size.val() as i32 * self.zoom
    }

    /// Width of a text, in pixels.
    pub(super) fn width(self, text: &str) -> i32 {
        text.chars().count() as i32 * self.advance()
    }

    fn advance(self) -> i32 {
        get_raster_width(FontWeight::Bold, self.size) as i32 * self.zoom
    }

    fn glyph(self, c: char) -> Option<RasterizedChar> {
        // A letter that the font lacks is shown as such, not left out.
        let raster = |c| get_raster(c, FontWeight::Bold, self.size);
        raster(c).or_else(|| raster('¿')).or_else(|| raster('?'))
    }
}

impl Canvas {
    /// Writes `text` with its top-left corner at (`x`, `y`).
    pub(super) fn write(&mut self, x: i32, y: i32, text: &str, font: Font, color: Rgb) {
        for (i, c) in text.chars().enumerate() {
            let Some(glyph) = font.glyph(c) else { continue };
            let left = x + i as i32 * font.advance();
            for (gy, row) in (0i32..).zip(glyph.rows()) {
                for (gx, &cover) in (0i32..).zip(row).filter(|(_, cover)| **cover > 0) {
                    let (px, py) = (left + gx * font.zoom, y + gy * font.zoom);
                    for (dy, dx) in (0..font.zoom).flat_map(|dy| (0..font.zoom).map(move |dx| (dy, dx))) {
                        self.dot(px + dx, py + dy, color, cover);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_grow_with_the_picture_and_stay_in_their_box() {
        let mut heights = Vec::new();
        for side in [240, 576, 720, 1080, 2160, 4320] {
            let font = Font::for_side(side);
            let (width, height) = (font.width("Ågj#7"), font.height());
            let mut canvas = Canvas::default();
            let margin = 3;
            canvas.reset((width + 2 * margin) as usize, (height + 2 * margin) as usize, |_, row| row.fill(0));
            canvas.write(margin, margin, "Ågj#7", font, [255; 3]);
            let stride = canvas.width() * 3;
            let touched = |x: usize, y: usize| canvas.rgb()[y * stride + x * 3] > 0;
            let all = || (0..canvas.height()).flat_map(|y| (0..canvas.width()).map(move |x| (x, y)));
            assert!(all().any(|(x, y)| touched(x, y)));
            let m = margin as usize;
            let inside =
                |x: usize, y: usize| (m..canvas.width() - m).contains(&x) && (m..canvas.height() - m).contains(&y);
            assert!(all().all(|(x, y)| !touched(x, y) || inside(x, y)), "{side}");
            heights.push(height);
        }
        assert_eq!(heights, [16, 16, 20, 24, 32, 64]);
    }

    #[test]
    fn a_letter_that_is_missing_is_shown() {
        let font = Font::for_side(500);
        assert!(font.glyph('車').is_some());
        assert_eq!(font.width("車x"), font.width("ab"));
    }
}
