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
    let closed = core.close_batch(now, instance, verdict != Verdict::Computed, parts, |is| wanted.push(is));
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
    assert_eq!(core.dispatched_at(key), Some(ms(3)), "of the latest part");
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
    assert_eq!(core.abandon(ms(1), key, false).payloads, [4, 5]);
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
fn a_feed_whose_entries_fail_takes_the_point_down_only_if_nobody_else_is_there() {
    /// Entries of the first of `lanes` fail alone, `running` of the lanes having a source that runs.
    fn check(lanes: usize, running: usize, down: bool) {
        let mut core = core(1);
        let keys: Vec<_> = (0..lanes).map(|_| core.attach(LaneRole::Live, 1)).collect();
        keys[running..].iter().for_each(|lane| core.source_ended(*lane));
        core.attach(LaneRole::Direct, 1);
        for n in 0..7 {
            submit(&mut core, ms(n), keys[0], &[1]).unwrap();
            let batch = next(&mut core, ms(n), 0).unwrap();
            if close(&mut core, ms(n), 0, &batch, Verdict::Guilty).1.breaker.change == BreakerChange::Down {
                break;
            }
        }
        assert_eq!(core.is_down(), down, "{lanes} lanes, {running} running");
    }
    check(1, 1, true);
    check(2, 2, false);
    check(2, 1, true);
}

#[test]
fn regions_that_wait_their_turn_are_not_overdue() {
    let mut core = core(1);
    let (crowd, lone) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 1));
    let key = submit(&mut core, ms(0), crowd, &[0; 6]).unwrap();
    submit(&mut core, ms(0), lone, &[7, 8]).unwrap();
    let batch = next(&mut core, ms(1), 0).unwrap();
    assert_eq!(values(&batch), [0, 7, 0, 8]);
    assert_eq!(core.dispatched_at(key), Some(ms(1)));
    close(&mut core, ms(2), 0, &batch, Verdict::Computed);
    assert_eq!(core.dispatched_at(key), None, "nobody owes an answer");
    next(&mut core, ms(9), 0).unwrap();
    assert_eq!(core.dispatched_at(key), Some(ms(9)));
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
    assert!(core.abandon(ms(4999), other, true).wedged.is_empty(), "it has not lasted that long");
    assert_eq!(core.abandon(ms(5000), key, true).wedged, [1]);
    assert!(core.abandon(ms(5000), key, true).wedged.is_empty());
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
fn while_nobody_can_compute_a_probe_ends_with_the_next_rebuild_that_fails() {
    let mut core = core(1);
    let lane = core.attach(LaneRole::File, 1);
    core.instance_lost();
    submit(&mut core, ms(0), lane, &[1]).unwrap();
    for _ in 0..4 {
        assert!(core.rebuild_failed(ms(0)).given_up.is_none(), "it may come back");
    }
    let event = core.rebuild_failed(ms(0));
    assert_eq!((event.change, event.given_up.map(|g| g.parts[0].payload)), (BreakerChange::Down, Some(1)));
    submit(&mut core, ms(1000), lane, &[2]).unwrap();
    let event = core.rebuild_failed(ms(1000));
    assert_eq!((event.change, event.given_up.map(|g| g.parts[0].payload)), (BreakerChange::None, Some(2)));
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
        let share = unhonoured_share(weight, total, max_batch, slots);
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
    let (light, heavy) = (core.attach(LaneRole::Live, 1), core.attach(LaneRole::Live, 5));
    assert_eq!((core.unhonoured_share(light), core.unhonoured_share(heavy)), (None, Some(4)));
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
