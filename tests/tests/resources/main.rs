//! What the runtime costs: allocations, memory, CPU time and threads, of this whole process. Each test has the process to
//! itself: nextest gives it one of its own, and under `cargo test` they take turns.
#![cfg(target_os = "linux")]

mod allocations;
mod counting;
mod idle;
mod process;
mod soak;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: counting::CountingAllocator = counting::CountingAllocator;

/// Held by the test that runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says a figure, for whoever reads the report.
#[expect(clippy::print_stdout, reason = "a figure is worth as much as the verdict")]
fn say(figure: &str) {
    println!("{figure}");
}
