//! Which parts of a failed batch to try again, until the guilty stand alone: pure decisions.

use std::ops::Range;

/// The halving of a batch that failed as a whole.
///
/// Each part that fails again is halved again; a part of one that fails is guilty. A batch of `n` takes at most `2n − 1`
/// calls in all, the first failure included.
#[derive(Debug, Default)]
pub(crate) struct Bisection {
    /// Parts to try, the first last.
    parts: Vec<Range<usize>>,
}

impl Bisection {
    /// Begins with a batch of `size` that has just failed. Of one entry there is nothing to try: it is guilty.
    pub(crate) fn begin(&mut self, size: usize) {
        self.parts.clear();
        self.split(0..size);
    }

    /// Begins with every entry alone: the suspects of a batch that broke its processor.
    pub(crate) fn begin_alone(&mut self, size: usize) {
        self.parts.clear();
        self.parts.extend((0..size).rev().map(|i| i..i + 1));
    }

    /// Tries nothing more.
    pub(crate) fn end(&mut self) {
        self.parts.clear();
    }

    /// The next part to try.
    pub(crate) fn next_part(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// Takes in that the part that was tried last has failed as a whole.
    pub(crate) fn failed(&mut self, part: Range<usize>) {
        self.split(part);
    }

    /// Whether there is anything left to try.
    pub(crate) fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    fn split(&mut self, part: Range<usize>) {
        if part.len() > 1 {
            let middle = part.start + part.len() / 2;
            self.parts.push(middle..part.end);
            self.parts.push(part.start..middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tries a batch of `size` in which the entries `bad` fail whatever part they are in. Returns the guilty and the calls.
    fn run(size: usize, bad: &[usize]) -> (Vec<usize>, usize) {
        let mut bisection = Bisection::default();
        let (mut guilty, mut calls) = (Vec::new(), 1);
        if size == 1 && !bad.is_empty() {
            return (vec![0], 1);
        }
        if !bad.is_empty() {
            bisection.begin(size);
        }
        while let Some(part) = bisection.next_part() {
            calls += 1;
            if bad.iter().any(|b| part.contains(b)) {
                if part.len() == 1 {
                    guilty.push(part.start);
                }
                bisection.failed(part);
            }
        }
        assert!(bisection.is_over());
        (guilty, calls)
    }

    #[test]
    fn the_guilty_stand_alone() {
        fn check(size: usize, bad: &[usize], calls: usize) {
            assert_eq!(run(size, bad), (bad.to_vec(), calls), "{size} {bad:?}");
        }
        check(1, &[0], 1);
        check(8, &[], 1);
        check(8, &[3], 7);
        check(16, &[3], 9);
        check(8, &[0, 1, 2, 3, 4, 5, 6, 7], 15);
        check(5, &[4], 7);
    }

    proptest! {
        #[test]
        fn at_most_two_n_less_one_calls(size in 1usize..40, bad in prop::collection::btree_set(0usize..40, 0..10)) {
            let bad: Vec<usize> = bad.into_iter().filter(|b| *b < size).collect();
            let (guilty, calls) = run(size, &bad);
            prop_assert_eq!(guilty, bad);
            prop_assert!(calls < 2 * size);
        }
    }
}
