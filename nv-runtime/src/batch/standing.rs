//! Whether a feed's entries may share batches with others': pure decisions.

use std::time::Duration;

use nv_core::MonoTime;
use serde::{Deserialize, Serialize};

/// Entries that are looked back on.
const WINDOW: u32 = 64;
/// Entries that must have been seen before a feed is judged.
const ENOUGH: u32 = 8;
/// Successes in a row that end a quarantine.
const REFORMED: u32 = 8;
/// In quarantine, at most one entry in this time.
const PACE: Duration = Duration::from_secs(1);

/// A feed's standing at a batch point. An entry of several parts has failed if none of them was computed. Of its last 64
/// entries (at least 8 seen) more than half failed alone: then it is quarantined, and its entries go one per batch, at most one
/// a second, until 8 in a row succeed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// One bit for each of the last entries, the newest lowest; set: it failed.
    failures: u64,
    seen: u32,
    /// Set while quarantined.
    quarantine: Option<Quarantine>,
}

#[derive(Clone, Debug, Default)]
struct Quarantine {
    successes: u32,
    /// When its last entry was dispatched.
    last: Option<MonoTime>,
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StandingChange {
    /// Nothing.
    None,
    /// The feed is quarantined from now on.
    Quarantined,
    /// It may share batches again.
    Released,
}

impl Standing {
    /// Takes in what became of an entry: computed, or failed by itself (not along with a batch).
    pub(crate) fn record(&mut self, failed: bool) -> StandingChange {
        self.failures = self.failures << 1 | u64::from(failed);
        self.seen = (self.seen + 1).min(WINDOW);
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.successes = if failed { 0 } else { quarantine.successes + 1 };
            if quarantine.successes < REFORMED {
                return StandingChange::None;
            }
            *self = Self::default();
            return StandingChange::Released;
        }
        if self.seen >= ENOUGH && self.failures.count_ones() * 2 > self.seen {
            self.quarantine = Some(Quarantine::default());
            return StandingChange::Quarantined;
        }
        StandingChange::None
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.quarantine.is_some()
    }

    /// When its next entry may be dispatched; `None`: whenever.
    pub(crate) fn not_before(&self) -> Option<MonoTime> {
        self.quarantine.as_ref()?.last.map(|last| last + PACE)
    }

    /// Notes that an entry of its was dispatched.
    pub(crate) fn dispatched(&mut self, now: MonoTime) {
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(standing: &mut Standing, outcomes: &str) -> Vec<StandingChange> {
        let changes = outcomes.chars().map(|c| standing.record(c == 'x'));
        changes.filter(|c| *c != StandingChange::None).collect()
    }

    #[test]
    fn more_than_half_of_at_least_eight() {
        fn check(outcomes: &str, quarantined: bool) {
            let mut standing = Standing::default();
            record(&mut standing, outcomes);
            assert_eq!(standing.is_quarantined(), quarantined, "{outcomes}");
        }
        check("xxxxxxx", false);
        check("xxxxxxxx", true);
        check("x.x.x.x.", false);
        check("xx.x.x.x", true);
        // One in three never is.
        check(&"..x".repeat(100), false);
        // What lies further back than 64 is forgotten.
        check(&format!("{}{}", ".".repeat(100), "x".repeat(32)), false);
        check(&format!("{}{}", ".".repeat(100), "x".repeat(33)), true);
    }

    #[test]
    fn eight_good_ones_in_a_row_end_it_and_the_past_is_forgiven() {
        let mut standing = Standing::default();
        assert_eq!(record(&mut standing, "xxxxxxxx"), [StandingChange::Quarantined]);
        assert_eq!(record(&mut standing, ".......x.......x"), []);
        assert_eq!(record(&mut standing, "........"), [StandingChange::Released]);
        assert_eq!(record(&mut standing, "xxxxxxx"), []);
        assert_eq!(record(&mut standing, "x"), [StandingChange::Quarantined]);
    }

    #[test]
    fn one_a_second() {
        let at = |s: u64| MonoTime::from_nanos(s * 1_000_000_000);
        let mut standing = Standing::default();
        standing.dispatched(at(1));
        assert_eq!(standing.not_before(), None);
        record(&mut standing, "xxxxxxxx");
        assert_eq!(standing.not_before(), None, "the first goes at once");
        standing.dispatched(at(5));
        assert_eq!(standing.not_before(), Some(at(6)));
    }
}
