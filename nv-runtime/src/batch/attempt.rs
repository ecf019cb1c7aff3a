//! Which parts of a batch to have computed, how often, and what each came to: pure decisions.

use std::ops::Range;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

use super::bisect::Bisection;
use super::core::Verdict;
use crate::decisions::{At, CoreLog, Recorded, within};

/// How a call of a processor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallResult {
    /// It took its entries; each has a result of its own.
    Ok,
    /// It failed, for all of its entries.
    Failed,
    /// It failed, and the processor is of no more use.
    Broke,
}

/// The computation of one batch, call by call.
///
/// A batch that fails as a whole is bisected until the guilty stand alone, where the processor says that retrying does no
/// harm; after one that breaks the processor, its entries are tried one by one with the new processor, once, until two in a row
/// break it: then it is hardly they. No call begins after the deadline. Used again for the next batch, so that a batch allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    idempotent: bool,
    deadline: MonoTime,
    bisection: Bisection,
    calls: usize,
    /// The entries of the call under way.
    current: Range<usize>,
    /// Calls in a row that broke the processor, up to the last one.
    breaks: usize,
    /// By place in the batch: how the last call went that the entry was part of.
    fates: Vec<Fate>,
    log: CoreLog,
}

/// How a call went, for an entry of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The entry has a result, or an error of its own.
    Told,
    /// The call failed, and the entry was not alone in it.
    FailedAlong,
    /// The call failed, and it was for this entry alone.
    FailedAlone,
}

/// What an [`Attempt`] is made with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct AttemptConfig {
    /// The instance that it is of. It decides nothing.
    pub(crate) instance: usize,
}

/// A call of an [`Attempt`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Input {
    Begin { size: usize, idempotent: bool, deadline: At },
    NextCall { now: At, able: bool },
    Called { result: CallResult },
    Verdict { slot: usize, ok: bool },
}

impl Recorded for Attempt {
    const KIND: &'static str = "attempt";
    type Config = AttemptConfig;
    type Input = Input;

    fn with_log(_: AttemptConfig, log: CoreLog) -> Self {
        Self { log, ..Self::default() }
    }

    fn fits(&self, input: &Input) -> Result<(), String> {
        match input {
            Input::Begin { size, .. } => within("size", *size),
            Input::Verdict { slot, .. } if *slot >= self.fates.len() => Err(format!("there is no entry {slot}")),
            _ => Ok(()),
        }
    }

    fn call(&mut self, input: Input) {
        match input {
            Input::Begin { size, idempotent, deadline: At(deadline) } => self.begin(size, idempotent, deadline),
            Input::NextCall { now: At(now), able } => drop(self.next_call(now, able)),
            Input::Called { result } => self.called(result),
            Input::Verdict { slot, ok } => drop(self.verdict(slot, ok)),
        }
    }
}

impl Attempt {
    /// Begins with a batch of `size`, to be answered by `deadline`. The first call is for all of it.
    pub(crate) fn begin(&mut self, size: usize, idempotent: bool, deadline: MonoTime) {
        (self.idempotent, self.deadline, self.calls) = (idempotent, deadline, 0);
        self.current = 0..size;
        self.breaks = 0;
        self.fates.clear();
        self.fates.resize(size, Fate::Told);
        self.bisection.end();
        self.log.note(|| (Input::Begin { size, idempotent, deadline: At(deadline) }, ()));
    }

    /// Whether the processor is to be called again, if there is one.
    pub(crate) fn has_more(&self, now: MonoTime) -> bool {
        !self.bisection.is_over() && now < self.deadline
    }

    /// The entries to call the processor for next; `None`: the batch is done. `able`: whether there is a processor.
    pub(crate) fn next_call(&mut self, now: MonoTime, able: bool) -> Option<Range<usize>> {
        let entries = self.next_entries(now, able);
        self.log.note(|| (Input::NextCall { now: At(now), able }, &entries));
        entries
    }

    fn next_entries(&mut self, now: MonoTime, able: bool) -> Option<Range<usize>> {
        if self.calls == 0 {
            return Some(self.current.clone());
        }
        if !able || now >= self.deadline {
            self.bisection.end();
        }
        self.current = self.bisection.next_part()?;
        Some(self.current.clone())
    }

    /// Takes in how the call ended.
    pub(crate) fn called(&mut self, result: CallResult) {
        self.take(result);
        self.log.note(|| (Input::Called { result }, ()));
    }

    fn take(&mut self, result: CallResult) {
        let fate = match (result, self.current.len()) {
            (CallResult::Ok, _) => Fate::Told,
            (CallResult::Failed | CallResult::Broke, 1) => Fate::FailedAlone,
            (CallResult::Failed | CallResult::Broke, _) => Fate::FailedAlong,
        };
        self.fates[self.current.clone()].fill(fate);
        self.calls += 1;
        if self.calls > 1 {
            if result != CallResult::Ok {
                self.bisection.failed(self.current.clone());
            }
            self.breaks = if result == CallResult::Broke { self.breaks + 1 } else { 0 };
            if self.breaks == 2 {
                self.bisection.end();
            }
            return;
        }
        match result {
            CallResult::Failed if self.idempotent => self.bisection.begin(self.current.len()),
            CallResult::Broke if self.idempotent && self.current.len() > 1 => {
                self.bisection.begin_alone(self.current.len());
            }
            _ => self.bisection.end(),
        }
    }

