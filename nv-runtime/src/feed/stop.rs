use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{DropReason, MonoTime};

use crate::sync::Mutex;

/// What a feed was told about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// When what is left inside is dropped.
    pub(crate) deadline: MonoTime,
    /// What it is dropped for.
    pub(crate) reason: DropReason,
}

/// How a feed's owner tells its threads to stop. It may be told again: the earliest deadline counts, and a shutdown counts
/// for more than a stop.
pub(crate) struct StopSignal {
    stop: Mutex<Option<Stop>>,
    /// One token: "look at the signal".
    wake: Sender<()>,
    wakeups: Receiver<()>,
}

impl StopSignal {
    pub(crate) fn new() -> Self {
        let (wake, wakeups) = bounded(1);
        Self { stop: Mutex::default(), wake, wakeups }
    }

    /// Tells the feed to stop.
    pub(crate) fn ask(&self, deadline: MonoTime, reason: DropReason) {
        let mut stop = self.stop.lock();
        let earlier = stop.get_or_insert(Stop { deadline, reason });
        earlier.deadline = earlier.deadline.min(deadline);
        if reason == DropReason::Shutdown {
            earlier.reason = reason;
        }
        drop(stop);
        // A full channel holds a token already.
        let _ = self.wake.try_send(());
    }

    /// What it was told so far.
    pub(crate) fn get(&self) -> Option<Stop> {
        *self.stop.lock()
    }

    /// Wake-up tokens, for the one thread that waits at a time.
    pub(crate) fn wakeups(&self) -> &Receiver<()> {
        &self.wakeups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_counts_and_a_shutdown_is_one() {
        let signal = StopSignal::new();
        assert_eq!(signal.get(), None);
        let check = |deadline: u64, reason, expected: (u64, DropReason)| {
            signal.ask(MonoTime::from_nanos(deadline), reason);
            let stop = signal.get().unwrap();
            assert_eq!((stop.deadline.as_nanos(), stop.reason), expected);
        };
        check(50, DropReason::FeedStopped, (50, DropReason::FeedStopped));
        check(70, DropReason::FeedStopped, (50, DropReason::FeedStopped));
        check(60, DropReason::Shutdown, (50, DropReason::Shutdown));
        check(20, DropReason::FeedStopped, (20, DropReason::Shutdown));
        assert_eq!(signal.wakeups().try_iter().count(), 1);
    }
}
