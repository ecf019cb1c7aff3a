//! A loaded plugin gives what the linked one gives: nothing is lost at the boundary.

use std::sync::Arc;

use nv_core::{BBox, Frame, Name};
use nv_perception::{
    BatchEntry, ObjectId, Perception, Region, Stage, StageError, StageInput, StageOutput, StreamContext,
};
use nv_plugin_marshal::testing::{any_frame, any_name, any_output, exactly};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{batch, linked, loaded, stage, told};

fn any_config() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    (tree, prop::collection::vec(any::<f64>().prop_filter("JSON has none", |f| f.is_finite()), 0..5))
        .prop_map(|(any, numbers)| json!({"any": any, "numbers": numbers}))
}

fn say(result: Result<StageOutput, StageError>) -> String {
    match result {
        Ok(output) => {
            let texts: Vec<_> = output.artifacts.iter().map(|a| String::from_utf8_lossy(&a.bytes)).collect();
            format!("{}\n{}", exactly(&output), texts.join("\n"))
        }
        Err(error) => told(&error),
    }
}

/// Runs a stage through its life over `frames`, and says all that it says.
fn run_stage(mut stage: Box<dyn Stage>, feed: &Name, step: &Name, frames: &[(Frame, Perception)]) -> Vec<String> {
    let first = StreamContext::new(feed.clone(), step.clone(), 0);
    let second = StreamContext::new(feed.clone(), step.clone(), 1);
    let mut told = vec![exactly(&stage.capabilities())];
    stage.start(&first).unwrap();
    for (i, (frame, perception)) in frames.iter().enumerate() {
        let stream = if i == 0 { &first } else { &second };
        if i == 1 {
            stage.discontinuity(stream);
        }
        told.push(say(stage.process(&StageInput::new(stream, frame, perception))));
    }
    stage.stop();
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn stages_see_and_say_the_same(
        config in any_config(),
        feed in any_name(),
        step in any_name(),
        frames in prop::collection::vec((any_frame(), any_output().prop_map(Perception::from)), 1..4),
    ) {
        let run = |plugin| run_stage(stage(&plugin, "echo", config.clone()).unwrap(), &feed, &step, &frames);
        prop_assert_eq!(run(loaded()), run(linked()));
    }

    #[test]
    fn batches_see_and_say_the_same(
        frames in prop::collection::vec(any_frame(), 1..4),
        perceptions in prop::collection::vec(any_output().prop_map(Perception::from), 1..3),
        entries in prop::collection::vec((any_name(), any::<u32>(), any::<prop::sample::Index>(), any::<prop::sample::Index>(), any_region()), 0..9),
        fail in prop::collection::vec(0usize..9, 0..3),
        leave in prop::collection::vec(0usize..9, 0..3),
        fail_batch in any::<bool>(),
        max_batch in prop::option::of(1usize..20),
    ) {
        let perceptions: Vec<_> = perceptions.into_iter().map(Arc::new).collect();
        let config = json!({"fail": fail, "leave": leave, "fail_batch": fail_batch, "max_batch": max_batch});
        let run = |plugin| {
            let mut processor = batch(&plugin, "census", config.clone()).unwrap();
            processor.start().unwrap();
            let mut told = vec![exactly(&processor.capabilities())];
            // A second batch on the same instance: nothing of the first may be left in it.
            for _ in 0..2 {
                let mut batch: Vec<_> = entries
                    .iter()
                    .enumerate()
                    .map(|(slot, (feed, session, frame, perception, region))| {
                        let (frame, perception) = (frame.get(&frames).clone(), perception.get(&perceptions).clone());
                        BatchEntry::new(feed.clone(), *session, frame, region.clone(), perception).at_slot(slot)
                    })
                    .collect();
                told.push(match processor.process(&mut batch) {
                    Ok(()) => "ok".into(),
                    Err(error) => super::told(&error),
                });
                batch.sort_by_key(BatchEntry::slot);
                told.extend(batch.iter_mut().map(|e| format!("{} {}", e.is_finished(), say(e.take_result()))));
            }
            processor.stop();
            told
        };
        prop_assert_eq!(run(loaded()), run(linked()));
    }
}

fn any_region() -> impl Strategy<Value = Option<Region>> {
    let region = (any::<u32>(), [-9f32..99.0, -9f32..99.0, -9f32..99.0, -9f32..99.0]);
    prop::option::of(region.prop_map(|(object, bbox)| Region { object: ObjectId(object), bbox: BBox::from(bbox) }))
}

#[test]
fn errors_cross_with_kind_detail_and_causes() {
    let config = json!({"message": "no lens", "detail": "line 1\nline 2", "causes": ["it fell", "gravity"]});
    let frame = nv_plugin_sdk::testing::solid_frame(4, 4, [0, 0, 0]);
    let (stream, nothing) = (StreamContext::new("gate".into(), "fail".into(), 0), Perception::default());
    let run = |plugin| -> Vec<String> {
        let mut stage = stage(&plugin, "fail", config.clone()).unwrap();
        let frames = (0..9).map(|seq| frame.clone().stamped(seq, nv_core::MonoTime::ZERO));
        frames.map(|frame| told(&stage.process(&StageInput::new(&stream, &frame, &nothing)).unwrap_err())).collect()
    };
    let told = run(loaded());
    assert_eq!(told, run(linked()));
    assert_eq!(told[0], "Config: no lens [line 1\nline 2] [\"it fell\", \"gravity\"]");
    assert!(told[8].starts_with("Fatal: "), "{told:?}");
}

#[test]
fn a_refused_config_is_the_same_error() {
    fn check(kind: &str, config: &Value, expected: &str) {
        for plugin in [loaded(), linked()] {
            let error = match kind {
                "census" => batch(&plugin, kind, config.clone()).map(|_| ()),
                _ => stage(&plugin, kind, config.clone()).map(|_| ()),
            };
            assert_eq!(told(&error.unwrap_err()), expected);
        }
    }
    check("keep", &json!({"mots": 1}), "Config: config of \"keep\": unknown field `mots`, expected `most` [] []");
    check("keep", &Value::Null, "Config: config of \"keep\": missing field `most` [] []");
    check(
        "census",
        &json!({"fail": "all"}),
        "Config: config of \"census\": `fail`: invalid type: string \"all\", expected a sequence [] []",
    );
    check("fail", &json!({"message": "no file", "at_once": true}), "Resource: no file [] []");
}

#[test]
fn descriptors_are_the_same() {
    let describe = |plugin: nv_perception::PluginDescriptor| {
        let kinds = plugin.kinds.iter().map(|k| format!("{k:?} {} {}", k.summary, k.config_schema));
        (plugin.name, plugin.version, kinds.collect::<Vec<_>>())
    };
    let (name, version, kinds) = describe(loaded());
    assert_eq!((name.as_str(), version.as_str(), kinds.len()), ("test-plugin", "0.1.0", 6));
    assert_eq!((name, version, kinds), describe(linked()));
}

#[test]
fn a_frame_without_pixels_crosses_as_one() {
    let frame = nv_plugin_sdk::testing::solid_frame(4, 4, [0, 0, 0]).without_pixels();
    let run = |plugin| {
        let frames = [(frame.clone(), Perception::default())];
        run_stage(stage(&plugin, "echo", Value::Null).unwrap(), &"gate".into(), &"echo".into(), &frames)
    };
    let told = run(loaded());
    assert!(told[1].contains("the CPU can't read the frame's pixels"), "{told:?}");
    assert_eq!(told, run(linked()));
}
