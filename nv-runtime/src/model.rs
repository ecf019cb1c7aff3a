//! The protocols between the runtime's threads, in a model checker: each test is run under many schedules. A failure prints the
//! schedule that led to it, for `shuttle::replay`.

mod inbox;
mod intake;
mod mailbox;

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::{check_pct, check_random};

/// How many schedules each test tries.
fn schedules() -> usize {
    if std::env::var_os("NV_TEST_DEEP").is_some() { 10_000 } else { 500 }
}

/// Tries a program under many schedules: random ones, and ones that differ from the usual order in few places.
pub(crate) fn check(program: impl Fn() + Send + Sync + Clone + 'static) {
    check_random(program.clone(), schedules());
    check_pct(program, schedules() / 2, 3);
}

/// Checks that a program with a planted fault fails under some schedule, saying `complaint`.
pub(crate) fn check_fails(complaint: &str, program: impl Fn() + Send + Sync + 'static) {
    let failed = catch_unwind(AssertUnwindSafe(|| check_random(program, schedules())));
    let error = crate::guard::panic_error("the model", failed.expect_err("no schedule brought the fault to light"));
    assert!(error.message().contains(complaint), "{error}");
}
