use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use nv_perception::{StageError, StageErrorKind};

/// Where a panic was, and how the code got there.
struct PanicPlace {
    location: String,
    backtrace: String,
}

thread_local! {
    /// How many guarded calls this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What the hook saw of the last panic in a guarded call.
    static LAST: RefCell<Option<PanicPlace>> = const { RefCell::new(None) };
}

/// Has panics in guarded calls remembered rather than printed. The plugin's standard library is its own, and so is this hook:
/// the host's never sees a panic of the plugin.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                // In a thread of the plugin's own: nobody will ask.
                return former(info);
            }
            let place = PanicPlace {
                location: info.location().map(ToString::to_string).unwrap_or_default(),
                backtrace: Backtrace::force_capture().to_string(),
            };
            LAST.set(Some(place));
        }));
    });
}

/// Calls `f`. A panic in it becomes an error of kind `Panic`, which says in which of our `method`s it was, with what message and
/// where; its detail is the backtrace.
pub(crate) fn guard<T>(method: &str, f: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
    LAST.set(None);
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    let payload = match outcome {
        Ok(result) => return result,
        Err(payload) => payload,
    };
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a payload that is not text".to_owned(),
    };
    // A payload's destructor may panic as well.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    let error = |text: String| StageError::new(StageErrorKind::Panic, text);
    Err(match LAST.take() {
        Some(place) => {
            error(format!("panicked in {method}: {message} (at {})", place.location)).with_detail(place.backtrace)
        }
        None => error(format!("panicked in {method}: {message}")),
    })
}

/// An author's value, all of whose calls are guarded. After a panic it is poisoned: it is called no more, whatever is asked.
pub(crate) struct Guarded<T> {
    value: ManuallyDrop<T>,
    poisoned_by: Option<String>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: ManuallyDrop::new(value), poisoned_by: None }
    }

    /// Calls `f` on the value.
    pub(crate) fn call<R>(
        &mut self,
        method: &str,
        f: impl FnOnce(&mut T) -> Result<R, StageError>,
    ) -> Result<R, StageError> {
        if let Some(first) = &self.poisoned_by {
            let message = format!("not called again after it {first}; it must be built anew");
            return Err(StageError::new(StageErrorKind::Panic, message));
        }
        let mut panicked = true;
        let result = guard(method, || {
            let result = f(&mut self.value);
            panicked = false;
            result
        });
        if let (true, Err(error)) = (panicked, &result) {
            self.poisoned_by = Some(error.message().to_owned());
        }
        result
    }

    /// Asks the value something.
    pub(crate) fn ask<R>(&self, method: &str, f: impl FnOnce(&T) -> R) -> Result<R, StageError> {
        guard(method, || Ok(f(&self.value)))
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let dropped = guard("drop", || {
            // SAFETY: this is the value's only drop, and nobody can reach it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) };
            Ok(())
        });
        if let Err(error) = dropped {
            tracing::error!(%error, "a step {}", error.message());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_where() {
        install_hook();
        let error = guard::<()>("process", || panic!("no frame {}", 7)).unwrap_err();
        assert_eq!(error.kind(), StageErrorKind::Panic);
        assert!(error.message().starts_with("panicked in process: no frame 7 (at "), "{error}");
        assert!(error.message().contains("guard.rs:"), "{error}");
        assert!(error.detail().contains("guard"), "a backtrace: {}", error.detail());

        let error = guard::<()>("stop", || std::panic::panic_any(5)).unwrap_err();
        assert!(error.message().starts_with("panicked in stop: a payload that is not text"), "{error}");
    }

    #[test]
    fn an_error_that_is_no_panic_does_not_poison() {
        let mut value = Guarded::new(1);
        let refuse = |v: &mut i32| Err::<(), _>(StageError::new(StageErrorKind::Panic, format!("panicked {v}")));
        assert_eq!(value.call("process", refuse).unwrap_err().message(), "panicked 1");
        assert_eq!(value.call("process", |v| Ok(*v)).unwrap(), 1);
    }

    #[test]
    fn a_poisoned_value_is_not_called_again() {
        install_hook();
        let mut value = Guarded::new(0);
        value.call::<()>("process", |_| panic!("first")).unwrap_err();
        let error = value.call("process", |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), StageErrorKind::Panic);
        assert!(error.message().starts_with("not called again after it panicked in process: first"), "{error}");
    }

    #[test]
    fn a_panic_in_drop_stays_inside() {
        struct Grenade;
        impl Drop for Grenade {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        install_hook();
        drop(Guarded::new(Grenade));
        guard::<()>("process", || std::panic::panic_any(Grenade)).unwrap_err();
    }
}
