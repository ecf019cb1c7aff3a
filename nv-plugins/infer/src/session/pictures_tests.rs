//! Runs on pictures, and runs of which rows are wanted, on every device and engine that there is.

use nv_core::{ColorInfo, Frame, PixelFormat, Size, Tensor};

use super::*;
use crate::picture::tests::{FORMATS, frame, pattern, plain, whole};
use crate::testing::{OnnxBuilder, select_rows};
use crate::{
    InferErrorKind, PictureInput, PictureLayout, PicturePart, Pictures, PixelRect, RowColumns, RowGroup, RowLayout,
    RowOutput, RowSelection, ScoreActivation, ScoreFactor, ScoredRows,
};

const SIZE: Size = Size::new(16, 12);
/// Cells of 4×4 pixels.
const CELLS: usize = 12;

/// A detector without wits: of each cell the mean of some of its colours, as a map of 5 channels and by cells.
fn detector(batch: Dim, layout: PictureLayout, bytes: bool) -> Vec<u8> {
    let weights: Vec<f32> = (0..5 * 3 * 16).map(|i| ((i as f32 * 1.7).sin() + 0.2) / 4096.0).collect();
    let [_, a, b, c] = layout.shape(1, SIZE).map(Dim::from);
    let shape = [batch.clone(), a, b, c];
    let mut model = OnnxBuilder::new();
    let mut from = "x";
    model = if bytes { model.input_u8("x", &shape) } else { model.input("x", &shape) };
    if bytes {
        model = model.node("Cast", &["x"], &["float"]).attribute("to", 1);
        from = "float";
    }
    if layout == PictureLayout::Interleaved {
        model = model.node("Transpose", &[from], &["planes"]).attribute_list("perm", &[0, 3, 1, 2]);
        from = "planes";
    }
    model
        .initializer("w", &[5, 3, 4, 4], &weights)
        .integers("cells", &[0, 5, CELLS as i64])
        .node("Conv", &[from, "w"], &["map"])
        .attribute_list("kernel_shape", &[4, 4])
        .attribute_list("strides", &[4, 4])
        .node("Reshape", &["map", "cells"], &["columns"])
        .node("Transpose", &["columns"], &["rows"])
        .attribute_list("perm", &[0, 2, 1])
        .output("map", &[batch.clone(), 5.into(), 3.into(), 4.into()])
        .output("rows", &[batch, CELLS.into(), 5.into()])
        .build()
}

/// Score and class from rows, numbers from both outputs.
fn selection(threshold: f32) -> RowSelection {
    let factor =
        |output, columns, activation| ScoreFactor { of: RowColumns { output, columns }, activation, power: 1.0 };
    let rows = RowOutput { output: 1, shape: vec![CELLS, 5], columns: 5, layout: RowLayout::Rows };
    let map = RowOutput { output: 0, shape: vec![5, 3, 4], columns: 5, layout: RowLayout::Columns };
    let group = RowGroup {
        rows: CELLS,
        outputs: vec![rows, map],
        score: vec![factor(0, 0..1, ScoreActivation::Sigmoid), factor(1, 1..4, ScoreActivation::Sigmoid)],
        values: vec![RowColumns { output: 0, columns: 2..5 }, RowColumns { output: 1, columns: 0..2 }],
    };
    let mut other = group.clone();
    other.score[1].activation = ScoreActivation::Softmax;
    RowSelection { groups: vec![group, other], threshold }
}

fn parts(frames: &[Frame]) -> Vec<PicturePart<'_>> {
    let part = |(i, frame): (usize, &'_ Frame)| -> (PixelRect, PixelRect) {
        let corner = PixelRect { x: 2, y: 1, width: 11, height: 9 };
        (whole(frame.size()), if i.is_multiple_of(2) { whole(SIZE) } else { corner })
    };
    frames
        .iter()
        .enumerate()
        .map(|(i, frame)| {
            let (source, target) = part((i, frame));
            PicturePart { frame, source, target }
        })
        .collect()
}

