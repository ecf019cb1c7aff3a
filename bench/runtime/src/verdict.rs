//! What the rounds of a case say about each thing that is required of it.

use nv_bench_harness::Relation;
use nv_bench_harness::statistics::median;
use serde::Serialize;

use crate::case::{Case, Requirement};
use crate::measure::Sample;

/// A case's samples of one round: taken one right after the other.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    /// `None`: it was not asked for.
    pub(crate) ancestor: Option<Sample>,
    pub(crate) ours: Sample,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// What was looked at, and its unit.
    pub(crate) what: &'static str,
    /// Medians over the rounds.
    pub(crate) ancestor: Option<f64>,
    pub(crate) ours: f64,
    pub(crate) bound: Option<f64>,
    /// What is compared with the limit: the median of the rounds' own, since only what was measured in one round compares.
    pub(crate) measure: Option<f64>,
    pub(crate) limit: f64,
    pub(crate) relation: Relation,
    /// `None`: it can't be told without the ancestor.
    pub(crate) pass: Option<bool>,
}

/// Frames of one instant that lie no further apart than this are aligned.
const ALIGNED_MS: f64 = 0.5;

/// What one requirement comes to.
pub(crate) fn judge(case: &Case, requirement: Requirement, rounds: &[Round]) -> Verdict {
    use Relation::{AtLeast, AtMost};
    let figure = |sample: &Sample| figure(requirement, sample);
    let (what, limit, relation) = match requirement {
        Requirement::ShareOfBound(share) => ("frames/s ÷ bound", share, AtLeast),
        Requirement::ShareOfAncestor(share) => ("frames/s ÷ ancestor", share, AtLeast),
        Requirement::AboveBound(ms) => ("p50 ms − bound", ms, AtMost),
        Requirement::Latency(ms) => ("p50 ms", ms, AtMost),
        Requirement::Fairness(index) => ("Jain index", index, AtLeast),
        Requirement::NothingLost => ("frames lost (most)", 0.0, AtMost),
        Requirement::Goodput(share) => ("delivered ÷ computed", share, AtLeast),
        Requirement::OthersUnharmed(share) => ("others delivered", share, AtLeast),
        Requirement::CpuOfAncestor(share) => ("CPU µs/frame ÷ ancestor", share, AtMost),
    };
    let over = |figures: &mut dyn Iterator<Item = f64>| match requirement {
        Requirement::NothingLost => figures.reduce(f64::max),
        _ => median(figures),
    };
    let measures = rounds.iter().filter_map(|round| {
        let ours = figure(&round.ours);
        match requirement {
            Requirement::ShareOfBound(_) => Some(ours / bound(case, requirement, &round.ours)?),
            Requirement::AboveBound(_) => Some(ours - bound(case, requirement, &round.ours)?),
            Requirement::ShareOfAncestor(_) | Requirement::CpuOfAncestor(_) => {
                Some(ours / figure(round.ancestor.as_ref()?))
            }
            _ => Some(ours),
        }
    });
    let measures: Vec<f64> = measures.collect();
    // What delivers nothing has no latency and no share of anything: that is no pass. Nor is there a bound for all the cameras
    // in one batch where they are not aligned.
    let told = measures.iter().all(|m| m.is_finite()) && rounds.iter().all(|r| r.ours.delivered > 0);
    let needs_aligned = matches!(requirement, Requirement::AboveBound(_));
    let misaligned = median(rounds.iter().map(|r| r.ours.misalignment.p50));
    let aligned = !needs_aligned || misaligned.is_none_or(|ms| ms <= ALIGNED_MS);
    let measure = over(&mut measures.into_iter().filter(|m| m.is_finite()));
    let kept = |measure: f64| relation.holds(measure, limit);
    Verdict {
        what,
        ancestor: over(&mut rounds.iter().filter_map(|r| r.ancestor.as_ref()).map(figure)),
        ours: over(&mut rounds.iter().map(|r| figure(&r.ours))).unwrap_or(0.0),
        bound: median(rounds.iter().filter_map(|r| bound(case, requirement, &r.ours))),
        measure,
        limit,
        relation,
        pass: if told && aligned { measure.map(kept) } else { Some(false) },
    }
}

/// What the requirement looks at, in one run.
fn figure(requirement: Requirement, sample: &Sample) -> f64 {
    match requirement {
        Requirement::ShareOfBound(_) | Requirement::ShareOfAncestor(_) => sample.delivered as f64 / sample.seconds,
        Requirement::AboveBound(_) | Requirement::Latency(_) => sample.latency.p50,
        Requirement::Fairness(_) => sample.jain,
        Requirement::NothingLost => sample.lost as f64,
        Requirement::Goodput(_) => sample.delivered as f64 / sample.computed as f64,
        Requirement::OthersUnharmed(_) => sample.others,
        Requirement::CpuOfAncestor(_) => sample.cpu_per_frame,
    }
}

