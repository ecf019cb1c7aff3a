//! An allocator that counts what threads of interest ask it for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, which counts allocations of threads that [`count_from_here`] was called on.
pub(crate) struct CountingAllocator;

/// Allocations of a kind of thread.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

thread_local! {
    // Both are built in and have no destructor: looking at them allocates nothing, at any time in a thread's life.
    static COUNT: Cell<Option<&'static Count>> = const { Cell::new(None) };
    static SUSPENDED: Cell<bool> = const { Cell::new(false) };
}

impl Count {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts this thread's allocations, from now on, on `count`.
pub(crate) fn count_from_here(count: &'static Count) {
    COUNT.set(Some(count));
}

/// Runs code of the test on a thread whose allocations are counted. Its own are not.
pub(crate) fn uncounted<T>(f: impl FnOnce() -> T) -> T {
    let before = SUSPENDED.replace(true);
    let value = f();
    SUSPENDED.set(before);
    value
}

fn note() {
    if let (Some(count), false) = (COUNT.get(), SUSPENDED.get()) {
        count.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[expect(unsafe_code, reason = "an allocator is unsafe to write; this one leaves all the work to the system's")]
// SAFETY: every call goes on to the system's allocator as it came; counting touches memory of its own alone.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn it_counts_what_it_is_told_to() {
    static TOLD: Count = Count::new();
    let thread = std::thread::spawn(|| {
        drop(std::hint::black_box(vec![1u8; 100]));
        count_from_here(&TOLD);
        let mut grown = std::hint::black_box(vec![1u8; 100]);
        grown.reserve(10_000);
        uncounted(|| drop(std::hint::black_box(vec![1u8; 100])));
        drop(std::hint::black_box(grown));
        TOLD.get()
    });
    assert_eq!(thread.join().unwrap(), 2);
}
