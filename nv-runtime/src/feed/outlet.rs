use nv_core::{Frame, HealthKind, Name};
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
}

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
        Self { feed, health, sinks, wants_frames, patient, report_threshold, provenance, pending: None }
    }

    /// Whether another output can be sent.
    pub(crate) fn is_free(&self) -> bool {
        self.pending.is_none()
    }

    /// Makes an output and hands it on. Call only while [`is_free`](Self::is_free).
    pub(crate) fn send(&mut self, session: u32, frame: Frame, mut perception: Perception, provenance: Provenance) {
        if self.sinks.is_empty() {
            return;
        }
        perception.retain_reported(self.report_threshold);
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
            match worker.offer(Arc::clone(&output)) {
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
