//! The order in which tasks run, and what came of them.

#![expect(clippy::print_stderr, reason = "a long command says how far it is")]

use std::fs;
use std::path::{Path, PathBuf};

use nv_bench_runner::{Answer, Device, Outputs, Sample, read_outputs};
use serde::Serialize;

use crate::case::{self, Case};
use crate::check::{TOLERANCE, difference};
use crate::runtime::{Job, Peer, Runtime};

/// What is to be measured.
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    /// Whether starts are measured too.
    pub(crate) starts: bool,
    pub(crate) devices: Vec<Device>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) threads: Vec<usize>,
    pub(crate) batches: Vec<usize>,
    pub(crate) seconds: f64,
    pub(crate) rounds: u32,
    pub(crate) assets: PathBuf,
    pub(crate) work: PathBuf,
}

/// The name of the case that measures starts, and the case whose model it starts.
pub(crate) const START: &str = "start";
pub(crate) const START_CASE: &str = "yolox";

/// All that was measured.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
}

/// What one runtime made of one task.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) threads: usize,
    pub(crate) batch: usize,
    pub(crate) runtime: Runtime,
    /// For starts of what compiles shaders: whether the driver had them from before.
    pub(crate) shaders: Option<Shaders>,
    /// How far its outputs are from the first runtime's that gave any: max|a−b| / max|b|.
    pub(crate) difference: Option<f64>,
    /// Why there are no samples.
    pub(crate) problem: Option<Problem>,
    /// One for each round.
    pub(crate) samples: Vec<Sample>,
}

/// Whether compiled shaders are at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shaders {
    Cold,
    Warm,
}

/// Why a runtime's speed says nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "reason")]
pub(crate) enum Problem {
    Unavailable(String),
    Failed(String),
    Wrong(String),
}

impl Row {
    fn new(case: &Case, runtime: Runtime, threads: usize, batch: usize) -> Self {
        Self {
            case: case.name,
            threads,
            batch,
            runtime,
            shaders: None,
            difference: None,
            problem: None,
            samples: Vec::new(),
        }
    }
}

impl Plan {
    /// Those that compute, the one that others are held against first.
    fn runtimes(&self) -> Vec<Runtime> {
        let peers = Peer::ALL.into_iter().filter(|peer| self.peers.contains(peer)).map(Runtime::Peer);
        peers.chain(self.devices.iter().map(|device| Runtime::Ours(*device))).collect()
    }

    fn shaders(&self) -> PathBuf {
        self.work.join("shaders")
    }
}

/// Measures everything that is planned.
pub(crate) fn run(plan: &Plan) -> Result<Measured, String> {
    fs::create_dir_all(plan.shaders()).map_err(|e| format!("cannot create {}: {e}", plan.work.display()))?;
    let mut measured = Measured::default();
    let mut groups: Vec<(&Case, Vec<Row>)> = Vec::new();
    for case in &plan.cases {
        for (&batch, &threads) in plan.batches.iter().flat_map(|b| plan.threads.iter().map(move |t| (b, t))) {
            let runtimes = plan.runtimes().into_iter().filter(|runtime| runtime.takes(case, threads, batch));
            groups.push((case, runtimes.map(|runtime| Row::new(case, runtime, threads, batch)).collect()));
        }
    }
    let start_case = case::all().into_iter().find(|case| case.name == START_CASE).expect("it is one of them");
    let mut starts = if plan.starts { start_rows(plan, &start_case) } else { Vec::new() };

    for round in 0..plan.rounds as usize {
        for (case, rows) in &mut groups {
            let mut reference = None;
            let count = rows.len();
            for position in 0..count {
                // The first round finds out who computes the same thing; after it, nobody is always the first.
                let row = &mut rows[(position + round) % count];
                if row.problem.is_none() {
                    step(plan, case, row, (round == 0).then_some(&mut reference))?;
                }
            }
        }
        for row in starts.iter_mut().filter(|row| row.problem.is_none()) {
            start(plan, &start_case, row)?;
        }
        eprintln!("round {} of {} done", round + 1, plan.rounds);
    }
    measured.rows = groups.into_iter().flat_map(|(_, rows)| rows).chain(starts).collect();
    Ok(measured)
}

