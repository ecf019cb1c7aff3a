use std::time::Duration;

use nv_core::{CancelToken, MonoTime};

use crate::sync::Mutex;

/// How long after a camera counts as stalled its source may take to say so. A source that takes longer ignores the time it
/// was given.
const GRACE: Duration = Duration::from_secs(1);

/// A feed's session with its source, for those who may have to end it: the feed that is stopped, and the thread that watches
/// whether a camera's source comes back from its calls in time.
#[derive(Debug)]
pub(crate) struct SourceWatch {
    stall_timeout: Duration,
    session: Mutex<Session>,
}

#[derive(Debug, Default)]
struct Session {
    cancel: CancelToken,
    /// Whether the feed is done with its source.
    over: bool,
    /// When the call that is being made, or will be next, is overdue; `None`: no source is watched.
    due: Option<MonoTime>,
    calling: bool,
    /// How long it may last from when something was last heard.
    limit: Duration,
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    /// A call was overdue, and was cancelled then.
    Cancelled(MonoTime),
    /// It did not come back after that either, which was told.
    Told,
}

/// What a watcher is to do.
#[derive(Debug)]
pub(crate) enum SourceLook {
    /// Look again then.
    LookAgain(MonoTime),
    /// Cancel the session with this, then look again.
    Cancel(CancelToken),
    /// Tell that the source hangs, then look again.
    Tell(Duration),
}

impl SourceWatch {
    /// A watch over a camera that counts as stalled after so long.
    pub(crate) fn new(stall_timeout: Duration) -> Self {
        Self { stall_timeout, session: Mutex::default() }
    }

    /// A session begins: what it can be cancelled with. It is cancelled already if the feed is done with its source.
    pub(crate) fn begin(&self) -> CancelToken {
        let mut session = self.session.lock();
        *session = Session { over: session.over, ..Session::default() };
        let (cancel, over) = (session.cancel.clone(), session.over);
        drop(session);
        if over {
            cancel.cancel();
        }
        cancel
    }

    /// The feed is done with its source: what the session is to be cancelled with.
    pub(crate) fn end(&self) -> CancelToken {
        let mut session = self.session.lock();
        session.over = true;
        session.cancel.clone()
    }

    /// Makes a call of a camera's source, which counts as stalled then, `limit` after it was last heard of. `None`: it was
    /// given up, and the session with it.
    pub(crate) fn during<T>(&self, stalls_at: MonoTime, limit: Duration, call: impl FnOnce() -> T) -> Option<T> {
        {
            let mut session = self.session.lock();
            (session.calling, session.due, session.limit) = (true, Some(stalls_at + GRACE), limit);
        }
        let result = call();
        let mut session = self.session.lock();
        session.calling = false;
        (session.trouble == Trouble::None).then_some(result)
    }

    /// Looks whether a call is overdue.
    pub(crate) fn look(&self, now: MonoTime) -> SourceLook {
        let mut session = self.session.lock();
        let due = match session.trouble {
            Trouble::None => session.due,
            Trouble::Cancelled(at) => Some(at + GRACE),
            Trouble::Told => None,
        };
        let in_call = session.calling && !session.over;
        match due {
            Some(due) if due > now => SourceLook::LookAgain(due),
            Some(_) if in_call && session.trouble == Trouble::None => {
                session.trouble = Trouble::Cancelled(now);
                SourceLook::Cancel(session.cancel.clone())
            }
            Some(_) if in_call => {
                session.trouble = Trouble::Told;
                SourceLook::Tell(session.limit.saturating_add(GRACE + GRACE))
            }
            // A call of a session that is yet to begin is not overdue before then.
            _ => SourceLook::LookAgain(now + self.stall_timeout.max(GRACE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn at(s: u64) -> MonoTime {
        MonoTime::from_nanos(s * 1_000_000_000)
    }

    fn check(watch: &SourceWatch, now: u64, expected: &str) {
        let said = match watch.look(at(now)) {
            SourceLook::LookAgain(then) => format!("look again at {}", then.as_nanos() / 1_000_000_000),
            SourceLook::Cancel(token) => {
                token.cancel();
                "cancel".into()
            }
            SourceLook::Tell(limit) => format!("tell of {} s", limit.as_secs()),
        };
        assert_eq!(said, expected, "at {now} s");
    }

    #[test]
    fn a_call_that_is_overdue_is_cancelled_and_then_told() {
        let watch = SourceWatch::new(LIMIT);
        let session = watch.begin();
        check(&watch, 1, "look again at 11");
        let quick = watch.during(at(11), LIMIT, || check(&watch, 2, "look again at 12"));
        assert!(quick.is_some() && !session.is_cancelled());
        let late = watch.during(at(11), LIMIT, || {
            check(&watch, 11, "look again at 12");
            check(&watch, 12, "cancel");
            assert!(session.is_cancelled());
            check(&watch, 12, "look again at 13");
            check(&watch, 14, "tell of 12 s");
            check(&watch, 14, "look again at 24");
        });
        assert!(late.is_none(), "whatever it brings comes too late");
        check(&watch, 14, "look again at 24");
        let next = watch.begin();
        assert!(watch.during(at(25), LIMIT, || check(&watch, 16, "look again at 26")).is_some());
        assert!(!next.is_cancelled());
    }

    #[test]
    fn a_feed_that_is_done_cancels_its_session_and_begins_none() {
        let watch = SourceWatch::new(LIMIT);
        let session = watch.begin();
        watch.end().cancel();
        assert!(session.is_cancelled());
        assert!(watch.begin().is_cancelled());
        let call = watch.during(at(0), LIMIT, || check(&watch, 99, "look again at 109"));
        assert!(call.is_some(), "it is being stopped as it is");
    }
}
