//! Fuzzing: libFuzzer makes model files out of models, and looks for one that panics, hangs or takes too much memory.

use std::fs;
use std::process::Command;

use crate::workspace::Workspace;
use crate::{Result, process};

/// How long the fuzzer runs.
const SECONDS: &str = "300";
/// What a file may take: far more than the limits that the hostile files of nv-infer's tests are held to, because here every
/// branch is counted and nobody knows what else the machine does.
const LIMITS: [&str; 3] = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=16384"];

/// Fuzzes the reading of model files. The corpus stays in the target folder and grows from run to run; a file that fails is
/// named there too.
pub(crate) fn models(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target.join("fuzz-models");
    let [corpus, failures] = ["corpus", "failures"].map(|name| folder.join(name));
    fs::create_dir_all(&failures)?;
    let cargo = || {
        let mut command = Command::new(process::cargo());
        command.current_dir(&workspace.root);
        command
    };
    // The models that it begins with, and the words that it should know.
    let seeds = ["nextest", "run", "--package", "nv-infer", "--test", "hostile"];
    let only = ["-E", "test(=mutations::the_seeds_are_models)"];
    process::run(cargo().args(seeds).args(only).env("NV_FUZZ_SEEDS", &folder))?;
    let mut command = cargo();
    // Without a sanitizer, which needs a nightly compiler: what is looked for in the first place are panics, time and memory.
    command.args(["fuzz", "run", "--fuzz-dir", "nv-plugins/infer/fuzz", "--sanitizer", "none", "--target-dir"]);
    command.arg(workspace.target.join("fuzz")).arg("model").arg(&corpus).arg("--");
    command.arg(format!("-dict={}", folder.join("dictionary").display()));
    command.arg(format!("-artifact_prefix={}/", failures.display()));
    command.arg(format!("-max_total_time={SECONDS}")).args(LIMITS).arg("-print_final_stats=1");
    process::run(&mut command)
        .map_err(|error| format!("{error}\na file that fails is in {}", failures.display()).into())
}
