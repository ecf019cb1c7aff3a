use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nv_core::{Clock as _, HealthEvent, HealthKind, Name, Severity, SystemClock};

use crate::sync::{Arc, Mutex};

/// Where health events are reported, and where those who want them subscribe. Reporting never waits: a subscriber whose
/// channel is full misses events.
#[derive(Clone)]
pub(crate) struct HealthHub {
    clock: Arc<SystemClock>,
    subscribers: Arc<Mutex<Vec<Sender<HealthEvent>>>>,
    capacity: usize,
}

impl HealthHub {
    pub(crate) fn new(clock: Arc<SystemClock>, capacity: usize) -> Self {
        Self { clock, subscribers: Arc::default(), capacity }
    }

    /// A new subscriber's end.
    pub(crate) fn subscribe(&self) -> Receiver<HealthEvent> {
        let (sender, receiver) = bounded(self.capacity);
        self.subscribers.lock().push(sender);
        receiver
    }

    /// Reports an event to the log and to every subscriber.
    pub(crate) fn report(&self, feed: Option<&Name>, kind: HealthKind) {
        let event = HealthEvent::new(self.clock.now(), feed.cloned(), kind);
        match event.kind.severity() {
            Severity::Info => tracing::info!("{event}"),
            Severity::Warning => tracing::warn!("{event}"),
            Severity::Error => tracing::error!("{event}"),
        }
        self.subscribers.lock().retain(|s| !matches!(s.try_send(event.clone()), Err(TrySendError::Disconnected(_))));
    }
}