/// What would be reached if nothing but the processor took time: full batches one right after the other, or one batch of
/// all the cameras that starts when they give their frames. It sleeps as much too long as it did in that run.
fn bound(case: &Case, requirement: Requirement, sample: &Sample) -> Option<f64> {
    let time_ms = |n, oversleep_ms: f64| case.model.time(n).as_secs_f64() * 1e3 + oversleep_ms;
    let full = case.batch.max_size;
    match requirement {
        Requirement::ShareOfBound(_) => Some(full as f64 / time_ms(full, sample.oversleep.mean) * 1e3),
        Requirement::AboveBound(_) => Some(time_ms(case.load.giving().min(full), sample.oversleep.p50)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case;
    use crate::measure::Spread;

    fn case(name: &str) -> Case {
        case::all().into_iter().find(|c| c.name == name).expect("a case of that name")
    }

    fn sample(delivered: usize) -> Sample {
        Sample { seconds: 1.0, delivered, computed: 100, ..Sample::default() }
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-6)
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |ancestor, ours| Round { ancestor: Some(sample(ancestor)), ours: sample(ours) };
        let rounds = [round(100, 100), round(50, 60), round(200, 180)];
        let verdict = judge(&case("files-64"), Requirement::ShareOfAncestor(0.99), &rounds);
        assert_eq!((verdict.ancestor, verdict.ours), (Some(100.0), 100.0));
        assert!(close(verdict.measure, 1.0) && verdict.pass == Some(true), "{verdict:?}");
    }

    #[test]
    fn without_the_ancestor_some_can_not_be_told() {
        let rounds = [Round { ancestor: None, ours: sample(100) }];
        let verdict = judge(&case("files-64"), Requirement::ShareOfAncestor(0.99), &rounds);
        assert_eq!((verdict.ancestor, verdict.pass), (None, None));
    }

    #[test]
    fn bounds_come_from_real_sleeps() {
        let oversleep = Spread { mean: 0.5, p50: 0.1, ..Spread::default() };
        let ours = Sample { oversleep, latency: Spread { p50: 5.0, ..Spread::default() }, ..sample(1000) };
        let rounds = [Round { ancestor: None, ours }];
        let verdict = judge(&case("files-1"), Requirement::ShareOfBound(0.92), &rounds);
        assert!(close(verdict.bound, 1280.0) && close(verdict.measure, 0.78125), "{verdict:?}");
        assert_eq!(verdict.pass, Some(false));
        let verdict = judge(&case("camera-1"), Requirement::AboveBound(0.7), &rounds);
        assert!(close(verdict.bound, 4.6) && close(verdict.measure, 0.4) && verdict.pass == Some(true), "{verdict:?}");
        // A dead camera is in no batch.
        let verdict = judge(&case("cameras-8-dead"), Requirement::AboveBound(2.0), &rounds);
        assert!(close(verdict.bound, 8.1), "{verdict:?}");
    }

    #[test]
    fn who_delivers_nothing_passes_nothing() {
        for case in case::all() {
            for required in case.required.clone() {
                let round = Round { ancestor: Some(sample(100)), ours: Sample { jain: 1.0, others: 1.0, ..sample(0) } };
                let verdict = judge(&case, required, &[round]);
                assert_eq!(verdict.pass, Some(false), "{}: {verdict:?}", case.name);
            }
        }
    }

    #[test]
    fn cameras_that_are_not_aligned_prove_nothing() {
        let check = |misaligned: f64, pass| {
            let misalignment = Spread { p50: misaligned, ..Spread::default() };
            let latency = Spread { p50: 8.0, ..Spread::default() };
            let rounds = [Round { ancestor: None, ours: Sample { misalignment, latency, ..sample(100) } }];
            let verdict = judge(&case("cameras-8"), Requirement::AboveBound(1.5), &rounds);
            assert_eq!(verdict.pass, Some(pass), "{verdict:?}");
        };
        check(0.4, true);
        check(0.6, false);
    }

    #[test]
    fn one_round_with_a_loss_is_a_loss() {
        let round = |lost| Round { ancestor: None, ours: Sample { lost, ..sample(1) } };
        let verdict = judge(&case("bursts"), Requirement::NothingLost, &[round(0), round(3), round(0)]);
        assert_eq!((verdict.ours, verdict.pass), (3.0, Some(false)));
    }
}
