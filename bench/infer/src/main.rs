//! Puts the same models on `nv-infer` and on other inference runtimes, and says what each makes of them.
//!
//! Each runtime is a program of its own beside this one (`runtime`); it does one task (a model, a batch, a number of threads)
//! in a process of its own and prints one sample. Rounds go through all tasks, the runtimes of a task one right after the other
//! (`schedule`), so that what is compared was measured within seconds. Outputs are compared before speeds are (`check`);
//! `verdict` holds the samples against what is required.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the person who typed it")]

mod case;
mod check;
mod report;
mod runtime;
mod schedule;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nv_bench_runner::Device;

use crate::case::Case;
use crate::report::Report;
use crate::runtime::Peer;
use crate::schedule::Plan;

#[derive(Parser)]
#[command(name = "infer", about = "nv-infer beside other inference runtimes, on the same models in one run")]
struct Options {
    /// How often each task runs; medians are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these cases; see --list
    #[arg(long = "case", value_name = "NAME", value_delimiter = ',')]
    cases: Vec<String>,
    /// Only these peers; an empty list leaves all out
    #[arg(long, value_name = "PEER", value_delimiter = ',', num_args = 0.., value_enum, default_values_t = Peer::ALL)]
    peers: Vec<Peer>,
    /// What nv-infer is to run on
    #[arg(long = "device", value_name = "DEVICE", value_delimiter = ',', value_enum, default_values_t = [Device::Cpu, Device::Software])]
    devices: Vec<Device>,
    /// Threads that one run may use
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,
    /// Entries in a batch
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 8])]
    batch: Vec<usize>,
    /// How long each sample is measured
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Where the models and clips are
    #[arg(long, value_name = "FOLDER", env = "NV_ASSETS", default_value = "../shared/assets")]
    assets: PathBuf,
    /// Where built models and compiled shaders stay from run to run; else they are thrown away
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    /// Put the raw result here; without it, it is not kept
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Only name the cases
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode, String> {
    if options.list {
        for case in case::all() {
            println!("{:14} {}", case.name, case.title());
        }
        println!("{:14} from nothing to the first outputs of {}", schedule::START, schedule::START_CASE);
        return Ok(ExitCode::SUCCESS);
    }
    let (cases, starts) = chosen(&options.cases)?;
    let temporary = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let work = options.work.unwrap_or_else(|| temporary.path().to_owned());
    let plan = Plan {
        cases,
        starts,
        devices: options.devices,
        peers: options.peers,
        threads: options.threads,
        batches: options.batch,
        seconds: options.seconds,
        rounds: options.rounds,
        assets: options.assets,
        work,
    };
    let report = Report::new(&plan, schedule::run(&plan)?);
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

/// The cases of those names, in the order of the table, and whether the start is to be measured; all without names.
fn chosen(names: &[String]) -> Result<(Vec<Case>, bool), String> {
    let all = case::all();
    let known = || all.iter().map(|case| case.name).chain([schedule::START]);
    if let Some(unknown) = names.iter().find(|name| known().all(|known| known != **name)) {
        return Err(format!("there is no case {unknown:?}; there are {}", known().collect::<Vec<_>>().join(", ")));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let starts = wanted(schedule::START);
    Ok((all.into_iter().filter(|case| wanted(case.name)).collect(), starts))
}
