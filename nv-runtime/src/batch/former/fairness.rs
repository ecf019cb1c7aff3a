//! The bound that the former publishes, held against random worlds.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A lane of a random world.
#[derive(Clone, Debug)]
struct Feed {
    weight: u32,
    key: u64,
    /// Parts of each of its frames.
    parts: usize,
    /// Whether it always has more waiting than a batch takes; else it has something now and then.
    always: bool,
}

fn feed(keys: u64) -> impl Strategy<Value = Feed> {
    let weight = prop_oneof![4 => 1u32..5, 1 => 1u32..1000];
    let parts = prop_oneof![3 => Just(1usize), 1 => 2usize..9, 1 => Just(64)];
    (weight, 0..keys, parts, prop::bool::weighted(0.7)).prop_map(|(weight, key, parts, always)| Feed {
        weight,
        key,
        parts,
        always,
    })
}

/// How far a lane was served less, and how far more, than its share, over the worst of all intervals.
#[derive(Clone, Copy, Debug, Default)]
struct Deviation {
    less: f64,
    more: f64,
}

/// Runs `batches` batches, some of them in the hands of several instances at once. Which lanes get something now and then is
/// the bits of `comes`.
fn run(feeds: &[Feed], max_batch: usize, batches: usize, comes: &[u64]) -> Vec<Deviation> {
    let hour = Duration::from_secs(3600);
    let mut former: Former<usize> =
        Former::new(FormerConfig { max_batch, max_latency: Duration::ZERO, max_age: hour, max_pending: 1 << 20 });
    let spec = |f: &Feed| LaneSpec { live: false, slots: 1 << 16, weight: f.weight };
    let lanes: Vec<LaneKey> = feeds.iter().map(|f| former.attach(spec(f))).collect();
    let total: f64 = feeds.iter().map(|f| f64::from(f.weight)).sum();
    let now = MonoTime::ZERO;
    // By lane: parts that wait, parts served beyond the share, and the least and the most of that so far.
    let mut waiting = vec![0usize; feeds.len()];
    let mut beyond = vec![0.0f64; feeds.len()];
    let mut extremes = vec![(0.0f64, 0.0f64); feeds.len()];
    let mut deviations = vec![Deviation::default(); feeds.len()];
    let mut computing = Vec::new();
    for batch in 0..batches {
        let bits = comes[batch % comes.len()];
        for (i, feed) in feeds.iter().enumerate() {
            let enough = if feed.always { max_batch + 1 } else { (bits >> i & 1) as usize };
            while waiting[i] < enough {
                let mut parts = std::iter::repeat_n(i, feed.parts);
                former.submit(now, lanes[i], (now, feed.key), &mut parts).unwrap();
                waiting[i] += feed.parts;
            }
        }
        let mut taken = Vec::new();
        former.take(now, &mut taken, |_, _| None, |_, _, _| panic!("nothing is too old here"));
        let size = taken.len() as f64;
        for part in &taken {
            waiting[part.payload] -= 1;
            beyond[part.payload] += 1.0;
            computing.push(part.key);
        }
        // Results come back in another order than they left in.
        if bits >> 63 == 1 {
            computing.drain(..).rev().for_each(|key| assert!(former.release(key, Verdict::Computed).wanted));
        }
        for (i, feed) in feeds.iter().enumerate() {
            beyond[i] -= size * f64::from(feed.weight) / total;
            let (least, most) = &mut extremes[i];
            (*least, *most) = (least.min(beyond[i]), most.max(beyond[i]));
            deviations[i].less = deviations[i].less.max(*most - beyond[i]);
            deviations[i].more = deviations[i].more.max(beyond[i] - *least);
        }
    }
    deviations
}

fn check(feeds: &[Feed], max_batch: usize, batches: usize, comes: &[u64], bound: impl Fn(f64) -> f64) {
    let total: u32 = feeds.iter().map(|f| f.weight).sum();
    let nobody_idles = feeds.iter().all(|f| f.always);
    for (feed, deviation) in feeds.iter().zip(run(feeds, max_batch, batches, comes)).filter(|(f, _)| f.always) {
        let bound = bound(f64::from(feed.weight) / f64::from(total)) + 1e-6;
        assert!(deviation.less <= bound, "{feed:?} got less: {deviation:?}, {bound} of {feeds:?}");
        assert!(!nobody_idles || deviation.more <= bound, "{feed:?} got more: {deviation:?}, {bound} of {feeds:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn each_lane_gets_its_share_to_within_the_bound(
        feeds in prop::collection::vec(feed(1), 1..9),
        max_batch in 1usize..17,
        comes in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let n = feeds.len() as f64;
        check(&feeds, max_batch, 200, &comes, |share| 1.0 + (n - 1.0) * share);
    }

    #[test]
    fn so_it_does_where_batch_keys_keep_lanes_apart(
        feeds in prop::collection::vec(feed(4), 1..9),
        max_batch in 1usize..17,
        comes in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let n = feeds.len() as f64;
        check(&feeds, max_batch, 200, &comes, |share| (max_batch as f64 + 1.0) * (1.0 + (n - 1.0) * share));
    }
}

/// A lane that comes now and then heads a batch each time; the rest of it is not all its key's to fill.
#[test]
fn who_rides_along_gets_no_further_than_a_batch() {
    let feed = |weight, key, always| Feed { weight, key, parts: 1, always };
    let feeds = [feed(800, 0, true), feed(2, 1, true), feed(150, 1, false)];
    check(&feeds, 16, 400, &[u64::MAX], |share| 17.0 * (1.0 + 2.0 * share));
}

/// A bound that is too wide proves nothing: this one is nearly reached.
#[test]
fn the_bound_is_tight() {
    let feeds: Vec<Feed> =
        (0..8).map(|i| Feed { weight: if i == 0 { 7 } else { 1 }, key: 0, parts: 1, always: true }).collect();
    let heavy = run(&feeds, 1, 200, &[0])[0];
    let bound = 1.0 + 7.0 * 0.5;
    assert!(heavy.more.max(heavy.less) > 0.7 * bound, "{heavy:?} of {bound}");
}
