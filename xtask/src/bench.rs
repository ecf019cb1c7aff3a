//! `cargo xtask bench …`: comparisons with peers. They live in a workspace of their own, `bench/`.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use crate::workspace::Workspace;
use crate::{Result, process};

/// What to compare.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Comparison {
    /// Our runtime beside the ancestor's: throughput, latency, fairness, losses, CPU time
    #[command(disable_help_flag = true)]
    Runtime {
        /// Given on as they are; `--help` names them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<OsString>,
    },
}

/// Builds the comparison, optimised, and runs it. The raw result of a whole table is kept under `bench/results`.
pub(crate) fn run(workspace: &Workspace, comparison: &Comparison) -> Result<()> {
    let Comparison::Runtime { flags } = comparison;
    let bench = workspace.root.join("bench");
    let mut command = Command::new(process::cargo());
    command.args(["run", "--quiet", "--locked", "--release", "--package", "nv-bench-runtime"]);
    command.arg("--manifest-path").arg(bench.join("Cargo.toml"));
    // One target folder for all that is built here, apart from the root workspace's own artifacts.
    command.arg("--target-dir").arg(workspace.target.join("bench"));
    command.arg("--").args(flags);
    if is_whole(flags) {
        command.arg("--results").arg(bench.join("results"));
    }
    process::run(&mut command)
}

/// Whether the flags leave the table as it is: then its result is worth keeping.
fn is_whole(flags: &[OsString]) -> bool {
    const PARTIAL: [&str; 8] =
        ["--case", "--rounds", "--seconds", "--without-ancestor", "--list", "--results", "--help", "-h"];
    let is_partial = |flag: &OsStr| {
        let flag = flag.to_string_lossy();
        let name = flag.split('=').next().unwrap_or_default();
        PARTIAL.contains(&name)
    };
    !flags.iter().any(|flag| is_partial(flag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tables_are_kept() {
        fn check(flags: &[&str], expected: bool) {
            let flags: Vec<_> = flags.iter().map(OsString::from).collect();
            assert_eq!(is_whole(&flags), expected, "{flags:?}");
        }
        check(&[], true);
        check(&["--case", "files-1"], false);
        check(&["--rounds=1"], false);
        check(&["--help"], false);
    }
}
