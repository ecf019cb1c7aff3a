//! What the samples say about each thing that is required.

use nv_bench_harness::Relation;
use nv_bench_harness::statistics::{geometric_mean, median};
use nv_bench_runner::{Device, Sample};
use serde::Serialize;

use crate::case;
use crate::runtime::{Peer, Runtime};
use crate::schedule::{Measured, Problem, Row, START, Shaders};

/// One requirement, and whether it is met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    /// What is compared with the limit; `None` where something is missing for it.
    pub(crate) measure: Option<f64>,
    pub(crate) relation: Relation,
    pub(crate) limit: f64,
    /// `None`: it can't be told.
    pub(crate) pass: Option<bool>,
}

const CPU: Runtime = Runtime::Ours(Device::Cpu);
const SOFTWARE: Runtime = Runtime::Ours(Device::Software);
const ORT: Runtime = Runtime::Peer(Peer::Ort);
const RTEN: Runtime = Runtime::Peer(Peer::Rten);
const TRACT: Runtime = Runtime::Peer(Peer::Tract);
const WONNX: Runtime = Runtime::Peer(Peer::Wonnx);

/// The required figures, of which those are left out that nothing was measured for.
pub(crate) fn judge(measured: &Measured) -> Vec<Verdict> {
    use Relation::{AtLeast, AtMost};
    let models: Vec<_> = case::all().iter().filter(|case| !case.is_single()).map(|case| case.name).collect();
    let cpu = |case, over, under| ratio(measured, case, over, under, |sample| sample.cpu_ms);
    let over_models = |each: &dyn Fn(&'static str) -> Found| all(models.iter().map(|case| each(case)));
    let scaling = |case| scaling(measured, case);
    let mut found = vec![
        ("yolox, 1 thread: CPU time ÷ onnxruntime".to_owned(), cpu("yolox", CPU, ORT), AtMost, 1.2),
        ("yolox, 1 thread: CPU time ÷ rten".to_owned(), cpu("yolox", CPU, RTEN), AtMost, 0.5),
        ("yolox, 1 thread: CPU time ÷ tract".to_owned(), cpu("yolox", CPU, TRACT), AtMost, 0.5),
        (
            "five models, 1 thread: CPU time ÷ onnxruntime, geometric mean".to_owned(),
            over_models(&|case| cpu(case, CPU, ORT)),
            AtMost,
            1.3,
        ),
        ("yolox: speed-up by 2 threads ÷ onnxruntime's".to_owned(), scaling("yolox"), AtLeast, 0.9),
        (
            "five models: speed-up by 2 threads ÷ onnxruntime's, geometric mean".to_owned(),
            over_models(&scaling),
            AtLeast,
            0.9,
        ),
    ];
    for case in ["conv-1x1", "conv-3x3", "conv-dw3x3"] {
        found.push((format!("{case}, software: wonnx's CPU time ÷ ours"), cpu(case, WONNX, SOFTWARE), AtLeast, 8.0));
    }
    found.push(("yolox, software: CPU time ÷ onnxruntime".to_owned(), cpu("yolox", SOFTWARE, ORT), AtMost, 8.0));
    found.push(("yolox, software: CPU s of a warm start".to_owned(), start(measured, Shaders::Warm), AtMost, 1.0));
    found.push(("yolox, software: CPU s of a cold start".to_owned(), start(measured, Shaders::Cold), AtMost, 8.0));

    let verdict = |(what, found, relation, limit): (String, Found, Relation, f64)| {
        let (measure, pass) = match found {
            Found::NotMeasured => return None,
            Found::Figure(measure) => (Some(measure), Some(relation.holds(measure, limit))),
            Found::CantTell => (None, None),
            Found::OursIsBroken => (None, Some(false)),
        };
        Some(Verdict { what, measure, relation, limit, pass })
    };
    found.into_iter().filter_map(verdict).collect()
}

/// What there is for a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Figure(f64),
    /// Nobody asked for it.
    NotMeasured,
    /// Something that it needs is not available here.
    CantTell,
    /// We failed, or computed something else than the peers.
    OursIsBroken,
}

/// The geometric mean of them all. Without one of them there is none.
fn all(found: impl Iterator<Item = Found>) -> Found {
    let mut figures = Vec::new();
    for found in found {
        match found {
            Found::Figure(figure) => figures.push(figure),
            other => return other,
        }
    }
    geometric_mean(figures).map_or(Found::NotMeasured, Found::Figure)
}

/// The samples of a row, or why there are none that count.
fn samples(measured: &Measured, is_it: impl Fn(&Row) -> bool) -> Result<&[Sample], Found> {
    let Some(row) = measured.rows.iter().find(|row| is_it(row)) else { return Err(Found::NotMeasured) };
    match (&row.problem, row.runtime) {
        (None, _) => Ok(&row.samples),
        (Some(Problem::Failed(_) | Problem::Wrong(_)), Runtime::Ours(_)) => Err(Found::OursIsBroken),
        (Some(_), _) => Err(Found::CantTell),
    }
}

fn of_task<'a>(measured: &'a Measured, case: &str, runtime: Runtime, threads: usize) -> Result<&'a [Sample], Found> {
    let is_it = |r: &Row| (r.case, r.runtime, r.threads, r.batch) == (case, runtime, threads, 1);
    samples(measured, is_it)
}

