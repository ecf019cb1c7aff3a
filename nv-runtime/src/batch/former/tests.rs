use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HOLD: Duration = Duration::from_millis(2);

fn us(us: u64) -> MonoTime {
    MonoTime::from_nanos(us * 1000)
}

fn former(max_batch: usize) -> Former<u32> {
    let max_age = Duration::from_secs(1);
    Former::new(FormerConfig { max_batch, max_latency: HOLD, max_age, max_pending: 64 })
}

fn lane(slots: usize) -> LaneSpec {
    LaneSpec { live: true, slots, weight: 1 }
}

fn submit(f: &mut Former<u32>, now: MonoTime, lane: LaneKey, value: u32) -> Result<EntryKey, Refusal> {
    f.submit(now, lane, (now, 0), &mut std::iter::once(value))
}

/// Ends a part that was computed. False if its result is not wanted any more.
fn release(f: &mut Former<u32>, key: EntryKey) -> bool {
    f.release(key, Verdict::Computed).wanted
}

fn bound(payload: u32, received: MonoTime) -> BoundPart<u32> {
    BoundPart { payload, received, batch_key: 0 }
}

fn take(former: &mut Former<u32>, now: MonoTime) -> Vec<(EntryKey, u32)> {
    let mut batch = Vec::new();
    former.take(now, &mut batch, |_, _| None, |_, _, _| panic!("nothing is too old here"));
    batch.into_iter().map(|t| (t.key, t.payload)).collect()
}

#[test]
fn a_lone_feed_is_never_held() {
    let mut f = former(16);
    let a = f.attach(lane(2));
    assert_eq!(f.decide(us(0)), Decision::Idle);
    f.set_cadence(a, true, Some(us(33_000)));
    submit(&mut f, us(0), a, 1).unwrap();
    assert_eq!(f.decide(us(0)), Decision::Dispatch);
}

#[test]
fn the_hold_ends_when_no_expected_lane_is_missing_or_time_is_up() {
    /// Lane A has submitted at 0; what is decided at `now` depends on lane B.
    fn check(running: bool, slots: usize, next_due: Option<u64>, now: u64, expected: Decision) {
        let mut f = former(16);
        let (a, b) = (f.attach(lane(2)), f.attach(lane(slots)));
        for i in 1..slots {
            // All of B's slots but one, or but none, are in use.
            submit(&mut f, us(0), b, 100 + i as u32).unwrap();
        }
        take(&mut f, us(0));
        f.set_cadence(b, running, next_due.map(us));
        submit(&mut f, us(0), a, 1).unwrap();
        assert_eq!(f.decide(us(now)), expected, "running {running}, slots {slots}, due {next_due:?}, now {now}");
    }
    let held = Decision::WaitUntil(us(2000));
    check(true, 1, Some(500), 0, held);
    check(true, 2, Some(500), 0, held);
    check(true, 1, Some(500), 1999, held);
    check(true, 1, Some(500), 2000, Decision::Dispatch);
    check(true, 1, Some(2001), 0, Decision::Dispatch);
    check(true, 1, None, 0, Decision::Dispatch);
    check(false, 1, Some(500), 0, Decision::Dispatch);
}

#[test]
fn a_stalled_lane_is_not_waited_for() {
    let mut f = former(16);
    let (a, b) = (f.attach(lane(2)), f.attach(lane(2)));
    f.set_cadence(b, true, Some(us(10_000)));
    submit(&mut f, us(12_001), a, 1).unwrap();
    assert_eq!(f.decide(us(12_001)), Decision::Dispatch, "B is overdue by more than the hold");
}

#[test]
fn the_wait_for_a_lane_that_may_have_stalled_ends_when_it_has() {
    let mut f = former(16);
    let (a, b) = (f.attach(lane(2)), f.attach(lane(2)));
    f.set_cadence(b, true, Some(us(10_000)));
    submit(&mut f, us(11_500), a, 1).unwrap();
    assert_eq!(f.decide(us(11_500)), Decision::WaitUntil(us(12_000)), "not until the end of the hold");
    assert_eq!(f.decide(us(12_000)), Decision::Dispatch);
}

