use proptest::prelude::*;

use super::super::super::queue::tests::ms;
use super::*;

fn core(capacity: usize, policy: QueuePolicy) -> IntakeCore<()> {
    IntakeCore::new(IntakeConfig::new(capacity, policy))
}

fn push(core: &mut IntakeCore<()>, at: u64) -> Arrival<()> {
    core.push(ms(at), Given::default(), (), |(), _| ())
}

fn look(core: &mut IntakeCore<()>) -> Glance<()> {
    let mut glance = Glance::default();
    core.glance(&mut glance);
    glance
}

fn popped<A>(core: &mut IntakeCore<()>, what: impl Fn(Queued<()>) -> A) -> Vec<A> {
    std::iter::from_fn(|| core.pop()).map(what).collect()
}

#[test]
fn a_paused_live_feed_takes_nothing_and_is_not_waited_for() {
    let mut core = core(16, QueuePolicy::DropOldest);
    for n in 0..9 {
        assert!(matches!(push(&mut core, n * 40), Arrival::Taken(None)));
    }
    let glance = look(&mut core);
    assert_eq!((glance.running, glance.next_due), (true, Some(ms(360))));
    core.set_paused(true);
    let glance = look(&mut core);
    assert_eq!((glance.running, glance.next_due), (false, None));
    for at in [360, 400] {
        assert!(matches!(push(&mut core, at), Arrival::Discarded(_, DropReason::FeedStopped)));
    }
    assert_eq!(look(&mut core).queued, 9, "what was inside goes on");
    core.set_paused(false);
    push(&mut core, 50_000);
    push(&mut core, 50_040);
    assert_eq!(look(&mut core).next_due, Some(ms(50_080)), "the pause is no interval");
    let cuts = popped(&mut core, |q| q.cuts);
    assert_eq!(cuts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], "the stages are told of the gap");
    let counts = core.counts();
    assert_eq!((counts.received, counts.dropped.get(&DropReason::FeedStopped)), (13, Some(&2)));
    assert!(counts.is_balanced());
}