fn close(found: &[ScoredRows], expected: &[ScoredRows], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for ((a, numbers), (b, others)) in found.iter().zip(expected.iter()) {
            assert_eq!((a.index, a.class), (b.index, b.class), "{what}");
            assert!((a.score - b.score).abs() < 1e-3, "{what}: {a:?} {b:?}");
            assert_eq!(numbers.len(), others.len());
            assert!(numbers.iter().zip(others).all(|(a, b)| (a - b).abs() < 1e-2), "{what}: {numbers:?} {others:?}");
        }
    }
}

/// A session on each device; a software adapter is skipped where there is none.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn sessions(bytes: &[u8], test: &str) -> Vec<Session> {
    let model = Model::from_bytes("m.onnx", bytes.to_vec()).unwrap();
    let session = |device| Session::new(&model, &SessionOptions { device, max_batch: 4, ..SessionOptions::default() });
    let mut sessions = vec![session(Device::Cpu).unwrap()];
    match session(Device::Software) {
        Ok(session) => sessions.push(session),
        Err(error) => println!("skipped on a GPU: {test}: {error}"),
    }
    sessions
}

#[test]
fn pictures_give_what_their_tensors_give() {
    let frames: Vec<Frame> = FORMATS
        .into_iter()
        .cycle()
        .take(11)
        .enumerate()
        .map(|(i, format)| frame(format, (20 + 3 * i as u32, 30), ColorInfo::default(), pattern))
        .collect();
    let parts = parts(&frames);
    for layout in [PictureLayout::Planar, PictureLayout::Interleaved] {
        for (batch, bytes) in [(Dim::from("n"), false), (1.into(), false), (2.into(), false), (1.into(), true)] {
            let input = PictureInput { layout, ..plain() };
            for session in sessions(&detector(batch.clone(), layout, bytes), "pictures_give_what_their_tensors_give") {
                let what = format!("{layout:?} {batch} {bytes} {}", session.engine());
                let selection = selection(0.3);
                // More than are in flight at once, one, and some.
                for count in [11, 1, 3] {
                    let pictures = Pictures { input: &input, size: SIZE, parts: &parts[..count] };
                    let tensor = session.made_ready(&pictures).unwrap();
                    let expected = session.run(std::slice::from_ref(&tensor)).unwrap();
                    let found = session.run_pictures(&pictures).unwrap();
                    for (found, expected) in found.iter().zip(&expected) {
                        assert_eq!(found.shape(), expected.shape(), "{what}");
                        // A level of 255 in each of 48 pixels moves the mean by less than this.
                        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-2;
                        assert!(found.data().iter().zip(expected.data()).all(near), "{what}");
                    }
                    let expected = select_rows(&expected, &selection).unwrap();
                    let rows: usize = expected.iter().flatten().map(ScoredRows::len).sum();
                    assert!(rows > 0 && rows < 2 * CELLS * count, "a threshold that tells rows apart: {rows}");
                    let by_pictures = session.select_in_pictures(&pictures, &selection).unwrap();
                    let by_tensor = session.select(&[tensor], &selection).unwrap();
                    assert_eq!([by_pictures.len(), by_tensor.len()], [count; 2], "{what}");
                    for ((a, b), expected) in by_pictures.iter().zip(&by_tensor).zip(&expected) {
                        close(a, expected, &what);
                        close(b, expected, &what);
                    }
                }
                assert_eq!(session.take_notices(), [] as [&str; 0], "{what}");
            }
        }
    }
}

