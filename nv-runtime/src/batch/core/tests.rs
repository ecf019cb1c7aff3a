use super::*;

const RESPONSE: Duration = Duration::from_secs(5);

fn ms(ms: u64) -> MonoTime {
    MonoTime::from_nanos(ms * 1_000_000)
}

fn core(instances: usize) -> PointCore<u32> {
    let mut core = PointCore::new(PointLimits {
        max_batch: 4,
        instances,
        max_latency: Duration::from_millis(2),
        response_timeout: RESPONSE,
        max_age: Duration::from_secs(1),
        live_slots: 2,
        max_pending: 64,
    });
    (0..instances).for_each(|_| core.instance_started());
    core
}

fn submit(core: &mut PointCore<u32>, now: MonoTime, lane: LaneKey, parts: &[u32]) -> Result<EntryKey, Refusal> {
    core.submit(now, lane, (now, 0), None, &mut parts.iter().copied())
}

/// What an instance gets to do: the batch, or what else it is told.
fn next(core: &mut PointCore<u32>, now: MonoTime, instance: usize) -> Result<Vec<Taken<u32>>, InstanceStep> {
    let (mut batch, mut expired) = (Vec::new(), Vec::new());
    match core.next_batch(now, instance, &mut batch, &mut expired, |_, _| None) {
        InstanceStep::Compute { .. } => Ok(batch),
        step => Err(step),
    }
}

/// Ends a batch in which every part came to `verdict`. Returns which results are wanted.
fn close(
    core: &mut PointCore<u32>,
    now: MonoTime,
    instance: usize,
    batch: &[Taken<u32>],
    verdict: Verdict,
) -> (Vec<bool>, Closed<u32>) {
    let mut wanted = Vec::new();
    let parts = batch.iter().map(|t| (t.key, verdict));
    let closed = core.close_batch(now, instance, parts, |is| wanted.push(is));
    (wanted, closed)
}

fn values(batch: &[Taken<u32>]) -> Vec<u32> {
    batch.iter().map(|t| t.payload).collect()
}

#[test]
fn regions_of_a_frame_share_a_slot_until_the_last_is_done() {
    let mut core = core(2);
    let lane = core.attach(LaneRole::Live, 1);
    let key = submit(&mut core, ms(0), lane, &[0, 1, 2, 3, 4, 5]).unwrap();
    assert_eq!((core.pending(), core.used(lane)), (6, 1));
    let first = next(&mut core, ms(0), 0).unwrap();
    let second = next(&mut core, ms(3), 1).unwrap();
    assert_eq!((values(&first), values(&second)), (vec![0, 1, 2, 3], vec![4, 5]));
    assert_eq!(second.iter().map(|t| (t.key, t.part)).collect::<Vec<_>>(), [(key, 4), (key, 5)]);
    assert_eq!(core.state_of(ms(3), key), EntryState::Dispatched(ms(3)), "of the latest part");
    assert_eq!(close(&mut core, ms(9), 1, &second, Verdict::Computed).0, [true, true]);
    assert_eq!((core.used(lane), core.in_dispatch()), (1, 4), "four are still being computed");
    assert_eq!(close(&mut core, ms(9), 0, &first, Verdict::Unlucky).0, [true; 4]);
    assert_eq!((core.used(lane), core.in_dispatch(), core.served(lane)), (0, 0, 2));
}

#[test]
fn an_abandoned_frame_takes_all_of_its_regions_along() {
    let mut core = core(1);
    let lane = core.attach(LaneRole::Live, 1);
    let key = submit(&mut core, ms(0), lane, &[0, 1, 2, 3, 4, 5]).unwrap();
    let other = submit(&mut core, ms(0), lane, &[10]).unwrap();
    let batch = next(&mut core, ms(0), 0).unwrap();
    let mut dropped = Vec::new();
    assert!(core.abandon(key, |value| dropped.push(value)));
    assert_eq!(dropped, [4, 5]);
    assert!(!core.abandon(key, |_| ()), "it is gone");
    assert_eq!((core.pending(), core.in_dispatch(), core.used(lane)), (1, 0, 1));
    assert_eq!(close(&mut core, ms(2), 0, &batch, Verdict::Computed).0, [false; 4]);
    let batch = next(&mut core, ms(2), 0).unwrap();
    assert_eq!((batch[0].key, core.used(lane)), (other, 1));
}

