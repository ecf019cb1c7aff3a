use std::collections::HashSet;

use nv_core::BBox;
use nv_perception::{Object, Output, Track, TrackState};

use super::canvas::{Canvas, Line, Rect, Rgb};
use super::color::{self, BLACK, GREY, INK, WHITE};
use super::labels::LabelPlacer;
use super::text::Font;

/// Draws what was found in a frame over its picture.
///
/// A confirmed track has a solid box in the colour of its id, a coasted one a dashed box, a tentative one a thin box.
/// Objects that no track follows are grey; where nothing tracks, they have the colour of their class.
pub(crate) fn draw(canvas: &mut Canvas, output: &Output) {
    let side = canvas.width().min(canvas.height());
    let style = Style { font: Font::for_side(side), thickness: ((side as f32 / 300.0).round() as i32).max(2) };
    let mut marks = marks(output);
    // What is nearer to the camera stands lower in the picture: it goes on top.
    marks.sort_by(|a, b| (a.rank, a.bbox.y2).partial_cmp(&(b.rank, b.bbox.y2)).unwrap_or(std::cmp::Ordering::Equal));
    for mark in &marks {
        mark.draw_box(canvas, &style);
    }
    draw_keypoints(canvas, output, &style);
    let mut placer = LabelPlacer::new(canvas.bounds());
    placer.take(draw_caption(canvas, output, style.font));
    // The surest and nearest choose their places first.
    for mark in marks.iter().rev() {
        mark.draw_label(canvas, &style, &mut placer);
    }
}

struct Style {
    font: Font,
    thickness: i32,
}

/// A box to be drawn, with its label.
struct Mark {
    bbox: BBox,
    color: Rgb,
    line: Line,
    thin: bool,
    /// What it says, the full text first, shorter ones for where there is no room.
    texts: Vec<String>,
    /// Higher ones go on top.
    rank: u8,
}

fn marks(output: &Output) -> Vec<Mark> {
    let perception = &output.perception;
    let mut marks = Vec::new();
    let mut followed = HashSet::new();
    for track in perception.tracks() {
        followed.extend(track.object);
        marks.extend(track_mark(track));
    }
    let untracked = perception.objects().iter().filter(|object| !followed.contains(&object.id));
    marks.extend(untracked.map(|object| object_mark(object, perception.has_tracks())));
    marks
}

fn track_mark(track: &Track) -> Option<Mark> {
    let id = track.id.0;
    let class = class_text(track.class.as_deref(), track.class_id);
    let score = percent(track.score);
    let (line, thin, texts, rank) = match track.state {
        TrackState::Confirmed => {
            (Line::Solid, false, vec![format!("{class} #{id} {score}"), format!("{class} #{id}"), format!("#{id}")], 3)
        }
        TrackState::Coasted => (Line::Dashed, false, vec![format!("{class} #{id}"), format!("#{id}")], 1),
        TrackState::Tentative => (Line::Solid, true, vec![format!("{class} {score}"), score], 2),
        TrackState::Lost => return None,
    };
    Some(Mark { bbox: track.bbox, color: color::of_number(id), line, thin, texts, rank })
}

fn object_mark(object: &Object, tracked: bool) -> Mark {
    let class = class_text(object.class.as_deref(), object.class_id);
    let score = percent(object.score);
    let color = if tracked { GREY } else { color::of_number(u64::from(object.class_id)) };
    let texts = vec![format!("{class} {score}"), score];
    Mark { bbox: object.bbox, color, line: Line::Solid, thin: tracked, texts, rank: if tracked { 0 } else { 3 } }
}

impl Mark {
    fn rect(&self) -> Rect {
        // Far beyond any picture, and far from overflow.
        let pixel = |x: f32| x.round().clamp(-100_000.0, 100_000.0) as i32;
        Rect::new(pixel(self.bbox.x1), pixel(self.bbox.y1), pixel(self.bbox.x2), pixel(self.bbox.y2))
    }

    fn draw_box(&self, canvas: &mut Canvas, style: &Style) {
        let rect = self.rect();
        let thickness = if self.thin { (style.thickness / 2).max(1) } else { style.thickness };
        if self.line == Line::Solid {
            // A dark edge on either side keeps the line apart from a light or like-coloured background.
            canvas.frame(rect.grown(1), 1, Line::Solid, BLACK, 110);
            canvas.frame(rect.grown(-thickness), 1, Line::Solid, BLACK, 70);
        }
        canvas.frame(rect, thickness, self.line, self.color, 255);
    }

    fn draw_label(&self, canvas: &mut Canvas, style: &Style, placer: &mut LabelPlacer) {
        // A track that has all but left the picture would only leave a label at its edge.
        let visible = self.rect().intersection(canvas.bounds()).area();
        if visible * 10 < self.rect().area() {
            return;
        }
        let (font, pad) = (style.font, style.thickness);
        // Letters of the font leave room above and below themselves.
        let height = font.height();
        for text in &self.texts {
            let Some(place) = placer.place(self.rect(), font.width(text) + 2 * pad, height) else { continue };
            let (fill, ink, alpha) =
                if self.thin || self.line == Line::Dashed { (BLACK, self.color, 150) } else { (self.color, INK, 255) };
            canvas.fill(place, fill, alpha);
            canvas.write(place.x1 + pad, place.y1, text, font, ink);
            return;
        }
    }
}

