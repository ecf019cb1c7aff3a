//! The same locks in a model checker's hands: who runs next is its choice at each of them, and a program in which nobody can go
//! on fails.

#[cfg(test)]
use std::cell::Cell;
use std::sync::PoisonError;
use std::time::Instant;

use shuttle::sync as checked;

pub(crate) use checked::MutexGuard;

use super::Arc;
use super::time::set_alarm;

/// See the system's.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(checked::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checked::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the system's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condvar(Arc<checked::Condvar>);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until notified, or until the model's time has come to `deadline`.
    pub(crate) fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Instant) -> MutexGuard<'a, T> {
        let alarm = set_alarm(deadline, self);
        let guard = self.wait(guard);
        drop(alarm);
        guard
    }

    pub(crate) fn notify_one(&self) {
        #[cfg(test)]
        if is_lost() {
            return;
        }
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

#[cfg(test)]
thread_local! {
    static LOSE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Plants a fault: of the notifications of single threads that follow, this one never arrives.
#[cfg(test)]
pub(crate) fn lose_notification(number: Option<u32>) {
    LOSE.set(number);
}

/// Whether this notification is the one to be lost.
#[cfg(test)]
fn is_lost() -> bool {
    // All threads of an execution are one thread of the system.
    let number = LOSE.get();
    LOSE.set(number.and_then(|n| n.checked_sub(1)));
    number == Some(0)
}
