use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use nv_core::{CancelToken, Clock as _, HealthKind};
use nv_perception::{
    FrameSource, SourceError, SourceErrorKind, SourceEvent, SourceFactory, SourceItem, SourceSpec, StreamInfo,
    redact_url,
};

use super::intake::Intaken;
use super::supervisor::{Reconnect, ReconnectConfig, Remedy, remedy};
use super::{FeedShared, Intake, RestartConfig};
use crate::decisions::Recorded as _;
use crate::guard::{Foreign, panic_error};
use crate::health::HealthHub;
use crate::permits::ConnectPermits;
use crate::sync::Arc;

/// How long a source is asked to wait for a frame before it is asked again. A source that is cancelled answers at once, so
/// this only bounds how long a call may last.
const ASK: Duration = Duration::from_secs(1);

/// How many times as long as it may be silent a camera may take to be opened again: it connects, and the stream begins.
const OPENING: u32 = 3;

/// How a source ended.
#[derive(Debug)]
pub(crate) enum SourceEnd {
    /// The stream is over.
    EndOfStream,
    /// The feed's frame limit was reached.
    LimitReached,
    /// It was cancelled, or nobody takes its frames any more.
    Cancelled,
    /// It broke.
    Failed(SourceError),
    /// It broke, as it had too often before; with how it would have ended.
    RestartLimit(Box<SourceEnd>),
}

/// What ended a session that nobody wanted to end.
#[derive(Debug)]
enum Trouble {
    /// An error, also of `open`.
    Error(SourceError),
    /// The stream ended. For a camera this is a lost connection.
    End,
    /// No frame for too long.
    Stalled(Duration),
}

/// How a session came to its end.
enum Pulled {
    Done(SourceEnd),
    Trouble(Trouble),
}

pub(crate) type OpenSource = Foreign<Box<dyn FrameSource>>;

/// Opens a feed's source, again and again where that may help.
pub(crate) struct Connector {
    factory: Arc<dyn SourceFactory>,
    spec: SourceSpec,
    shared: Arc<FeedShared>,
    health: HealthHub,
    permits: ConnectPermits,
    config: RestartConfig,
    reconnect: Reconnect,
    /// Whether the source is a camera, which goes on after a lost session; `None` until it was open.
    camera: Option<bool>,
    /// Sessions so far.
    sessions: u32,
}

impl Connector {
    pub(crate) fn new(
        factory: Arc<dyn SourceFactory>,
        spec: SourceSpec,
        shared: Arc<FeedShared>,
        health: HealthHub,
        permits: ConnectPermits,
        config: RestartConfig,
    ) -> Self {
        let reconnect = ReconnectConfig::new(&config, shared.seed(), shared.clock.now());
        let reconnect = Reconnect::recorded(reconnect, shared.decisions.as_ref(), &shared.name);
        Self { factory, spec, shared, health, permits, config, reconnect, camera: None, sessions: 0 }
    }

    /// Opens a session. Tries again where that may help, until the feed is stopped.
    pub(crate) fn open(&mut self) -> Result<(OpenSource, StreamInfo), SourceEnd> {
        loop {
            let Some(permit) = self.permits.acquire(&self.shared.cancelled) else { return Err(SourceEnd::Cancelled) };
            let opened = self.try_open();
            drop(permit);
            match opened {
                Ok((source, info)) => {
                    self.opened(&info);
                    return Ok((source, info));
                }
                Err(error) => self.wait_after(Trouble::Error(error))?,
            }
        }
    }

    fn try_open(&self) -> Result<(OpenSource, StreamInfo), SourceError> {
        let url = &self.spec.url;
        let session = self.shared.source.begin();
        let open = || guarded(url, "open", || self.factory.open(&self.spec, &session)).map(Foreign::new);
        let source = if self.watches_for_stalls() {
            let limit = self.config.stall_timeout.saturating_mul(OPENING);
            let by = self.shared.clock.now() + limit;
            let late =
                || SourceError::new(SourceErrorKind::Transient, url, format!("it did not open within {limit:?}"));
            self.shared.source.during(by, limit, open).ok_or_else(late)??
        } else {
            open()?
        };
        let info = guarded(url, "info", || Ok(source.info().clone()))?;
        Ok((source, info))
    }