#[test]
fn what_is_refused_ends_no_wait() {
    let mut core = core(1);
    let (probe, other) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 1));
    let third = core.attach(LaneRole::Live, 1);
    assert_eq!(core.claim(ms(0), other, 1, Some(ms(2001))), (1, None));
    assert_eq!(next(&mut core, ms(0), 0).unwrap_err(), InstanceStep::Again, "there was no frame for it");
    for lane in [probe, third, probe, third, probe] {
        submit(&mut core, ms(0), lane, &[1]).unwrap();
        let batch = next(&mut core, ms(0), 0).unwrap();
        close(&mut core, ms(0), 0, &batch, Verdict::Guilty);
    }
    submit(&mut core, ms(2000), probe, &[1]).unwrap();
    assert_eq!(core.decide(ms(2000)), Decision::WaitUntil(ms(2002)), "the other lane's frame is due");
    assert_eq!(core.claim(ms(2000), other, 1, Some(ms(5000))), (0, Some(Refusal::Down)));
    assert_eq!(core.decide(ms(2000)), Decision::WaitUntil(ms(2002)), "nobody is woken for a refusal");
}

#[test]
fn a_feed_whose_entries_fail_takes_the_point_down_only_if_nobody_else_is_busy() {
    /// Entries of one lane fail alone; another lane was computed for at `served`, or has an entry waiting.
    fn check(served: Option<u64>, waits: bool, down: bool) {
        const START: u64 = 20_000;
        let mut core = core(1);
        let (bad, good) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 1));
        if let Some(at) = served {
            submit(&mut core, ms(at), good, &[1]).unwrap();
            let batch = next(&mut core, ms(at), 0).unwrap();
            close(&mut core, ms(at), 0, &batch, Verdict::Computed);
        }
        for n in START..START + 7 {
            // One that the feed gives up meanwhile counts as well.
            let key = submit(&mut core, ms(n), bad, &[1]).unwrap();
            let batch = next(&mut core, ms(n), 0).unwrap();
            core.abandon(key, |_| ());
            if waits && n == START {
                core.claim(ms(n), good, 1, None);
            }
            if close(&mut core, ms(n), 0, &batch, Verdict::Guilty).1.breaker.change == BreakerChange::Down {
                break;
            }
        }
        assert_eq!(core.is_down(), down, "served at {served:?}, waits: {waits}");
    }
    check(None, false, true);
    check(Some(5_000), false, true);
    check(Some(15_000), false, false);
}

#[test]
fn a_point_that_one_feed_took_down_is_tried_by_the_next_that_comes() {
    let mut core = core(1);
    let bad = core.attach(LaneRole::Live, 1);
    let run = |core: &mut PointCore<u32>, now: MonoTime, lane: LaneKey, verdict: Verdict| {
        submit(core, now, lane, &[1]).unwrap();
        let batch = next(core, now, 0).unwrap();
        close(core, now, 0, &batch, verdict).1.breaker.change
    };
    for n in 0..5 {
        run(&mut core, ms(n), bad, Verdict::Guilty);
    }
    assert!(core.is_down());
    let good = core.attach(LaneRole::Live, 1);
    assert_eq!(submit(&mut core, ms(10), bad, &[1]), Err(Refusal::Down));
    assert_eq!(run(&mut core, ms(10), good, Verdict::Computed), BreakerChange::Up);
    for n in 20..26 {
        assert_eq!(run(&mut core, ms(n), bad, Verdict::Guilty), BreakerChange::None, "there are others now");
    }
    // Where that fails as well, it is the processor.
    for n in 0..10 {
        run(&mut core, ms(100_000 + n), if n < 5 { bad } else { good }, Verdict::Guilty);
        if core.is_down() {
            break;
        }
    }
    assert_eq!(run(&mut core, ms(100_010), good, Verdict::Guilty), BreakerChange::None);
    assert_eq!(submit(&mut core, ms(100_011), good, &[1]), Err(Refusal::Down));
}

