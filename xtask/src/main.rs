//! The developer's commands, run as `cargo xtask …`:
//!
//! - `test` runs what CI runs and prints the time of each phase;
//! - `demo` finds or fetches a model and clips, builds a release and runs the main job on them;
//! - `plugins` builds the plugins and puts them where the host and the tests look for them;
//! - `assets` fills `./assets` with the files of the demo;
//! - `bench` compares us with peers.
//!
//! The tests of this crate are the tidy checks of the whole workspace: which crate may know which, and what no
//! source file may contain.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the person who typed it")]

mod arm;
mod assets;
mod bench;
mod demo;
mod fetch;
mod fuzz;
mod plugins;
mod process;
mod python;
mod table;
mod test;
mod test_data;
#[cfg(test)]
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What a command ends in when it can't do its work: one message for the person, ready to print.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "The developer's commands of NextVision")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run what CI runs: format, licences, clippy, docs, model checking, plugins, tests, doctests
    Test(test::Options),
    /// Run two feeds of real video through detector and tracker, and say where the results are
    Demo(demo::Options),
    /// Build the plugins into `target/plugins` (shipped and test plugins)
    Plugins {
        /// Optimised, shipped plugins only, into `target/release/plugins`
        #[arg(long)]
        release: bool,
    },
    /// Fill `./assets` with the model and the clips of the demo
    Assets,
    /// Compare with peers, in the workspace `bench/`
    Bench {
        #[command(subcommand)]
        comparison: bench::Comparison,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Workspace::load().and_then(|workspace| match cli.command {
        Command::Test(options) => test::run(&workspace, &options),
        Command::Demo(options) => demo::run(&workspace, &options),
        Command::Plugins { release } => {
            let profile = if release { plugins::Profile::Release } else { plugins::Profile::Dev };
            plugins::build(&workspace, profile, &[]).map(drop)
        }
        Command::Assets => assets::fill(&workspace).map(drop),
        Command::Bench { comparison } => bench::run(&workspace, &comparison),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