    /// Whether a call that begins now is not the first.
    pub(crate) fn retries(&self) -> bool {
        self.calls > 0
    }

    /// Whether the processor was called more than once.
    pub(crate) fn retried(&self) -> bool {
        self.calls > 1
    }

    /// What is known of entry `slot`, whose result is `ok` or not.
    pub(crate) fn verdict(&self, slot: usize, ok: bool) -> Verdict {
        let verdict = match self.fates[slot] {
            Fate::Told if ok => Verdict::Computed,
            Fate::Told | Fate::FailedAlone => Verdict::Guilty,
            Fate::FailedAlong => Verdict::Unlucky,
        };
        self.log.note(|| (Input::Verdict { slot, ok }, verdict));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: MonoTime = MonoTime::from_nanos(1_000_000);

    /// Computes a batch of `size` in which the entries `bad` make the call `fail`; each call takes 1 ns. Returns the verdicts,
    /// a letter each, and the calls.
    fn run(size: usize, idempotent: bool, bad: &[usize], fail: CallResult) -> (String, usize) {
        let mut attempt = Attempt::default();
        attempt.begin(size, idempotent, DEADLINE);
        let mut calls = 0;
        while let Some(part) = attempt.next_call(MonoTime::from_nanos(calls as u64), true) {
            calls += 1;
            attempt.called(if bad.iter().any(|b| part.contains(b)) { fail } else { CallResult::Ok });
        }
        assert_eq!(attempt.retried(), calls > 1);
        (verdicts(&attempt), calls)
    }

    fn verdicts(attempt: &Attempt) -> String {
        let letter = |slot| match attempt.verdict(slot, true) {
            Verdict::Computed => '.',
            Verdict::Guilty => 'x',
            Verdict::Unlucky => '?',
        };
        (0..attempt.fates.len()).map(letter).collect()
    }

    #[test]
    fn the_guilty_stand_alone_where_a_retry_does_no_harm() {
        fn check(size: usize, idempotent: bool, bad: &[usize], fail: CallResult, expected: (&str, usize)) {
            let (verdicts, calls) = run(size, idempotent, bad, fail);
            assert_eq!((verdicts.as_str(), calls), expected, "{size} {idempotent} {bad:?} {fail:?}");
        }
        use CallResult::{Broke, Failed};
        check(4, true, &[], Failed, ("....", 1));
        check(1, false, &[0], Failed, ("x", 1));
        check(1, false, &[0], Broke, ("x", 1));
        check(8, true, &[3], Failed, ("...x....", 7));
        check(4, true, &[0, 1, 2, 3], Failed, ("xxxx", 7));
        check(4, false, &[1], Failed, ("????", 1));
        check(4, false, &[1], Broke, ("????", 1));
        // One by one, once: not by halves.
        check(8, true, &[3], Broke, ("...x....", 9));
        check(4, true, &[0, 2], Broke, ("x.x.", 5));
        // Two in a row: it is not these entries, or not these alone.
        check(4, true, &[0, 1, 2, 3], Broke, ("xx??", 3));
        check(4, true, &[1, 2], Broke, (".xx?", 4));
    }

    #[test]
    fn what_was_not_tried_in_time_or_for_want_of_a_processor_is_nobodys_fault() {
        fn check(after: usize, able: bool) {
            let mut attempt = Attempt::default();
            attempt.begin(4, true, DEADLINE);
            assert_eq!(attempt.next_call(MonoTime::ZERO, true), Some(0..4));
            attempt.called(CallResult::Failed);
            for _ in 0..after {
                assert!(attempt.next_call(MonoTime::ZERO, true).is_some());
                attempt.called(CallResult::Ok);
            }
            let late = if able { DEADLINE } else { MonoTime::ZERO };
            assert_eq!(attempt.next_call(late, able), None);
            assert_eq!(attempt.next_call(MonoTime::ZERO, true), None, "it is over");
            assert_eq!(verdicts(&attempt), if after == 0 { "????" } else { "..??" });
        }
        check(0, true);
        check(0, false);
        check(1, true);
        check(1, false);
    }

    #[test]
    fn an_entrys_own_error_is_its_own_fault() {
        let mut attempt = Attempt::default();
        attempt.begin(2, false, DEADLINE);
        attempt.next_call(MonoTime::ZERO, true);
        attempt.called(CallResult::Ok);
        assert_eq!((attempt.verdict(0, true), attempt.verdict(1, false)), (Verdict::Computed, Verdict::Guilty));
    }

    proptest! {
        /// Whatever fails: exactly the bad ones are guilty, within 2n − 1 calls (n + 1 after a broken processor).
        #[test]
        fn exactly_the_bad_are_guilty(
            size in 1usize..40,
            bad in prop::collection::btree_set(0usize..40, 0..10),
            broke in any::<bool>(),
        ) {
            let mut bad: Vec<usize> = bad.into_iter().filter(|b| *b < size).collect();
            if broke {
                bad.dedup_by(|b, a| *b == *a + 1);
            }
            let (verdicts, calls) = run(size, true, &bad, if broke { CallResult::Broke } else { CallResult::Failed });
            let guilty: Vec<usize> = verdicts.match_indices('x').map(|(i, _)| i).collect();
            prop_assert_eq!(guilty, bad);
            prop_assert!(!verdicts.contains('?'));
            let most = if broke { size + 1 } else { 2 * size - 1 };
            prop_assert!(calls <= most);
        }
    }
}
