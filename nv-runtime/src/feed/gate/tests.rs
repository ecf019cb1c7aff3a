use std::time::Duration;

use nv_perception::{Artifact, ObjectId, Signal, StageOutput, TrackId};
use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000_000;

fn at(seq: u64, pts: i64) -> StreamPosition {
    StreamPosition { seq, pts: Pts::from_nanos(pts), session: 0, cuts: 0 }
}

fn gate(options: StepOptions) -> StepGate {
    options.validate().unwrap();
    StepGate::new(&options, CoreLog::default())
}

fn nothing() -> Perception {
    Perception::default()
}

fn heard(signals: impl IntoIterator<Item = Signal>) -> Perception {
    Perception::from(StageOutput { signals: signals.into_iter().collect(), ..StageOutput::default() })
}

/// The frames of `seconds` at `fps` on which the step runs.
fn runs(gate: &mut StepGate, fps: u64, seconds: u64) -> Vec<u64> {
    let pts = |seq: u64| (seq * SECOND as u64 / fps) as i64;
    (0..fps * seconds).filter(|seq| gate.decide(at(*seq, pts(*seq)), &nothing()) == Gate::Run).collect()
}

#[test]
fn without_options_every_frame() {
    assert_eq!(runs(&mut gate(StepOptions::default()), 25, 1), (0..25).collect::<Vec<_>>());
}

