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
    retired: bool,
}

/// A call of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageCall {
    /// The step's place in the pipeline.
    pub(crate) step: usize,
    /// Its name.
    pub(crate) name: Name,
    /// The frame; `None`: the stage is being built or started, which may take as long as it takes.
    pub(crate) seq: Option<u64>,
    /// When the call began.
    pub(crate) since: MonoTime,
}

/// What a watcher sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing is overdue; nothing can be before then.
    LookAgain(MonoTime),
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
        self.0.lock().call = Some(call);
        let result = f();
        let mut watched = self.0.lock();
        watched.call = None;
        if watched.retired { Err(Retired) } else { Ok(result) }
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
        match watched.call.as_ref().filter(|call| call.seq.is_some()) {
            Some(call) if call.since + limit <= now => {
                let call = call.clone();
                watched.retired = true;
                Watch::Hung(call)
            }
            Some(call) => Watch::LookAgain(call.since + limit),
            None => Watch::LookAgain(now + limit),
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
        assert_eq!(during(None, &|| watch.look(at(99), limit)), Ok(Watch::LookAgain(at(109))), "it starts");
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
