//! Health events: where they are reported, how they reach those who want them.

mod coalescer;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nv_core::{Clock as _, HealthEvent, HealthKind, Name, Severity};

use self::coalescer::Coalescer;
use crate::sync::{Arc, Condvar, Mutex, SystemClock};
use crate::thread::Worker;

/// Where health events are reported, and where those who want them subscribe. Repeats within a second are told of at once.
/// Reporting never waits: a subscriber whose channel is full misses events, and learns how many with the next that it gets.
///
/// Clones share one state.
#[derive(Clone)]
pub(crate) struct HealthHub(Arc<Shared>);

struct Shared {
    clock: Arc<SystemClock>,
    /// Of a subscriber's channel.
    capacity: usize,
    state: Mutex<State>,
    /// Signalled when the thread has something new to wait for.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    coalescer: Coalescer,
    /// Whether there is a thread that sees to what is held. Without it nothing is.
    attended: bool,
    subscribers: Vec<Subscriber>,
    missed: u64,
}

struct Subscriber {
    channel: Sender<HealthEvent>,
    /// Events that it missed since the last one that it got.
    missed: u64,
}

impl HealthHub {
    /// A hub that tells of every event as it comes, until it is [attended](Self::attend).
    pub(crate) fn new(clock: Arc<SystemClock>, capacity: usize) -> Self {
        Self(Arc::new(Shared { clock, capacity, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Starts the thread that tells of what is held when its time has come; it ends after [`close`](Self::close).
    ///
    /// # Errors
    /// The system has no thread to give. Then the hub goes on without, and holds nothing.
    pub(crate) fn attend(&self) -> std::io::Result<Worker> {
        self.0.state.lock().attended = true;
        let shared = self.0.clone();
        let worker = Worker::spawn("nv-health".into(), move || shared.run());
        if worker.is_err() {
            self.close();
        }
        worker
    }

    /// Tells of what is held, and from now on of every event as it comes. Ends the thread.
    pub(crate) fn close(&self) {
        let mut state = self.0.state.lock();
        state.attended = false;
        let mut told = Vec::new();
        state.coalescer.flush(&mut told);
        state.send(&told);
        drop(state);
        self.0.changed.notify_all();
        log(&told);
    }

    /// A new subscriber's end.
    pub(crate) fn subscribe(&self) -> Receiver<HealthEvent> {
        let (channel, receiver) = bounded(self.0.capacity);
        self.0.state.lock().subscribers.push(Subscriber { channel, missed: 0 });
        receiver
    }

    /// How many events subscribers have missed, over all of them.
    pub(crate) fn missed(&self) -> u64 {
        self.0.state.lock().missed
    }

    /// Reports an event to the log and to every subscriber.
    pub(crate) fn report(&self, feed: Option<&Name>, kind: HealthKind) {
        let mut told = Vec::new();
        let mut state = self.0.state.lock();
        // Under the lock: the coalescer's time never goes back.
        let event = HealthEvent::new(self.0.clock.now(), feed.cloned(), kind);
        let due = state.coalescer.next_due();
        if state.attended {
            state.coalescer.report(event, &mut told);
        } else {
            told.push(event);
        }
        state.send(&told);
        // Whatever is due later than before, the thread finds when it wakes for that.
        let wakes = due.is_none() && state.coalescer.next_due().is_some();
        drop(state);
        if wakes {
            self.0.changed.notify_all();
        }
        log(&told);
    }
}

impl Shared {
    /// The body of the thread.
    fn run(&self) {
        let mut state = self.state.lock();
        while state.attended {
            let now = self.clock.now();
            state = match state.coalescer.next_due() {
                None => self.changed.wait(state),
                Some(due) if due > now => self.changed.wait_until(state, self.clock.instant(due)),
                Some(_) => {
                    let mut told = Vec::new();
                    state.coalescer.tick(now, &mut told);
                    state.send(&told);
                    drop(state);
                    log(&told);
                    self.state.lock()
                }
            };
        }
    }
}

impl State {
    /// Sends events to every subscriber that has room, and forgets those that have gone.
    fn send(&mut self, events: &[HealthEvent]) {
        for event in events {
            self.subscribers.retain_mut(|subscriber| {
                let mut event = event.clone();
                event.missed = subscriber.missed;
                match subscriber.channel.try_send(event) {
                    Ok(()) => subscriber.missed = 0,
                    Err(TrySendError::Full(_)) => {
                        subscriber.missed += 1;
                        self.missed += 1;
                    }
                    Err(TrySendError::Disconnected(_)) => return false,
                }
                true
            });
        }
    }
}

/// Others' code, so not under a lock.
fn log(events: &[HealthEvent]) {
    for event in events {
        match event.kind.severity() {
            Severity::Info => tracing::info!("{event}"),
            Severity::Warning => tracing::warn!("{event}"),
            Severity::Error => tracing::error!("{event}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hub(capacity: usize) -> HealthHub {
        HealthHub::new(Arc::new(SystemClock::new()), capacity)
    }

    fn full(sink: &str) -> HealthKind {
        HealthKind::SinkFull { sink: sink.into() }
    }

    fn counts(events: impl Iterator<Item = HealthEvent>) -> Vec<u64> {
        events.map(|e| e.count).collect()
    }

    #[test]
    fn what_is_held_goes_out_by_itself() {
        let hub = hub(16);
        let worker = hub.attend().unwrap();
        let events = hub.subscribe();
        (0..3).for_each(|_| hub.report(None, full("a")));
        let next = || events.recv_timeout(Duration::from_secs(60)).unwrap();
        let (first, second) = (next(), next());
        assert_eq!((first.count, second.count), (1, 2));
        assert!(second.at.since(first.at) < Duration::from_secs(1), "it says when it happened, not when it was told");
        hub.close();
        worker.join();
    }

    #[test]
    fn closing_tells_what_is_held_and_holds_nothing_any_more() {
        let hub = hub(16);
        let worker = hub.attend().unwrap();
        let events = hub.subscribe();
        (0..3).for_each(|_| hub.report(None, full("a")));
        hub.close();
        worker.join();
        (0..2).for_each(|_| hub.report(None, full("a")));
        assert_eq!(counts(events.try_iter()), [1, 2, 1, 1]);
    }

    #[test]
    fn who_misses_events_learns_how_many() {
        let hub = hub(2);
        let (slow, quick) = (hub.subscribe(), hub.subscribe());
        let mut seen = Vec::new();
        for sink in ["a", "b", "c", "d"] {
            hub.report(None, full(sink));
            seen.extend(quick.try_iter());
        }
        assert_eq!(seen.len(), 4);
        assert!(seen.iter().all(|e| e.missed == 0));
        assert_eq!(slow.try_iter().map(|e| e.missed).collect::<Vec<_>>(), [0, 0]);
        hub.report(None, full("e"));
        let next = slow.try_recv().unwrap();
        assert_eq!((next.missed, next.kind), (2, full("e")));
        assert_eq!(hub.missed(), 2);
        drop((slow, quick.try_iter().count()));
        (0..9).for_each(|_| hub.report(None, full("f")));
        assert_eq!(hub.missed(), 9, "of what the other had no room for; whoever has gone misses nothing");
    }
}
