use std::time::Duration;

use nv_core::{Clock as _, HealthKind, MonoTime, Name, serialize_as_ms};
use nv_perception::StreamInfo;
use serde::{Serialize, Serializer};

use super::lag::Lag;
use super::ledger::{DropRecord, FrameCounts};
use super::sink::SinkCounts;
use super::supervisor::RestartBudget;
use super::{FeedEnd, FeedShared};
use crate::batch::{Quantiles, metrics::Times};
use crate::diagnostics::optional_ms;
use crate::sync::Arc;

/// What a feed has done so far, and what it is doing.
///
/// Serialises with durations in milliseconds, in keys that end in `_ms`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FeedStats {
    /// The feed.
    pub feed: Name,
    /// What it is doing.
    pub state: FeedState,
    /// Its frames, accounted for.
    pub frames: FrameCounts,
    /// Outputs per second on average: from the reception of the first frame that became one to the last output. 0 before
    /// there are any.
    pub fps: f64,
    /// From a frame's reception to the hand-over of its output, over all outputs.
    #[serde(rename = "latency_ms")]
    pub latency: Quantiles,
    /// Whether its latest output was of a frame that was received more than 2 s before. Of live feeds only: frames of a file
    /// wait as long as it takes.
    pub lagging: bool,
    /// Sessions with the source so far.
    pub sessions: u32,
    /// Restarts so far: of its source or of its stages, after anything worse than a lost connection.
    pub restarts: u64,
    /// How long until the source is opened again or the stages are built anew; `None`: it waits for neither.
    #[serde(rename = "retry_in_ms", serialize_with = "optional_ms")]
    pub retry_in: Option<Duration>,
    /// What is known of the stream; `None` until the source is open.
    pub source: Option<StreamInfo>,
    /// The steps, in order.
    pub steps: Vec<StepStats>,
    /// The sinks.
    pub sinks: Vec<SinkStats>,
    /// The latest drops.
    pub last_drops: Vec<DropRecord>,
    /// How it ended; `None` while it runs.
    #[serde(serialize_with = "ending")]
    pub end: Option<Arc<FeedEnd>>,
}

/// What a feed is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FeedState {
    /// Its source is being opened, or waits to be opened again.
    Connecting,
    /// Frames come in, or may at any time.
    Running,
    /// As running, with outputs that come late.
    Lagging,
    /// It was paused.
    Paused,
    /// Its stages wait to be built anew.
    Restarting,
    /// It was told to stop, and what is inside leaves.
    Stopping,
    /// It has ended.
    Ended,
}

/// What a step of a feed has done so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StepStats {
    /// The step.
    pub step: Name,
    /// Frames that it gave a result for, be it that there was nothing in them to look at.
    pub processed: u64,
    /// Frames that it failed for, if only in one of the regions that it looked at.
    pub failed: u64,
    /// Frames that it was not to run on, as its [`StepOptions`](super::StepOptions) say.
    pub skipped: u64,
    /// Time in all that its `process` took; for a batch point that of the batches that the frames were
    /// in, each once for a frame.
    #[serde(rename = "busy_ms", serialize_with = "serialize_as_ms")]
    pub busy: Duration,
}

/// What a sink of a feed has taken so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SinkStats {
    /// The sink.
    pub sink: Name,
    /// Outputs that it took.
    pub taken: u64,
    /// Outputs that it failed to take.
    pub failed: u64,
    /// Outputs that passed it by because its queue was full.
    pub passed_by: u64,
}

impl FeedStats {
    /// Those of a feed that has done nothing yet.
    pub fn new(feed: impl Into<Name>) -> Self {
        Self {
            feed: feed.into(),
            state: FeedState::Connecting,
            frames: FrameCounts::default(),
            fps: 0.0,
            latency: Quantiles::default(),
            lagging: false,
            sessions: 0,
            restarts: 0,
            retry_in: None,
            source: None,
            steps: Vec::new(),
            sinks: Vec::new(),
            last_drops: Vec::new(),
            end: None,
        }
    }
}

fn ending<S: Serializer>(end: &Option<Arc<FeedEnd>>, serializer: S) -> Result<S::Ok, S::Error> {
    end.as_deref().serialize(serializer)
}

