use super::*;

fn entry_key(number: u32) -> EntryKey {
    EntryKey::numbered(number)
}

const LIMIT: Duration = Duration::from_secs(5);

fn at(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

fn batch(gated: bool, claims: bool) -> CoreStep {
    CoreStep { kind: StepKind::Batch, gated, claims, response_timeout: LIMIT, look_after: LIMIT }
}

fn stage() -> CoreStep {
    let never = Duration::ZERO;
    CoreStep { kind: StepKind::Stage, gated: false, claims: false, response_timeout: never, look_after: never }
}

fn core(live: bool, on_step_error: StepErrorPolicy, steps: Vec<CoreStep>) -> FeedCore<()> {
    let slots = steps.len();
    let mut core = FeedCore::new(CoreConfig { live, max_in_pipeline: None, on_step_error }, steps);
    (0..slots).for_each(|step| core.set_slots(step, 2));
    core
}

fn check(core: &mut FeedCore<()>, now: u64, expected: Action) {
    assert_eq!(core.next(at(now), true), expected);
}

fn turn(core: &mut FeedCore<()>, now: u64, expected: Turn) {
    check(core, now, Action::Turn(expected));
}

#[test]
fn claims_are_made_as_far_as_there_are_frames_and_slots() {
    fn check(queued: usize, claims: usize, expected: Option<usize>) {
        let mut core = core(true, StepErrorPolicy::Drop, vec![batch(false, true)]);
        core.look(queued, claims, false);
        let count = match core.next(at(0), true) {
            Action::Claim { count } => Some(count),
            Action::Wait(None) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(count, expected, "{queued} queued, {claims} claimed");
    }
    check(0, 0, None);
    check(1, 0, Some(1));
    check(4, 0, Some(2));
    check(4, 1, Some(1));
    check(4, 2, None);
    check(1, 1, None);
}

#[test]
fn a_claim_that_is_bound_and_never_answered_is_found_out() {
    let mut core = core(true, StepErrorPolicy::Drop, vec![batch(false, true)]);
    core.look(1, 0, false);
    check(&mut core, 0, Action::Claim { count: 1 });
    core.claimed(at(0), 1, None);
    check(&mut core, 0, Action::Wait(Some(at(5000))));
    // Nobody says when it is bound; it looks by itself.
    core.bound(0, at(3000), entry_key(7), ());
    core.look(0, 0, false);
    check(&mut core, 5000, Action::Wait(Some(at(8000))));
    check(&mut core, 8000, Action::Check { seq: 0, step: 0, key: entry_key(7) });
    assert_eq!(core.checked(at(8000), 0, EntryState::Dispatched(at(3500))), Checked::Fine, "it was dispatched later");
    check(&mut core, 8000, Action::Wait(Some(at(8500))));
    check(&mut core, 8500, Action::Check { seq: 0, step: 0, key: entry_key(7) });
    assert_eq!(core.checked(at(8500), 0, EntryState::Dispatched(at(3500))), Checked::Overdue);
    assert_eq!(core.used(0), 0, "its slot is free");
    assert_eq!(core.failed(0), Failed::Dropped { abandon: None });
    assert_eq!(core.len(), 0);
}

#[test]
fn what_waits_is_looked_at_until_it_is_answered_or_lost() {
    fn check(answers: &[(u64, EntryState, Checked)]) {
        let second = Duration::from_secs(1);
        let mut core = core(true, StepErrorPolicy::Drop, vec![CoreStep { look_after: second, ..batch(true, false) }]);
        core.enter(0, ());
        core.gated(0, true);
        core.submitted(at(0), 0, entry_key(3), 1);
        for (now, entry, expected) in answers {
            assert_eq!(core.next(at(now - 1), true), Action::Wait(Some(at(*now))), "{answers:?}");
            assert_eq!(core.next(at(*now), true), Action::Check { seq: 0, step: 0, key: entry_key(3) });
            assert_eq!(core.checked(at(*now), 0, *entry), *expected, "{answers:?}");
        }
        let over = answers.last().is_some_and(|(_, _, checked)| *checked != Checked::Fine);
        assert_eq!(core.used(0), usize::from(!over), "{answers:?}");
    }
    use EntryState::{Dispatched, Gone, TooOld, Waiting};
    check(&[(1000, Waiting, Checked::Fine), (2000, TooOld, Checked::TooOld)]);
    check(&[(1000, Dispatched(at(900)), Checked::Fine), (5900, Dispatched(at(900)), Checked::Overdue)]);
    // Its result may be on its way.
    check(&[(1000, Gone, Checked::Fine), (1100, Gone, Checked::Lost)]);
}

#[test]
fn claims_that_wait_have_their_point_looked_after() {
    let mut core = core(true, StepErrorPolicy::Drop, vec![batch(false, true)]);
    core.look(1, 0, false);
    check(&mut core, 0, Action::Claim { count: 1 });
    core.claimed(at(0), 1, None);
    check(&mut core, 5000, Action::Inspect { step: 0 });
    check(&mut core, 5000, Action::Wait(Some(at(10000))));
    check(&mut core, 10000, Action::Inspect { step: 0 });
}

#[test]
fn a_full_point_is_asked_again_when_something_has_left_it() {
    let mut core = core(false, StepErrorPolicy::Drop, vec![batch(false, false)]);
    core.look(2, 0, false);
    for seq in 0..2 {
        check(&mut core, 0, Action::Take);
        core.enter(seq, ());
    }
    assert_eq!(core.awaits_frames(), None, "a third one could only wait for a slot");
    turn(&mut core, 0, Turn::Submit { seq: 0, step: 0 });
    core.submitted(at(0), 0, entry_key(0), 1);
    turn(&mut core, 0, Turn::Submit { seq: 1, step: 0 });
    core.no_room(0);
    check(&mut core, 0, Action::Wait(Some(at(5000))));
    assert!(core.answered(0));
    turn(&mut core, 1, Turn::Merge { seq: 0, step: 0 });
    core.passed(0);
    turn(&mut core, 1, Turn::Emit { seq: 0 });
    assert_eq!(core.emitted(0), Some(()));
    turn(&mut core, 1, Turn::Submit { seq: 1, step: 0 });
}

#[test]
fn a_frame_of_several_parts_is_done_with_the_last_of_them() {
    let mut core = core(true, StepErrorPolicy::Drop, vec![stage(), batch(true, false)]);
    core.enter(0, ());
    turn(&mut core, 0, Turn::RunStage { seq: 0, step: 0 });
    core.passed(0);
    turn(&mut core, 0, Turn::Gate { seq: 0, step: 1 });
    core.gated(0, true);
    turn(&mut core, 0, Turn::Submit { seq: 0, step: 1 });
    core.submitted(at(0), 0, entry_key(3), 3);
    assert_eq!(core.find(1, entry_key(3)), Some(0));
    assert_eq!((core.answered(0), core.answered(0), core.used(1)), (false, false, 1));
    assert_eq!((core.answered(0), core.used(1)), (true, 0));
    assert_eq!(core.find(1, entry_key(3)), None, "what comes later is of nobody");
    turn(&mut core, 0, Turn::Merge { seq: 0, step: 1 });
}

#[test]
fn a_part_that_fails_costs_the_frame_or_its_results() {
    fn check(policy: StepErrorPolicy, parts: u32, expected: Failed, next: Action) {
        let mut core = core(true, policy, vec![batch(true, false)]);
        core.enter(0, ());
        core.gated(0, true);
        core.submitted(at(0), 0, entry_key(3), parts);
        assert_eq!(core.answered_badly(0), expected, "{policy:?}, {parts} parts");
        assert_eq!(core.next(at(0), true), next, "{policy:?}, {parts} parts");
    }
    let merge = Action::Turn(Turn::Merge { seq: 0, step: 0 });
    let wait = Action::Wait(Some(at(5000)));
    check(StepErrorPolicy::Drop, 1, Failed::Dropped { abandon: None }, wait);
    check(StepErrorPolicy::Drop, 3, Failed::Dropped { abandon: Some(entry_key(3)) }, wait);
    check(StepErrorPolicy::Pass, 1, Failed::Passed, merge);
    check(StepErrorPolicy::Pass, 3, Failed::Passed, wait);
}

#[test]
fn a_stage_that_fails_lets_its_frame_pass_where_that_is_asked_for() {
    let mut core = core(true, StepErrorPolicy::Pass, vec![stage()]);
    core.enter(0, ());
    turn(&mut core, 0, Turn::RunStage { seq: 0, step: 0 });
    assert_eq!(core.failed(0), Failed::Passed);
    turn(&mut core, 0, Turn::Merge { seq: 0, step: 0 });
    core.passed(0);
    turn(&mut core, 0, Turn::Emit { seq: 0 });
}

#[test]
fn the_end_of_a_drain_comes_before_all_else() {
    let mut core = core(false, StepErrorPolicy::Drop, vec![batch(false, false)]);
    core.look(3, 0, true);
    core.enter(0, ());
    core.submitted(at(0), 0, entry_key(9), 1);
    core.stop_at(at(100));
    core.look(0, 0, true);
    check(&mut core, 99, Action::Wait(Some(at(100))));
    check(&mut core, 100, Action::Abandon);
    assert_eq!(core.evict(), Some((0, 0, Some(entry_key(9)), ())));
    assert_eq!((core.evict(), core.used(0)), (None, 0));
    check(&mut core, 100, Action::Finish);
}

#[test]
fn a_restart_waits_for_its_time() {
    let mut core = core(true, StepErrorPolicy::Drop, vec![stage()]);
    core.restart_at(at(1000));
    check(&mut core, 999, Action::Wait(Some(at(1000))));
    check(&mut core, 1000, Action::Rebuild);
    core.rebuilt();
    check(&mut core, 1000, Action::Wait(None));
}

#[test]
fn an_output_that_waits_for_a_sink_keeps_the_feed_from_ending() {
    let mut core = core(false, StepErrorPolicy::Drop, vec![]);
    core.look(0, 0, true);
    assert_eq!(core.next(at(0), false), Action::Wait(None));
    assert_eq!(core.next(at(0), true), Action::Finish);
}
