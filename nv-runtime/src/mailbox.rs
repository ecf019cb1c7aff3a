use std::collections::VecDeque;

use crate::sync::{Arc, Condvar, Mutex};

/// A mailbox: a bounded queue from one thread to another, the second of which sleeps while it is empty.
///
/// The sender never waits: what finds no room it gets back, and it is told through `on_room` when to try again. The receiver
/// neither polls nor spins, and is woken only if it really sleeps: a wake-up is a call of the system on one side and a change
/// of threads on the other, which costs more than all else that is done here.
pub(crate) fn mailbox<T>(capacity: usize, on_room: OnRoom) -> (Sender<T>, Receiver<T>) {
    let state = State {
        queue: VecDeque::with_capacity(capacity.min(MOST_RESERVED)),
        asleep: false,
        refused: false,
        sender_gone: false,
        receiver_gone: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), capacity, filled: Condvar::new(), on_room });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Called by the receiver's thread, without a lock held, some time after something was refused: there is room again, or nobody
/// will ever take anything. Once for any number of refusals.
pub(crate) type OnRoom = Box<dyn Fn() + Send + Sync>;

/// The sender's end. Once it is dropped, the receiver takes what is there, and nothing after that.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiver's end.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// Why something was not taken; with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<T> {
    /// There is no room.
    Full(T),
    /// Nobody receives any more.
    Closed(T),
}

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    /// Signalled when the receiver sleeps and there is something for it, or the sender is gone.
    filled: Condvar,
    on_room: OnRoom,
}

struct State<T> {
    queue: VecDeque<T>,
    /// Whether the receiver waits and nobody has woken it yet.
    asleep: bool,
    /// Whether something was refused and the sender was not told of room since.
    refused: bool,
    sender_gone: bool,
    receiver_gone: bool,
}

/// The most that is reserved at once: beyond it a queue grows as it is filled.
const MOST_RESERVED: usize = 64;

impl<T> Sender<T> {
    /// Sends, without waiting.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn offer(&self, value: T) -> Result<(), Refused<T>> {
        self.put(value, |_| true)
    }

    /// The same, but for what comes while less than half of the mailbox is full the receiver is not woken: it is to be
    /// [called](Self::call) in time.
    ///
    /// # Errors
    /// It was not taken.
    pub(crate) fn leave(&self, value: T) -> Result<(), Refused<T>> {
        self.put(value, |waiting| waiting * 2 >= self.0.capacity)
    }

    /// Has the receiver look at what was left for it.
    pub(crate) fn call(&self) {
        let state = self.0.state.lock();
        if !state.queue.is_empty() {
            self.0.wake(state);
        }
    }

    fn put(&self, value: T, wake: impl FnOnce(usize) -> bool) -> Result<(), Refused<T>> {
        let mut state = self.0.state.lock();
        if state.receiver_gone {
            return Err(Refused::Closed(value));
        }
        if state.queue.len() >= self.0.capacity {
            state.refused = true;
            return Err(Refused::Full(value));
        }
        state.queue.push_back(value);
        if wake(state.queue.len()) {
            self.0.wake(state);
        }
        Ok(())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.sender_gone = true;
        self.0.wake(state);
    }
}

impl<T> Receiver<T> {
    /// Takes the oldest, waiting for it if need be. `None`: nothing is left and the sender is gone.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(value) = state.queue.pop_front() {
                // At half, so that a sender that waits for room is not woken for each single place.
                let has_room = state.refused && state.queue.len() * 2 <= self.0.capacity;
                state.refused &= !has_room;
                drop(state);
                if has_room {
                    (self.0.on_room)();
                }
                return Some(value);
            }
            if state.sender_gone {
                return None;
            }
            state.asleep = true;
            state = self.0.filled.wait(state);
            state.asleep = false;
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.receiver_gone = true;
        let left = std::mem::take(&mut state.queue);
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        drop(left);
        if refused {
            (self.0.on_room)();
        }
    }
}

impl<T> Shared<T> {
    /// Wakes the receiver if it sleeps, and not a second time before it has looked.
    fn wake(&self, mut state: crate::sync::MutexGuard<'_, State<T>>) {
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.filled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counted<T>(capacity: usize) -> (Sender<T>, Receiver<T>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let (sender, receiver) = mailbox(
            capacity,
            Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
        );
        (sender, receiver, calls)
    }

    #[test]
    fn gives_back_what_finds_no_room_and_tells_once_when_half_of_it_is_free() {
        let (sender, receiver, calls) = counted(4);
        for n in 0..4 {
            sender.offer(n).unwrap();
        }
        assert_eq!(sender.offer(4), Err(Refused::Full(4)));
        assert_eq!(sender.offer(4), Err(Refused::Full(4)));
        assert_eq!((receiver.take(), calls.load(Ordering::Relaxed)), (Some(0), 0), "not for a single place");
        assert_eq!((receiver.take(), calls.load(Ordering::Relaxed)), (Some(1), 1));
        sender.offer(4).unwrap();
        let rest: Vec<_> = (0..3).map(|_| receiver.take().unwrap()).collect();
        assert_eq!((rest, calls.load(Ordering::Relaxed)), (vec![2, 3, 4], 1), "nothing was refused since");
    }

    #[test]
    fn what_is_there_is_taken_after_the_sender_is_gone() {
        let (sender, receiver, _) = counted(2);
        sender.offer('a').unwrap();
        drop(sender);
        assert_eq!((receiver.take(), receiver.take(), receiver.take()), (Some('a'), None, None));
    }

    #[test]
    fn a_sender_that_waits_for_room_learns_that_nobody_receives() {
        let (sender, receiver, calls) = counted(1);
        let value = Arc::new(());
        sender.offer(value.clone()).unwrap();
        assert!(sender.offer(value.clone()).is_err());
        drop(receiver);
        assert_eq!((calls.load(Ordering::Relaxed), Arc::strong_count(&value)), (1, 1), "what was there is dropped");
        assert_eq!(sender.offer(value.clone()), Err(Refused::Closed(value)));
    }

    #[test]
    fn a_receiver_sleeps_until_there_is_something_and_nothing_is_lost() {
        let (sender, receiver, _) = counted(1 << 16);
        let taker = std::thread::spawn(move || std::iter::from_fn(|| receiver.take()).collect::<Vec<_>>());
        for n in 0..10_000 {
            sender.offer(n).unwrap();
        }
        drop(sender);
        assert!(taker.join().unwrap().into_iter().eq(0..10_000));
    }
}
