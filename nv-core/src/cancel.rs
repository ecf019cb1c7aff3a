use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tells one thread, from another, to stop waiting. Clones share one state; once cancelled it stays cancelled.
///
/// A source gets one when it is opened and honours it in `open` and `next`: it waits with
/// [`wait_timeout`](Self::wait_timeout) instead of sleeping, or registers a way to wake itself with
/// [`on_cancel`](Self::on_cancel).
///
/// ```
/// use std::time::Duration;
/// use nv_core::CancelToken;
///
/// let token = CancelToken::new();
/// let waiter = std::thread::spawn({
///     let token = token.clone();
///     move || token.wait_timeout(Duration::from_secs(60))
/// });
/// token.cancel();
/// assert!(waiter.join().unwrap(), "woken at once, not after a minute");
/// ```
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Shared>);

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    callbacks: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
    changed: Condvar,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels: wakes every waiter, runs every registered callback on this thread. Later calls do nothing.
    ///
    /// # Panics
    /// Where a callback does, after all of them were run.
    pub fn cancel(&self) {
        let callbacks = {
            let mut callbacks = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.cancelled.store(true, Ordering::SeqCst);
            std::mem::take(&mut *callbacks)
        };
        self.0.changed.notify_all();
        // A callback is not to be lost because another one panics.
        let results: Vec<_> = callbacks.into_iter().map(|callback| catch_unwind(AssertUnwindSafe(callback))).collect();
        if let Some(Err(panic)) = results.into_iter().find(Result::is_err) {
            resume_unwind(panic);
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until cancelled or until `timeout` has passed. Returns whether it was cancelled.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut guard = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.is_cancelled() {
            guard = match deadline {
                None => self.0.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.0.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Runs `callback` when cancelled, on the cancelling thread; at once if that has happened already.
    ///
    /// A callback stays registered as long as the token lives: register once a session, not once a frame.
    pub fn on_cancel(&self, callback: impl FnOnce() + Send + 'static) {
        let mut callbacks = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_cancelled() {
            drop(callbacks);
            callback();
        } else {
            callbacks.push(Box::new(callback));
        }
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn callbacks_run_once_before_or_after() {
        let (token, runs) = (CancelToken::new(), Arc::new(AtomicU32::new(0)));
        let count = |runs: &Arc<AtomicU32>| {
            let runs = runs.clone();
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }
        };
        token.on_cancel(count(&runs));
        assert_eq!(runs.load(Ordering::SeqCst), 0);
        token.cancel();
        token.cancel();
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        token.on_cancel(count(&runs));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_callback_that_panics_stops_no_other() {
        let (token, runs) = (CancelToken::new(), Arc::new(AtomicU32::new(0)));
        token.on_cancel(|| panic!("stumbled"));
        let ran = runs.clone();
        token.on_cancel(move || {
            ran.fetch_add(1, Ordering::SeqCst);
        });
        assert!(catch_unwind(AssertUnwindSafe(|| token.cancel())).is_err());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(token.is_cancelled());
    }

    #[test]
    fn waiting_without_cancel_times_out() {
        let token = CancelToken::new();
        assert!(!token.wait_timeout(Duration::from_millis(1)));
        token.cancel();
        assert!(token.wait_timeout(Duration::MAX));
    }
}
