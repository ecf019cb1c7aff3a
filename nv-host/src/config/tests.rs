use std::path::Path;

use expect_test::{Expect, expect};
use nv_runtime::{QueuePolicy, RestartConfig, RestartTrigger, StepErrorPolicy};

use super::*;

mod steps;

fn variable(name: &str) -> Option<String> {
    match name {
        "CAM_USER" => Some("joe".into()),
        "CAM_PASSWORD" => Some("s3cret".into()),
        _ => None,
    }
}

fn plan_with(text: &str, overrides: &Overrides) -> Result<Plan> {
    Plan::from_text("site.toml", text, Path::new("cfg"), overrides, &variable)
}

fn plan(text: &str) -> Result<Plan> {
    plan_with(text, &Overrides::default())
}

/// Of the plan's own text: what every config needs besides what is tested.
const REST: &str = "
[batch.detector]
use = 'models/detect'
[stage.track]
use = 'track/bytetrack'
[[feed]]
source = 'file:yard.mp4'
steps = ['detector', 'track']
";

fn check_error(text: &str, expected: Expect) {
    let failure = plan(text).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    expected.assert_eq(&failure.messages.join("\n"));
}

const SITE: &str = r#"
[defaults]
steps = ["detector", "track"]
report_threshold = 0.4

[batch.detector]
use = "models/detect"
max_batch_size = 8
max_latency = "5ms"
config = { model = "yolox_nano.onnx", labels = "coco", threshold = 0.1, classes = ["person", "car"] }

[stage.track]
use = "track/bytetrack"

[[feed]]
name = "gate"
source = "rtsp://${CAM_USER}:${CAM_PASSWORD}@10.0.0.7/stream1"
live = true
on_step_error = "pass"
queue_policy = "drop_newest"

[[feed]]
source = "file:yard.mp4"
steps = ["detector", "track", "colour"]
report_threshold = 0.5
options = { fps = 10, x = "y" }

[plugin.acme]
path = "plugins/libacme_colour.so"
isolation = "in_process"

[stage.colour]
use = "acme/colour"
config = { bins = 12 }

[[output]]
format = "jsonl"
path = "out/{feed}.jsonl"
"#;

#[test]
fn a_site() {
    let plan = plan(SITE).unwrap();
    assert!(plan.warnings.is_empty());
    assert_eq!(plan.base_dir, Path::new("cfg"));
    assert_eq!(plan.plugins[0].path, Path::new("cfg/plugins/libacme_colour.so"));
    let detector = &plan.batches[0];
    assert_eq!((detector.kind.plugin.as_str(), detector.kind.kind.as_str()), ("models", "detect"));
    assert_eq!(detector.settings.max_batch_size, 8);
    assert_eq!(detector.settings.max_latency.as_millis(), 5);
    assert_eq!(detector.config["classes"][1], "car");
    let [gate, yard] = &plan.feeds[..] else { panic!("two feeds") };
    assert_eq!(gate.spec.url, "rtsp://joe:s3cret@10.0.0.7/stream1");
    assert!(gate.spec.live && !yard.spec.live);
    assert_eq!((gate.report_threshold, yard.report_threshold), (0.4, 0.5));
    assert_eq!((gate.on_step_error, yard.on_step_error), (StepErrorPolicy::Pass, StepErrorPolicy::Drop));
    assert_eq!((gate.queue_policy, yard.queue_policy), (Some(QueuePolicy::DropNewest), None));
    assert_eq!(yard.name, "yard");
    assert_eq!(yard.spec.base_dir, Path::new("cfg"));
    assert_eq!(yard.spec.options["fps"], "10");
    // Stages are in the order of their names.
    let steps = |feed: &FeedPlan| feed.steps.iter().map(|s| s.step).collect::<Vec<_>>();
    assert_eq!(steps(gate), [StepRef::Batch(0), StepRef::Stage(1)]);
    assert_eq!(steps(yard), [StepRef::Batch(0), StepRef::Stage(1), StepRef::Stage(0)]);
    assert_eq!(plan.outputs[0].place("yard"), Place::File("cfg/out/yard.jsonl".into()));
}

