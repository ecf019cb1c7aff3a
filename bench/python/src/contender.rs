//! The two that are compared, as a user would start them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Options;

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contender {
    Python,
    Nv,
}

/// What both are put on.
pub(crate) struct Scene {
    pub(crate) clip: PathBuf,
    pub(crate) model: PathBuf,
    /// Whom the clip shows where, as MOTChallenge text.
    pub(crate) truth: PathBuf,
}

impl Scene {
    /// The street of PETS 2009 and YOLOX-nano, of which all is needed.
    pub(crate) fn find(assets: &Path) -> Result<Self, String> {
        let file = |place: &str| {
            let path = assets.join(place);
            let missing = || format!("{} is not there; name the assets' folder in NV_ASSETS", path.display());
            // Programs that run elsewhere are given it.
            std::path::absolute(&path).ok().filter(|path| path.is_file()).ok_or_else(missing)
        };
        Ok(Self {
            clip: file("video/vtest_h264_high.mp4")?,
            model: file("models/yolox_nano_coco_416.onnx")?,
            truth: file("mot/PETS09-S2L1/gt.txt")?,
        })
    }
}

impl Contender {
    /// The name it has on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Nv => "nv",
        }
    }

    /// The command that runs it on the scene, its results going to the file that the options name.
    pub(crate) fn command(self, options: &Options, scene: &Scene) -> Command {
        let mut command;
        match self {
            Self::Python => {
                command = Command::new(&options.python);
                command.arg(&options.script).args([&scene.clip, &scene.model, &options.output]);
                // Workarounds for old builds of numpy's linear algebra would slow a new one.
                command.env_remove("OPENBLAS_CORETYPE").env("OPENBLAS_NUM_THREADS", "1").env("OMP_NUM_THREADS", "1");
            }
            Self::Nv => {
                command = Command::new(&options.nv);
                command.arg("run").arg(&scene.clip).arg("--model").arg(&scene.model);
                command.args(["--labels", "coco", "--classes", "person", "--device", &options.device]);
                command.arg("--output").arg(&options.output);
            }
        }
        if let Some(frames) = options.frames {
            command.args(["--limit", &frames.to_string()]);
        }
        command
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