#[test]
fn a_lane_without_a_free_slot_is_not_waited_for() {
    let mut f = former(16);
    let (a, b) = (f.attach(lane(2)), f.attach(lane(1)));
    submit(&mut f, us(0), b, 9).unwrap();
    take(&mut f, us(0));
    f.set_cadence(b, true, Some(us(500)));
    submit(&mut f, us(0), a, 1).unwrap();
    assert_eq!(f.decide(us(0)), Decision::Dispatch);
}

#[test]
fn a_full_batch_goes_at_once() {
    let mut f = former(2);
    let (a, b) = (f.attach(lane(4)), f.attach(lane(4)));
    f.set_cadence(b, true, Some(us(100)));
    submit(&mut f, us(0), a, 1).unwrap();
    assert_eq!(f.decide(us(0)), Decision::WaitUntil(us(2000)));
    submit(&mut f, us(1), a, 2).unwrap();
    assert_eq!(f.decide(us(1)), Decision::Dispatch);
}

#[test]
fn slots_bound_a_lane_and_max_pending_bounds_the_point() {
    let mut f = former(16);
    let a = f.attach(lane(2));
    submit(&mut f, us(0), a, 1).unwrap();
    submit(&mut f, us(0), a, 2).unwrap();
    assert_eq!(submit(&mut f, us(0), a, 3), Err(Refusal::NoSlot));
    let taken = take(&mut f, us(0));
    assert_eq!(submit(&mut f, us(0), a, 3), Err(Refusal::NoSlot), "a slot is held while it is computed");
    assert!(release(&mut f, taken[0].0));
    assert!(!release(&mut f, taken[0].0), "freed once");
    submit(&mut f, us(0), a, 3).unwrap();

    let b = f.attach(lane(1000));
    for i in 0..63 {
        submit(&mut f, us(0), b, i).unwrap();
    }
    assert_eq!(submit(&mut f, us(0), b, 0), Err(Refusal::Full));
    let c = f.attach(lane(2));
    submit(&mut f, us(0), c, 1000).unwrap();
    assert_eq!(submit(&mut f, us(0), c, 0), Err(Refusal::Full), "each lane may have one");
    f.detach(b, |_| ());
    assert_eq!(submit(&mut f, us(0), b, 0), Err(Refusal::NoLane));
}

#[test]
fn round_robin_serves_by_weight() {
    let mut f = former(6);
    let heavy = f.attach(LaneSpec { live: false, slots: 32, weight: 2 });
    let light = f.attach(LaneSpec { live: false, slots: 32, weight: 1 });
    for i in 0..16 {
        submit(&mut f, us(0), heavy, i).unwrap();
        submit(&mut f, us(0), light, 100 + i).unwrap();
    }
    let batch: Vec<u32> = take(&mut f, us(0)).into_iter().map(|(_, v)| v).collect();
    assert_eq!(batch.iter().filter(|v| **v < 100).count(), 4, "{batch:?}");
}

/// Submits an entry with a batch key.
fn submit_keyed(f: &mut Former<u32>, lane: LaneKey, batch_key: u64, value: u32) {
    f.submit(us(0), lane, (us(0), batch_key), &mut std::iter::once(value)).unwrap();
}