#[test]
fn no_row_is_lost_where_a_device_has_no_room_for_them() {
    const ROWS: usize = 1500;
    let model = OnnxBuilder::new()
        .input("x", &[1.into(), ROWS.into(), 8.into()])
        .node("Neg", &["x"], &["y"])
        .output("y", &[1.into(), ROWS.into(), 8.into()])
        .build();
    let score =
        ScoreFactor { of: RowColumns { output: 0, columns: 0..2 }, activation: ScoreActivation::Sigmoid, power: 1.0 };
    let group = RowGroup {
        rows: ROWS,
        outputs: vec![RowOutput { output: 0, shape: vec![ROWS, 8], columns: 8, layout: RowLayout::Rows }],
        score: vec![score],
        values: vec![RowColumns { output: 0, columns: 7..8 }],
    };
    // How many rows of each entry have a high score: of some batches too many, and of some not.
    let counts = [0, 3, 1024, 7, 1025, 0, 2, 1, 5, 6, 7, 8, 9, 1500, 0, 1200, 1];
    let value = |entry: usize, row: usize, column: usize| match column {
        0 if row * 7 % ROWS < counts[entry] => -2.0 - entry as f32 / 10.0,
        7 => (entry * ROWS + row) as f32,
        _ => 2.0,
    };
    let numbers = (0..counts.len()).flat_map(|entry| (0..ROWS * 8).map(move |i| value(entry, i / 8, i % 8)));
    let input = Tensor::new([counts.len(), ROWS, 8], numbers.collect()).unwrap();
    for threshold in [0.5, 0.0] {
        let mut expected = None;
        let selection = RowSelection { groups: vec![group.clone()], threshold };
        for session in sessions(&model, "no_row_is_lost_where_a_device_has_no_room_for_them") {
            // At the second time there is room for more of them.
            for _ in 0..2 {
                let found = session.select(std::slice::from_ref(&input), &selection).unwrap();
                let lens: Vec<usize> = found.iter().map(|entry| entry[0].len()).collect();
                assert_eq!(lens, if threshold > 0.0 { counts } else { [ROWS; 17] });
                let expected = expected.get_or_insert_with(|| found.clone());
                for (found, expected) in found.iter().zip(expected) {
                    close(found, expected, &session.engine().to_string());
                }
            }
            assert_eq!(session.take_notices(), [] as [&str; 0]);
        }
    }
}

#[test]
fn what_can_not_be_selected_is_named() {
    for session in sessions(&detector(1.into(), PictureLayout::Planar, false), "what_can_not_be_selected_is_named") {
        let frame = frame(PixelFormat::I420, (20, 20), ColorInfo::default(), pattern);
        let part = PicturePart { frame: &frame, source: whole(frame.size()), target: whole(SIZE) };
        let input = plain();
        let pictures = |size| Pictures { input: &input, size, parts: std::slice::from_ref(&part) };
        let check = |selection: &RowSelection, kind: InferErrorKind, text: &str| {
            let error = session.select_in_pictures(&pictures(SIZE), selection).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(text), "{error}");
            let error = session.select(&[Tensor::zeros(input.layout.shape(1, SIZE))], selection).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        };
        let changed = |change: &dyn Fn(&mut RowGroup)| {
            let mut selection = selection(0.5);
            change(&mut selection.groups[1]);
            selection
        };
        let wider = changed(&|group| (group.outputs[0].shape, group.outputs[0].columns) = (vec![CELLS, 6], 6));
        check(&wider, InferErrorKind::ShapeMismatch, "output \"rows\" has the shape 1×12×5, 1×12×6 is needed");
        let further = changed(&|group| group.outputs[1].output = 2);
        check(&further, InferErrorKind::ShapeMismatch, "output 2 has the shape of one that is not there");
        check(&changed(&|group| group.score.clear()), InferErrorKind::Selection, "at least one factor");

        let error = session.run_pictures(&pictures(Size::new(16, 13))).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::ShapeMismatch);
        let outside = PicturePart { source: PixelRect { x: 1, ..part.source }, ..part };
        let error = session.run_pictures(&Pictures { parts: &[outside], ..pictures(SIZE) }).unwrap_err();
        assert_eq!(error.kind(), InferErrorKind::Picture, "{error}");
        assert_eq!(
            session.run_pictures(&Pictures { parts: &[], ..pictures(SIZE) }).unwrap_err().kind(),
            InferErrorKind::ShapeMismatch
        );
    }
}
