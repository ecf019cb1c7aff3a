//! Steps with options.

use std::time::Duration;

use expect_test::expect;
use nv_perception::Value;
use nv_runtime::{RegionOptions, SkipCondition, StepOptions};

use super::*;

/// A detector, a tracker, a classifier, and a feed whose steps are these.
fn site(steps: &str) -> String {
    format!(
        "[batch.detector]\nuse = 'models/detect'\nconfig = {{ classes = ['person', 'car'] }}\n\
         [batch.classifier]\nuse = 'acme/classify'\n[stage.track]\nuse = 'track/bytetrack'\n\
         [[feed]]\nsource = 'yard.mp4'\nsteps = {steps}\n"
    )
}

fn check_options(steps: &str, expected: &[StepOptions]) {
    let plan = plan(&site(steps)).unwrap();
    let options: Vec<_> = plan.feeds[0].steps.iter().map(|s| s.options.clone()).collect();
    assert_eq!(options, expected);
}

#[test]
fn names_and_tables() {
    let plain = StepOptions::default;
    check_options("['detector', 'track']", &[plain(), plain()]);
    check_options("['detector', { step = 'track' }]", &[plain(), plain()]);
    let classifier = StepOptions {
        every: 3,
        max_rate: Some(2.0),
        skip_while: vec![
            SkipCondition::SignalIs { signal: "still".into(), value: Value::Bool(true) },
            SkipCondition::SignalBelow { signal: "motion".into(), limit: 0.1 },
            SkipCondition::SignalAbove { signal: "blur".into(), limit: 3.0 },
            SkipCondition::SignalIs { signal: "mode".into(), value: Value::Text("night".into()) },
            SkipCondition::SignalIs { signal: "count".into(), value: Value::Int(0) },
            SkipCondition::Artifact { schema: "acme.skip/1".into() },
        ],
        regions: Some(RegionOptions {
            from: Some("detector".into()),
            classes: vec!["person".into()],
            min_score: 0.5,
            min_width: 16.0,
            min_height: 32.0,
            max_regions: 20,
            refresh: Some(Duration::from_secs(1)),
        }),
    };
    check_options(
        "['detector', 'track', { step = 'classifier', every = 3, max_rate = 2.0, skip_while = [{ signal = 'still' }, \
         { signal = 'motion', below = 0.1 }, { signal = 'blur', above = 3 }, { signal = 'mode', is = 'night' }, \
         { signal = 'count', is = 0 }, { artifact = 'acme.skip/1' }], regions = { from = 'detector', classes = ['person'], \
         min_score = 0.5, min_width = 16, min_height = 32, max = 20, refresh = '1s' } }]",
        &[plain(), plain(), classifier],
    );
    let regions = StepOptions::on_regions(RegionOptions::default());
    check_options("['detector', { step = 'classifier', regions = {} }]", &[plain(), regions]);
}