#[test]
fn a_fault_of_the_processor_is_not_held_against_the_feeds() {
    let mut core = core(1);
    let lanes = [core.attach(LaneRole::File, 1), core.attach(LaneRole::File, 1)];
    let run = |core: &mut PointCore<u32>, now: MonoTime, verdict: Verdict| {
        // While it is down one of them at most is let in.
        let taken = lanes.iter().filter(|lane| submit(core, now, **lane, &[1]).is_ok()).count();
        assert_eq!(taken, if core.is_down() { 1 } else { 2 });
        let batch = next(core, now, 0).unwrap();
        close(core, now, 0, &batch, verdict).1
    };
    // Most of what was seen of both has failed, but never beside something good.
    for n in 0..12 {
        for k in 0..4 {
            assert!(run(&mut core, ms(n * 5 + k), Verdict::Guilty).standings.is_empty());
        }
        assert!(run(&mut core, ms(n * 5 + 4), Verdict::Computed).standings.is_empty());
    }
    // A processor that reports for each entry that it can't is as broken as one that panics.
    for n in 0..5 {
        run(&mut core, ms(100 + n), Verdict::Guilty);
    }
    assert!(core.is_down());
    let change = run(&mut core, ms(1104), Verdict::Guilty).breaker.change;
    assert_eq!((change, core.is_down()), (BreakerChange::None, true), "a probe that was rejected shows nothing");
    assert_eq!(run(&mut core, ms(3104), Verdict::Computed).breaker.change, BreakerChange::Up);
}

#[test]
fn what_waits_for_an_instance_that_hangs_grows_too_old() {
    let mut core = core(1);
    let (live, file) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::File, 1));
    submit(&mut core, ms(0), live, &[1]).unwrap();
    next(&mut core, ms(0), 0).unwrap();
    let waits = submit(&mut core, ms(10), live, &[2]).unwrap();
    let patient = submit(&mut core, ms(10), file, &[3]).unwrap();
    assert_eq!(core.state_of(ms(1010), waits), EntryState::Waiting);
    assert_eq!(core.state_of(ms(1011), waits), EntryState::TooOld);
    assert_eq!(core.state_of(ms(99_999), patient), EntryState::Waiting, "files wait");
    assert!(core.abandon(waits, |_| ()));
    assert_eq!(core.state_of(ms(1012), waits), EntryState::Gone);
}

#[test]
fn a_processor_that_is_built_anew_is_in_no_call() {
    let mut core = core(1);
    let lane = core.attach(LaneRole::File, 1);
    submit(&mut core, ms(0), lane, &[1]).unwrap();
    let batch = next(&mut core, ms(0), 0).unwrap();
    core.instance_lost(0);
    assert!(core.find_wedged(ms(9000)).is_empty(), "it takes long to load");
    core.instance_rebuilt();
    core.calls_again(ms(9000), 0);
    assert!(core.find_wedged(ms(13_999)).is_empty());
    assert_eq!(core.find_wedged(ms(14_000)), [0]);
    assert!(close(&mut core, ms(14_001), 0, &batch, Verdict::Computed).1.was_wedged);
}

#[test]
fn regions_that_wait_their_turn_are_not_overdue() {
    let mut core = core(1);
    let (crowd, lone) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 1));
    let key = submit(&mut core, ms(0), crowd, &[0; 6]).unwrap();
    submit(&mut core, ms(0), lone, &[7, 8]).unwrap();
    let batch = next(&mut core, ms(1), 0).unwrap();
    assert_eq!(values(&batch), [0, 7, 0, 8]);
    assert_eq!(core.state_of(ms(1), key), EntryState::Dispatched(ms(1)));
    close(&mut core, ms(2), 0, &batch, Verdict::Computed);
    assert_eq!(core.state_of(ms(2), key), EntryState::Waiting, "nobody owes an answer");
    assert_eq!(core.state_of(ms(6001), key), EntryState::Waiting);
    assert_eq!(core.state_of(ms(6002), key), EntryState::TooOld, "nobody ever took the rest");
    next(&mut core, ms(9), 0).unwrap();
    assert_eq!(core.state_of(ms(9), key), EntryState::Dispatched(ms(9)));
}

