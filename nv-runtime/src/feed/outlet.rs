use std::time::Duration;

use nv_core::{Frame, HealthKind, MonoTime, Name};
use nv_perception::{Output, Perception, Provenance};

use super::sink::SinkQueue;
use crate::health::HealthHub;
use crate::sync::{Arc, Mutex};

/// Where a feed's outputs leave: makes them and hands each to every sink, in order.
///
/// What is others' code runs outside of its lock: to tell of something, and to give an output's memory back.
pub(crate) struct Outlet {
    feed: Name,
    health: HealthHub,
    has_sinks: bool,
    wants_frames: bool,
    report_threshold: f32,
    provenance: bool,
    state: Mutex<State>,
}

struct State {
    sinks: Vec<SinkQueue>,
    /// Whether a full sink is waited for (a file feed) or passed by (a live one).
    patient: bool,
    pending: Option<Pending>,
    /// When the sinks are to be told, at the latest, of what was left for them.
    call_at: Option<MonoTime>,
}

/// How long an output of a file may lie in a sink's queue before the sink is told of it. Nobody waits for it, and to wake a
/// thread for each one costs more than all else that is done for it here.
const LEAVE: Duration = Duration::from_millis(5);

/// How long a sink may have no room before it is told that a file's feed stands still for it.
const STALL: Duration = Duration::from_secs(10);

/// An output, and the sink that it waits for; those before it have it.
struct Pending {
    output: Arc<Output>,
    sink: usize,
    since: MonoTime,
    /// Whether it was told that the sink stalls.
    told: bool,
}

/// What is to be done once the lock is let go.
#[derive(Default)]
struct After {
    told: Vec<HealthKind>,
    /// An output that every sink has, or was passed by.
    done: Option<Arc<Output>>,
    sinks: Vec<SinkQueue>,
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
        let has_sinks = !sinks.is_empty();
        let state = Mutex::new(State { sinks, patient, pending: None, call_at: None });
        Self { feed, health, has_sinks, wants_frames, report_threshold, provenance, state }
    }

    /// Tells the sinks of what was left for them, if it is time for it. Returns whether another output can be sent, and when
    /// to call this again at the latest.
    pub(crate) fn look(&self, now: MonoTime) -> (bool, Option<MonoTime>) {
        let mut state = self.state.lock();
        if state.call_at.take_if(|at| *at <= now).is_some() {
            state.sinks.iter().for_each(SinkQueue::call);
        }
        let stalls = state.stalls(now);
        let (is_free, call_at) = (state.pending.is_none(), state.look_at());
        drop(state);
        if let Some(told) = stalls {
            self.health.report(Some(&self.feed), told);
        }
        (is_free, call_at)
    }

    /// Makes an output and hands it on. Call only while [another can be sent](Self::look).
    pub(crate) fn send(&self, session: u32, frame: Frame, mut perception: Perception, provenance: Provenance) {
        if !self.has_sinks {
            return;
        }
        perception.retain_reported(self.report_threshold);
        let emitted = provenance.emitted;
        // Given back before the output can be seen, not after.
        let frame = if self.wants_frames { frame } else { without_pixels(frame) };
        let provenance = self.provenance.then_some(provenance);
        let output = Arc::new(Output { feed: self.feed.clone(), session, frame, perception, provenance });
        let mut state = self.state.lock();
        if state.patient {
            state.call_at.get_or_insert(emitted + LEAVE);
        }
        state.pending = Some(Pending { output, sink: 0, since: emitted, told: false });
        let after = state.flush(emitted);
        drop(state);
        self.see_to(after);
    }

    /// Hands the pending output to the sinks that have not got it, as far as they have room.
    pub(crate) fn flush(&self, now: MonoTime) {
        let after = self.state.lock().flush(now);
        self.see_to(after);
    }

    /// Ends: sinks that have room get what is pending, the others are passed by. The sinks' queues are closed.
    pub(crate) fn close(&self, now: MonoTime) {
        let mut state = self.state.lock();
        state.patient = false;
        let mut after = state.flush(now);
        after.sinks = std::mem::take(&mut state.sinks);
        drop(state);
        self.see_to(after);
    }

    fn see_to(&self, After { told, done, sinks }: After) {
        drop((done, sinks));
        told.into_iter().for_each(|kind| self.health.report(Some(&self.feed), kind));
    }
}