impl FeedShared {
    /// What the feed has done so far.
    pub(crate) fn stats(&self) -> FeedStats {
        // The end first: with it set, what follows is final.
        let end = self.end.get().cloned();
        let intake = self.intake.get();
        let frames = intake.map(|i| i.counts()).unwrap_or_default();
        let last_drops = intake.map(|i| i.last_drops()).unwrap_or_default();
        let restarting = intake.is_some_and(|i| i.is_restarting());
        let (restarts, restart_at) = self.restarts.lock().so_far();
        let (paused, stopping) = (self.is_paused(), self.stop.get().is_some());
        let now = self.clock.now();
        let progress = self.progress.lock();
        let seconds = progress.first_received.map_or(0.0, |first| progress.last_emitted.since(first).as_secs_f64());
        let state = match () {
            () if end.is_some() => FeedState::Ended,
            () if stopping => FeedState::Stopping,
            () if restarting => FeedState::Restarting,
            () if !progress.connected => FeedState::Connecting,
            () if paused => FeedState::Paused,
            () if progress.lag.is_lagging() => FeedState::Lagging,
            () => FeedState::Running,
        };
        let retry_at = match state {
            FeedState::Connecting => progress.retry_at,
            FeedState::Restarting => restart_at,
            _ => None,
        };
        FeedStats {
            state,
            fps: if seconds > 0.0 { frames.emitted as f64 / seconds } else { 0.0 },
            frames,
            latency: progress.latency.quantiles(),
            lagging: progress.lag.is_lagging(),
            sessions: progress.sessions,
            restarts,
            retry_in: retry_at.map(|at| at.since(now)),
            source: progress.source.clone(),
            steps: progress.steps.clone(),
            sinks: progress.sinks.iter().map(|s| s.snapshot()).collect(),
            last_drops,
            end,
            ..FeedStats::new(self.name.clone())
        }
    }
}

/// The part of a feed's account that changes with every output.
pub(crate) struct Progress {
    source: Option<StreamInfo>,
    sessions: u32,
    /// Whether the source is open.
    connected: bool,
    /// When it is opened again.
    retry_at: Option<MonoTime>,
    pub(crate) steps: Vec<StepStats>,
    pub(crate) sinks: Vec<Arc<SinkCounts>>,
    first_received: Option<MonoTime>,
    last_emitted: MonoTime,
    latency: Times,
    lag: Lag,
}

impl Progress {
    pub(crate) fn new(steps: impl Iterator<Item = Name>) -> Self {
        Self {
            source: None,
            sessions: 0,
            connected: false,
            retry_at: None,
            steps: steps
                .map(|step| StepStats { step, processed: 0, failed: 0, skipped: 0, busy: Duration::ZERO })
                .collect(),
            sinks: Vec::new(),
            first_received: None,
            last_emitted: MonoTime::ZERO,
            latency: Times::new(),
            lag: Lag::default(),
        }
    }

    /// A session with the source began. Returns its number, from 0.
    pub(crate) fn opened(&mut self, info: StreamInfo) -> u32 {
        self.source = Some(info);
        (self.connected, self.retry_at) = (true, None);
        self.sessions += 1;
        self.sessions - 1
    }

    /// The source has become another in the middle of a session.
    pub(crate) fn changed(&mut self, info: StreamInfo) {
        self.source = Some(info);
    }

    /// There is no session, and none is begun before then.
    pub(crate) fn lost(&mut self, retry_at: MonoTime) {
        (self.connected, self.retry_at) = (false, Some(retry_at));
    }

    /// A step was not to run on a frame.
    pub(crate) fn skipped(&mut self, step: usize) {
        if let Some(stats) = self.steps.get_mut(step) {
            stats.skipped += 1;
        }
    }

    /// A call of a step's stage hung.
    pub(crate) fn stage_hung(&mut self, step: usize) {
        if let Some(stats) = self.steps.get_mut(step) {
            stats.failed += 1;
        }
    }