fn draw_keypoints(canvas: &mut Canvas, output: &Output, style: &Style) {
    let radius = style.thickness as f32;
    for (object, points) in output.perception.tables().keypoints.iter() {
        // Points of objects that are not reported stay in the tables.
        if output.perception.object(object).is_none() {
            continue;
        }
        for point in points.iter().filter(|point| point.score > 0.0) {
            canvas.disc(point.x, point.y, radius + 1.0, BLACK);
            canvas.disc(point.x, point.y, radius, WHITE);
        }
    }
}

/// Says in the lower left corner which frame it is. Returns the place.
fn draw_caption(canvas: &mut Canvas, output: &Output, font: Font) -> Rect {
    let frame = &output.frame;
    let millis = frame.pts().as_nanos().max(0) / 1_000_000;
    let (minutes, seconds, millis) = (millis / 60_000, millis / 1000 % 60, millis % 1000);
    let suspect = if frame.is_suspect() { "  damaged" } else { "" };
    let text = format!("{}  {minutes:02}:{seconds:02}.{millis:03}  {}{suspect}", output.feed, frame.seq());
    let (pad, bottom) = (font.height() / 3, canvas.bounds().y2);
    let place = Rect::new(0, bottom - font.height() - pad, font.width(&text) + 2 * pad, bottom);
    canvas.fill(place, BLACK, 150);
    canvas.write(pad, place.y1 + pad / 2, &text, font, WHITE);
    place
}

fn class_text(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| format!("class {number}"), str::to_owned)
}

fn percent(score: f32) -> String {
    format!("{:.0}%", score * 100.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nv_core::{FrameHeader, FramePool, PixelFormat, Size};
    use nv_perception::{ObjectId, Perception, StageOutput, TrackId};

    use super::*;

    fn object(id: u32, bbox: BBox) -> Object {
        Object {
            id: ObjectId(id),
            parent: None,
            source: "".into(),
            class_id: 0,
            class: Some("person".into()),
            score: 0.91,
            bbox,
        }
    }

    fn track(id: u64, state: TrackState, object: Option<u32>, bbox: BBox) -> Track {
        Track {
            id: TrackId(id),
            state,
            object: object.map(ObjectId),
            class_id: 0,
            class: None,
            score: 0.5,
            bbox,
            age: Duration::ZERO,
        }
    }

    fn output(found: StageOutput) -> Output {
        let header = FrameHeader::new(Size::new(320, 240), PixelFormat::Gray8);
        let frame = FramePool::new(0).take(header).unwrap().freeze();
        Output { feed: "gate".into(), session: 0, frame, perception: Perception::from(found), provenance: None }
    }

    fn texts(output: &Output) -> Vec<String> {
        marks(output).into_iter().map(|mark| mark.texts[0].clone()).collect()
    }

    #[test]
    fn an_object_is_drawn_once() {
        let bbox = BBox::new(10.0, 10.0, 50.0, 90.0);
        let objects = Some(vec![object(0, bbox), object(1, bbox)]);
        let tracks = vec![
            track(7, TrackState::Confirmed, Some(0), bbox),
            track(8, TrackState::Coasted, None, bbox),
            track(9, TrackState::Tentative, None, bbox),
            track(10, TrackState::Lost, None, bbox),
        ];
        let tracked = output(StageOutput { objects: objects.clone(), tracks: Some(tracks), ..StageOutput::default() });
        assert_eq!(texts(&tracked), ["class 0 #7 50%", "class 0 #8", "class 0 50%", "person 91%"]);
        let untracked = output(StageOutput { objects, ..StageOutput::default() });
        assert_eq!(texts(&untracked), ["person 91%", "person 91%"]);
        assert_ne!(marks(&untracked)[0].color, GREY);
        assert_eq!(marks(&tracked)[3].color, GREY);
    }

    #[test]
    fn boxes_beyond_the_picture_and_odd_numbers_are_drawn() {
        let boxes = [
            BBox::new(-50.0, -50.0, 400.0, 300.0),
            BBox::new(f32::NEG_INFINITY, f32::NAN, f32::INFINITY, 1e30),
            BBox::new(10.0, 10.0, 5.0, 5.0),
            BBox::new(319.6, 239.6, 320.0, 240.0),
        ];
        let tracks = boxes.iter().zip(0..).map(|(b, id)| track(id, TrackState::Confirmed, None, *b)).collect();
        let output = output(StageOutput { tracks: Some(tracks), ..StageOutput::default() });
        let mut canvas = Canvas::default();
        canvas.load(&output.frame).unwrap();
        draw(&mut canvas, &output);
        assert!(canvas.rgb().iter().any(|&sample| sample > 0));
    }

    #[test]
    fn the_border_has_the_colour_of_its_track() {
        let bbox = BBox::new(100.0, 60.0, 200.0, 180.0);
        let output = output(StageOutput {
            tracks: Some(vec![track(3, TrackState::Confirmed, None, bbox)]),
            ..StageOutput::default()
        });
        let mut canvas = Canvas::default();
        canvas.load(&output.frame).unwrap();
        draw(&mut canvas, &output);
        let pixel = |x: usize, y: usize| canvas.rgb()[(y * 320 + x) * 3..][..3].to_vec();
        for (x, y) in [(100, 100), (199, 100), (150, 60), (150, 179)] {
            assert_eq!(pixel(x, y), color::of_number(3), "{x}, {y}");
        }
        assert_eq!(pixel(150, 100), [0; 3], "the inside stays as it was");
    }
}
