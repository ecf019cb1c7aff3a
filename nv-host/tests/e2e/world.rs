use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nv_core::Size;
use nv_infer::testing::constant_model;
use nv_perception::testing::SceneConfig;
use nv_sources::testing::{Clip, ClipConfig};
use serde_json::Value;
use tempfile::TempDir;

/// Frames of [`World::clip`].
pub(crate) const FRAMES: usize = 24;

/// An operator's folder: the command runs in it.
pub(crate) struct World {
    folder: TempDir,
}

/// What a run of the command left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// A folder with a model, `m.onnx`, and a video, `a.mp4`, in it.
    pub(crate) fn new() -> Self {
        let world = Self::empty();
        world.write("m.onnx", model());
        world.write("a.mp4", clip());
        world
    }

    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it is in the folder")).expect("writable");
        std::fs::write(path, content).expect("writable");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The command with these arguments, in this folder, without what the environment of the tests would tell it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nv"));
        command.current_dir(self.folder.path()).args(args).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("NV_") || name.starts_with("RUST_") {
                command.env_remove(name);
            }
        }
        command
    }

    pub(crate) fn nv(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().expect("nv was built for this test"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("nv writes UTF-8");
        let ran = Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
        ran.assert_calm();
        ran
    }
}

impl Ran {
    /// No panic of the command itself, no backtrace.
    fn assert_calm(&self) {
        for word in ["panicked at", "stack backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(word), "{}", self.stderr);
        }
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let hint = if self.stderr.contains("is not there; looked in") && code != 3 {
            "the shipped plugins are not built: run `cargo xtask plugins`\n"
        } else {
            ""
        };
        assert_eq!(self.code, Some(code), "{hint}stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// An error message that has all of these in it, on one line.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        let mut errors = self.stderr.lines().filter(|line| line.starts_with("nv: error: "));
        assert!(errors.any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?} in\n{}", self.stderr);
        self
    }

    /// The lines of JSON on standard output.
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A detector in YOLOX's form that sees the same person in every picture: a box of half its input's width, about the
/// middle, with a score of 0.9.
pub(crate) fn model() -> Vec<u8> {
    const CELLS: usize = 16 + 4 + 1;
    const WIDTH: usize = 5 + 80;
    let mut output = vec![0.0; CELLS * WIDTH];
    let half = 0.5f32;
    // The one cell of stride 32: centre, logarithm of the sides, objectness, the first class.
    output[(CELLS - 1) * WIDTH..][..6].copy_from_slice(&[half, half, half.ln(), half.ln(), 0.9, 1.0]);
    let input = [1.into(), 3.into(), 32.into(), 32.into()];
    constant_model(&input, &[("output", &[1, CELLS as i64, WIDTH as i64], &output)])
}

/// A square video of [`FRAMES`] frames.
pub(crate) fn clip() -> Vec<u8> {
    let scene = SceneConfig { size: Size::new(96, 96), ..ClipConfig::default().scene };
    Clip::encode(&ClipConfig { scene, b_frames: 2, ..ClipConfig::default() }).to_mp4().to_bytes()
}

/// The names of what is in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|e| e.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