    fn opened(&mut self, info: &StreamInfo) {
        // A file that plays as if it were a camera, and a stream that knows its length, are over when they end.
        self.camera.get_or_insert(info.live && !self.spec.live && info.frame_count.is_none());
        self.reconnect.opened(self.shared.clock.now());
        self.sessions += 1;
        let session = self.shared.progress.lock().opened(info.clone());
        let description = format!("{} {}×{}, {}", info.codec, info.size.width, info.size.height, info.decoder);
        self.health.report(Some(&self.shared.name), HealthKind::SourceOpened { session, description });
    }

    /// Waits until it is time to open the source again, without it.
    ///
    /// # Errors
    /// It is not opened again.
    fn wait_after(&mut self, trouble: Trouble) -> Result<(), SourceEnd> {
        let shared = &self.shared;
        if shared.cancel.is_cancelled() {
            tracing::debug!(feed = %shared.name, ?trouble, "the source was cancelled");
            return Err(SourceEnd::Cancelled);
        }
        let remedy = match (&trouble, self.camera) {
            _ if !self.config.covers_source() => Remedy::End,
            (_, Some(false)) => Remedy::End,
            (Trouble::Error(error), camera) => remedy(error.kind(), camera.is_some()),
            (Trouble::End | Trouble::Stalled(_), _) => Remedy::Reconnect,
        };
        let now = shared.clock.now();
        let reason = match &trouble {
            Trouble::Error(error) => error.to_string(),
            Trouble::End => "the stream ended".to_owned(),
            Trouble::Stalled(limit) => format!("no frame for {limit:?}"),
        };
        let delay = match remedy {
            Remedy::End => return Err(self.ended(trouble)),
            Remedy::Reconnect => {
                let delay = self.reconnect.lost();
                self.health.report(Some(&shared.name), HealthKind::SourceLost { reason, retry_in: delay });
                delay
            }
            Remedy::Restart => {
                // Not under its lock: the end is told to others.
                let restart = shared.restarts.lock().failed(now);
                let Some((number, delay)) = restart else {
                    let last = Box::new(self.ended(trouble));
                    return Err(SourceEnd::RestartLimit(last));
                };
                let limit = self.config.max_restarts as usize;
                let kind = HealthKind::FeedRestarting { reason, number, limit, delay };
                self.health.report(Some(&shared.name), kind);
                delay
            }
        };
        shared.progress.lock().lost(now + delay);
        match shared.cancelled.recv_deadline(shared.clock.instant(now + delay)) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(SourceEnd::Cancelled),
        }
    }

    fn ended(&self, trouble: Trouble) -> SourceEnd {
        match trouble {
            Trouble::Error(error) => ended(error, &self.shared.cancel),
            Trouble::End => SourceEnd::EndOfStream,
            Trouble::Stalled(limit) => {
                let text = format!("no frame for {limit:?}");
                SourceEnd::Failed(SourceError::new(SourceErrorKind::Transient, &self.spec.url, text))
            }
        }
    }

    /// Whether a session that gives nothing is to be given up.
    fn watches_for_stalls(&self) -> bool {
        self.camera == Some(true) && self.config.covers_source()
    }
}

/// The body of the source's thread: opens the source and says so, and pulls from it once it is told how.
pub(crate) fn source_thread(
    mut connector: Connector,
    opened: &Sender<Result<StreamInfo, SourceEnd>>,
    pulls: &Receiver<Pulls>,
) {
    let (source, info) = match connector.open() {
        Ok(open) => open,
        Err(end) => {
            // Whoever has gone has no use for it.
            let _ = opened.send(Err(end));
            return;
        }
    };
    let _ = opened.send(Ok(info));
    if let Ok(pulls) = pulls.recv() {
        let end = EndsIntake { intake: pulls.intake.clone(), url: connector.spec.url.clone(), end: None };
        SourceThread { connector, pulls, cuts: 0, frames: 0 }.run(source, end);
    }
}

/// How a source is pulled from.
pub(crate) struct Pulls {
    pub(crate) shared: Arc<FeedShared>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) health: HealthHub,
    pub(crate) live: bool,
    pub(crate) frame_limit: Option<u64>,
}

/// Pulls frames from a source, session after session, and puts them into the feed's intake.
struct SourceThread {
    connector: Connector,
    pulls: Pulls,
    /// How often the stream was cut.
    cuts: u32,
    /// Frames that came in.
    frames: u64,
}

/// Ends the intake when it is dropped: nobody waits for frames of a thread that has panicked.
struct EndsIntake {
    intake: Arc<Intake>,
    url: String,
    end: Option<SourceEnd>,
}

