//! How evenly a batch point serves its lanes, held against the bounds that it publishes.

/// Lanes that have something waiting all the time, and what they are served relative to their weights.
///
/// - By pair: over any interval in which neither ran empty, what the two were served, each over its weight, differs by at
///   most one part of each.
/// - Against all: over any interval in which a lane of weight `w` never ran empty, beside lanes of weight `W` in all, itself
///   included, of which `n` had something waiting, it is served at least `w / W` of all parts, less `1 + (n − 1) · w / W`.
///
/// With batch keys a lane may be ahead by a batch of its own, and the bounds are as many times as wide.
#[derive(Debug)]
pub(super) struct Fairness {
    lanes: Vec<Lane>,
    /// The most batch keys that there have been at a time.
    keys: usize,
    /// By pair, the lower first: the difference since both are backlogged, its least and its most.
    pairs: Vec<Spread>,
}

#[derive(Clone, Debug, Default)]
struct Lane {
    attached: bool,
    weight: f64,
    batch_key: u64,
    /// Whether it has not run empty so far.
    backlogged: bool,
    /// What it was served, less its share, since then; and the most that this has been.
    ahead: f64,
    most_ahead: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    now: f64,
    least: f64,
    most: f64,
}

/// Beyond so many lanes the others are not compared: pairs grow with the square.
const COMPARED: usize = 16;
/// What counts as nothing, beside whole parts.
const ROUNDING: f64 = 1e-6;

impl Fairness {
    pub(super) fn new(feeds: usize) -> Self {
        let pairs = vec![Spread::default(); COMPARED * COMPARED];
        Self { lanes: vec![Lane::default(); feeds], keys: 1, pairs }
    }

    pub(super) fn attached(&mut self, feed: usize, weight: u32, batch_key: u64) {
        self.lanes[feed] = Lane { attached: true, weight: f64::from(weight), batch_key, ..Lane::default() };
        self.keys = self.keys.max(self.keys_now());
        self.forget_shares();
    }

    pub(super) fn detached(&mut self, feed: usize) {
        self.set_backlogged(feed, false);
        self.lanes[feed].attached = false;
        self.forget_shares();
    }

    /// Shares change: what was before says nothing of what comes.
    fn forget_shares(&mut self) {
        self.lanes.iter_mut().for_each(|l| (l.ahead, l.most_ahead) = (0.0, 0.0));
    }

    pub(super) fn set_backlogged(&mut self, feed: usize, backlogged: bool) {
        let lane = &mut self.lanes[feed];
        if lane.backlogged == backlogged {
            return;
        }
        lane.backlogged = backlogged;
        (lane.ahead, lane.most_ahead) = (0.0, 0.0);
        for other in (0..self.lanes.len().min(COMPARED)).filter(|_| feed < COMPARED) {
            self.pairs[feed.min(other) * COMPARED + feed.max(other)] = Spread::default();
        }
    }

    /// A lane is served a part.
    ///
    /// # Errors
    /// That breaks a bound; which.
    pub(super) fn serve(&mut self, feed: usize, max_batch: usize) -> Result<(), String> {
        self.serve_share(feed, max_batch)?;
        if feed < COMPARED && self.lanes[feed].backlogged { self.serve_pairs(feed, max_batch) } else { Ok(()) }
    }

    fn serve_share(&mut self, feed: usize, max_batch: usize) -> Result<(), String> {
        let attached = || self.lanes.iter().filter(|l| l.attached);
        let (all, count) = (attached().map(|l| l.weight).sum::<f64>(), attached().count());
        let wide = self.wide(max_batch);
        let mut result = Ok(());
        for (id, lane) in self.lanes.iter_mut().enumerate().take(COMPARED).filter(|(_, l)| l.backlogged) {
            let share = lane.weight / all;
            lane.ahead += f64::from(u8::from(id == feed)) - share;
            lane.most_ahead = lane.most_ahead.max(lane.ahead);
            let bound = wide * (1.0 + (count as f64 - 1.0) * share);
            let behind = lane.most_ahead - lane.ahead;
            if behind > bound + ROUNDING {
                result = Err(format!("feed {id} is {behind:.2} parts behind its share, of at most {bound:.2}"));
            }
        }
        result
    }

    fn serve_pairs(&mut self, feed: usize, max_batch: usize) -> Result<(), String> {
        let weight = self.lanes[feed].weight;
        let wide = self.wide(max_batch);
        for other in (0..self.lanes.len().min(COMPARED)).filter(|other| *other != feed) {
            if !self.lanes[other].backlogged {
                continue;
            }
            let spread = &mut self.pairs[feed.min(other) * COMPARED + feed.max(other)];
            spread.now += if feed < other { 1.0 } else { -1.0 } / weight;
            spread.least = spread.least.min(spread.now);
            spread.most = spread.most.max(spread.now);
            let bound = wide * (1.0 / weight + 1.0 / self.lanes[other].weight);
            let apart = spread.most - spread.least;
            if apart > bound + ROUNDING {
                return Err(format!(
                    "feeds {feed} and {other} are {apart:.2} parts apart by weight, of at most {bound:.2}"
                ));
            }
        }
        Ok(())
    }

    /// How many times as wide the bounds are.
    fn wide(&self, max_batch: usize) -> f64 {
        if self.keys > 1 { max_batch as f64 + 1.0 } else { 1.0 }
    }

    /// Batch keys in use.
    fn keys_now(&self) -> usize {
        let mut keys: Vec<u64> = self.lanes.iter().filter(|l| l.attached).map(|l| l.batch_key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }
}
