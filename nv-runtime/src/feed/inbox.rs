use std::time::Instant;

use crate::sync::{Condvar, Mutex};

/// Where a thread hears of everything that concerns it: things that are handed to it, and calls to look elsewhere. Whoever
/// hands something over never waits.
///
/// It takes as much as it is given. That is bounded by what its owner has asked for: a result for each entry that it has
/// submitted.
///
/// A condition variable rather than channels to select from: these spin before they sleep, which with a few dozen feeds costs
/// more than the feeds' own work.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: Vec<T>,
    /// Whether somebody has called since the owner last looked.
    called: bool,
    /// Whether the owner sleeps, and nobody has woken it yet.
    asleep: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { items: Vec::new(), called: false, asleep: false }), changed: Condvar::new() }
    }

    /// Hands something over.
    pub(crate) fn push(&self, item: T) {
        self.change(|state| state.items.push(item));
    }

    /// Has the owner look at what else it looks at.
    pub(crate) fn call(&self) {
        self.change(|state| state.called = true);
    }

    /// Adds what was handed over to `items`, in order. Calls up to now are answered by it: look elsewhere after it, not before.
    pub(crate) fn take(&self, items: &mut Vec<T>) {
        let mut state = self.state.lock();
        state.called = false;
        if items.is_empty() {
            std::mem::swap(items, &mut state.items);
        } else {
            items.append(&mut state.items);
        }
    }

    /// Waits until there is something to take, or a call, or it is `until`. For one thread at a time.
    pub(crate) fn wait(&self, until: Option<Instant>) {
        let mut state = self.state.lock();
        while !state.has_news() {
            if until.is_some_and(|at| at <= Instant::now()) {
                return;
            }
            state.asleep = true;
            state = match until {
                Some(at) => self.changed.wait_until(state, at),
                None => self.changed.wait(state),
            };
            state.asleep = false;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State<T>)) {
        let mut state = self.state.lock();
        change(&mut state);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.changed.notify_one();
        }
    }
}

impl<T> State<T> {
    fn has_news(&self) -> bool {
        self.called || !self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_handed_over_comes_in_order_and_once() {
        let inbox = Arc::new(Inbox::new());
        let sender = inbox.clone();
        let thread = thread::spawn(move || (0..1000).for_each(|i| sender.push(i)));
        let mut got = Vec::new();
        while got.len() < 1000 {
            inbox.wait(None);
            inbox.take(&mut got);
        }
        thread.join().unwrap();
        assert!(got.iter().copied().eq(0..1000));
    }

    #[test]
    fn a_call_is_answered_by_looking() {
        let inbox = Inbox::<()>::new();
        inbox.call();
        inbox.wait(None);
        inbox.take(&mut Vec::new());
        let until = Instant::now() + Duration::from_millis(1);
        inbox.wait(Some(until));
        assert!(Instant::now() >= until, "it was answered, and there is nothing new");
    }
}
