//! Whose an entry is, and where what becomes of it goes.

use std::time::Duration;

use nv_core::DropReason;
use nv_perception::{BatchEntry, BatchTrace, Perception, StageOutput};

use super::core::Part;
use super::{BatchError, EntryKey};
use crate::feed::{Inbox, Intake};
use crate::sync::Arc;

/// Whose lane it is.
#[derive(Clone)]
pub(crate) enum LaneKind {
    /// A live feed's: its claims are bound at its intake, results go to its executor.
    Live(ClaimRoute),
    /// A file feed's.
    File,
    /// The direct API's.
    Direct,
}

/// Where a lane's claims are bound, and where their results go.
#[derive(Clone)]
pub(crate) struct ClaimRoute {
    pub(crate) intake: Arc<Intake>,
    pub(crate) reply: Reply,
}

/// Where an entry's result goes.
#[derive(Clone)]
pub(crate) struct Reply {
    /// Where whoever submitted it hears of it.
    pub(crate) inbox: Arc<Inbox<Completion>>,
    /// The step's place in the feed's pipeline.
    pub(crate) step: usize,
}

/// An entry on its way through the point.
pub(super) struct Job {
    pub(super) entry: BatchEntry,
    pub(super) reply: Reply,
}

/// The end of an entry, or of one of its parts, as its feed sees it. Each part ends once, unless its entry is abandoned.
pub(crate) struct Completion {
    pub(crate) step: usize,
    pub(crate) key: EntryKey,
    /// Which of the entry's parts it is, in the order of their submission; 0 for a whole frame.
    pub(crate) part: u32,
    pub(crate) result: Result<StageOutput, BatchError>,
    /// Its place in a batch and how long the batch took; `None` if it was never computed.
    pub(crate) trace: Option<(BatchTrace, Duration)>,
}

/// What became of a batch, as the point counts it.
pub(super) struct BatchReport<'a> {
    /// The instance that computed it.
    pub(super) instance: usize,
    /// How long the calls of the processor took together, without what was built anew between them.
    pub(super) took: Duration,
    /// Whether the processor was called more than once for it.
    pub(super) retried: bool,
    /// Why the processor failed, if it did.
    pub(super) error: Option<&'a str>,
}

/// What waited at a point when it had to be given up.
pub(super) struct Waiting {
    pub(super) jobs: Vec<Part<Job>>,
    pub(super) claims: Vec<(Arc<Intake>, usize)>,
}

impl Waiting {
    /// Fails every entry with `error`, and a frame for every claim with `reason`. Not under the point's lock.
    pub(super) fn fail(self, reason: DropReason, error: impl Fn() -> BatchError) {
        for (intake, count) in self.claims {
            intake.void_claims(count, reason);
        }
        for part in self.jobs {
            part.fail(error());
        }
    }
}

impl Part<Job> {
    pub(super) fn fail(self, error: BatchError) {
        self.payload.reply.send((self.key, self.part), Err(error), None);
    }
}

impl Reply {
    pub(super) fn send(
        &self,
        (key, part): (EntryKey, u32),
        result: Result<StageOutput, BatchError>,
        trace: Option<(BatchTrace, Duration)>,
    ) {
        self.inbox.push(Completion { step: self.step, key, part, result, trace });
    }
}

/// What earlier steps have found where there are none: one value for everybody.
pub(crate) fn empty_perception() -> Arc<Perception> {
    static EMPTY: std::sync::LazyLock<Arc<Perception>> = std::sync::LazyLock::new(Arc::default);
    EMPTY.clone()
}
