use std::time::Duration;

use nv_core::{MonoTime, Name};

use crate::sync::Mutex;

/// What a feed's pipeline thread is doing inside a stage, for the thread that watches over it.
///
/// A pipeline whose call lasts too long is retired: its thread, should it ever come back, finds that out before it touches
/// anything that others share, and ends.
#[derive(Debug, Default)]
pub(crate) struct StageWatch(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    call: Option<StageCall>,
    /// Whether it was told of the call.
    told: bool,
    retired: bool,
}

/// A call of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageCall {
    /// The step's place in the pipeline.
    pub(crate) step: usize,
    /// Its name.
    pub(crate) name: Name,
    /// The frame; `None`: the stage is being built or started, which may take as long as it takes, but is told of.
    pub(crate) seq: Option<u64>,
    /// When the call began.
    pub(crate) since: MonoTime,
}

/// What a watcher sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing is overdue; nothing can be before then.
    LookAgain(MonoTime),
    /// A stage's start lasts long. This is said once of a call.
    Slow(StageCall),
    /// This call has lasted too long. The pipeline is retired.
    Hung(StageCall),
}

/// A pipeline was given up while it was in a call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Retired;

impl StageWatch {
    /// Makes a call.
    ///
    /// # Errors
    /// The pipeline was retired meanwhile.
    pub(crate) fn during<T>(&self, call: StageCall, f: impl FnOnce() -> T) -> Result<T, Retired> {
        self.begin(call);
        let result = f();
        self.end().map(|()| result)
    }

    /// A call begins; another one is over.
    pub(crate) fn begin(&self, call: StageCall) {
        let mut watched = self.0.lock();
        (watched.call, watched.told) = (Some(call), false);
    }

    /// The call is over.
    ///
    /// # Errors
    /// The pipeline was retired meanwhile.
    pub(crate) fn end(&self) -> Result<(), Retired> {
        let mut watched = self.0.lock();
        watched.call = None;
        if watched.retired { Err(Retired) } else { Ok(()) }
    }

    /// Retires the pipeline, whatever it is doing; returns the call that it is in.
    pub(crate) fn retire(&self) -> Option<StageCall> {
        let mut watched = self.0.lock();
        watched.retired = true;
        watched.call.clone()
    }

    /// Looks whether a call has lasted for `limit`.
    pub(crate) fn look(&self, now: MonoTime, limit: Duration) -> Watch {
        let mut watched = self.0.lock();
        let Some(call) = watched.call.clone() else { return Watch::LookAgain(now + limit) };
        if call.since + limit > now {
            return Watch::LookAgain(call.since + limit);
        }
        if call.seq.is_some() {
            watched.retired = true;
            Watch::Hung(call)
        } else if !std::mem::replace(&mut watched.told, true) {
            Watch::Slow(call)
        } else {
            Watch::LookAgain(now + limit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_lasts_too_long_retires_its_pipeline() {
        let at = |s: u64| MonoTime::from_nanos(s * 1_000_000_000);
        let limit = Duration::from_secs(10);
        let watch = StageWatch::default();
        assert_eq!(watch.look(at(1), limit), Watch::LookAgain(at(11)), "a call that begins now is not overdue before");
        let call = |seq| StageCall { step: 1, name: "track".into(), seq, since: at(5) };
        let during = |seq, f: &dyn Fn() -> Watch| watch.during(call(seq), f);
        assert_eq!(during(None, &|| watch.look(at(15), limit)), Ok(Watch::Slow(call(None))), "it starts");
        let told_before = || {
            watch.look(at(15), limit);
            watch.look(at(99), limit)
        };
        assert_eq!(during(None, &told_before), Ok(Watch::LookAgain(at(109))), "it was told once");
        assert_eq!(during(Some(7), &|| watch.look(at(11), limit)), Ok(Watch::LookAgain(at(15))));
        let hung = || assert_eq!(watch.look(at(15), limit), Watch::Hung(call(Some(7))));
        assert_eq!(watch.during(call(Some(7)), hung), Err(Retired), "it comes back and is told");
    }

    #[test]
    fn a_pipeline_may_be_retired_whatever_it_does() {
        let watch = StageWatch::default();
        let call = StageCall { step: 0, name: "start".into(), seq: None, since: MonoTime::ZERO };
        assert_eq!(watch.during(call.clone(), || assert_eq!(watch.retire(), Some(call.clone()))), Err(Retired));
        assert_eq!(watch.retire(), None);
    }
}
