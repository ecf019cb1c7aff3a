//! `cargo xtask bench …`: comparisons with peers. They live in a workspace of their own, `bench/`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::plugins::{self, Profile};
use crate::workspace::Workspace;
use crate::{Result, process, tools};

/// What to compare.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Comparison {
    /// Our runtime beside the ancestor's: throughput, latency, fairness, losses, CPU time
    #[command(disable_help_flag = true)]
    Runtime(Flags),
    /// Our inference engine beside onnxruntime, rten, tract and wonnx: CPU time, time by the clock, starts
    #[command(disable_help_flag = true)]
    Infer(Flags),
    /// `nv run` beside the loop that a user would write in Python: frames per CPU second, memory, tracking
    #[command(disable_help_flag = true)]
    Python(Flags),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Flags {
    /// Given on as they are; `--help` names them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// Builds the comparison, optimised, and runs it. The raw result of a whole table is kept under `bench/results`.
pub(crate) fn run(workspace: &Workspace, comparison: &Comparison) -> Result<()> {
    let bench = Bench::new(workspace);
    match comparison {
        Comparison::Runtime(Flags { flags }) => runtime(&bench, flags),
        Comparison::Infer(Flags { flags }) => infer(&bench, workspace, flags),
        Comparison::Python(Flags { flags }) => python(&bench, workspace, flags),
    }
}

fn runtime(bench: &Bench, flags: &[OsString]) -> Result<()> {
    bench.build("nv-bench-runtime")?;
    let partial = ["--case", "--rounds", "--seconds", "--without-ancestor", "--list", "--results", "--help", "-h"];
    let mut command = bench.program("nv-bench-runtime");
    command.args(flags).args(bench.keep(flags, &partial));
    process::run(&mut command)
}

/// Peers of our inference engine; each has a program of its own, so that only those are built that are asked for.
const PEERS: [&str; 4] = ["ort", "rten", "tract", "wonnx"];

fn infer(bench: &Bench, workspace: &Workspace, flags: &[OsString]) -> Result<()> {
    bench.build("nv-bench-infer")?;
    bench.build("nv-bench-ours")?;
    let peers = values_of(flags, "--peers").unwrap_or_else(|| PEERS.map(str::to_owned).to_vec());
    let mut command = bench.program("nv-bench-infer");
    for peer in PEERS.into_iter().filter(|peer| peers.iter().any(|p| p == peer)) {
        match peer {
            "wonnx" => bench.build_in(&bench.root.join("infer/wonnx"), "nv-bench-wonnx")?,
            _ => bench.build(&format!("nv-bench-{peer}"))?,
        }
        if peer == "ort" && std::env::var_os(ONNX_RUNTIME).is_none() {
            command.env(ONNX_RUNTIME, onnx_runtime(&bench.target)?);
        }
    }
    command.envs(assets(workspace));
    let partial = [
        "--case",
        "--rounds",
        "--seconds",
        "--peers",
        "--device",
        "--threads",
        "--batch",
        "--list",
        "--results",
        "--help",
        "-h",
    ];
    command.arg("--work").arg(bench.target.join("infer"));
    command.args(flags).args(bench.keep(flags, &partial));
    process::run(&mut command)
}

/// What names ONNX Runtime's library to the program that loads it.
const ONNX_RUNTIME: &str = "ORT_DYLIB_PATH";
/// The version that is compared with. `bench/python/requirements.txt` has the same.
const ONNX_RUNTIME_VERSION: &str = "1.32.0";

/// ONNX Runtime's library, taken from its Python package into `target` unless it is there already.
fn onnx_runtime(target: &Path) -> Result<PathBuf> {
    let folder = target.join(format!("onnxruntime-{ONNX_RUNTIME_VERSION}"));
    if let Some(library) = library_in(&folder) {
        return Ok(library);
    }
    tools::ensure_system_program("python3", &["-m", "pip", "--version"], "python3-pip")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]).arg(&folder);
    process::run(pip.arg(format!("onnxruntime=={ONNX_RUNTIME_VERSION}")))?;
    Ok(library_in(&folder)
        .ok_or_else(|| format!("onnxruntime {ONNX_RUNTIME_VERSION} ships no library that we know"))?)
}

fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder.join("onnxruntime/capi")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let library = name.starts_with("libonnxruntime.") || name == "onnxruntime.dll";
        library && !name.ends_with(".lib")
    })
}

fn python(bench: &Bench, workspace: &Workspace, flags: &[OsString]) -> Result<()> {
    bench.build("nv-bench-python")?;
    let folder = bench.root.join("python");
    let python = python_with(&folder.join("requirements.txt"), &bench.target.join("python"))?;
    let built = plugins::build(workspace, Profile::Release, &["-p", "nv-host", "--lib", "--bins"])?;
    let nv = built.executables.iter().find(|path| path.file_stem().is_some_and(|stem| stem == "nv"));
    let nv = nv.ok_or("the build made no executable `nv`")?;
    let mut command = bench.program("nv-bench-python");
    command.arg("--nv").arg(nv).arg("--python").arg(python).arg("--script").arg(folder.join("loop.py"));
    command.envs(assets(workspace));
    let partial = ["--rounds", "--frames", "--device", "--results", "--help", "-h"];
    command.args(flags).args(bench.keep(flags, &partial));
    process::run(&mut command)
}

