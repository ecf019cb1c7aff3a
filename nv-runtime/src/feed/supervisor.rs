//! When a source is opened again and a feed restarted: state machines to which the time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use nv_core::MonoTime;
use nv_perception::SourceErrorKind;
use serde::{Deserialize, Serialize};

use super::RestartConfig;
use crate::decisions::{At, CoreLog, For, Recorded, nanos};

/// What a source's trouble calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It is opened again, as often as it takes.
    Reconnect,
    /// It is opened again within the feed's budget of restarts.
    Restart,
    /// None: the feed ends.
    End,
}

/// What is to be done about an error of a source that is opened again where that may help. `opened`: whether it was open
/// before, so that what it is and who we are was right then.
pub(crate) fn remedy(error: SourceErrorKind, opened: bool) -> Remedy {
    match error {
        SourceErrorKind::Transient => Remedy::Reconnect,
        SourceErrorKind::Io
        | SourceErrorKind::Damaged
        | SourceErrorKind::NotFound
        | SourceErrorKind::Denied
        | SourceErrorKind::NotVideo
            if opened =>
        {
            Remedy::Restart
        }
        _ => Remedy::End,
    }
}

/// Watches a source's sessions: when a lost one is opened again, and when a silent one counts as lost.
#[derive(Debug)]
pub(crate) struct Reconnect {
    backoff: Backoff,
    stall_timeout: Duration,
    /// Good frames of this session, as far as they are counted.
    good: u32,
    /// When the source last gave a frame, or was opened.
    heard: MonoTime,
    log: CoreLog,
}

/// What a [`Reconnect`] is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReconnectConfig {
    now: At,
    #[serde(with = "nanos")]
    stall_timeout: Duration,
    #[serde(flatten)]
    backoff: BackoffConfig,
}

/// A call of a [`Reconnect`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReconnectInput {
    Opened { now: At },
    Frame { now: At, suspect: bool },
    StallsAt,
    Lost,
}

/// After so many good frames a session counts as a success. A camera that gives a frame and falls over, again and again, does
/// not.
const GOOD_FRAMES: u32 = 8;

impl ReconnectConfig {
    pub(crate) fn new(config: &RestartConfig, seed: u64, now: MonoTime) -> Self {
        let backoff = BackoffConfig { first: config.reconnect_backoff, most: config.max_reconnect_backoff, seed };
        Self { now: At(now), stall_timeout: config.stall_timeout, backoff }
    }
}

impl Reconnect {
    /// A session began.
    pub(crate) fn opened(&mut self, now: MonoTime) {
        self.good = 0;
        self.heard = now;
        self.log.note(|| (ReconnectInput::Opened { now: At(now) }, ()));
    }

    /// The source gave a frame.
    pub(crate) fn frame(&mut self, now: MonoTime, suspect: bool) {
        self.heard = now;
        if !suspect && self.good < GOOD_FRAMES {
            self.good += 1;
            if self.good == GOOD_FRAMES {
                self.backoff.reset();
            }
        }
        self.log.note(|| (ReconnectInput::Frame { now: At(now), suspect }, self.good));
    }

    /// When the session counts as lost, if there is no frame until then.
    pub(crate) fn stalls_at(&self) -> MonoTime {
        let at = self.heard + self.stall_timeout;
        self.log.note(|| (ReconnectInput::StallsAt, At(at)));
        at
    }

    /// The session was lost, or could not be opened: how long to wait before the next try.
    pub(crate) fn lost(&mut self) -> Duration {
        let delay = self.backoff.next();
        self.log.note(|| (ReconnectInput::Lost, For(delay)));
        delay
    }
}

impl Recorded for Reconnect {
    const KIND: &'static str = "reconnect";
    type Config = ReconnectConfig;
    type Input = ReconnectInput;

    fn with_log(config: ReconnectConfig, log: CoreLog) -> Self {
        let ReconnectConfig { now: At(now), stall_timeout, backoff } = config;
        Self { backoff: Backoff::new(backoff), stall_timeout, good: 0, heard: now, log }
    }

    fn call(&mut self, input: ReconnectInput) {
        match input {
            ReconnectInput::Opened { now: At(now) } => self.opened(now),
            ReconnectInput::Frame { now: At(now), suspect } => self.frame(now, suspect),
            ReconnectInput::StallsAt => drop(self.stalls_at()),
            ReconnectInput::Lost => drop(self.lost()),
        }
    }
}