#[test]
fn many_regions_of_one_feed_starve_no_other() {
    let mut core = core(1);
    let (crowd, lone) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 1));
    submit(&mut core, ms(0), crowd, &[0; 40]).unwrap();
    submit(&mut core, ms(0), lone, &[7, 8]).unwrap();
    assert_eq!(values(&next(&mut core, ms(0), 0).unwrap()), [0, 7, 0, 8]);
}

#[test]
fn regions_that_are_too_old_free_their_slot_with_the_last_and_those_of_a_frame_that_was_begun_are_computed() {
    let mut core = core(1);
    let lane = core.attach(LaneRole::Live, 1);
    let begun = submit(&mut core, ms(0), lane, &[0, 1, 2, 3, 4, 5]).unwrap();
    let old = submit(&mut core, ms(0), lane, &[6, 7]).unwrap();
    let first = next(&mut core, ms(0), 0).unwrap();
    let (mut rest, mut expired) = (Vec::new(), Vec::new());
    let step = core.next_batch(ms(1001), 0, &mut rest, &mut expired, |_, _| None);
    assert!(matches!(step, InstanceStep::Compute { .. }));
    assert_eq!(rest.iter().map(|t| (t.key, t.part)).collect::<Vec<_>>(), [(begun, 4), (begun, 5)]);
    assert_eq!(expired.iter().map(|p| (p.key, p.part)).collect::<Vec<_>>(), [(old, 0), (old, 1)]);
    assert_eq!(core.used(lane), 1);
    close(&mut core, ms(1002), 0, &first, Verdict::Computed);
    close(&mut core, ms(1002), 0, &rest, Verdict::Computed);
    assert_eq!(core.used(lane), 0);
}

#[test]
fn file_feeds_share_two_batches_for_each_instance() {
    fn check(instances: usize, preferred: Option<usize>, files: usize, expected: usize) {
        let mut core = core(instances);
        core.limit_batch(None, preferred);
        let live = core.attach(LaneRole::Live, 1);
        let lanes: Vec<_> = (0..files).map(|_| core.attach(LaneRole::File, 1)).collect();
        assert!(lanes.iter().all(|lane| core.slots(*lane) == expected), "{instances} {preferred:?} {files}");
        assert_eq!(core.slots(live), 2);
        if let Some(lane) = lanes.first() {
            core.detach(*lane, |_| ());
            assert_eq!(core.slots(*lane), 0);
        }
    }
    check(1, None, 1, 8);
    check(2, None, 1, 16);
    check(1, Some(1), 1, 2);
    check(1, None, 3, 3);
    check(1, None, 64, 1);
}

#[test]
fn an_instance_is_wedged_once_in_a_call() {
    let mut core = core(2);
    let lane = core.attach(LaneRole::File, 1);
    let key = submit(&mut core, ms(0), lane, &[0]).unwrap();
    let batch = next(&mut core, ms(0), 1).unwrap();
    let other = submit(&mut core, ms(1), lane, &[1]).unwrap();
    core.abandon(other, |_| ());
    assert!(core.find_wedged(ms(4999)).is_empty(), "it has not lasted that long");
    assert_eq!(core.calls(ms(5000)).collect::<Vec<_>>(), [(None, false), (Some(ms(0)), true)], "asked or not");
    // Whether anybody still waits for what it computes or not.
    core.abandon(key, |_| ());
    assert_eq!(core.find_wedged(ms(5000)), [1]);
    assert!(core.find_wedged(ms(5000)).is_empty());
    let (wanted, closed) = close(&mut core, ms(6000), 1, &batch, Verdict::Computed);
    assert_eq!((wanted, closed.was_wedged), (vec![false], true));
    submit(&mut core, ms(6000), lane, &[2]).unwrap();
    let batch = next(&mut core, ms(6000), 1).unwrap();
    assert!(!close(&mut core, ms(6001), 1, &batch, Verdict::Computed).1.was_wedged);
}

