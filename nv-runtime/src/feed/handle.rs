use std::convert::Infallible;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nv_core::{CancelToken, Clock as _, DropReason, HealthKind, MonoTime, Name};
use nv_perception::{SourceError, StageError};
use serde::{Serialize, Serializer};

use super::source_watch::SourceWatch;
use super::stats::{FeedStats, Progress, Restarts};
use super::stop::StopSignal;
use super::supervisor::{BudgetConfig, RestartBudget};
use super::{Inbox, Intake, RestartConfig};
use crate::batch::Completion;
use crate::decisions::{DecisionLog, Recorded as _};
use crate::guard::guard;
use crate::health::HealthHub;
use crate::sync::{Arc, Mutex, SystemClock};

/// A feed of a [`Runtime`](crate::Runtime), as its owner holds it. Cheap to clone; dropping it changes nothing, the runtime
/// owns the feed.
#[derive(Clone)]
pub struct FeedHandle {
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) done: Receiver<Infallible>,
}

/// How a feed ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum FeedEnd {
    /// Its source had no more frames.
    EndOfStream,
    /// It reached its frame limit.
    LimitReached,
    /// It was stopped.
    Stopped,
    /// Its source could not be opened, or broke. Frames that came before have left as usual.
    SourceFailed(SourceError),
    /// A stage did not start, or could not be built anew after a panic.
    StageFailed {
        /// The step.
        step: Name,
        /// What it reported.
        error: StageError,
    },
    /// A call of a stage did not return within [`stage_timeout`](super::FeedConfig::stage_timeout), and the feed is none that
    /// is restarted. The thread that hangs was left behind.
    StageHung {
        /// The step.
        step: Name,
        /// The limit.
        limit: Duration,
    },
    /// It failed more often than its [`RestartConfig`] allows.
    RestartLimitExceeded {
        /// How many restarts it may have had.
        restarts: u32,
        /// Within what time.
        window: Duration,
        /// How it would have ended without any.
        last: Box<FeedEnd>,
    },
    /// The runtime itself failed: a bug, or no thread to be had.
    Internal(String),
}

impl FeedEnd {
    /// Whether it ended as it should.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::EndOfStream | Self::LimitReached | Self::Stopped)
    }

    /// The name it has in summaries.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::EndOfStream => "end_of_stream",
            Self::LimitReached => "limit_reached",
            Self::Stopped => "stopped",
            Self::SourceFailed(_) => "source_failed",
            Self::StageFailed { .. } => "stage_failed",
            Self::StageHung { .. } => "stage_hung",
            Self::RestartLimitExceeded { .. } => "restart_limit_exceeded",
            Self::Internal(_) => "internal",
        }
    }
}

impl fmt::Display for FeedEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfStream => f.write_str("end of stream"),
            Self::LimitReached => f.write_str("frame limit reached"),
            Self::Stopped => f.write_str("stopped"),
            Self::SourceFailed(error) => error.fmt(f),
            Self::StageFailed { step, error } => write!(f, "step {step}: {error}"),
            Self::StageHung { step, limit } => write!(f, "step {step}: a call has lasted for more than {limit:?}"),
            Self::RestartLimitExceeded { restarts, window, last } => {
                write!(f, "given up after {restarts} restarts within {window:?}: {last}")
            }
            Self::Internal(what) => write!(f, "internal error: {what}"),
        }
    }
}

impl Serialize for FeedEnd {
    /// As `reason`, `ok` and `message`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            reason: &'a str,
            ok: bool,
            message: String,
        }

        Shape { reason: self.as_str(), ok: self.is_ok(), message: self.to_string() }.serialize(serializer)
    }
}

/// What a feed's threads and its handles share.
pub(crate) struct FeedShared {
    pub(crate) name: Name,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) cancel: CancelToken,
    /// Disconnects when `cancel` is cancelled: for selecting.
    pub(crate) cancelled: Receiver<Infallible>,
    /// Its session with its source.
    pub(crate) source: SourceWatch,
    pub(crate) stop: StopSignal,
    /// Where the feed's executor hears of everything.
    pub(crate) inbox: Arc<Inbox<Completion>>,
    /// The first number that no track of the feed has had.
    pub(crate) next_track: Arc<AtomicU64>,
    pub(crate) end: OnceLock<Arc<FeedEnd>>,
    pub(crate) intake: OnceLock<Arc<Intake>>,
    /// Whether the feed is paused. Its lock orders what is told to the intake.
    paused: Mutex<bool>,
    pub(crate) restarts: Mutex<Restarts>,
    /// Where its cores note what they decide.
    pub(crate) decisions: Option<DecisionLog>,
    pub(crate) progress: Mutex<Progress>,
}

impl FeedShared {
    pub(crate) fn new(
        name: Name,
        clock: Arc<SystemClock>,
        steps: impl Iterator<Item = Name>,
        restart: &RestartConfig,
        decisions: Option<DecisionLog>,
    ) -> Self {
        let cancel = CancelToken::new();
        let (token, cancelled) = bounded(0);
        cancel.on_cancel(move || drop::<Sender<Infallible>>(token));
        let progress = Progress::new(steps);
        let restarts = RestartBudget::recorded(BudgetConfig::new(restart, seed_of(&name)), decisions.as_ref(), &name);
        Self {
            restarts: Mutex::new(Restarts::new(restarts)),
            decisions,
            name,
            clock,
            cancel,
            cancelled,
            source: SourceWatch::new(restart.stall_timeout),
            stop: StopSignal::new(),
            inbox: Arc::new(Inbox::new()),
            next_track: Arc::default(),
            end: OnceLock::new(),
            intake: OnceLock::new(),
            paused: Mutex::new(false),
            progress: Mutex::new(progress),
        }
    }
}