#[test]
fn every_nth_frame_from_the_first() {
    fn check(every: u32, expected: &[u64]) {
        assert_eq!(runs(&mut gate(StepOptions { every, ..StepOptions::default() }), 10, 1), expected, "every {every}");
    }
    check(1, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check(2, &[0, 2, 4, 6, 8]);
    check(3, &[0, 3, 6, 9]);
    check(25, &[0]);
}

#[test]
fn the_rate_is_kept_on_average_whatever_the_rate_of_frames() {
    fn check(max_rate: f64, fps: u64, expected: usize) {
        let mut gate = gate(StepOptions { max_rate: Some(max_rate), ..StepOptions::default() });
        // The last one may be due just after the minute.
        let ran = runs(&mut gate, fps, 60).len();
        assert!(ran == expected || ran == expected + 1, "{max_rate}/s of {fps} fps in a minute: {ran}");
    }
    check(10.0, 25, 600);
    check(20.0, 25, 1200);
    check(24.0, 25, 1440);
    check(1.0, 30, 60);
    check(0.1, 30, 6);
    check(7.0, 30, 420);
    // As many as there are, however their times are rounded.
    check(30.0, 30, 1800);
    check(25.0, 25, 1500);
    check(100.0, 30, 1800);
}

#[test]
fn the_first_frame_runs_and_the_rest_are_spread() {
    let mut gate = gate(StepOptions { max_rate: Some(5.0), ..StepOptions::default() });
    let seqs = runs(&mut gate, 25, 2);
    assert_eq!(seqs[0], 0);
    assert!(seqs.windows(2).all(|w| (4..=6).contains(&(w[1] - w[0]))), "{seqs:?}");
}

#[test]
fn a_pause_is_not_made_up_for() {
    let mut gate = gate(StepOptions { max_rate: Some(1.0), ..StepOptions::default() });
    let mut decide = |ms: i64| gate.decide(at(0, ms * 1_000_000), &nothing()) == Gate::Run;
    assert!(decide(0));
    assert!(!decide(400));
    assert!(decide(60_000));
    assert!(![60_040, 60_400].into_iter().any(&mut decide));
    assert!(decide(61_000));
}

#[test]
fn time_that_goes_back_neither_stops_a_step_nor_frees_it() {
    let mut gate = gate(StepOptions { max_rate: Some(1.0), ..StepOptions::default() });
    let mut decide = |ms: i64| gate.decide(at(0, ms * 1_000_000), &nothing()) == Gate::Run;
    assert!(decide(3_600_000));
    assert!(!decide(0), "a second has not passed");
    assert!(decide(1_000));
    // A stream whose times jump to and fro gets no more for it.
    let jumps = (0..100).filter(|i| decide(2_000 - i % 2)).count();
    assert_eq!(jumps, 1);
}

#[test]
fn a_cut_starts_over() {
    let options = StepOptions {
        every: 3,
        max_rate: Some(1.0),
        skip_while: vec![SkipCondition::SignalIs { signal: "still".into(), value: true.into() }],
        ..StepOptions::default()
    };
    for (session, cuts) in [(1, 0), (0, 1)] {
        let mut gate = gate(options.clone());
        assert_eq!(gate.decide(at(0, 0), &nothing()), Gate::Run);
        assert_eq!(gate.decide(at(1, 1), &heard([Signal::new("still", true)])), Gate::Skip);
        assert_eq!(gate.decide(StreamPosition { session, cuts, ..at(2, 2) }, &nothing()), Gate::Run);
        assert_eq!(gate.decide(StreamPosition { session, cuts, ..at(3, 3) }, &nothing()), Gate::Skip);
    }
}

#[test]
fn a_signal_holds_until_it_is_given_again() {
    fn check(condition: SkipCondition, said: &[Option<Value>], expected: &str) {
        let mut gate = gate(StepOptions { skip_while: vec![condition.clone()], ..StepOptions::default() });
        let decided: String = said
            .iter()
            .map(|value| {
                let perception = heard(value.clone().map(|v| Signal::new("s", v)));
                if gate.decide(at(0, 0), &perception) == Gate::Run { 'r' } else { '-' }
            })
            .collect();
        assert_eq!(decided, expected, "{condition:?} {said:?}");
    }
    let is = |value: Value| SkipCondition::SignalIs { signal: "s".into(), value };
    let below = SkipCondition::SignalBelow { signal: "s".into(), limit: 0.5 };
    let above = SkipCondition::SignalAbove { signal: "s".into(), limit: 2.0 };
    let (yes, no) = (Some(Value::Bool(true)), Some(Value::Bool(false)));
    check(is(true.into()), &[None, yes.clone(), None, None, no, None], "r---rr");
    check(is("night".into()), &[Some("day".into()), Some("night".into()), None], "r--");
    check(is(1i64.into()), &[Some(1.0.into()), Some(1.5.into()), Some(1i64.into()), yes.clone()], "-r-r");
    check(below.clone(), &[None, Some(0.5.into()), Some(0.4.into()), None, Some(1i64.into())], "rr--r");
    check(above, &[Some(2i64.into()), Some(3i64.into()), None, Some(f64::NAN.into())], "r--r");
    // What is no number is neither below nor above one.
    check(below, &[Some(0.1.into()), yes, Some("0.1".into())], "-rr");
}

#[test]
fn only_signals_about_the_picture_count_and_the_last_of_them() {
    let condition = SkipCondition::SignalIs { signal: "still".into(), value: true.into() };
    let mut gate = gate(StepOptions { skip_while: vec![condition], ..StepOptions::default() });
    let still = |value: bool| Signal::new("still", value);
    let of_object = Signal { object: Some(ObjectId(0)), ..still(true) };
    let of_track = Signal { track: Some(TrackId(0)), ..still(true) };
    assert_eq!(gate.decide(at(0, 0), &heard([of_object, of_track.clone(), Signal::new("other", true)])), Gate::Run);
    assert_eq!(gate.decide(at(1, 1), &heard([still(false), still(true), of_track.clone()])), Gate::Skip);
    assert_eq!(gate.decide(at(2, 2), &heard([still(true), still(false), of_track])), Gate::Run);
}

#[test]
fn an_artifact_counts_for_its_frame() {
    let schema: Name = "acme.privacy/1".into();
    let artifact = Artifact { schema: schema.clone(), encoding: "raw".into(), bytes: [].into() };
    let mut gate = gate(StepOptions { skip_while: vec![SkipCondition::Artifact { schema }], ..StepOptions::default() });
    let with = Perception::from(StageOutput { artifacts: vec![artifact], ..StageOutput::default() });
    assert_eq!([&nothing(), &with, &nothing()].map(|p| gate.decide(at(0, 0), p)), [Gate::Run, Gate::Skip, Gate::Run]);
}

#[test]
fn signals_are_heard_on_frames_whose_turn_it_is_not() {
    let condition = SkipCondition::SignalIs { signal: "still".into(), value: true.into() };
    let mut gate = gate(StepOptions { every: 2, skip_while: vec![condition], ..StepOptions::default() });
    let said = [None, Some(true), None, Some(false), None, None];
    let ran = said.map(|v| gate.decide(at(0, 0), &heard(v.map(|v| Signal::new("still", v)))) == Gate::Run);
    assert_eq!(ran, [true, false, false, false, true, false]);
}

#[test]
fn a_skipped_run_is_not_counted_against_the_rate() {
    let condition = SkipCondition::Artifact { schema: "hold".into() };
    let artifact = Artifact { schema: "hold".into(), encoding: "raw".into(), bytes: [].into() };
    let hold = Perception::from(StageOutput { artifacts: vec![artifact], ..StageOutput::default() });
    let options = StepOptions { max_rate: Some(1.0), skip_while: vec![condition], ..StepOptions::default() };
    let mut gate = gate(options);
    assert_eq!(gate.decide(at(0, 0), &hold), Gate::Skip);
    assert_eq!(gate.decide(at(1, SECOND / 25), &nothing()), Gate::Run);
}

#[test]
fn errors_name_the_field_and_the_reason() {
    fn check(change: impl FnOnce(&mut StepOptions), expected: Option<&str>) {
        let mut options = StepOptions::default();
        change(&mut options);
        assert_eq!(options.validate().err().map(|e| e.to_string()).as_deref(), expected);
    }
    let below = |signal: &str, limit| SkipCondition::SignalBelow { signal: signal.into(), limit };
    check(|_| (), None);
    check(|o| o.max_rate = Some(0.01), None);
    check(|o| o.every = 0, Some("every is 0: it must be at least 1, which is every frame"));
    for (rate, text) in [(0.0, "0"), (-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let expected = format!("max_rate is {text}: it must be a number of runs a second above 0");
        check(|o| o.max_rate = Some(rate), Some(&expected));
    }
    check(|o| o.skip_while = vec![below("motion", 0.1)], None);
    check(
        |o| o.skip_while = vec![below("", 0.1)],
        Some(r#"skip_while is "": it must name a signal or the schema of an artifact"#),
    );
    check(
        |o| o.skip_while = vec![below("motion", f64::NAN)],
        Some(r#"skip_while is "motion" against NaN: nothing compares with what is not a number"#),
    );
    check(
        |o| o.regions = Some(RegionOptions { max_regions: 0, ..RegionOptions::default() }),
        Some("regions.max_regions is 0: it must be at least 1"),
    );
    check(
        |o| o.regions = Some(RegionOptions { refresh: Some(Duration::ZERO), ..RegionOptions::default() }),
        Some("regions.refresh is 0ns: it must be longer than nothing; without it each frame is looked at"),
    );
}

proptest! {
    /// Whatever the intervals, no second has more than one run beyond the rate, and as many run as the rate and the frames allow.
    #[test]
    fn no_second_exceeds_the_rate_by_more_than_one(
        rate in 1u32..40,
        intervals in prop::collection::vec(0i64..120_000_000, 1..400),
        start in any::<i32>(),
    ) {
        let mut gate = gate(StepOptions { max_rate: Some(f64::from(rate)), ..StepOptions::default() });
        let mut pts = i64::from(start);
        let mut ran = Vec::new();
        for interval in &intervals {
            if gate.decide(at(0, pts), &nothing()) == Gate::Run {
                ran.push(pts);
            }
            pts += interval;
        }
        for (i, from) in ran.iter().enumerate() {
            let within = ran[i..].iter().take_while(|p| **p - from < SECOND).count();
            prop_assert!(within <= rate as usize + 1, "{within} from {from}");
        }
        // No run is later than one and a half periods and an interval after the one before.
        let period = SECOND / i64::from(rate);
        let longest = intervals.iter().max().copied().unwrap_or(0);
        for pair in ran.windows(2) {
            prop_assert!(pair[1] - pair[0] <= period * 3 / 2 + longest + 2, "{pair:?}");
        }
    }

    #[test]
    fn every_nth_is_exact(every in 1u32..50, frames in 0u32..500) {
        let mut gate = gate(StepOptions { every, ..StepOptions::default() });
        for seq in 0..frames {
            let run = gate.decide(at(u64::from(seq), 0), &nothing()) == Gate::Run;
            prop_assert_eq!(run, seq % every == 0);
        }
    }

    /// Times out of all bounds are no panic, and a step with a rate is not stopped for good.
    #[test]
    fn no_time_is_a_panic(times in prop::collection::vec(any::<i64>(), 1..50), rate in prop_oneof![Just(1e-300), Just(1.0), Just(1e300)]) {
        let mut gate = gate(StepOptions { max_rate: Some(rate), ..StepOptions::default() });
        for pts in times {
            gate.decide(at(0, pts), &nothing());
        }
    }
}