#[test]
fn flags_go_before_the_file() {
    let overrides = Overrides {
        model: Some("/m/other.onnx".into()),
        labels: Some("coco".into()),
        classes: vec!["dog".into()],
        threshold: Some(0.05),
        device: Some(nv_infer::Device::Cpu),
        output: Some("/x/{feed}.txt".into()),
        format: Some(OutputFormat::Mot),
        annotated: Some("/pics".into()),
        limit: Some(7),
        provenance: Some(false),
        ..Overrides::default()
    };
    let plan = plan_with(SITE, &overrides).unwrap();
    let config = &plan.batches[0].config;
    assert_eq!(config["model"], "/m/other.onnx");
    assert_eq!(config["classes"], serde_json::json!(["dog"]));
    assert_eq!(config["device"], "cpu");
    assert!(config["threshold"].as_f64().unwrap() < 0.06, "the detector's follows a lower one");
    assert!(plan.feeds.iter().all(|f| f.report_threshold == 0.05 && !f.provenance && f.frame_limit == Some(7)));
    let places: Vec<_> = plan.outputs.iter().map(|o| o.place("gate")).collect();
    assert_eq!(places, [Place::File("/x/gate.txt".into()), Place::Pictures("/pics/gate".into())]);
}

#[test]
fn flags_that_fit_no_detector_are_refused() {
    let overrides = Overrides { model: Some("m.onnx".into()), ..Overrides::default() };
    let text = "[stage.a]\nuse = 'acme/a'\n[plugin.acme]\npath = 'a.so'\n[[feed]]\nsource = 'x.mp4'\nsteps = ['a']";
    let failure = plan_with(text, &overrides).unwrap_err();
    assert!(failure.messages[0].starts_with("--model, --labels and --classes go with one batch point"), "{failure}");
    let overrides = Overrides { device: Some(nv_infer::Device::Gpu), ..Overrides::default() };
    let failure = plan_with(text, &overrides).unwrap_err();
    assert_eq!(failure.messages, ["--device gpu: no batch point here runs a model"]);
}

#[test]
fn without_an_output_lines_go_to_standard_output() {
    let plan = plan(REST).unwrap();
    assert_eq!(plan.outputs.len(), 1);
    assert_eq!((plan.outputs[0].format, plan.outputs[0].place("yard")), (OutputFormat::Jsonl, Place::Stdout));
}

#[test]
fn what_no_feed_uses_is_a_warning() {
    let plan = plan(&format!("{REST}\n[batch.faces]\nuse = 'models/detect'\n")).unwrap();
    assert_eq!(plan.warnings, ["site.toml:10:8: [batch.faces] is in no feed's steps and is left out"]);
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    check_error(
        &format!("{REST}\n[batch.x]\nuse = 'a/b'\nmax_batchsize = 8\n"),
        expect!["site.toml:12:1: unknown key `max_batchsize` in [batch.x]; did you mean `max_batch_size`?"],
    );
    check_error(
        &format!("{REST}\nsorce = 'x'\n"),
        expect!["site.toml:10:1: unknown key `sorce` in [[feed]]; did you mean `source`?"],
    );
    check_error(
        &format!("feeds = []\n{REST}"),
        expect!["site.toml:1:1: unknown key `feeds` at the top level; did you mean `feed`?"],
    );
    check_error(
        "[defaults]\nwhatever = 1\n",
        expect![[
            r#"site.toml:2:1: unknown key `whatever` in [defaults]; the keys here are `steps`, `live`, `report_threshold`, `on_step_error`, `queue_capacity`, `queue_policy`, `freshness`, `max_rate`, `drop_suspect`, `max_in_pipeline`, `provenance`, `limit`, `weight`, `stage_timeout`, `restart`"#
        ]],
    );
}

