#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the answer goes to the program that started this one")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nv_bench_harness::CpuTime;
use nv_bench_harness::statistics::median;
use serde::{Deserialize, Serialize};

use crate::{Engine, Failure, Task, write_outputs};

/// What became of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It ran.
    Ran(Sample),
    /// The runtime can't run it, for this reason.
    Unavailable(String),
}

/// What was seen of one task. Times are of the whole batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// From the program's start to the first outputs: CPU time of the process, in seconds.
    pub start_cpu_s: f64,
    /// The same by the clock.
    pub start_wall_s: f64,
    /// Runs that were measured; 0 where only the start was.
    pub runs: usize,
    /// CPU time of the process for one run, all threads, in milliseconds: the mean. Of other threads than the one that asks, the
    /// system's clock knows only from time to time, so that single short runs can't be told apart.
    pub cpu_ms: f64,
    /// Time of one run by the clock, in milliseconds: the median, and the least.
    pub wall_ms: f64,
    /// See `wall_ms`.
    pub wall_ms_least: f64,
    /// Cores that other programs used meanwhile; 0 where the system does not say.
    pub cores_others: f64,
}

/// The program: does what the command line says with the engine that `prepare` makes, and prints the answer.
pub fn main<E: Engine>(prepare: impl FnOnce(&Task) -> Result<E, Failure>) -> ExitCode {
    let started = Instant::now();
    let answer = match run(&Task::parse(), started, prepare) {
        Ok(sample) => Answer::Ran(sample),
        Err(Failure::Unavailable(reason)) => Answer::Unavailable(reason),
        Err(Failure::Failed(reason)) => {
            eprintln!("error: {reason}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", serde_json::to_string(&answer).expect("an answer is plain data"));
    ExitCode::SUCCESS
}

/// Runs before the measured ones: at least so many, for at least this share of the time.
const WARM_UP_RUNS: usize = 2;
const WARM_UP_SHARE: f64 = 0.2;
/// Measured runs, however long one takes.
const RUNS: usize = 3;

fn run<E: Engine>(
    task: &Task,
    started: Instant,
    prepare: impl FnOnce(&Task) -> Result<E, Failure>,
) -> Result<Sample, Failure> {
    let mut engine = prepare(task)?;
    engine.run().map_err(Failure::Failed)?;
    let mut sample = Sample {
        // The process's clock began with the process.
        start_cpu_s: CpuTime::now().process.as_secs_f64(),
        start_wall_s: started.elapsed().as_secs_f64(),
        ..Sample::default()
    };
    if let Some(path) = &task.outputs {
        let outputs = engine.outputs().map_err(Failure::Failed)?;
        write_outputs(path, &outputs).map_err(Failure::Failed)?;
    }
    let Some(seconds) = task.seconds else { return Ok(sample) };

    repeat(&mut engine, WARM_UP_RUNS, seconds * WARM_UP_SHARE)?;
    let (before, began) = (CpuTime::now(), Instant::now());
    let times = repeat(&mut engine, RUNS, seconds)?;
    let (after, elapsed) = (CpuTime::now(), began.elapsed());

    sample.runs = times.len();
    let ours = (after.process - before.process).as_secs_f64();
    sample.cpu_ms = ours * 1e3 / times.len() as f64;
    let walls = || times.iter().map(|time| time.as_secs_f64() * 1e3);
    (sample.wall_ms, sample.wall_ms_least) = (median(walls()).unwrap_or(0.0), walls().fold(f64::INFINITY, f64::min));
    if let (Some(from), Some(to)) = (before.everybody, after.everybody) {
        sample.cores_others = (to.saturating_sub(from).as_secs_f64() - ours).max(0.0) / elapsed.as_secs_f64();
    }
    Ok(sample)
}

/// Runs at least `count` times and for at least `seconds`: what each run took by the clock.
fn repeat(engine: &mut impl Engine, count: usize, seconds: f64) -> Result<Vec<Duration>, Failure> {
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < count || began.elapsed().as_secs_f64() < seconds {
        let clock = Instant::now();
        engine.run().map_err(Failure::Failed)?;
        times.push(clock.elapsed());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outputs;

    /// Burns a set amount of CPU time in each run.
    struct Burner(Duration);

    impl Engine for Burner {
        fn run(&mut self) -> Result<(), String> {
            let before = CpuTime::of_process();
            while CpuTime::of_process() - before < self.0 {}
            Ok(())
        }

        fn outputs(&mut self) -> Result<Outputs, String> {
            Ok(Vec::new())
        }
    }

    fn sample(extra: &[&str]) -> Result<Sample, Failure> {
        let task =
            Task::try_parse_from([&["x", "--model", "m", "--entry", "1"], extra].concat()).expect("a valid line");
        run(&task, Instant::now(), |_| Ok(Burner(Duration::from_millis(5))))
    }

    #[test]
    fn a_run_costs_what_it_burns() {
        let sample = sample(&["--seconds", "0.1"]).expect("it never fails");
        assert!(sample.runs >= RUNS, "{sample:?}");
        assert!(sample.cpu_ms >= 5.0, "{sample:?}");
        assert!(sample.wall_ms >= sample.wall_ms_least && sample.start_cpu_s >= 0.005, "{sample:?}");
    }

    #[test]
    fn without_a_time_only_the_start_is_measured() {
        let sample = sample(&[]).expect("it never fails");
        assert_eq!((sample.runs, sample.cpu_ms), (0, 0.0));
    }
}