/// A Python in a virtual environment under `folder` that has exactly what `requirements` names. It is made again when those
/// change.
fn python_with(requirements: &Path, folder: &Path) -> Result<PathBuf> {
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted = std::fs::read_to_string(requirements)?;
    let installed = folder.join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    tools::ensure_system_program("python3", &["-m", "venv", "--help"], "python3-venv")?;
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--requirement"]);
    process::run(pip.arg(requirements))?;
    std::fs::write(&installed, wanted)?;
    Ok(python)
}

/// Where the models and clips are, for the comparisons that need them.
fn assets(workspace: &Workspace) -> Option<(&'static str, PathBuf)> {
    let folder = workspace.asset_folders().into_iter().find(|folder| folder.join("models").is_dir())?;
    Some(("NV_ASSETS", folder))
}

/// The workspace of the comparisons.
struct Bench {
    root: PathBuf,
    /// One target folder for all that is built here, apart from the root workspace's own artifacts.
    target: PathBuf,
}

impl Bench {
    fn new(workspace: &Workspace) -> Self {
        Self { root: workspace.root.join("bench"), target: workspace.target.join("bench") }
    }

    /// Builds one package, optimised. One at a time: what others need must not change how its dependencies are built.
    fn build(&self, package: &str) -> Result<()> {
        self.build_in(&self.root, package)
    }

    /// The same for a package of the workspace in `folder`.
    fn build_in(&self, folder: &Path, package: &str) -> Result<()> {
        let mut command = Command::new(process::cargo());
        // Not `--locked`: what the house's crates depend on changes with the house, not with this lock file.
        command.args(["build", "--quiet", "--release", "--package", package]);
        command.arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&self.target);
        process::run(&mut command)
    }

    fn program(&self, package: &str) -> Command {
        Command::new(self.target.join("release").join(package).with_extension(std::env::consts::EXE_EXTENSION))
    }

    /// What tells a comparison to keep its raw result: only that of a whole table is worth it, one that no flag of `partial`
    /// made smaller.
    fn keep(&self, flags: &[OsString], partial: &[&str]) -> Vec<OsString> {
        if flags.iter().any(|flag| partial.contains(&name_of(flag).as_str())) {
            return Vec::new();
        }
        vec!["--results".into(), self.root.join("results").into()]
    }
}

/// A flag without its value.
fn name_of(flag: &OsStr) -> String {
    let flag = flag.to_string_lossy();
    flag.split('=').next().unwrap_or_default().to_owned()
}

/// The values that `flags` give for `name`, separated by commas or spaces; `None` where they don't name it.
fn values_of(flags: &[OsString], name: &str) -> Option<Vec<String>> {
    let place = flags.iter().position(|flag| name_of(flag) == name)?;
    let first = flags[place].to_string_lossy();
    let after = flags[place + 1..].iter().map(|flag| flag.to_string_lossy()).take_while(|flag| !flag.starts_with("--"));
    let given: Vec<_> = match first.split_once('=') {
        Some((_, values)) => vec![values.into()],
        None => after.collect(),
    };
    Some(given.iter().flat_map(|values| values.split(',')).filter(|v| !v.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(flags: &[&str]) -> Vec<OsString> {
        flags.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_whole_tables_are_kept() {
        fn check(given: &[&str], expected: bool) {
            let bench = Bench { root: "bench".into(), target: "target".into() };
            assert_eq!(!bench.keep(&flags(given), &["--case", "--rounds", "--help"]).is_empty(), expected, "{given:?}");
        }
        check(&[], true);
        check(&["--other"], true);
        check(&["--case", "files-1"], false);
        check(&["--rounds=1"], false);
        check(&["--help"], false);
    }

    #[test]
    fn peers_are_read_as_the_comparison_reads_them() {
        fn check(given: &[&str], expected: Option<&[&str]>) {
            let expected = expected.map(|values| values.iter().map(|v| (*v).to_owned()).collect());
            assert_eq!(values_of(&flags(given), "--peers"), expected, "{given:?}");
        }
        check(&["--rounds", "3"], None);
        check(&["--peers", "ort,rten", "--rounds", "3"], Some(&["ort", "rten"]));
        check(&["--rounds", "3", "--peers=ort"], Some(&["ort"]));
        check(&["--peers", "ort", "rten"], Some(&["ort", "rten"]));
        check(&["--peers", "--rounds", "3"], Some(&[]));
    }
}
