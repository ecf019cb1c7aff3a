//! The table for people, the file for the record.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::case::{Case, HOLD};
use crate::machine::{Machine, commit};
use crate::statistics::median;
use crate::verdict::{Relation, Round, Verdict, judge};

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

/// Cores that others may use on a machine that counts as idle.
const IDLE: f64 = 0.1;

impl Report {
    /// Judges what was measured.
    pub(crate) fn new(cases: Vec<(Case, Vec<Round>)>) -> Self {
        let (commit, changed) = commit();
        let judged = cases.into_iter().map(|(case, rounds)| CaseReport {
            case: case.name,
            title: case.title,
            verdicts: case.required.iter().map(|required| judge(&case, *required, &rounds)).collect(),
            rounds,
        });
        Self {
            schema: "nv.bench.runtime/1",
            date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
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
        let day = self.date.get(..10).unwrap_or("unknown");
        let changed = if self.changed { "-changed" } else { "" };
        let path = folder.join(format!("runtime-{day}-{}{changed}.json", self.commit));
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text + "\n"));
        written.map(|()| path.clone()).map_err(|e| format!("cannot write {}: {e}", path.display()))
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
        let mut text = String::new();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let cell = if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
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
    let relation = match verdict.relation {
        Relation::AtLeast => '≥',
        Relation::AtMost => '≤',
    };
    let number = |value: Option<f64>| value.map_or("–".to_owned(), short);
    let pass = match verdict.pass {
        Some(true) => "pass",
        Some(false) => "FAIL",
        None => "–",
    };
    [
        title.to_owned(),
        verdict.what.to_owned(),
        number(verdict.ancestor),
        short(verdict.ours),
        number(verdict.bound),
        number(verdict.measure),
        format!("{relation} {}", verdict.limit),
        pass.to_owned(),
    ]
}

/// A number with as many digits as mean something: `1312`, `18.2`, `0.994`.
fn short(value: f64) -> String {
    if value == 0.0 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let check = |value, expected: &str| assert_eq!(short(value), expected);
        check(0.0, "0");
        check(1312.4, "1312");
        check(18.24, "18.2");
        check(0.9944, "0.994");
        check(-0.5, "-0.500");
    }
}
