//! Memory on both sides: nothing is copied that need not be, nothing is freed while it is held, nothing is held for ever.

use std::sync::Arc;

use nv_core::{
    Frame, FrameError, FrameHeader, FrameMemory, HostView, MemoryKind, MonoTime, PixelFormat, PlaneView, Size,
};
use nv_perception::{Artifact, BatchEntry, Perception, Stage, StageInput, StageOutput, StreamContext, Value};
use serde_json::json;

use super::{batch, loaded, stage};

/// A picture's memory that counts who holds it.
struct Counted {
    pixels: Vec<u8>,
    _count: Arc<()>,
}

impl FrameMemory for Counted {
    fn kind(&self) -> MemoryKind {
        MemoryKind::Host
    }

    fn host(&self) -> Result<HostView<'_>, FrameError> {
        Ok(HostView::new([PlaneView { data: &self.pixels, stride: 8 }]))
    }
}

fn counted(seq: u64, count: &Arc<()>) -> Frame {
    let memory = Counted { pixels: vec![seq as u8; 64], _count: count.clone() };
    let header = FrameHeader::new(Size::new(8, 8), PixelFormat::Gray8);
    Frame::new(header, Arc::new(memory)).unwrap().stamped(seq, MonoTime::ZERO)
}

fn kept(stage: &mut dyn Stage, frame: &Frame) -> Vec<i64> {
    let stream = StreamContext::new("gate".into(), "keep".into(), 0);
    let output = stage.process(&StageInput::new(&stream, frame, &Perception::default())).unwrap();
    let number = |value| if let Value::Int(n) = value { n } else { panic!("{value:?}") };
    output.signals.into_iter().map(|s| number(s.value)).collect()
}

#[test]
fn a_plugin_keeps_frames_beyond_the_call() {
    let count = Arc::new(());
    let held = || Arc::strong_count(&count) - 1;
    let mut stage = stage(&loaded(), "keep", json!({"most": 3})).unwrap();
    for seq in 0..10 {
        let frame = counted(seq, &count);
        let (count, oldest) = ((seq + 1).min(3) as i64, seq.saturating_sub(2) as i64);
        assert_eq!(kept(&mut *stage, &frame), [count, oldest, oldest], "how many, the oldest's number and pixels");
        drop(frame);
        assert_eq!(held(), (seq as usize + 1).min(3), "the plugin holds its frames, the host none");
    }
    stage.stop();
    assert_eq!(held(), 0, "given back from a thread of the plugin's own");
}

#[test]
fn frames_are_given_back_when_the_instance_goes() {
    let count = Arc::new(());
    let mut stage = stage(&loaded(), "keep", json!({"most": 100})).unwrap();
    for seq in 0..5 {
        kept(&mut *stage, &counted(seq, &count));
    }
    assert_eq!(Arc::strong_count(&count), 6);
    drop(stage);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn entries_that_share_share_in_the_plugin_too() {
    let count = Arc::new(());
    let (a, b) = (counted(1, &count), counted(2, &count));
    let (x, y) = (Arc::new(Perception::default()), Arc::new(Perception::default()));
    let entry =
        |frame: &Frame, found: &Arc<Perception>| BatchEntry::new("gate".into(), 0, frame.clone(), None, found.clone());
    let mut entries = vec![entry(&a, &x), entry(&b, &y), entry(&a, &y), entry(&a, &x)];
    let mut processor = batch(&loaded(), "census", json!({})).unwrap();
    processor.process(&mut entries).unwrap();
    let shares: Vec<_> = entries
        .iter_mut()
        .map(|entry| {
            let output = entry.take_result().unwrap();
            let text = String::from_utf8(output.artifacts[0].bytes.to_vec()).unwrap();
            text.split_once("shares ").unwrap().1.split_once(", next").unwrap().0.to_owned()
        })
        .collect();
    assert_eq!(shares, ["(Some(0), Some(0))", "(Some(1), Some(1))", "(Some(0), Some(1))", "(Some(0), Some(0))"]);
    drop((entries, a, b));
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn artifacts_are_not_held_after_the_call() {
    let bytes: Arc<[u8]> = Arc::from(vec![1; 1000]);
    let artifact = Artifact { schema: "acme/1".into(), encoding: "raw".into(), bytes: bytes.clone() };
    let perception = Perception::from(StageOutput { artifacts: vec![artifact], ..StageOutput::default() });
    let mut stage = stage(&loaded(), "echo", json!({})).unwrap();
    let stream = StreamContext::new("gate".into(), "echo".into(), 0);
    let frame = counted(0, &Arc::new(()));
    let output = stage.process(&StageInput::new(&stream, &frame, &perception)).unwrap();
    assert_eq!(output.artifacts[0].bytes, bytes);
    drop(perception);
    assert_eq!(Arc::strong_count(&bytes), 1);
}