fn values(batch: Vec<(EntryKey, u32)>) -> Vec<u32> {
    batch.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn only_equal_batch_keys_share_a_batch_and_the_lane_furthest_behind_heads_it() {
    let mut f = former(4);
    let lanes: Vec<_> = (0..3).map(|_| f.attach(lane(8))).collect();
    for n in 0..3 {
        submit_keyed(&mut f, lanes[0], 1, n);
        submit_keyed(&mut f, lanes[1], 2, 10 + n);
        submit_keyed(&mut f, lanes[2], 1, 20 + n);
    }
    assert_eq!(values(take(&mut f, us(0))), [0, 20, 1, 21]);
    assert_eq!(values(take(&mut f, us(0))), [10, 11, 12]);
    assert_eq!(values(take(&mut f, us(0))), [2, 22]);
}

#[test]
fn a_lane_whose_frames_change_keeps_their_order() {
    let mut f = former(4);
    let a = f.attach(lane(8));
    for (key, value) in [(1, 0), (2, 1), (1, 2)] {
        submit_keyed(&mut f, a, key, value);
    }
    for expected in [[0], [1], [2]] {
        assert_eq!(values(take(&mut f, us(0))), expected);
    }
}

#[test]
fn a_claim_that_does_not_go_with_the_batch_stays_in_front_as_what_it_was_bound_to() {
    let mut f = former(4);
    let (a, b) = (f.attach(lane(8)), f.attach(lane(8)));
    submit_keyed(&mut f, a, 1, 0);
    f.claim(us(0), b).unwrap();
    f.claim(us(0), b).unwrap();
    let mut frames = vec![
        BoundPart { payload: 11, received: us(0), batch_key: 1 },
        BoundPart { payload: 10, received: us(0), batch_key: 2 },
    ];
    let mut batch = Vec::new();
    f.take(us(0), &mut batch, |_, _| frames.pop(), |_, _, _| panic!("no entry is too old"));
    assert_eq!(batch.iter().map(|t| t.payload).collect::<Vec<_>>(), [0]);
    assert_eq!((f.pending(), frames.len()), (2, 1), "the second was not asked for");
    assert_eq!(f.drain(|_, _, _| ()), [(b, 1)], "one is a claim still");

    let mut f = former(4);
    let (a, b) = (f.attach(lane(8)), f.attach(lane(8)));
    submit_keyed(&mut f, a, 1, 0);
    f.claim(us(0), b).unwrap();
    let mut frames = vec![BoundPart { payload: 12, received: us(0), batch_key: 2 }];
    f.take(us(0), &mut Vec::new(), |_, _| frames.pop(), |_, _, _| panic!("no entry is too old"));
    let late = us(1_000_001);
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    f.take(late, &mut batch, |_, _| None, |_, _, v| expired.push(v));
    assert_eq!((batch.len(), expired), (0, vec![12]), "its age counts from then as well");
    assert_eq!(f.pending(), 0);
}

#[test]
fn what_does_not_go_together_fills_no_batch() {
    let mut f = former(2);
    let (a, b, c) = (f.attach(lane(8)), f.attach(lane(8)), f.attach(lane(8)));
    f.set_cadence(c, true, Some(us(100)));
    submit_keyed(&mut f, a, 1, 0);
    submit_keyed(&mut f, b, 2, 1);
    assert_eq!(f.decide(us(0)), Decision::WaitUntil(us(2000)));
    submit_keyed(&mut f, a, 1, 2);
    assert_eq!(f.decide(us(0)), Decision::Dispatch);
}

#[test]
fn a_lane_that_is_released_from_quarantine_has_no_claim_on_what_it_missed() {
    let mut f = former(4);
    let file = LaneSpec { live: false, slots: 64, weight: 1 };
    let (bad, good) = (f.attach(file), f.attach(file));
    for i in 0..40 {
        submit(&mut f, us(0), bad, i).unwrap();
    }
    let end_all = |f: &mut Former<u32>, now, verdict| {
        for (key, _) in take(f, now) {
            f.release(key, verdict);
        }
    };
    end_all(&mut f, us(0), Verdict::Guilty);
    end_all(&mut f, us(0), Verdict::Guilty);
    for i in 0..20 {
        submit(&mut f, us(0), good, 100 + i).unwrap();
    }
    // One alone, then the others among themselves.
    for second in 0..8 {
        end_all(&mut f, us(second * 1_000_000), Verdict::Computed);
        end_all(&mut f, us(second * 1_000_000), Verdict::Computed);
    }
    for i in 0..4 {
        submit(&mut f, us(0), good, 200 + i).unwrap();
    }
    let both = values(take(&mut f, us(8_000_000)));
    assert!(both.len() == 4 && both.iter().any(|v| *v >= 200), "{both:?}");
}

#[test]
fn an_idle_lane_saves_nothing_up() {
    let mut f = former(4);
    let (a, b) = (f.attach(lane(64)), f.attach(lane(64)));
    for i in 0..40 {
        submit(&mut f, us(0), a, i).unwrap();
    }
    for _ in 0..5 {
        for (key, _) in take(&mut f, us(0)) {
            release(&mut f, key);
        }
    }
    for i in 0..8 {
        submit(&mut f, us(0), b, 100 + i).unwrap();
    }
    let batch = take(&mut f, us(0));
    assert_eq!(batch.iter().filter(|(_, v)| *v >= 100).count(), 2, "B gets its share, not what it missed: {batch:?}");
}

#[test]
fn claims_are_bound_at_dispatch_and_void_ones_free_their_slot() {
    let mut f = former(16);
    let a = f.attach(lane(2));
    f.claim(us(0), a).unwrap();
    f.claim(us(0), a).unwrap();
    assert_eq!(f.claim(us(0), a), Err(Refusal::NoSlot));
    let (mut batch, mut frames) = (Vec::new(), vec![7]);
    f.take(us(10), &mut batch, |_, _| Some(bound(frames.pop()?, us(5))), |_, _, _| panic!("no entry is too old"));
    assert_eq!(batch.iter().map(|t| t.payload).collect::<Vec<_>>(), [7]);
    assert_eq!(batch[0].wait, Duration::from_micros(10));
    f.claim(us(20), a).unwrap();
    assert_eq!(f.claim(us(20), a), Err(Refusal::NoSlot), "one is being computed, one waits");
}

#[test]
fn what_is_too_old_is_not_computed() {
    fn check(live: bool, received: u64, expected: (usize, usize)) {
        let mut f = former(16);
        let a = f.attach(LaneSpec { live, slots: 2, weight: 1 });
        submit(&mut f, us(received), a, 1).unwrap();
        let (mut batch, mut expired) = (Vec::new(), 0);
        f.take(us(1_000_001), &mut batch, |_, _| None, |_, _, _| expired += 1);
        assert_eq!((batch.len(), expired), expected, "live {live}, received {received}");
        assert_eq!(f.pending(), 0);
    }
    check(true, 0, (0, 1));
    check(true, 1, (1, 0));
    check(false, 0, (1, 0));
}

#[test]
fn a_frame_that_was_begun_is_computed_to_its_end() {
    let mut f = former(2);
    let a = f.attach(lane(2));
    f.submit(us(0), a, (us(0), 0), &mut [1, 2, 3].into_iter()).unwrap();
    f.submit(us(0), a, (us(0), 0), &mut [4, 5].into_iter()).unwrap();
    let mut take = |now| {
        let (mut batch, mut expired) = (Vec::new(), Vec::new());
        f.take(now, &mut batch, |_, _| None, |_, _, v| expired.push(v));
        (batch.iter().map(|t| t.payload).collect::<Vec<_>>(), expired)
    };
    assert_eq!(take(us(1_000_000)), (vec![1, 2], vec![]));
    assert_eq!(take(us(1_000_001)), (vec![3], vec![4, 5]), "the third goes with what was computed of its frame");
}

#[test]
fn a_claim_brings_nothing_that_is_too_old_either() {
    let mut f = former(16);
    let a = f.attach(lane(2));
    f.claim(us(0), a).unwrap();
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    f.take(us(1_000_001), &mut batch, |_, _| Some(bound(7, us(0))), |_, _, v| expired.push(v));
    assert_eq!((batch.len(), expired), (0, vec![7]));
    f.claim(us(1_000_001), a).unwrap();
    f.claim(us(1_000_001), a).unwrap();
}

#[test]
fn an_abandoned_entry_is_never_computed_and_its_late_result_is_void() {
    let mut f = former(16);
    let a = f.attach(lane(2));
    let waiting = submit(&mut f, us(0), a, 1).unwrap();
    let mut dropped = Vec::new();
    f.abandon(waiting, |v| dropped.push(v));
    assert_eq!(dropped, [1]);
    assert_eq!(f.decide(us(0)), Decision::Idle);
    let computing = submit(&mut f, us(0), a, 2).unwrap();
    take(&mut f, us(5));
    assert_eq!(f.state_of(us(5), computing, Duration::ZERO), EntryState::Dispatched(us(5)));
    f.abandon(computing, |_| panic!("it waits no more"));
    assert!(!release(&mut f, computing));
    assert_eq!(f.in_dispatch(), 0);
}

#[test]
fn a_quarantined_lane_goes_alone_once_a_second() {
    let mut f = former(16);
    let (bad, good) = (f.attach(lane(16)), f.attach(lane(16)));
    for i in 0..8 {
        submit(&mut f, us(0), bad, i).unwrap();
    }
    let mut changes = Vec::new();
    for (key, _) in take(&mut f, us(0)) {
        changes.extend(f.release(key, Verdict::Guilty).standing);
    }
    assert_eq!(changes, [(bad, StandingChange::Quarantined)]);

    for i in 0..3 {
        submit(&mut f, us(10), bad, i).unwrap();
    }
    submit(&mut f, us(10), good, 100).unwrap();
    assert_eq!(values(take(&mut f, us(10))), [0], "one alone");
    assert_eq!(values(take(&mut f, us(10))), [100], "the others among themselves");
    assert_eq!(f.decide(us(11)), Decision::WaitUntil(us(1_000_010)));
    assert!(take(&mut f, us(1_000_009)).is_empty());
    assert_eq!(f.decide(us(1_000_010)), Decision::Dispatch);
    assert_eq!(values(take(&mut f, us(1_000_010))), [1]);
}

#[derive(Clone, Debug)]
enum Event {
    Attach(usize, u32),
    Detach(usize),
    /// To a lane, in parts, of a batch key.
    Submit(usize, usize, u64),
    Claim(usize),
    /// Frames of a batch key wait for claims, or none.
    Take(Option<u64>),
    SingleOut(usize),
    Release(usize, Verdict),
    Abandon(usize),
    Drain,
    Tick(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (1usize..5, 1u32..4).prop_map(|(s, w)| Event::Attach(s, w)),
        1 => (0usize..6).prop_map(Event::Detach),
        6 => (0usize..6, prop_oneof![Just(1usize), 2usize..7], 0u64..3).prop_map(|(i, n, k)| Event::Submit(i, n, k)),
        6 => (0usize..6).prop_map(Event::Claim),
        4 => prop::option::of(0u64..3).prop_map(Event::Take),
        1 => (1usize..4).prop_map(Event::SingleOut),
        6 => (0usize..64, 0usize..3).prop_map(|(i, v)| {
            Event::Release(i, [Verdict::Computed, Verdict::Guilty, Verdict::Unlucky][v])
        }),
        2 => (0usize..64).prop_map(Event::Abandon),
        1 => Just(Event::Drain),
        2 => (0u64..600_000).prop_map(Event::Tick),
    ]
}

proptest! {
    /// Whatever happens: every payload comes out exactly once, a lane has a slot in use for each of its entries and no more
    /// than it has, and nothing waits without either being dispatched or having asked for a wake-up.
    #[test]
    fn entries_are_conserved(events in prop::collection::vec(event(), 0..200)) {
        let mut f = former(4);
        let mut now = 0;
        let mut lanes: Vec<(LaneKey, usize)> = Vec::new();
        let (mut given, mut next) = (0usize, 0u32);
        let mut out: Vec<u32> = Vec::new();
        let mut keys: Vec<EntryKey> = Vec::new();
        let mut computing: Vec<EntryKey> = Vec::new();
        for e in events {
            match e {
                Event::Attach(slots, weight) if lanes.len() < 6 => {
                    lanes.push((f.attach(LaneSpec { live: true, slots, weight }), slots));
                }
                Event::Detach(i) if i < lanes.len() => drop(f.detach(lanes.remove(i).0, |v| out.push(v))),
                Event::Submit(i, parts, batch_key) if i < lanes.len() => {
                    let mut values = next..next + parts as u32;
                    if let Ok(key) = f.submit(us(now), lanes[i].0, (us(now), batch_key), &mut values) {
                        keys.push(key);
                        given += parts;
                        next += parts as u32;
                    }
                }
                Event::Claim(i) if i < lanes.len() => {
                    if let Ok(key) = f.claim(us(now), lanes[i].0) {
                        keys.push(key);
                    }
                }
                Event::SingleOut(count) => f.single_out(count),
                Event::Take(frames) => {
                    let mut batch = Vec::new();
                    let (decision, pending, full) = (f.decide(us(now)), f.pending(), f.full_batch());
                    f.take(
                        us(now),
                        &mut batch,
                        |_, _| frames.map(|batch_key| {
                            given += 1;
                            next += 1;
                            BoundPart { batch_key, ..bound(next - 1, us(now)) }
                        }),
                        |_, _, v| out.push(v),
                    );
                    prop_assert!(batch.len() <= full);
                    prop_assert!(decision != Decision::Dispatch || f.pending() < pending, "a dispatch gets on");
                    computing.extend(batch.iter().map(|t| t.key));
                    out.extend(batch.into_iter().map(|t| t.payload));
                }
                Event::Release(i, verdict) if i < computing.len() => {
                    let key = computing.swap_remove(i);
                    f.release(key, verdict);
                    prop_assert!(computing.contains(&key) || !release(&mut f, key));
                }
                Event::Abandon(i) if i < keys.len() => drop(f.abandon(keys.swap_remove(i), |v| out.push(v))),
                Event::Drain => { f.drain(|_, _, v| out.push(v)); }
                Event::Tick(by) => now += by,
                _ => {}
            }
            for (key, slots) in &lanes {
                prop_assert!(f.used(*key) <= *slots && f.used(*key) == f.entries.of_lane(*key));
            }
            let waiting: usize = f.lanes().map(|l| l.waiting.len()).sum();
            prop_assert_eq!(waiting, f.pending());
            match f.decide(us(now)) {
                Decision::Idle => prop_assert_eq!(waiting, 0),
                Decision::WaitUntil(t) => prop_assert!(waiting > 0 && t > us(now)),
                Decision::Dispatch => prop_assert!(waiting > 0),
            }
        }
        f.drain(|_, _, v| out.push(v));
        let emitted = out.len();
        out.sort_unstable();
        out.dedup();
        prop_assert_eq!(emitted, out.len(), "a payload came out twice");
        prop_assert_eq!(given, emitted);
        let held: usize = f.lanes().map(|l| l.used).sum();
        prop_assert!(held <= f.in_dispatch(), "after a drain only what is being computed holds a slot");
        computing.into_iter().for_each(|key| { release(&mut f, key); });
        prop_assert_eq!((f.lanes().map(|l| l.used).sum::<usize>(), f.in_dispatch()), (0, 0));
    }
}

#[test]
fn a_frame_in_parts_is_judged_once_and_goes_alone_as_a_whole() {
    let mut f = former(4);
    let a = f.attach(LaneSpec { live: false, slots: 16, weight: 1 });
    let submit_parts = |f: &mut Former<u32>| f.submit(us(0), a, (us(0), 0), &mut (0..6)).unwrap();
    let end_frame = |f: &mut Former<u32>, second: u64, verdicts: [Verdict; 2]| {
        let mut changes = Vec::new();
        for batch in [take(f, us(second * 1_000_000)), take(f, us(second * 1_000_000))] {
            for (n, (key, _)) in batch.into_iter().enumerate() {
                changes.extend(f.release(key, verdicts[n % 2]).standing.map(|(_, change)| change));
            }
        }
        changes
    };
    // One part of each frame was computed: none has failed.
    for _ in 0..8 {
        submit_parts(&mut f);
        assert_eq!(end_frame(&mut f, 0, [Verdict::Computed, Verdict::Guilty]), []);
    }
    for n in 0..9 {
        submit_parts(&mut f);
        let changes = end_frame(&mut f, 0, [Verdict::Guilty, Verdict::Unlucky]);
        assert_eq!(changes, [StandingChange::Quarantined].split_at(usize::from(n == 8)).0, "{n}");
    }
    let good = f.attach(lane(2));
    submit_parts(&mut f);
    submit_parts(&mut f);
    submit(&mut f, us(0), good, 9).unwrap();
    assert_eq!(values(take(&mut f, us(0))), [0, 1, 2, 3]);
    assert_eq!(values(take(&mut f, us(0))), [4, 5]);
    assert_eq!(values(take(&mut f, us(0))), [9]);
    assert_eq!(f.decide(us(0)), Decision::WaitUntil(us(1_000_000)), "the next frame is another entry");
    assert_eq!(values(take(&mut f, us(1_000_000))), [0, 1, 2, 3]);
}