#[test]
fn wrong_types_say_what_was_expected() {
    check_error(
        &format!("{REST}live = 'rtsp://joe:s3cret@x'\n"),
        expect!["site.toml:9:8: `live` in [[feed]] must be true or false, not a text"],
    );
    check_error(
        &format!("[batch.x]\nuse = 'a/b'\nmax_batch_size = 'eight'\n{REST}"),
        expect!["site.toml:3:18: `max_batch_size` in [batch.x] must be a whole number, 0 or more, not a text"],
    );
    check_error(
        &format!("[batch.x]\nuse = 'a/b'\ninstances = -1\n{REST}"),
        expect!["site.toml:3:13: `instances` in [batch.x] must be a whole number, 0 or more, not the number -1"],
    );
    check_error(
        &format!("[batch.x]\nuse = 'a/b'\nmax_latency = 2\n{REST}"),
        expect![[
            r#"site.toml:3:15: `max_latency` in [batch.x] must be a duration with a unit, as in "40ms" or "1m 30s", not the number 2"#
        ]],
    );
    check_error(
        &format!("[batch.x]\nuse = 'a/b'\nmax_latency = '2'\n{REST}"),
        expect![[
            r#"site.toml:3:15: `max_latency` in [batch.x]: "2" is not a duration with a unit, as in "40ms" or "1m 30s""#
        ]],
    );
    check_error(
        "[defaults]\nsteps = 'detector'\n",
        expect!["site.toml:2:9: `steps` in [defaults] must be a list: [ … ], not a text"],
    );
    check_error("feed = 3\n", expect!["site.toml:1:8: `feed` must be a list: [ … ], not the number 3"]);
    check_error("batch = 3\n", expect!["site.toml:1:9: `batch` must be a table, not the number 3"]);
    check_error(
        "[[output]]\nformat = 'mott'\npath = 'x'\n",
        expect![[r#"site.toml:2:10: `format` in [[output]] is "mott"; did you mean `mot`?"#]],
    );
    check_error("[[feed]]\nname = 'a'\n", expect!["site.toml:1:1: [[feed]] lacks the key `source`"]);
    check_error("[batch.x]\n", expect!["site.toml:1:1: [batch.x] lacks the key `use`"]);
}

#[test]
fn what_is_no_toml_is_named() {
    check_error("[[feed]\nsource = 1", expect!["site.toml:1:8: unclosed array table, expected `]`"]);
    check_error("a = 1\na = 2", expect!["site.toml:2:1: duplicate key"]);
    check_error("<html>", expect!["site.toml:1:7: key with no value, expected `=`"]);
}

#[test]
fn variables_must_be_set() {
    check_error(
        &REST.replace("yard.mp4", "${NOPE}"),
        expect!["site.toml:7:10: the environment variable NOPE is not set; set it, or give a default: ${NOPE:-…}"],
    );
}

#[test]
fn names_must_resolve() {
    check_error(
        &REST.replace("'track']", "'trak']"),
        expect![[
            r#"site.toml:8:22: there is no step "trak": no [batch.trak] and no [stage.trak]; did you mean `track`?"#
        ]],
    );
    check_error(
        &REST.replace("'track']", "'detector']"),
        expect![[r#"site.toml:8:22: feed "yard" has the step "detector" twice"#]],
    );
    check_error(
        &format!("{REST}name = 'a'\n[[feed]]\nname = 'a'\nsource = 'b.mp4'\nsteps = []\n"),
        expect![[r#"site.toml:11:8: two feeds are called "a" (the other is at site.toml:9:8)"#]],
    );
    check_error(
        &format!("{REST}name = 'a/b'\n"),
        expect![[
            r#"site.toml:9:8: "a/b" can't be a feed's name: it has a slash or a control character in it, and becomes part of file names"#
        ]],
    );
    check_error(
        &REST.replace("models/detect", "detect"),
        expect![[
            r#"site.toml:3:7: use = "detect" names no kind; write plugin/kind, as in "models/detect" or "track/bytetrack""#
        ]],
    );
    check_error(
        &REST.replace("stage.track", "stage.detector"),
        expect![[r#"
            site.toml:4:8: "detector" is both a batch point and a stage; give one of them another name
            site.toml:8:22: there is no step "track": no [batch.track] and no [stage.track]; there are `detector`, `detector`"#]],
    );
    check_error(
        &format!("{REST}\n[[output]]\npath = 'x'\nfeeds = ['yrad']\n"),
        expect![[r#"site.toml:12:10: there is no feed "yrad"; did you mean `yard`?"#]],
    );
    check_error(
        "[[feed]]\nsource = 'x'\n",
        expect![[r#"site.toml:1:1: feed "x" has no steps; name some, in the feed or in [defaults]"#]],
    );
    check_error("", expect!["site.toml:1:1: no feed: add at least one [[feed]] with a source"]);
}

#[test]
fn numbers_must_be_in_range() {
    check_error(
        &format!("{REST}report_threshold = 1.5\nqueue_capacity = 0\nlimit = 0\n"),
        expect![[r#"
            site.toml:9:20: report_threshold is 1.5, and must be from 0 to 1
            site.toml:10:18: queue_capacity is 0, and must be from 1 to 4096
            site.toml:11:9: limit is 0, which would run nothing; give at least 1"#]],
    );
    check_error(
        &REST.replace("[stage.track]", "max_batch_size = 0\n[stage.track]"),
        expect!["site.toml:2:8: [batch.detector]: max_batch_size is 0: it must be at least 1"],
    );
}

#[test]
fn restarts_are_merged_key_by_key() {
    let text = format!(
        "[defaults]\nrestart = {{ trigger = 'source', window = '1m', max_restarts = 3 }}\n{REST}
         restart = {{ window = '2m', backoff = '40s', stall_timeout = '4s' }}\n[[feed]]\nsource = 'b.mp4'\nsteps = []\n"
    );
    let plan = plan(&text).unwrap();
    let expected = RestartConfig {
        on: RestartTrigger::Source,
        max_restarts: 3,
        window: Duration::from_secs(60),
        ..RestartConfig::default()
    };
    assert_eq!(plan.feeds[1].restart, expected);
    let (window, backoff, stall_timeout) = (Duration::from_secs(120), Duration::from_secs(40), Duration::from_secs(4));
    assert_eq!(
        plan.feeds[0].restart,
        RestartConfig { window, backoff, max_backoff: backoff, stall_timeout, ..expected }
    );
}

#[test]
fn restarts_must_make_sense() {
    check_error(
        &format!("{REST}restart = {{ backoff = '2s', max_backoff = '1s' }}\n"),
        expect![[r#"site.toml:9:11: feed "yard": restart.max_backoff is 1s: it must be at least restart.backoff"#]],
    );
    check_error(
        &format!("{REST}restart = {{ triger = 'any' }}\n"),
        expect!["site.toml:9:13: unknown key `triger` in [[feed.restart]]; did you mean `trigger`?"],
    );
    check_error(
        &format!("{REST}restart = {{ trigger = 'allways' }}\n"),
        expect![[
            r#"site.toml:9:23: `trigger` in [[feed.restart]] is "allways"; it can be `any`, `source`, `stage`, `never`"#
        ]],
    );
    check_error(
        &format!("{REST}restart = 'never'\n"),
        expect!["site.toml:9:11: `restart` in [[feed]] must be a table, not a text"],
    );
    check_error(
        &format!("{REST}restart = {{ max_restarts = -1 }}\n"),
        expect![
            "site.toml:9:28: `max_restarts` in [[feed.restart]] must be a whole number, 0 or more, not the number -1"
        ],
    );
}

#[test]
fn plugins_run_in_this_process() {
    check_error(
        &format!("{REST}\n[plugin.acme]\npath = 'a.so'\nisolation = 'process'\n"),
        expect![[
            r#"site.toml:12:13: isolation = "process" is not in this build; "in_process" is the one way to run a plugin"#
        ]],
    );
}

#[test]
fn no_secret_is_told() {
    let secret = "rtsp://joe:s3cret@10.0.0.7/x";
    for text in [
        format!("[[feed]]\nsource = '{secret}'\nlive = '{secret}'\n"),
        format!("[[feed]]\nsource = '{secret}'\nsteps = '{secret}'\n"),
        format!("[[feed]]\nsource = '{secret}'\non_step_error = '{secret}'\n"),
        format!("[[feed]]\nsource = '{secret}'\nfreshness = '{secret}'\n"),
        format!("[[feed]]\nsource = '{secret}'\n"),
        format!("[[feed]]\nsource = '{secret}\n"),
        format!("[[feed]]\nsource = 3\nqueue_capacity = '{secret}'"),
    ] {
        let failure = plan(&text).unwrap_err();
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
}

const MANUAL: &str = include_str!("../../../docs/config.md");

#[test]
fn the_manuals_example_is_sound() {
    let example = MANUAL.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let plan = plan(example).unwrap();
    assert!(plan.warnings.is_empty());
    assert_eq!(plan.feeds[1].spec.url, "file:clips/gate.mp4");
}

#[test]
fn the_manual_has_every_key() {
    let tables = ["[defaults]", "[defaults.restart]", "[batch.x]", "[stage.x]", "[plugin.x]", "[[feed]]", "[[output]]"];
    let step =
        |before: &str, after: &str| format!("[defaults]\nsteps = [{{ step = 'x', {before}qqqqqqqqqq = 1{after} }}]\n");
    let steps = [step("", ""), step("skip_while = [{ ", " }]"), step("regions = { ", " }")];
    for text in tables.map(|table| format!("{table}\nqqqqqqqqqq = 1\n")).iter().chain(&steps) {
        let failure = plan(text).unwrap_err();
        let (_, keys) = failure.messages[0].split_once("the keys here are ").unwrap();
        for key in keys.split(", ") {
            assert!(MANUAL.contains(&format!("| {key} |")), "{text} {key}");
        }
    }
}

#[test]
fn the_manuals_steps_are_sound() {
    let example = MANUAL.split("```toml\n").nth(2).and_then(|rest| rest.split("```").next()).unwrap();
    let plan = plan(&format!(
        "{example}[stage.motion]\nuse = 'acme/motion'\n[stage.track]\nuse = 'track/bytetrack'\n[batch.classifier]\nuse = 'acme/classify'\n{}",
        REST.replace("steps = ['detector', 'track']\n", "").replace("[stage.track]\nuse = 'track/bytetrack'\n", "")
    ));
    let plan = plan.unwrap();
    assert_eq!(plan.feeds[0].steps.len(), 4);
    assert!(plan.feeds[0].steps.iter().any(|s| s.options.regions.is_some()));
}
