//! Puts the same load on our runtime and on the ancestor's, one right after the other, and says what each makes of it.
//!
//! Sources, processor and sinks are scripted (`world`), and the same for both but for thin adapters (`ours`, `ancestor`).
//! The processor sleeps, so what is measured is what the runtimes add. Every run is a process of its own: it prints one
//! sample (`measure`) as JSON. `verdict` holds the samples against what is required of a case (`case`).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to the person who typed it")]

mod ancestor;
mod case;
mod engine;
mod measure;
mod ours;
mod report;
mod verdict;
mod world;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;

use crate::case::Case;
use crate::engine::Kind;
use crate::measure::Sample;
use crate::report::Report;
use crate::verdict::Round;

#[derive(Parser)]
#[command(name = "runtime", about = "Our runtime beside the ancestor's, on the same load in one run")]
struct Options {
    /// How often each case runs; medians are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this case (more than once for several); see --list
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// How long each case is measured, instead of its own time
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Leave the ancestor out
    #[arg(long)]
    without_ancestor: bool,
    /// Put the raw result here; without it, it is not kept
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Only name the cases
    #[arg(long)]
    list: bool,
    /// Run one case once in this process and print its sample
    #[arg(long, hide = true, value_name = "KIND")]
    sample: Option<Kind>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err("must be from 0.1 to 3600".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
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
    if options.list {
        for case in case::all() {
            println!("{:22} {}{}", case.name, case.title, if case.extra { " (only when named)" } else { "" });
        }
        return Ok(ExitCode::SUCCESS);
    }
    let cases = chosen(&options.cases)?;
    if let Some(kind) = options.sample {
        let [case] = cases.as_slice() else { return Err("--sample takes one --case".to_owned()) };
        measure::run(case, kind, options.seconds.unwrap_or(case.window), |sample| {
            println!("{}", serde_json::to_string(sample).expect("a sample is plain data"));
        })?;
        return Ok(ExitCode::SUCCESS);
    }

    let mut measured: Vec<(Case, Vec<Round>)> = cases.into_iter().map(|case| (case, Vec::new())).collect();
    for number in 0..options.rounds {
        for (case, rounds) in &mut measured {
            let ancestor = || (!options.without_ancestor).then(|| sample(case, Kind::Ancestor, options)).transpose();
            // Neither is always the first.
            let round = if number % 2 == 0 {
                let ancestor = ancestor()?;
                Round { ancestor, ours: sample(case, Kind::Ours, options)? }
            } else {
                let ours = sample(case, Kind::Ours, options)?;
                Round { ancestor: ancestor()?, ours }
            };
            rounds.push(round);
        }
        eprintln!("round {} of {} done", number + 1, options.rounds);
    }

    let report = Report::new(measured);
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

/// The cases of those names, in the order of the table; without names those that are no extra.
fn chosen(names: &[String]) -> Result<Vec<Case>, String> {
    let all = case::all();
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|case| case.name != **name)) {
        let known: Vec<_> = all.iter().map(|case| case.name).collect();
        return Err(format!("there is no case {unknown:?}; there are {}", known.join(", ")));
    }
    let wanted = |case: &Case| if names.is_empty() { !case.extra } else { names.iter().any(|name| name == case.name) };
    Ok(all.into_iter().filter(wanted).collect())
}

/// Runs a case once, in a process of its own, so that no run sees another's threads, memory or CPU time.
fn sample(case: &Case, kind: Kind, options: &Options) -> Result<Sample, String> {
    let name = match kind {
        Kind::Ancestor => "ancestor",
        Kind::Ours => "ours",
    };
    let failed = |what: String| format!("{} on {name}: {what}", case.name);
    let window = options.seconds.unwrap_or(case.window).as_secs_f64();
    let program = std::env::current_exe().map_err(|e| failed(e.to_string()))?;
    let mut command = Command::new(program);
    command.args(["--sample", name, "--case", case.name, "--seconds", &window.to_string()]);
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        return Err(failed(format!("ended with {}", output.status)));
    }
    let sample: Sample = serde_json::from_slice(&output.stdout).map_err(|e| failed(e.to_string()))?;
    eprintln!(
        "{:22} {name:8} {:7.0} frames/s  p50 {:6.2} ms  lost {}",
        case.name,
        sample.delivered as f64 / sample.seconds,
        sample.latency.p50,
        sample.lost
    );
    Ok(sample)
}