/// With one thread and batch 1: the median of the rounds' own ratios, since only what was measured in one round compares.
fn ratio(measured: &Measured, case: &str, over: Runtime, under: Runtime, figure: fn(&Sample) -> f64) -> Found {
    let ratio = || {
        let (over, under) = (of_task(measured, case, over, 1)?, of_task(measured, case, under, 1)?);
        let ratios = over.iter().zip(under).map(|(over, under)| figure(over) / figure(under));
        Ok(median(ratios).map_or(Found::NotMeasured, Found::Figure))
    };
    ratio().unwrap_or_else(|found| found)
}

/// Cores that others may use where speed-ups by threads are to be told: with more, there is no second core to be had.
const FREE: f64 = 0.3;

/// How much faster two threads make us by the clock, as a share of what they do for ONNX Runtime. A busy machine can't tell.
fn scaling(measured: &Measured, case: &str) -> Found {
    let scaling = || {
        let speed_ups = |runtime| {
            let (one, two) = (of_task(measured, case, runtime, 1)?, of_task(measured, case, runtime, 2)?);
            if median(one.iter().chain(two).map(|s| s.cores_others)).is_some_and(|cores| cores > FREE) {
                return Err(Found::CantTell);
            }
            Ok(one.iter().zip(two).map(|(one, two)| one.wall_ms / two.wall_ms))
        };
        let shares = speed_ups(CPU)?.zip(speed_ups(ORT)?).map(|(ours, theirs)| ours / theirs);
        Ok(median(shares).map_or(Found::NotMeasured, Found::Figure))
    };
    scaling().unwrap_or_else(|found| found)
}

fn start(measured: &Measured, shaders: Shaders) -> Found {
    match samples(measured, |r| r.case == START && r.runtime == SOFTWARE && r.shaders == Some(shaders)) {
        Ok(samples) => median(samples.iter().map(|s| s.start_cpu_s)).map_or(Found::NotMeasured, Found::Figure),
        Err(found) => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &'static str, runtime: Runtime, threads: usize, times: &[f64]) -> Row {
        let sample = |&ms: &f64| Sample { runs: 1, cpu_ms: ms, wall_ms: ms, start_cpu_s: ms, ..Sample::default() };
        let samples = times.iter().map(sample).collect();
        Row { case, threads, batch: 1, runtime, shaders: None, difference: None, problem: None, samples }
    }

    fn found(rows: Vec<Row>, what: &str) -> Option<(Option<f64>, Option<bool>)> {
        let verdicts = judge(&Measured { rows });
        verdicts.into_iter().find(|v| v.what.starts_with(what)).map(|v| (v.measure, v.pass))
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let rows = || vec![row("yolox", CPU, 1, &[10.0, 40.0, 12.0]), row("yolox", ORT, 1, &[10.0, 20.0, 10.0])];
        assert_eq!(found(rows(), "yolox, 1 thread: CPU time ÷ onnx"), Some((Some(1.2), Some(true))));
        assert_eq!(found(rows(), "yolox, 1 thread: CPU time ÷ rten"), None, "nobody asked");
        assert_eq!(found(rows(), "five models, 1"), None, "of five models only one");
    }

    #[test]
    fn a_mean_is_over_all_models() {
        let models = ["yolox", "fastestdet", "ultraface", "yunet", "reid"];
        let rows = models
            .iter()
            .zip([2.0, 0.5, 1.0, 4.0, 0.25])
            .flat_map(|(case, times)| [row(case, CPU, 1, &[10.0 * times]), row(case, ORT, 1, &[10.0])]);
        let (measure, pass) = found(rows.collect(), "five models, 1").expect("all are there");
        assert!(measure.is_some_and(|m| (m - 1.0).abs() < 1e-9) && pass == Some(true), "{measure:?}");
    }

    #[test]
    fn scaling_is_a_share_of_a_speed_up() {
        let check = |cores_others: f64, expected| {
            let mut rows = vec![
                row("yolox", CPU, 1, &[12.0]),
                row("yolox", CPU, 2, &[8.0]),
                row("yolox", ORT, 1, &[10.0]),
                row("yolox", ORT, 2, &[5.0]),
            ];
            for sample in rows.iter_mut().flat_map(|row| &mut row.samples) {
                sample.cores_others = cores_others;
            }
            assert_eq!(found(rows, "yolox: speed-up"), Some(expected), "{cores_others}");
        };
        check(0.1, (Some(0.75), Some(false)));
        check(0.9, (None, None));
    }

    #[test]
    fn what_is_not_available_can_not_be_told_and_what_is_wrong_fails() {
        let check = |runtime, problem, expected| {
            let mut rows = vec![row("yolox", SOFTWARE, 1, &[1.0]), row("yolox", ORT, 1, &[1.0])];
            let row = rows.iter_mut().find(|row| row.runtime == runtime).expect("it is one of the two");
            row.problem = Some(problem);
            assert_eq!(found(rows, "yolox, software: CPU time"), Some((None, expected)));
        };
        check(SOFTWARE, Problem::Unavailable(String::new()), None);
        check(SOFTWARE, Problem::Wrong(String::new()), Some(false));
        check(SOFTWARE, Problem::Failed(String::new()), Some(false));
        check(ORT, Problem::Failed(String::new()), None);
    }

    #[test]
    fn starts_are_told_by_their_shaders() {
        let start = |shaders, s| Row { case: START, shaders: Some(shaders), ..row("yolox", SOFTWARE, 1, &[s]) };
        let rows = || vec![start(Shaders::Cold, 9.0), start(Shaders::Warm, 0.5)];
        assert_eq!(found(rows(), "yolox, software: CPU s of a warm"), Some((Some(0.5), Some(true))));
        assert_eq!(found(rows(), "yolox, software: CPU s of a cold"), Some((Some(9.0), Some(false))));
    }
}
