//! Steps that fail while they run: a third party's plugin that does so on purpose.

use std::path::Path;

use crate::world::{FRAMES, Ran, World, json_lines};

/// Runs a site whose feed has one step, of this kind of the test plugin.
fn run(table: &str, kind: &str, config: &str, feed: &str) -> Ran {
    let world = World::new();
    let name = format!("{}nv_test_plugin{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let target = Path::new(env!("CARGO_BIN_EXE_nv")).ancestors().nth(2).expect("target/PROFILE/nv");
    let library = target.join("plugins").join(name);
    assert!(library.exists(), "{} is not there: run `cargo xtask plugins`", library.display());
    let library = library.display();
    world.write(
        "site.toml",
        format!(
            "[plugin.probe]\npath = '{library}'\n[{table}.step]\nuse = 'probe/{kind}'\nconfig = {config}\n\
             [[feed]]\nname = 'gate'\nsource = 'a.mp4'\nsteps = ['step']\n{feed}\n"
        ),
    );
    world.nv(&["run", "site.toml"])
}

#[test]
fn a_third_partys_stage() {
    let ran = run("stage", "keep", "{ most = 2 }", "").exits(0);
    assert_eq!(ran.json_lines().len(), FRAMES);
}

#[test]
fn a_step_that_fails_for_every_frame_fails_the_run() {
    let ran = run("stage", "fail", "{ message = 'no luck' }", "").exits(1);
    assert!(ran.stdout.is_empty());
    let warnings =
        ran.stderr.lines().filter(|line| line.starts_with("nv: warning: feed gate: stage step failed: no luck"));
    assert_eq!(warnings.count(), 2, "not one for each frame\n{}", ran.stderr);
    assert!(ran.stderr.contains("no luck (") && ran.stderr.contains(" times in the last second)"), "{}", ran.stderr);
    assert!(ran.stderr.contains("24 dropped (stage_error"), "{}", ran.stderr);
    ran.says(&["feed gate: not one of its frames came through: all 24 failed"]);
}

#[test]
fn frames_pass_a_failed_step_where_the_feed_says_so() {
    let ran = run("stage", "fail", "{ message = 'no luck' }", "on_step_error = 'pass'").exits(0);
    let lines = json_lines(&ran.stdout);
    assert_eq!(lines.len(), FRAMES);
    assert!(lines.iter().all(|line| line["objects"].is_null()));
}

#[test]
fn a_detector_that_runs_on_every_third_frame() {
    let world = World::new();
    world.write(
        "site.toml",
        "[batch.detector]\nuse = 'models/detect'\nconfig = { model = 'm.onnx' }\n\
         [[feed]]\nname = 'gate'\nsource = 'a.mp4'\nsteps = [{ step = 'detector', every = 3 }]\n",
    );
    let lines = world.nv(&["run", "site.toml"]).exits(0).json_lines();
    let ran: Vec<bool> = lines.iter().map(|line| line["objects"].is_array()).collect();
    assert_eq!(ran, (0..FRAMES).map(|n| n % 3 == 0).collect::<Vec<_>>());
}

#[test]
fn a_stage_that_can_not_be_built() {
    run("stage", "fail", "{ message = 'no luck', at_once = true }", "")
        .exits(3)
        .says(&["site.toml:3:8: [stage.step]: no luck"]);
    run("stage", "misbehave", "{ panic = 'from_config' }", "").exits(3).says(&["site.toml:3:8: [stage.step]"]);
}

#[test]
fn a_batch_that_fails() {
    let ran = run("batch", "census", "{ fail_batch = true }", "").exits(1);
    // After five batches in a row the point is down, and frames fail at once.
    assert!(ran.stderr.contains("processing_failed"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(" emitted") && ran.stderr.contains("0 frames"), "{}", ran.stderr);
}

#[test]
fn a_panic_in_a_plugin_is_an_error_of_its_frames() {
    let ran = run("stage", "misbehave", "{ panic = 'process' }", "").exits(1);
    assert!(ran.stderr.contains("stage_panic"), "{}", ran.stderr);
}
