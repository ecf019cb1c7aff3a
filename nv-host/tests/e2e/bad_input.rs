//! Whatever is wrong, the message says what, where and what to do, and the exit code says which sort of thing it is.

use nv_infer::testing::classifier;
use nv_sources::testing::other_codec_mp4;

use crate::world::{FRAMES, Ran, World};

fn run(world: &World, args: &[&str]) -> Ran {
    world.nv(&[&["run"], args].concat())
}

/// Runs a source that is no good.
fn bad_source(name: &str, content: Option<&[u8]>) -> (World, Ran) {
    let world = World::new();
    if let Some(content) = content {
        world.write(name, content);
    }
    let ran = run(&world, &[name, "--model", "m.onnx"]).exits(5);
    (world, ran)
}

#[test]
fn a_video_that_is_not_there() {
    bad_source("nope.mp4", None).1.says(&["feed nope", "nope.mp4: there is no such file or folder", "check the path"]);
}

#[test]
fn a_text_called_a_video() {
    bad_source("text.mp4", Some(b"Dear camera,\nplease record.\n"))
        .1
        .says(&["text.mp4: it is a text file, not a video", "give"]);
}

#[test]
fn an_empty_file() {
    bad_source("empty.mp4", Some(b"")).1.says(&["empty.mp4: the file is empty"]);
}

#[test]
fn a_video_of_another_codec() {
    let (_, ran) = bad_source("new.mp4", Some(&other_codec_mp4(*b"hvc1")));
    ran.says(&["new.mp4", "H.265", "GStreamer"]);
}

#[test]
fn a_truncated_video_gives_the_frames_before_the_damage() {
    let whole = crate::world::clip();
    let (_, ran) = bad_source("cut.mp4", Some(&whole[..whole.len() * 2 / 3]));
    let frames = ran.json_lines().len();
    assert!((1..FRAMES).contains(&frames), "{frames}");
    ran.says(&["cut.mp4", &format!("({frames} frames before that were processed)")]);
    bad_source("stub.mp4", Some(&whole[..100])).1.says(&["stub.mp4"]);
}

#[test]
fn other_feeds_end_their_work() {
    let world = World::new();
    let ran = run(&world, &["nope.mp4", "a.mp4", "--model", "m.onnx"]).exits(5);
    assert_eq!(ran.json_lines().len(), FRAMES);
    ran.says(&["feed nope", "nope.mp4"]);
}

#[test]
fn a_scheme_that_nothing_opens() {
    let world = World::new();
    let ran = run(&world, &["rtsp://joe:s3cret@127.0.0.1/x", "--model", "m.onnx"]).exits(5);
    assert!(!ran.stderr.contains("s3cret") && !ran.stderr.contains("joe"), "{}", ran.stderr);
    ran.says(&["rtsp://***@127.0.0.1/x", "GStreamer"]);
}

#[test]
fn models_that_are_none() {
    let world = World::new();
    let whole = crate::world::model();
    world.write("cut.onnx", &whole[..whole.len() / 2]);
    world.write("text.onnx", "not a model");
    world.write("empty.onnx", "");
    world.write("classifier.onnx", classifier(32, 10));
    let check = |model: &str, parts: &[&str]| {
        let ran = run(&world, &["a.mp4", "--model", model]).exits(3);
        assert!(ran.stdout.is_empty());
        ran.says(&[&[model], parts].concat());
    };
    check("nope.onnx", &["no such file"]);
    check("cut.onnx", &["damaged"]);
    check("text.onnx", &["not an ONNX model"]);
    check("empty.onnx", &[]);
    check("classifier.onnx", &["yolox"]);
}

#[test]
fn wrong_arguments() {
    let world = World::new();
    run(&world, &["a.mp4"]).exits(2).says(&["no model to detect with", "--model"]);
    run(&world, &["a.mp4", "--modle", "m.onnx"]).exits(2);
    run(&world, &[]).exits(2);
    world.nv(&["rum"]).exits(2);
    let help = world.nv(&["--help"]).exits(0);
    assert!(help.stdout.contains("validate") && help.stderr.is_empty());
}

#[test]
fn outputs_that_can_not_be_written() {
    let world = World::new();
    world.write("file", "x");
    for flag in ["--output", "--annotated", "--summary"] {
        let ran = run(&world, &["a.mp4", "--model", "m.onnx", flag, "file/below/it"]).exits(1);
        assert!(ran.stdout.is_empty(), "nothing was begun");
        ran.says(&["file/below", "give another path"]);
    }
    run(&world, &["a.mp4", "--model", "m.onnx", "--annotated", "file"])
        .exits(2)
        .says(&["file is a file; give a folder"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let world = World::new();
    let source = "synthetic:?frames=3000&width=96&height=96";
    run(&world, &[source, "--model", "m.onnx", "--output", "/dev/full"])
        .exits(1)
        .says(&["/dev/full can't be written", "No space left"]);
}

#[test]
fn plugins_that_are_none() {
    let world = World::new();
    let config =
        "[stage.x]\nuse = 'acme/x'\n[plugin.acme]\npath = 'acme.so'\n[[feed]]\nsource = 'a.mp4'\nsteps = ['x']\n";
    world.write("site.toml", config);
    let check = |parts: &[&str]| {
        run(&world, &["site.toml"]).exits(3).says(&[&["site.toml:4:8: cannot load plugin acme.so"], parts].concat());
    };
    check(&["there is no such file"]);
    world.write("acme.so", "not a library");
    check(&["not a shared library"]);
    world.write("acme.so", "");
    check(&["empty"]);
    #[cfg(target_os = "linux")]
    {
        let library = std::fs::read(system_library()).expect("readable");
        world.write("acme.so", &library[..library.len() / 2]);
        check(&["truncated"]);
        world.write("acme.so", &library);
        check(&["no NextVision plugin"]);
    }
}

/// A shared library that is no plugin: one that this process runs on.
#[cfg(target_os = "linux")]
fn system_library() -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths
        .find(|path| path.contains("libc.so") || path.contains("libgcc_s.so"))
        .expect("every process has libc")
        .to_owned()
}

#[test]
fn shipped_plugins_that_are_not_there() {
    let world = World::new();
    world.write("none/README", "no plugins");
    run(&world, &["a.mp4", "--model", "m.onnx", "--plugin-dir", "none"]).exits(3).says(&[
        "\"models\"",
        "looked in none",
        "cargo xtask plugins",
    ]);
    let mut command = world.command(&["run", "a.mp4", "--model", "m.onnx"]);
    let ran = Ran::from(command.env("NV_PLUGIN_DIR", "none").output().unwrap());
    ran.exits(3).says(&["looked in none"]);
}
