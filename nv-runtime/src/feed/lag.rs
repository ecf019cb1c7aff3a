use std::time::Duration;

use nv_core::HealthKind;

/// A frame processed later than this after it was received makes its feed a lagging one.
const LIMIT: Duration = Duration::from_secs(2);

/// Watches whether a live feed keeps up with its camera.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    lagging: bool,
}

impl Lag {
    /// A frame has left as an output at this age. What is to be told of that: every late frame, and the first one after it
    /// that is not.
    pub(crate) fn emitted(&mut self, age: Duration) -> Option<HealthKind> {
        let was_lagging = std::mem::replace(&mut self.lagging, age > LIMIT);
        match (was_lagging, self.lagging) {
            (_, true) => Some(HealthKind::FeedLagging { age }),
            (true, false) => Some(HealthKind::FeedCaughtUp),
            (false, false) => None,
        }
    }

    pub(crate) fn is_lagging(&self) -> bool {
        self.lagging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_frames_and_the_recovery_are_told() {
        let mut lag = Lag::default();
        let mut check = |ms, expected: Option<HealthKind>, lagging| {
            assert_eq!((lag.emitted(Duration::from_millis(ms)), lag.is_lagging()), (expected, lagging), "{ms} ms");
        };
        let late = |ms| Some(HealthKind::FeedLagging { age: Duration::from_millis(ms) });
        check(30, None, false);
        check(2000, None, false);
        check(2001, late(2001), true);
        check(2500, late(2500), true);
        check(2000, Some(HealthKind::FeedCaughtUp), false);
        check(30, None, false);
    }
}