impl State {
    fn flush(&mut self, now: MonoTime) -> After {
        let mut after = After::default();
        let Some(Pending { output, sink: waits, since, told }) = self.pending.take() else { return after };
        for (i, worker) in self.sinks.iter_mut().enumerate().skip(waits) {
            match worker.offer(Arc::clone(&output), self.patient) {
                Ok(()) => {
                    if std::mem::take(&mut worker.passed_by) {
                        let sink = worker.counts().snapshot().sink;
                        after.told.push(HealthKind::SinkCaughtUp { sink });
                    }
                }
                Err(_) if self.patient => {
                    let (since, told) = if i == waits { (since, told) } else { (now, false) };
                    self.pending = Some(Pending { output, sink: i, since, told });
                    return after;
                }
                Err(_) => {
                    worker.pass_by();
                    // Said once for each time that it falls behind.
                    if !std::mem::replace(&mut worker.passed_by, true) {
                        let sink = worker.counts().snapshot().sink;
                        after.told.push(HealthKind::SinkFull { sink });
                    }
                }
            }
        }
        after.done = Some(output);
        after
    }

    /// What is to be told of a sink that is waited for too long. When it takes something, that is told too.
    fn stalls(&mut self, now: MonoTime) -> Option<HealthKind> {
        let pending = self.pending.as_mut().filter(|p| !p.told && p.since + STALL <= now)?;
        let worker = self.sinks.get_mut(pending.sink)?;
        pending.told = true;
        worker.passed_by = true;
        Some(HealthKind::SinkStalled { sink: worker.counts().snapshot().sink, limit: STALL })
    }

    fn look_at(&self) -> Option<MonoTime> {
        let stalls_at = self.pending.as_ref().filter(|p| !p.told).map(|p| p.since + STALL);
        self.call_at.into_iter().chain(stalls_at).min()
    }
}

/// Takes the frame, so that its pixels are given back when this returns.
fn without_pixels(frame: Frame) -> Frame {
    frame.without_pixels()
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};
    use nv_core::{FrameHeader, FramePool, PixelFormat, Size};
    use nv_perception::{OutputSink, SinkError};

    use super::super::SinkConfig;
    use super::*;
    use crate::sync::SystemClock;

    /// A sink that takes an output for each one it is let.
    struct Held(Receiver<()>);

    impl OutputSink for Held {
        fn emit(&mut self, _: &Output) -> Result<(), SinkError> {
            let _ = self.0.recv();
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_a_file_waits_for_too_long_is_named_once_until_it_takes_again() {
        let at = |s: u64| MonoTime::from_nanos(s * 1_000_000_000);
        let health = HealthHub::new(Arc::new(SystemClock::new()), 16);
        let events = health.subscribe();
        let (let_one, held) = bounded(16);
        let (called, room) = bounded(16);
        let config = SinkConfig { queue_capacity: 1, ..SinkConfig::new("slow", Box::new(Held(held))) };
        let on_room = Box::new(move || _ = called.try_send(()));
        let (queue, worker) = SinkQueue::start(config, &"gate".into(), &health, on_room).unwrap();
        let outlet = Outlet::new("gate".into(), health, vec![queue], true, 0.0, false);
        let send = || {
            let header = FrameHeader::new(Size::new(2, 2), PixelFormat::Gray8);
            let frame = FramePool::new(0).take(header).unwrap().freeze();
            let provenance = Provenance { received: at(1), emitted: at(1), queue: Duration::ZERO, steps: Vec::new() };
            outlet.send(0, frame, Perception::default(), provenance);
        };
        // One in its hands, one in its queue at the most, one that waits.
        while outlet.look(at(1)).0 {
            send();
        }
        assert_eq!(outlet.look(at(2)), (false, Some(at(11))));
        assert_eq!(events.try_iter().count(), 0);
        assert_eq!(outlet.look(at(11)), (false, None));
        assert_eq!(outlet.look(at(60)), (false, None));
        (0..9).for_each(|_| let_one.send(()).unwrap());
        while !outlet.look(at(61)).0 {
            room.recv().unwrap();
            outlet.flush(at(61));
        }
        outlet.close(at(62));
        let told: Vec<_> = events.try_iter().map(|e| e.kind.to_string()).collect();
        assert_eq!(
            told,
            ["sink slow has taken nothing for 10s: its feed waits for it", "sink slow takes outputs again"]
        );
        worker.join();
    }
}
