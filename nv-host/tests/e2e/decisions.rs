//! What a run decided, recorded and decided again.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::world::{Ran, World};

/// The log of a run of three feeds that share a detector, one of which is live and keeps claims there; each with a tracker.
static LOG: LazyLock<String> = LazyLock::new(|| {
    let world = World::new();
    world.write(
        "site.toml",
        "[defaults]\nsteps = ['detector', 'track']\n\
         [batch.detector]\nuse = 'models/detect'\nmax_batch_size = 4\nconfig = { model = 'm.onnx' }\n\
         [stage.track]\nuse = 'track/bytetrack'\n\
         [[feed]]\nname = 'yard'\nsource = 'synthetic:?frames=60&width=96&height=96'\n\
         [[feed]]\nname = 'hall'\nsource = 'synthetic:?frames=40&width=96&height=96'\n\
         [[feed]]\nname = 'gate'\nsource = 'a.mp4'\nlive = true\n",
    );
    world.nv(&["run", "site.toml", "--output", "out/", "--record-decisions", "logs/run.log"]).exits(0);
    world.read("logs/run.log")
});

fn replay(log: &str, flags: &[&str]) -> Ran {
    let world = World::empty();
    world.write("again.log", log);
    world.nv(&[&["replay", "again.log"], flags].concat())
}

#[test]
fn a_run_is_decided_again_byte_for_byte() {
    let ran = replay(&LOG, &["--json"]).exits(0);
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&report["schema"], &report["whole"]), (&json!("nv.replay/1"), &json!(true)));
    let of = |kind: &str, what: &str| report["kinds"][kind][what].as_u64().unwrap_or(0);
    for (kind, cores) in [("attempt", 1), ("batch", 1), ("feed", 3), ("intake", 3), ("reconnect", 3), ("restarts", 3)] {
        assert_eq!(of(kind, "cores"), cores, "{kind}: {report}");
    }
    // Of each frame at least that it came in, was taken and left.
    let frames = 60 + 40 + 24;
    assert!(of("intake", "decisions") >= 3 * frames, "{report}");
    assert!(of("batch", "decisions") >= 2 * frames, "{report}");
    assert!(of("feed", "decisions") >= 5 * frames, "{report}");
    // Every line but the first and the last is a core or a decision of one.
    let total = |what: &str| report["reproduced"][what].as_u64().unwrap();
    assert_eq!(total("cores") + total("decisions"), LOG.lines().count() as u64 - 2);

    let ran = replay(&LOG, &[]).exits(0);
    let first = format!("{} decisions of {} cores reproduced\n", total("decisions"), total("cores"));
    assert!(ran.stdout.starts_with(&first), "{}", ran.stdout);
}

#[test]
fn a_changed_digit_is_found() {
    let log = &*LOG;
    // The last frame of the live feed that was bound to a claim: let it have been another one.
    let is_bound = |line: &&str| line.contains(r#""core":"intake gate "#) && line.contains(r#""in":{"bind""#);
    let has_frame = |line: &&str| is_bound(line) && line.contains(r#""seq":"#);
    let line = log.lines().rfind(has_frame).expect("a live feed of 24 frames has at least one computed");
    let number = log.lines().position(|l| l == line).unwrap() + 1;
    let (head, tail) = line.split_once(r#""seq":"#).expect("it was looked for");
    let digits = tail.find(|c: char| !c.is_ascii_digit()).expect("a number does not end the line");
    let changed = format!(r#"{head}"seq":77{}"#, &tail[digits..]);
    let changed_log = log.replacen(line, &changed, 1);
    let ran = replay(&changed_log, &[]).exits(1);
    assert!(ran.stdout.is_empty());
    let at = format!("again.log: line {number}: intake gate #");
    assert!(ran.stderr.contains(&at) && ran.stderr.contains("decides otherwise"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("recorded: {changed}\n")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("replayed: {line}\n")), "{}", ran.stderr);
}

#[test]
fn a_log_that_was_cut_off_is_replayed_as_far_as_it_goes() {
    let half = &LOG[..LOG.len() / 2];
    let ran = replay(half, &[]).exits(0);
    let line = half.lines().count();
    assert!(
        ran.stderr.contains(&format!("nv: warning: again.log ends in the middle of line {line}:")),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("reproduced"), "{}", ran.stdout);
}

#[test]
fn what_is_no_log_is_a_usage_error() {
    let world = World::new();
    world.nv(&["replay", "nope.log"]).exits(2).says(&["nope.log: ", "give a file that `nv run --record-decisions"]);
    replay("", &[]).exits(2).says(&["again.log: not a log of decisions", "it is empty"]);
    replay("{\"schema\":\"nv.output/1\"}\n", &[]).exits(2).says(&["it says that it is \"nv.output/1\""]);
    let header = "{\"schema\":\"nv.decisions/1\",\"version\":\"0.1.0\"}\n";
    replay(&format!("{header}Dear log,\n"), &[]).exits(2).says(&["again.log: line 2: expected value"]);
    world.nv(&["replay", "a.mp4"]).exits(2).says(&["a.mp4: not a log of decisions"]);
}

#[test]
fn a_place_that_can_not_be_written_fails_the_run() {
    let world = World::new();
    let run =
        |log: &str| world.nv(&["run", "a.mp4", "--model", "m.onnx", "-o", "out.jsonl", "--record-decisions", log]);
    run("a.mp4").exits(2).says(&["a.mp4 is one of the inputs"]);
    run("out.jsonl").exits(2).says(&["out.jsonl is to hold both results and decisions"]);
    run("m.onnx/x.log").exits(1).says(&["m.onnx"]);
}

/// A pipe whose reader goes away once the run has begun.
#[cfg(unix)]
#[test]
fn a_log_that_breaks_off_fails_the_run_at_its_end() {
    use std::io::Read as _;
    let world = World::new();
    let pipe = world.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn(move || std::fs::File::open(pipe).unwrap().read_exact(&mut [0]).unwrap());
    let source = "synthetic:?frames=900&width=96&height=96";
    let ran = world.nv(&["run", source, "--model", "m.onnx", "--record-decisions", "pipe"]);
    reader.join().unwrap();
    let ran = ran.exits(1).says(&["pipe: can't write decisions: ", "what was written before that can be replayed"]);
    assert_eq!(ran.json_lines().len(), 900, "the run itself goes on");
}
