//! The table for people, the file for the record.

use std::path::{Path, PathBuf};

use nv_bench_harness::statistics::median;
use nv_bench_harness::table::{lay_out, short, short_or_dash};
use nv_bench_harness::{IDLE, Machine, commit, pass_text};
use serde::Serialize;

use crate::case::{Case, HOLD};
use crate::verdict::{Round, Verdict, judge};

/// The code under test.
const TESTED: [&str; 5] = ["nv-core", "nv-perception", "nv-runtime", "bench/harness", "bench/runtime"];

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    date: String,
    commit: String,
    /// Whether the code under test differed from that commit.
    changed: bool,
    machine: Machine,
    hold_ms: f64,
    cases: Vec<CaseReport>,
}

#[derive(Serialize)]
struct CaseReport {
    case: &'static str,
    title: &'static str,
    verdicts: Vec<Verdict>,
    rounds: Vec<Round>,
}

impl Report {
    /// Judges what was measured.
    pub(crate) fn new(cases: Vec<(Case, Vec<Round>)>) -> Self {
        let (commit, changed) = commit(&TESTED);
        let judged = cases.into_iter().map(|(case, rounds)| CaseReport {
            case: case.name,
            title: case.title,
            verdicts: case.required.iter().map(|required| judge(&case, *required, &rounds)).collect(),
            rounds,
        });
        Self {
            schema: "nv.bench.runtime/1",
            date: nv_bench_harness::now(),
            commit,
            changed,
            machine: Machine::this(),
            hold_ms: HOLD.as_secs_f64() * 1e3,
            cases: judged.collect(),
        }
    }

    /// Rows that failed.
    pub(crate) fn failures(&self) -> usize {
        self.cases.iter().flat_map(|c| &c.verdicts).filter(|v| v.pass == Some(false)).count()
    }

    /// Writes the raw result into `folder`; returns where.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf, String> {
        nv_bench_harness::save(self, folder, "runtime", &self.date, &self.commit, self.changed)
    }

    /// The table, and what must be known to read it.
    pub(crate) fn table(&self) -> String {
        let mut rows =
            vec![["case", "figure", "ancestor", "ours", "bound", "measured", "required", ""].map(str::to_owned)];
        for case in &self.cases {
            for verdict in &case.verdicts {
                rows.push(row(case.title, verdict));
            }
        }
        let mut text = lay_out(&rows, 2);
        let rounds = self.cases.iter().map(|c| c.rounds.len()).max().unwrap_or(0);
        let samples = || self.cases.iter().flat_map(|c| &c.rounds).flat_map(|r| r.ancestor.iter().chain([&r.ours]));
        let others = median(samples().map(|s| s.cores_others)).unwrap_or(0.0);
        let most = samples().map(|s| s.cores_others).fold(0.0, f64::max);
        text.push_str(&format!(
            "\nmedians of {rounds}; commit {}{}; {} × {}; other programs used {others:.2} cores (median of runs), {most:.2} (most)\n",
            self.commit,
            if self.changed { " and changes" } else { "" },
            self.machine.cores,
            self.machine.cpu,
        ));
        if others > IDLE {
            text.push_str("the machine was not idle: these figures say little, and their file is not worth keeping\n");
        }
        text
    }
}

fn row(title: &str, verdict: &Verdict) -> [String; 8] {
    [
        title.to_owned(),
        verdict.what.to_owned(),
        short_or_dash(verdict.ancestor),
        short(verdict.ours),
        short_or_dash(verdict.bound),
        short_or_dash(verdict.measure),
        format!("{} {}", verdict.relation, verdict.limit),
        pass_text(verdict.pass).to_owned(),
    ]
}
