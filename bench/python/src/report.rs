//! The table for people, the file for the record.

use std::path::{Path, PathBuf};

use nv_bench_harness::statistics::median;
use nv_bench_harness::table::{lay_out, short, short_or_dash};
use nv_bench_harness::{IDLE, Machine, Relation, commit, pass_text};
use serde::Serialize;

use crate::contender::Scene;
use crate::usage::Sample;

/// The code under test: all that `nv run` is made of.
const TESTED: [&str; 7] =
    ["nv-core", "nv-host", "nv-perception", "nv-plugins", "nv-runtime", "bench/harness", "bench/python"];

/// Both, one right after the other.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) python: Sample,
    pub(crate) nv: Sample,
}

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    date: String,
    commit: String,
    /// Whether the code under test differed from that commit.
    changed: bool,
    machine: Machine,
    clip: String,
    model: String,
    /// `None`: all.
    frames: Option<u32>,
    verdicts: Vec<Verdict>,
    rounds: Vec<Round>,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Verdict {
    what: &'static str,
    /// Medians.
    python: Option<f64>,
    nv: Option<f64>,
    /// How the two are compared, and the median of that over the rounds.
    comparison: &'static str,
    measure: Option<f64>,
    /// `None`: it is shown, not required.
    required: Option<(Relation, f64)>,
    pass: Option<bool>,
}

impl Report {
    /// Judges what was measured.
    pub(crate) fn new(scene: &Scene, frames: Option<u32>, rounds: Vec<Round>) -> Self {
        let (commit, changed) = commit(&TESTED);
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            schema: "nv.bench.python/1",
            date: nv_bench_harness::now(),
            commit,
            changed,
            machine: Machine::this(),
            clip: name(&scene.clip),
            model: name(&scene.model),
            frames,
            verdicts: judge(&rounds),
            rounds,
        }
    }

    /// Requirements that are not met.
    pub(crate) fn failures(&self) -> usize {
        self.verdicts.iter().filter(|v| v.pass == Some(false)).count()
    }

    /// Writes the raw result into `folder`; returns where.
    pub(crate) fn save(&self, folder: &Path) -> Result<PathBuf, String> {
        nv_bench_harness::save(self, folder, "python", &self.date, &self.commit, self.changed)
    }

    /// The table, and what must be known to read it.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![["figure", "compared as", "python", "nv", "measured", "required", ""].map(str::to_owned)];
        for v in &self.verdicts {
            rows.push([
                v.what.to_owned(),
                v.comparison.to_owned(),
                short_or_dash(v.python),
                short_or_dash(v.nv),
                short_or_dash(v.measure),
                v.required.map_or_else(String::new, |(relation, limit)| format!("{relation} {limit}")),
                if v.required.is_some() { pass_text(v.pass).to_owned() } else { String::new() },
            ]);
        }
        let others = || self.rounds.iter().flat_map(|r| [r.python.cores_others, r.nv.cores_others]);
        let others = median(others()).unwrap_or(0.0);
        let mut text = lay_out(&rows, 2);
        text.push_str(&format!(
            "\n{} on {}; medians of {}; commit {}{}; {} × {}; other programs used {} cores\n",
            self.model,
            self.clip,
            self.rounds.len(),
            self.commit,
            if self.changed { " and changes" } else { "" },
            self.machine.cores,
            self.machine.cpu,
            short(others),
        ));
        if others > IDLE {
            text.push_str("the machine was not idle: the ratios say a little, and the file is not worth keeping\n");
        }
        text
    }
}

fn judge(rounds: &[Round]) -> Vec<Verdict> {
    use Relation::{AtLeast, AtMost};
    type Figure = fn(&Sample) -> f64;
    let ratio = |python: f64, nv: f64| nv / python;
    let difference = |python: f64, nv: f64| nv - python;
    let row = |what, figure: Figure, comparison, compare: fn(f64, f64) -> f64, required: Option<(Relation, f64)>| {
        let measure = median(rounds.iter().map(|r| compare(figure(&r.python), figure(&r.nv))));
        // Who skips frames has done something else.
        let same_work = rounds.iter().all(|r| r.python.frames == r.nv.frames && r.nv.frames > 0);
        let pass =
            required.zip(measure).map(|((relation, limit), measure)| same_work && relation.holds(measure, limit));
        Verdict {
            what,
            python: median(rounds.iter().map(|r| figure(&r.python))),
            nv: median(rounds.iter().map(|r| figure(&r.nv))),
            comparison,
            measure,
            required,
            pass,
        }
    };
    vec![
        row("frames per CPU second", Sample::frames_per_cpu_s, "nv ÷ python", ratio, Some((AtLeast, 1.3))),
        row("… without Python's start", Sample::frames_per_cpu_s_once_started, "nv ÷ python", ratio, None),
        row("peak memory, MiB", |s| s.peak_mib, "nv ÷ python", ratio, Some((AtMost, 0.4))),
        row("MOTA", |s| s.mota, "nv − python", difference, Some((AtLeast, -0.01))),
        row("IDF1", |s| s.idf1, "nv − python", difference, None),
        row("frames per second", |s| s.frames as f64 / s.wall_s, "nv ÷ python", ratio, None),
        row("frames", |s| s.frames as f64, "nv − python", difference, None),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(frames: usize, cpu_s: f64) -> Sample {
        Sample {
            cpu_s,
            wall_s: cpu_s,
            peak_mib: 100.0,
            cores_others: 0.0,
            start_cpu_s: None,
            frames,
            mota: 0.7,
            idf1: 0.7,
        }
    }

    fn verdict(rounds: &[Round], what: &str) -> Verdict {
        judge(rounds).into_iter().find(|v| v.what == what).expect("a row of that name")
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |python, nv| Round { python: sample(100, python), nv: sample(100, nv) };
        let rounds = [round(2.0, 1.0), round(8.0, 5.0), round(4.0, 2.0)];
        let speed = verdict(&rounds, "frames per CPU second");
        assert_eq!((speed.measure, speed.pass), (Some(2.0), Some(true)));
        assert_eq!((speed.python, speed.nv), (Some(25.0), Some(50.0)));
        assert_eq!(verdict(&rounds, "peak memory, MiB").pass, Some(false));
        assert_eq!(verdict(&rounds, "MOTA").pass, Some(true));
    }

    #[test]
    fn who_skips_frames_passes_nothing() {
        let rounds = [Round { python: sample(100, 2.0), nv: sample(50, 0.1) }];
        assert_eq!(verdict(&rounds, "frames per CPU second").pass, Some(false));
    }

    #[test]
    fn a_start_that_is_told_can_be_left_out() {
        let python = Sample { start_cpu_s: Some(1.0), ..sample(100, 2.0) };
        let rounds = [Round { python, nv: sample(100, 1.0) }];
        assert_eq!(verdict(&rounds, "frames per CPU second").measure, Some(2.0));
        assert_eq!(verdict(&rounds, "… without Python's start").measure, Some(1.0));
    }
}
