//! The programs that run tasks, one for each runtime.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nv_bench_runner::{Answer, Device};

use crate::case::Case;

/// A runtime, and what it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Runtime {
    Ours(Device),
    Peer(Peer),
}

/// A runtime that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Peer {
    /// ONNX Runtime on the CPU.
    Ort,
    /// rten, on the CPU.
    Rten,
    /// tract, on the CPU.
    Tract,
    /// wonnx, on the GPU that is emulated in software.
    Wonnx,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [Self::Ort, Self::Rten, Self::Tract, Self::Wonnx];
}

impl Runtime {
    /// Whether it is worth asking to do this.
    pub(crate) fn takes(self, case: &Case, threads: usize, batch: usize) -> bool {
        match self {
            // It computes with one thread.
            Self::Peer(Peer::Tract) => threads == 1,
            // Whole models it can't, nor other batches than the file's.
            Self::Peer(Peer::Wonnx) => case.is_single() && batch == 1,
            _ => true,
        }
    }

    /// Whether it takes only files that fix the batch.
    pub(crate) fn needs_fixed_batch(self) -> bool {
        self == Self::Peer(Peer::Wonnx)
    }

    /// Whether it compiles shaders that the driver keeps on disk.
    pub(crate) fn has_shaders(self) -> bool {
        !matches!(self, Self::Ours(Device::Cpu) | Self::Peer(Peer::Ort | Peer::Rten | Peer::Tract))
    }

    fn program(self) -> &'static str {
        match self {
            Self::Ours(_) => "nv-bench-ours",
            Self::Peer(Peer::Ort) => "nv-bench-ort",
            Self::Peer(Peer::Rten) => "nv-bench-rten",
            Self::Peer(Peer::Tract) => "nv-bench-tract",
            Self::Peer(Peer::Wonnx) => "nv-bench-wonnx",
        }
    }

    fn device(self) -> &'static str {
        match self {
            Self::Ours(Device::Gpu) => "gpu",
            Self::Ours(Device::Software) | Self::Peer(Peer::Wonnx) => "software",
            Self::Ours(Device::Cpu) | Self::Peer(Peer::Ort | Peer::Rten | Peer::Tract) => "cpu",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours(Device::Cpu) => "ours, cpu",
            Self::Ours(Device::Gpu) => "ours, gpu",
            Self::Ours(Device::Software) => "ours, software",
            Self::Peer(Peer::Ort) => "onnxruntime",
            Self::Peer(Peer::Rten) => "rten",
            Self::Peer(Peer::Tract) => "tract",
            Self::Peer(Peer::Wonnx) => "wonnx, software",
        })
    }
}

impl serde::Serialize for Runtime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One process of one runtime.
pub(crate) struct Job<'a> {
    pub(crate) runtime: Runtime,
    pub(crate) case: &'a Case,
    pub(crate) model: PathBuf,
    pub(crate) threads: usize,
    pub(crate) batch: usize,
    /// `None`: only the start is measured.
    pub(crate) seconds: Option<f64>,
    pub(crate) outputs: Option<&'a Path>,
    /// Where the driver keeps compiled shaders.
    pub(crate) shaders: &'a Path,
}

impl Job<'_> {
    /// Runs it to its end.
    pub(crate) fn run(&self) -> Result<Answer, String> {
        let this = std::env::current_exe().map_err(|e| e.to_string())?;
        let program = this.with_file_name(self.runtime.program()).with_extension(std::env::consts::EXE_EXTENSION);
        let [a, b, c] = self.case.entry;
        let [from, to] = self.case.range;
        let mut command = Command::new(&program);
        command.arg("--model").arg(&self.model);
        command.args(["--entry", &format!("{a}x{b}x{c}"), "--range", &from.to_string(), &to.to_string()]);
        command.args(["--batch", &self.batch.to_string(), "--threads", &self.threads.to_string()]);
        command.args(["--device", self.runtime.device()]);
        if let Some(seconds) = self.seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        if let Some(outputs) = self.outputs {
            command.arg("--outputs").arg(outputs);
        }
        command.envs(self.environment());
        let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{}: {e}", program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(format!("{} ({})", last.strip_prefix("error: ").unwrap_or(last), output.status));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("no answer: {e}"))
    }

    /// What tells Mesa's software rasterizer how many threads it may use and where it keeps shaders.
    fn environment(&self) -> Vec<(&'static str, OsString)> {
        if !self.runtime.has_shaders() {
            return Vec::new();
        }
        let mut environment = vec![
            ("LP_NUM_THREADS", self.threads.to_string().into()),
            ("MESA_SHADER_CACHE_DIR", self.shaders.as_os_str().to_owned()),
        ];
        if self.runtime == Runtime::Peer(Peer::Wonnx) {
            // It takes its adapter from there, and would else take a hardware GPU.
            environment.push(("WGPU_ADAPTER_NAME", "llvmpipe".into()));
        }
        environment
    }
}
