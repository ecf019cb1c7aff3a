use std::time::Duration;

use nv_core::{Frame, HealthKind, MonoTime, Name};
use nv_perception::{Output, Perception, Provenance};

use super::sink::SinkQueue;
use crate::health::HealthHub;
use crate::sync::Arc;

/// Where a feed's outputs leave: makes them and hands each to every sink, in order.
pub(crate) struct Outlet {
    feed: Name,
    health: HealthHub,
    sinks: Vec<SinkQueue>,
    wants_frames: bool,
    /// Whether a full sink is waited for (a file feed) or passed by (a live one).
    patient: bool,
    report_threshold: f32,
    provenance: bool,
    pending: Option<Pending>,
    /// When the sinks are to be told, at the latest, of what was left for them.
    call_at: Option<MonoTime>,
}

/// How long an output of a file may lie in a sink's queue before the sink is told of it. Nobody waits for it, and to wake a
/// thread for each one costs more than all else that is done for it here.
const LEAVE: Duration = Duration::from_millis(5);

/// An output, and the sink that it waits for; those before it have it.
struct Pending {
    output: Arc<Output>,
    sink: usize,
}

impl Outlet {
    pub(crate) fn new(
        feed: Name,
        health: HealthHub,
        sinks: Vec<SinkQueue>,
        patient: bool,
        report_threshold: f32,
        provenance: bool,
    ) -> Self {
        let wants_frames = sinks.iter().any(|w| w.wants_frames);
        Self { feed, health, sinks, wants_frames, patient, report_threshold, provenance, pending: None, call_at: None }
    }

    /// Whether another output can be sent.
    pub(crate) fn is_free(&self) -> bool {
        self.pending.is_none()
    }

    /// When to [call](Self::call) at the latest.
    pub(crate) fn call_at(&self) -> Option<MonoTime> {
        self.call_at
    }

    /// Tells the sinks of what was left for them, if it is time for it.
    pub(crate) fn call(&mut self, now: MonoTime) {
        if self.call_at.take_if(|at| *at <= now).is_some() {
            self.sinks.iter().for_each(SinkQueue::call);
        }
    }

    /// Makes an output and hands it on. Call only while [`is_free`](Self::is_free).
    pub(crate) fn send(&mut self, session: u32, frame: Frame, mut perception: Perception, provenance: Provenance) {
        if self.sinks.is_empty() {
            return;
        }
        perception.retain_reported(self.report_threshold);
        if self.patient {
            self.call_at.get_or_insert(provenance.emitted + LEAVE);
        }
        // Given back before the output can be seen, not after.
        let frame = if self.wants_frames { frame } else { without_pixels(frame) };
        let provenance = self.provenance.then_some(provenance);
        let output = Output { feed: self.feed.clone(), session, frame, perception, provenance };
        self.pending = Some(Pending { output: Arc::new(output), sink: 0 });
        self.flush();
    }

    /// Hands the pending output to the sinks that have not got it, as far as they have room.
    pub(crate) fn flush(&mut self) {
        let Some(Pending { output, sink }) = self.pending.take() else { return };
        for (i, worker) in self.sinks.iter_mut().enumerate().skip(sink) {
            match worker.offer(Arc::clone(&output), self.patient) {
                Ok(()) => {
                    if std::mem::take(&mut worker.passed_by) {
                        let sink = worker.counts().snapshot().sink;
                        self.health.report(Some(&self.feed), HealthKind::SinkCaughtUp { sink });
                    }
                }
                Err(output) if self.patient => {
                    self.pending = Some(Pending { output, sink: i });
                    return;
                }
                Err(_) => {
                    worker.pass_by();
                    // Said once for each time that it falls behind.
                    if !std::mem::replace(&mut worker.passed_by, true) {
                        let sink = worker.counts().snapshot().sink;
                        self.health.report(Some(&self.feed), HealthKind::SinkFull { sink });
                    }
                }
            }
        }
    }

    /// Ends: sinks that have room get what is pending, the others are passed by. The sinks' queues are closed.
    pub(crate) fn close(&mut self) {
        self.patient = false;
        self.flush();
        self.sinks.clear();
    }
}

fn without_pixels(frame: Frame) -> Frame {
    frame.without_pixels()
}