#[test]
fn a_feed_lets_in_as_many_frames_a_second_as_it_wants() {
    /// So many frames at 25 fps, the session changing at `cut`: the numbers of those that were let in.
    fn check(frames: u64, per_second: f64, cut: u64, expected: &[u64]) {
        let period = Some(Rate::period_of(per_second));
        let config = IntakeConfig { period, ..IntakeConfig::new(64, QueuePolicy::Block) };
        let mut core = IntakeCore::new(config);
        for n in 0..frames {
            let session = u32::from(n >= cut);
            let given = Given { session, pts: n as i64 * 40_000_000, ..Given::default() };
            core.push(ms(n * 7), given, (), |(), _| ());
        }
        let counts = core.counts();
        assert_eq!(popped(&mut core, |q| q.seq), expected, "{per_second}/s");
        let limited = counts.dropped.get(&DropReason::RateLimited).copied().unwrap_or(0);
        assert_eq!((counts.received, limited), (frames, frames - expected.len() as u64));
        assert!(counts.is_balanced());
    }
    check(10, 100.0, 99, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check(10, 12.5, 99, &[0, 2, 4, 6, 8]);
    check(11, 5.0, 99, &[0, 5, 10]);
    // Another session starts over.
    check(11, 5.0, 3, &[0, 3, 8]);
}

#[test]
fn a_feed_may_do_without_suspect_frames() {
    fn check(drop_suspect: bool, expected: &[u64]) {
        let config = IntakeConfig { drop_suspect, ..IntakeConfig::new(64, QueuePolicy::Block) };
        let mut core = IntakeCore::new(config);
        for n in 0..6 {
            core.push(ms(n), Given { suspect: (2..4).contains(&n), ..Given::default() }, (), |(), _| ());
        }
        assert_eq!(popped(&mut core, |q| (q.seq, q.cuts)), expected.iter().map(|n| (*n, 0)).collect::<Vec<_>>());
        let dropped = core.counts().dropped;
        assert_eq!(dropped.get(&DropReason::DecodeSuspect).copied().unwrap_or(0), 6 - expected.len() as u64);
    }
    check(false, &[0, 1, 2, 3, 4, 5]);
    check(true, &[0, 1, 4, 5]);
}

#[test]
fn a_lost_source_is_not_waited_for() {
    let mut core = core(16, QueuePolicy::DropOldest);
    for n in 0..9 {
        push(&mut core, n * 40);
    }
    core.disconnected();
    let glance = look(&mut core);
    assert_eq!((glance.running, glance.next_due), (false, None));
    assert!(matches!(
        core.push(ms(9_000), Given { session: 1, ..Given::default() }, (), |(), _| ()),
        Arrival::Taken(None)
    ));
    let glance = look(&mut core);
    assert_eq!((glance.running, glance.next_due), (true, Some(ms(9_040))));
    assert_eq!(popped(&mut core, |q| q.session), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_pause_without_frames_cuts_nothing() {
    let mut core = core(8, QueuePolicy::DropOldest);
    core.set_paused(true);
    core.set_paused(false);
    push(&mut core, 0);
    assert_eq!(popped(&mut core, |q| q.cuts), [0]);
}

#[test]
fn a_frame_that_waits_for_room_is_received_once() {
    let mut core = core(1, QueuePolicy::Block);
    push(&mut core, 0);
    let Arrival::Full(waiting) = push(&mut core, 1) else { panic!("there is no room") };
    let Arrival::Full(waiting) = core.retry(ms(2), waiting) else { panic!("there still is none") };
    assert_eq!(core.pop().map(|q| q.seq), Some(0));
    assert!(matches!(core.retry(ms(3), waiting), Arrival::Taken(None)));
    let Arrival::Full(waiting) = push(&mut core, 4) else { panic!("there is no room") };
    assert_eq!(core.close(ms(5), DropReason::Shutdown).len(), 1);
    assert!(matches!(core.retry(ms(5), waiting), Arrival::Closed(Queued { seq: 2, .. }, DropReason::Shutdown)));
    assert!(matches!(push(&mut core, 6), Arrival::Refused(())));
    let counts = core.counts();
    assert_eq!((counts.received, counts.inside), (3, 1), "what was taken out of the queue is with the executor");
    assert!(counts.is_balanced());
}

#[test]
fn a_frame_that_waited_for_room_is_kept_out_by_a_restart() {
    let mut core = core(1, QueuePolicy::Block);
    push(&mut core, 0);
    let Arrival::Full(waits) = push(&mut core, 40) else { panic!("there is no room") };
    assert_eq!(core.set_restarting(ms(50), true).len(), 1);
    assert!(matches!(core.retry(ms(50), waits), Arrival::Discarded(_, DropReason::FeedRestarted)));
    core.set_restarting(ms(60), false);
    push(&mut core, 80);
    assert_eq!(popped(&mut core, |q| (q.seq, q.cuts)), [(2, 1)], "the stages are told of the gap");
    assert_eq!((core.counts().inside, core.counts().dropped_total()), (1, 2));
}

proptest! {
    /// Whatever comes when: the account balances, and at the end nothing is left inside.
    #[test]
    fn every_frame_ends_once(
        policy in prop_oneof![
            Just(QueuePolicy::DropOldest),
            Just(QueuePolicy::DropNewest),
            Just(QueuePolicy::Block)
        ],
        events in prop::collection::vec((0u8..12, 0u64..50), 0..200),
    ) {
        let mut core = core(3, policy);
        let (mut now, mut waiting) = (0, None);
        let key = crate::batch::EntryKey::default();
        for (event, ms_later) in events {
            now += ms_later;
            match event {
                0..4 if waiting.is_none() => {
                    if let Arrival::Full(queued) = push(&mut core, now) {
                        waiting = Some(queued);
                    }
                }
                4 => if let Some(queued) = waiting.take()
                    && let Arrival::Full(queued) = core.retry(ms(now), queued)
                {
                    waiting = Some(queued);
                }
                5 => { let _ = core.pop().map(|q| core.emit(q.seq)); }
                6 => core.add_claims(1),
                7 => { let _ = core.bind(ms(now), key, &mut 0); }
                8 => core.void_claims(ms(now), 1, DropReason::Unavailable),
                9 => core.set_paused(ms_later % 2 == 0),
                10 => { core.set_restarting(ms(now), ms_later % 2 == 0); }
                _ => for bound in look(&mut core).bound {
                    prop_assert!(core.drop_frame(ms(now), bound.queued.seq, DropReason::Expired, None));
                }
            }
            prop_assert!(core.counts().is_balanced());
            prop_assert!(core.queue.len() <= 3);
        }
        core.close(ms(now), DropReason::Shutdown);
        core.abandon(ms(now), DropReason::Shutdown);
        prop_assert_eq!(core.counts().inside, 0);
        prop_assert!(core.counts().is_balanced());
    }
}