#[test]
fn a_point_that_goes_down_gives_up_what_waits_and_takes_probes_alone() {
    let mut core = core(1);
    let lane = core.attach(LaneRole::File, 1);
    for n in 0..5 {
        submit(&mut core, ms(n), lane, &[0]).unwrap();
        let batch = next(&mut core, ms(n), 0).unwrap();
        let claims = core.claim(ms(n), lane, if n == 4 { 3 } else { 0 }, None);
        assert_eq!(claims.1, None);
        let (_, closed) = close(&mut core, ms(n), 0, &batch, Verdict::Guilty);
        let expected = if n == 4 { BreakerChange::Down } else { BreakerChange::None };
        assert_eq!(closed.breaker.change, expected);
        assert_eq!(closed.breaker.given_up.map(|g| g.claims), (n == 4).then(|| vec![(lane, 3)]));
    }
    assert_eq!(submit(&mut core, ms(500), lane, &[0]), Err(Refusal::Down));
    submit(&mut core, ms(1004), lane, &[0]).unwrap();
    assert_eq!(core.claim(ms(1004), lane, 1, None), (0, Some(Refusal::Down)), "one probe at a time");
    let probe = next(&mut core, ms(1004), 0).unwrap();
    let (_, closed) = close(&mut core, ms(1005), 0, &probe, Verdict::Computed);
    assert_eq!(closed.breaker.change, BreakerChange::Up);
    assert_eq!(core.claim(ms(1005), lane, 2, None), (2, None));
}

#[test]
fn there_is_no_probe_that_nobody_can_compute() {
    let mut core = core(1);
    let lane = core.attach(LaneRole::File, 1);
    core.instance_lost(0);
    submit(&mut core, ms(0), lane, &[1]).unwrap();
    for _ in 0..4 {
        assert!(core.rebuild_failed(ms(0)).given_up.is_none(), "it may come back");
    }
    let event = core.rebuild_failed(ms(0));
    assert_eq!((event.change, event.given_up.map(|g| g.parts[0].payload)), (BreakerChange::Down, Some(1)));
    assert_eq!(submit(&mut core, ms(1000), lane, &[2]), Err(Refusal::Down), "nobody could compute it");
    core.instance_rebuilt();
    submit(&mut core, ms(1000), lane, &[2]).unwrap();
    core.instance_lost(0);
    let event = core.rebuild_failed(ms(1000));
    assert_eq!((event.change, event.given_up.map(|g| g.parts[0].payload)), (BreakerChange::None, Some(2)));
    core.instance_rebuilt();
    assert_eq!(submit(&mut core, ms(2999), lane, &[3]), Err(Refusal::Down), "the next probe is 2 s after the first");
    assert!(submit(&mut core, ms(3000), lane, &[3]).is_ok());
}

#[test]
fn a_point_that_drains_waits_for_nobody_and_then_is_done() {
    let mut core = core(1);
    let (a, b) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 1));
    core.claim(ms(0), b, 1, Some(ms(1)));
    assert_eq!(next(&mut core, ms(0), 0).unwrap_err(), InstanceStep::Again, "there was no frame for it");
    submit(&mut core, ms(0), a, &[1]).unwrap();
    assert_eq!(next(&mut core, ms(0), 0).unwrap_err(), InstanceStep::WaitUntil(ms(2)));
    core.drain();
    assert_eq!(submit(&mut core, ms(0), a, &[1]), Err(Refusal::NoLane));
    let batch = next(&mut core, ms(0), 0).unwrap();
    close(&mut core, ms(1), 0, &batch, Verdict::Computed);
    assert_eq!(next(&mut core, ms(1), 0).unwrap_err(), InstanceStep::Done);
}

