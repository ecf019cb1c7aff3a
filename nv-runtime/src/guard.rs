use std::any::Any;
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
}