    /// A frame has left as an output. Returns what is to be told of a live feed that does not keep up, or does again.
    pub(crate) fn emitted(&mut self, received: MonoTime, emitted: MonoTime) -> Option<HealthKind> {
        self.first_received.get_or_insert(received);
        self.last_emitted = emitted;
        let age = emitted.since(received);
        self.latency.record(age);
        if self.source.as_ref().is_some_and(|s| s.live) { self.lag.emitted(age) } else { None }
    }
}

/// A feed's budget of restarts, and what was taken from it.
pub(crate) struct Restarts {
    budget: RestartBudget,
    count: u64,
    until: Option<MonoTime>,
}

impl Restarts {
    pub(crate) fn new(budget: RestartBudget) -> Self {
        Self { budget, count: 0, until: None }
    }

    /// Something failed: as [`RestartBudget::failed`].
    pub(crate) fn failed(&mut self, now: MonoTime) -> Option<(usize, Duration)> {
        let restart = self.budget.failed(now);
        self.until = restart.map(|(_, delay)| now + delay);
        self.count += u64::from(restart.is_some());
        restart
    }

    /// How many there were, and when the last one is or was due.
    fn so_far(&self) -> (u64, Option<MonoTime>) {
        (self.count, self.until)
    }
}

#[cfg(test)]
mod tests {
    use nv_perception::SourceError;

    use super::*;

    #[test]
    fn lag_is_a_live_feeds_alone() {
        fn check(live: bool, expected: &[&str]) {
            let mut progress = Progress::new(std::iter::empty());
            let info = StreamInfo { live, ..stream() };
            assert_eq!(progress.opened(info), 0);
            let at = |s: u64| MonoTime::from_nanos(s * 1_000_000_000);
            let told = [progress.emitted(at(0), at(3)), progress.emitted(at(3), at(4))];
            let told: Vec<_> = told.into_iter().flatten().map(|kind| kind.to_string()).collect();
            assert_eq!(told, expected);
        }
        let lagging = "lagging: outputs leave 3.0 s after their frames came in";
        check(true, &[lagging, "no longer lagging"]);
        check(false, &[]);
    }

    fn stream() -> StreamInfo {
        StreamInfo {
            size: nv_core::Size::new(64, 48),
            frame_interval: Some(Duration::from_millis(40)),
            frame_count: None,
            live: true,
            codec: "none".into(),
            decoder: "none".into(),
            max_outstanding: None,
        }
    }

    #[test]
    fn they_serialise() {
        let error =
            SourceError::new(nv_perception::SourceErrorKind::NotFound, "rtsp://joe:s3cret@cam/1", "no such camera");
        let stats = FeedStats {
            state: FeedState::Ended,
            retry_in: Some(Duration::from_millis(1500)),
            source: Some(stream()),
            steps: vec![StepStats {
                step: "detect".into(),
                processed: 2,
                failed: 1,
                skipped: 4,
                busy: Duration::from_micros(1500),
            }],
            last_drops: vec![DropRecord {
                seq: 3,
                reason: nv_core::DropReason::Expired,
                step: None,
                at: MonoTime::from_nanos(2_500_000),
            }],
            end: Some(Arc::new(FeedEnd::SourceFailed(error))),
            ..FeedStats::new("gate")
        };
        let expected = serde_json::json!({
            "feed": "gate", "state": "ended",
            "frames": {"received": 0, "emitted": 0, "inside": 0, "dropped": {}, "lost_upstream": 0},
            "fps": 0.0, "latency_ms": {"p50": 0.0, "p95": 0.0, "p99": 0.0}, "lagging": false,
            "sessions": 0, "restarts": 0, "retry_in_ms": 1500.0,
            "source": {"size": {"width": 64, "height": 48}, "frame_interval_ms": 40.0, "frame_count": null, "live": true,
                "codec": "none", "decoder": "none", "max_outstanding": null},
            "steps": [{"step": "detect", "processed": 2, "failed": 1, "skipped": 4, "busy_ms": 1.5}],
            "sinks": [], "last_drops": [{"seq": 3, "reason": "expired", "step": null, "at_ms": 2.5}],
            "end": {"reason": "source_failed", "ok": false, "message": "rtsp://***@cam/1: no such camera"},
        });
        assert_eq!(serde_json::to_value(&stats).unwrap(), expected);
    }
}