#[test]
fn a_batch_is_in_the_making_while_an_instance_is_free_and_an_entry_waits() {
    fn check(free_at: u64, submitted: u64, dispatched: u64, expected: u64) {
        let mut core = core(1);
        let lane = core.attach(LaneRole::Live, 1);
        let (mut batch, mut expired) = (Vec::new(), Vec::new());
        let mut ask = |core: &mut PointCore<u32>, at| core.next_batch(ms(at), 0, &mut batch, &mut expired, |_, _| None);
        if free_at < submitted {
            assert_eq!(ask(&mut core, free_at), InstanceStep::Wait);
        }
        submit(&mut core, ms(submitted), lane, &[1]).unwrap();
        let formation = Duration::from_millis(expected);
        assert_eq!(ask(&mut core, dispatched), InstanceStep::Compute { formation });
    }
    check(0, 10, 12, 2);
    check(10, 0, 10, 0);
}

#[test]
fn a_share_that_the_slots_do_not_honour_is_told() {
    fn check(weight: u32, total: u64, max_batch: usize, slots: usize, expected: Option<usize>) {
        let share = shares::unhonoured_share(weight, total, max_batch, slots);
        assert_eq!(share, expected, "{weight} of {total}, batch {max_batch}, {slots} slots");
    }
    check(3, 4, 16, 2, Some(12));
    check(3, 4, 16, 12, None);
    check(3, 4, 16, 11, Some(12));
    check(3, 30, 16, 2, None);
    check(2, 3, 1, 2, None);
    // Alone it has whatever there is; and nobody asked for more than the others.
    check(3, 3, 16, 2, None);
    check(1, 2, 16, 2, None);
    let mut core = core(1);
    let mut told = |role, weight| {
        let lane = core.attach(role, weight);
        let found = core.newly_unhonoured();
        (lane, found.into_iter().map(|u| (u.lane, u.share)).collect::<Vec<_>>())
    };
    assert_eq!(told(LaneRole::Direct, 1).1, []);
    let (heavy, found) = told(LaneRole::Live, 5);
    assert_eq!(found, [], "alone, beside the direct API");
    assert_eq!(told(LaneRole::Live, 1).1, [(heavy, 4)], "by another that comes");
    assert_eq!(told(LaneRole::Live, 1).1, [], "told once");
    assert_eq!(told(LaneRole::Live, 10).1.len(), 1);
}

#[test]
fn where_nobody_knows_who_spoilt_a_batch_it_is_found_out_by_batches_of_one() {
    let mut core = core(1);
    let lanes: Vec<_> = (0..4).map(|_| core.attach(LaneRole::File, 1)).collect();
    let submit_all = |core: &mut PointCore<u32>| {
        for (value, lane) in lanes.iter().enumerate() {
            submit(core, ms(0), *lane, &[value as u32]).unwrap();
        }
    };
    // However often: it may be one feed's frames.
    for _ in 0..6 {
        submit_all(&mut core);
        let batch = next(&mut core, ms(0), 0).unwrap();
        assert_eq!(batch.len(), 4);
        let (_, closed) = close(&mut core, ms(0), 0, &batch, Verdict::Unlucky);
        assert_eq!(closed.breaker.change, BreakerChange::None);
        submit_all(&mut core);
        for _ in 0..4 {
            let batch = next(&mut core, ms(0), 0).unwrap();
            assert_eq!(batch.len(), 1);
            let verdict = if batch[0].payload == 2 { Verdict::Guilty } else { Verdict::Computed };
            close(&mut core, ms(0), 0, &batch, verdict);
        }
    }
    assert!(!core.is_down());
    // Where it is the processor, each of them fails.
    submit_all(&mut core);
    let batch = next(&mut core, ms(0), 0).unwrap();
    close(&mut core, ms(0), 0, &batch, Verdict::Unlucky);
    for n in 0..5 {
        submit(&mut core, ms(0), lanes[n % 2], &[0]).unwrap();
        let batch = next(&mut core, ms(0), 0).unwrap();
        close(&mut core, ms(0), 0, &batch, Verdict::Guilty);
    }
    assert!(core.is_down());
}