impl Drop for EndsIntake {
    fn drop(&mut self) {
        let panicked = || SourceError::new(SourceErrorKind::Damaged, &self.url, "its thread has panicked");
        let end = self.end.take().unwrap_or_else(|| SourceEnd::Failed(panicked()));
        self.intake.end(end);
    }
}

impl SourceThread {
    fn run(mut self, mut source: OpenSource, mut ends: EndsIntake) {
        ends.end = Some(loop {
            let url = self.connector.spec.url.clone();
            let pulled = guarded(&url, "next", || self.pull(&mut source));
            // Before the wait: it may hold the only connection that its camera has.
            drop(source);
            let trouble = match pulled.unwrap_or_else(|error| Pulled::Trouble(Trouble::Error(error))) {
                Pulled::Done(end) => break end,
                Pulled::Trouble(trouble) => trouble,
            };
            self.pulls.intake.disconnected();
            let again = self.connector.wait_after(trouble).and_then(|()| self.connector.open());
            match again {
                Ok((opened, _)) => source = opened,
                Err(end) => break end,
            }
        });
    }

    /// Pulls until the session ends.
    fn pull(&mut self, source: &mut OpenSource) -> Result<Pulled, SourceError> {
        let session = self.connector.sessions.saturating_sub(1);
        let clock = self.pulls.shared.clock.clone();
        while !self.pulls.shared.cancel.is_cancelled() {
            if self.pulls.frame_limit.is_some_and(|limit| self.frames >= limit) {
                return Ok(Pulled::Done(SourceEnd::LimitReached));
            }
            let item = if self.connector.watches_for_stalls() {
                let stall_timeout = self.connector.config.stall_timeout;
                let stalls_at = self.connector.reconnect.stalls_at();
                let left = stalls_at.since(clock.now());
                if left.is_zero() {
                    return Ok(Pulled::Trouble(Trouble::Stalled(stall_timeout)));
                }
                match self.pulls.shared.source.during(stalls_at, stall_timeout, || source.next(ASK.min(left))) {
                    Some(item) => item?,
                    None => return Ok(Pulled::Trouble(Trouble::Stalled(stall_timeout))),
                }
            } else {
                source.next(ASK)?
            };
            match item {
                SourceItem::Frame(frame) => {
                    let suspect = frame.is_suspect();
                    let intaken = self.pulls.intake.push(frame, session, self.cuts, self.pulls.live);
                    // Only now: a source that was kept waiting for room was not silent.
                    self.connector.reconnect.frame(clock.now(), suspect);
                    match intaken {
                        Intaken::Taken => self.frames += 1,
                        Intaken::Discarded => {}
                        Intaken::Closed => return Ok(Pulled::Done(SourceEnd::Cancelled)),
                    }
                }
                SourceItem::Event(event) => self.event(&event, source),
                SourceItem::TimedOut => {}
                SourceItem::End => return Ok(Pulled::Trouble(Trouble::End)),
                // An item of a later version of the trait, which this one has no use for.
                _ => {}
            }
        }
        Ok(Pulled::Done(SourceEnd::Cancelled))
    }

    fn event(&mut self, event: &SourceEvent, source: &OpenSource) {
        tracing::debug!(feed = %self.pulls.intake.feed(), ?event, "source event");
        match event {
            SourceEvent::Gap { count } => {
                self.pulls.intake.lost_upstream(*count);
                let lost = HealthKind::FramesLostUpstream { frames: *count };
                self.pulls.health.report(Some(self.pulls.intake.feed()), lost);
            }
            SourceEvent::FormatChanged => {
                self.cuts += 1;
                self.pulls.shared.progress.lock().changed(source.info().clone());
            }
            SourceEvent::Discontinuity => self.cuts += 1,
            // A suspect frame says so itself.
            _ => {}
        }
    }
}

/// What an error means for the session. What breaks when it is cancelled has not failed, whatever it calls that.
fn ended(error: SourceError, cancel: &CancelToken) -> SourceEnd {
    if error.kind() == SourceErrorKind::Cancelled || cancel.is_cancelled() {
        tracing::debug!(%error, "the source was cancelled");
        return SourceEnd::Cancelled;
    }
    SourceEnd::Failed(error)
}

/// Calls a source's code: a panic in it becomes an error.
fn guarded<T>(url: &str, call: &str, f: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let mut error = panic_error(call, panic).to_string();
        if !url.is_empty() {
            // A panic's text is its author's, who may have put the credentials in it.
            error = error.replace(url, &redact_url(url));
        }
        Err(SourceError::new(SourceErrorKind::Damaged, url, format!("the source failed: {error}")))
    })
}