/// A feed's budget of restarts.
#[derive(Debug)]
pub(crate) struct RestartBudget {
    max: usize,
    window: Duration,
    backoff: Backoff,
    /// When those within the window were.
    recent: VecDeque<MonoTime>,
    log: CoreLog,
}

/// What a [`RestartBudget`] is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BudgetConfig {
    max: u32,
    #[serde(with = "nanos")]
    window: Duration,
    #[serde(flatten)]
    backoff: BackoffConfig,
}

/// A call of a [`RestartBudget`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BudgetInput {
    Failed { now: At },
}

impl BudgetConfig {
    pub(crate) fn new(config: &RestartConfig, seed: u64) -> Self {
        let backoff = BackoffConfig { first: config.backoff, most: config.max_backoff, seed };
        Self { max: config.max_restarts, window: config.window, backoff }
    }
}

impl RestartBudget {
    /// Something failed. The number of this restart within the window, and how long to wait before it; `None`: the budget is
    /// spent.
    pub(crate) fn failed(&mut self, now: MonoTime) -> Option<(usize, Duration)> {
        while self.recent.front().is_some_and(|&at| now.since(at) >= self.window) {
            self.recent.pop_front();
        }
        let restart = (self.recent.len() < self.max).then(|| {
            let delay = self.backoff.at(self.recent.len());
            self.recent.push_back(now);
            (self.recent.len(), delay)
        });
        self.log.note(|| (BudgetInput::Failed { now: At(now) }, restart.map(|(number, delay)| (number, For(delay)))));
        restart
    }
}

impl Recorded for RestartBudget {
    const KIND: &'static str = "restarts";
    type Config = BudgetConfig;
    type Input = BudgetInput;

    fn with_log(config: BudgetConfig, log: CoreLog) -> Self {
        let BudgetConfig { max, window, backoff } = config;
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self { max, window, backoff: Backoff::new(backoff), recent: VecDeque::new(), log }
    }

    fn call(&mut self, input: BudgetInput) {
        match input {
            BudgetInput::Failed { now: At(now) } => drop(self.failed(now)),
        }
    }
}

/// A delay that doubles, of which a random half is taken off ("equal jitter": M. Brooker, "Exponential Backoff And Jitter",
/// AWS Architecture Blog, 2015).
#[derive(Debug)]
struct Backoff {
    first: Duration,
    most: Duration,
    tries: usize,
    random: u64,
}

/// What a [`Backoff`] is made with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BackoffConfig {
    #[serde(with = "nanos")]
    first: Duration,
    #[serde(with = "nanos")]
    most: Duration,
    seed: u64,
}

impl Backoff {
    fn new(BackoffConfig { first, most, seed }: BackoffConfig) -> Self {
        Self { first, most, tries: 0, random: seed }
    }

    fn reset(&mut self) {
        self.tries = 0;
    }

    fn next(&mut self) -> Duration {
        let delay = self.at(self.tries);
        self.tries += 1;
        delay
    }

    /// The delay after so many tries.
    fn at(&mut self, tries: usize) -> Duration {
        let factor = u32::try_from(tries).ok().and_then(|n| 1u32.checked_shl(n)).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(factor).min(self.most);
        full / 2 + (full / 2).mul_f64(self.random())
    }

    /// From 0 to 1 (SplitMix64: G. Steele et al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, fig. 16).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::queue::tests::ms;
    use super::*;

    fn reconnect(seed: u64) -> Reconnect {
        Reconnect::with_log(ReconnectConfig::new(&RestartConfig::default(), seed, MonoTime::ZERO), CoreLog::default())
    }

    fn budget(config: &RestartConfig, seed: u64) -> RestartBudget {
        RestartBudget::with_log(BudgetConfig::new(config, seed), CoreLog::default())
    }