/// Takes one sample for `row`. With a `reference`, its outputs are held against that, or become it if there is none yet.
fn step(plan: &Plan, case: &Case, row: &mut Row, reference: Option<&mut Option<Outputs>>) -> Result<(), String> {
    let file = plan.work.join(format!("outputs-{}", std::process::id()));
    let shaders = plan.shaders();
    let job = Job {
        runtime: row.runtime,
        case,
        model: case.file(&plan.assets, &plan.work, row.runtime.needs_fixed_batch())?,
        threads: row.threads,
        batch: row.batch,
        seconds: Some(plan.seconds),
        outputs: reference.is_some().then_some(file.as_path()),
        shaders: &shaders,
    };
    take(row, &job);
    if let (Some(reference), None) = (reference, &row.problem) {
        let outputs = read_outputs(&file);
        // What stays behind in the work folder is overwritten by the next.
        let _ = fs::remove_file(&file);
        compare(row, outputs, reference);
    }
    say(row);
    Ok(())
}

/// Runs the job and notes what came of it.
fn take(row: &mut Row, job: &Job) {
    match job.run() {
        Ok(Answer::Ran(sample)) => row.samples.push(sample),
        Ok(Answer::Unavailable(reason)) => row.problem = Some(Problem::Unavailable(reason)),
        Err(reason) => row.problem = Some(Problem::Failed(reason)),
    }
}

fn compare(row: &mut Row, outputs: Result<Outputs, String>, reference: &mut Option<Outputs>) {
    let found = outputs.and_then(|outputs| {
        let Some(reference) = reference else {
            *reference = Some(outputs);
            return Ok(None);
        };
        difference(&outputs, reference).map(Some)
    });
    match found {
        Ok(difference) => {
            row.difference = difference;
            if let Some(apart) = difference.filter(|apart| *apart > TOLERANCE) {
                row.problem = Some(Problem::Wrong(format!("its outputs differ by {apart:.1e}")));
            }
        }
        Err(reason) => row.problem = Some(Problem::Wrong(reason)),
    }
}

/// Rows for the start of a model on everything that can run a whole one.
fn start_rows(plan: &Plan, case: &Case) -> Vec<Row> {
    let runtimes = plan.runtimes().into_iter().filter(|runtime| runtime.takes(case, 1, 1));
    let rows = |runtime: Runtime| {
        let shaders = if runtime.has_shaders() { vec![Some(Shaders::Cold), Some(Shaders::Warm)] } else { vec![None] };
        let row = move |shaders| Row { case: START, shaders, ..Row::new(case, runtime, 1, 1) };
        shaders.into_iter().map(row)
    };
    runtimes.flat_map(rows).collect()
}

/// Measures one start. A cold one empties the folder of the shaders; the warm one after it finds what that one left.
fn start(plan: &Plan, case: &Case, row: &mut Row) -> Result<(), String> {
    let shaders = plan.work.join("shaders-of-start");
    if row.shaders == Some(Shaders::Cold) {
        empty(&shaders).map_err(|e| format!("cannot empty {}: {e}", shaders.display()))?;
    }
    let job = Job {
        runtime: row.runtime,
        case,
        model: case.file(&plan.assets, &plan.work, row.runtime.needs_fixed_batch())?,
        threads: row.threads,
        batch: row.batch,
        seconds: None,
        outputs: None,
        shaders: &shaders,
    };
    take(row, &job);
    say(row);
    Ok(())
}

fn empty(folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}

fn say(row: &Row) {
    let Row { case, threads, batch, runtime, .. } = row;
    let what = match (&row.problem, row.samples.last()) {
        (Some(Problem::Unavailable(reason)), _) => format!("not available: {reason}"),
        (Some(Problem::Failed(reason)), _) => format!("failed: {reason}"),
        (Some(Problem::Wrong(reason)), _) => format!("wrong: {reason}"),
        (None, Some(sample)) if sample.runs == 0 => format!("{:8.3} s CPU from nothing", sample.start_cpu_s),
        (None, Some(sample)) => format!("{:8.2} ms CPU {:8.2} ms", sample.cpu_ms, sample.wall_ms),
        (None, None) => String::new(),
    };
    eprintln!("{case:14} batch {batch} threads {threads} {runtime:15} {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row::new(&case::all()[0], Runtime::Ours(Device::Cpu), 1, 1)
    }

    #[test]
    fn the_first_outputs_are_what_others_are_held_against() {
        let mut reference = None;
        let mut check = |outputs: Result<Outputs, String>, difference: Option<f64>, wrong: bool| {
            let mut row = row();
            compare(&mut row, outputs, &mut reference);
            assert_eq!((row.difference, row.problem.is_some()), (difference, wrong), "{row:?}");
        };
        check(Err("no file".to_owned()), None, true);
        check(Ok(vec![vec![2.0, 1.0]]), None, false);
        check(Ok(vec![vec![2.0, 1.0]]), Some(0.0), false);
        check(Ok(vec![vec![2.0, 2.0]]), Some(0.5), true);
        check(Ok(vec![vec![2.0]]), None, true);
    }
}
