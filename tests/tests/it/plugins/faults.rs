//! A panic in a plugin is an error in the host.

use nv_core::Frame;
use nv_perception::{
    BatchEntry, Perception, Stage, StageError, StageErrorKind, StageInput, StageOutput, StreamContext,
};
use nv_plugin_sdk::testing::solid_frame;
use serde_json::json;

use super::{batch, loaded, stage};

fn frame() -> Frame {
    solid_frame(8, 8, [1, 2, 3])
}

fn stream() -> StreamContext {
    StreamContext::new("gate".into(), "misbehave".into(), 0)
}

fn process(stage: &mut dyn Stage) -> Result<StageOutput, StageError> {
    stage.process(&StageInput::new(&stream(), &frame(), &Perception::default()))
}

fn misbehaving(panic: &str) -> Result<Box<dyn Stage>, StageError> {
    stage(&loaded(), "misbehave", json!({"panic": panic}))
}

#[test]
fn a_panic_while_building_is_an_error() {
    for (call, place) in [("from_config", "from_config"), ("capabilities", "capabilities")] {
        let Err(error) = misbehaving(call) else { panic!("{call}: no error") };
        assert_eq!(error.kind(), StageErrorKind::Panic);
        assert!(error.message().starts_with(&format!("panicked in {place}: told to panic in ")), "{error}");
    }
}

#[test]
fn a_panic_names_its_place_and_poisons_the_instance() {
    let mut bad = misbehaving("process").unwrap();
    bad.start(&stream()).unwrap();
    let error = process(&mut *bad).unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Panic);
    assert!(error.message().starts_with("panicked in process: told to panic in Process (at "), "{error}");
    assert!(error.message().contains("misbehave.rs:"), "{error}");
    assert!(error.detail().contains("nv_test_plugin::misbehave"), "a backtrace: {}", error.detail());

    let again = process(&mut *bad).unwrap_err();
    assert_eq!(again.kind(), StageErrorKind::Panic);
    assert!(again.message().starts_with("not called again after it panicked in process: told to"), "{again}");
    bad.stop();
    drop(bad);

    let mut good = misbehaving("never").unwrap();
    assert_eq!(process(&mut *good).unwrap(), StageOutput::default());
}

#[test]
fn a_panic_in_a_call_without_a_result_shows_at_the_next() {
    let mut stage = misbehaving("discontinuity").unwrap();
    process(&mut *stage).unwrap();
    stage.discontinuity(&stream());
    let error = process(&mut *stage).unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Panic);
    assert!(error.message().contains("after it panicked in discontinuity: "), "{error}");
}

#[test]
fn a_panic_at_the_end_hurts_nobody() {
    let error = misbehaving("start").unwrap().start(&stream()).unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Panic);
    for call in ["stop", "drop"] {
        let mut stage = misbehaving(call).unwrap();
        process(&mut *stage).unwrap();
        stage.stop();
        drop(stage);
    }
    let mut stage = misbehaving("thread").unwrap();
    assert_eq!(process(&mut *stage).unwrap_err().kind(), StageErrorKind::Input);
    process(&mut *stage).unwrap_err();
}

#[test]
fn a_panic_in_a_batch_is_the_error_of_the_batch() {
    let mut processor = batch(&loaded(), "census", json!({"panic_at": 1})).unwrap();
    let entries =
        || -> Vec<_> { (0..3).map(|_| BatchEntry::new("gate".into(), 0, frame(), None, Default::default())).collect() };
    let mut first = entries();
    let error = processor.process(&mut first).unwrap_err();
    assert_eq!(error.kind(), StageErrorKind::Panic);
    assert!(error.message().starts_with("panicked in process: told to panic at entry 1 (at "), "{error}");
    assert!(first.iter().all(|entry| !entry.is_finished()));
    let again = processor.process(&mut entries()).unwrap_err();
    assert!(again.message().starts_with("not called again"), "{again}");
}

#[test]
fn many_instances_panic_at_once() {
    let plugin = loaded();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let mut stage = stage(&plugin, "misbehave", json!({"panic": "process"})).unwrap();
                    let error = process(&mut *stage).unwrap_err();
                    assert!(error.message().contains("misbehave.rs:"), "each its own place: {error}");
                }
            });
        }
    });
}