    /// Whether the delay is that of the `n`th try, from 0.
    fn is_try(delay: Duration, n: u32) -> bool {
        let full = (Duration::from_millis(200) * 2u32.pow(n)).min(Duration::from_secs(30));
        (full / 2..=full).contains(&delay)
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        use SourceErrorKind::*;
        for (kind, first, later) in [
            (Transient, Remedy::Reconnect, Remedy::Reconnect),
            (Io, Remedy::End, Remedy::Restart),
            (Damaged, Remedy::End, Remedy::Restart),
            (NotFound, Remedy::End, Remedy::Restart),
            (Denied, Remedy::End, Remedy::Restart),
            (NotVideo, Remedy::End, Remedy::Restart),
            (Config, Remedy::End, Remedy::End),
            (Unsupported, Remedy::End, Remedy::End),
            (Cancelled, Remedy::End, Remedy::End),
        ] {
            assert_eq!((remedy(kind, false), remedy(kind, true)), (first, later), "{kind:?}");
        }
    }

    #[test]
    fn the_back_off_doubles_up_to_its_most() {
        let mut source = reconnect(1);
        for n in [0, 1, 2, 3, 4, 5, 6, 7, 8, 8] {
            let delay = source.lost();
            assert!(is_try(delay, n), "try {n}: {delay:?}");
        }
    }

    #[test]
    fn only_good_frames_reset_the_back_off() {
        let mut source = reconnect(2);
        let session = |source: &mut Reconnect, good: u32, suspect: u32| {
            source.opened(MonoTime::ZERO);
            (0..suspect).for_each(|_| source.frame(MonoTime::ZERO, true));
            (0..good).for_each(|_| source.frame(MonoTime::ZERO, false));
            source.lost()
        };
        assert!(is_try(session(&mut source, 0, 0), 0));
        assert!(is_try(session(&mut source, GOOD_FRAMES - 1, 100), 1), "not enough of them");
        assert!(is_try(session(&mut source, GOOD_FRAMES - 1, 0), 2), "they don't add up over sessions");
        assert!(is_try(session(&mut source, GOOD_FRAMES, 0), 0));
        assert!(is_try(session(&mut source, 0, 0), 1));
    }

    #[test]
    fn a_silent_source_stalls() {
        let mut source = reconnect(3);
        source.opened(ms(5_000));
        assert_eq!(source.stalls_at(), ms(15_000));
        source.frame(ms(14_000), true);
        assert_eq!(source.stalls_at(), ms(24_000));
    }

    #[test]
    fn feeds_that_failed_together_come_back_apart() {
        let delays: std::collections::BTreeSet<_> = (0..64).map(|seed| reconnect(seed).lost()).collect();
        assert_eq!(delays.len(), 64);
        assert_eq!(reconnect(7).lost(), reconnect(7).lost(), "the same seed says the same");
    }

    #[test]
    fn a_budget_is_spent_and_comes_back_with_time() {
        let mut budget = budget(&RestartConfig::default(), 4);
        for n in 1..=5 {
            let (number, delay) = budget.failed(ms(n * 1_000)).unwrap();
            let full = Duration::from_secs(1 << (n - 1));
            assert_eq!(number as u64, n);
            assert!((full / 2..=full).contains(&delay), "restart {n}: {delay:?}");
        }
        assert_eq!(budget.failed(ms(10_000)), None);
        assert_eq!(budget.failed(ms(300_999)), None);
        let (number, delay) = budget.failed(ms(301_000)).unwrap();
        assert_eq!(number, 5);
        assert!(delay >= Duration::from_secs(8));
        assert_eq!(budget.failed(ms(301_001)), None);
    }

    #[test]
    fn no_restarts_means_none() {
        let config = RestartConfig { max_restarts: 0, ..RestartConfig::default() };
        assert_eq!(budget(&config, 5).failed(MonoTime::ZERO), None);
    }

    proptest! {
        #[test]
        fn never_more_than_the_budget_in_any_window(
            steps in prop::collection::vec(0u64..120_000, 1..200),
            seed: u64,
            max in 1u32..8,
        ) {
            let config = RestartConfig { max_restarts: max, ..RestartConfig::default() };
            let mut budget = budget(&config, seed);
            let (mut now, mut restarts) = (0, Vec::<u64>::new());
            for step in steps {
                now += step;
                if let Some((_, delay)) = budget.failed(ms(now)) {
                    prop_assert!(delay >= config.backoff / 2 && delay <= config.max_backoff);
                    restarts.push(now);
                }
                let within = restarts.iter().filter(|&&at| now - at < 300_000).count();
                prop_assert!(within <= max as usize);
            }
        }
    }
}
