//! How runs end before their sources do.

#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::world::{World, json_lines};

/// A source that would give frames for ever.
const ENDLESS: &str = "synthetic:?frames=100000000&width=96&height=96";

fn start(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(&[&["run", ENDLESS, "--model", "m.onnx"], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("nv was built for this test")
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("Unix has kill");
    assert!(status.success());
}

/// Reads until a line that has `part` in it.
fn wait_for(stderr: &mut BufReader<ChildStderr>, part: &str) {
    let mut line = String::new();
    while !line.contains(part) {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("UTF-8"), 0, "it ended without saying {part:?}");
    }
}

#[test]
fn a_reader_that_had_enough_is_no_error() {
    let world = World::new();
    let mut child = start(&world, &[]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"schema\""), "{line}");
    drop(stdout);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(!stderr.contains("error") && !stderr.contains("warning"), "{stderr}");
}

#[test]
fn ctrl_c_drains_and_ends_with_130() {
    let world = World::new();
    let mut child = start(&world, &["--summary", "summary.json"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    stdout.read_line(&mut text).unwrap();
    interrupt(&child);
    // Whatever was on its way arrives; every line is whole.
    stdout.read_to_string(&mut text).unwrap();
    let lines = json_lines(&text);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(stderr.contains("nv: stopping"), "{stderr}");
    let summary: Value = serde_json::from_str(&world.read("summary.json")).unwrap();
    let feed = &summary["feeds"][0];
    assert_eq!((feed["end"].as_str(), feed["inside"].as_u64()), (Some("stopped"), Some(0)));
    assert_eq!(feed["emitted"].as_u64(), Some(lines.len() as u64));
    let dropped: u64 = feed["dropped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(feed["received"].as_u64(), Some(lines.len() as u64 + dropped));
}

#[test]
fn a_second_ctrl_c_aborts() {
    let world = World::new();
    let mut child = start(&world, &[]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    // Nobody reads on: what is on its way can't leave, and the drain would take its 30 seconds.
    interrupt(&child);
    wait_for(&mut stderr, "stopping");
    let stopping = std::time::Instant::now();
    // What comes at once counts as the same request; what comes after it does not.
    let status = loop {
        interrupt(&child);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(130));
    assert!(stopping.elapsed() < std::time::Duration::from_secs(20), "it waited for the drain");
}