impl FeedShared {
    /// Tells the feed to end: its source at once, what is inside by `deadline`. Runs no others' code: the feed's own thread
    /// [cancels](Self::cancel) the session with the source.
    pub(crate) fn ask_to_stop(&self, deadline: MonoTime, reason: DropReason) {
        self.stop.ask(deadline, reason);
        self.inbox.call();
        // Also lets go a source that waits for the end of a pause.
        self.set_paused(false);
        self.cancel.cancel();
    }

    /// Tells the source to end, for good. What it registered to be told runs here, and is others' code.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
        self.cancel_session(&self.source.end());
    }

    /// Tells a session to end.
    pub(crate) fn cancel_session(&self, session: &CancelToken) {
        let cancelled = guard("cancel", || {
            session.cancel();
            Ok(())
        });
        if let Err(error) = cancelled {
            tracing::warn!(feed = %self.name, %error, "the source failed to be cancelled");
        }
    }

    /// When the feed is restarted that can't go on as it is; reports it.
    ///
    /// # Errors
    /// It is not: it ends so.
    pub(crate) fn restart_after(
        &self,
        health: &HealthHub,
        config: &RestartConfig,
        live: bool,
        end: FeedEnd,
    ) -> Result<MonoTime, FeedEnd> {
        let stage_broke = matches!(end, FeedEnd::StageFailed { .. } | FeedEnd::StageHung { .. });
        // A file would lose what is dropped; it does better to end.
        if !live || !config.covers_stages() || !stage_broke {
            return Err(end);
        }
        let now = self.clock.now();
        // Not under its lock: others are told.
        let next = self.restarts.lock().failed(now);
        let (restarts, window) = (config.max_restarts, config.window);
        let Some((number, delay)) = next else {
            return Err(FeedEnd::RestartLimitExceeded { restarts, window, last: Box::new(end) });
        };
        let limit = restarts as usize;
        health.report(Some(&self.name), HealthKind::FeedRestarting { reason: end.to_string(), number, limit, delay });
        Ok(now + delay)
    }

    /// What its back-offs draw their random part from: feeds differ, runs don't.
    pub(crate) fn seed(&self) -> u64 {
        seed_of(&self.name)
    }

    /// Sets the feed's intake, which is paused if the feed is.
    pub(crate) fn begin(&self, intake: Arc<Intake>) -> Arc<Intake> {
        let paused = self.paused.lock();
        let intake = self.intake.get_or_init(|| intake).clone();
        intake.set_paused(*paused);
        intake
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.lock()
    }

    /// Pauses or resumes the feed. One that was told to stop is not paused any more.
    fn set_paused(&self, paused: bool) {
        let mut state = self.paused.lock();
        *state = paused && self.stop.get().is_none();
        if let Some(intake) = self.intake.get() {
            intake.set_paused(*state);
        }
    }
}

fn seed_of(name: &Name) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.as_str().hash(&mut hasher);
    hasher.finish()
}

impl FeedHandle {
    /// The feed's name.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// What it has done so far.
    pub fn stats(&self) -> FeedStats {
        self.shared.stats()
    }

    /// Pauses the feed: no frame comes in until it is [resumed](Self::resume); those that are inside go on. May be called
    /// before the source is open, and again.
    ///
    /// A file is not read on. A live source stays connected, and its frames are dropped as `feed_stopped`; when it is resumed,
    /// stages are told of a discontinuity. No batch waits for a paused feed. Frames that are dropped for a pause don't count
    /// towards the frame limit.
    pub fn pause(&self) {
        self.shared.set_paused(true);
    }

    /// Ends a pause, if there is one.
    pub fn resume(&self) {
        self.shared.set_paused(false);
    }

    /// Whether the feed is paused.
    pub fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }

    /// Asks the feed to stop: its source is closed at once, frames that are inside have up to `drain` to leave as usual.
    /// Asked again, the earliest end of a drain counts. Ends a pause. Does not wait; see [`wait`](Self::wait).
    pub fn stop(&self, drain: Duration) {
        self.shared.ask_to_stop(self.shared.clock.now() + drain, DropReason::FeedStopped);
    }

    /// A channel that never carries anything and disconnects when the feed has ended: for selecting over many feeds.
    pub fn done(&self) -> &Receiver<Infallible> {
        &self.done
    }

    /// Waits until the feed has ended: all its frames have, and its sinks have written out what they held or were left
    /// behind.
    pub fn wait(&self) -> Arc<FeedEnd> {
        // Only ever an error: the channel carries nothing.
        let _ = self.done.recv();
        self.ended()
    }

    /// Waits until the feed has ended, at most for `limit`. `None`: it has not.
    pub fn wait_timeout(&self, limit: Duration) -> Option<Arc<FeedEnd>> {
        match self.done.recv_timeout(limit) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            _ => Some(self.ended()),
        }
    }

    fn ended(&self) -> Arc<FeedEnd> {
        let missing = || Arc::new(FeedEnd::Internal("the feed's thread ended without a word".into()));
        self.shared.end.get().cloned().unwrap_or_else(missing)
    }
}

impl fmt::Debug for FeedHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedHandle").field("name", &self.shared.name).field("end", &self.shared.end.get()).finish()
    }
}