#[test]
fn what_makes_no_sense_is_told_with_its_place() {
    check_error(
        &site("['detector', { step = 'clasifier' }]"),
        expect![[
            r#"site.toml:10:22: there is no step "clasifier": no [batch.clasifier] and no [stage.clasifier]; did you mean `classifier`?"#
        ]],
    );
    check_error(
        &site("['detector', { step = 'track', every = 2 }]"),
        expect![[
            r#"site.toml:10:22: step "track": every, max_rate, skip_while and regions are for batch points, and "track" is a stage, which sees every frame"#
        ]],
    );
    check_error(
        &site("[{ step = 'detector', every = 0 }]"),
        expect![[r#"site.toml:10:10: step "detector": every is 0: it must be at least 1, which is every frame"#]],
    );
    check_error(
        &site("[{ step = 'detector', skip_while = [{ signal = 'a', below = 1, above = 2 }] }]"),
        expect![[
            r#"site.toml:10:45: step "detector": a condition of skip_while is a `signal`, alone (it is true) or with one of `is`, `below` and `above`; or an `artifact`"#
        ]],
    );
    check_error(
        &site("[{ step = 'classifier', regions = {} }]"),
        expect![[r#"site.toml:10:10: step "classifier": regions are objects of an earlier step, and it is the first"#]],
    );
    check_error(
        &site("['detector', { step = 'classifier', regions = { from = 'detecter' } }]"),
        expect![[
            r#"site.toml:10:64: step "classifier": regions.from is "detecter", and no step before it is called so; did you mean `detector`?"#
        ]],
    );
    check_error(
        &site("[{ step = 'classifier', regions = { from = 'detector' } }, 'detector']"),
        expect![[
            r#"site.toml:10:52: step "classifier": regions.from is "detector", and no step before it is called so; there are none"#
        ]],
    );
    check_error(
        &site("['detector', { step = 'classifier', regions = { classes = ['persons'] } }]"),
        expect![[
            r#"site.toml:10:68: step "classifier": detector gives no objects of class "persons"; did you mean `person`?"#
        ]],
    );
    check_error(
        &site("['detector', { step = 'classifier', regions = { max = 0 } }]"),
        expect![[r#"site.toml:10:22: step "classifier": regions.max is 0: it must be at least 1"#]],
    );
}

#[test]
fn classes_are_those_of_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names.txt"), "person\ndog \n\n").unwrap();
    let errors = |labels: &str, class: &str| {
        let steps = format!("['detector', {{ step = 'classifier', regions = {{ classes = ['{class}'] }} }}]");
        let text = site(&steps).replace("classes = ['person', 'car']", labels);
        let plan = Plan::from_text("site.toml", &text, folder.path(), &Overrides::default(), &variable);
        plan.map_or_else(|failure| failure.messages, |_| Vec::new())
    };
    let no_cat = "site.toml:10:68: step \"classifier\": detector gives no objects of class \"cat\"; its classes are ";
    assert_eq!(errors("labels = ['dog', 'person']", "cat"), [format!("{no_cat}`dog`, `person`")]);
    assert_eq!(errors("labels = 'names.txt'", "cat"), [format!("{no_cat}`person`, `dog`")]);
    assert!(errors("labels = 'names.txt'", "dog").is_empty());
    assert!(errors("labels = 'names.txt', classes = ['person']", "dog")[0].contains("no objects of class \"dog\""));
    for unknown in ["labels = 'coco'", "labels = 'nope.txt'", "model = 'm.onnx'"] {
        assert!(errors(unknown, "cat").is_empty(), "{unknown}: the model knows");
    }
}

#[test]
fn keys_and_types_are_checked() {
    check_error(
        &site("['detector', { step = 'classifier', evry = 2 }]"),
        expect!["site.toml:10:45: unknown key `evry` in [[feed.steps]]; did you mean `every`?"],
    );
    check_error(
        &site("['detector', { step = 'classifier', regions = { clases = [] } }]"),
        expect!["site.toml:10:57: unknown key `clases` in [[feed.steps.regions]]; did you mean `classes`?"],
    );
    check_error(&site("['detector', { every = 2 }]"), expect!["site.toml:10:22: [[feed.steps]] lacks the key `step`"]);
    check_error(
        &site("['detector', 3]"),
        expect![[
            r#"site.toml:10:22: `steps` in [[feed]] must be a step's name, or a table as in { step = "name", every = 3 }, not the number 3"#
        ]],
    );
    check_error(
        &site("[{ step = 'detector', max_rate = 'fast' }]"),
        expect!["site.toml:10:42: `max_rate` in [[feed.steps]] must be a number, not a text"],
    );
}

#[test]
fn what_is_wrong_in_the_defaults_is_told_once() {
    check_error(
        "[defaults]\nsteps = [{ step = 'detector', every = 0 }]\nweight = 0\nstage_timeout = '0s'\n\
         [batch.detector]\nuse = 'models/detect'\n[[feed]]\nsource = 'a.mp4'\n[[feed]]\nsource = 'b.mp4'\n",
        expect![[r#"
            site.toml:2:10: step "detector": every is 0: it must be at least 1, which is every frame
            site.toml:3:10: weight is 0, and must be from 1 to 1000
            site.toml:4:17: stage_timeout is 0, and no stage could ever run; give at least "1ms""#]],
    );
}

#[test]
fn weights_and_limits() {
    let text = format!(
        "[defaults]\nweight = 3\nstage_timeout = '4s'\n{}weight = 5\n[[feed]]\nsource = 'b.mp4'\nsteps = []\n",
        site("['detector']")
    );
    let plan =
        plan(&text.replace("use = 'models/detect'\n", "use = 'models/detect'\nmax_regions_per_frame = 12\n")).unwrap();
    let of: Vec<_> = plan.feeds.iter().map(|f| (f.weight, f.stage_timeout)).collect();
    let limit = Some(Duration::from_secs(4));
    assert_eq!(of, [(Some(5), limit), (Some(3), limit)]);
    let regions: Vec<_> = plan.batches.iter().map(|b| b.settings.max_regions_per_frame).collect();
    assert_eq!(regions, [nv_runtime::BatchConfig::default().max_regions_per_frame, 12]);
}
