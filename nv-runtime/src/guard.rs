use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nv_perception::{StageError, StageErrorKind};

/// Calls code that others wrote: a panic in it becomes an error of kind `Panic`.
pub(crate) fn guard<T>(call: &str, f: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
    // What the call may leave half-changed is thrown away by the caller on an error of this kind.
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(panic_error(call, panic)))
}

/// The error that stands for a caught panic.
pub(crate) fn panic_error(call: &str, panic: Box<dyn Any + Send>) -> StageError {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "its payload is no text".to_owned(),
    };
    // Dropping the payload may panic in turn.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    StageError::new(StageErrorKind::Panic, format!("panic in {call}: {text}"))
}

/// A value that others wrote. A panic when it is dropped is logged and goes no further, so that whoever drops it goes on.
pub(crate) struct Foreign<T>(Option<T>);

impl<T> Foreign<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Foreign<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken out by drop alone")
    }
}

impl<T> DerefMut for Foreign<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken out by drop alone")
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            let (kind, error) = (std::any::type_name::<T>(), panic_error("drop", panic));
            tracing::warn!(kind, %error, "what was built by others panicked when it was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_text() {
        fn check(f: fn(), expected: &str) {
            let error = guard("process", || {
                f();
                Ok(())
            })
            .unwrap_err();
            assert_eq!((error.kind(), error.message()), (StageErrorKind::Panic, expected));
        }
        check(|| panic!("no luck"), "panic in process: no luck");
        check(|| panic!("no {}", "luck"), "panic in process: no luck");
        check(|| std::panic::panic_any(7), "panic in process: its payload is no text");
    }

    #[test]
    fn a_panic_on_drop_goes_no_further() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("stumbled")
            }
        }
        drop(Foreign::new(Bad));
        let caught = catch_unwind(|| {
            let _held = Foreign::new(Bad);
            panic!("for another reason");
        });
        assert_eq!(panic_error("test", caught.unwrap_err()).message(), "panic in test: for another reason");
    }
}
