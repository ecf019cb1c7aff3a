//! The tables for people, the file for the record.

use std::path::{Path, PathBuf};

use nv_bench_harness::statistics::median;
use nv_bench_harness::table::{lay_out, short, short_or_dash};
use nv_bench_harness::{IDLE, Machine, commit, pass_text};
use nv_bench_runner::Sample;
use serde::Serialize;

use crate::case::Case;
use crate::runtime::{Peer, Runtime};
use crate::schedule::{Measured, Plan, Problem, Row, Shaders};
use crate::verdict::{Verdict, judge};

/// The code under test.
const TESTED: [&str; 4] = ["nv-core", "nv-plugins/infer", "bench/harness", "bench/infer"];

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    date: String,
    commit: String,
    /// Whether the code under test differed from that commit.
    changed: bool,
    machine: Machine,
    /// How long each sample was measured.
    seconds: f64,
    rounds: u32,
    cases: Vec<CaseTitle>,
    verdicts: Vec<Verdict>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct CaseTitle {
    case: &'static str,
    title: String,
}

impl Report {
    /// Judges what was measured.
    pub(crate) fn new(plan: &Plan, measured: Measured) -> Self {
        let (commit, changed) = commit(&TESTED);
        let title = |case: &Case| CaseTitle { case: case.name, title: case.title() };
        Self {
            schema: "nv.bench.infer/1",
            date: nv_bench_harness::now(),
            commit,
            changed,
            machine: Machine::this(),
            seconds: plan.seconds,
            rounds: plan.rounds,
            cases: plan.cases.iter().map(title).collect(),
            verdicts: judge(&measured),
            rows: measured.rows,
        }
    }

    /// Requirements that are not met.
    pub(crate) fn failures(&self) -> usize {
        self.verdicts.iter().filter(|v| v.pass == Some(false)).count()
    }

    /// Writes the raw result into `folder`; returns where.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf, String> {
        nv_bench_harness::save(self, folder, "infer", &self.date, &self.commit, self.changed)
    }

    /// The tables, and what must be known to read them.
    pub(crate) fn table(&self) -> String {
        let (starts, runs): (Vec<_>, Vec<_>) = self.rows.iter().partition(|row| is_start(row));
        let mut parts = Vec::new();
        if !runs.is_empty() {
            parts.push(self.runs_table(&runs));
        }
        if !starts.is_empty() {
            parts.push(starts_table(&starts));
        }
        if !self.verdicts.is_empty() {
            let head = ["required", "measured", "limit", ""].map(str::to_owned);
            let row = |v: &Verdict| {
                let limit = format!("{} {}", v.relation, v.limit);
                [v.what.clone(), short_or_dash(v.measure), limit, pass_text(v.pass).to_owned()]
            };
            let rows: Vec<_> = std::iter::once(head).chain(self.verdicts.iter().map(row)).collect();
            parts.push(lay_out(&rows, 1));
        }
        parts.push(self.circumstances());
        parts.join("\n")
    }

    fn runs_table(&self, rows: &[&Row]) -> String {
        let head = [
            "case",
            "runtime",
            "batch",
            "threads",
            "CPU ms",
            "÷ onnxruntime",
            "wall ms",
            "÷ onnxruntime",
            "differs",
            "",
        ];
        let mut lines = vec![head.map(str::to_owned)];
        for row in rows {
            let of_ort = |figure| self.of_ort(row, figure);
            let (cpu, wall): (Figure, Figure) = (|s| s.cpu_ms, |s| s.wall_ms);
            // Of one entry, so that batches compare.
            let each = |figure: Figure| middle(row, figure).map(|ms| ms / row.batch as f64);
            lines.push([
                row.case.to_owned(),
                row.runtime.to_string(),
                row.batch.to_string(),
                row.threads.to_string(),
                short_or_dash(each(cpu)),
                short_or_dash(of_ort(cpu)),
                short_or_dash(each(wall)),
                short_or_dash(of_ort(wall)),
                row.difference.map_or("–".to_owned(), |d| format!("{d:.0e}")),
                problem_text(row),
            ]);
        }
        lay_out(&lines, 2)
    }

    /// What the row's figure is of ONNX Runtime's for the same task: the median of the rounds' ratios.
    fn of_ort(&self, row: &Row, figure: Figure) -> Option<f64> {
        let same = |r: &&Row| (r.case, r.threads, r.batch) == (row.case, row.threads, row.batch);
        let ort = self.rows.iter().filter(same).find(|r| r.runtime == Runtime::Peer(Peer::Ort))?;
        if row.problem.is_some() || ort.problem.is_some() {
            return None;
        }
        median(row.samples.iter().zip(&ort.samples).map(|(ours, theirs)| figure(ours) / figure(theirs)))
    }

    fn circumstances(&self) -> String {
        let others = || self.rows.iter().flat_map(|row| &row.samples).filter(|s| s.runs > 0).map(|s| s.cores_others);
        let (middle, most) = (median(others()).unwrap_or(0.0), others().fold(0.0, f64::max));
        let mut text = format!(
            "times are of one entry, medians of {}; commit {}{}; {} × {}; other programs used {middle:.2} cores (median of runs), {most:.2} (most)\n",
            self.rounds,
            self.commit,
            if self.changed { " and changes" } else { "" },
            self.machine.cores,
            self.machine.cpu,
        );
        if middle > IDLE {
            text.push_str("the machine was not idle: believe ratios of CPU time, not times by the clock; the file is not worth keeping\n");
        }
        text
    }
}

type Figure = fn(&Sample) -> f64;

fn is_start(row: &Row) -> bool {
    row.case == crate::schedule::START
}

fn middle(row: &Row, figure: Figure) -> Option<f64> {
    if row.problem.is_some() { None } else { median(row.samples.iter().map(figure)) }
}

fn starts_table(rows: &[&Row]) -> String {
    let mut lines = vec![["start", "shaders", "CPU s", "wall s", ""].map(str::to_owned)];
    for row in rows {
        let shaders = match row.shaders {
            Some(Shaders::Cold) => "cold",
            Some(Shaders::Warm) => "warm",
            None => "none",
        };
        let seconds = |figure| middle(row, figure).map_or("–".to_owned(), short);
        lines.push([
            row.runtime.to_string(),
            shaders.to_owned(),
            seconds(|s| s.start_cpu_s),
            seconds(|s| s.start_wall_s),
            problem_text(row),
        ]);
    }
    lay_out(&lines, 2)
}

fn problem_text(row: &Row) -> String {
    match &row.problem {
        None => String::new(),
        Some(Problem::Unavailable(_)) => "not available".to_owned(),
        Some(Problem::Failed(reason)) => format!("failed: {}", beginning(reason)),
        Some(Problem::Wrong(reason)) => format!("WRONG: {}", beginning(reason)),
    }
}

/// As much of a text as a table has room for; all of it was said while measuring, and is in the record.
fn beginning(text: &str) -> String {
    const ROOM: usize = 40;
    if text.chars().count() <= ROOM { text.to_owned() } else { text.chars().take(ROOM).chain(['…']).collect() }
}
