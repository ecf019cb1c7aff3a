//! Puts `nv run` and the plain Python loop (`loop.py`) on the same clip with the same model, and says what each costs and how
//! well it follows people.
//!
//! Every run is started from a process of its own, so that what the system says of that process's children is said of this
//! run alone (`usage`). Both write lines of JSON; `quality` holds the tracks in them against the same ground truth.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the person who typed it")]

mod contender;
mod quality;
mod report;
mod usage;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

use crate::contender::{Contender, Scene};
use crate::quality::Truth;
use crate::report::{Report, Round};
use crate::usage::Sample;

#[derive(Parser)]
#[command(name = "python", about = "nv run beside the plain Python loop, on the same clip and model in one run")]
struct Options {
    /// How often each runs; medians are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Frames of the clip; all without it
    #[arg(long, value_name = "N")]
    frames: Option<u32>,
    /// What nv is to run the model on
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// The executable of nv, with its plugins beside it
    #[arg(long, value_name = "FILE")]
    nv: PathBuf,
    /// A Python that has what requirements.txt names
    #[arg(long, value_name = "FILE")]
    python: PathBuf,
    /// The loop
    #[arg(long, value_name = "FILE")]
    script: PathBuf,
    /// Where the models, clips and ground truth are
    #[arg(long, value_name = "FOLDER", env = "NV_ASSETS", default_value = "../shared/assets")]
    assets: PathBuf,
    /// Put the raw result here; without it, it is not kept
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Run this one once and print its sample
    #[arg(long, hide = true, value_name = "WHO")]
    sample: Option<Contender>,
    /// Where that one is to write
    #[arg(long, hide = true, value_name = "FILE", default_value = "/dev/null")]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, String> {
    let scene = Scene::find(&options.assets)?;
    if let Some(contender) = options.sample {
        let sample = usage::measure(&mut contender.command(options, &scene))?;
        println!("{}", serde_json::to_string(&sample).expect("a sample is plain data"));
        return Ok(ExitCode::SUCCESS);
    }
    let truth = Truth::read(&scene.truth, options.frames)?;
    let folder = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        let sample = |contender| {
            let output = folder.path().join("output.jsonl");
            let mut sample = sample(contender, &output)?;
            sample.judge(&truth, &output)?;
            say(contender, &sample);
            Ok::<_, String>(sample)
        };
        // Neither is always the first.
        rounds.push(if number % 2 == 0 {
            let python = sample(Contender::Python)?;
            Round { python, nv: sample(Contender::Nv)? }
        } else {
            let nv = sample(Contender::Nv)?;
            Round { python: sample(Contender::Python)?, nv }
        });
    }
    let report = Report::new(&scene, options.frames, rounds);
    println!("{}", report.table());
    if let Some(folder) = &options.results {
        println!("raw result: {}", report.save(folder)?.display());
    }
    let failures = report.failures();
    if failures > 0 {
        println!("{failures} of the figures are not what is required");
        return Ok(ExitCode::from(2));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs it once, from a process of its own that is told what this one was told.
fn sample(contender: Contender, output: &PathBuf) -> Result<Sample, String> {
    let failed = |what: String| format!("{contender}: {what}");
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).args(["--sample", contender.name(), "--output"]).arg(output);
    let done = command.stderr(Stdio::inherit()).output().map_err(|e| failed(e.to_string()))?;
    if !done.status.success() {
        return Err(failed(format!("ended with {}", done.status)));
    }
    serde_json::from_slice(&done.stdout).map_err(|e| failed(e.to_string()))
}

fn say(contender: Contender, sample: &Sample) {
    eprintln!(
        "{contender:8} {:6.1} frames per CPU second  {:4.0} MiB  MOTA {:.3}  {:.1} s",
        sample.frames_per_cpu_s(),
        sample.peak_mib,
        sample.mota,
        sample.wall_s
    );
}
